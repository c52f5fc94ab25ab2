//! How a session ended (`EndStatusString`), and what that means for the caller ([`CallResult`]).
//!
//! The values are an open set: TCCC adds some without notice, and English pages print them in wrong case. So
//! they are compared without case, bear the published spelling when they equal one, and are kept as they came
//! when they do not.
//!
//! Sources: the published push page (679/67257), the status code page (679/123938), the pull API's model
//! `TelCdrInfo` of `tencentcloud-sdk-python-ccc` 3.1.177, the pages of `imcdr` and `videoCdr`.

use std::fmt;

use crate::cdr::Text;

/// What became of the call, in seven words that a route can use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum CallResult {
    /// Somebody (an agent, an outside line, an AI agent) talked with the customer.
    Answered,
    /// Inbound: it ended before anyone answered, because the customer hung up or the agent let it ring.
    Abandoned,
    /// Outbound: the customer could not be reached.
    Unreached,
    /// A rule of the centre or the platform ended it: out of hours, a block list, a limit, the end of the IVR.
    Closed,
    /// Technical trouble.
    Fault,
    /// No agent was there to take it.
    NoSeat,
    /// A status that says none of these, or one that is not published.
    Other,
}

impl CallResult {
    /// All of them, for checking what a route names.
    pub const ALL: [Self; 7] = [
        Self::Answered,
        Self::Abandoned,
        Self::Unreached,
        Self::Closed,
        Self::Fault,
        Self::NoSeat,
        Self::Other,
    ];

    /// As in routes, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Abandoned => "abandoned",
            Self::Unreached => "unreached",
            Self::Closed => "closed",
            Self::Fault => "fault",
            Self::NoSeat => "no_seat",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for CallResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One published status.
#[derive(Debug)]
pub struct Published {
    /// The spelling TCCC sends.
    pub name: &'static str,
    /// What it means for the caller.
    pub result: CallResult,
    /// In plain English, for mails.
    pub words: &'static str,
}

macro_rules! published {
    ($($name:literal $result:ident $words:literal,)*) => {
        /// Every published status, once.
        pub const PUBLISHED: &[Published] = &[
            $(Published { name: $name, result: CallResult::$result, words: $words },)*
        ];
    };
}

published! {
    // The push page's table.
    "ok"              Answered  "ended normally",
    "unconnected"     Unreached "not connected",
    "seatGiveUp"      Abandoned "the agent did not pick up",
    "seatForward"     Answered  "transferred to another agent",
    "outboundForward" Answered  "transferred to an outside line",
    "ivrGiveUp"       Abandoned "the caller hung up in the IVR",
    "ivrEnd"          Closed    "ended after the IVR",
    "waitingGiveUp"   Abandoned "the caller hung up while waiting",
    "ringingGiveUp"   Abandoned "the caller hung up while it rang",
    "noSeatOnline"    NoSeat    "no agent was online",
    "notWorkTime"     Closed    "outside working hours",
    "error"           Fault     "system error",
    // Outbound only.
    "unknown"         Other     "unknown",
    "notAnswer"       Unreached "nobody answered",
    "userReject"      Unreached "the customer rejected the call",
    "powerOff"        Unreached "the phone was switched off",
    "numberNotExist"  Unreached "the number does not exist",
    "busy"            Unreached "the line was busy",
    "outOfCredit"     Unreached "the number is out of credit",
    "operatorError"   Fault     "trouble on the carrier's line",
    "callerCancel"    Unreached "the caller cancelled",
    "notInService"    Unreached "out of the service area",
    // The newer status page and the SDK.
    "blackList"               Closed    "the caller is on the block list",
    "restrictedCallee"        Closed    "calls to this number are restricted",
    "tooManyRequest"          Closed    "too many calls",
    "restrictedArea"          Closed    "calls to this area are restricted",
    "restrictedTime"          Closed    "calls at this time are restricted",
    "clientError"             Fault     "trouble on the agent's client",
    "carrierBlocked"          Fault     "blocked by the carrier",
    "callReminder"            Unreached "ended with a carrier's reminder",
    "numberInvalid"           Unreached "the number is invalid",
    "callRestricted"          Unreached "the line may not call out",
    "calleeRestricted"        Unreached "the called line is restricted",
    "areaRestricted"          Unreached "the area is restricted",
    "promptCallForwarding"    Unreached "the number is forwarded",
    "callerCancelWhileRing"   Unreached "the caller cancelled while it rang",
    "callerCancelWithoutRing" Unreached "the caller cancelled before it rang",
    "voiceMailReached"        Unreached "a voice mailbox answered",
    // Calls with an AI agent.
    "asrError"                Fault     "trouble with speech recognition",
    "llmasrError"             Fault     "trouble with speech recognition or the language model",
    "ttsError"                Fault     "trouble with speech synthesis",
    "functionCallHangup"      Answered  "the AI agent ended the call by a function",
    "maxCallDurationReached"  Answered  "the longest duration was reached",
    "userInactivity"          Answered  "the customer said nothing",
    "callTerminatedByAPI"     Answered  "ended through the API",
    "userHangupDuringAiCall"  Answered  "the customer hung up on the AI agent",
    "aiAgentEndCall"          Answered  "the AI agent ended the call",
    // Audio calls from a client.
    "callConflict"            Fault     "conflict with another call",
    "clientTimeout"           Fault     "the client timed out",
    "voipClientError"         Fault     "trouble on the VoIP client",
    // Text sessions (`imcdr`).
    "autoFinished"            Answered  "ended by itself after silence",
}

/// The status of a session or of one participant.
#[derive(Clone, Debug)]
pub enum EndStatus {
    /// One of [`PUBLISHED`].
    Known(&'static Published),
    /// Anything else, as it came.
    Unpublished(Text),
}

impl EndStatus {
    /// Reads a status; case does not matter.
    pub fn new(text: &str) -> Self {
        match PUBLISHED.iter().find(|status| status.name.eq_ignore_ascii_case(text)) {
            Some(status) => Self::Known(status),
            None => Self::Unpublished(text.into()),
        }
    }

    /// The published spelling, or the text as it came.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(status) => status.name,
            Self::Unpublished(text) => text,
        }
    }

    /// What it means for the caller.
    pub fn result(&self) -> CallResult {
        match self {
            Self::Known(status) => status.result,
            Self::Unpublished(_) => CallResult::Other,
        }
    }

    /// In plain English; an unpublished status speaks for itself.
    pub fn words(&self) -> &str {
        match self {
            Self::Known(status) => status.words,
            Self::Unpublished(text) => text,
        }
    }
}

impl PartialEq for EndStatus {
    fn eq(&self, other: &Self) -> bool {
        self.as_str().eq_ignore_ascii_case(other.as_str())
    }
}

impl Eq for EndStatus {}

impl fmt::Display for EndStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for EndStatus {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
