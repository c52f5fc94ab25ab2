//! Archives pushes in files, exactly once, byte for byte.
//!
//! ```yaml
//! archive: { file: { path: /var/lib/cdr/archive } }
//! ```
//! ```text
//! {path}/{action}/dt={day of arrival, UTC}/{spool}-{first position}-{last position}-{digest}.ndjson    layout: batch
//! {path}/{action}/dt={day of arrival, UTC}/{spool}-{position, 20 digits}.json                          layout: raw
//! ```
//! * **batch**: many pushes in a file, a JSON line each: `position`, `uuid`, `action`, `received_at`, `sha256`, and the
//!   body as a JSON text in which every byte comes back. A batch is sealed before it is written: which pushes it holds
//!   and its name are in the spool, so that a repeat after a crash makes the same bytes under the same name. What was
//!   sealed is finished so, even if the settings change meanwhile.
//! * **raw**: a file each, holding the very bytes. Its name follows from the push alone.
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
//!
//! Days are UTC days: a sink is not told the configured `timezone` yet.
#![forbid(unsafe_code)]

mod archive;
mod layout;
mod sink;

use std::time::Duration;

use bytesize::ByteSize;
use cdr_core::{Batching, BuildError, SettingPath, SinkConfig, SinkName, setting};
use schemars::JsonSchema;
use serde::Deserialize;

pub use sink::FileSink;

/// Where files are put, and how they look.
#[derive(Deserialize, Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// The folder of the archive. It may be made; the one above it must be there.
    pub path: SettingPath,
    /// How pushes become files.
    #[serde(default)]
    pub layout: Layout,
    /// When a file of many is full; of `layout: batch` only.
    pub batch: Option<BatchSettings>,
}

/// How pushes become files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Many in a file, a JSON line each. Cheap: the disk is synced once for all of them.
    #[default]
    Batch,
    /// A file each, holding the very bytes: for small sites and for looking.
    Raw,
}

/// When a file is written: at whichever bound is reached first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// Most pushes in a file, 1 to 4000; 1000.
    pub pushes: usize,
    /// Most bytes of bodies in a file, up to 8 MiB; a larger push comes alone.
    #[schemars(with = "String")]
    pub size: ByteSize,
    /// How long the first push of a file waits for others, up to an hour; 2 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub age: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { pushes: 1000, size: ByteSize::mib(8), age: Duration::from_secs(2) }
    }
}

impl BatchSettings {
    /// A lane keeps no more open, and no more in memory.
    const MOST: usize = 4000;
    const LARGEST: ByteSize = ByteSize::mib(8);
    const OLDEST: Duration = Duration::from_secs(3600);

    fn check(&self) -> Result<Batching, BuildError> {
        let mut faults = BuildError::default();
        if !(1..=Self::MOST).contains(&self.pushes) {
            faults.push("batch.pushes", format!("must be 1 to {}", Self::MOST));
        }
        if self.size.0 == 0 || self.size > Self::LARGEST {
            faults.push("batch.size", format!("must be 1B to {}", Self::LARGEST.display()));
        }
        if self.age > Self::OLDEST {
            faults.push("batch.age", "must be at most 1h");
        }
        // Checked to be at most 8 MiB.
        let bytes = usize::try_from(self.size.0).unwrap_or(usize::MAX);
        faults.or_ok(Batching { pushes: self.pushes, bytes, wait: self.age, spacing: Duration::ZERO })
    }
}

impl SinkConfig for FileSettings {
    const KIND: &'static str = "file";
    type Sink = FileSink;

    fn build(self, name: &SinkName) -> Result<FileSink, BuildError> {
        let batching = match (self.layout, self.batch) {
            (Layout::Batch, batch) => Some(batch.unwrap_or_default().check()?),
            (Layout::Raw, None) => None,
            (Layout::Raw, Some(_)) => {
                return Err(BuildError::at(
                    "batch",
                    "belongs to `layout: batch`, the default; with `layout: raw` each push has a file of its own",
                ));
            }
        };
        Ok(FileSink::new(self.path.0, name, batching))
    }

    fn schema() -> Option<serde_json::Value> {
        Some(setting::schema::<Self>())
    }
}
