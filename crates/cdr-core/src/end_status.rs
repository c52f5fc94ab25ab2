//! How a session ended (`EndStatusString`), and what that means for the caller ([`CallResult`]).
//!
//! The values are an open set: TCCC adds some without notice, and English pages print them in wrong case. So
//! they are compared without case, bear the published spelling when they equal one, and are kept as they came
//! when they do not.
//!
//! Sources: the published push page (679/67257), the status code page (679/123938), the pull API's model
//! `TelCdrInfo` of `tencentcloud-sdk-python-ccc` 3.1.177, the pages of `imcdr` and `videoCdr`.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{
    Deserialize, Serialize,
    de::{self, IntoDeserializer},
};

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
    /// In plain English.
    pub words: &'static str,
    /// The same in Chinese.
    pub words_zh: &'static str,
}

impl Published {
    /// What it means, in words for people.
    pub fn words_in(&self, language: Language) -> &'static str {
        match language {
            Language::En => self.words,
            Language::Zh => self.words_zh,
        }
    }
}

/// A language that people are told things in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Chinese, in simplified characters.
    Zh,
}

impl FromStr for Language {
    type Err = de::value::Error;

    /// Reads it as settings have it: `en`, `zh`.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::deserialize(name.into_deserializer())
    }
}

macro_rules! published {
    ($($name:literal $result:ident $words:literal $words_zh:literal,)*) => {
        /// Every published status, once.
        pub const PUBLISHED: &[Published] = &[
            $(Published { name: $name, result: CallResult::$result, words: $words, words_zh: $words_zh },)*
        ];
    };
}

published! {
    // The push page's table.
    "ok"              Answered  "ended normally" "正常结束",
    "unconnected"     Unreached "not connected" "未接通",
    "seatGiveUp"      Abandoned "the agent did not pick up" "座席未接听",
    "seatForward"     Answered  "transferred to another agent" "已转接其他座席",
    "outboundForward" Answered  "transferred to an outside line" "已转接外线",
    "ivrGiveUp"       Abandoned "the caller hung up in the IVR" "客户在 IVR 中挂断",
    "ivrEnd"          Closed    "ended after the IVR" "IVR 后结束",
    "waitingGiveUp"   Abandoned "the caller hung up while waiting" "客户在排队时挂断",
    "ringingGiveUp"   Abandoned "the caller hung up while it rang" "客户在振铃时挂断",
    "noSeatOnline"    NoSeat    "no agent was online" "无座席在线",
    "notWorkTime"     Closed    "outside working hours" "非工作时间",
    "error"           Fault     "system error" "系统错误",
    // Outbound only.
    "unknown"         Other     "unknown" "未知",
    "notAnswer"       Unreached "nobody answered" "无人接听",
    "userReject"      Unreached "the customer rejected the call" "客户拒接",
    "powerOff"        Unreached "the phone was switched off" "对方关机",
    "numberNotExist"  Unreached "the number does not exist" "空号",
    "busy"            Unreached "the line was busy" "对方忙",
    "outOfCredit"     Unreached "the number is out of credit" "号码欠费",
    "operatorError"   Fault     "trouble on the carrier's line" "运营商线路异常",
    "callerCancel"    Unreached "the caller cancelled" "主叫取消",
    "notInService"    Unreached "out of the service area" "不在服务区",
    // The newer status page and the SDK.
    "blackList"               Closed    "the caller is on the block list" "主叫在黑名单中",
    "restrictedCallee"        Closed    "calls to this number are restricted" "被叫号码受限",
    "tooManyRequest"          Closed    "too many calls" "呼叫过于频繁",
    "restrictedArea"          Closed    "calls to this area are restricted" "呼叫地区受限",
    "restrictedTime"          Closed    "calls at this time are restricted" "呼叫时段受限",
    "clientError"             Fault     "trouble on the agent's client" "座席客户端异常",
    "carrierBlocked"          Fault     "blocked by the carrier" "被运营商拦截",
    "callReminder"            Unreached "ended with a carrier's reminder" "以运营商提示音结束",
    "numberInvalid"           Unreached "the number is invalid" "号码无效",
    "callRestricted"          Unreached "the line may not call out" "线路禁止呼出",
    "calleeRestricted"        Unreached "the called line is restricted" "被叫线路受限",
    "areaRestricted"          Unreached "the area is restricted" "地区受限",
    "promptCallForwarding"    Unreached "the number is forwarded" "号码已呼叫转移",
    "callerCancelWhileRing"   Unreached "the caller cancelled while it rang" "主叫在振铃时取消",
    "callerCancelWithoutRing" Unreached "the caller cancelled before it rang" "主叫在振铃前取消",
    "voiceMailReached"        Unreached "a voice mailbox answered" "转入语音信箱",
    // Calls with an AI agent.
    "asrError"                Fault     "trouble with speech recognition" "语音识别异常",
    "llmasrError"             Fault     "trouble with speech recognition or the language model" "语音识别或大模型异常",
    "ttsError"                Fault     "trouble with speech synthesis" "语音合成异常",
    "functionCallHangup"      Answered  "the AI agent ended the call by a function" "AI 座席通过函数挂断",
    "maxCallDurationReached"  Answered  "the longest duration was reached" "达到最长通话时长",
    "userInactivity"          Answered  "the customer said nothing" "客户长时间无应答",
    "callTerminatedByAPI"     Answered  "ended through the API" "通过 API 结束",
    "userHangupDuringAiCall"  Answered  "the customer hung up on the AI agent" "客户在与 AI 座席通话时挂断",
    "aiAgentEndCall"          Answered  "the AI agent ended the call" "AI 座席结束通话",
    // Audio calls from a client.
    "callConflict"            Fault     "conflict with another call" "与另一通会话冲突",
    "clientTimeout"           Fault     "the client timed out" "客户端超时",
    "voipClientError"         Fault     "trouble on the VoIP client" "VoIP 客户端异常",
    // Text sessions (`imcdr`).
    "autoFinished"            Answered  "ended by itself after silence" "静默后自动结束",
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

    /// In words for people; an unpublished status speaks for itself.
    pub fn words_in(&self, language: Language) -> &str {
        match self {
            Self::Known(status) => status.words_in(language),
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

impl Serialize for EndStatus {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
