//! What may go, and what has to be carried out of it first.
//!
//! A segment may go when no lane has anything unread in it. What is still needed of it (open deliveries, dead letters with their
//! reasons, quarantine) is **carried**: written again under the same position, committed together with the word that the
//! segment is dropped, and only then the file is removed. A crash in between leaves two copies, which is harmless.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::Writer;
use super::intake::millis;
use crate::log::frame::FrameBuilder;
use crate::log::outcomes::{Item, Items};
use crate::log::segment;
use crate::state::{Segment, State};
use crate::store::Stored;
use crate::{AppendError, Health, Position, ReadError, StoredPush, StoredQuarantine};

/// How far the wall clock may jump before nobody believes it, and how long it then has to be right.
const BELIEVED: Duration = Duration::from_secs(3600);

/// Whether the wall clock is to be believed when it says that something is old.
pub(crate) struct AgeGuard {
    reference: (i64, Duration),
    /// Not before this (clock: running).
    believed_from: Duration,
}

impl AgeGuard {
    /// A clock that is far off the newest entry has to run for an hour before it may expire anything.
    pub(crate) fn start(wall_ms: i64, running: Duration, newest_ms: Option<i64>) -> AgeGuard {
        let off = newest_ms.is_some_and(|newest| wall_ms.abs_diff(newest) > BELIEVED.as_millis() as u64);
        AgeGuard {
            reference: (wall_ms, running),
            believed_from: if off { running + BELIEVED } else { running },
        }
    }

    /// Whether age counts now; a jump since the last question starts the hour again.
    pub(crate) fn believes(&mut self, wall_ms: i64, running: Duration) -> bool {
        let (wall, ran) = self.reference;
        let expected = wall.saturating_add(millis(running.saturating_sub(ran)));
        if wall_ms.abs_diff(expected) > BELIEVED.as_millis() as u64 {
            tracing::warn!(
                jump_s = (wall_ms - expected) / 1000,
                "the wall clock jumped; nothing expires for an hour"
            );
            self.believed_from = running + BELIEVED;
        }
        self.reference = (wall_ms, running);
        running >= self.believed_from
    }
}

/// Why nothing could be carried.
enum Stuck {
    Read(ReadError),
    Write(io::Error),
    /// The sync failed, and that was dealt with.
    Failed,
}

impl From<ReadError> for Stuck {
    fn from(error: ReadError) -> Stuck {
        Stuck::Read(error)
    }
}

impl From<io::Error> for Stuck {
    fn from(error: io::Error) -> Stuck {
        Stuck::Write(error)
    }
}

impl<T> Writer<T> {
    /// Whether a push of so many bytes fits beside the frame at hand. One segment's worth is kept back, for outcomes,
    /// checkpoints and carries: a full spool still drains.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        let store = &self.shared.store;
        self.used + self.frame.size() as u64 + bytes
            <= store.settings.max_size.saturating_sub(store.segment_size)
    }

    /// Lets closed segments go, oldest first, until so many bytes fit.
    pub(super) fn make_room(&mut self, bytes: u64) -> bool {
        if !std::mem::take(&mut self.room_may_have_come) {
            return false;
        }
        while !self.fits(bytes) {
            let Some(number) = self.next_to_go(i64::MAX) else { return false };
            if !self.let_go(number) {
                return false;
            }
        }
        self.room_may_have_come = true;
        true
    }

    /// Says once that it is full; what is owed is counted at that moment and not for every push that is refused.
    pub(super) fn refuse_for_room(&mut self) -> AppendError {
        let max_size = self.shared.store.settings.max_size;
        let mut state = self.shared.store.state_mut();
        if let Health::Full { owed, max_size } = state.health {
            return AppendError::Full { owed, max_size };
        }
        let owed = crate::stats::of(&state).owed_bytes;
        let holders = crate::stats::holders(&state);
        let most = holders.first();
        tracing::error!(
            owed,
            max_size,
            lane = most.map_or("none", |holder| &holder.lane),
            waiting_bytes = most.map_or(0, |holder| holder.waiting_bytes),
            dead_letter_bytes = most.map_or(0, |holder| holder.dead_bytes),
            "the spool is full of what sinks have not taken; pushes are refused; the lane named holds most"
        );
        if state.health == Health::Ok {
            state.health = Health::Full { owed, max_size };
        }
        AppendError::Full { owed, max_size }
    }

    /// Ends `Full` when a push of any size would fit again.
    pub(super) fn open_the_door_if_there_is_room(&mut self) {
        if !matches!(self.shared.store.state().health, Health::Full { .. }) || self.tail.is_none() {
            return;
        }
        self.room_may_have_come = true;
        let largest = self.shared.store.settings.body_limit;
        if self.fits(largest) || self.make_room(largest) {
            tracing::info!("the spool has room again");
            self.shared.store.state_mut().health = Health::Ok;
        }
    }

    /// Lets segments go that are older than `keep`, unless the wall clock is doubtful.
    pub(super) fn let_go_by_age(&mut self) {
        let (wall, running) = (self.wall_ms(), self.running());
        if !self.age.believes(wall, running) || self.tail.is_none() {
            return;
        }
        let keep = self.shared.store.settings.keep;
        self.dedupe.forget_older(self.oldest_repeat_ms());
        self.end_segment_of_the_past(wall, keep);
        let oldest = wall.saturating_sub(millis(keep));
        while let Some(number) = self.next_to_go(oldest) {
            if !self.let_go(number) {
                return;
            }
        }
    }

    /// With little traffic one segment would hold years: it ends after an eighth of `keep`.
    fn end_segment_of_the_past(&mut self, wall: i64, keep: Duration) {
        let age = millis((keep / 8).max(Duration::from_secs(60)));
        let has_pushes = |tail: &super::Tail| tail.index().first < tail.index().until;
        if self.tail.as_ref().is_some_and(|t| has_pushes(t) && wall.saturating_sub(t.opened_at_ms()) > age)
            && let Err(error) = self.rotate(self.next)
        {
            self.fail("begin a new segment", &error);
        }
    }

    /// The oldest closed segment that was last written before `oldest_ms` and of which little enough is needed.
    pub(super) fn next_to_go(&self, oldest_ms: i64) -> Option<u64> {
        let state = self.shared.store.state();
        let open = state.open.as_ref().map(|open| open.number);
        let may_go = |s: &&Segment| {
            Some(s.number()) != open
                && !s.unreadable
                && s.newest_ms < oldest_ms
                && !is_unread(&state, s)
                && is_worth_it(&state, s)
        };
        state.segments.iter().find(may_go).map(Segment::number)
    }

    /// Carries what is needed and removes the segment. False if the disk fails.
    pub(super) fn let_go(&mut self, number: u64) -> bool {
        let Some(segment) = self.shared.store.state().segment(number).copied() else { return true };
        match self.carry_out_of(&segment) {
            Ok(carried) => self.remove_segment(&segment, carried),
            Err(Stuck::Write(error)) => self.fail("carry pushes into a new segment", &error),
            Err(Stuck::Read(error)) => self.leave(&segment, &error),
            Err(Stuck::Failed) => {}
        }
        self.tail.is_some()
    }

    /// What is needed of it cannot be read now: it stays, and is not tried again before the next start.
    fn leave(&mut self, segment: &Segment, error: &ReadError) {
        tracing::error!(%error, "a segment cannot be read and is kept; see to the disk");
        let mut state = self.shared.store.state_mut();
        if let Some(s) = state.segments.iter_mut().find(|s| s.number() == segment.number()) {
            s.unreadable = true;
        }
    }

    /// Writes what is needed of a segment again, and that it is dropped; durable when it returns.
    fn carry_out_of(&mut self, segment: &Segment) -> Result<u64, Stuck> {
        let needed = needed(&self.shared.store.state(), segment);
        let mut carried = 0;
        let mut frame = FrameBuilder::new();
        for position in needed {
            match self.shared.store.stored(position) {
                Ok(Some(Stored::Push(push))) => frame.carry_push(&push),
                Ok(Some(Stored::Quarantine(quarantine))) => frame.carry_quarantine(&quarantine),
                Ok(None) => continue,
                Err(ReadError::Damaged { .. }) => {
                    self.mourn(segment, position);
                    continue;
                }
                Err(error) => return Err(Stuck::Read(error)),
            }
            carried += 1;
            if self.is_large(&frame) {
                self.put(&mut frame, self.next)?;
                frame.clear();
            }
        }
        for (lane, name, items) in self.dead_in(segment)? {
            frame.outcomes(lane, &name, &items);
        }
        frame.dropped(segment.number());
        self.put(&mut frame, self.next)?;
        self.sync();
        if self.tail.is_none() { Err(Stuck::Failed) } else { Ok(carried) }
    }

    /// A push that is needed and cannot be read: the lanes that have it open are told, and the file is kept.
    fn mourn(&mut self, segment: &Segment, position: Position) {
        tracing::error!(%position, file = segment::file_name(segment.number()), "a push is damaged on disk");
        let lanes: Vec<(String, u32)> = {
            let mut state = self.shared.store.state_mut();
            if let Some(s) = state.segments.iter_mut().find(|s| s.number() == segment.number()) {
                s.damaged = true;
            }
            let open = |l: &crate::state::Lane| l.state.open.get(&position).map(|o| o.attempts);
            state.lanes.iter().filter_map(|(name, lane)| Some((name.clone(), open(lane)?))).collect()
        };
        let died_at_ms = self.wall_ms();
        for (lane, attempts) in lanes {
            let dead = crate::log::outcomes::Dead {
                reason: "damaged on disk".into(),
                excerpt: String::new(),
                attempts,
                died_at_ms,
            };
            self.fold(&lane, position, Item::Dead(dead));
        }
    }

    /// The reasons of dead letters that lie in a segment, to be written again.
    fn dead_in(&self, segment: &Segment) -> Result<Vec<(u32, String, Items)>, ReadError> {
        let mut found = Vec::new();
        let places: Vec<_> = {
            let state = self.shared.store.state();
            state
                .lanes
                .iter()
                .map(|(name, lane)| {
                    let dead = lane
                        .dead
                        .iter()
                        .filter_map(|(p, reason)| Some((*p, reason.place_in(segment.number())?)));
                    (lane.number, name.clone(), dead.collect::<Vec<_>>())
                })
                .collect()
        };
        for (lane, name, dead) in places {
            let reasons = self.shared.store.reasons(lane, dead)?;
            let items: Items =
                reasons.into_iter().map(|(position, dead)| (position, Item::Dead(dead))).collect();
            if !items.is_empty() {
                found.push((lane, name, items));
            }
        }
        Ok(found)
    }

    fn remove_segment(&mut self, segment: &Segment, carried: u64) {
        let number = segment.number();
        let store = &self.shared.store;
        let damaged = {
            let mut state = store.state_mut();
            let damaged = state.segment(number).is_some_and(|s| s.damaged);
            state.forget_segment(number);
            state.counters.carried += carried;
            state.counters.dropped_segments += 1;
            self.used = state.bytes();
            damaged
        };
        store.forget_file(number);
        self.dedupe.forget_segment(number);
        let name = segment::file_name(number);
        let removed = match damaged {
            true => store.directory.rename(&name, &segment::damaged_name(number)),
            false => store.directory.remove(&name),
        };
        if let Err(error) = removed {
            tracing::warn!(file = name, %error, "a segment that is not needed any more could not be removed; the next start tries again");
        }
        store.directory.remove(&segment::index_name(number)).ok();
        tracing::debug!(segment = number, carried, "a segment went");
    }
}

/// Whether some lane has yet to read something in a segment.
fn is_unread(state: &State, segment: &Segment) -> bool {
    segment.first < segment.until
        && state.lanes.values().any(|lane| lane.has_unread(segment.first, segment.until))
}

/// Carrying must free more than it writes: at most half of a segment's positions may be needed.
fn is_worth_it(state: &State, segment: &Segment) -> bool {
    let positions = segment.until.0 - segment.first.0;
    let here = state.carried.values().filter(|place| place.segment == segment.number()).count() as u64;
    needed(state, segment).len() as u64 * 2 <= (positions + here).max(1)
}

/// The positions whose bodies lie in a segment and are still needed.
fn needed(state: &State, segment: &Segment) -> BTreeSet<Position> {
    let (first, until) = (segment.first, segment.until);
    let mut needed = BTreeSet::new();
    for lane in state.lanes.values() {
        needed.extend(lane.state.open.range(first..until).map(|(p, _)| *p));
        needed.extend(lane.dead.range(first..until).map(|(p, _)| *p));
    }
    needed.extend(state.quarantine.range(first..until).filter(|(_, held)| !held.discarded).map(|(p, _)| *p));
    needed.retain(|p| state.carried.get(p).is_none_or(|place| place.segment == segment.number()));
    let here = state.carried.iter().filter(|(_, place)| place.segment == segment.number());
    needed.extend(here.map(|(p, _)| *p).filter(|p| is_needed(state, *p)));
    needed
}

/// A carried push is needed as long as some lane may want it.
fn is_needed(state: &State, position: Position) -> bool {
    state.lanes.values().any(|lane| lane.wants(position))
        || state.quarantine.get(&position).is_some_and(|held| !held.discarded)
}

impl FrameBuilder {
    fn carry_push(&mut self, push: &StoredPush) {
        let entry = crate::log::entry::PushEntry {
            position: push.position,
            received_at_ms: push.received_at_ms,
            sha256: &push.key.sha256,
            action: &push.key.action,
            uuid: push.key.uuid.as_deref(),
            facts: &push.facts,
            body: &push.body,
        };
        self.push(&entry, true);
    }

    fn carry_quarantine(&mut self, quarantine: &StoredQuarantine) {
        let entry = crate::log::entry::QuarantineEntry {
            position: quarantine.position,
            received_at_ms: quarantine.received_at_ms,
            sha256: &quarantine.sha256,
            reason: &quarantine.reason,
            facts: &quarantine.facts,
            body: &quarantine.body,
        };
        self.quarantine(&entry, true);
    }
}
