//! One attempt, guarded: a sink that hangs or panics costs its own lane one retry and nobody else anything.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use cdr_core::{
    ATTEMPT_DEADLINE, Batch, Batching, Failure, Outcome, Partition, Position, Push, Report, Seal, SinkName,
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
    /// Whether the sink was given them. It was not where it panicked when it was to name what they become, or takes no replay.
    pub was_sent: bool,
    /// How it went, or why it was not made.
    pub went: Result<Report, NotMade>,
}

/// Why the sink was not called.
#[derive(Debug)]
pub enum NotMade {
    /// What these pushes become could not be made durable.
    NotSealed(ControlError),
    /// The batch was to be sealed, and these of it may be there already, each by itself.
    Apart(Vec<Position>),
}

/// Makes one attempt, under a seal that is durable before it if the sink wants one. Those `in_doubt` were sent before without
/// one, and may be there: what may lie by itself must not go into an object with others, too.
pub async fn attempt(
    sink: Arc<dyn AnySink>,
    store: Arc<Store>,
    lane: Arc<str>,
    partition: Option<Partition>,
    began: Epoch,
    batch: Batch,
    in_doubt: Vec<Position>,
) -> Attempted {
    let positions: Vec<Position> = batch.pushes().map(|push| push.position()).collect();
    let weight = weight(&batch);
    let (batch, over) = match wanted_seal(sink.as_ref(), &batch) {
        Ok(None) => (batch, None),
        Ok(Some(_)) if batch.first().replay => {
            let report = Report::unavailable(&batch, Unavailable::new(NO_REPLAY_INTO_SEALS));
            (batch, Some(Ok(report)))
        }
        Ok(Some(_)) if in_doubt == positions && in_doubt.len() == 1 => (batch, None),
        Ok(Some(_)) if !in_doubt.is_empty() => (batch, Some(Err(NotMade::Apart(in_doubt)))),
        Ok(Some(seal)) => match store.seal(&lane, &positions, &seal).await {
            Ok(()) => (batch.sealed(seal), None),
            Err(error) => (batch, Some(Err(NotMade::NotSealed(error)))),
        },
        Err(report) => (batch, Some(Ok(report))),
    };
    let was_sent = over.is_none();
    let went = match over {
        Some(over) => over,
        None => Ok(deliver(sink.as_ref(), &batch).await),
    };
    Attempted { partition, positions, weight, began, seal: batch.seal().cloned(), was_sent, went }
}

/// Bytes that the pushes of a batch take of memory, roughly.
pub fn weight(batch: &Batch) -> usize {
    batch.pushes().map(|push| Routed::weight(push)).sum()
}

/// How the sink wants its batches; one push at a time if it panicked when asked, for its lane must go on.
pub fn batching(name: &SinkName, sink: &dyn AnySink) -> Batching {
    guarded(|| sink.batching()).unwrap_or_else(|reason| {
        error!(sink = %name, reason, "the sink panicked when asked for its batches; it gets one push at a time");
        Batching::single()
    })
}

/// Which pushes a push may share a batch with.
pub fn partition(sink: &dyn AnySink, push: &Push) -> Result<Partition, Failure> {
    guarded(|| sink.partition(push)).map_err(|reason| {
        Failure::new(format!("the sink panicked when asked for the partition of a push: {reason}"))
    })
}

/// How long a partition may be quiet before it is closed; for ever if the sink panicked when asked.
pub fn quiet(name: &SinkName, sink: &dyn AnySink) -> Option<Duration> {
    guarded(|| sink.quiet()).unwrap_or_else(|reason| {
        error!(sink = %name, reason, "the sink panicked when asked when something is over; no end is told");
        None
    })
}

/// Asks a sink something that it answers at once; what it said if it panicked.
pub fn guarded<T>(ask: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(ask)).map_err(|panic| message(panic.as_ref()).to_owned())
}

/// The seal that a batch shall get, if it has none and the sink wants one; a report if the sink panicked.
pub fn wanted_seal(sink: &dyn AnySink, batch: &Batch) -> Result<Option<Seal>, Report> {
    if batch.seal().is_some() {
        return Ok(None);
    }
    guarded(|| sink.seal(batch))
        .map_err(|reason| failed(batch, format!("the sink panicked while it sealed a batch: {reason}")))
}

/// Lets a sink close a partition, guarded like an attempt.
pub async fn close(sink: &dyn AnySink, partition: &Partition, memo: &[u8]) -> Outcome {
    let closing = in_time(async { sink.close(partition, memo).await }).await;
    closing.unwrap_or_else(|reason| Outcome::Retry(Failure::new(reason)))
}

async fn deliver(sink: &dyn AnySink, batch: &Batch) -> Report {
    // Within a future of its own, since a sink may panic before it has made one.
    in_time(async { sink.deliver(batch).await }).await.unwrap_or_else(|reason| failed(batch, reason))
}

/// What a sink does, or why it did not: it panicked, or was cut off at the [`ATTEMPT_DEADLINE`].
async fn in_time<T>(doing: impl Future<Output = T>) -> Result<T, String> {
    // What is cut off is dropped in here, too: that runs code of the sink, which may panic.
    let timed = AssertUnwindSafe(async { tokio::time::timeout(ATTEMPT_DEADLINE, doing).await });
    match timed.catch_unwind().await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(format!("the sink did not come back within {} s", ATTEMPT_DEADLINE.as_secs())),
        Err(panic) => Err(format!("the sink panicked: {}", message(panic.as_ref()))),
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
