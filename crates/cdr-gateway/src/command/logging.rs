//! How the program logs: lines of text for people, or JSON objects, to stderr.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use super::{Common, Format, has_people_at_stderr};
use crate::config::{Log, LogFormat, LogLevel};

/// The crates whose lines are news to an operator; other crates' lines come from `warn` on.
const OURS: [&str; 10] = [
    "cdr_core",
    "cdr_ingress",
    "cdr_spool",
    "cdr_dispatch",
    "cdr_gateway",
    "cdr_simulator",
    "cdr_sink_s3",
    "cdr_sink_email",
    "cdr_sink_http",
    "cdr_sink_file",
];

/// Starts logging as the command line says, else as the configuration does.
pub fn start(common: &Common, settings: Log) {
    let level = LevelFilter::from_level(common.log.unwrap_or(settings.level).into());
    let directives: Vec<String> = OURS.iter().map(|name| format!("{name}={level}")).collect();
    let json = match common.format {
        Some(format) => format == Format::Json,
        None => settings.format == LogFormat::Json,
    };
    log(&format!("warn,{}", directives.join(",")), json);
}

/// Starts logging from this level on, whoever it is that logs.
pub fn start_quietly(level: LogLevel) {
    log(&LevelFilter::from_level(level.into()).to_string(), false);
}

fn log(filter: &str, json: bool) {
    let lines =
        fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(has_people_at_stderr());
    let logging = tracing_subscriber::registry().with(EnvFilter::new(filter));
    // Fails only when logging was started before, and then it is.
    let _ = match json {
        true => logging.with(lines.json().flatten_event(true)).try_init(),
        false => logging.with(lines).try_init(),
    };
}
