//! A lane, with what of it only the log needs.

use std::collections::BTreeMap;

use super::Place;
use crate::log::outcomes::Dead;
use crate::{Errand, LaneState, Position};

/// A lane: its number for the log, what it has done, and the deliveries that it gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) number: u32,
    pub(crate) state: LaneState,
    /// With where the reason lies.
    pub(crate) dead: BTreeMap<Position, Reason>,
}

impl Lane {
    pub(super) fn begun(number: u32, next: Position) -> Lane {
        let state = LaneState { began: next, next, ..LaneState::default() };
        Lane { number, state, dead: BTreeMap::new() }
    }

    /// Makes it temporary. What it read behind the end and never tried is not its business any more: the lane that begins
    /// there decides about it. Once it is temporary nothing is dropped: recovery may let the same change happen twice.
    pub(super) fn begin(&mut self, errand: &Errand) {
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

    /// What of these positions the lane has closed, or given up.
    pub(super) fn closed_of(&self, positions: &[Position]) -> Vec<Position> {
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
