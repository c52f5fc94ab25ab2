//! What a search tells.

use crate::{Errand, Open, Outcome, StoredPush};

/// A push, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The push.
    pub push: StoredPush,
    /// Its deliveries: one for each lane that the spool knows, and for those gone since that told of it. By name. A temporary lane
    /// that has nothing to do with the push has none.
    pub lanes: Vec<LaneLife>,
}

/// What became of a push in one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneLife {
    /// The lane's name: today's, or its last one.
    pub lane: String,
    /// What it is for, if it is temporary and still there.
    pub errand: Option<Errand>,
    /// What the log tells.
    pub told: Told,
}

/// What the log tells of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What it became, and when that was written, in milliseconds since 1970.
    Outcome(i64, Outcome),
    /// A person woke a dead letter, at this time in milliseconds since 1970.
    Reopened(i64),
    /// It waits; what is known of earlier attempts, whose outcomes may be gone from the log.
    Waiting(Open),
    /// It came before the lane did.
    Before,
    /// It is closed, or came before the lane did; the log does not tell any more.
    Forgotten,
}
