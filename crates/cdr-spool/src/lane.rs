//! What a lane has done and what it still owes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::Position;

/// A lane to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLane {
    /// Its name: that of its sink.
    pub name: String,
    /// Where it starts, if the spool does not know it yet.
    pub start: Start,
}

/// Where a new lane starts to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next push.
    Now,
    /// With the oldest push that is kept.
    Beginning,
    /// With the first push that arrived at or after this time, in milliseconds since 1970.
    At(i64),
}

/// What became of one delivery in one attempt, or without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there. The receipt is stored only if given: one that can be derived need not be. The key of a push's [`Seal`]
    /// can: [`LogReader`](crate::LogReader) tells it as the receipt.
    Delivered {
        /// Where it went: object key, message id, HTTP status.
        receipt: Option<String>,
    },
    /// No route sends this push to this sink.
    Passed,
    /// A person decided that it shall not be delivered.
    Discarded,
    /// It is given up, and waits as a dead letter until a person decides.
    Dead {
        /// Why, for a person.
        reason: String,
        /// The beginning of what the other side answered.
        excerpt: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// It failed and will be tried again.
    Retry {
        /// How often it was tried.
        attempts: u32,
        /// Time that counts towards giving up, since the first attempt.
        spent: Duration,
        /// When it is due, in milliseconds since 1970 (wall clock).
        due_ms: i64,
        /// The last answer, short.
        answer: String,
    },
}

impl Outcome {
    /// True for everything but a retry: the delivery is over and stays over.
    pub fn is_final(&self) -> bool {
        !matches!(self, Outcome::Retry { .. })
    }
}

/// What a lane has read and what of it is open.
///
/// Every push before `next` that is not in `open` is closed. A position before `next` about which nothing was recorded is
/// open with no attempts: it was read, and the process ended before it had an outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneState {
    /// Where it began to read: what came before was never its business.
    pub began: Position,
    /// The first position that the lane has not read.
    pub next: Position,
    /// Read and not closed.
    pub open: BTreeMap<Position, Open>,
    /// What was sealed and is not closed, in the order of the first positions.
    pub seals: Vec<Seal>,
    /// What it is for, if it is temporary.
    pub errand: Option<Errand>,
    /// What whoever drives it noted, by its own keys; see [`Memo`].
    pub memos: BTreeMap<String, Bytes>,
}

/// A note that the driver of a lane keeps under a key of its own, such as what was told so far about one matter. Durable in
/// the same commit as the outcomes that it comes with: after a crash both are there, or neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memo {
    /// Which note it is; at most [`Memo::KEY`] bytes.
    pub key: String,
    /// What it says, at most [`Memo::BYTES`] bytes; opaque to the spool. Empty: it is forgotten.
    pub bytes: Bytes,
}

impl Memo {
    /// Most notes of a lane. With the other bounds, what a lane may cost every checkpoint.
    pub const MOST: usize = 256;
    /// Longest key.
    pub const KEY: usize = 256;
    /// Longest note.
    pub const BYTES: usize = 1024;
}

impl LaneState {
    /// The first position that it will never read; the last there can be for a lane that goes on.
    pub fn ends(&self) -> Position {
        self.errand.as_ref().map_or(Position(u64::MAX), |errand| errand.until)
    }
}

/// What makes a lane temporary: it reads up to a position, and whoever drives it retires it when everything is closed. A
/// replay is one, and so is what a renamed sink left to another.
///
/// Its name is that of its sink, `~` and its number, which no sink can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// The sink that it delivers to.
    pub sink: String,
    /// The first position that it does not read.
    pub until: Position,
    /// What it is for; opaque to the spool.
    pub facts: Bytes,
}

/// What some pushes of a lane become together, such as an object under a key: durable before the first attempt, so that
/// every attempt makes the same thing again. It is over when all its positions are closed.
///
/// A position belongs to one seal at most: a new one makes an older one void that shares a position with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The pushes, growing.
    pub positions: Vec<Position>,
    /// Where they go.
    pub key: String,
    /// All that makes the same bytes again; opaque to the spool.
    pub facts: Bytes,
}

/// An open delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// How often it was tried.
    pub attempts: u32,
    /// Time that counts towards giving up.
    pub spent: Duration,
    /// When it is due, in milliseconds since 1970; 0 means at once.
    pub due_ms: i64,
    /// The last answer, short; empty before the first attempt.
    pub answer: String,
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The lane that gave it up.
    pub lane: String,
    /// The push.
    pub position: Position,
    /// Why.
    pub reason: String,
    /// The beginning of what the other side answered.
    pub excerpt: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up, in milliseconds since 1970.
    pub died_at_ms: i64,
}
