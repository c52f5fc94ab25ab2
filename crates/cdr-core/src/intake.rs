//! The contract between the door and the store: what the door may ask, and the answers it has words for.
//!
//! The store answers only after its fsync. Whoever stops waiting changes nothing: what was handed over is
//! stored or not stored, never half.
//!
//! What waits for a push is a type of its own that borrows nothing, so that the door can await it in place and hand it
//! to a task only when the sender hangs up, instead of starting a task for every push.

use std::{fmt, time::Duration};

use bytes::Bytes;

use crate::{Facts, Incoming, Position};

/// What stands behind the door.
pub trait Intake: Send + Sync + 'static {
    /// Waits for what became of a push. An error: it is not kept, and the sender must hear that.
    type Storing: Future<Output = Result<Stored, NotStored>> + Send + Unpin + 'static;

    /// Keeps a push, which is handed over when this returns; an `Ok` means that it is fsynced, now or earlier.
    fn store(&self, push: Incoming) -> Self::Storing;

    /// Keeps the bytes of an authentic request that is no push, once per SHA-256.
    ///
    /// # Errors
    /// They are not kept.
    fn quarantine(&self, suspect: Suspect) -> impl Future<Output = Result<Quarantined, NotStored>> + Send;
}

/// A push that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Where it lies; for a repeat, where the first one does.
    pub position: Position,
    /// Whether it came before: same action, same UUID, same bytes.
    pub repeat: bool,
    /// Whether its UUID came before with other bytes, which no honest sender does.
    pub uuid_reused: bool,
}

/// An authentic request that is no push.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// What is known beside the bytes.
    pub facts: Facts,
    /// The bytes as they came.
    pub body: Bytes,
    /// What is wrong with them, and where.
    pub reason: String,
}

/// Bytes in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quarantined {
    /// The number under which they lie.
    pub number: Position,
    /// Whether they lay there before.
    pub repeat: bool,
}

/// Why something was not kept. The sender hears 503 and will try again, but for [`QuarantineFull`](Self::QuarantineFull).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotStored {
    /// What is still owed to sinks fills the spool.
    Full,
    /// Quarantine has its share of the room; a push would still be kept. The sender hears what is wrong with its
    /// request, since trying again would not help.
    QuarantineFull,
    /// The disk refuses to write or to sync.
    Failing(String),
    /// More bytes wait for their commit than `limits.in_flight` allows.
    Busy,
    /// The commit did not return within this time; it may still succeed, and a retry is then a repeat.
    Slow(Duration),
    /// The gateway is stopping.
    Stopping,
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the spool is full of pushes that sinks have not taken yet"),
            Self::QuarantineFull => f.write_str("the quarantine is full"),
            Self::Failing(reason) => write!(f, "the spool cannot write: {reason}"),
            Self::Busy => f.write_str("too many pushes wait for their commit"),
            Self::Slow(waited) => write!(f, "the disk did not confirm within {} s", waited.as_secs()),
            Self::Stopping => f.write_str("the gateway is stopping"),
        }
    }
}

impl std::error::Error for NotStored {}
