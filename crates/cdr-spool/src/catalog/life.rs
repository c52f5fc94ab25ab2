//! What a search tells.

use crate::{Open, Outcome, Position, StoredPush};

/// A push, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The push.
    pub push: StoredPush,
    /// Its deliveries: one for each lane that the spool knows, and for those gone since that told of it. By name.
    pub lanes: Vec<LaneLife>,
}

/// What became of a push in one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneLife {
    /// The lane's name: today's, or its last one.
    pub lane: String,
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

/// A dead letter in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadListed {
    /// The lane that gave it up.
    pub lane: String,
    /// The push.
    pub position: Position,
    /// When, in milliseconds since 1970.
    pub died_at_ms: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// Why.
    pub reason: String,
}

/// Quarantined bytes in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldListed {
    /// Their place.
    pub position: Position,
    /// When they arrived, in milliseconds since 1970.
    pub received_at_ms: i64,
    /// How many there are.
    pub bytes: u64,
    /// Why they are no push.
    pub reason: String,
}
