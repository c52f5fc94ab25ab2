//! The program and its library: configuration, wiring, command line, admin.
//!
//! A gateway of your own is this line in your `main`; see `examples/`:
//! ```no_run
//! # use cdr_core::*;
//! # #[derive(serde::Deserialize)] struct MySettings {}
//! # struct MySink;
//! # impl SinkConfig for MySettings {
//! #     const KIND: &'static str = "mine";
//! #     type Sink = MySink;
//! #     fn build(self, _: &SinkName) -> Result<MySink, BuildError> { Ok(MySink) }
//! # }
//! # impl Sink for MySink {
//! #     async fn deliver(&self, batch: &Batch) -> Report { Report::untried(batch) }
//! # }
//! # fn main() -> std::process::ExitCode {
//! cdr_gateway::run(cdr_gateway::builtin_sinks().with::<MySettings>())
//! # }
//! ```
//!
//! # Reading order
//! * [`command`]: the command line; `run` is the one that matters.
//! * [`config`]: the configuration as written → the plan as meant. `check` stops there.
//! * [`gateway`]: the plan → a running gateway: spool, lanes, door, admin listener; and the stop.
//! * [`engine`]: what runs, for those who look at it or change it; the reload. [`restart`]: what a reload cannot change.
//! * [`manifests`]: what archives held when a day was over.
//! * [`admin`], [`metrics`], [`alerts`]: what operators see and hear. [`dead`]: dead letters as they look for them.
//!   [`traced`]: the life of a push in their words.
//! * [`open_files`]: what the system has to allow.
#![forbid(unsafe_code)]

pub mod admin;
pub mod alerts;
pub mod command;
pub mod config;
pub mod dead;
pub mod engine;
pub mod gateway;
pub mod manifests;
pub mod metrics;
pub mod open_files;
pub mod restart;
pub mod traced;

use std::process::ExitCode;

use cdr_core::Sinks;

/// The kinds of sinks that come with the gateway, a line each.
pub fn builtin_sinks() -> Sinks {
    Sinks::default()
        .with::<cdr_sink_file::FileSettings>()
        .with::<cdr_sink_s3::S3Settings>()
        .with::<cdr_sink_email::EmailSettings>()
        .with::<cdr_sink_http::HttpSettings>()
}

/// The whole program, for these kinds of sinks: reads the command line, does what it says, and gives the exit
/// code: 0 good, 1 failed, 2 used wrongly.
pub fn run(sinks: Sinks) -> ExitCode {
    // One TLS stack for everybody; fails only when somebody installed one before, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    command::run(sinks)
}
