//! A CDR as TCCC writes it: the names and order of the published sample, and its quirks.

use serde::Serialize;
use uuid::Uuid;

/// The body of an `action=cdr` push. Optional fields are left out when none.
/// [`Array`] tells null from `[]`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Body {
    pub sdk_app_id: i64,
    pub session_id: Uuid,
    pub queued_skill_group_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_skill_group_name: Option<&'static str>,
    pub direction: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_type: Option<i64>,
    pub start_timestamp: i64,
    pub queued_timestamp: i64,
    pub ring_timestamp: i64,
    pub accept_timestamp: i64,
    pub ended_timestamp: i64,
    /// The published sample has the field twice; a reader has to take the last.
    #[serde(rename = "Duration", skip_serializing_if = "Option::is_none")]
    pub duration_before: Option<i64>,
    pub duration: i64,
    #[serde(rename = "IVRDuration")]
    pub ivr_duration: i64,
    pub end_status_string: &'static str,
    pub hung_up_side: &'static str,
    pub caller: String,
    pub callee: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_location: Option<String>,
    #[serde(rename = "IVRKeyPressed")]
    pub ivr_key_pressed: Array<&'static str>,
    #[serde(rename = "IVRKeyPressedEx")]
    pub ivr_key_pressed_ex: Array<Key>,
    #[serde(rename = "PostIVRKeyPressed")]
    pub post_ivr_key_pressed: Array<Key>,
    pub seat_user: Option<Seat>,
    pub serve_participants: Array<Participant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_remark: Option<&'static str>,
    pub record_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uui: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tel_location: Option<TelLocation>,
    #[serde(rename = "AIAgentId", skip_serializing_if = "Option::is_none")]
    pub ai_agent_id: Option<i64>,
    #[serde(rename = "AIAgentName", skip_serializing_if = "Option::is_none")]
    pub ai_agent_name: Option<&'static str>,
}

/// An array that TCCC may write as null when it is empty.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Array<T>(Option<Vec<T>>);

impl<T> Array<T> {
    fn null_if_empty(&mut self) {
        self.0.take_if(|elements| elements.is_empty());
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }
}

impl<T> From<Vec<T>> for Array<T> {
    fn from(elements: Vec<T>) -> Self {
        Self(Some(elements))
    }
}

/// A key pressed: the published table and the published sample spell it differently.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Key {
    #[serde(rename_all = "PascalCase")]
    AsInTheTable {
        key: &'static str,
        label: &'static str,
    },
    AsInTheSample {
        key: &'static str,
        label: &'static str,
    },
}

impl Key {
    pub fn new(key: &'static str, label: &'static str) -> Self {
        Self::AsInTheTable { key, label }
    }

    fn lower_case(&mut self) {
        if let Self::AsInTheTable { key, label } = *self {
            *self = Self::AsInTheSample { key, label };
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Seat {
    pub mail: String,
    pub name: &'static str,
    pub nick: &'static str,
    pub phone: &'static str,
    pub user_id: String,
    pub staff_number: &'static str,
    pub skill_group_name_list: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Participant {
    pub sequence: usize,
    pub mail: String,
    pub phone: String,
    pub record_id: String,
    pub start_timestamp: i64,
    pub ring_timestamp: i64,
    pub accept_timestamp: i64,
    pub ended_timestamp: i64,
    #[serde(rename = "Type")]
    pub kind: &'static str,
    pub transfer_from: String,
    pub transfer_to: String,
    pub transfer_to_type: &'static str,
    pub skill_group_id: i64,
    pub skill_group_name: &'static str,
    pub skill_group_priority: i64,
    pub end_status_string: &'static str,
}

impl Participant {
    /// The agent's mail address, or the number of an outside line.
    pub fn address(&self) -> &str {
        if self.mail.is_empty() { &self.phone } else { &self.mail }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TelLocation {
    pub tel_number: String,
    pub country: &'static str,
    pub province: &'static str,
    pub city: &'static str,
    pub operator: &'static str,
}

/// The body of an `action=record` push (product page 1229/59642).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Recording<'a> {
    sdk_app_id: i64,
    record_id: &'a str,
    session_id: Uuid,
    timestamp: i64,
    endpoint_user: &'a str,
    #[serde(rename = "RecordURL")]
    record_url: String,
}

/// The body of an `action=voicemail` push (product page 679/86651).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Voicemail {
    sdk_app_id: i64,
    session_id: Uuid,
    timestamp: i64,
    #[serde(rename = "RecordURL")]
    record_url: String,
    /// A text by the table, a bare number in the sample.
    endpoint_user: u64,
}

/// What TCCC writes otherwise than its tables say.
pub(super) struct Quirks {
    pub repeated_duration: bool,
    pub null_arrays: bool,
    pub lower_case_keys: bool,
    pub optional_fields_left_out: bool,
}

impl Body {
    pub fn end_status(&self) -> &'static str {
        self.end_status_string
    }

    pub fn with(mut self, quirks: &Quirks) -> Self {
        if quirks.repeated_duration {
            self.duration_before = Some(self.ended_timestamp - self.start_timestamp);
        }
        if quirks.null_arrays {
            self.ivr_key_pressed.null_if_empty();
            self.ivr_key_pressed_ex.null_if_empty();
            self.post_ivr_key_pressed.null_if_empty();
            self.serve_participants.null_if_empty();
        }
        if quirks.lower_case_keys {
            self.ivr_key_pressed_ex.iter_mut().for_each(Key::lower_case);
            self.post_ivr_key_pressed.iter_mut().for_each(Key::lower_case);
        }
        if quirks.optional_fields_left_out {
            self.queued_skill_group_name = None;
            self.call_type = None;
            self.caller_location = None;
            self.user_remark = None;
            self.uui = None;
            self.tel_location = None;
        }
        self
    }

    /// One for the customer's side, then one for each who talked with them.
    pub fn recordings(&self) -> Vec<Recording<'_>> {
        let customer = if self.direction == 0 { &self.caller } else { &self.callee };
        let talked = self.serve_participants.iter().filter(|participant| participant.accept_timestamp > 0);
        let sides = talked.map(|participant| (participant.record_id.as_str(), participant.address()));
        (std::iter::once((self.record_id.as_str(), customer.as_str())).chain(sides))
            .filter(|(record_id, _)| !record_id.is_empty())
            .map(|(record_id, endpoint_user)| self.recording(record_id, endpoint_user))
            .collect()
    }

    /// What a caller says to the machine when nobody answers.
    pub fn voicemail(&self) -> Option<Voicemail> {
        let nobody_came = self.direction == 0 && self.accept_timestamp == 0;
        let endpoint_user = self.caller.parse().ok().filter(|_| nobody_came)?;
        Some(Voicemail {
            sdk_app_id: self.sdk_app_id,
            session_id: self.session_id,
            timestamp: self.ended_timestamp + 2,
            record_url: format!("https://recorder.example.com/{}/voicemail.mp3", self.session_id),
            endpoint_user,
        })
    }

    fn recording<'a>(&self, record_id: &'a str, endpoint_user: &'a str) -> Recording<'a> {
        Recording {
            sdk_app_id: self.sdk_app_id,
            record_id,
            session_id: self.session_id,
            timestamp: self.ended_timestamp + 2,
            endpoint_user,
            record_url: format!("https://recorder.example.com/{}/{record_id}.mp3", self.session_id),
        }
    }
}
