//! From the files of a directory back to the state: what opening a spool does before it writes anything.
//!
//! 1. Read the headers; a header names its predecessor and that one's valid end.
//! 2. Load what is known of each segment: from its index, or by a scan. Segments since the newest checkpoint are always scanned.
//! 3. Take the lanes from the newest whole checkpoint, and replay the frames behind it.
//!
//! Frames of the last segment that no later one proves to be synced are believed, and written again into the next segment.
//! Bytes that are no whole frame are one of two things. At or behind the highest `durable_to` that any whole frame of the
//! segment names, in the last segment, they are a **torn tail**: a write that nobody was told of. Everything from there on is cut.
//! Before it, or before the end that a successor names, they are **damage**: the positions are lost, the lanes that wait for them
//! are given dead letters, and the file is kept.
//!
//! Pages that the disk does not give count as damage, too, if they are few; their pushes may yet be had later. At the very end, or
//! where there are many, the spool is not opened: it is the disk, and another start may find all of it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Directory, File};
use crate::log::entry::{self, Checkpoint, Entry};
use crate::log::index::{Mark, SegmentIndex};
use crate::log::outcomes::{Dead, Item};
use crate::log::segment::{self, NoHeader, SegmentHeader};
use crate::log::walk::{Here, Walk};
use crate::state::{Segment, State};
use crate::{Damage, OpenError, Position, SpoolId};

/// What the files tell.
pub(crate) struct Recovered {
    pub(crate) identity: SpoolId,
    pub(crate) is_new: bool,
    pub(crate) state: State,
    /// Of each segment, oldest first.
    pub(crate) indexes: Vec<SegmentIndex>,
    /// The number for the next segment.
    pub(crate) next_number: u64,
    /// The last segment and its valid end; (0, 0) if there is none.
    pub(crate) last: (u64, u64),
    /// When the newest frame was written.
    pub(crate) newest_ms: Option<i64>,
    pub(crate) bytes_read: u64,
    pub(crate) torn_bytes: u64,
    pub(crate) damage: Vec<Damage>,
    /// No checkpoint could be read although there are segments: what lanes had done is not known.
    pub(crate) lanes_unknown: bool,
    /// Files that are no part of the log any more, to be removed once the log goes on.
    pub(crate) leftovers: Vec<String>,
    /// Segments without one whole frame that yet hold bytes, to be renamed.
    pub(crate) unreadable: Vec<u64>,
    /// The end of the last segment, which no whole frame proves to be synced: it is believed, and written again.
    pub(crate) in_doubt: Vec<Doubtful>,
    /// How far the last segment goes without it.
    proven: Option<Mark>,
    /// Segments that have no index file.
    pub(crate) scanned: Vec<u64>,
}

/// A frame that may lie in the page cache only: its sync failed or never came, and the process that wrote it is gone.
/// After a failed sync the kernel may call such pages clean, so no sync of the old file makes it durable; only writing it again does.
pub(crate) struct Doubtful {
    pub(crate) position: Position,
    pub(crate) written_at_ms: i64,
    pub(crate) frame: Vec<u8>,
}

/// A segment's file, and where it ends.
struct Found {
    header: SegmentHeader,
    file: Arc<dyn File>,
    size: u64,
    /// Named by the successor: everything before it was committed.
    end: Option<u64>,
    /// The successor's first position.
    next_first: Option<Position>,
    /// The header is made up from a frame.
    salvaged: bool,
}

/// Reads a spool's directory. Changes nothing.
pub(crate) fn recover(directory: &dyn Directory, path: &Path) -> Result<Recovered, OpenError> {
    let failed = |doing| move |source| OpenError::Io { doing, path: path.to_path_buf(), source };
    let mut recovered = Recovered {
        identity: SpoolId([0; 8]),
        is_new: false,
        state: State::default(),
        indexes: Vec::new(),
        next_number: 1,
        last: (0, 0),
        newest_ms: None,
        bytes_read: 0,
        torn_bytes: 0,
        damage: Vec::new(),
        lanes_unknown: false,
        leftovers: Vec::new(),
        unreadable: Vec::new(),
        in_doubt: Vec::new(),
        proven: None,
        scanned: Vec::new(),
    };
    let mut found = recovered.find_segments(directory, failed("read the segments"))?;
    recovered.state.end = Position::FIRST;
    recovered.identity = identity_of(&mut found)?;
    if found.is_empty() {
        recovered.is_new = true;
        return Ok(recovered);
    }
    let checkpoint =
        newest_checkpoint(&found, &mut recovered.bytes_read).map_err(failed("read a checkpoint"))?;
    recovered.heed(&mut found, checkpoint.as_ref());
    let replay_from = checkpoint.as_ref().map_or(0, |(number, _)| *number);
    for segment in &found {
        let in_replay = segment.header.stamp.segment >= replay_from;
        recovered.load(directory, segment, in_replay).map_err(failed("read a segment"))?;
    }
    recovered
        .replay(&found, checkpoint.map(|(_, checkpoint)| checkpoint), replay_from)
        .map_err(failed("read the outcomes"))?;
    Ok(recovered)
}

impl Recovered {
    /// The segments that belong to the log, oldest first.
    fn find_segments(
        &mut self,
        directory: &dyn Directory,
        failed: impl Fn(io::Error) -> OpenError,
    ) -> Result<Vec<Found>, OpenError> {
        let files = directory.list().map_err(&failed)?;
        let numbered = |extension| {
            move |(name, size): &(String, u64)| Some((segment::number_of(name, extension)?, *size))
        };
        let mut numbers: Vec<(u64, u64)> = files.iter().filter_map(numbered("log")).collect();
        numbers.sort_unstable();
        for extension in ["log", "new", "index", "damaged"] {
            let highest = files.iter().filter_map(numbered(extension)).map(|(n, _)| n).max().unwrap_or(0);
            self.next_number = self.next_number.max(highest + 1);
        }
        self.leftovers.extend(files.iter().filter_map(numbered("new")).map(|(n, _)| segment::unborn_name(n)));
        self.leftovers.extend(
            files
                .iter()
                .filter_map(numbered("index"))
                .filter(|(n, _)| numbers.binary_search_by_key(n, |(m, _)| *m).is_err())
                .map(|(n, _)| segment::index_name(n)),
        );
        let mut found: Vec<Found> = Vec::new();
        for (number, size) in numbers {
            let name = segment::file_name(number);
            let file = directory.open(&name).map_err(&failed)?;
            let (header, salvaged) = match SegmentHeader::read(&*file).map_err(&failed)? {
                Ok(header) if header.stamp.segment == number => (header, false),
                Err(NoHeader::Newer(version)) => {
                    return Err(OpenError::Newer { file: name, found: version, supported: segment::MAJOR });
                }
                _ => {
                    self.damage.push(Damage { file: name, offset: 0, lost: None });
                    let Some(header) = SegmentHeader::salvage(&*file, number).map_err(&failed)? else {
                        self.unreadable.push(number);
                        continue;
                    };
                    (header, true)
                }
            };
            self.follow(&mut found, &header);
            found.push(Found { header, file, size, end: None, next_first: None, salvaged });
        }
        Ok(found)
    }

    /// Lets a header say where its predecessor ends. What lies between the two was given up while it was made.
    fn follow(&mut self, found: &mut Vec<Found>, header: &SegmentHeader) {
        let (previous, end) = header.previous;
        if previous == 0 {
            return;
        }
        while let Some(given_up) = found.pop_if(|f| f.header.stamp.segment > previous) {
            self.leftovers.push(segment::file_name(given_up.header.stamp.segment));
        }
        if let Some(last) = found.last_mut().filter(|f| f.header.stamp.segment == previous) {
            last.end = Some(end);
            last.next_first = Some(header.first);
        }
    }

    /// Lets the checkpoint say which segments there are and where they end. Others before it had been dropped, and a crash came
    /// before their files were removed.
    fn heed(&mut self, found: &mut Vec<Found>, checkpoint: Option<&(u64, Checkpoint)>) {
        let Some((own, checkpoint)) = checkpoint else { return };
        found.retain_mut(|f| {
            let number = f.header.stamp.segment;
            if number >= *own {
                return true;
            }
            let known = checkpoint.segments.iter().find(|s| s.number == number);
            match known {
                Some(known) => f.end = Some(known.end),
                None => self.leftovers.extend([segment::file_name(number), segment::index_name(number)]),
            }
            known.is_some()
        });
    }

    /// Adds a segment to the state: from its index if that fits and no replay needs its frames, or by a scan.
    fn load(&mut self, directory: &dyn Directory, found: &Found, in_replay: bool) -> io::Result<()> {
        let stamp = found.header.stamp;
        let saved =
            found.end.filter(|_| !in_replay).and_then(|end| SegmentIndex::load(directory, stamp, end));
        let index = match saved {
            // For all segments they would be 8 bytes a push, and only the filters need them, one segment after the other.
            Some(index) => SegmentIndex { prints: Vec::new(), ..index },
            None => {
                self.scanned.push(stamp.segment);
                self.scan(found)?
            }
        };
        self.state.segments.push(Segment::of(&index, found.size));
        self.state.learn(stamp.segment, &index.notes);
        self.state.end = self.state.end.max(index.until).max(found.header.first);
        self.newest_ms = self.newest_ms.max(Some(index.newest_ms));
        self.last = (stamp.segment, index.end);
        self.indexes.push(index);
        Ok(())
    }

    /// Reads all frames of a segment; decides what of it is whole, torn and damaged.
    fn scan(&mut self, found: &Found) -> io::Result<SegmentIndex> {
        // Only the last segment can be in doubt.
        (self.proven, self.in_doubt) = (None, Vec::new());
        let stamp = found.header.stamp;
        let mut index = SegmentIndex::new(stamp, found.header.first, found.header.opened_at_ms);
        index.damaged = found.salvaged;
        let mut walk = Walk::over_bad_pages(found.file.clone(), stamp, found.end.unwrap_or(found.size));
        let committed = match found.end {
            Some(end) => end,
            None => durable_to(&mut walk)?,
        };
        let mut offset = Walk::start();
        loop {
            match walk.at(offset)? {
                Here::Frame(header, bytes) => {
                    if offset >= committed {
                        self.proven.get_or_insert(index.mark());
                        let (position, written_at_ms) = (header.position, header.written_at_ms);
                        self.in_doubt.push(Doubtful { position, written_at_ms, frame: bytes.to_vec() });
                    }
                    index.add(offset, &header, bytes);
                    offset += header.size();
                }
                Here::Broken if offset < committed => {
                    let unknown = (committed, found.next_first.unwrap_or(index.until));
                    let (behind, position) = next_frame(&mut walk, offset)?.unwrap_or(unknown);
                    self.note_damage(&index, offset, position);
                    index.damaged = true;
                    index.until = index.until.max(position);
                    // The segment goes over it also where it ends behind it: a reader must come upon what is lost.
                    index.end = behind;
                    offset = behind;
                }
                Here::Broken | Here::End => break,
            }
        }
        // A write that was not finished can be read. What cannot may have been confirmed: it must not be cut.
        if found.end.is_none() && walk.is_bad_behind(offset) {
            let file = segment::file_name(stamp.segment);
            return Err(io::Error::other(format!(
                "the end of {file} cannot be read; see to the disk and start again"
            )));
        }
        index.end = offset.min(found.end.unwrap_or(offset));
        self.bytes_read += walk.bytes_read;
        if found.end.is_none() && found.size > offset {
            self.cut(found.size - offset, index.until);
        }
        Ok(index)
    }

    fn note_damage(&mut self, index: &SegmentIndex, offset: u64, position: Position) {
        let lost = (index.until < position).then(|| (index.until, Position(position.0 - 1)));
        self.damage.push(Damage { file: segment::file_name(index.stamp.segment), offset, lost });
    }

    /// A torn tail. The positions that may have lain there are burnt: if a disk lied about a sync, one of them may have been
    /// seen outside, and no position is ever given twice.
    fn cut(&mut self, bytes: u64, until: Position) {
        const SMALLEST_PUSH: u64 = 64;
        self.torn_bytes += bytes;
        self.state.end = self.state.end.max(Position(until.0 + bytes / SMALLEST_PUSH));
    }

    /// Takes the lanes from the checkpoint and lets everything behind it happen again.
    fn replay(&mut self, found: &[Found], checkpoint: Option<Checkpoint>, from: u64) -> io::Result<()> {
        let mut missing = Vec::new();
        match checkpoint {
            Some(checkpoint) => {
                // It lies in the first frame of its segment, before everything else there.
                missing.clone_from(&checkpoint.segments);
                missing.retain(|known| self.state.segment(known.number).is_none());
                self.state.restore(checkpoint);
                // Before the replay: a lane that jumps over a missing push has it open.
                missing.iter().for_each(|known| self.state.lose(known.first, known.until));
            }
            None => self.lanes_unknown = true,
        }
        for segment in found.iter().filter(|f| f.header.stamp.segment >= from) {
            let end = self.state.segment(segment.header.stamp.segment).map_or(0, |s| s.end);
            let mut walk = Walk::over_bad_pages(segment.file.clone(), segment.header.stamp, end);
            let mut offset = Walk::start();
            loop {
                match walk.at(offset)? {
                    Here::Frame(header, bytes) => {
                        for entry in entry::entries(bytes) {
                            self.replay_entry(entry, &mut missing);
                        }
                        offset += header.size();
                    }
                    Here::Broken => match walk.next_whole(offset + 1)? {
                        Some(at) => offset = at,
                        None => break,
                    },
                    Here::End => break,
                }
            }
            self.bytes_read += walk.bytes_read;
        }
        for index in &self.indexes {
            self.state.learn(index.stamp.segment, &index.notes);
        }
        self.lose_what_is_missing(&missing);
        Ok(())
    }

    fn replay_entry(&mut self, entry: Entry, missing: &mut Vec<entry::KnownSegment>) {
        match entry {
            Entry::Outcomes { lane, runs, .. } => {
                let Some(name) = self.state.lane_name(lane) else { return };
                let end = self.state.end;
                for run in runs {
                    for position in run.positions().take_while(|p| *p < end) {
                        self.state.fold(&name, position, &run.item);
                    }
                }
                if let Some(lane) = self.state.lanes.get_mut(&name) {
                    lane.close_replayed_seals();
                }
            }
            Entry::Seal { lane, seal, .. } => {
                // A seal whose pushes the log has lost is none; what is left of them is sealed anew.
                let is_there = seal.positions.last().is_some_and(|last| *last < self.state.end);
                if let Some(name) = self.state.lane_name(lane).filter(|_| is_there) {
                    self.state.seal(&name, seal);
                }
            }
            Entry::Memo { lane, memo } => {
                if let Some(name) = self.state.lane_name(lane) {
                    self.state.note_again(&name, memo);
                }
            }
            Entry::Lane(change) => self.state.change_lane(&change),
            Entry::Configuration { generation, hash } => {
                self.state.generation = generation;
                self.state.configuration = hash;
            }
            Entry::Dropped { segment } => {
                if let Some(at) = missing.iter().position(|known| known.number == segment) {
                    self.state.lost.remove(&missing.swap_remove(at).first);
                }
                if self.state.segment(segment).is_some() {
                    self.leftovers.push(segment::file_name(segment));
                    self.leftovers.push(segment::index_name(segment));
                    self.state.forget_segment(segment);
                    self.indexes.retain(|i| i.stamp.segment != segment);
                }
            }
            Entry::QuarantineDiscarded(positions) => {
                positions.into_iter().for_each(|p| {
                    self.state.discard_quarantine(p);
                });
            }
            _ => {}
        }
    }

    /// Segments that the checkpoint knew and that are gone, and stretches that the scans found damaged.
    fn lose_what_is_missing(&mut self, missing: &[entry::KnownSegment]) {
        for segment in missing {
            let (first, until) = (segment.first, segment.until);
            if self.state.is_owed(first, until) {
                let lost = Some((first, Position(until.0 - 1)));
                self.damage.push(Damage { file: segment::file_name(segment.number), offset: 0, lost });
            }
        }
        let stretches: Vec<_> = self.damage.iter().filter_map(|d| d.lost).collect();
        for (first, last) in stretches {
            self.state.lose(first, last.next());
        }
        self.state.prune_lost();
    }

    /// Ends the last segment where its frames prove that it was synced; what lay behind goes into the next one.
    pub(crate) fn give_up_the_doubtful(&mut self) {
        let Some((mark, index)) = self.proven.take().zip(self.indexes.last_mut()) else { return };
        index.go_back(mark);
        self.last.1 = index.end;
        if let Some(segment) = self.state.segments.last_mut() {
            *segment = Segment::of(index, segment.size);
        }
    }

    /// What closes every open delivery whose push is lost.
    pub(crate) fn dead_of_lost(&self, now_ms: i64) -> Vec<(String, Position, Item)> {
        let mut dead = Vec::new();
        for (name, lane) in &self.state.lanes {
            for (position, open) in lane.state.open.iter().filter(|(position, _)| !self.state.has(**position))
            {
                let (reason, excerpt) = ("damaged on disk".to_owned(), String::new());
                let item = Item::Dead(Dead { reason, excerpt, attempts: open.attempts, died_at_ms: now_ms });
                dead.push((name.clone(), *position, item));
            }
        }
        dead
    }
}

/// The number of the newest segment whose first frame is whole and holds a checkpoint, and that checkpoint.
fn newest_checkpoint(found: &[Found], bytes_read: &mut u64) -> io::Result<Option<(u64, Checkpoint)>> {
    for segment in found.iter().rev() {
        let limit = segment.end.unwrap_or(segment.size);
        let mut walk = Walk::new(segment.file.clone(), segment.header.stamp, limit, Walk::SMALL);
        let checkpoint = match walk.at(Walk::start())? {
            Here::Frame(_, bytes) => entry::entries(bytes).find_map(|entry| match entry {
                Entry::Checkpoint(checkpoint) => Some(checkpoint),
                _ => None,
            }),
            _ => None,
        };
        *bytes_read += walk.bytes_read;
        if let Some(checkpoint) = checkpoint {
            return Ok(Some((segment.header.stamp.segment, checkpoint)));
        }
    }
    Ok(None)
}

/// How far the last segment had been synced for certain: the highest claim of any whole frame, torn places skipped.
fn durable_to(walk: &mut Walk) -> io::Result<u64> {
    let mut highest = 0;
    let mut offset = Walk::start();
    loop {
        offset = match walk.at(offset)? {
            Here::Frame(header, _) => {
                highest = highest.max(header.durable_to);
                offset + header.size()
            }
            Here::Broken => match walk.next_whole(offset + 1)? {
                Some(at) => at,
                None => return Ok(highest),
            },
            Here::End => return Ok(highest),
        };
    }
}

/// The next whole frame behind a broken one: where it is, and its position.
fn next_frame(walk: &mut Walk, broken: u64) -> io::Result<Option<(u64, Position)>> {
    let Some(at) = walk.next_whole(broken + 1)? else { return Ok(None) };
    Ok(walk.header_at(at)?.map(|header| (at, header.position)))
}

/// The one identity that all headers name; a salvaged header takes it over. A new one if no header is left to ask:
/// whatever was stored elsewhere under the old identity then stays untouched.
fn identity_of(found: &mut [Found]) -> Result<SpoolId, OpenError> {
    let known = found.iter().rev().find(|f| !f.salvaged).map(|f| f.header.identity);
    let identity = known.unwrap_or_else(SpoolId::random);
    for segment in found {
        if segment.salvaged {
            segment.header.identity = identity;
        }
        if segment.header.identity != identity {
            return Err(OpenError::Foreign {
                file: segment::file_name(segment.header.stamp.segment),
                found: segment.header.identity.to_string(),
                expected: identity.to_string(),
            });
        }
    }
    Ok(identity)
}
