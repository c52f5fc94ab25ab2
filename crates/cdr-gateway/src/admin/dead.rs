//! Dead letters by the admin listener: a page of them, and what a person decides.

use std::sync::Arc;

use cdr_core::Position;
use cdr_expression::Expression;
use hyper::{Request, StatusCode, body::Incoming};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, body, json_answer, not_decided, positions, told};
use crate::{
    dead::{self, Which},
    engine::Engine,
};

/// What `find` asks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Find {
    /// Behind which push to begin; 0 for the first page.
    #[serde(default = "beginning")]
    after: Position,
    #[serde(default)]
    which: Which,
}

fn beginning() -> Position {
    Position(0)
}

pub(super) async fn find(engine: &Arc<Engine>, sink: &str, request: Request<Incoming>) -> Answer {
    let Find { after, which } = match body(request, "{\"after\":0,\"which\":{…}}").await {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    let condition = which.condition.as_deref().map(Expression::compile).transpose();
    let condition = match condition {
        Ok(condition) => condition,
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(|fault| format!("where: {fault}")).collect();
            return told(StatusCode::BAD_REQUEST, &faults.join("; "));
        }
    };
    match dead::find(&engine.dispatcher, sink, after, &which, condition.as_ref()).await {
        Ok(page) => json_answer(StatusCode::OK, &json!(page)),
        Err(error) => told(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

pub(super) async fn decide(
    engine: &Arc<Engine>,
    sink: &str,
    verb: &str,
    request: Request<Incoming>,
) -> Answer {
    let positions = match positions(request).await {
        Ok(positions) => positions,
        Err(answer) => return answer,
    };
    let done = match verb {
        "retry" => engine.dispatcher.retry_dead(sink, &positions).await,
        _ => engine.dispatcher.discard_dead(sink, &positions).await,
    };
    match done {
        Ok(done) => {
            let parked = engine.dispatcher.parked().iter().any(|lane| lane.name == sink);
            json_answer(StatusCode::OK, &json!({ "positions": done, "parked": parked }))
        }
        Err(error) => not_decided(&error),
    }
}
