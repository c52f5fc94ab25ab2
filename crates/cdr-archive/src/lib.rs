//! What an archive holds: how pushes become objects, what these are called, and how they are read back.
//!
//! Pure: no I/O. The sinks that archive (files, S3) bring the bytes to their place and back.
//!
//! ```text
//!  Settings ──check──▶ Filing ── partition, seal ──▶ the lane stores the seal
//!                        │
//!                        └──── objects(batch) ─────▶ Object: key, write(…)  ──▶ file, bucket
//!                                                      │
//!                        Record  ◀──── read(key, bytes)┘
//! ```
//!
//! # What it promises
//! - **Every byte comes back.** Each layout holds the body as it came, and its SHA-256.
//! - **No two objects share a key.** A key names the spool and a position there, in letters of fixed width; what a sender can
//!   choose is encoded, so that it neither leaves its place nor looks like something else.
//! - **The same batch makes the same object.** What an object holds follows from its pushes, as the spool gives them back, and
//!   from the facts of its seal; nothing of it from the clock or the settings of today. A later version may compress
//!   otherwise, so an object that is there already counts as the same when its records are.
//!
//! # Reading order
//! * [`settings`]: what an operator may wish.
//! * [`filing`]: from pushes to objects.
//! * [`key`]: what an object is called.
//! * [`object`]: what it holds; [`encoding`]: in which form.
//! * [`record`]: reading it back.
//! * [`holding`]: the place where it lies; [`audit`]: whether all is there; [`manifest`]: what was there when a day was over.
#![forbid(unsafe_code)]

pub mod audit;
mod columns;
pub mod encoding;
pub mod filing;
pub mod holding;
pub mod key;
mod lines;
pub mod manifest;
pub mod object;
pub mod record;
pub mod settings;

pub use audit::{Absent, Audit, Fault, Findings, Held};
pub use encoding::Encoding;
pub use filing::Filing;
pub use holding::{Below, Holding};
pub use key::KeyTemplate;
pub use manifest::Manifest;
pub use object::Object;
pub use record::{Record, Unreadable};
pub use settings::{BatchSettings, Compression, Layout, Settings};
