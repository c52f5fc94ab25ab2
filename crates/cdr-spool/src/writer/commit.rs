//! From a frame to a durable one: segment, write, sync, and who is told in which order; and what a failure does.

use std::io;
use std::time::{Duration, SystemTime};

use super::intake::{self, Batch};
use super::tail::Tail;
use super::{SYNC_OUTCOMES_WITHIN, Writer};
use crate::disk::LOCK;
use crate::log::frame::{FrameBuilder, Stamp};
use crate::log::index::Mark;
use crate::log::segment::{self, SegmentHeader};
use crate::recovery::Doubtful;
use crate::state::{OpenFile, Segment};
use crate::{AppendError, Appended, Committed, Health, OpenError, Position, Quarantined};

pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

impl<T> Writer<T> {
    /// Writes what the frame holds, with the outcomes that wait. Pushes are synced at once, outcomes soon.
    pub(super) fn commit(&mut self) {
        if self.tail.is_none() {
            return;
        }
        self.write_outcomes();
        if self.frame.is_empty() {
            return self.sync_if_nobody_else_will();
        }
        let must_sync = !self.batch.is_empty();
        let mut frame = std::mem::replace(&mut self.frame, FrameBuilder::new());
        let put = self.put(&mut frame, self.batch.first);
        frame.clear();
        self.frame = frame;
        match put {
            Err(error) => self.fail("write", &error),
            Ok(()) if must_sync => self.sync(),
            Ok(()) => self.sync_soon(),
        }
    }

    /// Outcomes that changed nothing wait for nothing.
    fn sync_if_nobody_else_will(&mut self) {
        if self.unsynced.is_empty() && self.unsynced_memos.is_empty() {
            self.waiting.drain(..).for_each(|done| {
                done.send(()).ok();
            });
        }
    }

    fn sync_soon(&mut self) {
        let due = self.running() + SYNC_OUTCOMES_WITHIN;
        self.sync_due.get_or_insert(due);
    }

    /// Writes a frame into the segment, or into a new one if this one has grown enough.
    pub(super) fn put(&mut self, frame: &mut FrameBuilder, position: Position) -> io::Result<()> {
        let (size, limit) = (frame.size() as u64, self.shared.store.segment_size);
        if self.tail.as_ref().is_some_and(|t| t.written() + size > limit && !t.is_fresh()) {
            self.rotate(position)?;
        }
        let now = self.wall_ms();
        let Some(tail) = self.tail.as_mut() else { return Err(io::Error::other("no segment is open")) };
        let known = tail.index().notes.len();
        tail.write(frame, position, now)?;
        self.dedupe.carried(&tail.index().notes[known..]);
        let (number, written) = (tail.stamp().segment, tail.written());
        let mut state = self.shared.store.state_mut();
        if let Some(segment) = state.segments.last_mut().filter(|s| s.number() == number) {
            segment.size = written;
        }
        self.used = state.bytes();
        Ok(())
    }

    /// Ends the segment and begins the next one, whose first position is `first`.
    pub(super) fn rotate(&mut self, first: Position) -> io::Result<()> {
        if self.tail.as_ref().is_some_and(Tail::has_unsynced) {
            let mark = self.sync_tail()?;
            // Whoever waits for outcomes waits on: theirs may be in the frame at hand.
            let end = self.shared.store.state().end;
            self.publish_index(mark, end);
        }
        self.end_segment();
        self.begin_segment(first, &[])
    }

    /// Ends the segment at its last good commit.
    fn end_segment(&mut self) {
        let Some(tail) = self.tail.take() else { return };
        let file = tail.file.clone();
        let index = tail.close();
        self.last = (index.stamp.segment, index.end);
        self.shared.store.keep_open(&index, file);
        self.shared.store.state_mut().open = None;
        if let Err(error) = index.save(&*self.shared.store.directory) {
            tracing::debug!(segment = index.stamp.segment, %error, "the index of a segment was not written; a start will scan the segment");
        }
        self.dedupe.close(&index, &self.shared.store.directory);
    }

    /// Makes a new segment, durable with a checkpoint as its first frame, and with frames that were in doubt.
    fn begin_segment(&mut self, first: Position, in_doubt: &[Doubtful]) -> io::Result<()> {
        self.directory_is_ours()?;
        let store = &self.shared.store;
        let now = store.clock.wall_ms();
        let number = self.next_number;
        self.next_number += 1;
        let stamp = Stamp { segment: number, salt: rand::random() };
        let header =
            SegmentHeader { identity: store.identity, stamp, previous: self.last, first, opened_at_ms: now };
        let (checkpoint, outcomes) = {
            let state = store.state();
            (state.checkpoint(), state.outcomes_behind_checkpoint())
        };
        let made = Tail::create(&*store.directory, header).and_then(|mut tail| {
            let mut frame = FrameBuilder::new();
            frame.checkpoint(&checkpoint);
            outcomes.iter().for_each(|(lane, name, items)| frame.outcomes(*lane, name, items));
            tail.write(&mut frame, first, now)?;
            for doubtful in in_doubt {
                frame.clear();
                frame.copy_all(&doubtful.frame);
                if !frame.is_empty() {
                    tail.write(&mut frame, doubtful.position, doubtful.written_at_ms)?;
                }
            }
            tail.establish(&*store.directory)?;
            Ok(tail)
        });
        let tail = made.inspect_err(|_| {
            // It may have its name by now; each try would leave a file that nobody counts.
            for name in [segment::unborn_name(number), segment::file_name(number)] {
                store.directory.remove(&name).ok();
            }
        })?;
        let index = tail.index();
        index.known().for_each(|(prints, position)| self.dedupe.insert(prints, position));
        let mut state = store.state_mut();
        state.segments.push(Segment::of(index, tail.written()));
        state.open = Some(OpenFile { number, file: tail.file.clone(), sparse: index.sparse.clone() });
        state.learn(number, &index.notes);
        self.used = state.bytes();
        drop(state);
        self.tail = Some(tail);
        Ok(())
    }

    /// Whether the directory is the one that was opened. Another one at its place, such as an empty one below a file system that
    /// is not mounted, is no spool of ours: what is stored there would be hidden when the right one is back.
    fn directory_is_ours(&self) -> io::Result<()> {
        let is_ours = match self.shared.store.directory.id_of(LOCK) {
            Ok(id) => self.lock.as_ref().is_some_and(|lock| lock.file == id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if is_ours {
            return Ok(());
        }
        let path = self.shared.store.settings.path.display();
        let gone = format!(
            "{path} is not the directory that was opened: it was removed, moved away, or is not mounted. Put it back as it was and \
             pushes are taken again; a restart begins with what lies there then"
        );
        Err(io::Error::new(io::ErrorKind::NotFound, gone))
    }

    /// Looks whether the segment is still there when nobody asks for a commit, so that somebody hears of it before the next push.
    pub(super) fn look_for_the_segment(&mut self) {
        let in_place = self.tail.as_ref().map(|tail| tail.is_in_place(&*self.shared.store.directory));
        if let Some(Err(error)) = in_place {
            self.fail("use its directory", &error);
        }
    }

    /// Makes everything written durable and tells everyone who waits.
    pub(super) fn sync(&mut self) {
        match &self.tail {
            None => return,
            // A new segment was begun, and the old one synced before it.
            Some(tail) if !tail.has_unsynced() => return self.answer_outcomes(),
            Some(_) => {}
        }
        match self.sync_tail() {
            Ok(mark) => self.publish(mark),
            Err(error) => self.fail("sync", &error),
        }
    }

    fn sync_tail(&mut self) -> io::Result<Mark> {
        let began = self.running();
        let Some(tail) = self.tail.as_mut() else { return Err(io::Error::other("no segment is open")) };
        let mark = tail.sync(&*self.shared.store.directory)?;
        let took = self.running().saturating_sub(began);
        let mut state = self.shared.store.state_mut();
        state.counters.syncs += 1;
        state.counters.sync_time += took;
        state.counters.last_sync = took;
        Ok(mark)
    }

    /// After a sync: the state first, then those who wait, then the commit callback, which costs more than the answers and for
    /// which nobody waits.
    fn publish(&mut self, mark: Mark) {
        self.backoff = FIRST_BACKOFF;
        let next = Batch::starting_at(self.next);
        let Batch { pushes, quarantined, .. } = std::mem::replace(&mut self.batch, next);
        self.publish_state(mark, pushes.len(), pushes.iter().map(|p| p.repeats.len()).sum());
        self.publish_reuses(pushes.iter().filter(|p| p.uuid_reused).count(), quarantined.len());
        let mut answers = Vec::with_capacity(pushes.len());
        let mut live = Vec::with_capacity(pushes.len());
        for push in pushes {
            live.push((push.position, push.live));
            answers.push((push.position, push.uuid_reused, push.reply, push.repeats));
        }
        for (position, uuid_reused, reply, repeats) in answers {
            // Nobody listens if the sender hung up; the push is kept all the same.
            reply.send(Ok(Appended::Stored { position, uuid_reused })).ok();
            for reply in repeats {
                reply.send(Ok(Appended::Repeat { position })).ok();
            }
        }
        for queued in quarantined {
            for (nth, reply) in queued.replies.into_iter().enumerate() {
                reply.send(Ok(Quarantined { position: queued.position, is_new: nth == 0 })).ok();
            }
        }
        self.answer_outcomes();
        (self.on_commit)(Committed { end: self.next, pushes: live });
    }

    fn answer_outcomes(&mut self) {
        self.sync_due = None;
        self.unsynced.clear();
        self.unsynced_memos.clear();
        // Those whose outcomes are in the frame at hand wait on.
        if self.unwritten.is_empty() && self.unwritten_memos.is_empty() {
            self.waiting.drain(..).for_each(|done| {
                done.send(()).ok();
            });
        }
    }

    fn publish_state(&mut self, mark: Mark, appended: usize, repeats: usize) {
        let next = self.next;
        self.publish_index(mark, next);
        let mut state = self.shared.store.state_mut();
        state.counters.commits += 1;
        state.counters.appended += appended as u64;
        state.counters.repeats += repeats as u64;
    }

    fn publish_reuses(&mut self, uuid_reuses: usize, quarantined: usize) {
        let mut state = self.shared.store.state_mut();
        state.counters.uuid_reuses += uuid_reuses as u64;
        state.counters.quarantined += quarantined as u64;
    }

    /// Lets everyone read what is durable now.
    fn publish_index(&mut self, mark: Mark, end: Position) {
        let Some(tail) = self.tail.as_ref() else { return };
        let index = tail.index();
        let mut state = self.shared.store.state_mut();
        state.end = end;
        if let Some(segment) = state.segments.last_mut() {
            let size = segment.size;
            *segment = Segment::of(index, size);
        }
        if let Some(open) = state.open.as_mut() {
            let known = open.sparse.len();
            open.sparse.extend_from_slice(&index.sparse[known..]);
        }
        state.learn(index.stamp.segment, &index.notes[mark.notes..]);
    }

    /// A failed write or sync: everyone who waits for a push is refused, the segment ends at its last good commit, the positions
    /// are burnt, and the outcomes wait for the next segment.
    pub(super) fn fail(&mut self, what: &str, error: &io::Error) {
        let reason = format!("cannot {what}: {error}");
        tracing::error!(error = %error, retry_in_s = self.backoff.as_secs(), "the spool cannot {what}; pushes are refused until it can");
        self.end_segment();
        for (lane, items) in std::mem::take(&mut self.unwritten) {
            intake::merge(&mut self.unsynced, lane, items);
        }
        self.unwritten = std::mem::take(&mut self.unsynced);
        self.unwritten_memos.append(&mut self.unsynced_memos);
        self.sync_due = None;
        self.frame.clear();
        self.retry_due = self.running() + self.backoff;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        if error.kind() == io::ErrorKind::StorageFull {
            self.spend_reserve();
        }
        // Whoever is refused and asks why finds the answer.
        self.say_failing(&reason);
        self.refuse_batch(&reason);
    }

    fn say_failing(&mut self, reason: &str) {
        let mut state = self.shared.store.state_mut();
        state.counters.failures += 1;
        let since = match state.health {
            Health::Failing { since, .. } => since,
            Health::Ok | Health::Full { .. } => SystemTime::now(),
        };
        state.health = Health::Failing { reason: reason.to_owned(), since };
    }

    fn refuse_batch(&mut self, reason: &str) {
        let next = Batch::starting_at(self.next);
        let batch = std::mem::replace(&mut self.batch, next);
        if !batch.is_empty() {
            self.dedupe.forget_from(batch.first);
        }
        let refused = || AppendError::Failing { reason: reason.to_owned() };
        for push in batch.pushes {
            push.reply.send(Err(refused())).ok();
            push.repeats.into_iter().for_each(|reply| {
                reply.send(Err(refused())).ok();
            });
        }
        for reply in batch.quarantined.into_iter().flat_map(|q| q.replies) {
            reply.send(Err(refused())).ok();
        }
    }

    /// Tries a new segment after a failure. The door opens when its checkpoint and the outcomes that waited are durable.
    pub(super) fn try_again(&mut self) {
        if let Err(error) = self.begin_segment(self.next, &[]) {
            return self.fail("begin a new segment", &error);
        }
        self.commit();
        self.sync();
        if self.tail.is_none() || !self.has_reserve() {
            return;
        }
        tracing::info!(segment = self.next_number - 1, "the spool can write again");
        self.shared.store.state_mut().health = Health::Ok;
    }

    /// The first segment of this run, durable with the lanes in its checkpoint before anyone may append. It takes over what lay
    /// behind the last sync that the log can prove; positions that may have been given and lost are left out.
    pub(super) fn open_for_the_first_time(&mut self, in_doubt: &[Doubtful]) -> Result<(), OpenError> {
        let path = self.shared.store.settings.path.clone();
        let failed = |source| OpenError::Io { doing: "begin a segment", path: path.clone(), source };
        let first = in_doubt.first().map_or(self.next, |doubtful| doubtful.position);
        match self.begin_segment(first, in_doubt) {
            // Others filled the disk since the last stop: in the reserve's room sinks are served all the same.
            Err(error) if error.kind() == io::ErrorKind::StorageFull && self.give_reserve() => {
                self.begin_segment(first, in_doubt)
            }
            begun => begun,
        }
        .map_err(failed)?;
        if self.tail.as_ref().is_some_and(|tail| tail.index().until != self.next) {
            self.rotate(self.next).map_err(failed)?;
        }
        self.commit();
        self.sync();
        self.make_reserve();
        Ok(())
    }
}
