//! One run of the suite: a sink driven as a lane drives it, and what was found.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use cdr_core::{Batch, Delivery, Outcome, Partition, Push, Report, registry::AnySink};
use futures_util::FutureExt;

use crate::{Suite, pushes::NUMBER};

/// A run, and what it found.
pub(crate) struct Run<'s> {
    pub suite: &'s Suite,
    pub sink: Arc<dyn AnySink>,
    pub breaches: Vec<String>,
}

/// How a batch comes.
#[derive(Clone, Copy)]
pub(crate) struct As {
    pub attempt: u32,
    pub replay: bool,
}

/// As it comes first.
pub(crate) const FIRST: As = As { attempt: 1, replay: false };

impl<'s> Run<'s> {
    pub fn new(suite: &'s Suite) -> Self {
        Self { suite, sink: (suite.sink)(), breaches: Vec::new() }
    }

    pub fn breach(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.breaches.contains(&what) {
            self.breaches.push(what);
        }
    }

    /// Gathers pushes into sealed batches, as a lane would.
    pub fn gathered(&self, pushes: &[Arc<Push>], how: As) -> Vec<Batch> {
        let batching = self.sink.batching();
        let mut open: BTreeMap<Partition, Vec<Vec<Delivery>>> = BTreeMap::new();
        for push in pushes {
            let As { attempt, replay } = how;
            let routes = Arc::from(["conformance".to_owned()]);
            let may_be_there = attempt > 1 || replay;
            let delivery = Delivery { push: Arc::clone(push), routes, attempt, replay, may_be_there };
            let size = |batch: &[Delivery]| batch.iter().map(|d| d.push.body().len()).sum::<usize>();
            let batches = open.entry(self.sink.partition(push)).or_default();
            match batches.last_mut() {
                Some(last)
                    if last.len() < batching.pushes && size(last) + push.body().len() <= batching.bytes =>
                {
                    last.push(delivery);
                }
                _ => batches.push(vec![delivery]),
            }
        }
        let batches = open.into_values().flatten().filter_map(Batch::new);
        batches.map(|batch| self.sealed(batch)).collect()
    }

    fn sealed(&self, batch: Batch) -> Batch {
        match self.sink.seal(&batch) {
            Some(seal) => batch.sealed(seal),
            None => batch,
        }
    }

    /// Makes one attempt and looks at the form of its report; none if it did not come back.
    pub async fn attempt(&mut self, sink: &dyn AnySink, batch: &Batch, what: &str) -> Option<Report> {
        let delivering = AssertUnwindSafe(sink.deliver(batch)).catch_unwind();
        let report = match tokio::time::timeout(self.suite.patience, delivering).await {
            Ok(Ok(report)) => report,
            Ok(Err(_)) => {
                self.breach(format!("{what}: deliver panicked"));
                return None;
            }
            Err(_) => {
                let patience = self.suite.patience.as_secs_f64();
                self.breach(format!(
                    "{what}: deliver did not come back within {patience} s; give it a timeout"
                ));
                return None;
            }
        };
        self.look_at(&report, batch, what);
        Some(report)
    }

    fn look_at(&mut self, report: &Report, batch: &Batch, what: &str) {
        let (outcomes, pushes) = (report.outcomes(), batch.deliveries().len());
        if outcomes.len() != pushes {
            let count = outcomes.len();
            self.breach(format!("{what}: a report of {count} outcomes for {pushes} pushes"));
        }
        let is_mixed = outcomes.windows(2).any(|two| kind(&two[0]) != kind(&two[1]));
        if batch.seal().is_some() && is_mixed {
            self.breach(format!("{what}: different outcomes within a sealed batch, which is all or nothing"));
        }
        if outcomes.contains(&Outcome::Untried) && report.why_unavailable().is_none() {
            self.breach(format!("{what}: Untried without Unavailable beside it does not say why"));
        }
        for outcome in outcomes {
            match outcome {
                Outcome::Delivered(receipt) => self.text("a receipt", &receipt.0, true),
                Outcome::Retry(failure) | Outcome::Reject(failure) => {
                    self.text("a reason", &failure.reason, true);
                    self.text("an excerpt", &failure.excerpt, false);
                }
                Outcome::Untried => {}
            }
        }
        if let Some(away) = report.why_unavailable() {
            self.text("a reason", &away.reason, true);
        }
    }

    /// Looks at a text that goes to logs, or to operators alone.
    pub fn text(&mut self, what: &str, text: &str, goes_to_logs: bool) {
        // Which one is told, and not the secret itself.
        for (index, secret) in self.suite.secrets.iter().enumerate() {
            if text.contains(secret.as_str()) {
                self.breach(format!("{what} holds secret {}", index + 1));
            }
        }
        if goes_to_logs && text.contains(NUMBER) {
            self.breach(format!("{what} holds a phone number: {text}"));
        }
    }

    /// Makes an attempt that must deliver all of it.
    pub async fn deliver(&mut self, batch: &Batch, what: &str) {
        let sink = Arc::clone(&self.sink);
        let Some(report) = self.attempt(sink.as_ref(), batch, what).await else { return };
        let missed = report.outcomes().iter().find(|outcome| !matches!(outcome, Outcome::Delivered(_)));
        if let Some(missed) = missed {
            let away = report.why_unavailable();
            self.breach(format!("{what}: not delivered: {missed:?} {away:?}"));
        }
    }

    /// Begins an attempt and cuts it off at its await of this number, from 1; false if it was over before.
    pub async fn cut_off_at(&mut self, batch: &Batch, wait: usize) -> bool {
        let sink = Arc::clone(&self.sink);
        let mut delivering = pin!(AssertUnwindSafe(sink.deliver(batch)).catch_unwind());
        let mut left = wait;
        let until_cut = poll_fn(|context| match delivering.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending => {
                left -= 1;
                if left == 0 { Poll::Ready(true) } else { Poll::Pending }
            }
        });
        tokio::time::timeout(self.suite.patience, until_cut).await.unwrap_or(false)
    }

    /// What the receiver holds; nothing if nobody can look.
    pub fn held(&self) -> BTreeMap<String, Vec<u8>> {
        self.suite.holding.as_ref().map(|holding| holding()).unwrap_or_default()
    }
}

/// Of which kind an outcome is.
pub(crate) fn kind(outcome: &Outcome) -> std::mem::Discriminant<Outcome> {
    std::mem::discriminant(outcome)
}
