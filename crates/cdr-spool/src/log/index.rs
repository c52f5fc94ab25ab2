//! What a scan of a segment would tell: kept in memory while the segment is written, in a small file once it is closed.
//!
//! The file makes the start fast and nothing else: it is derived from the segment, written without a sync, believed only if
//! its CRC and the segment's stamp fit, and made again by a scan if not. 8 bytes a push, so 2 million pushes are read in
//! 16 MB instead of 3 GB. The rejected alternative, the same in frames of the log, makes cleaning the log harder.

use std::io;
use std::sync::Arc;

use crate::Position;
use crate::dedupe::{Prints, short_digest};
use crate::disk::{Directory, File};
use crate::log::codec::{Put, Take};
use crate::log::entry::{self, Entry};
use crate::log::frame::{FrameHeader, Stamp};
use crate::log::outcomes::Item;
use crate::log::segment;
use crate::log::walk::{Here, Walk};

const MAGIC: &[u8; 8] = b"CDRINDX1";
/// How far apart the frames are that the sparse index names: what a read in the middle of a segment reads in vain.
const SPARSE: u64 = 32 * 1024;

/// What is known of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    pub(crate) stamp: Stamp,
    /// The segment's new positions: first, and first not.
    pub(crate) first: Position,
    pub(crate) until: Position,
    /// Behind the last frame.
    pub(crate) end: u64,
    pub(crate) opened_at_ms: i64,
    /// When its last frame was written.
    pub(crate) newest_ms: i64,
    /// A scan found damage in it.
    pub(crate) damaged: bool,
    /// By which a repeat is suspected: one for each position from `first` on. Recovery lets them go where the file has them.
    pub(crate) prints: Vec<Prints>,
    /// Frames here and there: position and offset.
    pub(crate) sparse: Vec<(Position, u64)>,
    pub(crate) notes: Vec<Note>,
}

/// Something in a segment that must be found without knowing its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Quarantined { position: Position, digest: u64, bytes: u64 },
    Carried { position: Position, offset: u64, prints: Prints },
    CarriedQuarantine { position: Position, offset: u64, digest: u64, bytes: u64 },
    Died { lane: u32, position: Position, offset: u64 },
}

/// How far an index had got: to go back there when a write failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    until: Position,
    end: u64,
    newest_ms: i64,
    prints: usize,
    sparse: usize,
    pub(crate) notes: usize,
}

impl SegmentIndex {
    pub(crate) fn new(stamp: Stamp, first: Position, opened_at_ms: i64) -> SegmentIndex {
        SegmentIndex {
            stamp,
            first,
            until: first,
            end: segment::HEADER as u64,
            opened_at_ms,
            newest_ms: opened_at_ms,
            damaged: false,
            prints: Vec::new(),
            sparse: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds the frame at `offset`.
    pub(crate) fn add(&mut self, offset: u64, header: &FrameHeader, frame: &[u8]) {
        self.end = offset + header.size();
        self.newest_ms = self.newest_ms.max(header.written_at_ms);
        if self.sparse.last().is_none_or(|(_, last)| offset - last >= SPARSE) {
            self.sparse.push((header.position, offset));
        }
        for entry in entry::entries(frame) {
            self.add_entry(offset, &entry);
        }
    }

    fn add_entry(&mut self, offset: u64, entry: &Entry) {
        match entry {
            Entry::Push { push, carried } => {
                let prints = Prints::of(push.action, push.uuid, push.sha256);
                if *carried {
                    self.notes.push(Note::Carried { position: push.position, offset, prints });
                } else {
                    self.take(push.position, prints);
                }
            }
            Entry::Quarantine { quarantine, carried } => {
                let position = quarantine.position;
                let digest = short_digest(quarantine.sha256);
                let bytes = quarantine.body.len() as u64;
                if *carried {
                    self.notes.push(Note::CarriedQuarantine { position, offset, digest, bytes });
                } else {
                    self.take(position, Prints::NONE);
                    self.notes.push(Note::Quarantined { position, digest, bytes });
                }
            }
            Entry::Outcomes { lane, runs, .. } => {
                let dead = runs.iter().filter(|run| matches!(run.item, Item::Dead(_)));
                self.notes.extend(dead.map(|run| Note::Died { lane: *lane, position: run.first, offset }));
            }
            _ => {}
        }
    }

    /// A position that damage took leaves a place without prints.
    fn take(&mut self, position: Position, prints: Prints) {
        let place = position.0.saturating_sub(self.first.0) as usize;
        if place >= self.prints.len() {
            self.prints.resize(place, Prints::NONE);
            self.prints.push(prints);
        }
        self.until = self.until.max(position.next());
    }

    /// What it holds, and where: pushes, and those carried into it.
    pub(crate) fn known(&self) -> impl Iterator<Item = (Prints, Position)> {
        let positions = (self.first.0..).map(Position);
        let pushes = self.prints.iter().copied().zip(positions).filter(|(prints, _)| *prints != Prints::NONE);
        pushes.chain(self.notes.iter().filter_map(|note| match note {
            Note::Carried { position, prints, .. } => Some((*prints, *position)),
            _ => None,
        }))
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            until: self.until,
            end: self.end,
            newest_ms: self.newest_ms,
            prints: self.prints.len(),
            sparse: self.sparse.len(),
            notes: self.notes.len(),
        }
    }

    pub(crate) fn go_back(&mut self, mark: Mark) {
        self.until = mark.until;
        self.end = mark.end;
        self.newest_ms = mark.newest_ms;
        self.prints.truncate(mark.prints);
        self.sparse.truncate(mark.sparse);
        self.notes.truncate(mark.notes);
    }

    /// Where to begin to look for `position`.
    pub(crate) fn near(sparse: &[(Position, u64)], position: Position) -> u64 {
        match sparse.partition_point(|(p, _)| *p <= position) {
            0 => segment::HEADER as u64,
            n => sparse[n - 1].1,
        }
    }

    /// Writes the file. No sync: if it is lost, a scan makes it again.
    pub(crate) fn save(&self, directory: &dyn Directory) -> io::Result<()> {
        let name = segment::index_name(self.stamp.segment);
        let file = match directory.create(&name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                directory.remove(&name)?;
                directory.create(&name)?
            }
            other => other?,
        };
        file.write_at(&self.encode(), 0)
    }

    /// Reads the file of a segment, if it is there and fits.
    pub(crate) fn load(directory: &dyn Directory, stamp: Stamp, end: u64) -> Option<SegmentIndex> {
        let file = directory.open(&segment::index_name(stamp.segment)).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
        let read = file.read_at(&mut bytes, 0).ok()?;
        SegmentIndex::decode(bytes.get(..read)?).filter(|index| index.stamp == stamp && index.end == end)
    }

    /// Makes it again from the frames of a closed segment, as far as they are whole.
    pub(crate) fn scan(
        file: Arc<dyn File>,
        stamp: Stamp,
        first: Position,
        end: u64,
    ) -> io::Result<SegmentIndex> {
        let mut index = SegmentIndex::new(stamp, first, 0);
        let mut walk = Walk::over_bad_pages(file, stamp, end);
        let mut offset = Walk::start();
        loop {
            offset = match walk.at(offset)? {
                Here::Frame(header, bytes) => {
                    index.add(offset, &header, bytes);
                    offset + header.size()
                }
                Here::Broken => match walk.next_whole(offset + 1)? {
                    Some(at) => at,
                    None => return Ok(index),
                },
                Here::End => return Ok(index),
            };
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.prints.len() * 8 + self.sparse.len() * 6);
        out.extend_from_slice(MAGIC);
        out.put_fixed64(self.stamp.segment);
        out.put_fixed64(self.stamp.salt);
        out.put_varint(self.first.0);
        out.put_varint(self.until.0);
        out.put_varint(self.end);
        out.put_signed(self.opened_at_ms);
        out.put_signed(self.newest_ms);
        out.push(self.damaged.into());
        out.put_varint(self.prints.len() as u64);
        self.prints.iter().for_each(|prints| out.put_fixed64(prints.to_bits()));
        out.put_varint(self.sparse.len() as u64);
        let mut last = (0, 0);
        for (position, offset) in &self.sparse {
            out.put_varint(position.0 - last.0);
            out.put_varint(offset - last.1);
            last = (position.0, *offset);
        }
        out.put_varint(self.notes.len() as u64);
        self.notes.iter().for_each(|note| note.encode(&mut out));
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<SegmentIndex> {
        let (bytes, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(bytes).to_le_bytes() != *crc {
            return None;
        }
        let take = &mut Take(bytes.strip_prefix(MAGIC)?);
        let position = |take: &mut Take| take.varint().map(Position);
        let mut index = SegmentIndex {
            stamp: Stamp { segment: take.fixed64()?, salt: take.fixed64()? },
            first: position(take)?,
            until: position(take)?,
            end: take.varint()?,
            opened_at_ms: take.signed()?,
            newest_ms: take.signed()?,
            damaged: take.byte()? != 0,
            prints: Vec::new(),
            sparse: Vec::new(),
            notes: Vec::new(),
        };
        for _ in 0..take.varint()? {
            index.prints.push(Prints::from_bits(take.fixed64()?));
        }
        let mut last = (0u64, 0u64);
        for _ in 0..take.varint()? {
            last = (last.0.checked_add(take.varint()?)?, last.1.checked_add(take.varint()?)?);
            index.sparse.push((Position(last.0), last.1));
        }
        for _ in 0..take.varint()? {
            index.notes.push(Note::decode(take)?);
        }
        Some(index)
    }
}

impl Note {
    fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Note::Quarantined { position, digest, bytes } => {
                out.push(0);
                out.put_varint(position.0);
                out.put_fixed64(digest);
                out.put_varint(bytes);
            }
            Note::Carried { position, offset, prints } => {
                out.push(1);
                out.put_varint(position.0);
                out.put_varint(offset);
                out.put_fixed64(prints.to_bits());
            }
            Note::CarriedQuarantine { position, offset, digest, bytes } => {
                out.push(2);
                out.put_varint(position.0);
                out.put_varint(offset);
                out.put_fixed64(digest);
                out.put_varint(bytes);
            }
            Note::Died { lane, position, offset } => {
                out.push(3);
                out.put_varint(lane.into());
                out.put_varint(position.0);
                out.put_varint(offset);
            }
        }
    }

    fn decode(take: &mut Take) -> Option<Note> {
        let position = |take: &mut Take| take.varint().map(Position);
        Some(match take.byte()? {
            0 => Note::Quarantined {
                position: position(take)?,
                digest: take.fixed64()?,
                bytes: take.varint()?,
            },
            1 => Note::Carried {
                position: position(take)?,
                offset: take.varint()?,
                prints: Prints::from_bits(take.fixed64()?),
            },
            2 => Note::CarriedQuarantine {
                position: position(take)?,
                offset: take.varint()?,
                digest: take.fixed64()?,
                bytes: take.varint()?,
            },
            3 => Note::Died { lane: take.varint32()?, position: position(take)?, offset: take.varint()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_as_written_and_a_changed_byte_makes_it_unknown() {
        let prints = Prints::of("cdr", Some("a"), &[1; 32]);
        let index = SegmentIndex {
            stamp: Stamp { segment: 3, salt: 4 },
            first: Position(10),
            until: Position(12),
            end: 4096,
            opened_at_ms: -3,
            newest_ms: 77,
            damaged: true,
            prints: vec![prints, Prints::NONE],
            sparse: vec![(Position(10), 128), (Position(11), 900)],
            notes: vec![
                Note::Quarantined { position: Position(11), digest: 5, bytes: 6 },
                Note::Carried { position: Position(2), offset: 7, prints },
                Note::CarriedQuarantine { position: Position(3), offset: 8, digest: 9, bytes: 10 },
                Note::Died { lane: 1, position: Position(2), offset: 11 },
            ],
        };
        let mut bytes = index.encode();
        assert_eq!(SegmentIndex::decode(&bytes).as_ref(), Some(&index));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(SegmentIndex::decode(&bytes), None);
            bytes[at] ^= 1;
        }
    }
}
