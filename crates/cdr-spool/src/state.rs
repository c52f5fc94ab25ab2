//! What the spool knows in memory: segments, lanes, what was carried, quarantined, lost.
//!
//! One value behind one lock, changed by the writer after a commit and read by everyone. It holds nothing per push that every
//! lane has closed, so its size is that of what is open, dead or quarantined, not that of the backlog.
//!
//! Here is where everything lies; `lanes` is what happens to lanes, `checkpoint` what a start goes on from.

mod checkpoint;
mod lane;
mod lanes;
mod segment;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(crate) use self::lane::{Lane, Reason};
pub(crate) use self::segment::{OpenFile, Place, Segment};
use crate::log::index::Note;
use crate::{Health, Position, Stats};

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
pub(crate) mod tests {
    use super::*;
    use crate::log::entry::LaneChange;
    use crate::log::frame::Stamp;

    /// Three segments, the second without pushes, and a gap before the third; a lane that has read nothing.
    pub(crate) fn state() -> State {
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
