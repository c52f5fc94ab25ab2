//! One attempt: the requests that a push leads to, one after the other, and what their answers mean for it.

use std::{sync::OnceLock, time::Duration};

use cdr_core::{Batch, Batching, Delivery, Failure, Outcome, Preview, Report, Sink, SinkName, Unavailable};
use cdr_expression::{Expression, Variables};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::{
    bundle,
    bundle::Bundling,
    preview,
    step::{Attempt, Step},
    template::as_text,
    turns,
    wire::Wire,
};

/// Sends each push to one receiver.
pub struct HttpSink {
    pub(crate) name: SinkName,
    pub(crate) wire: Wire,
    /// At least one; the last is the delivery.
    pub(crate) steps: Vec<Step>,
    /// What expressions may name beside the fields of a push, before the first step.
    pub(crate) given: Vec<(String, Value)>,
    /// Whose pushes take turns.
    pub(crate) lock: Option<Expression>,
    /// Whether many pushes go into one request, and how.
    pub(crate) bundling: Option<Bundling>,
    pub(crate) timeout: Duration,
    /// When it made its first attempt.
    pub(crate) since: OnceLock<Timestamp>,
}

impl HttpSink {
    /// What expressions may name, before the first step.
    pub(crate) fn variables<'d>(&self, delivery: &'d Delivery) -> Variables<'d> {
        let mut variables = Variables::of(&delivery.push);
        for (name, value) in &self.given {
            variables.set(name.clone(), value.clone());
        }
        variables
    }

    /// The delivery.
    pub(crate) fn last(&self) -> &Step {
        &self.steps[self.steps.len() - 1]
    }

    async fn outcome(&self, delivery: &Delivery) -> Result<Outcome, Unavailable> {
        let mut variables = self.variables(delivery);
        // It is a push without a customer that has no key; it waits for nobody.
        let key = self.lock.as_ref().and_then(|lock| lock.give(&variables).ok()).and_then(as_text);
        let _turn = match key.filter(|key| !key.is_empty()) {
            Some(key) => Some(turns::turn(&self.name, key).await),
            None => None,
        };
        let deadline = Instant::now() + self.timeout;
        let attempt = self.attempt(delivery, &mut variables, deadline);
        timeout_at(deadline, attempt).await.unwrap_or_else(|_| {
            let origin = self.wire.receiver.origin();
            let reason = format!("no whole answer from {origin} within {:?}", self.timeout);
            Ok(Outcome::Retry(Failure::new(reason)))
        })
    }

    /// `Err` when the receiver takes nothing at present, whatever the push.
    async fn attempt(
        &self,
        delivery: &Delivery,
        variables: &mut Variables<'_>,
        deadline: Instant,
    ) -> Result<Outcome, Unavailable> {
        let attempt = Attempt { wire: &self.wire, delivery, in_doubt: self.in_doubt(delivery), deadline };
        let mut outcome = Ok(Outcome::Untried);
        for step in &self.steps {
            outcome = step.run(&attempt, variables).await;
            if !matches!(outcome, Ok(Outcome::Delivered(_))) {
                break;
            }
        }
        outcome
    }

    /// Whether this push may have been sent before: by what its lane knows, or by the process before this one, which may have
    /// ended between the receiver's storing and our noting.
    fn in_doubt(&self, delivery: &Delivery) -> bool {
        let since = self.since.get_or_init(Timestamp::now);
        delivery.may_be_there || delivery.push.facts().received_at < *since
    }
}

impl Sink for HttpSink {
    fn batching(&self) -> Batching {
        self.bundling.map_or(Batching::single(), |bundling| bundling.batching)
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        if let Some(bundling) = self.bundling {
            return bundle::deliver(self, bundling.format, batch).await;
        }
        // The batch holds one push.
        match self.outcome(batch.first()).await {
            Err(away) => Report::unavailable(batch, away),
            Ok(outcome) => {
                let mut report = Report::untried(batch);
                report.set(0, outcome);
                report
            }
        }
    }

    fn preview(&self, batch: &Batch) -> Preview {
        preview::of(self, batch.first())
    }

    fn describe(&self) -> String {
        let origin = self.wire.receiver.origin();
        match self.steps.as_slice() {
            [only] => format!("sends each push to {origin} by {}", only.request.method),
            steps => {
                let names: Vec<&str> = steps.iter().filter_map(|step| step.name.as_deref()).collect();
                format!("sends each push to {origin} in {} steps: {}", steps.len(), names.join(", "))
            }
        }
    }

    async fn probe(&self) -> Result<(), String> {
        self.wire.receiver.probe().await
    }
}
