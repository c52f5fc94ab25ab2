//! One attempt, guarded: a sink that hangs or panics costs its own lane one retry and nobody else anything.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use cdr_core::{Batch, Failure, Outcome, Partition, Position, Report, registry::AnySink};
use futures_util::FutureExt;

use super::pace::Epoch;

/// The outer deadline of an attempt; sinks have shorter ones of their own.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// An attempt that is over.
#[derive(Debug)]
pub struct Attempted {
    /// The partition of its batch.
    pub partition: Partition,
    /// Its pushes, in the order of the report's outcomes.
    pub positions: Vec<Position>,
    /// When it began, in the lane's epochs.
    pub began: Epoch,
    /// How it went.
    pub report: Report,
}

/// Makes one attempt.
pub async fn attempt(sink: Arc<dyn AnySink>, partition: Partition, began: Epoch, batch: Batch) -> Attempted {
    let delivering = AssertUnwindSafe(sink.deliver(&batch)).catch_unwind();
    let report = match tokio::time::timeout(DEADLINE, delivering).await {
        Ok(Ok(report)) => report,
        Ok(Err(panic)) => failed(&batch, format!("the sink panicked: {}", message(panic.as_ref()))),
        Err(_) => failed(&batch, format!("the sink did not come back within {} s", DEADLINE.as_secs())),
    };
    let positions = batch.pushes().map(|push| push.position()).collect();
    Attempted { partition, positions, began, report }
}

fn failed(batch: &Batch, reason: String) -> Report {
    Report::all(batch, &Outcome::Retry(Failure::new(reason)))
}

/// What a panic said.
pub fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
