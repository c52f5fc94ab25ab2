//! Tells people by mail: over SMTP, or into a folder while nothing real is set up yet.
//!
//! ```text
//!  Batch ──letter──▶ subject, text ──mail──▶ message ──┬─smtp───▶ a mail server
//!                                                      └─outbox─▶ a file
//! ```
//! One mail a batch. The first push is told at once; those that come within `group_interval` gather in the lane
//! and come together, in a table that names every session. The gateway's own alerts never wait behind calls.
//!
//! # What it promises
//! * Delivered means that the mail server took the mail for at least one recipient, or that the file and its
//!   folder are synced. A refused recipient is named in the receipt and warned of.
//! * A repeat bears the same `Message-ID`, so mailboxes and people can tell it; in the outbox it is the same file.
//! * Nothing that a push says can add a header, a line or a recipient.
//! * Passwords are in no error and no log; numbers are in the mails only, since people on call need them.
//!
//! # What becomes of a failure
//! | what happened | outcome | why |
//! |---|---|---|
//! | no connection, TLS or login; 421 at any time; 5xx to the sender or to all recipients | away | the settings or the server are at fault, whatever the mail |
//! | some recipients are refused or put off, at least one is not | delivered | the others know; a repeat would tell them twice |
//! | 4xx; the connection broke or stalled after the mail was begun | retry | it may pass later; and should this very mail break the server, it must not pause the lane for ever |
//! | 5xx to the content | reject | this mail will never pass |
//! | the folder cannot be written | away | |
#![forbid(unsafe_code)]

mod letter;
mod mail;
mod outbox;
mod settings;
mod smtp;

use cdr_core::{
    Alert, Batch, Batching, EndStatus, Failure, Origin, Outcome, Partition, Push, Receipt, Report, Sink,
    SinkName, Unavailable,
};
use jiff::tz::TimeZone;
use lettre::{Address, message::Mailbox};
use std::{borrow::Cow, time::Duration};

pub use settings::{EmailSettings, SmtpSettings, TlsSetting};

use self::{
    letter::Letter,
    mail::Mail,
    outbox::Outbox,
    smtp::{Accepted, Failed, Server},
};

/// A sink that writes a mail a batch. Built by [`EmailSettings`].
pub struct EmailSink {
    name: SinkName,
    way: Way,
    from: Mailbox,
    to: Vec<Mailbox>,
    zone: TimeZone,
    group_wait: Duration,
    group_interval: Duration,
}

/// Where mails go.
enum Way {
    Smtp(Server),
    Outbox(Outbox),
}

impl EmailSink {
    /// Most pushes in a mail: a table that one can still scroll through.
    const PUSHES: usize = 1000;
    /// Most bytes of bodies behind a mail: a thousand pushes of ten times the usual size.
    const BYTES: usize = 16 << 20;

    async fn send(&self, server: &Server, mail: &Mail) -> Result<Receipt, Failed> {
        let to: Vec<Address> = self.to.iter().map(|mailbox| mailbox.email.clone()).collect();
        let Accepted { answer, refused } = server.send(&self.from.email, &to, &mail.bytes).await?;
        let mut receipt = format!("{} {answer}", mail.id);
        if !refused.is_empty() {
            let refused: Vec<_> = refused.iter().map(ToString::to_string).collect();
            let refused = refused.join(", ");
            tracing::warn!(
                sink = %self.name, refused,
                "the mail server took a mail for the other recipients only; check `to` of this sink"
            );
            receipt += &format!("; refused: {refused}");
        }
        Ok(Receipt::new(receipt))
    }
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

    /// Alerts by kind, sessions by published status, recordings and voicemails apart: what is told about one does not hold
    /// back the other.
    /// Unpublished statuses share a group, since nobody knows how many a sender invents.
    fn partition(&self, push: &Push) -> Partition {
        let partition = match push.facts().origin {
            Origin::Alert => Alert::of(push).map_or(Alert::ACTION, |alert| alert.kind.as_str()),
            Origin::Push => match push.cdr().and_then(|cdr| cdr.end_status.as_ref()) {
                Some(EndStatus::Known(status)) => status.name,
                Some(EndStatus::Unpublished(_)) => "other",
                None => match push.action().as_str() {
                    "record" => "record",
                    "voicemail" => "voicemail",
                    _ => "other",
                },
            },
        };
        Partition(Cow::Borrowed(partition))
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        let letter = Letter::about(batch, &self.zone);
        let mail = match Mail::write(&self.name, batch, &letter, &self.from, &self.to) {
            Ok(mail) => mail,
            Err(error) => {
                let failure = Failure::new(format!("no mail can be made of it: {error}"));
                return Report::all(batch, &Outcome::Reject(failure));
            }
        };
        let sent = match &self.way {
            Way::Smtp(server) => self.send(server, &mail).await,
            Way::Outbox(outbox) => outbox.keep(&mail).await.map(Receipt::new).map_err(Failed::Away),
        };
        match sent {
            Ok(receipt) => Report::delivered(batch, |_| receipt.clone()),
            Err(Failed::Away(reason)) => Report::unavailable(batch, Unavailable::new(reason)),
            Err(Failed::Later(failure)) => Report::all(batch, &Outcome::Retry(failure)),
            Err(Failed::Never(failure)) => Report::all(batch, &Outcome::Reject(failure)),
        }
    }

    fn describe(&self) -> String {
        match &self.way {
            Way::Smtp(server) => {
                let to: Vec<_> = self.to.iter().map(|mailbox| mail::masked(&mailbox.email)).collect();
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
