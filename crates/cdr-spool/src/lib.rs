//! What is kept: a segmented log with group commit, and the lanes that read it.

pub mod clock;
pub mod disk;
mod error;
mod lane;
mod position;
mod push;
mod settings;
mod spool;
mod stats;

pub use error::{AppendError, ControlError, OpenError, ReadError};
pub use lane::{DeadLetter, LaneState, NewLane, Open, Outcome, Start};
pub use position::{Position, SpoolId};
pub use push::{Appended, Key, NewPush, NewQuarantine, Quarantined, Read, StoredPush, StoredQuarantine};
pub use settings::Settings;
pub use spool::{OnCommit, Spool};
pub use stats::{Damage, Health, Recovery, Stats};
