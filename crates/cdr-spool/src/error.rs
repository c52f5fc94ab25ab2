//! What can go wrong, worded for the operator.

use std::io;
use std::path::PathBuf;

use crate::Position;

/// Why a spool could not be opened. Nothing was changed on disk, but for what an interrupted first start leaves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The settings contradict each other.
    #[error("{0}")]
    Settings(String),
    /// Another process has it.
    #[error("the spool {path} is in use by {holder}; stop that gateway first, or give this one another spool.path", path = path.display())]
    Locked {
        /// The spool.
        path: PathBuf,
        /// Who said that it holds the lock.
        holder: String,
    },
    /// A newer gateway wrote it.
    #[error(
        "{file} was written in spool format {found}, this gateway reads up to {supported}; start the newer gateway again"
    )]
    Newer {
        /// The segment.
        file: String,
        /// Its major format version.
        found: u16,
        /// The newest major version that this build reads.
        supported: u16,
    },
    /// Files of two spools in one directory.
    #[error("{file} belongs to spool {found}, the others here to spool {expected}; move it away")]
    Foreign {
        /// The segment.
        file: String,
        /// The identity in it.
        found: String,
        /// The identity of the other segments.
        expected: String,
    },
    /// The disk said no.
    #[error("cannot {doing} in the spool {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The spool.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// Why a push was not stored. It was not answered, so its sender has it still.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// What is still owed fills the room.
    #[error("the spool is full: {owed} bytes are owed to sinks and {max_size} are allowed (spool.max_size)")]
    Full {
        /// Bytes that some lane has not closed.
        owed: u64,
        /// The room.
        max_size: u64,
    },
    /// The disk fails.
    #[error("the spool cannot write: {reason}")]
    Failing {
        /// What the disk said.
        reason: String,
    },
    /// More bytes than `in_flight` wait for a commit.
    #[error("{waiting} bytes wait for the disk already (limits.in_flight)")]
    Busy {
        /// How many bytes wait.
        waiting: u64,
    },
    /// The push, or one of its names, is too large.
    #[error("{what} has {size} bytes, at most {limit} are taken")]
    TooLarge {
        /// What is too large: `the body`, `the facts`, `the action`, `the uuid`.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The largest size.
        limit: u64,
    },
    /// Quarantine has its share of the room and no more.
    #[error(
        "quarantine is full: {held} bytes of at most {limit}; look through it and discard what is understood"
    )]
    QuarantineFull {
        /// Bytes in quarantine.
        held: u64,
        /// Its share: 5 % of `max_size`.
        limit: u64,
    },
    /// The spool is being closed.
    #[error("the spool is being closed")]
    Stopping,
}

/// Why stored bytes could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// They are damaged.
    #[error("push {position} is damaged on disk ({file} at byte {offset})")]
    Damaged {
        /// The push.
        position: Position,
        /// Its segment.
        file: String,
        /// Where the damage begins.
        offset: u64,
    },
    /// A stretch of the log is damaged; reading goes on behind it.
    #[error("the log is damaged ({file} at byte {offset}); what lay there cannot be shown")]
    DamagedLog {
        /// The segment.
        file: String,
        /// Where the damage begins.
        offset: u64,
    },
    /// The disk said no.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The segment.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The directory is no spool.
    #[error("{0}")]
    NoSpool(String),
    /// Segments went again and again while it was searched.
    #[error(
        "{tries} times a segment went while the log was searched, so what was found may lack what was carried out of it; ask again"
    )]
    Restless {
        /// How often it was asked.
        tries: u32,
    },
    /// A search cannot go on, with the catalog or without it.
    #[error("cannot search: {0}; is there room for temporary files?")]
    Search(String),
}

/// Why a decision about lanes or dead letters was not made durable. It did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// There is no such lane.
    #[error("there is no lane {lane:?}; known are: {known}")]
    UnknownLane {
        /// The name given.
        lane: String,
        /// The names that exist.
        known: String,
    },
    /// It has this name already.
    #[error("the lane has the name {lane:?} already")]
    LaneExists {
        /// The name given.
        lane: String,
    },
    /// It began no later, and has closed by its own routes what the other one owes.
    #[error(
        "{new:?} has been there for as long as {old:?}, and what {old:?} owes has passed it by: nothing tells what of that \
         it has delivered. Give the sink a name in the configuration that no lane has yet, reload, and hand over to that"
    )]
    Beside {
        /// The lane that was to be handed over.
        old: String,
        /// The lane that was to take it.
        new: String,
    },
    /// Seals and errands are no place for bodies.
    #[error("{what} would have {size} bytes, more than {limit}")]
    TooLarge {
        /// The key or the facts of something.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The most that is kept.
        limit: usize,
    },
    /// Not everything that was to be sealed is there and open.
    #[error("lane {lane:?} cannot seal what it does not owe: {positions:?}")]
    NotOpen {
        /// The lane.
        lane: String,
        /// What is closed already, or no push.
        positions: Vec<Position>,
    },
    /// The disk fails.
    #[error("the spool cannot write: {reason}")]
    Failing {
        /// What the disk said.
        reason: String,
    },
    /// The spool is being closed.
    #[error("the spool is being closed")]
    Stopping,
}
