//! A gateway of your own: the one that ships, with one kind of sink more. Everything that `cdr-gateway` can do,
//! this can: `run`, `check`, `demo`, `send` …

use std::process::ExitCode;

use cdr_example_sink::StatsdSettings;

fn main() -> ExitCode {
    cdr_gateway::run(cdr_gateway::builtin_sinks().with::<StatsdSettings>())
}
