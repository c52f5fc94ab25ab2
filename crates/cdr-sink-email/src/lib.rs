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

mod incident;
mod letter;
mod mail;
mod outbox;
mod settings;
mod smtp;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cdr_core::{
    Batch, Batching, Delivery, Failure, Origin, Outcome, Part, Partition, Preview, Push, Receipt, Report,
    Sink, SinkName, Unavailable,
};
use lettre::{Address, message::Mailbox};

pub use incident::GroupBy;
pub use letter::{Numbers, TemplateSettings};
pub use settings::{EmailSettings, SmtpSettings, TlsSetting};

use self::{
    incident::Incident,
    letter::{Letter, Style, Templates, View, Written},
    mail::{Identity, Mail},
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
    group_by: BTreeSet<GroupBy>,
    group_wait: Duration,
    group_interval: Duration,
    send_resolved: bool,
    resolve_after: Duration,
    max_per_hour: usize,
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

    /// Hands a mail over.
    async fn tell(&self, mail: &Mail, to: &[Mailbox]) -> Result<Receipt, Failed> {
        match &self.way {
            Way::Smtp(server) => self.send(server, mail, to).await,
            Way::Outbox(outbox) => outbox.keep(mail).await.map(Receipt::new).map_err(Failed::Away),
        }
    }

    fn write(&self, view: &View, identity: Identity, to: &[Mailbox]) -> Result<Mail, Failure> {
        let unwritable = |error: String| Failure::new(format!("no mail can be made of it: {error}"));
        let Written { letter, fell_back } =
            self.templates.write(view).map_err(|error| unwritable(format!("{error:#}")))?;
        if let Some(reason) = fell_back {
            tracing::warn!(sink = %self.name, reason, "a template of this sink failed, so the built-in ones wrote the mail; check `templates`");
        }
        Mail::write(&self.name, identity, &letter, &self.from, to)
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

    /// Who is to be told of what these routes took, each once.
    fn recipients(&self, routes: &[String]) -> Vec<&Mailbox> {
        let of_route = |route: &String| self.to_by_route.get(route).unwrap_or(&self.to);
        let mut recipients: Vec<&Mailbox> = Vec::new();
        let all = routes.iter().map(of_route);
        for mailbox in all.chain(routes.is_empty().then_some(&self.to)).flatten() {
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
            let recipients = self.recipients(&delivery.routes);
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
        let mut report = Report::untried(batch);
        let before = Incident::before(batch);
        let mut incident = before.clone();
        for (recipients, indexes) in self.groups(batch) {
            let deliveries: Vec<Delivery> = indexes.iter().map(|&i| batch.deliveries()[i].clone()).collect();
            let to: Vec<Mailbox> = recipients.into_iter().cloned().collect();
            let view =
                View::of(&deliveries, &self.style).going_on(before.as_ref(), batch.was_held(), &self.style);
            let identity = Identity::of(&self.name, &deliveries, before.as_ref(), self.from.email.domain());
            let id = identity.id.clone();
            let told = match self.write(&view, identity, &to) {
                Ok(mail) => self.tell(&mail, &to).await,
                Err(failure) => Err(Failed::Never(failure)),
            };
            let outcome = match told {
                Ok(receipt) => {
                    incident = Incident::after(incident.as_ref(), &deliveries, 1, &id, &self.style);
                    Outcome::Delivered(receipt)
                }
                Err(Failed::Away(reason)) => {
                    report = report.and_unavailable(Unavailable::new(reason));
                    break;
                }
                Err(Failed::Later(failure)) => Outcome::Retry(failure),
                Err(Failed::Never(failure)) => Outcome::Reject(failure),
            };
            indexes.iter().for_each(|&index| report.set(index, outcome.clone()));
        }
        match incident.filter(|_| batch.first().push.facts().origin != Origin::Alert) {
            Some(incident) => report.with_memo(incident.memo()),
            None => report,
        }
    }

    /// Tells those who were told of an incident that it is over. One call was no incident: it needs no end.
    async fn close(&self, _partition: &Partition, memo: &[u8]) -> Outcome {
        let incident = Incident::read(memo).filter(|incident| self.send_resolved && incident.told > 1);
        let Some(incident) = incident else { return Outcome::Delivered(Receipt::new("needs no mail")) };
        let to = self.recipients(&incident.routes.iter().cloned().collect::<Vec<_>>());
        let to: Vec<Mailbox> = to.into_iter().cloned().collect();
        let view = View::over(&incident, self.resolve_after, &self.style);
        let identity = Identity::of_end(&self.name, &incident, self.from.email.domain());
        let told = match self.write(&view, identity, &to) {
            Ok(mail) => self.tell(&mail, &to).await,
            Err(failure) => Err(Failed::Never(failure)),
        };
        match told {
            Ok(receipt) => Outcome::Delivered(receipt),
            Err(Failed::Away(reason)) => Outcome::Retry(Failure::new(reason)),
            Err(Failed::Later(failure)) => Outcome::Retry(failure),
            Err(Failed::Never(failure)) => Outcome::Reject(failure),
        }
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
