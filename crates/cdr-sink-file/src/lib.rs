//! Archives pushes as files, one each, holding the very bytes that came.
//!
//! ```yaml
//! archive: { file: { path: /var/lib/cdr/archive } }
//! ```
//! ```text
//! {path}/{action}/dt={day of arrival, UTC}/{spool}-{position, 20 digits}.json
//! ```
//! The name follows from the push alone, and no two pushes share one: the spool's identity keeps a fresh spool,
//! which counts from 1 again, from meeting the files of the old one. So a repeat after a crash finds its file
//! there, and the archive holds each push **exactly once**. A file is never overwritten: when the name is taken
//! by other bytes, the push is rejected and the file is named.
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
mod sink;

use cdr_core::{BuildError, SettingPath, SinkConfig, SinkName};
use serde::Deserialize;

pub use sink::FileSink;

/// Where files are put, and how they look.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// The folder of the archive. It may be made; the one above it must be there.
    pub path: SettingPath,
    /// How pushes become files.
    #[serde(default)]
    pub layout: Layout,
}

/// How pushes become files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A file each, holding the very bytes. The only layout yet.
    #[default]
    Raw,
}

impl SinkConfig for FileSettings {
    const KIND: &'static str = "file";
    type Sink = FileSink;

    fn build(self, name: &SinkName) -> Result<FileSink, BuildError> {
        let Layout::Raw = self.layout;
        Ok(FileSink::new(self.path.0, name))
    }
}
