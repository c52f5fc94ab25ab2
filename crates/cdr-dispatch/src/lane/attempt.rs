//! One attempt, guarded: a sink that hangs or panics costs its own lane one retry and nobody else anything.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use cdr_core::{
    ATTEMPT_DEADLINE, Batch, Batching, Failure, Outcome, Partition, Position, Report, Seal, SinkName,
    Unavailable, registry::AnySink,
};
use cdr_spool::ControlError;
use futures_util::FutureExt;
use tracing::error;

use super::pace::Epoch;
use crate::{store::Store, window::Routed};

/// Why a sink that seals takes no replay: which pushes share an object follows from when they came, so a replay would
/// make other objects, and each push would be there a second time.
pub const NO_REPLAY_INTO_SEALS: &str = "this sink puts many pushes into one object, sealed so that each is there exactly once; a replay would put them there a second time, in other objects. Replay into a sink that keeps each push by itself, such as file with layout: raw in another folder";

/// An attempt that is over.
#[derive(Debug)]
pub struct Attempted {
    /// The partition that its batch was gathered in; none if it was sealed before.
    pub partition: Option<Partition>,
    /// Its pushes, in the order of the report's outcomes.
    pub positions: Vec<Position>,
    /// What they took of memory; see [`weight`].
    pub weight: usize,
    /// When it began, in the lane's epochs.
    pub began: Epoch,
    /// What it is sealed as.
    pub seal: Option<Seal>,
    /// How it went; or why it could not be sealed, and was not made.
    pub went: Result<Report, ControlError>,
}

/// Makes one attempt, under a seal that is durable before it if the sink wants one.
pub async fn attempt(
    sink: Arc<dyn AnySink>,
    store: Arc<Store>,
    lane: Arc<str>,
    partition: Option<Partition>,
    began: Epoch,
    batch: Batch,
) -> Attempted {
    let positions: Vec<Position> = batch.pushes().map(|push| push.position()).collect();
    let weight = weight(&batch);
    let (batch, over) = match wanted_seal(sink.as_ref(), &batch) {
        Ok(None) => (batch, None),
        Ok(Some(_)) if batch.first().replay => {
            let report = Report::unavailable(&batch, Unavailable::new(NO_REPLAY_INTO_SEALS));
            (batch, Some(Ok(report)))
        }
        Ok(Some(seal)) => match store.seal(&lane, &positions, &seal).await {
            Ok(()) => (batch.sealed(seal), None),
            Err(error) => (batch, Some(Err(error))),
        },
        Err(report) => (batch, Some(Ok(report))),
    };
    let went = match over {
        Some(over) => over,
        None => Ok(deliver(sink.as_ref(), &batch).await),
    };
    Attempted { partition, positions, weight, began, seal: batch.seal().cloned(), went }
}

/// Bytes that the pushes of a batch take of memory, roughly.
pub fn weight(batch: &Batch) -> usize {
    batch.pushes().map(|push| Routed::weight(push)).sum()
}

/// How the sink wants its batches; one push at a time if it panicked when asked, for its lane must go on.
pub fn batching(name: &SinkName, sink: &dyn AnySink) -> Batching {
    std::panic::catch_unwind(AssertUnwindSafe(|| sink.batching())).unwrap_or_else(|panic| {
        let reason = message(panic.as_ref());
        error!(sink = %name, reason, "the sink panicked when asked for its batches; it gets one push at a time");
        Batching::single()
    })
}

/// The seal that a batch shall get, if it has none and the sink wants one; a report if the sink panicked.
pub fn wanted_seal(sink: &dyn AnySink, batch: &Batch) -> Result<Option<Seal>, Report> {
    if batch.seal().is_some() {
        return Ok(None);
    }
    std::panic::catch_unwind(AssertUnwindSafe(|| sink.seal(batch))).map_err(|panic| {
        failed(batch, format!("the sink panicked while it sealed a batch: {}", message(panic.as_ref())))
    })
}

/// Lets a sink close a partition, guarded like an attempt.
pub async fn close(sink: &dyn AnySink, partition: &Partition, memo: &[u8]) -> Outcome {
    let closing = AssertUnwindSafe(async { sink.close(partition, memo).await }).catch_unwind();
    let failed = |reason: String| Outcome::Retry(Failure::new(reason));
    match tokio::time::timeout(ATTEMPT_DEADLINE, closing).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => failed(format!("the sink panicked: {}", message(panic.as_ref()))),
        Err(_) => failed(format!("the sink did not come back within {} s", ATTEMPT_DEADLINE.as_secs())),
    }
}

async fn deliver(sink: &dyn AnySink, batch: &Batch) -> Report {
    // Within a future of its own, since a sink may panic before it has made one.
    let delivering = AssertUnwindSafe(async { sink.deliver(batch).await }).catch_unwind();
    match tokio::time::timeout(ATTEMPT_DEADLINE, delivering).await {
        Ok(Ok(report)) => report,
        Ok(Err(panic)) => failed(batch, format!("the sink panicked: {}", message(panic.as_ref()))),
        Err(_) => {
            failed(batch, format!("the sink did not come back within {} s", ATTEMPT_DEADLINE.as_secs()))
        }
    }
}

fn failed(batch: &Batch, reason: String) -> Report {
    Report::all(batch, &Outcome::Retry(Failure::new(reason)))
}

/// What a panic said.
pub fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
