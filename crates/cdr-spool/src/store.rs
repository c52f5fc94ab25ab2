//! The part of the spool that reads: what everyone shares with the writer.
//!
//! Reads are `pread`s of committed bytes and never wait for the writer: the lock around [`State`] is held to find out where
//! to read, not while reading. A segment can go between the two; then the place is looked up again.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use crate::clock::Clock;
use crate::disk::{Directory, File};
use crate::log::entry::{self, Entry};
use crate::log::index::SegmentIndex;
use crate::log::outcomes::Dead;
use crate::log::segment;
use crate::log::view::{Extent, LogView};
use crate::log::walk::{Here, Walk};
use crate::state::{Located, Place, Reason, Segment, State};
use crate::{Health, Position, Read, ReadError, Settings, SpoolId, StoredPush, StoredQuarantine};

/// How many closed segments stay open for reading. Not all: there may be more of them than a process may open files.
const OPEN_FILES: usize = 16;
/// A round of the writer that takes longer means that the disk does not do what it should: whoever waits for a push is told 503
/// by then.
const SLOW: Duration = Duration::from_secs(4);
/// How often a place is looked up again because its segment went meanwhile.
const LOOK_AGAIN: usize = 8;

pub(crate) struct Store {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) segment_size: u64,
    pub(crate) identity: SpoolId,
    /// What the writer is at.
    pub(crate) round: Round,
    state: RwLock<State>,
    opened: Mutex<VecDeque<Arc<Opened>>>,
}

struct Opened {
    number: u64,
    file: Arc<dyn File>,
    sparse: Vec<(Position, u64)>,
}

/// What lies at a position.
pub(crate) enum Stored {
    Push(StoredPush),
    Quarantine(StoredQuarantine),
}

/// How much a read may still take.
struct Room {
    pushes: usize,
    bytes: usize,
}

impl Room {
    /// The first push always fits, however large.
    fn take(&mut self, read: &Read, bytes: usize) -> bool {
        if self.pushes == 0 || (bytes > self.bytes && !read.pushes.is_empty()) {
            return false;
        }
        self.pushes -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// How long the writer is at one round: taking what waits, and making it durable.
#[derive(Default)]
pub(crate) struct Round {
    /// When it began, in milliseconds (clock: running) and one more; 0 when the writer waits for work.
    began: AtomicU64,
    /// How long the last one took, in milliseconds.
    took: AtomicU64,
}

impl Round {
    pub(crate) fn begin(&self, running: Duration) {
        self.began.store(millis(running) + 1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self, running: Duration) {
        let began = self.began.swap(0, Ordering::Relaxed);
        self.took.store((millis(running) + 1).saturating_sub(began), Ordering::Relaxed);
    }

    /// The longer of this round and the last: a disk that needs six seconds for each is slow in between, too.
    fn takes(&self, running: Duration) -> Duration {
        let under_way = match self.began.load(Ordering::Relaxed) {
            0 => 0,
            began => (millis(running) + 1).saturating_sub(began),
        };
        Duration::from_millis(under_way.max(self.took.load(Ordering::Relaxed)))
    }
}

fn millis(running: Duration) -> u64 {
    u64::try_from(running.as_millis()).unwrap_or(u64::MAX - 1)
}

impl Store {
    pub(crate) fn new(
        directory: Arc<dyn Directory>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        segment_size: u64,
        identity: SpoolId,
        state: State,
    ) -> Store {
        let state = RwLock::new(state);
        let (round, opened) = (Round::default(), Mutex::default());
        Store { directory, clock, settings, segment_size, identity, round, state, opened }
    }

    /// Can a push be stored now? A disk that hangs says nothing, so the writer is asked for how long it has been waiting for it.
    pub(crate) fn health(&self) -> Health {
        let health = self.state().health.clone();
        let took = self.round.takes(self.clock.running());
        if health != Health::Ok || took < SLOW {
            return health;
        }
        let reason =
            format!("the disk is slow or hangs: it needs more than {} s for a commit", took.as_secs());
        Health::Failing { reason, since: SystemTime::now() - took }
    }

    /// The state. A panic of someone who held the lock leaves it usable: each change is complete in itself.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is committed at this moment, to be read from end to end.
    pub(crate) fn log(&self) -> LogView {
        let extent = |segment: &Segment| Extent { stamp: segment.stamp, end: segment.end };
        LogView::new(self.directory.clone(), self.state().segments.iter().map(extent).collect())
    }

    pub(crate) fn read(&self, from: Position, max: usize, max_bytes: usize) -> Result<Read, ReadError> {
        let mut read = Read { next: from.max(Position::FIRST), ..Read::default() };
        let mut room = Room { pushes: max, bytes: max_bytes };
        while room.pushes > 0 {
            let (located, end) = {
                let state = self.state();
                (state.locate(read.next), state.end)
            };
            if read.next >= end {
                break;
            }
            match located {
                Located::Nothing(next) => read.next = next,
                Located::Lost(until) => {
                    read.lost.extend((read.next.0..until.0).map(Position));
                    read.next = until;
                }
                Located::Carried(_) => match self.read_one(&mut read, &mut room) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => return up_to_there(read, from, error),
                },
                Located::Segment(segment) => match self.read_segment(segment, &mut read, &mut room) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => return up_to_there(read, from, error),
                },
            }
        }
        Ok(read)
    }

    /// The pushes from `from` on that may share its place on disk, which cannot be read: at most `max`, and where to read on.
    pub(crate) fn step_over(&self, from: Position, max: usize) -> (Vec<Position>, Position) {
        let located = self.state().locate(from);
        let behind = match located {
            Located::Nothing(next) => return (Vec::new(), next),
            Located::Lost(_) | Located::Carried(_) => from.next(),
            Located::Segment(segment) => self.next_in_index(&segment, from).unwrap_or(segment.until),
        };
        let behind = behind.min(Position(from.0.saturating_add(max as u64)));
        (self.state().pushes_between(from, behind), behind)
    }

    /// The next position of a segment at which a read can begin, if its index can be read.
    fn next_in_index(&self, segment: &Segment, from: Position) -> Option<Position> {
        let behind = |sparse: &[(Position, u64)]| sparse.iter().map(|(p, _)| *p).find(|p| *p > from);
        if let Some(open) = self.state().open.as_ref().filter(|open| open.number == segment.number()) {
            return behind(&open.sparse);
        }
        behind(&self.opened(segment).ok()??.sparse)
    }

    /// Reads the push at `read.next`, which was carried. False if there is no room for it.
    fn read_one(&self, read: &mut Read, room: &mut Room) -> Result<bool, ReadError> {
        match self.stored(read.next) {
            Ok(Some(Stored::Push(push))) => {
                if !room.take(read, push.body.len()) {
                    return Ok(false);
                }
                read.pushes.push(push);
            }
            Err(ReadError::Damaged { .. }) => read.lost.push(read.next),
            Ok(_) => {}
            Err(e) => return Err(e),
        }
        read.next = read.next.next();
        Ok(true)
    }

    /// Reads on in a segment, up to its end. False if there is no more room.
    fn read_segment(&self, segment: Segment, read: &mut Read, room: &mut Room) -> Result<bool, ReadError> {
        let chunk = room.bytes.clamp(Walk::SMALL, Walk::LARGE);
        let Some((mut walk, mut offset)) = self.approach(&segment, read.next, chunk)? else {
            return Ok(true);
        };
        let failed = |source| self.cannot_read(&segment, source);
        loop {
            match walk.at(offset).map_err(failed)? {
                Here::End => break,
                Here::Frame(header, _) if header.position >= segment.until => break,
                Here::Frame(header, bytes) => {
                    for entry in entry::entries(bytes) {
                        let Entry::Push { push, carried: false } = entry else { continue };
                        if push.position < read.next {
                            continue;
                        }
                        if !room.take(read, push.body.len()) {
                            read.next = push.position;
                            return Ok(false);
                        }
                        read.next = push.position.next();
                        read.pushes.push(push.to_stored());
                    }
                    offset += header.size();
                }
                Here::Broken => {
                    let found = walk.next_whole(offset + 1).map_err(failed)?;
                    let header = found.map(|at| walk.header_at(at)).transpose().map_err(failed)?.flatten();
                    let behind = header.map_or(segment.until, |h| h.position.min(segment.until));
                    self.read_damaged(behind, read, room)?;
                    let Some(at) = found else { break };
                    offset = at;
                }
            }
        }
        read.next = read.next.max(segment.until);
        Ok(true)
    }

    /// Goes over a damaged stretch, which ends before `behind`; what was carried from it is still there.
    fn read_damaged(&self, behind: Position, read: &mut Read, room: &mut Room) -> Result<(), ReadError> {
        while read.next < behind {
            let (carried, quarantined) = {
                let state = self.state();
                (state.carried.contains_key(&read.next), state.quarantine.contains_key(&read.next))
            };
            if carried {
                // Room or not: a damaged stretch is rare and short.
                room.pushes = room.pushes.max(1);
                self.read_one(read, room)?;
                continue;
            }
            if !quarantined {
                read.lost.push(read.next);
            }
            read.next = read.next.next();
        }
        Ok(())
    }

    /// What lies at a position; none if nothing does, or no longer.
    pub(crate) fn stored(&self, position: Position) -> Result<Option<Stored>, ReadError> {
        let stored = self.with_entry(position, |entry| match entry {
            Entry::Push { push, .. } => Some(Stored::Push(push.to_stored())),
            Entry::Quarantine { quarantine, .. } => Some(Stored::Quarantine(quarantine.to_stored())),
            _ => None,
        })?;
        Ok(stored.flatten())
    }

    /// Lets `look` see the entry at a position, without copying its body.
    pub(crate) fn with_entry<R>(
        &self,
        position: Position,
        look: impl Fn(&Entry) -> R,
    ) -> Result<Option<R>, ReadError> {
        for _ in 0..LOOK_AGAIN {
            let (located, carried) = {
                let state = self.state();
                (state.locate(position), state.carried.get(&position).copied())
            };
            let looked = match located {
                Located::Nothing(_) => return Ok(None),
                Located::Lost(_) => {
                    return Err(ReadError::Damaged {
                        position,
                        file: "a segment that is gone".into(),
                        offset: 0,
                    });
                }
                Located::Carried(place) => self.look_at(place, position, &look)?,
                Located::Segment(segment) => match self.look_in(&segment, position, &look) {
                    Err(ReadError::Damaged { .. }) if carried.is_some() => match carried {
                        Some(place) => self.look_at(place, position, &look)?,
                        None => None,
                    },
                    other => other?,
                },
            };
            if looked.is_some() {
                return Ok(looked);
            }
        }
        Ok(None)
    }

    /// Looks for a position in the segment where it was first written. None if the segment is gone.
    fn look_in<R>(
        &self,
        segment: &Segment,
        position: Position,
        look: impl Fn(&Entry) -> R,
    ) -> Result<Option<R>, ReadError> {
        let Some((mut walk, mut offset)) = self.approach(segment, position, Walk::SMALL)? else {
            return Ok(None);
        };
        let failed = |source| self.cannot_read(segment, source);
        loop {
            match walk.at(offset).map_err(failed)? {
                Here::Frame(header, bytes) if header.position <= position => {
                    if let Some(found) = entry::entries(bytes).find(|e| is_at(e, position)) {
                        return Ok(Some(look(&found)));
                    }
                    offset += header.size();
                }
                Here::Broken => {
                    let Some(at) = walk.next_whole(offset + 1).map_err(failed)? else { break };
                    offset = at;
                }
                Here::Frame(..) | Here::End => break,
            }
        }
        Err(ReadError::Damaged { position, file: segment::file_name(segment.number()), offset })
    }

    /// Looks for a carried position in the frame that has it. None if the segment is gone.
    fn look_at<R>(
        &self,
        place: Place,
        position: Position,
        look: impl Fn(&Entry) -> R,
    ) -> Result<Option<R>, ReadError> {
        self.with_frame(place, |bytes| {
            entry::entries(bytes).find(|e| is_carried_at(e, position)).map(|e| look(&e))
        })
        .and_then(|found| match found {
            None => Ok(None),
            Some(Some(found)) => Ok(Some(found)),
            Some(None) => Err(damaged(place, position)),
        })
    }

    /// The reason of a dead letter of a lane. None if the reason is damaged, or the letter is no more.
    pub(crate) fn dead_letter(&self, lane: &str, position: Position) -> Result<Option<Dead>, ReadError> {
        for _ in 0..LOOK_AGAIN {
            let (number, reason) = {
                let state = self.state();
                let lane = state.lanes.get(lane);
                let Some((lane, reason)) =
                    lane.and_then(|l| Some((l.number, l.dead.get(&position)?.clone())))
                else {
                    return Ok(None);
                };
                (lane, reason)
            };
            let place = match reason {
                Reason::InMemory(dead) => return Ok(Some(*dead)),
                Reason::Unknown => return Ok(None),
                Reason::OnDisk(place) => place,
            };
            let found = self.reasons(number, [(position, place)])?.remove(&position);
            // If its segment went meanwhile, the reason was carried.
            if found.is_some() || self.state().segment(place.segment).is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Dead letters of a lane behind `after`, at most `max`, each with its reason. None if the reason is damaged.
    pub(crate) fn dead_letters(
        &self,
        lane: &str,
        after: Position,
        max: usize,
    ) -> Result<Vec<(Position, Option<Dead>)>, ReadError> {
        let (number, letters): (u32, Vec<(Position, Reason)>) = {
            let state = self.state();
            let Some(lane) = state.lanes.get(lane) else { return Ok(Vec::new()) };
            let letters = lane.dead.range(after.next()..).take(max);
            (lane.number, letters.map(|(position, reason)| (*position, reason.clone())).collect())
        };
        let on_disk = letters.iter().filter_map(|(position, reason)| match reason {
            Reason::OnDisk(place) => Some((*position, *place)),
            Reason::InMemory(_) | Reason::Unknown => None,
        });
        let mut read = self.reasons(number, on_disk)?;
        let with_reason = |(position, reason)| {
            let dead = match (reason, read.remove(&position)) {
                (Reason::InMemory(dead), _) => Some(*dead),
                (Reason::Unknown, _) => None,
                // Damaged; or carried meanwhile, and then it lies elsewhere.
                (Reason::OnDisk(_), None) => self.dead_letter(lane, position)?,
                (Reason::OnDisk(_), found) => found,
            };
            Ok((position, dead))
        };
        letters.into_iter().map(with_reason).collect()
    }

    /// The reasons of dead letters that lie at these places; those that are damaged, or whose segment is gone, are left out.
    ///
    /// Each frame is read once: a lane that gives up a backlog leaves thousands in one, and a frame per letter was measured at
    /// half a minute for a page.
    pub(crate) fn reasons(
        &self,
        lane: u32,
        letters: impl IntoIterator<Item = (Position, Place)>,
    ) -> Result<BTreeMap<Position, Dead>, ReadError> {
        let mut by_place: BTreeMap<Place, Vec<Position>> = BTreeMap::new();
        for (position, place) in letters {
            by_place.entry(place).or_default().push(position);
        }
        let mut reasons = BTreeMap::new();
        for (place, positions) in by_place {
            let Some(mut deaths) = self.with_frame(place, |bytes| entry::deaths(bytes, lane))? else {
                continue;
            };
            reasons.extend(positions.into_iter().filter_map(|p| Some((p, deaths.remove(&p)?))));
        }
        Ok(reasons)
    }

    /// Lets `look` see a whole frame; it sees no bytes if the frame is damaged. None if the segment is gone.
    fn with_frame<R>(&self, place: Place, look: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, ReadError> {
        let Some(segment) = self.state().segment(place.segment).copied() else { return Ok(None) };
        let failed = |source| self.cannot_read(&segment, source);
        let Some(file) = self.file(&segment)? else { return Ok(None) };
        let mut walk = Walk::new(file, segment.stamp, segment.end, Walk::SMALL);
        Ok(Some(match walk.at(place.offset).map_err(failed)? {
            Here::Frame(_, bytes) => look(bytes),
            Here::Broken | Here::End => look(&[]),
        }))
    }

    /// A walk through a segment and the offset of a frame at or before `position`. None if the segment is gone.
    fn approach(
        &self,
        segment: &Segment,
        position: Position,
        chunk: usize,
    ) -> Result<Option<(Walk, u64)>, ReadError> {
        if let Some(open) = self.state().open.as_ref().filter(|open| open.number == segment.number()) {
            let walk = Walk::new(open.file.clone(), segment.stamp, segment.end, chunk);
            return Ok(Some((walk, SegmentIndex::near(&open.sparse, position))));
        }
        let Some(opened) = self.opened(segment)? else { return Ok(None) };
        let walk = Walk::new(opened.file.clone(), segment.stamp, segment.end, chunk);
        Ok(Some((walk, SegmentIndex::near(&opened.sparse, position))))
    }

    /// What a closed segment holds, and where. None if the segment is gone.
    pub(crate) fn index(&self, number: u64) -> Result<Option<SegmentIndex>, ReadError> {
        let Some(segment) = self.state().segment(number).copied() else { return Ok(None) };
        let Some(file) = self.file(&segment)? else { return Ok(None) };
        self.index_in(&segment, file).map(Some).map_err(|source| io_error(&segment, source))
    }

    fn index_in(&self, segment: &Segment, file: Arc<dyn File>) -> io::Result<SegmentIndex> {
        match SegmentIndex::load(&*self.directory, segment.stamp, segment.end) {
            Some(index) => Ok(index),
            None => SegmentIndex::scan(file, segment.stamp, segment.first, segment.end),
        }
    }

    fn file(&self, segment: &Segment) -> Result<Option<Arc<dyn File>>, ReadError> {
        if let Some(open) = self.state().open.as_ref().filter(|open| open.number == segment.number()) {
            return Ok(Some(open.file.clone()));
        }
        Ok(self.opened(segment)?.map(|opened| opened.file.clone()))
    }

    /// A closed segment, opened for reading. None if it went meanwhile.
    fn opened(&self, segment: &Segment) -> Result<Option<Arc<Opened>>, ReadError> {
        let number = segment.number();
        if let Some(opened) = self.cache().iter().find(|o| o.number == number) {
            return Ok(Some(opened.clone()));
        }
        let file = match self.directory.open(&segment::file_name(number)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.state().segment(number).is_none() => {
                return Ok(None);
            }
            other => other.map_err(|source| io_error(segment, source))?,
        };
        let sparse = self.index_in(segment, file.clone()).map_err(|source| io_error(segment, source))?.sparse;
        Ok(Some(self.remember(Opened { number, file, sparse })))
    }

    /// Keeps the file of a segment that ended open for reading: lanes are likely to read it next, and should its name be gone, they
    /// still can.
    pub(crate) fn keep_open(&self, index: &SegmentIndex, file: Arc<dyn File>) {
        self.remember(Opened { number: index.stamp.segment, file, sparse: index.sparse.clone() });
    }

    fn remember(&self, opened: Opened) -> Arc<Opened> {
        let opened = Arc::new(opened);
        let mut cache = self.cache();
        cache.truncate(OPEN_FILES - 1);
        cache.push_front(opened.clone());
        opened
    }

    /// The next read opens the file anew: what is open may be of a disk that is gone while its place has one again.
    fn cannot_read(&self, segment: &Segment, source: io::Error) -> ReadError {
        self.forget_file(segment.number());
        io_error(segment, source)
    }

    /// Closes the file of a segment that goes.
    pub(crate) fn forget_file(&self, number: u64) {
        self.cache().retain(|opened| opened.number != number);
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Opened>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_at(entry: &Entry, position: Position) -> bool {
    match entry {
        Entry::Push { push, carried: false } => push.position == position,
        Entry::Quarantine { quarantine, carried: false } => quarantine.position == position,
        _ => false,
    }
}

fn is_carried_at(entry: &Entry, position: Position) -> bool {
    match entry {
        Entry::Push { push, carried: true } => push.position == position,
        Entry::Quarantine { quarantine, carried: true } => quarantine.position == position,
        _ => false,
    }
}

/// What was read before the disk failed; whoever reads on there hears of it.
fn up_to_there(read: Read, from: Position, error: ReadError) -> Result<Read, ReadError> {
    if read.next > from { Ok(read) } else { Err(error) }
}

fn damaged(place: Place, position: Position) -> ReadError {
    ReadError::Damaged { position, file: segment::file_name(place.segment), offset: place.offset }
}

fn io_error(segment: &Segment, source: io::Error) -> ReadError {
    ReadError::Io { file: segment::file_name(segment.number()), source }
}
