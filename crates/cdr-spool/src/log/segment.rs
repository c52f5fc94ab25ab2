//! A segment: its name, and the header with which its file begins.
//!
//! ```text
//!  0 "CDRSPOOL"   8 major u16   10 minor u16   12 0 u32   16 identity [8]   24 number u64   32 salt u64
//! 40 previous segment u64   48 its valid end u64   56 first position u64   64 opened_at_ms i64   72 0…   124 crc u32
//! ```
//! The header names the predecessor's valid end: bytes behind it were never answered, or failed to be synced, and are
//! never read again.

use std::io;

use crate::disk::File;
use crate::log::frame::{self, FrameHeader, Stamp};
use crate::{Position, SpoolId};

const MAGIC: &[u8; 8] = b"CDRSPOOL";
/// A build reads every minor version of its major one: entries of unknown types are skipped.
pub(crate) const MAJOR: u16 = 1;
/// 1 added seals: an entry, and their list at the end of a checkpoint. 2 added errands: the same, with where lanes began.
/// 3 added what is set aside: an entry. 4 added memos: an entry, and their list at the end of a checkpoint.
const MINOR: u16 = 4;
/// Bytes before the first frame.
pub(crate) const HEADER: usize = 128;
const CRC_AT: usize = HEADER - 4;
/// The identity of a header that was salvaged: the others of the spool tell.
pub(crate) const UNKNOWN: SpoolId = SpoolId([0; 8]);

/// The name of a segment's file.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:010}.log")
}

/// The name of a segment that is being made: it gets its real one when all that it begins with is durable.
pub(crate) fn unborn_name(number: u64) -> String {
    format!("{number:010}.new")
}

/// The name of a segment's index.
pub(crate) fn index_name(number: u64) -> String {
    format!("{number:010}.index")
}

/// The name of a segment that is kept aside because it is damaged.
pub(crate) fn damaged_name(number: u64) -> String {
    format!("{number:010}.damaged")
}

/// The number in a file name with this extension.
pub(crate) fn number_of(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    (digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: SpoolId,
    pub(crate) stamp: Stamp,
    /// The segment before this one and where it ends; segment 0 if there is none.
    pub(crate) previous: (u64, u64),
    /// The position of the first push that the segment can hold.
    pub(crate) first: Position,
    pub(crate) opened_at_ms: i64,
}

/// The identity that the newest whole header names.
pub(crate) fn identity_of<'a>(headers: impl DoubleEndedIterator<Item = &'a SegmentHeader>) -> SpoolId {
    headers.rev().map(|header| header.identity).find(|identity| *identity != UNKNOWN).unwrap_or(UNKNOWN)
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHeader {
    Unreadable,
    Newer(u16),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, MAGIC);
        put(8, &MAJOR.to_le_bytes());
        put(10, &MINOR.to_le_bytes());
        put(16, &self.identity.0);
        put(24, &self.stamp.segment.to_le_bytes());
        put(32, &self.stamp.salt.to_le_bytes());
        put(40, &self.previous.0.to_le_bytes());
        put(48, &self.previous.1.to_le_bytes());
        put(56, &self.first.0.to_le_bytes());
        put(64, &self.opened_at_ms.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER]) -> Result<SegmentHeader, NoHeader> {
        if bytes[CRC_AT..] != crc32fast::hash(&bytes[..CRC_AT]).to_le_bytes() || &bytes[..8] != MAGIC {
            return Err(NoHeader::Unreadable);
        }
        let major = u16::from_le_bytes([bytes[8], bytes[9]]);
        if major != MAJOR {
            return Err(NoHeader::Newer(major));
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            word
        };
        let number = |at| u64::from_le_bytes(word(at));
        Ok(SegmentHeader {
            identity: SpoolId(word(16)),
            stamp: Stamp { segment: number(24), salt: number(32) },
            previous: (number(40), number(48)),
            first: Position(number(56)),
            opened_at_ms: number(64) as i64,
        })
    }

    pub(crate) fn read(file: &dyn File) -> io::Result<Result<SegmentHeader, NoHeader>> {
        let mut bytes = [0; HEADER];
        let read = file.read_at(&mut bytes, 0)?;
        Ok(if read == HEADER { SegmentHeader::decode(&bytes) } else { Err(NoHeader::Unreadable) })
    }

    /// Makes a header for a segment whose own is damaged, from its first whole frame. None if it has none. It does not know its
    /// identity, which is then [`UNKNOWN`], nor its predecessor.
    pub(crate) fn salvage(file: &dyn File, number: u64) -> io::Result<Option<SegmentHeader>> {
        let mut bytes = vec![0; file.len()? as usize];
        let read = file.read_at(&mut bytes, 0)?;
        let bytes = &bytes[..read];
        let whole = frame::stamps(bytes, number).find_map(|(at, stamp)| {
            let header = FrameHeader::parse(&bytes[at..], stamp)?;
            let frame = bytes.get(at..at + header.size() as usize)?;
            frame::is_whole(frame).then_some(header)
        });
        Ok(whole.map(|frame| SegmentHeader {
            identity: UNKNOWN,
            stamp: frame.stamp,
            previous: (0, 0),
            first: frame.position,
            opened_at_ms: frame.written_at_ms,
        }))
    }

    /// The header of segment `number`, salvaged if it is damaged. None if there is nothing to be read by this build.
    pub(crate) fn read_or_salvage(file: &dyn File, number: u64) -> io::Result<Option<SegmentHeader>> {
        match SegmentHeader::read(file)? {
            Ok(header) if header.stamp.segment == number => Ok(Some(header)),
            Err(NoHeader::Newer(_)) => Ok(None),
            _ => SegmentHeader::salvage(file, number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_written_and_a_newer_format_is_named() {
        let header = SegmentHeader {
            identity: SpoolId(*b"identity"),
            stamp: Stamp { segment: 12, salt: 99 },
            previous: (11, 4096),
            first: Position(77),
            opened_at_ms: 1_700_000_000_000,
        };
        let mut bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));

        bytes[8] = 2;
        assert_eq!(SegmentHeader::decode(&bytes), Err(NoHeader::Unreadable));
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(NoHeader::Newer(2)));
    }

    #[test]
    fn names_are_numbers() {
        assert_eq!(number_of(&file_name(42), "log"), Some(42));
        assert_eq!(number_of(&file_name(12_345_678_901), "log"), Some(12_345_678_901));
        assert_eq!(number_of("0000000042.index", "log"), None);
        assert_eq!(number_of("+000000042.log", "log"), None);
        assert_eq!(number_of("42.log", "log"), None);
    }
}
