//! What is kept: a segmented log with group commit, and the lanes that read it.

pub mod clock;
mod dedupe;
pub mod disk;
mod error;
mod inbox;
mod lane;
mod log;
mod position;
mod push;
mod reader;
mod recovery;
mod settings;
mod spool;
mod state;
mod stats;
mod store;
mod writer;

pub use error::{AppendError, ControlError, OpenError, ReadError};
pub use lane::{DeadLetter, LaneState, NewLane, Open, Outcome, Start};
pub use position::{Position, SpoolId};
pub use push::{Appended, Key, NewPush, NewQuarantine, Quarantined, Read, StoredPush, StoredQuarantine};
pub use reader::{CheckpointLane, LogEntry, LogReader, Logged};
pub use settings::Settings;
pub use spool::{Ground, OnCommit, Spool};
pub use stats::{Damage, Health, Recovery, Stats};
