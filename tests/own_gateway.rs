//! A gateway with one kind of sink more: one that panics, as no sink that ships ever should. The tests run it.

use std::{path::PathBuf, process::ExitCode};

use cdr_core::{Batch, BuildError, Receipt, Report, Sink, SinkConfig, SinkName};
use serde::Deserialize;

/// `panics: { until: FILE }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Panics {
    /// It panics until this file is there.
    until: PathBuf,
}

impl SinkConfig for Panics {
    const KIND: &'static str = "panics";
    type Sink = Panics;

    fn build(self, _name: &SinkName) -> Result<Panics, BuildError> {
        Ok(self)
    }
}

impl Sink for Panics {
    async fn deliver(&self, batch: &Batch) -> Report {
        assert!(self.until.exists(), "on purpose");
        Report::delivered(batch, |_| Receipt::new("here"))
    }
}

fn main() -> ExitCode {
    cdr_gateway::run(cdr_gateway::builtin_sinks().with::<Panics>())
}
