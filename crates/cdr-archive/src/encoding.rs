//! In which form many pushes lie in one object. It is part of the seal, so that a repeat makes the same again.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use cdr_core::Push;
use flate2::{GzBuilder, read::MultiGzDecoder};
use serde::{Deserialize, Serialize};

use crate::{Compression, Layout, Record, Unreadable, columns, lines};

/// What gzip and zstd call usual, fixed: a repeat must not depend on what a library takes for usual next year.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: u32 = 3;

/// No object of ours is larger when unpacked: bodies of 8 MiB, or one larger push, twice as long when every byte is escaped.
const LARGEST: u64 = 512 << 20;

/// The form of an object of many pushes, as it stands in its seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Encoding {
    format: Format,
    compression: Compression,
    level: u32,
}

/// Stands for all that makes the same records again: who changes what a line or a column holds adds another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "ndjson-1")]
    Ndjson,
    #[serde(rename = "parquet-1")]
    Parquet,
}

impl Encoding {
    /// The form of a layout; none for raw.
    pub(crate) fn of(layout: Layout, compression: Option<Compression>) -> Option<Self> {
        let (format, usual) = match layout {
            Layout::Ndjson => (Format::Ndjson, Compression::None),
            Layout::Parquet => (Format::Parquet, Compression::Zstd),
            Layout::Raw => return None,
        };
        let compression = compression.unwrap_or(usual);
        let level = match compression {
            Compression::None => 0,
            Compression::Gzip => GZIP_LEVEL,
            Compression::Zstd => ZSTD_LEVEL,
        };
        Some(Self { format, compression, level })
    }

    /// The form that the end of a key tells.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
        let lines = compressions.map(|compression| Self::of(Layout::Ndjson, Some(compression)));
        let known = lines.into_iter().chain([Self::of(Layout::Parquet, None)]).flatten();
        known
            .into_iter()
            .find(|encoding| key.strip_suffix(encoding.ext()).is_some_and(|rest| rest.ends_with('.')))
    }

    /// How keys end.
    pub fn ext(self) -> &'static str {
        match (self.format, self.compression) {
            (Format::Ndjson, Compression::None) => "ndjson",
            (Format::Ndjson, Compression::Gzip) => "ndjson.gz",
            (Format::Ndjson, Compression::Zstd) => "ndjson.zst",
            // Its pages are compressed, not the whole.
            (Format::Parquet, _) => "parquet",
        }
    }

    /// As in HTTP. Never with a `Content-Encoding`: who fetches an object shall have its bytes.
    pub(crate) fn content_type(self) -> &'static str {
        match (self.format, self.compression) {
            (Format::Ndjson, Compression::None) => "application/x-ndjson",
            (Format::Ndjson, Compression::Gzip) => "application/gzip",
            (Format::Ndjson, Compression::Zstd) => "application/zstd",
            (Format::Parquet, _) => "application/vnd.apache.parquet",
        }
    }

    pub(crate) fn write(self, pushes: &[Arc<Push>], out: &mut (dyn Write + Send)) -> io::Result<()> {
        match (self.format, self.compression) {
            (Format::Parquet, compression) => columns::write(pushes, compression, self.level, out),
            (Format::Ndjson, Compression::None) => lines::write(pushes, out),
            (Format::Ndjson, Compression::Gzip) => {
                // Neither a time nor a system in its header: both would differ from run to run.
                let mut packed = GzBuilder::new().mtime(0).write(out, flate2::Compression::new(self.level));
                lines::write(pushes, &mut packed)?;
                packed.finish().map(drop)
            }
            (Format::Ndjson, Compression::Zstd) => {
                let level = i32::try_from(self.level).map_err(io::Error::other)?;
                let mut packed = zstd::Encoder::new(out, level)?;
                packed.include_checksum(true)?;
                lines::write(pushes, &mut packed)?;
                packed.finish().map(drop)
            }
        }
    }

    pub(crate) fn read(self, bytes: &[u8]) -> Result<Vec<Record>, Unreadable> {
        match (self.format, self.compression) {
            (Format::Parquet, _) => columns::read(bytes),
            (Format::Ndjson, Compression::None) => lines::read(bytes),
            (Format::Ndjson, Compression::Gzip) => lines::read(&unpacked(MultiGzDecoder::new(bytes))?),
            (Format::Ndjson, Compression::Zstd) => lines::read(&unpacked(zstd::Decoder::new(bytes)?)?),
        }
    }
}

fn unpacked(packed: impl Read) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    packed.take(LARGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LARGEST {
        true => Err(Unreadable::new("it is larger than any object of ours")),
        false => Ok(bytes),
    }
}
