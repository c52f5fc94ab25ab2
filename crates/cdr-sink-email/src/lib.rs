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
//! * Nothing that a push says can add a header, a line, a recipient or an element of HTML.
//! * Passwords are in no error and no log; numbers are in the mails only, masked unless the settings say otherwise.
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

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use cdr_core::{
    Alert, Batch, Batching, Delivery, EndStatus, Failure, Origin, Outcome, Part, Partition, Preview, Push,
    Receipt, Report, Sink, SinkName, Unavailable,
};
use lettre::{Address, message::Mailbox};

pub use letter::{Numbers, TemplateSettings};
pub use settings::{EmailSettings, SmtpSettings, TlsSetting};

use self::{
    letter::{Letter, Style, Templates, View, Written},
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
    to_by_route: BTreeMap<String, Vec<Mailbox>>,
    style: Style,
    templates: Templates,
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

    /// Tells `to` of these pushes, in one mail.
    async fn tell(&self, deliveries: &[Delivery], to: &[Mailbox]) -> Result<Receipt, Failed> {
        let mail = self.write(deliveries, to).map_err(Failed::Never)?;
        match &self.way {
            Way::Smtp(server) => self.send(server, &mail, to).await,
            Way::Outbox(outbox) => outbox.keep(&mail).await.map(Receipt::new).map_err(Failed::Away),
        }
    }

    fn write(&self, deliveries: &[Delivery], to: &[Mailbox]) -> Result<Mail, Failure> {
        let unwritable = |error: String| Failure::new(format!("no mail can be made of it: {error}"));
        let view = View::of(deliveries, &self.style);
        let Written { letter, fell_back } =
            self.templates.write(&view).map_err(|error| unwritable(format!("{error:#}")))?;
        if let Some(reason) = fell_back {
            tracing::warn!(sink = %self.name, reason, "a template of this sink failed, so the built-in ones wrote the mail; check `templates`");
        }
        Mail::write(&self.name, deliveries, &letter, &self.from, to)
            .map_err(|error| unwritable(error.to_string()))
    }

    async fn send(&self, server: &Server, mail: &Mail, to: &[Mailbox]) -> Result<Receipt, Failed> {
        let to: Vec<Address> = to.iter().map(|mailbox| mailbox.email.clone()).collect();
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

    /// Who is to be told of a push: the recipients of its routes, each once.
    fn recipients(&self, delivery: &Delivery) -> Vec<&Mailbox> {
        let of_route = |route: &String| self.to_by_route.get(route).unwrap_or(&self.to);
        let mut recipients: Vec<&Mailbox> = Vec::new();
        let all = delivery.routes.iter().map(of_route);
        for mailbox in all.chain(delivery.routes.is_empty().then_some(&self.to)).flatten() {
            if recipients.iter().all(|known| known.email != mailbox.email) {
                recipients.push(mailbox);
            }
        }
        recipients
    }

    /// A batch by those who are to be told: for each group of recipients, the indexes of its deliveries.
    fn groups<'a>(&'a self, batch: &Batch) -> Vec<(Vec<&'a Mailbox>, Vec<usize>)> {
        let mut groups: Vec<(Vec<&Mailbox>, Vec<usize>)> = Vec::new();
        for (index, delivery) in batch.deliveries().iter().enumerate() {
            let recipients = self.recipients(delivery);
            match groups.iter_mut().find(|(known, _)| *known == recipients) {
                Some((_, indexes)) => indexes.push(index),
                None => groups.push((recipients, vec![index])),
            }
        }
        groups
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
        let mut report = Report::untried(batch);
        for (recipients, indexes) in self.groups(batch) {
            let deliveries: Vec<Delivery> = indexes.iter().map(|&i| batch.deliveries()[i].clone()).collect();
            let to: Vec<Mailbox> = recipients.into_iter().cloned().collect();
            let outcome = match self.tell(&deliveries, &to).await {
                Ok(receipt) => Outcome::Delivered(receipt),
                Err(Failed::Away(reason)) => return report.and_unavailable(Unavailable::new(reason)),
                Err(Failed::Later(failure)) => Outcome::Retry(failure),
                Err(Failed::Never(failure)) => Outcome::Reject(failure),
            };
            indexes.iter().for_each(|&index| report.set(index, outcome.clone()));
        }
        report
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
