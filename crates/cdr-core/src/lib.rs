//! The words of cdr-gateway, and nothing that acts: no I/O, no clock, no runtime.
//!
//! ```text
//!  bytes ──json──▶ Cdr ─┐
//!                       ├─▶ Incoming ──(stored)──▶ Push ──▶ Batch ──Sink::deliver──▶ Report
//!  request ── Facts ────┘       │
//!                            Intake (what the door may ask of the store)
//! ```
//!
//! # Reading order
//! * [`push`]: what came in: [`Push`], its [`Facts`], where it lies ([`Position`], [`SpoolId`]).
//! * [`cdr`]: the tolerant typed view of a push's body, every published field with its unit and source.
//! * [`end_status`]: how a session ended, and what that means ([`CallResult`]).
//! * [`json`]: the one strict pass over a body, and where its fault is when there is one.
//! * [`intake`]: the contract between the door and the store.
//! * [`sink`]: the plugin contract. **Writing a sink? This crate is all you need.**
//! * [`alert`]: what the gateway tells about itself.
//! * [`registry`]: the kinds of sinks that a program knows, one line each.
//! * [`setting`]: reading settings so that all faults are told at once, each with its place; [`Secret`].
//! * [`http_status`]: the one judge of HTTP answers.
//! * [`oauth`]: how long a token is good.
#![forbid(unsafe_code)]

pub mod alert;
pub mod cdr;
pub mod end_status;
pub mod http_status;
pub mod intake;
pub mod json;
pub mod oauth;
pub mod push;
pub mod registry;
pub mod setting;
pub mod sink;

pub use alert::{Alert, AlertKind};
pub use cdr::Cdr;
pub use end_status::{CallResult, EndStatus, Language};
pub use intake::{Intake, NotStored, Quarantined, Stored, Suspect};
pub use push::{Action, Facts, Incoming, Origin, Position, Push, SpoolId};
pub use registry::Sinks;
pub use setting::{Secret, SettingFault, SettingPath, SettingText};
pub use sink::{
    ATTEMPT_DEADLINE, Batch, Batching, BuildError, Delivery, Failure, Outcome, Part, Partition, Preview,
    Receipt, Report, Seal, Sink, SinkConfig, SinkName, Unavailable,
};
