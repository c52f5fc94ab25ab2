//! What is kept: a segmented log with group commit, and the lanes that read it.
//!
//! ```text
//!  append ─┐                    ┌─▶ 0000000007.log   frames: pushes, outcomes, dead letters, quarantine
//!  record ─┼─▶ inbox ─▶ writer ─┤     write, one fdatasync for all that waited
//!  decide ─┘   (queue)  (thread)└─▶ state            lanes: next + open; segments; what was carried
//!                          │                          ▲
//!     commit callback ◀────┤ after the sync           │ read, get: pread of committed bytes,
//!     answers         ◀────┘                          └─ never waiting for the writer
//! ```
//!
//! # What it promises
//! - A push for which [`Spool::append`] returned `Ok` is synced to disk. It stays until every lane has closed it, and at least
//!   [`Settings::keep`], unless room is needed and every lane has closed it.
//! - A repeat (same action, UUID and SHA-256 within the window) is confirmed only after the stored push was read and compared.
//! - What a lane has closed stays closed; what it has not is open again after a restart. An outcome is durable before
//!   [`Spool::record`] completes, and written before that: `kill -9` forgets none, a power cut those of the last 50 ms.
//! - A seal that [`Spool::seal`] took is synced, and stays until all its positions are closed.
//! - Positions grow, and none is given twice.
//! - Damage is told, never silent, never fatal: pushes that are lost become dead letters, the file is kept.
//! - When the disk fails or is full, pushes are refused and never dropped; it tries again by itself.
//!
//! It knows bytes, positions, keys and names, and nothing of CDRs.
//!
//! # Reading order
//! 1. [`Spool`] in `spool.rs`: the handle, every operation with its promise.
//! 2. `log/`: what lies on disk, from the segment's header to the entry.
//! 3. `writer/`: the only thread that writes. `mod.rs` (the loop), `intake.rs` (a request into the frame), `commit.rs` (the
//!    frame onto the disk, and what a failure does), `control.rs` (decisions), `space.rs` (what may go, and what is
//!    carried out of it first), `reserve.rs` (someone else filled the disk).
//! 4. `state.rs` and `state/`: what is known in memory; `store.rs`: reading.
//! 5. `recovery.rs`: from files back to the state; torn or damaged.
//! 6. `catalog/`: by which pushes are found; [`Search`] asks it. [`LogReader`]: reading everything, from outside.
//! 7. `dedupe/`: which push came before. `inbox.rs`: the queue.
//!
//! Every access to the disk goes through [`disk`], every look at the time through [`clock`]: the tests put others below,
//! that lose, tear, fail and jump, and hold the whole against a model (`tests/spool/model.rs`).

mod catalog;
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

pub use catalog::{LaneLife, Life, Query, Search, Terms, TermsOf, Told};
pub use error::{AppendError, ControlError, OpenError, ReadError};
pub use lane::{DeadLetter, Errand, LaneState, Memo, NewLane, Open, Outcome, Seal, Start};
pub use position::{Position, SpoolId};
pub use push::{Appended, Key, NewPush, NewQuarantine, Quarantined, Read, StoredPush, StoredQuarantine};
pub use reader::{CheckpointLane, LogEntry, LogReader, Logged};
pub use settings::Settings;
pub use spool::{Appending, Committed, Ground, OnCommit, Spool};
pub use stats::{Damage, Health, Holder, Recovery, Stats};
