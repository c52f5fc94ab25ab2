//! One push as a mail names it: its session, its status in words, when and for whom it was.

use cdr_core::{
    Cdr, Delivery, EndStatus, Push,
    cdr::{SeatUser, moment},
};
use jiff::Timestamp;

use super::plain::one_line;

/// A push as a mail names it.
pub(super) struct Call<'a> {
    pub(super) push: &'a Push,
    pub(super) cdr: Option<&'a Cdr>,
    pub(super) replay: bool,
}

impl<'a> Call<'a> {
    pub(super) fn of(delivery: &'a Delivery) -> Self {
        Self { push: &delivery.push, cdr: delivery.push.cdr(), replay: delivery.replay }
    }

    /// The session's id as it came; none when the push names no session.
    pub(super) fn session(&self) -> Option<&'a str> {
        self.push.session_id().filter(|id| !id.is_empty())
    }

    /// The status under which calls are counted; for a push without one, its action.
    pub(super) fn status(&self) -> String {
        let status = self.end_status().map_or(self.push.action().as_str(), EndStatus::as_str);
        one_line(status, 40)
    }

    /// The status and, where it is a published one, its words: `noSeatOnline: no agent was online`. Of a recording or a
    /// voicemail, what it is.
    pub(super) fn headline(&self) -> String {
        match self.end_status() {
            Some(EndStatus::Known(status)) if status.words != status.name => {
                format!("{}: {}", status.name, status.words)
            }
            Some(EndStatus::Known(_) | EndStatus::Unpublished(_)) => self.status(),
            None => match self.push.action().as_str() {
                "record" => "record: a recording is ready".to_owned(),
                "voicemail" => "voicemail: a caller left a message".to_owned(),
                _ => self.status(),
            },
        }
    }

    pub(super) fn end_status(&self) -> Option<&'a EndStatus> {
        self.cdr?.end_status.as_ref().filter(|status| !status.as_str().is_empty())
    }

    /// When it began, as far as the push says; else when the push came.
    pub(super) fn when(&self) -> Timestamp {
        let told = self
            .cdr
            .and_then(|cdr| cdr.started_at().or_else(|| cdr.ended_at()).or_else(|| moment(cdr.timestamp)));
        told.unwrap_or(self.push.facts().received_at)
    }

    /// The skill group that it was queued for, by name where one is told.
    pub(super) fn skill_group(&self) -> Option<String> {
        let cdr = self.cdr?;
        let named = some_text(cdr.queued_skill_group_name.as_deref()).map(|name| one_line(name, 40));
        named.or_else(|| Some(format!("group {}", cdr.queued_skill_group_id.filter(|&id| id != 0)?)))
    }

    /// Whether it is a message that a caller left.
    pub(super) fn is_voicemail(&self) -> bool {
        self.push.action().as_str() == "voicemail"
    }

    /// The number that called, or left the message.
    pub(super) fn caller(&self) -> Option<&'a str> {
        let cdr = self.cdr?;
        let left_by = cdr.endpoint_user.as_deref().filter(|_| self.is_voicemail());
        some_text(cdr.caller.as_deref()).or(some_text(left_by))
    }

    /// The agent by display name and mail address; none when no agent had it.
    pub(super) fn agent(&self) -> Option<String> {
        let SeatUser { nick, name, mail, user_id, .. } = self.cdr?.seat_user.as_ref()?;
        let called = some_text(nick.as_deref()).or(some_text(name.as_deref()));
        let address = some_text(mail.as_deref()).or(some_text(user_id.as_deref()));
        match (called, address) {
            (Some(called), Some(address)) => Some(format!("{called} ({address})")),
            (one, other) => one.or(other).map(str::to_owned),
        }
    }
}

/// A text that says something.
pub(super) fn some_text(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}
