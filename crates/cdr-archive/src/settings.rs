//! What an operator may wish of an archive, the same for every sink that keeps one.

use std::time::Duration;

use bytesize::ByteSize;
use cdr_core::{Batching, BuildError};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Encoding, Filing, KeyTemplate};

/// How pushes become objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Many in an object, a JSON line each. Cheap: one write for all of them.
    #[default]
    Ndjson,
    /// Many in an object, in columns that DuckDB, Athena and Spark read at once.
    Parquet,
    /// An object each, holding the very bytes: for small sites and for looking.
    Raw,
}

/// How objects of many pushes are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As everything reads it; about an eighth of the size.
    Gzip,
    /// Smaller and several times faster than gzip.
    Zstd,
}

/// When an object of many pushes is written: at whichever bound is reached first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// Most pushes in an object, 1 to 4000; 1000.
    pub pushes: usize,
    /// Most bytes of bodies in an object, up to 8 MiB; a larger push comes alone.
    #[schemars(with = "String")]
    pub size: ByteSize,
    /// How long the first push of an object waits for others, up to an hour.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub age: Option<Duration>,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { pushes: 1000, size: ByteSize::mib(8), age: None }
    }
}

/// What stands in the configuration; sinks take these settings among their own.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How pushes become objects.
    pub layout: Layout,
    /// How they are compressed; without it parquet by zstd, lines not at all.
    pub compression: Option<Compression>,
    /// What objects are called; see [`KeyTemplate`].
    pub key: Option<String>,
    /// In which time zone days and hours of keys begin, an IANA name; without it the configuration's.
    pub timezone: Option<String>,
    /// When an object of many is full.
    pub batch: Option<BatchSettings>,
    /// Whether each day that is over gets its manifest by itself.
    pub manifest: bool,
}

impl Settings {
    /// A lane keeps no more open, and no more in memory.
    const MOST: usize = 4000;
    const LARGEST: ByteSize = ByteSize::mib(8);
    const OLDEST: Duration = Duration::from_secs(3600);

    /// The filing that these settings describe. `usual_age` is how long a push waits for company where the settings leave it
    /// out.
    ///
    /// # Errors
    /// Every fault of them.
    pub fn check(self, usual_age: Duration) -> Result<Filing, BuildError> {
        let mut faults = BuildError::default();
        let timezone = self.timezone(&mut faults);
        let encoding = self.encoding(&mut faults);
        let batching = self.batching(usual_age, &mut faults);
        let text = self.key.as_deref().unwrap_or(KeyTemplate::usual(self.layout));
        let manifest = self.manifest;
        let key = KeyTemplate::parse(text, self.layout).map_err(|message| faults.push("key", message)).ok();
        match (timezone, key) {
            (Some(timezone), Some(key)) => {
                faults.or_ok(Filing { key, timezone, encoding, batching, manifest })
            }
            _ => Err(faults),
        }
    }

    fn timezone(&self, faults: &mut BuildError) -> Option<TimeZone> {
        let Some(name) = self.timezone.clone().or_else(cdr_core::setting::timezone) else {
            return Some(TimeZone::UTC);
        };
        TimeZone::get(&name)
            .map_err(|_| faults.push("timezone", "no time zone has this name; they look like Asia/Shanghai"))
            .ok()
    }

    fn encoding(&self, faults: &mut BuildError) -> Option<Encoding> {
        if self.layout == Layout::Raw && self.compression.is_some_and(|wish| wish != Compression::None) {
            faults
                .push("compression", "belongs to objects of many pushes; `layout: raw` keeps the very bytes");
        }
        Encoding::of(self.layout, self.compression)
    }

    fn batching(&self, usual_age: Duration, faults: &mut BuildError) -> Batching {
        if self.layout == Layout::Raw {
            if self.batch.is_some() {
                faults.push(
                    "batch",
                    "belongs to `layout: ndjson` and parquet; with raw each push is by itself",
                );
            }
            return Batching::single();
        }
        let batch = self.batch.unwrap_or_default();
        if !(1..=Self::MOST).contains(&batch.pushes) {
            faults.push("batch.pushes", format!("must be 1 to {}", Self::MOST));
        }
        if batch.size.0 == 0 || batch.size > Self::LARGEST {
            faults.push("batch.size", format!("must be 1B to {}", Self::LARGEST.display()));
        }
        let wait = batch.age.unwrap_or(usual_age);
        if wait > Self::OLDEST {
            faults.push("batch.age", "must be at most 1h");
        }
        // Checked to be at most 8 MiB.
        let bytes = usize::try_from(batch.size.0).unwrap_or(usize::MAX);
        Batching { pushes: batch.pushes, bytes, wait, spacing: Duration::ZERO }
    }
}
