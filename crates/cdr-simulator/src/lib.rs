//! A call centre and receivers, for the demo, the tests and the benchmarks.
//!
//! Nothing here is part of the gateway's job; it is what stands on both sides of it:
//! ```text
//!   calls (makes CDRs) ─▶ sender (pushes them as TCCC would) ─▶ the gateway ─▶ crm · s3 · smtp (receivers)
//! ```
//! The receivers speak the real protocols on loopback, hold what they got, and misbehave on request.
#![forbid(unsafe_code)]

pub mod calls;
pub mod crm;
pub mod s3;
pub mod sender;
pub mod smtp;
