//! The gateway with the sinks that come with it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cdr_gateway::run(cdr_gateway::builtin_sinks())
}
