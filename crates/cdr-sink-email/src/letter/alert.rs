//! The gateway's own alerts as a mail tells them: in their own words, and what is over.

use cdr_core::{Alert, Delivery};
use serde::Serialize;

use super::{Style, plain::one_line};

/// What templates read of an alert.
#[derive(Serialize)]
pub(super) struct AlertView {
    /// One line that says it all.
    pub(super) subject: String,
    /// What happened and what to do, line by line.
    lines: Vec<String>,
    at: Option<String>,
    kind: Option<&'static str>,
    about: Option<String>,
    resolved: bool,
    position: String,
    spool: String,
}

impl AlertView {
    pub(super) fn of(delivery: &Delivery, style: &Style) -> Self {
        let push = &delivery.push;
        let (position, spool) = (push.position().to_string(), push.spool().to_string());
        let Some(alert) = Alert::of(push) else {
            // A later version's alert, read back after a step back to this one: still better told than kept.
            return Self {
                subject: style.say("an alert that this version cannot read").to_owned(),
                lines: vec![one_line(&String::from_utf8_lossy(push.body()), 2000)],
                at: None,
                kind: None,
                about: None,
                resolved: false,
                position,
                spool,
            };
        };
        Self {
            subject: one_line(&alert.subject, 200),
            lines: alert.text.lines().map(|line| one_line(line, 500)).collect(),
            at: Some(style.local(alert.at)),
            kind: Some(alert.kind.as_str()),
            about: Some(one_line(&alert.about, 200)),
            resolved: alert.resolved,
            position,
            spool,
        }
    }
}
