//! The tolerant typed view of a push's body: every published field, with its unit, what 0 and null mean, and
//! where it is written.
//!
//! Tolerance is the rule, because the sender cannot be asked to push again: null for an array, absent fields,
//! `key` for `Key`, numbers as text and text as numbers, unknown fields, repeated keys (the published sample
//! repeats `Duration`; the last counts) are all taken. A field of a wrong type is a missing field and is named
//! in `odd`. The bytes themselves are never changed; this is only how we look at them.
//!
//! Sources, named at the fields: **P** the published push page (679/67257) as of 2022; **N** its newer editions
//! (1229/59641, 2024-04 to 2025-06); **A** the model of the pull API, `TelCdrInfo` in
//! `tencentcloud-sdk-python-ccc` 3.1.177, whose fields were seen in pushes or announced; **O** the pages of the
//! other pushes (recording 1229/59642, voicemail 679/86651, text 679/67259, video 679/82296).

mod text;
mod value;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

pub use self::{
    text::Text,
    value::{Shape, Value},
};
use crate::{Action, CallResult, EndStatus, json};

/// Reads a body strictly; published actions give their typed view.
///
/// # Errors
/// The body is not one JSON object, or it is a `cdr` whose `SessionId` is neither a non-empty text nor a number.
pub fn read(action: &Action, body: &[u8]) -> Result<Option<Box<Cdr>>, json::Fault> {
    if !action.is_published() {
        return json::read_object(body, |_, _| {}).map(|()| None);
    }
    // Boxed from the beginning: it is 2 KB, and would be copied at each return.
    let mut cdr = Box::<Cdr>::default();
    json::read_object(body, |key, raw| cdr.take(&key, raw))?;
    if action.is_cdr() && cdr.session_id.as_deref().unwrap_or_default().is_empty() {
        return Err(json::Fault::whole("a cdr needs a SessionId, a non-empty text or a number; found none"));
    }
    Ok(Some(cdr))
}

/// A struct whose fields are read one by one from a JSON object.
trait Fields: Default {
    const SHAPES: &'static [(&'static str, Shape)];

    fn take(&mut self, key: &str, raw: &RawValue);
    fn values(&self) -> Vec<(&'static str, Value<'_>)>;
}

/// What a field of this type holds, and what a JSON value becomes in it: `Err` when it is of another type.
trait Field: Sized {
    const SHAPE: Shape;

    fn read(raw: &RawValue) -> Result<Self, WrongType>;
    fn value(&self) -> Value<'_>;
}

struct WrongType;

impl Field for i64 {
    const SHAPE: Shape = Shape::Integer;

    fn read(raw: &RawValue) -> Result<Self, WrongType> {
        json::integer(raw).ok_or(WrongType)
    }

    fn value(&self) -> Value<'_> {
        Value::Integer(*self)
    }
}

impl Field for Text {
    const SHAPE: Shape = Shape::Text;

    fn read(raw: &RawValue) -> Result<Self, WrongType> {
        match json::text(raw) {
            Some(text) => Ok(text.into()),
            // A number keeps its digits, however many: two long identifiers must not become one float.
            None if raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) => Ok(raw.get().into()),
            None => Err(WrongType),
        }
    }

    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Field for EndStatus {
    const SHAPE: Shape = Shape::Status;

    fn read(raw: &RawValue) -> Result<Self, WrongType> {
        json::text(raw).map(|text| Self::new(&text)).ok_or(WrongType)
    }

    fn value(&self) -> Value<'_> {
        Value::Text(self.as_str())
    }
}

impl<T: Fields> Field for T {
    const SHAPE: Shape = Shape::Object(T::SHAPES);

    fn read(raw: &RawValue) -> Result<Self, WrongType> {
        let mut fields = T::default();
        json::members(raw.get(), |key, raw| fields.take(&key, raw)).map_err(|_| WrongType)?;
        Ok(fields)
    }

    fn value(&self) -> Value<'_> {
        Value::Object(self.values())
    }
}

impl<T: Field> Field for Vec<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);

    fn read(raw: &RawValue) -> Result<Self, WrongType> {
        let elements: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| WrongType)?;
        // Just as much as is needed, for it lives as long as the push: collecting results makes room for four, 1.4 KB.
        let mut list = Vec::with_capacity(elements.len());
        for element in elements.into_iter().filter(|raw| raw.get() != "null") {
            list.push(T::read(element)?);
        }
        Ok(list)
    }

    fn value(&self) -> Value<'_> {
        Value::List(self.iter().map(Field::value).collect())
    }
}

macro_rules! fields {
    ($(#[$about:meta])* $name:ident {
        $($(#[$doc:meta])* $field:ident: $type:ty = $key:literal $(| $alias:literal)*,)*
    }) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Debug, Default, Serialize)]
        pub struct $name {
            $($(#[$doc])* #[serde(rename = $key)] pub $field: Option<$type>,)*
            /// Fields that were there with a value of a wrong type, by their published name.
            #[serde(skip)]
            pub odd: Vec<&'static str>,
        }

        impl $name {
            /// The published names of its fields.
            pub const FIELDS: &[&str] = &[$($key),*];

            /// The published names of its fields, and what each holds.
            pub const SHAPES: &[(&str, Shape)] = &[$(($key, <$type as Field>::SHAPE)),*];

            /// The value of a field by its published name; null when absent, none when there is no such field.
            pub fn get(&self, name: &str) -> Option<serde_json::Value> {
                match name {
                    $($key => serde_json::to_value(&self.$field).ok(),)*
                    _ => None,
                }
            }

            /// The same, borrowed: cheap for texts and numbers.
            pub fn value(&self, name: &str) -> Option<Value<'_>> {
                match name {
                    $($key => Some(self.$field.as_ref().map_or(Value::Null, Field::value)),)*
                    _ => None,
                }
            }
        }

        impl Fields for $name {
            const SHAPES: &'static [(&'static str, Shape)] = Self::SHAPES;

            fn values(&self) -> Vec<(&'static str, Value<'_>)> {
                vec![$(($key, self.$field.as_ref().map_or(Value::Null, Field::value))),*]
            }

            fn take(&mut self, key: &str, raw: &RawValue) {
                match key {
                    $($key $(| $alias)* => {
                        self.$field = match raw.get() {
                            "null" => None,
                            _ => <$type as Field>::read(raw).map_err(|_| self.odd.push($key)).ok(),
                        };
                    })*
                    _ => {}
                }
            }
        }
    };
}

fields! {
    /// One session, seen from the customer: a whole inbound or outbound call is one of these (P).
    ///
    /// The values are as sent; 0 in a time means "did not happen", never 1970. The methods give times and
    /// durations with that resolved. `imcdr` and `videoCdr` share most fields; `record` and `voicemail` use
    /// `SessionId` and the last ones.
    Cdr {
        /// The instance (application) of the contact centre, such as 1400000214 (P).
        sdk_app_id: i64 = "SdkAppId",
        /// The session; what everything about a call is found by (P). Never absent or empty in a `cdr`.
        session_id: Text = "SessionId",
        /// 0 inbound, 1 outbound, for the session as a whole (P).
        direction: i64 = "Direction",
        /// 1 phone out, 2 phone in, 3 audio in, 5 predictive, 6 internal; 4 is unused (N, 2025-06).
        call_type: i64 = "CallType",
        /// When the session began, Unix seconds (P).
        start_timestamp: i64 = "StartTimestamp",
        /// When it entered the queue, Unix seconds; 0: never queued (N).
        queued_timestamp: i64 = "QueuedTimestamp",
        /// When it rang, Unix seconds: inbound at the agent's, outbound at the customer's; 0: never (N; P's sample).
        ring_timestamp: i64 = "RingTimestamp",
        /// When it was answered, Unix seconds: inbound by the agent, outbound by the customer; 0: never (N; P's sample).
        accept_timestamp: i64 = "AcceptTimestamp",
        /// When the session ended, Unix seconds (P).
        ended_timestamp: i64 = "EndedTimestamp",
        /// Seconds of service, `EndedTimestamp - AcceptTimestamp` by its definition (P). With
        /// `AcceptTimestamp` 0 that formula is nonsense and TCCC sends 0: never compute it without looking.
        duration: i64 = "Duration",
        /// Seconds in the IVR, `QueuedTimestamp - StartTimestamp` (P).
        ivr_duration: i64 = "IVRDuration",
        /// How the session ended (P and the status page 679/123938).
        end_status: EndStatus = "EndStatusString",
        /// Who hung up: `user`, `seat` (P) or `system` (A).
        hung_up_side: Text = "HungUpSide",
        /// The calling number; on the mainland with the prefix 0086 (P). Empty with number protection (A).
        caller: Text = "Caller",
        /// The called number; on the mainland with the prefix 0086 (P). Empty with number protection (A).
        callee: Text = "Callee",
        /// Where the caller's number is from, as plain text such as province and city (N).
        caller_location: Text = "CallerLocation",
        /// The skill group it was queued for; 0: never queued (P).
        ///
        /// For outbound calls TCCC chooses (P): the agent's only phone skill group; of several, the one bound
        /// to the calling number, the first of those; else the agent's first phone skill group.
        queued_skill_group_id: i64 = "QueuedSkillGroupId",
        /// Its name (N).
        queued_skill_group_name: Text = "QueuedSkillGroupName",
        /// The keys pressed in the IVR, in order (P); null where none.
        ivr_key_pressed: Vec<Text> = "IVRKeyPressed",
        /// The same with their labels (P).
        ivr_key_pressed_ex: Vec<IvrKey> = "IVRKeyPressedEx",
        /// The keys pressed after the call, usually the satisfaction score (P); key `noInput`: asked, none pressed (A).
        post_ivr_key_pressed: Vec<IvrKey> = "PostIVRKeyPressed",
        /// The agent; after transfers the last one (P). Null when no agent had it.
        seat_user: SeatUser = "SeatUser",
        /// Who served, in order: one entry a participant and transfer (P).
        serve_participants: Vec<ServeParticipant> = "ServeParticipants",
        /// What the agent noted (P).
        user_remark: Text = "UserRemark",
        /// Where the customer's number is from (P).
        tel_location: TelLocation = "TelLocation",
        /// What the caller of the outbound API gave along, returned as it was (P); any length.
        uui: Text = "Uui",
        /// The customer's side of the recording (N); text, though samples hold digits.
        record_id: Text = "RecordId",
        /// The caller's number under number protection (A).
        protected_caller: Text = "ProtectedCaller",
        /// The called number under number protection (A).
        protected_callee: Text = "ProtectedCallee",
        /// The AI agent that took the call (A).
        ai_agent_id: i64 = "AIAgentId",
        /// Its name (A).
        ai_agent_name: Text = "AIAgentName",
        /// Customer of a text or video session (O).
        user_id: Text = "UserId",
        /// Their nickname (O).
        user_nick_name: Text = "UserNickName",
        /// What the client gave along with a text or video session (O).
        client_data: Text = "ClientData",
        /// What the customer thought of a text session (O, as of 2022; missing from the newest table).
        satisfaction: Satisfaction = "Satisfaction",
        /// When a recording or message was made, Unix seconds (O).
        timestamp: i64 = "Timestamp",
        /// Whose side a recording is of: an agent's address or a number (O; a bare number in the voicemail sample).
        endpoint_user: Text = "EndpointUser",
        /// Where to fetch a recording or message (O).
        record_url: Text = "RecordURL",
        /// Where it lies when recordings are transferred to one's own storage (O).
        custom_record_url: Text = "CustomRecordURL",
    }
}

fields! {
    /// A key pressed in an IVR (P). The table says `Key` and `Label`, the sample on the same page `key` and `label`.
    IvrKey {
        /// The key, or the words recognised in its place (A).
        key: Text = "Key" | "key",
        /// What the IVR calls it; `lable` on an older page.
        label: Text = "Label" | "label" | "lable",
        /// When, Unix **milliseconds** (A).
        timestamp: i64 = "Timestamp",
        /// The node of the IVR (A).
        node_label: Text = "NodeLabel",
        /// What was said (A).
        original_content: Text = "OriginalContent",
        /// What was played (A).
        tts_prompt: Text = "TTSPrompt",
    }
}

fields! {
    /// An agent (P). Empty text means none.
    SeatUser {
        /// Mail address, TCCC's login.
        mail: Text = "Mail",
        /// Name.
        name: Text = "Name",
        /// Display name.
        nick: Text = "Nick",
        /// Phone number; usually empty.
        phone: Text = "Phone",
        /// User id; usually the mail address.
        user_id: Text = "UserId",
        /// Staff number: text, it has leading zeros.
        staff_number: Text = "StaffNumber",
        /// Names of the skill groups the agent belongs to; ids as text in the pull API's sample.
        skill_group_name_list: Vec<Text> = "SkillGroupNameList",
        /// Role (A).
        role: i64 = "Role",
        /// Extension (A).
        extension_number: Text = "ExtensionNumber",
    }
}

fields! {
    /// One stretch of service within a session (P). Empty text and 0 mean none.
    ServeParticipant {
        /// From 0; absent in the published sample.
        sequence: i64 = "Sequence",
        /// The agent's mail address.
        mail: Text = "Mail",
        /// The number that served, for outside lines.
        phone: Text = "Phone",
        /// Unix seconds.
        start_timestamp: i64 = "StartTimestamp",
        /// Unix seconds; 0: never rang.
        ring_timestamp: i64 = "RingTimestamp",
        /// Unix seconds; 0: never answered.
        accept_timestamp: i64 = "AcceptTimestamp",
        /// Unix seconds.
        ended_timestamp: i64 = "EndedTimestamp",
        /// `staffSeat`, `outboundSeat`, `staffPhoneSeat` (P), `miniProgramSeat`, `staffExtensionSeat`
        /// (1229/59622); an open set.
        kind: Text = "Type",
        /// Recording of this stretch; text, though samples hold digits.
        record_id: Text = "RecordId",
        /// Who handed the call over.
        transfer_from: Text = "TransferFrom",
        /// To whom it was handed on.
        transfer_to: Text = "TransferTo",
        /// The kind of the one it was handed on to, as in `Type`.
        transfer_to_type: Text = "TransferToType",
        /// Skill group.
        skill_group_id: i64 = "SkillGroupId",
        /// Its name.
        skill_group_name: Text = "SkillGroupName",
        /// Its priority in the distribution.
        skill_group_priority: i64 = "SkillGroupPriority",
        /// How this stretch ended. A chain can hold `seatGiveUp` here while the session is `ok`.
        end_status: EndStatus = "EndStatusString",
    }
}

fields! {
    /// Where a number is from (P).
    TelLocation {
        /// The number.
        tel_number: Text = "TelNumber",
        /// Country.
        country: Text = "Country",
        /// Province.
        province: Text = "Province",
        /// City.
        city: Text = "City",
        /// Carrier.
        operator: Text = "Operator",
    }
}

fields! {
    /// What the customer thought of a text session (O). Its members are in lower case.
    Satisfaction {
        /// The answer that was chosen; text, though samples hold digits.
        id: Text = "id",
        /// What it says.
        content: Text = "content",
    }
}

/// A Unix time in seconds as it is meant: none for 0 and for what no calendar holds.
pub fn moment(seconds: Option<i64>) -> Option<Timestamp> {
    seconds.filter(|&seconds| seconds > 0).and_then(|seconds| Timestamp::from_second(seconds).ok())
}

/// Seconds from one moment to another; none when either did not happen or they run backwards.
fn between(from: Option<i64>, to: Option<i64>) -> Option<i64> {
    let (from, to) = (happened(from)?, happened(to)?);
    to.checked_sub(from).filter(|&seconds| seconds >= 0)
}

fn happened(seconds: Option<i64>) -> Option<i64> {
    seconds.filter(|&seconds| seconds > 0)
}

impl Cdr {
    /// What became of the call; `other` without a status.
    pub fn result(&self) -> CallResult {
        self.end_status.as_ref().map_or(CallResult::Other, EndStatus::result)
    }

    /// The customer's number: who called, or who was called; none when the direction or the number is not known.
    pub fn customer(&self) -> Option<&str> {
        let number = match self.direction? {
            0 => self.caller.as_deref(),
            1 => self.callee.as_deref(),
            _ => None,
        };
        number.filter(|number| !number.is_empty())
    }

    /// When the session began.
    pub fn started_at(&self) -> Option<Timestamp> {
        moment(self.start_timestamp)
    }

    /// When the session ended.
    pub fn ended_at(&self) -> Option<Timestamp> {
        moment(self.ended_timestamp)
    }

    /// Seconds in the queue: until it rang, else until it was answered, else until it ended.
    pub fn wait(&self) -> Option<i64> {
        let until =
            happened(self.ring_timestamp).or(happened(self.accept_timestamp)).or(self.ended_timestamp);
        between(self.queued_timestamp, until)
    }

    /// Seconds of ringing: until it was answered, else until it ended.
    pub fn ring(&self) -> Option<i64> {
        between(self.ring_timestamp, happened(self.accept_timestamp).or(self.ended_timestamp))
    }

    /// Seconds between answer and end; none when it was never answered.
    pub fn talk(&self) -> Option<i64> {
        between(self.accept_timestamp, self.ended_timestamp)
    }

    /// How often the call was handed on.
    pub fn transfers(&self) -> usize {
        let handed_on = |participant: &&ServeParticipant| {
            participant.transfer_to.as_deref().is_some_and(|to| !to.is_empty())
        };
        self.participants().iter().filter(handed_on).count()
    }

    /// Who served; empty when nobody did.
    pub fn participants(&self) -> &[ServeParticipant] {
        self.serve_participants.as_deref().unwrap_or_default()
    }

    /// Fields of a wrong type, those of nested objects included, by their published names.
    pub fn odd_fields(&self) -> impl Iterator<Item = &'static str> {
        let keys = self.ivr_key_pressed_ex.iter().chain(&self.post_ivr_key_pressed).flatten();
        (self.odd.iter())
            .chain(keys.flat_map(|key| &key.odd))
            .chain(self.seat_user.iter().flat_map(|seat| &seat.odd))
            .chain(self.participants().iter().flat_map(|participant| &participant.odd))
            .chain(self.tel_location.iter().flat_map(|location| &location.odd))
            .chain(self.satisfaction.iter().flat_map(|satisfaction| &satisfaction.odd))
            .copied()
    }
}
