//! The catalog: everything that people search, in an SQLite file beside the log.
//!
//! ```text
//!  log ──committed frames──▶ Keeper (thread) ──Rows──▶ catalog.sqlite ◀── Search (any process, read-only)
//!   └──────────────── what the catalog does not know yet, and every answer's text ──────────▶┘
//! ```
//!
//! # What it promises
//! - It follows from the log alone. Deleted, damaged, of another version or another spool, it is thrown away and built again
//!   while the gateway runs; nothing is lost with it.
//! - Nothing waits for it: not the door, not the lanes, not a stop.
//! - A search is right whatever state it is in: what it does not know yet is read from the log, and without it everything is.
//! - What people search by stands in it as keyed digests, never as text. A hit is compared with the push itself.
//!
//! # Reading order
//! `schema.sql` (the tables), [`terms`] (what a push is found by), [`rows`] (what a frame becomes), [`database`] (the file) and
//! [`writing`] (its rows), [`keeper`] (the thread), [`search`] (asking) with [`queries`] (in SQL) and [`telling`]
//! (what became of a push), [`life`] (the answers).

pub(crate) mod database;
pub(crate) mod keeper;
mod life;
mod queries;
mod rows;
mod search;
mod telling;
mod terms;
mod writing;

pub use life::{LaneLife, Life, Told};
pub use search::{Query, Search};
pub use terms::{Terms, TermsOf};
