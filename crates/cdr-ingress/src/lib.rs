//! The door: receives pushes over HTTP, lets in who may come in, and answers `ErrCode` 0 only for what is
//! fsynced.
//!
//! ```text
//! Door ── accepts ──▶ connection ── PROXY, TLS, HTTP by hyper ──▶ visit ── Intake::store ──▶ answer
//! ```
//!
//! # What it promises
//! * `{"ErrCode":0,"ErrMsg":"ok"}` is said only after [`Intake::store`](cdr_core::Intake::store) returned `Ok`.
//! * What was handed to the intake is stored, counted and logged even if the sender hangs up meanwhile.
//! * Every other answer is JSON with an `ErrCode` that is not 0 and its HTTP status, from one table; only what
//!   is not HTTP at all gets hyper's bare answer.
//! * Nothing is parsed as a push that somebody unknown sent. His body is read only to look for the signature that
//!   `verify` asks for, or when he asks for an access token.
//! * A renewed certificate is taken while the door serves, and no connection ends for it.
//! * Neither bodies nor what senders call themselves reach the log; addresses, sessions and reasons do.
//!
//! # Reading order
//! * [`IngressSettings`]: what can be set.
//! * `visit`: the way of a request, a line for each check; `answer`: the table of answers.
//! * `rates`, `proof`, `asked`, `body`, `encoding`, [`client_address`]: the checks themselves.
//! * [`Door`], `crowd`, `regulars`, `connection`, `unread`: the listener, and what hyper leaves to us.
//! * `proxy_protocol`, `tls`, `client_certificate`: what comes before HTTP.
//! * [`DoorCounters`], `notes`, `refusals`, `summary`: what operators see; [`Newcomer`]s, whom the allowlist lacks, and
//!   [`Stranger`]s, who were refused and may be whom one waits for.
//! * `handed`: what happens to a push that was handed over when its sender hangs up.
//! * `fuzzing`, for tests alone: everything that reads bytes, as functions that take any bytes.
#![forbid(unsafe_code)]

mod answer;
mod asked;
mod body;
mod client_address;
mod client_certificate;
mod connection;
mod counters;
mod crowd;
mod door;
mod encoding;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handed;
mod keeper;
mod network;
mod newcomers;
mod notes;
mod proof;
mod proxy_protocol;
mod rates;
mod refusals;
mod regulars;
mod settings;
mod strangers;
mod summary;
mod tls;
mod unread;
mod visit;

pub use answer::Verdict;
pub use client_address::{Trail, TrailEnd, client_address};
pub use client_certificate::{InvalidSubject, Subject};
pub use counters::{DoorCounters, DoorSnapshot};
pub use door::{BindError, Door, DoorHandle, Reloaded};
pub use network::{InvalidNetwork, Network};
pub use newcomers::Newcomer;
pub use proof::{
    BasicProof, Encoding, Hash, MtlsProof, OAuth2Proof, Place, Preset, Proof, SignatureProof, TokenProof,
};
pub use settings::{Allow, AllowMode, IngressSettings, Limits};
pub use strangers::Stranger;
pub use tls::{TlsSettings, TlsVersion};
