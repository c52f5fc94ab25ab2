//! `cdr-gateway schema`: what editors need to check and complete `gateway.yaml`.

use cdr_core::Sinks;

use super::Ended;
use crate::config;

/// Writes the schema for the kinds of sinks that this program knows.
pub fn run(sinks: &Sinks) -> Ended {
    say!("{:#}", config::schema(sinks));
    Ok(())
}
