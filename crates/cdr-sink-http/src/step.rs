//! One request for a push, its answer, and what that means.

use cdr_core::{Delivery, Failure, Outcome, Receipt, Unavailable};
use cdr_expression::{Expression, Variables};
use tokio::time::Instant;

use crate::{
    answer::{Answer, Rules},
    request::{RequestTemplate, Unmade},
    wire::{Unanswered, Wire},
};

/// An attempt on a push.
pub(crate) struct Attempt<'a> {
    pub wire: &'a Wire,
    pub delivery: &'a Delivery,
    /// Whether the push may have been sent before.
    pub in_doubt: bool,
    pub deadline: Instant,
}

/// A request that a push leads to.
#[derive(Debug)]
pub(crate) struct Step {
    /// What receipts and failures call it; none of a sink's only one.
    pub name: Option<String>,
    pub when: Option<Expression>,
    /// What earlier steps must have taken.
    pub needs: Vec<String>,
    pub find: Option<Find>,
    pub request: RequestTemplate,
    pub rules: Rules,
}

/// How to ask whether the receiver has a push already.
#[derive(Debug)]
pub(crate) struct Find {
    pub request: RequestTemplate,
    pub found: Expression,
}

impl Step {
    /// Sends it, unless there is nothing to do; what it takes from the answer goes to the variables. `Err` when the receiver
    /// takes nothing at present, whatever the push.
    pub async fn run(
        &self,
        attempt: &Attempt<'_>,
        variables: &mut Variables<'_>,
    ) -> Result<Outcome, Unavailable> {
        let outcome = self.outcome(attempt, variables).await;
        match &self.name {
            None => outcome,
            Some(name) => named(name, outcome),
        }
    }

    async fn outcome(
        &self,
        attempt: &Attempt<'_>,
        variables: &mut Variables<'_>,
    ) -> Result<Outcome, Unavailable> {
        match self.when.as_ref().map(|when| when.holds(variables)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => return Ok(delivered("not sent, its when does not hold")),
            Some(Err(error)) => return Ok(reject(format!("its when has no answer: {error}"))),
        }
        if let Some(missing) = self.needs.iter().find(|name| variables.is_null(name)) {
            return Ok(retry(format!("no earlier step took {missing}")));
        }
        if let Some(find) = self.find.as_ref().filter(|_| attempt.in_doubt) {
            match find.ask(attempt, variables).await? {
                None => {}
                Some(outcome) => return Ok(outcome),
            }
        }
        match exchange(attempt, &self.request, variables, self.rules.look()).await? {
            Err(outcome) => Ok(outcome),
            Ok(answer) => self.rules.judge(&answer, variables),
        }
    }
}

impl Find {
    /// The outcome when there is one: it is there, or it cannot be told.
    async fn ask(
        &self,
        attempt: &Attempt<'_>,
        variables: &mut Variables<'_>,
    ) -> Result<Option<Outcome>, Unavailable> {
        let answer = match exchange(attempt, &self.request, variables, true).await? {
            Err(outcome) => return Ok(Some(in_find(outcome))),
            Ok(answer) => answer,
        };
        answer.show(variables);
        // An error page has a size, too: only a whole answer of success says what is there.
        let tells = answer.status().is_success() && answer.is_whole();
        match self.found.holds(variables) {
            Ok(true) if tells => return Ok(Some(delivered("stored by an earlier attempt"))),
            // Such as that somebody has to log in: what is stored is not known.
            Err(_) if tells && answer.is_no_json() => {
                return Ok(Some(Outcome::Retry(prefixed("find", answer.failure(" with what is no JSON")))));
            }
            _ => {}
        }
        // Many receivers say so of what is not there.
        if answer.status() == http::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        match Rules::default().judge(&answer, variables)? {
            Outcome::Delivered(_) if answer.is_whole() => Ok(None),
            Outcome::Delivered(_) => Ok(Some(retry("find: the answer did not come to its end".to_owned()))),
            other => Ok(Some(in_find(other))),
        }
    }
}

/// Sends a request and reads its answer; an outcome when there is none.
async fn exchange(
    attempt: &Attempt<'_>,
    request: &RequestTemplate,
    variables: &Variables<'_>,
    looked_into: bool,
) -> Result<Result<Answer, Outcome>, Unavailable> {
    let request = match request.fill(attempt.delivery, variables) {
        Ok(request) => request,
        Err(Unmade::Never(reason)) => return Ok(Err(reject(reason))),
        Err(Unmade::NotNow(reason)) => return Ok(Err(retry(reason))),
    };
    match attempt.wire.ask(request, looked_into, attempt.deadline).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(Unanswered::Broken(reason)) => Ok(Err(retry(reason))),
        Err(Unanswered::Away(away)) => Err(away),
    }
}

fn delivered(how: &str) -> Outcome {
    Outcome::Delivered(Receipt::new(how))
}

fn retry(reason: String) -> Outcome {
    Outcome::Retry(Failure::new(reason))
}

fn reject(reason: String) -> Outcome {
    Outcome::Reject(Failure::new(reason))
}

fn in_find(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Retry(failure) => Outcome::Retry(prefixed("find", failure)),
        Outcome::Reject(failure) => Outcome::Reject(prefixed("find", failure)),
        other => other,
    }
}

/// The same, told with the name of its step.
fn named(name: &str, outcome: Result<Outcome, Unavailable>) -> Result<Outcome, Unavailable> {
    match outcome {
        Ok(Outcome::Delivered(Receipt(how))) => Ok(delivered(&format!("{name}: {how}"))),
        Ok(Outcome::Retry(failure)) => Ok(Outcome::Retry(prefixed(name, failure))),
        Ok(Outcome::Reject(failure)) => Ok(Outcome::Reject(prefixed(name, failure))),
        Ok(Outcome::Untried) => Ok(Outcome::Untried),
        Err(away) => Err(Unavailable { reason: format!("{name}: {}", away.reason), ..away }),
    }
}

fn prefixed(name: &str, failure: Failure) -> Failure {
    Failure { reason: format!("{name}: {}", failure.reason), ..failure }
}
