//! The sections that are the gateway's own: what they are called, and what counts when they say nothing.
//! `ingress`, `routes` and each kind of sink have their types in the crates that they configure.

use std::{net::SocketAddr, time::Duration};

use bytesize::ByteSize;
use cdr_core::{Secret, SettingPath, SinkName};
use schemars::JsonSchema;
use serde::Deserialize;

/// All sections of the file.
pub(super) const SECTIONS: [&str; 9] =
    ["timezone", "ingress", "spool", "sinks", "routes", "retry", "alerts", "admin", "log"];

/// `spool:`, what is kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SpoolSettings {
    /// The folder; `data/spool` beside the file.
    pub path: Option<SettingPath>,
    /// A push is kept at least this long, and never shorter than some sink wants it.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub keep: Duration,
    /// Full of what is still owed, the spool refuses.
    #[schemars(with = "String")]
    pub max_size: ByteSize,
    /// How long a repeat is known as one.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub dedupe_window: Duration,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        let cdr_spool::Settings { keep, max_size, dedupe_window, .. } = cdr_spool::Settings::new("");
        Self { path: None, keep, max_size: ByteSize(max_size), dedupe_window }
    }
}

/// `alerts:` as written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AlertSettings {
    /// The sinks that get its alerts; none means that they only go to the log.
    pub to: Vec<String>,
    /// No push for this long is an alert; without it never, as night and holidays are silent too.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub silence: Option<Duration>,
    /// What is still wrong is told again after this; without it once.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub repeat: Option<Duration>,
}

/// Who hears from the gateway itself, and how often.
#[derive(Clone, Debug)]
pub struct Alerts {
    /// The sinks that get its alerts; none means that they only go to the log.
    pub to: Vec<SinkName>,
    /// No push for this long is an alert; none for never, as night and holidays are silent too.
    pub silence: Option<Duration>,
    /// What is still wrong is told again after this; none for once.
    pub repeat: Option<Duration>,
}

/// `admin:`, the listener for operators.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where it listens; 127.0.0.1:8081.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// What `/metrics` and `/api` want to see as `Authorization: Bearer …`; anywhere but on loopback there must be one.
    pub token: Option<Secret>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8081)), token: None }
    }
}

/// `log:`, unless the command line says otherwise.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How lines look; text.
    pub format: LogFormat,
    /// From which level on; info, at which no secret and no phone number is logged.
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// From which level on lines are logged.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs a person.
    Error,
    /// What may need one.
    Warn,
    /// A line for each push and each delivery.
    #[default]
    Info,
    /// Each attempt.
    Debug,
    /// Everything.
    Trace,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}
