//! Quarantine by the admin listener: what a person decides.

use std::sync::Arc;

use cdr_dispatch::quarantine::Retried;
use hyper::{Request, StatusCode, body::Incoming};
use serde_json::json;

use super::{Answer, json_answer, not_decided, positions};
use crate::engine::Engine;

pub(super) async fn retry(engine: &Arc<Engine>, request: Request<Incoming>) -> Answer {
    let numbers = match positions(request).await {
        Ok(numbers) => numbers,
        Err(answer) => return answer,
    };
    let mut retried = Vec::with_capacity(numbers.len());
    for number in numbers {
        let told = match engine.dispatcher.retry_quarantine(number).await {
            Ok(Retried::Stored(stored)) => {
                json!({ "number": number, "push": stored.position, "repeat": stored.repeat })
            }
            Ok(Retried::Still(reason)) => json!({ "number": number, "still": reason }),
            Ok(Retried::Absent) => json!({ "number": number }),
            // What was retried before stays so, and is told; the next ones would fail as well.
            Err(error) => {
                let answer = json!({ "retried": retried, "message": format!("number {number}: {error}") });
                return json_answer(StatusCode::SERVICE_UNAVAILABLE, &answer);
            }
        };
        retried.push(told);
    }
    json_answer(StatusCode::OK, &json!({ "retried": retried }))
}

pub(super) async fn discard(engine: &Arc<Engine>, request: Request<Incoming>) -> Answer {
    let numbers = match positions(request).await {
        Ok(numbers) => numbers,
        Err(answer) => return answer,
    };
    match engine.dispatcher.discard_quarantine(&numbers).await {
        Ok(done) => json_answer(StatusCode::OK, &json!({ "positions": done })),
        Err(error) => not_decided(&error),
    }
}
