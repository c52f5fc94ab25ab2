//! Damages a log on purpose and says what that takes. It reads frames by itself, as `docs/spool.md` tells the format: what
//! recovery makes of them is what is tested.

use std::collections::BTreeSet;
use std::ops::Range;

use cdr_spool::{Damage, LogReader, Logged, Position};

use crate::disk::{Chance, Disk};

/// Where the first frame begins.
const START: u64 = 128;
const FRAME_HEADER: u64 = 64;
const CHECKPOINT: u8 = 4;
const LANE: u8 = 9;
const DROPPED: u8 = 10;
const ERRAND: u8 = 12;
const SET_ASIDE: u8 = 13;
const MEMO: u8 = 14;

/// Bytes that were synced and are not what was written any more.
#[derive(Debug)]
pub struct Wound {
    pub file: String,
    /// Where the first frame begins that is no frame any more; 0 if it is the file's header.
    pub offset: u64,
    /// Nothing behind it proves that these bytes were synced: no start can tell them from a write that was torn.
    pub looks_torn: bool,
    /// The file is the newest segment, which every start scans.
    pub is_newest: bool,
    /// What the frames held that are none any more.
    pub taken: Vec<Logged>,
    /// The keys of the memos in them; the reader does not tell memos.
    pub noted: BTreeSet<String>,
    /// The files of segments that those frames say are dropped.
    pub dropped: Vec<String>,
    /// Where the positions of those frames lie.
    pub between: Range<Position>,
}

impl Wound {
    /// The pushes that lay there when they were stored.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        self.taken.iter().filter_map(|logged| match logged {
            Logged::Push { push, carried: false } => Some(push.position),
            _ => None,
        })
    }

    /// Whether what a start says covers every push that was taken.
    pub fn is_told_by(&self, damage: &Damage) -> bool {
        self.positions().all(|p| damage.lost.is_some_and(|(first, last)| (first..=last).contains(&p)))
    }
}

/// A segment's file, read without the spool.
struct Log {
    name: String,
    number: u64,
    /// The number of its predecessor, and where that ends.
    previous: (u64, u64),
    first: Position,
    bytes: Vec<u8>,
}

struct Frame {
    bytes: Range<u64>,
    durable_to: u64,
    position: Position,
}

fn number(bytes: &[u8], at: u64) -> u64 {
    u64::from_le_bytes(bytes[at as usize..at as usize + 8].try_into().unwrap())
}

fn length(bytes: &[u8], at: u64) -> u64 {
    u32::from_le_bytes(bytes[at as usize..at as usize + 4].try_into().unwrap()).into()
}

impl Log {
    fn of(disk: &Disk, name: String) -> Log {
        let bytes = disk.bytes_of(&name);
        let previous = (number(&bytes, 40), number(&bytes, 48));
        Log { number: number(&bytes, 24), previous, first: Position(number(&bytes, 56)), name, bytes }
    }

    fn frames(&self, end: u64) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut at = START;
        while at + FRAME_HEADER <= end && self.bytes[at as usize..].starts_with(b"CdrF") {
            let bytes = at..at + FRAME_HEADER + length(&self.bytes, at + 4);
            let position = Position(number(&self.bytes, at + 40));
            frames.push(Frame { durable_to: number(&self.bytes, at + 32), position, bytes: bytes.clone() });
            at = bytes.end;
        }
        frames
    }

    /// Type and payload of each entry of a frame.
    fn entries<'a>(&'a self, frame: &Frame) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = &self.bytes[(frame.bytes.start + FRAME_HEADER) as usize..frame.bytes.end as usize];
        std::iter::from_fn(move || {
            let kind = *rest.first()?;
            let (payload, behind) = rest[8..].split_at(length(rest, 4) as usize);
            rest = behind;
            Some((kind, payload))
        })
    }

    /// What frames say, as the reader tells it that finds nothing else in a log. A checkpoint that is not at the beginning is
    /// left out: it would say where this segment ended then.
    fn told_by(&self, frames: &[Frame]) -> Vec<Logged> {
        let alone = tempfile::tempdir().unwrap();
        let mut bytes = self.bytes[..START as usize].to_vec();
        let is_told = |frame: &&Frame| {
            frame.bytes.start == START || self.entries(frame).all(|(kind, _)| kind != CHECKPOINT)
        };
        for Frame { bytes: frame, .. } in frames.iter().filter(is_told) {
            bytes.extend_from_slice(&self.bytes[frame.start as usize..frame.end as usize]);
        }
        std::fs::write(alone.path().join(&self.name), bytes).unwrap();
        LogReader::open(alone.path()).unwrap().map(|entry| entry.unwrap().what).collect()
    }
}

/// Damages one segment, if chance finds a place whose damage has an answer. `wounded` names those that are damaged already, and
/// where: no file is hit twice.
///
/// Left alone are frames that change the set of lanes, and a checkpoint before which there is no other that is whole.
pub fn wound(disk: &Disk, chance: &mut Chance, wounded: impl Fn(&str) -> Option<u64>) -> Option<Wound> {
    let names = disk.names().into_iter().filter(|name| name.ends_with(".log"));
    let logs: Vec<Log> = names.map(|name| Log::of(disk, name)).collect();
    let at = if chance.below(2) == 0 { logs.len() - 1 } else { chance.below(logs.len() as u64) as usize };
    let (log, next) = (&logs[at], logs.get(at + 1));
    if wounded(&log.name).is_some() || next.is_some_and(|next| wounded(&next.name) == Some(0)) {
        return None;
    }
    let end = match next {
        Some(next) => (next.previous.0 == log.number).then_some(next.previous.1)?,
        None => log.bytes.len() as u64,
    };
    let has_header = |log: &&Log| wounded(&log.name) != Some(0);
    if chance.below(8) == 0 && logs.iter().filter(has_header).count() > 1 {
        disk.flip(&log.name, chance.below(START) as usize);
        return Some(Wound {
            file: log.name.clone(),
            offset: 0,
            looks_torn: false,
            is_newest: next.is_none(),
            taken: Vec::new(),
            noted: BTreeSet::new(),
            dropped: Vec::new(),
            between: log.first..log.first,
        });
    }

    let frames = log.frames(end);
    // A segment of which nothing was proven has none.
    frames.first()?;
    let nth =
        if chance.below(4) == 0 { frames.len() - 1 } else { chance.below(frames.len() as u64) as usize };
    let hit = &frames[nth].bytes;
    let from = hit.start + chance.below(hit.end - hit.start);
    let is_cut = next.is_some() && chance.below(4) == 0;
    let bytes = match chance.below(3) {
        _ if is_cut => from..end,
        0 => from..end.min(from + 700),
        _ => from..from + 1,
    };
    let first_hit = frames.iter().position(|frame| frame.bytes.end > bytes.start)?;
    let mut behind = frames.iter().position(|f| f.bytes.start >= bytes.end).unwrap_or(frames.len());
    let offset = frames[first_hit].bytes.start;
    let proves = |frame: &Frame| frame.durable_to > offset;
    let looks_torn = next.is_none() && !frames[behind..].iter().any(proves);
    if looks_torn {
        behind = frames.len();
    }
    let gone = &frames[first_hit..behind];

    let has_another_checkpoint = |before: &Log| {
        let is_named = before.number == log.previous.0 && log.previous.1 > START;
        is_named && wounded(&before.name).is_none_or(|offset| offset > START)
    };
    if first_hit == 0 && !logs[..at].last().is_some_and(has_another_checkpoint) {
        return None;
    }
    let entries: Vec<(u8, &[u8])> = gone.iter().flat_map(|frame| log.entries(frame)).collect();
    if entries.iter().any(|(kind, _)| matches!(*kind, LANE | ERRAND | SET_ASIDE)) {
        return None;
    }
    let dropped = entries.iter().filter(|(kind, _)| *kind == DROPPED).map(|(_, payload)| dropped_by(payload));
    let noted = entries.iter().filter(|(kind, _)| *kind == MEMO).map(|(_, payload)| noted_by(payload));
    let until = match (frames.get(behind), next) {
        (Some(frame), _) => frame.position,
        (None, Some(next)) => next.first,
        (None, None) => Position(u64::MAX),
    };
    let wound = Wound {
        file: log.name.clone(),
        offset,
        looks_torn,
        is_newest: next.is_none(),
        taken: log.told_by(gone),
        noted: noted.collect(),
        dropped: dropped.collect(),
        between: gone[0].position..until,
    };
    match is_cut {
        true => disk.cut_short(&log.name, from as usize),
        false => bytes.for_each(|offset| disk.flip(&log.name, offset as usize)),
    }
    Some(wound)
}

/// The file of the segment that an entry drops.
fn dropped_by(payload: &[u8]) -> String {
    let number = payload.iter().rev().fold(0u64, |number, byte| number << 7 | u64::from(byte & 0x7f));
    format!("{number:010}.log")
}

/// The key of a memo: behind the number of its lane, and its length before it.
fn noted_by(payload: &[u8]) -> String {
    let behind = |bytes: &'_ [u8]| bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1;
    let named = &payload[behind(payload)..];
    let begin = behind(named);
    let length =
        named[..begin].iter().rev().fold(0usize, |length, byte| length << 7 | usize::from(byte & 0x7f));
    String::from_utf8(named[begin..begin + length].to_vec()).unwrap()
}
