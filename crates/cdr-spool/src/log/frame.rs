//! A frame: what one commit writes, all of it or nothing.
//!
//! ```text
//!  0 magic u32   4 length u32    8 segment u64   16 salt u64   24 sequence u64
//! 32 durable_to u64   40 position u64   48 written_at_ms i64   56 entries u32   60 crc u32   64 entries …
//! ```
//! The CRC covers everything but itself. The salt is random and known to nobody outside, so that a body that looks like a
//! frame is none: whoever sends it cannot know the salt.

use crate::Position;

/// "CdrF"
const MAGIC: u32 = u32::from_le_bytes(*b"CdrF");
/// Bytes before the entries.
pub(crate) const HEADER: usize = 64;
const ENTRY_HEADER: usize = 8;
const CRC_AT: usize = 60;

/// Which segment a frame was written for. Bytes with another stamp are no frame here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) segment: u64,
    pub(crate) salt: u64,
}

impl Stamp {
    /// The bytes that every frame of the segment holds at 8..24; with the magic, what a search looks for.
    fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.segment.to_le_bytes());
        bytes[8..].copy_from_slice(&self.salt.to_le_bytes());
        bytes
    }
}

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of the entries.
    pub(crate) length: u32,
    pub(crate) stamp: Stamp,
    /// Counts the frames of a segment, from 0.
    pub(crate) sequence: u64,
    /// Everything before this offset of the segment had been synced when the frame was written.
    pub(crate) durable_to: u64,
    /// The position of the first new push in the frame, or of the next one to come if it has none.
    pub(crate) position: Position,
    pub(crate) written_at_ms: i64,
    pub(crate) entries: u32,
}

impl FrameHeader {
    /// Bytes of the whole frame.
    pub(crate) fn size(&self) -> u64 {
        HEADER as u64 + u64::from(self.length)
    }

    /// Reads a header, and believes nothing yet: only [`is_whole`] does.
    pub(crate) fn parse(bytes: &[u8], stamp: Stamp) -> Option<FrameHeader> {
        let bytes: &[u8; HEADER] = bytes.first_chunk()?;
        if word32(bytes, 0) != MAGIC || bytes[8..24] != stamp.bytes() {
            return None;
        }
        Some(FrameHeader {
            length: word32(bytes, 4),
            stamp,
            sequence: word64(bytes, 24),
            durable_to: word64(bytes, 32),
            position: Position(word64(bytes, 40)),
            written_at_ms: word64(bytes, 48) as i64,
            entries: word32(bytes, 56),
        })
    }
}

fn word32(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn word64(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from(word32(bytes, at)) | u64::from(word32(bytes, at + 4)) << 32
}

/// The CRC of a whole frame, its own place left out.
fn crc(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..CRC_AT]);
    hasher.update(&frame[HEADER..]);
    hasher.finalize()
}

/// Whether a frame, header and entries, is what was written.
pub(crate) fn is_whole(frame: &[u8]) -> bool {
    frame.len() >= HEADER && frame[CRC_AT..HEADER] == crc(frame).to_le_bytes()
}

/// The next place in `bytes` where a frame of this segment may begin.
pub(crate) fn find(bytes: &[u8], stamp: Stamp) -> Option<usize> {
    let wanted = stamp.bytes();
    bytes.windows(24).position(|w| w[..4] == MAGIC.to_le_bytes() && w[8..] == wanted)
}

/// Every place in `bytes` where a frame of a segment may begin whose salt is not known any more, with the salt it would have.
pub(crate) fn stamps(bytes: &[u8], segment: u64) -> impl Iterator<Item = (usize, Stamp)> {
    bytes.windows(24).enumerate().filter_map(move |(at, w)| {
        if w[..4] != MAGIC.to_le_bytes() || w[8..16] != segment.to_le_bytes() {
            return None;
        }
        let salt = w.last_chunk().map(|salt| u64::from_le_bytes(*salt))?;
        Some((at, Stamp { segment, salt }))
    })
}

/// The entries of a frame: type, version, bytes. Ends early on bytes that do not fit, which a CRC that fits excludes.
pub(crate) fn entries(frame: &[u8]) -> impl Iterator<Item = (u8, u8, &[u8])> {
    let mut rest = frame.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (header, tail) = rest.split_first_chunk::<ENTRY_HEADER>()?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let (payload, tail) = tail.split_at_checked(length)?;
        rest = tail;
        Some((header[0], header[1], payload))
    })
}

/// Builds frames, one after the other, in one buffer.
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
    entries: u32,
}

impl FrameBuilder {
    pub(crate) fn new() -> FrameBuilder {
        FrameBuilder { bytes: vec![0; HEADER], entries: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes so far, header included.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Adds an entry whose payload `write` appends to the buffer.
    pub(crate) fn entry(&mut self, kind: u8, version: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let header = self.bytes.len();
        self.bytes.extend_from_slice(&[kind, version, 0, 0, 0, 0, 0, 0]);
        write(&mut self.bytes);
        let length = (self.bytes.len() - header - ENTRY_HEADER) as u32;
        self.bytes[header + 4..header + 8].copy_from_slice(&length.to_le_bytes());
        self.entries += 1;
    }

    /// Adds an entry as it was read from another frame.
    pub(crate) fn copy(&mut self, kind: u8, version: u8, payload: &[u8]) {
        self.entry(kind, version, |out| out.extend_from_slice(payload));
    }

    /// Fills in the header; `length` and `entries` are the builder's own.
    pub(crate) fn seal(&mut self, header: FrameHeader) -> &[u8] {
        let length = (self.bytes.len() - HEADER) as u32;
        self.bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&length.to_le_bytes());
        self.bytes[8..24].copy_from_slice(&header.stamp.bytes());
        self.bytes[24..32].copy_from_slice(&header.sequence.to_le_bytes());
        self.bytes[32..40].copy_from_slice(&header.durable_to.to_le_bytes());
        self.bytes[40..48].copy_from_slice(&header.position.0.to_le_bytes());
        self.bytes[48..56].copy_from_slice(&header.written_at_ms.to_le_bytes());
        self.bytes[56..60].copy_from_slice(&self.entries.to_le_bytes());
        let crc = crc(&self.bytes);
        self.bytes[CRC_AT..HEADER].copy_from_slice(&crc.to_le_bytes());
        &self.bytes
    }

    /// Empties the builder, keeping its buffer unless one large frame made it large.
    pub(crate) fn clear(&mut self) {
        const KEPT: usize = 2 * 1024 * 1024;
        self.bytes.truncate(HEADER);
        self.bytes.shrink_to(KEPT);
        self.entries = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(stamp: Stamp) -> FrameHeader {
        FrameHeader {
            length: 0,
            stamp,
            sequence: 3,
            durable_to: 128,
            position: Position(9),
            written_at_ms: -5,
            entries: 0,
        }
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_seen(payload in prop::collection::vec(any::<u8>(), 0..300), at: prop::sample::Index, flip in 1u8..) {
            let stamp = Stamp { segment: 7, salt: 42 };
            let mut builder = FrameBuilder::new();
            builder.entry(1, 0, |b| b.extend_from_slice(&payload));
            let frame = builder.seal(header(stamp)).to_vec();
            prop_assert!(is_whole(&frame));
            prop_assert_eq!(entries(&frame).collect::<Vec<_>>(), vec![(1, 0, &payload[..])]);

            let mut changed = frame.clone();
            changed[at.index(frame.len())] ^= flip;
            prop_assert!(!is_whole(&changed) || FrameHeader::parse(&changed, stamp).is_none());
        }

        #[test]
        fn a_frame_is_found_behind_anything(noise: Vec<u8>) {
            let stamp = Stamp { segment: 7, salt: 0x0102_0304_0506_0708 };
            let mut builder = FrameBuilder::new();
            builder.entry(1, 0, |b| b.push(1));
            let mut bytes = noise.clone();
            bytes.extend_from_slice(builder.seal(header(stamp)));
            prop_assert_eq!(find(&bytes, stamp), Some(noise.len()));
        }

        #[test]
        fn any_bytes_can_be_read_without_a_panic(bytes: Vec<u8>) {
            is_whole(&bytes);
            entries(&bytes).count();
            find(&bytes, Stamp { segment: 1, salt: 1 });
        }
    }
}
