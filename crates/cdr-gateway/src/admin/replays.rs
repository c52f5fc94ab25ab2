//! Temporary lanes for whoever asks: replays, and what renamed sinks left.

use std::sync::Arc;

use cdr_dispatch::{Errand, ErrandNow, ErrandState, ReplayError, Wish};
use hyper::{Request, StatusCode, body::Incoming};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, body, json_answer, not_decided, told};
use crate::engine::Engine;

#[derive(Deserialize)]
struct Begin {
    sink: String,
    #[serde(flatten)]
    wish: Wish,
}

pub(super) async fn begin(engine: &Arc<Engine>, request: Request<Incoming>) -> Answer {
    let expected = r#"{"sink":"crm","from":time,"to":time,"where":expression,"rate":"10/s"}, all but sink may be absent"#;
    let Begin { sink, wish } = match body(request, expected).await {
        Ok(begin) => begin,
        Err(answer) => return answer,
    };
    match engine.dispatcher.begin_replay(&sink, wish).await {
        Ok(number) => json_answer(StatusCode::OK, &json!({ "replay": number })),
        Err(error) => refused(&error),
    }
}

pub(super) async fn cancel(engine: &Arc<Engine>, number: &str) -> Answer {
    let Ok(number) = number.parse() else {
        return told(StatusCode::BAD_REQUEST, "expected the number of a replay");
    };
    match engine.dispatcher.cancel_replay(number).await {
        Ok(cancelled) => json_answer(StatusCode::OK, &as_json(&cancelled)),
        Err(error) => refused(&error),
    }
}

fn refused(error: &ReplayError) -> Answer {
    let status = match error {
        ReplayError::Spool(error) => return not_decided(error),
        ReplayError::UnknownSink { .. } | ReplayError::Unknown(_) => StatusCode::NOT_FOUND,
        ReplayError::Condition(_) | ReplayError::NoTime { .. } => StatusCode::BAD_REQUEST,
        ReplayError::Seals | ReplayError::Many => StatusCode::CONFLICT,
        ReplayError::Ending(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    told(status, &error.to_string())
}

/// The replays, those under way first.
pub(super) fn list(engine: &Arc<Engine>) -> Value {
    let errands = engine.dispatcher.errands().into_iter();
    let is_replay = |errand: &ErrandNow| !errand.errand.as_deref().is_some_and(Errand::is_owed);
    json!({ "replays": errands.filter(is_replay).map(|replay| as_json(&replay)).collect::<Vec<_>>() })
}

fn as_json(replay: &ErrandNow) -> Value {
    let did = replay.did.as_ref();
    let (state, why) = state(replay);
    let mut value = json!({
        "replay": replay.id(), "lane": replay.lane, "sink": replay.sink, "state": state, "why": why,
        "read": replay.next.0.saturating_sub(replay.began.0), "of": replay.until.0.saturating_sub(replay.began.0),
        "open": replay.open, "dead": replay.dead,
        "delivered": did.map(|lane| lane.delivered), "failed": did.map(|lane| lane.failed),
    });
    if let Some(wanted) = replay.replay() {
        value["started_at"] = json!(wanted.started_at);
        value["wish"] = json!(wanted.wish());
    }
    value
}

/// In a word, and why if it does not go on.
fn state(errand: &ErrandNow) -> (&'static str, Option<String>) {
    let paused = || errand.did.as_ref().and_then(|lane| lane.now.paused.as_ref());
    match &errand.state {
        ErrandState::Runs => match paused() {
            Some(paused) => ("away", Some(paused.reason.clone())),
            None => ("runs", None),
        },
        ErrandState::Rests => ("rests", None),
        ErrandState::Parked(why) => ("parked", Some(why.clone())),
        ErrandState::Ending => {
            ("ending", Some("it was cancelled, and is over when its sink and the disk let it".to_owned()))
        }
        ErrandState::Ended => ("over", None),
        ErrandState::Cancelled => ("cancelled", None),
    }
}

/// An errand as a lane beside that of its sink, also one that nobody has begun to run; none for one that is over, or that is
/// shown as parked.
pub(super) fn as_lane(errand: &ErrandNow) -> Option<Value> {
    if !errand.is_under_way() || matches!(errand.state, ErrandState::Parked(_)) {
        return None;
    }
    let lane = errand.did.clone().unwrap_or_default();
    let by = match errand.errand.as_deref() {
        Some(Errand::HandedOver { by }) => Some(by),
        _ => None,
    };
    let is_aside = matches!(errand.errand.as_deref(), Some(Errand::SetAside));
    let set_aside_of = is_aside.then_some(&errand.sink);
    let now_ms = Timestamp::now().as_millisecond();
    let oldest = lane.now.oldest_received_at_ms.map(|ms| (now_ms - ms).max(0) as f64 / 1e3);
    let paused = lane.now.paused.as_ref();
    let paused = paused.map(|paused| json!({ "since": paused.since, "reason": paused.reason }));
    Some(json!({
        "sink": errand.lane, "handed_over_by": by, "set_aside_of": set_aside_of, "paused": paused, "unread": errand.unread(), "open": errand.open,
        "waiting": lane.now.waiting, "trying": lane.now.trying, "delivered": lane.delivered, "failed": lane.failed,
        "dead": lane.died, "last_failure": lane.now.last_failure, "oldest_undelivered_s": oldest,
    }))
}
