//! One push as a mail names it: its session, its status in words, when and for whom it was.

use cdr_core::{
    CallResult, Cdr, Delivery, EndStatus, Push,
    cdr::{SeatUser, moment},
};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Style,
    facts::{self, Fact},
    plain::{one_line, shell_argument},
};

/// A push as a mail names it.
pub(crate) struct Call<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) push: &'a Push,
    pub(super) cdr: Option<&'a Cdr>,
    pub(super) replay: bool,
    pub(super) style: &'a Style,
}

/// What templates read of a call. Every text is one line, fit for a mail; numbers are masked as the sink wants it.
#[derive(Serialize)]
pub(super) struct CallView {
    session: Option<String>,
    /// The beginning of the session, for subjects.
    session_short: Option<String>,
    pub(super) status: String,
    pub(super) headline: String,
    pub(super) words: String,
    pub(super) result: &'static str,
    pub(super) began: String,
    pub(super) caller: Option<String>,
    pub(super) callee: Option<String>,
    pub(super) group: Option<String>,
    agent: Option<String>,
    action: String,
    position: String,
    received: String,
    replay: bool,
    link: Option<String>,
    /// The session as an argument of a command.
    argument: Option<String>,
    /// All of it, a line each; only in a mail about one call.
    facts: Vec<Fact>,
}

impl CallView {
    /// Its line in a table.
    pub(super) fn row(&self, replay: &str) -> [String; 7] {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
        let status = if self.replay { format!("{} ({replay})", self.status) } else { self.status.clone() };
        [
            or_dash(&self.session),
            status,
            self.began.clone(),
            or_dash(&self.caller),
            or_dash(&self.callee),
            or_dash(&self.group),
            self.position.clone(),
        ]
    }
}

impl<'a> Call<'a> {
    pub(crate) fn of(delivery: &'a Delivery, style: &'a Style) -> Self {
        let push = &*delivery.push;
        Self { delivery, push, cdr: push.cdr(), replay: delivery.replay, style }
    }

    pub(super) fn view(&self, in_full: bool) -> CallView {
        let session = self.session();
        CallView {
            session: session.map(|session| one_line(session, 200)),
            session_short: session.map(|session| one_line(session, 9)),
            status: self.status(),
            headline: self.headline(),
            words: self.words(),
            result: self.cdr.map_or(CallResult::Other, Cdr::result).as_str(),
            began: self.style.local(self.when()),
            caller: self.caller().map(|number| self.number(number)),
            callee: self.callee().map(|number| self.number(number)),
            group: self.skill_group(),
            agent: self.agent(),
            action: self.push.action().to_string(),
            position: self.push.position().to_string(),
            received: self.style.local(self.push.facts().received_at),
            replay: self.replay,
            link: session.and_then(|session| Some(self.style.link.as_ref()?.to(session))),
            argument: session.and_then(shell_argument),
            facts: if in_full { facts::of(self) } else { Vec::new() },
        }
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
    pub(crate) fn headline(&self) -> String {
        let (status, words) = (self.status(), self.words());
        match words == status {
            true => status,
            false => format!("{status}: {words}"),
        }
    }

    /// What it means; an unpublished status speaks for itself.
    fn words(&self) -> String {
        match self.end_status() {
            Some(EndStatus::Known(status)) => status.words_in(self.style.language).to_owned(),
            Some(EndStatus::Unpublished(_)) => self.status(),
            None => match self.push.action().as_str() {
                "record" => self.style.say("a recording is ready").to_owned(),
                "voicemail" => self.style.say("a caller left a message").to_owned(),
                _ => self.status(),
            },
        }
    }

    pub(super) fn end_status(&self) -> Option<&'a EndStatus> {
        self.cdr?.end_status.as_ref().filter(|status| !status.as_str().is_empty())
    }

    /// When it began, as far as the push says; else when the push came.
    pub(crate) fn when(&self) -> Timestamp {
        let told = self
            .cdr
            .and_then(|cdr| cdr.started_at().or_else(|| cdr.ended_at()).or_else(|| moment(cdr.timestamp)));
        told.unwrap_or(self.push.facts().received_at)
    }

    /// The skill group that it was queued for, by name where one is told.
    pub(crate) fn skill_group(&self) -> Option<String> {
        let cdr = self.cdr?;
        let named = some_text(cdr.queued_skill_group_name.as_deref()).map(|name| one_line(name, 40));
        let group = self.style.say("group");
        named.or_else(|| Some(format!("{group} {}", cdr.queued_skill_group_id.filter(|&id| id != 0)?)))
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

    fn callee(&self) -> Option<&'a str> {
        some_text(self.cdr?.callee.as_deref())
    }

    /// A number as the sink shows numbers.
    pub(super) fn number(&self, number: &str) -> String {
        one_line(&self.style.numbers.shown(number.trim()), 32)
    }

    /// The agent by display name and mail address; none when no agent had it.
    pub(super) fn agent(&self) -> Option<String> {
        let SeatUser { nick, name, mail, user_id, .. } = self.cdr?.seat_user.as_ref()?;
        let called = some_text(nick.as_deref()).or(some_text(name.as_deref()));
        let address = some_text(mail.as_deref()).or(some_text(user_id.as_deref()));
        let agent = match (called, address) {
            (Some(called), Some(address)) => format!("{called} ({address})"),
            (one, other) => one.or(other)?.to_owned(),
        };
        Some(one_line(&self.style.numbers.shown_in(&agent), 100))
    }
}

/// A text that says something.
pub(super) fn some_text(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}
