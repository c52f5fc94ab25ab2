//! Reading a spool's log from outside: without the lock, beside a running gateway or without one.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use crate::disk::RealDirectory;
use crate::log::entry::{self, Entry, LaneChange};
use crate::log::outcomes::{Item, Run};
use crate::log::segment::{self, SegmentHeader};
use crate::log::view;
use crate::log::walk::{Here, Walk};
use crate::{Errand, Outcome, Position, ReadError, Seal, SpoolId, StoredPush, StoredQuarantine};

/// All entries of a spool's log, oldest first: what archives are checked against, and what `tail`
/// [follows](LogReader::catch_up).
///
/// It shows what is written, up to 50 ms of which may not be synced yet. Segments that go while it reads are skipped, and what
/// was carried out of them is read in its turn, also if that was written after it began; damaged stretches are skipped
/// and told.
#[derive(Debug)]
pub struct LogReader {
    identity: SpoolId,
    path: String,
    directory: RealDirectory,
    ahead: VecDeque<Ahead>,
    current: Option<Current>,
    /// The newest segment that was put in line, by its number.
    newest: u64,
    /// A segment went before it was read: what was carried out of it may lie behind the end that is known.
    has_skipped: bool,
    /// Entries of the frame at hand.
    ready: VecDeque<LogEntry>,
    sealed: SealedKeys,
}

/// What is sealed and not closed, by lane and position: the key is the receipt that is not stored.
#[derive(Debug, Default)]
struct SealedKeys(HashMap<(u32, Position), Arc<str>>);

impl SealedKeys {
    fn add(&mut self, lane: u32, seal: &Seal) {
        let key: Arc<str> = seal.key.as_str().into();
        self.0.extend(seal.positions.iter().map(|position| ((lane, *position), key.clone())));
    }

    /// Learns of new seals.
    fn follow(&mut self, entry: &Entry) {
        match entry {
            Entry::Seal { lane, seal, .. } => self.add(*lane, seal),
            Entry::Checkpoint(checkpoint) => {
                for lane in &checkpoint.lanes {
                    lane.seals.iter().for_each(|seal| self.add(lane.lane, seal));
                }
            }
            _ => {}
        }
    }

    /// The outcome as it was recorded, with the receipt that follows from its seal.
    fn whole(&mut self, lane: u32, position: Position, item: Item) -> Item {
        if matches!(item, Item::Retry(_) | Item::Reopened) {
            return item;
        }
        match (self.0.remove(&(lane, position)), item) {
            (Some(key), Item::Delivered(None)) => Item::Delivered(Some(key.to_string())),
            (_, item) => item,
        }
    }
}

/// A segment not yet begun.
#[derive(Debug)]
struct Ahead {
    number: u64,
    header: SegmentHeader,
    /// Where its successor says that it ends.
    end: Option<u64>,
}

struct Current {
    number: u64,
    walk: Walk,
    offset: u64,
    /// The last segment grows, and a broken frame at its end may be being written. Elsewhere it is damage.
    is_last: bool,
}

impl Current {
    /// Takes in that it is not the last one any more; its successor names a predecessor, and where that ends.
    fn has_successor(&mut self, previous: (u64, u64)) {
        self.is_last = false;
        match previous.0.cmp(&self.number) {
            Ordering::Equal => self.walk.end_at(previous.1),
            // Given up when its first write failed: it is no part of the log.
            Ordering::Less if previous.0 > 0 => self.walk.end_at(self.offset),
            _ => {}
        }
    }
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current")
            .field("number", &self.number)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// When it was written, in milliseconds since 1970.
    pub at_ms: i64,
    /// What it says.
    pub what: Logged,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Logged {
    /// A push was stored.
    Push {
        /// The push.
        push: StoredPush,
        /// It was stored before and written again, because its segment went.
        carried: bool,
    },
    /// Bytes were put in quarantine.
    Quarantine {
        /// The bytes.
        quarantine: StoredQuarantine,
        /// They were there before and written again, because their segment went.
        carried: bool,
    },
    /// Quarantined bytes were dealt with.
    QuarantineDiscarded {
        /// Their place.
        position: Position,
    },
    /// A delivery became something.
    Outcome {
        /// The number of the lane.
        number: u32,
        /// The lane, by the name that it had then.
        lane: String,
        /// The push.
        position: Position,
        /// What it became.
        outcome: Outcome,
    },
    /// Pushes of a lane were sealed: they become one thing together, whatever happens.
    Sealed {
        /// The lane, by the name that it had then.
        lane: String,
        /// What was sealed.
        seal: Seal,
    },
    /// A dead letter was woken.
    Reopened {
        /// The number of the lane.
        number: u32,
        /// The lane, by the name that it had then.
        lane: String,
        /// The push.
        position: Position,
    },
    /// A lane was registered while the gateway ran; those of a start are in its checkpoint.
    LaneRegistered {
        /// Its number: it stays when the name changes.
        number: u32,
        /// Its name.
        name: String,
        /// Where it starts.
        next: Position,
    },
    /// A lane has a new name.
    LaneRenamed {
        /// Its number.
        number: u32,
        /// Its new name.
        name: String,
    },
    /// A lane was forgotten.
    LaneRetired {
        /// Its number.
        number: u32,
    },
    /// A lane is temporary from here on; it may have been there before under another name.
    LaneErrand {
        /// Its number.
        number: u32,
        /// Its name.
        name: String,
        /// The first position that it has not read.
        next: Position,
        /// What it is for.
        errand: Errand,
    },
    /// What a lane had not read is a temporary lane from here on, and the lane goes on where that one ends.
    LaneSetAside {
        /// The number of the lane that goes on.
        of: u32,
        /// The number of the temporary one.
        number: u32,
        /// Its name.
        name: String,
        /// The first position that it reads.
        next: Position,
        /// What it is for.
        errand: Errand,
    },
    /// A configuration came into force.
    Configuration {
        /// Its generation.
        generation: u64,
        /// Its hash.
        hash: [u8; 32],
    },
    /// The state of the lanes, at the start of each segment.
    Checkpoint {
        /// The first position not committed then.
        end: Position,
        /// Of each lane: its number, name, next position, how many are open, and its dead letters.
        lanes: Vec<CheckpointLane>,
    },
}

/// A lane in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointLane {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Where it began to read: what came before was never its business.
    pub began: Position,
    /// The first position that it had not read.
    pub next: Position,
    /// What it had open.
    pub open: Vec<Position>,
    /// Its dead letters.
    pub dead: Vec<Position>,
    /// What it had sealed and not closed.
    pub seals: Vec<Seal>,
    /// What it is for, if it is temporary.
    pub errand: Option<Errand>,
}

impl LogReader {
    /// Begins at the oldest entry of the spool at `path`.
    ///
    /// # Errors
    /// If there is no spool, or the disk cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<LogReader, ReadError> {
        LogReader::open_since(path, i64::MIN)
    }

    /// Begins a little before the first entry that was written at this time, in milliseconds since 1970, or later: with the
    /// segment that was open then.
    ///
    /// # Errors
    /// If there is no spool, or the disk cannot be read.
    pub fn open_since(path: impl AsRef<Path>, since_ms: i64) -> Result<LogReader, ReadError> {
        let path = path.as_ref();
        let mut reader = LogReader {
            identity: SpoolId([0; 8]),
            path: path.display().to_string(),
            directory: RealDirectory::at(path),
            ahead: VecDeque::new(),
            current: None,
            newest: 0,
            has_skipped: false,
            ready: VecDeque::new(),
            sealed: SealedKeys::default(),
        };
        reader.find_segments()?;
        reader.heed_the_newest_checkpoint()?;
        if reader.ahead.is_empty() {
            return Err(ReadError::NoSpool(format!("there is no spool at {}", reader.path)));
        }
        reader.identity = segment::identity_of(reader.ahead.iter().map(|ahead| &ahead.header));
        while reader.ahead.get(1).is_some_and(|next| next.header.opened_at_ms <= since_ms) {
            reader.ahead.pop_front();
        }
        Ok(reader)
    }

    /// Leaves out what was given up, and what was dropped and is still there.
    fn heed_the_newest_checkpoint(&mut self) -> Result<(), ReadError> {
        let failed = |source| ReadError::Io { file: self.path.clone(), source };
        let stamps = self.ahead.iter().map(|ahead| ahead.header.stamp);
        if let Some((own, checkpoint)) = view::newest_checkpoint(&self.directory, stamps).map_err(failed)? {
            self.ahead.retain_mut(|ahead| view::heed(own, &checkpoint, ahead.number, &mut ahead.end));
        }
        Ok(())
    }

    /// Looks once whether there is more after the end: true when the iterator goes on. Works over a restart of the gateway
    /// that writes the log. Costs a listing of the directory and the length of a file.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn catch_up(&mut self) -> Result<bool, ReadError> {
        let failed = |source| ReadError::Io { file: self.path.clone(), source };
        // First: its successor, which would say where it ends, may be gone by now.
        let has_grown = match &mut self.current {
            Some(current) if current.is_last => current.walk.grow().map_err(failed)?,
            _ => false,
        };
        self.find_segments()?;
        Ok(has_grown || !self.ahead.is_empty())
    }

    /// Puts the segments in line that are not yet.
    fn find_segments(&mut self) -> Result<(), ReadError> {
        let failed = |source| ReadError::Io { file: self.path.clone(), source };
        let mut numbers = view::numbers_in(&self.directory).map_err(failed)?;
        numbers.retain(|number| *number > self.newest);
        for number in numbers {
            let Some(file) = view::open(&self.directory, number).map_err(failed)? else {
                self.has_skipped = true;
                continue;
            };
            // Not begun: no part of the log.
            let Some(header) = SegmentHeader::read_or_salvage(&*file, number).map_err(failed)? else {
                continue;
            };
            let previous = header.previous;
            while self.ahead.back().is_some_and(|last| last.number > previous.0 && previous.0 > 0) {
                self.ahead.pop_back();
            }
            match (self.ahead.back_mut(), &mut self.current) {
                (Some(last), _) if last.number == previous.0 => last.end = Some(previous.1),
                (None, Some(current)) => current.has_successor(previous),
                _ => {}
            }
            self.ahead.push_back(Ahead { number, header, end: None });
            self.newest = number;
        }
        Ok(())
    }

    /// Whose spool it is.
    pub fn identity(&self) -> SpoolId {
        self.identity
    }

    /// Reads one more frame. False at the end of the log.
    fn advance(&mut self) -> Result<bool, ReadError> {
        let Some(current) = self.current.as_mut() else { return self.begin_segment() };
        let file = segment::file_name(current.number);
        let failed = |source| ReadError::Io { file: file.clone(), source };
        match current.walk.at(current.offset).map_err(failed)? {
            Here::Frame(header, bytes) => {
                for entry in entry::entries(bytes) {
                    self.sealed.follow(&entry);
                    logged(entry, &mut self.sealed, |what| {
                        self.ready.push_back(LogEntry { at_ms: header.written_at_ms, what })
                    });
                }
                current.offset += header.size();
            }
            Here::End if current.is_last => return self.look_behind_the_end(),
            Here::End => self.current = None,
            Here::Broken => {
                let offset = current.offset;
                let next = match current.is_last {
                    true => next_behind_damage(&mut current.walk, offset),
                    false => current.walk.next_whole(offset + 1),
                };
                match next.map_err(failed)? {
                    Some(at) => current.offset = at,
                    // It may be being written.
                    None if current.is_last => return self.look_behind_the_end(),
                    None => self.current = None,
                }
                return Err(ReadError::DamagedLog { file, offset });
            }
        }
        Ok(true)
    }

    /// Whether there is more, if something was skipped; each segment goes once.
    fn look_behind_the_end(&mut self) -> Result<bool, ReadError> {
        Ok(std::mem::take(&mut self.has_skipped) && self.catch_up()?)
    }

    fn begin_segment(&mut self) -> Result<bool, ReadError> {
        let Some(Ahead { number, header, end }) = self.ahead.pop_front() else {
            return self.look_behind_the_end();
        };
        let failed = |source| ReadError::Io { file: segment::file_name(number), source };
        let Some(file) = view::open(&self.directory, number).map_err(failed)? else {
            self.has_skipped = true;
            return Ok(true);
        };
        let size = file.len().map_err(failed)?;
        let walk = Walk::new(file, header.stamp, end.unwrap_or(size), Walk::LARGE);
        // One whose successor's header is damaged has no end, and is not the last one.
        let is_last = end.is_none() && self.ahead.is_empty();
        self.current = Some(Current { number, walk, offset: Walk::start(), is_last });
        Ok(true)
    }
}

impl Iterator for LogReader {
    type Item = Result<LogEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(Ok(entry));
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The next whole frame behind a broken one of the last segment, if a frame proves that the broken one had been synced. If none
/// does, it is being written, or was torn when the power went.
fn next_behind_damage(walk: &mut Walk, broken: u64) -> std::io::Result<Option<u64>> {
    let next = walk.next_whole(broken + 1)?;
    let mut at = next;
    while let Some(offset) = at {
        at = match walk.at(offset)? {
            Here::Frame(header, _) if header.durable_to > broken => return Ok(next),
            Here::Frame(header, _) => Some(offset + header.size()),
            Here::Broken => walk.next_whole(offset + 1)?,
            Here::End => None,
        };
    }
    Ok(None)
}

/// Tells an entry as the outside knows it; a run of outcomes becomes one each.
fn logged(entry: Entry, sealed: &mut SealedKeys, mut tell: impl FnMut(Logged)) {
    match entry {
        Entry::Push { push, carried } => tell(Logged::Push { push: push.to_stored(), carried }),
        Entry::Quarantine { quarantine, carried } => {
            tell(Logged::Quarantine { quarantine: quarantine.to_stored(), carried });
        }
        Entry::Outcomes { lane, name, runs } => {
            runs.iter().for_each(|run| logged_run(lane, name, run, sealed, &mut tell));
        }
        Entry::Seal { name, seal, .. } => tell(Logged::Sealed { lane: name.to_owned(), seal }),
        Entry::QuarantineDiscarded(positions) => {
            positions.into_iter().for_each(|position| tell(Logged::QuarantineDiscarded { position }));
        }
        Entry::Lane(LaneChange::Registered { lane, name, next }) => {
            tell(Logged::LaneRegistered { number: lane, name, next });
        }
        Entry::Lane(LaneChange::Renamed { lane, name }) => tell(Logged::LaneRenamed { number: lane, name }),
        Entry::Lane(LaneChange::Errand { lane, name, next, errand }) => {
            tell(Logged::LaneErrand { number: lane, name, next, errand });
        }
        Entry::Lane(LaneChange::SetAside { of, lane, name, next, errand }) => {
            tell(Logged::LaneSetAside { of, number: lane, name, next, errand });
        }
        Entry::Lane(LaneChange::Retired { lane }) => tell(Logged::LaneRetired { number: lane }),
        Entry::Configuration { generation, hash } => tell(Logged::Configuration { generation, hash }),
        Entry::Checkpoint(checkpoint) => {
            let lane = |known: entry::KnownLane| CheckpointLane {
                number: known.lane,
                name: known.name,
                began: known.began,
                next: known.next,
                open: known.open.into_iter().map(|(position, _)| position).collect(),
                dead: known.dead,
                seals: known.seals,
                errand: known.errand,
            };
            let lanes = checkpoint.lanes.into_iter().map(lane).collect();
            tell(Logged::Checkpoint { end: checkpoint.end, lanes });
        }
        Entry::Memo { .. } | Entry::Dropped { .. } | Entry::Unknown(_) => {}
    }
}

fn logged_run(number: u32, lane: &str, run: &Run, sealed: &mut SealedKeys, tell: &mut impl FnMut(Logged)) {
    for position in run.positions() {
        let lane = lane.to_owned();
        match sealed.whole(number, position, run.item.clone()).into_outcome() {
            Some(outcome) => tell(Logged::Outcome { number, lane, position, outcome }),
            None => tell(Logged::Reopened { number, lane, position }),
        }
    }
}
