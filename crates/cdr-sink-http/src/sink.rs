//! One attempt: a request, its answer, and what that means.

use std::time::Duration;

use cdr_core::{Batch, Failure, Outcome, Push, Report, Sink, Unavailable};

use crate::{
    Success,
    answer::Answer,
    connect::{NoAnswer, Receiver},
    request::RequestTemplate,
};

/// Sends each push to one receiver over HTTP/1.1.
pub struct HttpSink {
    receiver: Receiver,
    template: RequestTemplate,
    timeout: Duration,
    success: Success,
}

impl HttpSink {
    pub(crate) fn new(
        receiver: Receiver,
        template: RequestTemplate,
        timeout: Duration,
        success: Success,
    ) -> Self {
        Self { receiver, template, timeout, success }
    }

    /// `Err` when the receiver takes nothing at present, whatever the push.
    async fn attempt(&self, push: &Push) -> Result<Outcome, Unavailable> {
        let request = self.template.fill(push);
        let (response, connection) = match self.receiver.send(request).await {
            Ok(answered) => answered,
            Err(NoAnswer::Broken(reason)) => return Ok(Outcome::Retry(Failure::new(reason))),
            Err(NoAnswer::NotConnected(reason)) => return Err(Unavailable::new(reason)),
        };
        let answer = Answer::read(response).await;
        if answer.is_whole() {
            self.receiver.give_back(connection);
        }
        answer.judge(self.success)
    }
}

impl Sink for HttpSink {
    /// The batch holds one push: [`Batching::single`](cdr_core::Batching::single) is the default.
    async fn deliver(&self, batch: &Batch) -> Report {
        let attempt = self.attempt(&batch.first().push);
        let late = || {
            let origin = self.receiver.origin();
            Ok(Outcome::Retry(Failure::new(format!(
                "no whole answer from {origin} within {:?}",
                self.timeout
            ))))
        };
        match tokio::time::timeout(self.timeout, attempt).await.unwrap_or_else(|_| late()) {
            Err(away) => Report::unavailable(batch, away),
            Ok(outcome) => {
                let mut report = Report::untried(batch);
                report.set(0, outcome);
                report
            }
        }
    }

    fn describe(&self) -> String {
        format!("sends each push to {} by {}", self.receiver.origin(), self.template.method())
    }

    async fn probe(&self) -> Result<(), String> {
        self.receiver.probe().await
    }
}
