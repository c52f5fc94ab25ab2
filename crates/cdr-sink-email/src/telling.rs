//! One attempt on a batch: a mail for each group of recipients, and for those who lack one of an attempt before.

use std::{collections::HashSet, sync::Arc, time::Duration};

use cdr_core::{Batch, Delivery, Failure, Origin, Outcome, Receipt, Report, Unavailable};
use tokio::time::timeout_at;

use crate::{
    EmailSink, Recipient, Way,
    attempt::Attempt,
    incident::Incident,
    letter::{View, Written},
    mail::{Identity, Mail},
    owed::{About, Owed},
    smtp::{self, Accepted, Failed, Refused, Server},
};

/// Which of a batch's deliveries.
type Indexes = Vec<usize>;

/// A mail that is in somebody's hands.
struct Told {
    receipt: Receipt,
    /// Who was put off, and lacks it.
    lacking: Vec<Recipient>,
    /// The same in words.
    put_off: String,
}

impl Told {
    /// It is not settled while somebody lacks it.
    fn outcome(&self) -> Outcome {
        match self.lacking.is_empty() {
            true => Outcome::Delivered(self.receipt.clone()),
            false => Outcome::Retry(Failure::new(self.put_off.clone()).alone()),
        }
    }
}

/// How far an attempt got.
struct Progress {
    report: Report,
    incident: Option<Incident>,
    /// Whether somebody was told something new.
    left: bool,
    /// What nobody was told, since none of its recipients is one, and why.
    to_nobody: Vec<(Indexes, String)>,
}

impl EmailSink {
    pub(crate) async fn tell_batch(&self, batch: &Batch) -> Report {
        let before = Incident::before(batch);
        let mut progress = Progress {
            report: Report::untried(batch),
            incident: before.clone(),
            left: false,
            to_nobody: Vec::new(),
        };
        let mut away = self.tell_each(batch, before.as_ref(), &mut progress).await.err();
        let Progress { mut report, incident, left, to_nobody } = progress;
        let is_delivered = |outcome: &Outcome| matches!(outcome, Outcome::Delivered(_));
        let takes_others = left || report.outcomes().iter().any(is_delivered);
        for (indexes, reason) in to_nobody {
            // A server that takes mails for others is there; else `to` is as wrong as a password.
            match takes_others {
                true => set(&mut report, &indexes, &Outcome::Retry(Failure::new(reason).alone())),
                false => away = away.or(Some(reason)),
            }
        }
        if let Some(reason) = away {
            report = report.and_unavailable(Unavailable::new(reason));
        }
        match incident.filter(|_| left && batch.first().push.facts().origin != Origin::Alert) {
            Some(incident) => report.with_memo(incident.memo()),
            None => report,
        }
    }

    /// First what nobody was told. The error says why the sink is away; what comes after it is not tried.
    async fn tell_each(
        &self,
        batch: &Batch,
        before: Option<&Incident>,
        progress: &mut Progress,
    ) -> Result<(), String> {
        let attempt = Attempt::begin();
        let (owed, fresh) = self.owed_and_fresh(batch);
        for (recipients, indexes) in self.groups(batch, &fresh) {
            if !self.has_time(attempt) {
                return Ok(());
            }
            let deliveries: Vec<Delivery> = indexes.iter().map(|&i| batch.deliveries()[i].clone()).collect();
            let to: Vec<Recipient> = recipients.into_iter().cloned().collect();
            let view = View::of(&deliveries, &self.style).going_on(before, batch.was_held(), &self.style);
            let identity = Identity::of(&self.name, &deliveries, before, self.from.email.domain());
            let id = identity.id.clone();
            let about = || deliveries.iter().map(About::of).collect();
            let outcome = match self.tell_all(attempt, &view, identity, &to, about).await {
                Ok(outcome) => {
                    let known = progress.incident.as_ref();
                    progress.incident = Incident::after(known, &deliveries, 1, &id, &self.style);
                    progress.left = true;
                    outcome
                }
                Err(Failed::Away(reason)) => return Err(reason),
                Err(Failed::Nobody(reason)) => {
                    progress.to_nobody.push((indexes, reason));
                    continue;
                }
                Err(Failed::Later(failure)) => Outcome::Retry(failure),
                Err(Failed::Never(failure)) => Outcome::Reject(failure),
            };
            set(&mut progress.report, &indexes, &outcome);
        }
        for (owed, indexes) in owed {
            let outcome = self.tell_rest(attempt, &owed).await?;
            if matches!(outcome, Outcome::Delivered(_)) {
                indexes.iter().for_each(|&i| self.owed.settle(&About::of(&batch.deliveries()[i])));
            }
            set(&mut progress.report, &indexes, &outcome);
        }
        Ok(())
    }

    /// Tells those who were told of an incident that it is over. One call was no incident: it needs no end.
    pub(crate) async fn tell_end(&self, memo: &[u8]) -> Outcome {
        let incident = Incident::read(memo).filter(|incident| self.send_resolved && incident.told > 1);
        let Some(incident) = incident else { return Outcome::Delivered(Receipt::new("needs no mail")) };
        let identity = Identity::of_end(&self.name, &incident, self.from.email.domain());
        let about = About::End(identity.id.clone());
        let attempt = Attempt::begin();
        let told = match self.owed.about(&about) {
            Some(owed) => self.tell_rest(attempt, &owed).await.map_err(Failed::Away),
            None => {
                let to = self.recipients(&incident.routes.iter().cloned().collect::<Vec<_>>());
                let to: Vec<Recipient> = to.into_iter().cloned().collect();
                let view = View::over(&incident, self.resolve_after, &self.style);
                self.tell_all(attempt, &view, identity, &to, || HashSet::from([about.clone()])).await
            }
        };
        match told {
            Ok(outcome) => {
                if matches!(outcome, Outcome::Delivered(_)) {
                    self.owed.settle(&about);
                }
                outcome
            }
            Err(Failed::Away(reason) | Failed::Nobody(reason)) => Outcome::Retry(Failure::new(reason)),
            Err(Failed::Later(failure)) => Outcome::Retry(failure),
            Err(Failed::Never(failure)) => Outcome::Reject(failure),
        }
    }

    /// Sends a new mail; it is kept while somebody lacks it.
    async fn tell_all(
        &self,
        attempt: Attempt,
        view: &View,
        identity: Identity,
        to: &[Recipient],
        about: impl FnOnce() -> HashSet<About>,
    ) -> Result<Outcome, Failed> {
        let mail = self.write(view, identity, to).map_err(Failed::Never)?;
        let told = match &self.way {
            Way::Smtp(server) => self.send(attempt, server, &mail, to).await?,
            Way::Outbox(outbox) => {
                let receipt = outbox.keep(&mail).await.map(Receipt::new).map_err(Failed::Away)?;
                Told { receipt, lacking: Vec::new(), put_off: String::new() }
            }
        };
        let outcome = told.outcome();
        if !told.lacking.is_empty() {
            self.owed.keep(mail, told.lacking, about());
        }
        Ok(outcome)
    }

    /// Sends a mail to those who lack it. Whoever is refused for good is told of in the log and the receipt: the others have it.
    async fn tell_rest(&self, attempt: Attempt, owed: &Owed) -> Result<Outcome, String> {
        // Another attempt may be sending it for as long as it likes.
        let Ok(mut lacking) = timeout_at(attempt.end(), owed.lacking.lock()).await else {
            return Ok(Outcome::Untried);
        };
        let Way::Smtp(server) = &self.way else { return Ok(Outcome::Untried) };
        if lacking.is_empty() {
            return Ok(Outcome::Delivered(Receipt::new(owed.mail.id.clone())));
        }
        if !self.has_time(attempt) {
            return Ok(Outcome::Untried);
        }
        let reason = match self.send(attempt, server, &owed.mail, &lacking).await {
            Ok(told) => {
                let outcome = told.outcome();
                *lacking = told.lacking;
                return Ok(outcome);
            }
            Err(Failed::Away(reason)) => return Err(reason),
            Err(Failed::Later(failure)) => return Ok(Outcome::Retry(failure.alone())),
            Err(Failed::Nobody(reason)) => reason,
            Err(Failed::Never(failure)) => failure.reason,
        };
        lacking.clear();
        tracing::warn!(sink = %self.name, reason, "a recipient of a mail that the others have was put off, and is refused now; check `to` of this sink");
        Ok(Outcome::Delivered(Receipt::new(format!("{}; {reason}", owed.mail.id))))
    }

    async fn send(
        &self,
        attempt: Attempt,
        server: &Server,
        mail: &Mail,
        to: &[Recipient],
    ) -> Result<Told, Failed> {
        let sent = server.send(&self.from.email, to, &mail.bytes, attempt.end()).await;
        let Accepted { answer, refused } = sent?;
        let (put_off, refused): (Vec<_>, Vec<_>) = refused.into_iter().partition(Refused::is_put_off);
        let lacking = put_off.iter().filter_map(|refused| to.get(refused.index).cloned()).collect();
        let put_off = smtp::list(&put_off);
        let mut receipt = format!("{} {answer}", mail.id);
        if !refused.is_empty() {
            let refused = smtp::list(&refused);
            tracing::warn!(
                sink = %self.name, refused,
                "the mail server took a mail for the other recipients only; check `to` of this sink"
            );
            receipt += &format!("; refused: {refused}");
        }
        if !put_off.is_empty() {
            tracing::info!(sink = %self.name, put_off, "the mail server took a mail for the other recipients only; these are told later");
        }
        Ok(Told {
            receipt: Receipt::new(receipt),
            lacking,
            put_off: format!("{server} put off {put_off}; the others have the mail"),
        })
    }

    /// Whether another mail may be begun in this attempt.
    fn has_time(&self, attempt: Attempt) -> bool {
        match &self.way {
            Way::Smtp(server) => attempt.has_time(server.timeout),
            Way::Outbox(_) => attempt.has_time(Duration::ZERO),
        }
    }

    fn write(&self, view: &View, identity: Identity, to: &[Recipient]) -> Result<Mail, Failure> {
        let unwritable = |error: String| Failure::new(format!("no mail can be made of it: {error}"));
        let Written { letter, fell_back } =
            self.templates.write(view).map_err(|error| unwritable(format!("{error:#}")))?;
        if let Some(reason) = fell_back {
            tracing::warn!(sink = %self.name, reason, "a template of this sink failed, so the built-in ones wrote the mail; check `templates`");
        }
        Mail::write(&self.name, identity, &letter, &self.from, to)
            .map_err(|error| unwritable(error.to_string()))
    }

    /// Who is to be told of what these routes took, each once.
    fn recipients(&self, routes: &[String]) -> Vec<&Recipient> {
        let of_route = |route: &String| self.to_by_route.get(route).unwrap_or(&self.to);
        let mut recipients: Vec<&Recipient> = Vec::new();
        let all = routes.iter().map(of_route);
        for recipient in all.chain(routes.is_empty().then_some(&self.to)).flatten() {
            if recipients.iter().all(|known| known.mailbox.email != recipient.mailbox.email) {
                recipients.push(recipient);
            }
        }
        recipients
    }

    /// The indexes of a batch's deliveries: those of each mail that somebody lacks, and those that nobody was told.
    fn owed_and_fresh(&self, batch: &Batch) -> (Vec<(Arc<Owed>, Indexes)>, Indexes) {
        let mut owed: Vec<(Arc<Owed>, Indexes)> = Vec::new();
        let mut fresh = Vec::new();
        for (index, delivery) in batch.deliveries().iter().enumerate() {
            let Some(mail) = self.owed.of(delivery) else {
                fresh.push(index);
                continue;
            };
            match owed.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &mail)) {
                Some((_, indexes)) => indexes.push(index),
                None => owed.push((mail, vec![index])),
            }
        }
        (owed, fresh)
    }

    /// Deliveries by those who are to be told: for each group of recipients, their indexes.
    fn groups<'a>(&'a self, batch: &Batch, indexes: &[usize]) -> Vec<(Vec<&'a Recipient>, Indexes)> {
        let mut groups: Vec<(Vec<&Recipient>, Indexes)> = Vec::new();
        for &index in indexes {
            let recipients = self.recipients(&batch.deliveries()[index].routes);
            match groups.iter_mut().find(|(known, _)| *known == recipients) {
                Some((_, indexes)) => indexes.push(index),
                None => groups.push((recipients, vec![index])),
            }
        }
        groups
    }
}

fn set(report: &mut Report, indexes: &[usize], outcome: &Outcome) {
    indexes.iter().for_each(|&index| report.set(index, outcome.clone()));
}
