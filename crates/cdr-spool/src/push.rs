//! What goes into the spool, and what comes out of it.

use bytes::Bytes;

use crate::Position;

/// What makes two pushes the same push: a repeat has the same action, the same UUID (or none), and the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The `action` of the request.
    pub action: String,
    /// `X-TCCC-PUSH-UUID`, if the request had one.
    pub uuid: Option<String>,
    /// SHA-256 of the body, as its receiver computed it; the spool compares it and never computes it.
    pub sha256: [u8; 32],
}

/// A push to be stored, with a live companion.
///
/// `live` travels with the push from [`append`](crate::Spool::append) to the commit callback, where whoever parsed the push
/// finds it parsed; the disk never sees it.
#[derive(Debug)]
pub struct NewPush<T> {
    /// What makes it the same push as another.
    pub key: Key,
    /// When it arrived, in milliseconds since 1970 (wall clock).
    pub received_at_ms: i64,
    /// What its receiver wants to know again after a restart; opaque to the spool.
    pub facts: Bytes,
    /// The bytes of the request, stored and given back unchanged.
    pub body: Bytes,
    /// The companion for the commit callback.
    pub live: T,
}

/// How a push was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is on disk.
    Stored {
        /// Its place.
        position: Position,
        /// The same UUID was seen with other bytes within the dedupe window.
        uuid_reused: bool,
    },
    /// It was on disk already: the stored push was read and is the same.
    Repeat {
        /// The place of the stored push.
        position: Position,
    },
}

impl Appended {
    /// Where the push lies, stored now or before.
    pub fn position(&self) -> Position {
        match self {
            Appended::Stored { position, .. } | Appended::Repeat { position } => *position,
        }
    }
}

/// A push as it lies in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPush {
    /// Its place.
    pub position: Position,
    /// When it arrived, in milliseconds since 1970.
    pub received_at_ms: i64,
    /// The facts given with it.
    pub facts: Bytes,
    /// The bytes of the request. They share one allocation with `facts` and with nothing else: keeping one push keeps no other.
    pub body: Bytes,
    /// What makes it the same push as another.
    pub key: Key,
}

/// What [`read`](crate::Spool::read) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The pushes, in order.
    pub pushes: Vec<StoredPush>,
    /// Where to go on: every push before it was returned, is in `lost`, or exists no more.
    pub next: Position,
    /// Positions that held a push whose bytes are damaged on disk, in order. Nobody can deliver them any more:
    /// the caller records each as [`Outcome::Dead`](crate::Outcome::Dead), so that no lane waits for them and a person learns of it.
    pub lost: Vec<Position>,
}

/// The bytes of an authentic request that is no push, to be kept for a person to look at.
#[derive(Clone, Debug)]
pub struct NewQuarantine {
    /// SHA-256 of the body; equal bytes are kept once.
    pub sha256: [u8; 32],
    /// When it arrived, in milliseconds since 1970.
    pub received_at_ms: i64,
    /// What its receiver wants to know again; opaque to the spool.
    pub facts: Bytes,
    /// The bytes of the request.
    pub body: Bytes,
    /// Why it is no push, for a person.
    pub reason: String,
}

/// Where quarantined bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Their place; quarantine shares its numbers with pushes.
    pub position: Position,
    /// False if the same bytes were there before.
    pub is_new: bool,
}

/// Quarantined bytes as they lie in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredQuarantine {
    /// Their place.
    pub position: Position,
    /// When they arrived, in milliseconds since 1970.
    pub received_at_ms: i64,
    /// SHA-256 of the body.
    pub sha256: [u8; 32],
    /// The facts given with them.
    pub facts: Bytes,
    /// The bytes of the request.
    pub body: Bytes,
    /// Why they are no push.
    pub reason: String,
}
