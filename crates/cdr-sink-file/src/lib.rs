//! Archives pushes in files, exactly once, byte for byte.
//!
//! ```yaml
//! archive: { file: { path: /var/lib/cdr/archive } }
//! ```
//!
//! How pushes become files, what these hold and how they are called is `cdr_archive`'s; here is how a file comes to lie on a
//! disk for good.
//!
//! A batch is sealed before it is written: which pushes it holds, its name and its form are in the spool, so that a repeat
//! after a crash makes the same bytes under the same name. What was sealed is finished so, even if the settings change
//! meanwhile. With `layout: raw` the name follows from the push alone.
//!
//! No two files share a name: the spool's identity keeps a fresh spool, which counts from 1 again, from meeting the
//! files of the old one. So a repeat finds its file there, and the archive holds each push **exactly once**. A file is
//! never overwritten: when the name is taken by other bytes, its pushes are rejected and the file is named.
//!
//! A push is reported delivered when file and name survive a power cut: bytes are written under a temporary
//! name, fsynced, renamed, and the folders fsynced. What a crash leaves under temporary names (`.….tmp`) is
//! harmless, and replaced by the next attempt. Files can be read by their owner alone (0600, folders 0700).
//!
//! The folder `path` is made; the one above it is not: when that is missing, so is most likely a mount, and
//! pushes wait until it is back instead of filling the wrong disk.
#![forbid(unsafe_code)]

mod folder;
mod holding;
mod sink;

use std::time::Duration;

use cdr_archive::{BatchSettings, Compression, Layout, Settings};
use cdr_core::{BuildError, SettingPath, SinkConfig, SinkName, setting};
use schemars::JsonSchema;
use serde::Deserialize;

pub use sink::FileSink;

/// How long a push waits for company: a sync of the disk costs little.
const USUAL_AGE: Duration = Duration::from_secs(2);

/// Where files are put, and how they look.
#[derive(Deserialize, Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// The folder of the archive. It may be made; the one above it must be there.
    pub path: SettingPath,
    /// How pushes become files.
    #[serde(default)]
    pub layout: Layout,
    /// How files of many are compressed. Without it parquet by zstd, lines not at all.
    pub compression: Option<Compression>,
    /// What files are called, by parts such as {action} and {date}; it needs {spool}, {first} and, but for raw, {sha}, and ends
    /// with .{ext}.
    pub key: Option<String>,
    /// In which days and hours of keys begin: Asia/Shanghai. Without it the configuration's.
    pub timezone: Option<String>,
    /// When a file of many is full.
    pub batch: Option<BatchSettings>,
    /// Whether the gateway writes the manifest of each day that is over.
    #[serde(default = "yes")]
    pub manifest: bool,
}

fn yes() -> bool {
    true
}

impl SinkConfig for FileSettings {
    const KIND: &'static str = "file";
    type Sink = FileSink;

    fn build(self, name: &SinkName) -> Result<FileSink, BuildError> {
        let Self { path, layout, compression, key, timezone, batch, manifest } = self;
        let filing = Settings { layout, compression, key, timezone, batch, manifest }.check(USUAL_AGE)?;
        Ok(FileSink::new(path.0, name, filing))
    }

    fn schema() -> Option<serde_json::Value> {
        Some(setting::schema::<Self>())
    }
}
