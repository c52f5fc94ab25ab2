//! What the spool knows in memory: segments, lanes, what was carried, quarantined, lost.
//!
//! One value behind one lock, changed by the writer after a commit and read by everyone. It holds nothing per push that every
//! lane has closed, so its size is that of what is open, dead or quarantined, not that of the backlog.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::disk::File;
use crate::log::entry::{Checkpoint, KnownLane, KnownSegment, LaneChange};
use crate::log::frame::Stamp;
use crate::log::index::{Note, SegmentIndex};
use crate::log::outcomes::{Dead, Item, Items};
use crate::{Errand, Health, LaneState, Memo, Open, Position, Seal, Stats};

/// A frame on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// A segment on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) stamp: Stamp,
    /// Its new positions: first, and first not (committed ones only).
    pub(crate) first: Position,
    pub(crate) until: Position,
    /// Behind its last committed frame: nobody reads further.
    pub(crate) end: u64,
    /// Bytes of its file.
    pub(crate) size: u64,
    pub(crate) opened_at_ms: i64,
    /// When its last frame was written.
    pub(crate) newest_ms: i64,
    /// It is kept aside instead of removed when it goes.
    pub(crate) damaged: bool,
    /// The disk did not give what is needed of it; it stays.
    pub(crate) unreadable: bool,
}

impl Segment {
    pub(crate) fn of(index: &SegmentIndex, size: u64) -> Segment {
        Segment {
            stamp: index.stamp,
            first: index.first,
            until: index.until,
            end: index.end,
            size,
            opened_at_ms: index.opened_at_ms,
            newest_ms: index.newest_ms,
            damaged: index.damaged,
            unreadable: false,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.stamp.segment
    }

    fn contains(&self, position: Position) -> bool {
        self.first <= position && position < self.until
    }
}

/// A lane: its number for the log, what it has done, and the deliveries that it gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) number: u32,
    pub(crate) state: LaneState,
    /// With where the reason lies.
    pub(crate) dead: BTreeMap<Position, Reason>,
}

impl Lane {
    fn begun(number: u32, next: Position) -> Lane {
        let state = LaneState { began: next, next, ..LaneState::default() };
        Lane { number, state, dead: BTreeMap::new() }
    }

    /// Makes it temporary. What it read behind the end and never tried is not its business any more: the lane that begins
    /// there decides about it. Once it is temporary nothing is dropped: recovery may let the same change happen twice.
    fn begin(&mut self, errand: &Errand) {
        let LaneState { open, seals, errand: before, .. } = &mut self.state;
        if before.is_none() {
            let is_sealed = |p: &Position| seals.iter().any(|seal| seal.positions.binary_search(p).is_ok());
            open.retain(|p, open| *p < errand.until || open.attempts > 0 || is_sealed(p));
        }
        *before = Some(errand.clone());
    }

    /// Whether it has yet to read something from `first` on and before `until`.
    pub(crate) fn has_unread(&self, first: Position, until: Position) -> bool {
        self.state.next.max(first) < self.state.ends().min(until)
    }

    /// Whether it may still want this push.
    pub(crate) fn wants(&self, position: Position) -> bool {
        self.has_unread(position, position.next())
            || self.state.open.contains_key(&position)
            || self.dead.contains_key(&position)
    }

    /// The lane for a checkpoint. A dead letter whose reason is not committed is still open there: the outcome that closes it
    /// comes behind the checkpoint, in the same frame.
    fn known_as(&self, name: &str) -> KnownLane {
        let mut open = self.state.open.clone();
        let mut dead = Vec::with_capacity(self.dead.len());
        for (position, reason) in &self.dead {
            match reason {
                Reason::InMemory(fresh) => {
                    open.insert(*position, Open { attempts: fresh.attempts, ..Open::default() });
                }
                Reason::OnDisk(_) | Reason::Unknown => dead.push(*position),
            }
        }
        let LaneState { began, next, seals, errand, memos, .. } = self.state.clone();
        let (lane, name, open) = (self.number, name.to_owned(), open.into_iter().collect());
        KnownLane { lane, name, next, open, dead, seals, began, errand, memos: memos.into_iter().collect() }
    }

    /// Dead letters whose reason is not committed.
    fn pending_dead(&self) -> Items {
        let pending = self.dead.iter().filter_map(|(position, reason)| match reason {
            Reason::InMemory(dead) => Some((*position, Item::Dead((**dead).clone()))),
            Reason::OnDisk(_) | Reason::Unknown => None,
        });
        pending.collect()
    }

    /// What of these positions the lane has closed, or given up.
    fn closed_of(&self, positions: &[Position]) -> Vec<Position> {
        let is_owed = |p: &Position| *p >= self.state.next || self.state.open.contains_key(p);
        positions.iter().copied().filter(|p| !is_owed(p)).collect()
    }

    /// Forgets seals of which nothing is open. One whose dead letters are not committed stays: see [`known_as`](Self::known_as).
    pub(crate) fn close_seals(&mut self) {
        self.close_seals_unless(|reason| matches!(reason, Reason::InMemory(_)));
    }

    /// The same while the log is replayed: what was read from it is committed.
    pub(crate) fn close_replayed_seals(&mut self) {
        self.close_seals_unless(|_| false);
    }

    fn close_seals_unless(&mut self, is_pending: impl Fn(&Reason) -> bool) {
        let Lane { state: LaneState { next, open, seals, .. }, dead, .. } = self;
        let is_owed =
            |p: &Position| p >= next || open.contains_key(p) || dead.get(p).is_some_and(&is_pending);
        seals.retain(|seal| seal.positions.iter().any(is_owed));
    }
}

/// Where the reason of a dead letter lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nowhere yet: its outcome is not committed.
    InMemory(Box<Dead>),
    OnDisk(Place),
    /// Nowhere any more: its outcome is damaged.
    Unknown,
}

impl Reason {
    /// The place, if it is in this segment.
    pub(crate) fn place_in(&self, number: u64) -> Option<Place> {
        match self {
            Reason::OnDisk(place) if place.segment == number => Some(*place),
            _ => None,
        }
    }
}

/// Quarantined bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) digest: u64,
    pub(crate) bytes: u64,
    /// A person has dealt with it; its position still is no push.
    pub(crate) discarded: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct State {
    /// The first position not committed.
    pub(crate) end: Position,
    /// By number; positions grow with them. The last one is being written, if `open` is there.
    pub(crate) segments: Vec<Segment>,
    /// The file that is being written, and its sparse index.
    pub(crate) open: Option<OpenFile>,
    /// Pushes and quarantined bytes whose own segment went or is about to.
    pub(crate) carried: BTreeMap<Position, Place>,
    pub(crate) quarantine: BTreeMap<Position, Held>,
    pub(crate) quarantine_by_digest: HashMap<u64, Position>,
    pub(crate) quarantine_bytes: u64,
    pub(crate) lanes: BTreeMap<String, Lane>,
    pub(crate) next_lane: u32,
    /// Lost to damage and owed to some lane: first → first not.
    pub(crate) lost: BTreeMap<Position, Position>,
    pub(crate) generation: u64,
    pub(crate) configuration: [u8; 32],
    pub(crate) health: Health,
    /// Counters; what can be computed is filled in when asked for.
    pub(crate) counters: Stats,
}

/// The file of the segment that is being written.
pub(crate) struct OpenFile {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) sparse: Vec<(Position, u64)>,
}

/// What lies at a position.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Located {
    Segment(Segment),
    Carried(Place),
    /// Damaged up to here.
    Lost(Position),
    /// Nothing before this position.
    Nothing(Position),
}

impl State {
    pub(crate) fn segment(&self, number: u64) -> Option<&Segment> {
        let at = self.segments.binary_search_by_key(&number, Segment::number).ok()?;
        self.segments.get(at)
    }

    /// The segment in which a position was first written, if it exists.
    fn home(&self, position: Position) -> Option<&Segment> {
        let behind = self.segments.partition_point(|s| s.first <= position);
        // Segments without new positions share their `first` with the one that follows.
        self.segments[..behind].iter().rev().find(|s| s.first < s.until).filter(|s| s.contains(position))
    }

    /// What lies at `at`, or where the next thing lies.
    pub(crate) fn locate(&self, at: Position) -> Located {
        if at >= self.end {
            return Located::Nothing(self.end.max(at));
        }
        if let Some(segment) = self.home(at) {
            return Located::Segment(*segment);
        }
        if let Some(place) = self.carried.get(&at) {
            return Located::Carried(*place);
        }
        if let Some(until) = self.lost_until(at) {
            return Located::Lost(until);
        }
        let segment = self.segments[self.segments.partition_point(|s| s.first <= at)..]
            .iter()
            .find(|s| s.first < s.until);
        let next = [
            segment.map(|s| s.first),
            self.carried.range(at..).next().map(|(p, _)| *p),
            self.lost.range(at..).next().map(|(p, _)| *p),
            Some(self.end),
        ];
        Located::Nothing(next.into_iter().flatten().min().unwrap_or(self.end))
    }

    pub(crate) fn lost_until(&self, at: Position) -> Option<Position> {
        self.lost.range(..=at).next_back().map(|(_, until)| *until).filter(|until| *until > at)
    }

    /// The pushes from `from` on and before `until`: those on disk, carried, and those that are lost but owed.
    pub(crate) fn pushes_between(&self, from: Position, until: Position) -> Vec<Position> {
        if from >= until {
            return Vec::new();
        }
        let begin = self.segments.partition_point(|s| s.until <= from);
        let homes = self.segments[begin..].iter().take_while(|s| s.first < until).map(|s| (s.first, s.until));
        let lost =
            self.lost.iter().take_while(|(first, _)| **first < until).map(|(first, until)| (*first, *until));
        let mut found: BTreeSet<Position> =
            homes.chain(lost).flat_map(|(a, b)| (a.max(from).0..b.min(until).0).map(Position)).collect();
        found.extend(self.carried.range(from..until).map(|(p, _)| *p));
        found.retain(|p| !self.quarantine.contains_key(p));
        found.into_iter().collect()
    }

    /// Lets one outcome change a lane. False if it changes nothing, because the delivery is closed or the lane is gone:
    /// what is closed stays closed, and only [`Item::Reopened`] wakes a dead letter.
    pub(crate) fn fold(&mut self, lane: &str, position: Position, item: &Item) -> bool {
        let Some(next) = self.lanes.get(lane).map(|l| l.state.next) else { return false };
        let unmentioned = if position > next { self.pushes_between(next, position) } else { Vec::new() };
        let Some(lane) = self.lanes.get_mut(lane) else { return false };
        let state = &mut lane.state;
        if lane.dead.contains_key(&position) {
            match item {
                Item::Reopened => state.open.insert(position, Open::default()),
                Item::Discarded => None,
                _ => return false,
            };
            lane.dead.remove(&position);
            return true;
        }
        if matches!(item, Item::Reopened) || (position < next && !state.open.contains_key(&position)) {
            return false;
        }
        state.open.extend(unmentioned.into_iter().map(|p| (p, Open::default())));
        state.next = next.max(position.next());
        match item {
            Item::Retry(open) => {
                state.open.insert(position, open.clone());
            }
            Item::Dead(dead) => {
                state.open.remove(&position);
                lane.dead.insert(position, Reason::InMemory(Box::new(dead.clone())));
            }
            _ => {
                state.open.remove(&position);
            }
        }
        true
    }

    /// Notes something for a lane. False if nothing changes, because the lane is gone or the note is beyond its bounds.
    pub(crate) fn note(&mut self, lane: &str, memo: Memo) -> bool {
        let Some(memos) = self.lanes.get(lane).map(|lane| &lane.state.memos) else { return false };
        let is_known = memos.contains_key(&memo.key);
        let fits = memo.key.len() <= Memo::KEY
            && memo.bytes.len() <= Memo::BYTES
            && (is_known || memos.len() < Memo::MOST);
        let changes = if memo.bytes.is_empty() { is_known } else { fits };
        if changes {
            self.note_again(lane, memo);
        }
        changes
    }

    /// The same for what was taken before and is read from the log, where the notes of a frame are in another order: one that
    /// another made room for may come before it.
    pub(crate) fn note_again(&mut self, lane: &str, Memo { key, bytes }: Memo) {
        let Some(memos) = self.lanes.get_mut(lane).map(|lane| &mut lane.state.memos) else { return };
        match bytes.is_empty() {
            true => memos.remove(&key),
            false => memos.insert(key, bytes),
        };
    }

    /// What of these positions cannot be sealed, because it is closed or not there. None if there is no such lane.
    pub(crate) fn not_open(&self, lane: &str, positions: &[Position]) -> Option<Vec<Position>> {
        let lane = self.lanes.get(lane)?;
        let mut not_open = lane.closed_of(positions);
        not_open.extend(positions.iter().copied().filter(|p| *p >= self.end));
        Some(not_open)
    }

    /// Takes in a seal, which opens what it names: then it is known, carried and recovered like any open delivery. A seal of
    /// which nothing is open any more changes nothing.
    pub(crate) fn seal(&mut self, name: &str, seal: Seal) {
        let Some(next) = self.lanes.get(name).map(|lane| lane.state.next) else { return };
        for position in seal.positions.iter().filter(|p| **p >= next) {
            self.fold(name, *position, &Item::Retry(Open::default()));
        }
        let Some(lane) = self.lanes.get_mut(name) else { return };
        if lane.closed_of(&seal.positions).len() == seal.positions.len() {
            return;
        }
        let seals = &mut lane.state.seals;
        let shares = |other: &Seal| other.positions.iter().any(|p| seal.positions.binary_search(p).is_ok());
        seals.retain(|other| !shares(other));
        let at = seals.partition_point(|other| other.positions < seal.positions);
        seals.insert(at, seal);
    }

    /// Lets a change of the set of lanes happen.
    pub(crate) fn change_lane(&mut self, change: &LaneChange) {
        match change {
            LaneChange::Registered { lane, name, next } => {
                self.next_lane = self.next_lane.max(lane + 1);
                self.lanes.entry(name.clone()).or_insert_with(|| Lane::begun(*lane, *next));
            }
            LaneChange::Renamed { lane, name } => {
                if let Some(old) = self.lane_name(*lane)
                    && let Some(lane) = self.lanes.remove(&old)
                {
                    self.lanes.insert(name.clone(), lane);
                }
            }
            LaneChange::Retired { lane } => {
                self.lanes.retain(|_, l| l.number != *lane);
            }
            LaneChange::Errand { lane, name, next, errand } => {
                self.next_lane = self.next_lane.max(lane + 1);
                let known = self.lane_name(*lane).and_then(|name| self.lanes.remove(&name));
                let mut changed = known.unwrap_or_else(|| Lane::begun(*lane, *next));
                changed.begin(errand);
                self.lanes.insert(name.clone(), changed);
            }
            LaneChange::SetAside { of, lane, name, next, errand } => {
                self.next_lane = self.next_lane.max(lane + 1);
                self.pass_over(*of, *next, errand.until);
                if self.lane_name(*lane).is_none() {
                    let mut aside = Lane::begun(*lane, *next);
                    aside.begin(errand);
                    self.lanes.insert(name.clone(), aside);
                }
            }
        }
    }

    /// Lets a lane go on at `until`, because another one reads what lies from `from` on. What it read before that and
    /// said nothing of stays open.
    fn pass_over(&mut self, number: u32, from: Position, until: Position) {
        let Some(name) = self.lane_name(number) else { return };
        let Some(next) = self.lanes.get(&name).map(|lane| lane.state.next) else { return };
        let unmentioned = if from > next { self.pushes_between(next, from) } else { Vec::new() };
        let Some(Lane { state, .. }) = self.lanes.get_mut(&name) else { return };
        state.open.extend(unmentioned.into_iter().map(|position| (position, Open::default())));
        state.next = next.max(until);
    }

    /// The positions between which everything lies that arrived from `from_ms` on and before `to_ms`, as far as it is kept.
    /// Whole segments, and an hour on either side: more than asked for, but nothing less, also when the clock was set.
    pub(crate) fn arrived_between(&self, from_ms: Option<i64>, to_ms: Option<i64>) -> (Position, Position) {
        const CLOCK_SET_BY: i64 = 3_600_000;
        let from = from_ms.map_or(i64::MIN, |ms| ms.saturating_sub(CLOCK_SET_BY));
        let to = to_ms.map_or(i64::MAX, |ms| ms.saturating_add(CLOCK_SET_BY));
        let passed_over = self.segments.iter().take_while(|s| s.newest_ms < from).last();
        let first = passed_over.map_or_else(|| self.beginning(), |s| s.until);
        let later = self.segments.iter().find(|s| s.opened_at_ms > to);
        (first, later.map_or(self.end, |s| s.first).max(first))
    }

    /// The first position that is kept.
    pub(crate) fn beginning(&self) -> Position {
        let first = self.segments.first().map_or(self.end, |s| s.first);
        self.carried.keys().next().copied().unwrap_or(first).min(first)
    }

    pub(crate) fn lane_name(&self, number: u32) -> Option<String> {
        self.lanes.iter().find(|(_, l)| l.number == number).map(|(name, _)| name.clone())
    }

    /// Takes in what committed frames of a segment hold.
    pub(crate) fn learn(&mut self, segment: u64, notes: &[Note]) {
        for note in notes {
            match *note {
                Note::Quarantined { position, digest, bytes } => self.hold(position, digest, bytes),
                Note::Carried { position, offset, .. } => {
                    self.carried.insert(position, Place { segment, offset });
                }
                Note::CarriedQuarantine { position, offset, digest, bytes } => {
                    self.carried.insert(position, Place { segment, offset });
                    self.hold(position, digest, bytes);
                }
                Note::Died { lane, position, offset } => {
                    let lane = self.lanes.values_mut().find(|l| l.number == lane);
                    if let Some(reason) = lane.and_then(|l| l.dead.get_mut(&position)) {
                        *reason = Reason::OnDisk(Place { segment, offset });
                    }
                }
            }
        }
        if notes.iter().any(|note| matches!(note, Note::Died { .. })) {
            self.lanes.values_mut().for_each(Lane::close_seals);
        }
    }

    fn hold(&mut self, position: Position, digest: u64, bytes: u64) {
        if self.quarantine.contains_key(&position) {
            return;
        }
        self.quarantine.insert(position, Held { digest, bytes, discarded: false });
        self.quarantine_by_digest.insert(digest, position);
        self.quarantine_bytes += bytes;
    }

    /// Forgets quarantined bytes that a person has dealt with. True if they were there.
    pub(crate) fn discard_quarantine(&mut self, position: Position) -> bool {
        let Some(held) = self.quarantine.get_mut(&position).filter(|h| !h.discarded) else { return false };
        held.discarded = true;
        self.quarantine_bytes -= held.bytes;
        let digest = held.digest;
        if self.quarantine_by_digest.get(&digest) == Some(&position) {
            self.quarantine_by_digest.remove(&digest);
        }
        true
    }

    /// Everything that a recovery must know and cannot see in the segments themselves.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let known =
            |s: &Segment| KnownSegment { number: s.number(), end: s.end, first: s.first, until: s.until };
        Checkpoint {
            end: self.end,
            generation: self.generation,
            configuration: self.configuration,
            next_lane: self.next_lane,
            segments: self.segments.iter().map(known).collect(),
            lost: self.lost.iter().map(|(first, until)| (*first, *until)).collect(),
            discarded_quarantine: self
                .quarantine
                .iter()
                .filter(|(_, h)| h.discarded)
                .map(|(p, _)| *p)
                .collect(),
            lanes: self.lanes.iter().map(|(name, lane)| lane.known_as(name)).collect(),
        }
    }

    /// The outcomes that a checkpoint leaves open, by number and name of the lane: they belong into its frame. Without them a memo would be
    /// there, and what it came with not.
    pub(crate) fn outcomes_behind_checkpoint(&self) -> Vec<(u32, String, Items)> {
        let pending = self.lanes.iter().map(|(name, lane)| (lane.number, name.clone(), lane.pending_dead()));
        pending.filter(|(_, _, items)| !items.is_empty()).collect()
    }

    /// Takes over what a checkpoint says; the segments must be known already.
    pub(crate) fn restore(&mut self, checkpoint: Checkpoint) {
        self.end = self.end.max(checkpoint.end);
        self.generation = checkpoint.generation;
        self.configuration = checkpoint.configuration;
        self.next_lane = checkpoint.next_lane;
        self.lost = checkpoint.lost.into_iter().collect();
        for position in checkpoint.discarded_quarantine {
            self.discard_quarantine(position);
        }
        for known in checkpoint.lanes {
            let open = known.open.into_iter().collect();
            let memos = known.memos.into_iter().collect();
            let KnownLane { began, next, seals, errand, .. } = known;
            let state = LaneState { began, next, open, seals, errand, memos };
            let dead = known.dead.into_iter().map(|p| (p, Reason::Unknown)).collect();
            self.lanes.insert(known.name, Lane { number: known.lane, state, dead });
        }
    }

    /// Whether some lane has yet to close something from `first` on and before `until`.
    pub(crate) fn is_owed(&self, first: Position, until: Position) -> bool {
        first < until
            && self
                .lanes
                .values()
                .any(|l| l.has_unread(first, until) || l.state.open.range(first..until).next().is_some())
    }

    /// Adds positions that damage took, as far as some lane waits for them.
    pub(crate) fn lose(&mut self, first: Position, until: Position) {
        if !self.is_owed(first, until) {
            return;
        }
        let merged = self.lost.get(&first).map_or(until, |known| until.max(*known));
        self.lost.insert(first, merged);
    }

    /// Forgets lost positions that no lane waits for any more.
    pub(crate) fn prune_lost(&mut self) {
        let closed: Vec<Position> = self
            .lost
            .iter()
            .filter(|(first, until)| !self.is_owed(**first, **until))
            .map(|(p, _)| *p)
            .collect();
        closed.iter().for_each(|first| {
            self.lost.remove(first);
        });
    }

    /// Whether the bytes of a position are on disk, as far as anyone knows.
    pub(crate) fn has(&self, position: Position) -> bool {
        self.carried.contains_key(&position)
            || (self.home(position).is_some() && self.lost_until(position).is_none())
    }

    /// Forgets a segment, and what nobody carried out of it.
    pub(crate) fn forget_segment(&mut self, number: u64) {
        self.segments.retain(|s| s.number() != number);
        self.carried.retain(|_, place| place.segment != number);
        let mut quarantine = std::mem::take(&mut self.quarantine);
        quarantine
            .retain(|position, _| self.carried.contains_key(position) || self.home(*position).is_some());
        self.quarantine = quarantine;
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let segment = |number, first, until| Segment {
            stamp: Stamp { segment: number, salt: 0 },
            first: Position(first),
            until: Position(until),
            end: 0,
            size: 0,
            opened_at_ms: 0,
            newest_ms: 0,
            damaged: false,
            unreadable: false,
        };
        let mut state = State {
            end: Position(31),
            segments: vec![segment(1, 1, 11), segment(2, 11, 11), segment(3, 21, 31)],
            ..State::default()
        };
        state.change_lane(&LaneChange::Registered { lane: 0, name: "crm".into(), next: Position(1) });
        state
    }

    fn lane(state: &State) -> &LaneState {
        &state.lanes["crm"].state
    }

    #[test]
    fn pushes_that_an_outcome_jumps_over_are_open_and_burnt_positions_are_not() {
        let mut state = state();
        state.hold(Position(9), 1, 1);
        assert!(state.fold("crm", Position(8), &Item::Delivered(None)));
        assert_eq!(lane(&state).open.keys().map(|p| p.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
        assert!(state.fold("crm", Position(22), &Item::Passed));
        assert_eq!(lane(&state).open.keys().map(|p| p.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 10, 21]);
        assert_eq!(lane(&state).next, Position(23));
    }

    #[test]
    fn what_is_closed_stays_closed() {
        let mut state = state();
        assert!(state.fold("crm", Position(1), &Item::Delivered(None)));
        assert!(!state.fold("crm", Position(1), &Item::Retry(Open::default())));
        assert!(!state.fold("crm", Position(1), &Item::Reopened));
        assert!(lane(&state).open.is_empty());
    }

    #[test]
    fn only_a_person_wakes_a_dead_letter() {
        let dead = Item::Dead(crate::log::outcomes::Dead {
            reason: String::new(),
            excerpt: String::new(),
            attempts: 1,
            died_at_ms: 0,
        });
        let mut state = state();
        assert!(state.fold("crm", Position(1), &dead));
        assert!(!state.fold("crm", Position(1), &Item::Delivered(None)));
        assert!(state.fold("crm", Position(1), &Item::Reopened));
        assert!(lane(&state).open.contains_key(&Position(1)));
        assert!(state.lanes["crm"].dead.is_empty());
    }

    #[test]
    fn a_position_is_located_in_its_segment_or_behind_the_gap() {
        let mut state = state();
        state.carried.insert(Position(15), Place { segment: 3, offset: 9 });
        assert!(matches!(state.locate(Position(10)), Located::Segment(s) if s.number() == 1));
        assert!(matches!(state.locate(Position(11)), Located::Nothing(Position(15))));
        assert!(matches!(state.locate(Position(15)), Located::Carried(_)));
        assert!(matches!(state.locate(Position(16)), Located::Nothing(Position(21))));
        assert!(matches!(state.locate(Position(21)), Located::Segment(s) if s.number() == 3));
        assert!(matches!(state.locate(Position(31)), Located::Nothing(Position(31))));
    }
}
