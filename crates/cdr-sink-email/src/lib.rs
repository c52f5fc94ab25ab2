//! Tells people by mail: over SMTP, or into a folder while nothing real is set up yet.
//!
//! ```text
//!  Batch ──letter──▶ subject, text ──mail──▶ message ──┬─smtp───▶ a mail server
//!                                                      └─outbox─▶ a file
//! ```
//! One mail a batch, and for each group of recipients. Calls with the same status (or what else `group_by` names) are one
//! incident: the first is told at once; those that come within `group_interval` gather in the lane and come together, in a
//! table that names every session; when none came for `resolve_after`, a last mail says that it is over. What was told so far
//! lies in the spool. The gateway's own alerts never wait behind calls.
//!
//! # What it promises
//! * Delivered means that the mail server took the mail for every recipient whom it did not refuse for good, and for one at least;
//!   or that the file and its folder are synced. A refused recipient is named in the receipt and warned of.
//! * Whoever is put off is sent the very same mail later, alone; after a restart or a reload it goes to all once more.
//! * A repeat bears the same `Message-ID`, so mailboxes and people can tell it; in the outbox it is the same file.
//! * Nothing that a push says can add a header, a line, a recipient or an element of HTML.
//! * Passwords and tokens are in no error and no log; numbers are in the mails only, masked unless the settings say otherwise.
//!
//! # What becomes of a failure
//! | what happened | outcome | why |
//! |---|---|---|
//! | no connection, TLS or login; 421 at any time; 5xx to the sender, or to all recipients of all mails | away | the settings or the server are at fault, whatever the mail |
//! | 5xx to all recipients of a mail, while the server takes one for others | retry, alone | a route's recipients are wrong; the others are told |
//! | 5xx to some recipients | delivered | the others know; a repeat would tell them twice |
//! | 4xx to some recipients | retry, alone | they are told later, the others are not told again |
//! | 4xx to the mail or to all; the connection broke or stalled after the mail was begun | retry | it may pass later; and should this very mail break the server, it must not pause the lane for ever |
//! | 5xx to the content | reject | this mail will never pass |
//! | the folder cannot be written | away | |
#![forbid(unsafe_code)]

mod attempt;
mod incident;
mod letter;
mod mail;
mod outbox;
mod owed;
mod settings;
mod smtp;
mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use cdr_core::{Batch, Batching, Outcome, Part, Partition, Preview, Push, Report, Sink, SinkName};
use lettre::message::Mailbox;

pub use incident::GroupBy;
pub use letter::{Numbers, TemplateSettings};
pub use settings::{EmailSettings, MechanismSetting, Oauth2Settings, SmtpSettings, TlsSetting};

use self::{
    letter::{Letter, Style, Templates, View, Written},
    outbox::Outbox,
    owed::OwedMails,
    smtp::Server,
};

/// A sink that writes a mail a batch. Built by [`EmailSettings`].
pub struct EmailSink {
    name: SinkName,
    way: Way,
    from: Mailbox,
    to: Vec<Recipient>,
    to_by_route: BTreeMap<String, Vec<Recipient>>,
    style: Style,
    templates: Templates,
    group_by: BTreeSet<GroupBy>,
    group_wait: Duration,
    group_interval: Duration,
    send_resolved: bool,
    resolve_after: Duration,
    max_per_hour: usize,
    owed: OwedMails,
}

/// Somebody who is to be told.
#[derive(Clone, Debug)]
struct Recipient {
    mailbox: Mailbox,
    /// Which setting names it, such as `to.1`.
    place: String,
}

/// Whoever two settings name is one and the same.
impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.mailbox == other.mailbox
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, mail::masked(&self.mailbox.email))
    }
}

/// Where mails go.
enum Way {
    Smtp(Box<Server>),
    Outbox(Outbox),
}

impl EmailSink {
    /// Most pushes in a mail: a table that one can still scroll through.
    const PUSHES: usize = 1000;
    /// Most bytes of bodies behind a mail: a thousand pushes of ten times the usual size.
    const BYTES: usize = 16 << 20;
}

impl Sink for EmailSink {
    fn batching(&self) -> Batching {
        Batching {
            pushes: Self::PUSHES,
            bytes: Self::BYTES,
            wait: self.group_wait,
            spacing: self.group_interval,
        }
    }

    fn partition(&self, push: &Push) -> Partition {
        incident::partition(push, &self.group_by)
    }

    fn quiet(&self) -> Option<Duration> {
        Some(self.resolve_after)
    }

    /// The gateway's own alerts are few, and never wait behind calls.
    fn most_an_hour(&self, partition: &Partition) -> Option<usize> {
        incident::is_of_calls(partition).then_some(self.max_per_hour)
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        self.tell_batch(batch).await
    }

    async fn close(&self, _partition: &Partition, memo: &[u8]) -> Outcome {
        self.tell_end(memo).await
    }

    fn preview(&self, batch: &Batch) -> Preview {
        let written = self.templates.write(&View::of(batch.deliveries(), &self.style));
        let Ok(Written { letter: Letter { subject, text, html }, .. }) = written else {
            return Preview::default();
        };
        let part = |name, text, is_plain| Part { name, text, is_plain };
        Preview(vec![part("subject", subject, true), part("text", text, true), part("html", html, false)])
    }

    fn describe(&self) -> String {
        match &self.way {
            Way::Smtp(server) => {
                let to: Vec<_> = self.to.iter().map(|to| mail::masked(&to.mailbox.email)).collect();
                format!("mails to {} through {}", to.join(", "), server.describe())
            }
            Way::Outbox(outbox) => {
                format!("writes mails as files to {}: NOBODY IS TOLD until smtp is set", outbox.place())
            }
        }
    }

    async fn probe(&self) -> Result<(), String> {
        match &self.way {
            Way::Smtp(server) => server.probe().await,
            Way::Outbox(outbox) => outbox.probe().await,
        }
    }
}
