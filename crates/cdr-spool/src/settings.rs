//! How large a spool may get, and how long it keeps what is done.

use std::path::PathBuf;
use std::time::Duration;

use crate::OpenError;

const MIB: u64 = 1024 * 1024;

/// The settings of a spool.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory; created with mode 0700 if it does not exist.
    pub path: PathBuf,
    /// A push is kept at least this long after its arrival, and never shorter than some lane has it open.
    /// When room is needed, pushes that every lane has closed go earlier, oldest first.
    pub keep: Duration,
    /// The room that the spool may fill, in bytes. Full of what is still owed, it refuses; it never drops.
    pub max_size: u64,
    /// How many bytes may wait for a commit before appenders are told [`Busy`](crate::AppendError::Busy).
    pub in_flight: u64,
    /// The largest body, in bytes; at most a quarter of a segment.
    pub body_limit: u64,
    /// How long a push is recognised when it comes again.
    pub dedupe_window: Duration,
}

impl Settings {
    /// A spool at `path` with the defaults: 7 days, 20 GiB, 16 MiB in flight, bodies of 1 MiB, repeats known for 72 hours.
    pub fn new(path: impl Into<PathBuf>) -> Settings {
        Settings {
            path: path.into(),
            keep: Duration::from_secs(7 * 24 * 3600),
            max_size: 20 * 1024 * MIB,
            in_flight: 16 * MIB,
            body_limit: MIB,
            dedupe_window: Duration::from_secs(72 * 3600),
        }
    }

    /// The size of a segment: a sixteenth of the room, but neither below 4 MiB nor above 64 MiB.
    pub(crate) fn segment_size(&self) -> u64 {
        (self.max_size / 16).clamp(4 * MIB, 64 * MIB)
    }

    /// Refuses what cannot work, with the setting's name and what would.
    pub(crate) fn check(&self, segment_size: u64) -> Result<(), OpenError> {
        if self.body_limit > segment_size / 4 {
            return Err(OpenError::Settings(format!(
                "limits.body is {} bytes, but a spool with max_size {} takes bodies of at most {}; raise spool.max_size or lower limits.body",
                self.body_limit,
                self.max_size,
                segment_size / 4
            )));
        }
        if self.max_size < segment_size * 4 {
            return Err(OpenError::Settings(format!(
                "spool.max_size is {} bytes, but at least {} are needed (four segments)",
                self.max_size,
                segment_size * 4
            )));
        }
        Ok(())
    }
}
