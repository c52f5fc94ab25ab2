//! Whether all that must be true is.

use std::collections::{BTreeMap, BTreeSet};

use cdr_spool::Position;

use super::lane::{LaneModel, is_closed, letters, states};
use super::{DAMAGED, Model, REASON_DAMAGED};
use crate::harness::*;

impl Model {
    /// Whether a position may be said to be lost.
    pub(super) fn may_be_lost(&self, position: Position) -> bool {
        self.lost.contains_key(&position) || self.damaged.iter().any(|range| range.contains(&position))
    }

    pub(super) fn read_all(&self) -> Vec<(Position, u64)> {
        self.read_what_is_there().0
    }

    /// All pushes, and the positions that are said to be lost.
    pub(super) fn read_what_is_there(&self) -> (Vec<(Position, u64)>, BTreeSet<Position>) {
        let (mut all, mut lost) = (Vec::new(), BTreeSet::new());
        let mut from = Position(0);
        loop {
            let read = self.spool.read(from, 50, 4000).unwrap();
            for position in read.lost {
                assert!(self.may_be_lost(position), "{position} is said to be lost");
                lost.insert(position);
            }
            assert!(read.next >= from && read.next <= self.spool.end());
            for push in read.pushes {
                assert!(push.position >= from && push.position < read.next);
                let n: u64 = std::str::from_utf8(&push.facts).unwrap()[6..].parse().unwrap();
                assert_eq!((&push.body, &push.key), (&body(n), &key(n)));
                all.push((push.position, n));
            }
            if read.next >= self.spool.end() {
                return (all, lost);
            }
            from = read.next;
        }
    }

    pub(super) fn is_owed(&self, position: Position) -> bool {
        self.lanes.iter().any(|lane| !lane.closed.contains(&position) && !lane.unsure.contains(&position))
    }

    /// Whether some lane will come upon it by reading on. One that has it open asks for it, and is told that it is not there.
    pub(super) fn is_unread(&self, position: &Position) -> bool {
        self.lanes.iter().any(|model| *position >= states(&self.spool, model)[model.part_of(position)].next)
    }

    pub(super) fn check(&mut self) {
        self.learn_mourned();
        let (all, lost) = self.read_what_is_there();
        let all: BTreeMap<Position, u64> = all.into_iter().collect();
        for (position, n) in &all {
            assert!(!self.refused.contains(n), "push {n} was refused and is at {position}");
            match self.stored.get(position).or(self.lost.get(position)) {
                Some(stored) => assert_eq!(stored, n),
                None => panic!("push {n} at {position} was never answered"),
            }
        }
        for (position, n) in self.stored.iter().filter(|(p, _)| self.is_owed(**p)) {
            assert_eq!(all.get(position), Some(n), "push {n} is owed and gone");
        }
        for position in self.lost.keys() {
            let is_told = lost.contains(position) || all.contains_key(position) || !self.is_unread(position);
            assert!(is_told, "{position} is damaged, and whoever reads it is not told");
        }
        for model in &self.lanes {
            self.check_lane(model, &all);
        }
        for (position, n) in &self.quarantined {
            let held = self.spool.quarantined(Position(position.0 - 1), 1).unwrap();
            let is_there = held.iter().any(|q| q.position == *position && q.body == body(*n));
            assert!(is_there, "quarantine {n} is gone");
        }
        assert!(self.spool.end() > self.highest);
    }

    pub(super) fn check_lane(&self, model: &LaneModel, all: &BTreeMap<Position, u64>) {
        let name = model.name();
        let states = states(&self.spool, model);
        let state_of = |position: &Position| &states[model.part_of(position)];
        let letters = letters(&self.spool, model);
        for (name, state) in &states {
            match model.notes.get(name) {
                Some(notes) => notes.check(name, &state.memos),
                None => assert!(state.memos.is_empty(), "{name}: nothing was noted"),
            }
        }
        for letter in &letters {
            let position = &letter.position;
            let is_known = match letter.reason.as_str() {
                DAMAGED => self.may_be_lost(*position),
                REASON_DAMAGED => model.doubted.contains(position),
                reason => reason == format!("reason {position}"),
            };
            assert!(is_known, "{letter:?}");
            let may_be_dead = model.dead.contains(position) || model.unsure.contains(position);
            assert!(may_be_dead || self.may_be_lost(*position), "{name}: {letter:?}");
        }
        for position in model.dead.iter() {
            assert!(
                letters.iter().any(|l| l.position == *position),
                "{name}: the dead letter {position} is gone"
            );
        }
        for position in model.closed.iter() {
            assert!(is_closed(state_of(position), *position), "{name}: {position} was closed");
        }
        for position in all
            .keys()
            .chain(self.lost.keys())
            .filter(|p| !model.closed.contains(p) && !model.dead.contains(p) && !model.unsure.contains(p))
        {
            assert!(!is_closed(state_of(position), *position), "{name}: {position} is owed and forgotten");
        }
        for seal in model.seals.iter().filter(|s| s.positions.iter().any(|p| !model.may_be_closed(p))) {
            let is_there = states.values().any(|state| state.seals.contains(seal));
            assert!(is_there, "{name}: the seal {} is gone", seal.key);
        }
        for seal in states.values().flat_map(|state| &state.seals) {
            let known = model.seals.contains(seal) || model.unsure_seals.contains(seal);
            assert!(known, "{name}: the seal {} came from nowhere", seal.key);
            let is_open = |p: &Position| {
                state_of(p).open.contains_key(p) || letters.iter().any(|letter| letter.position == *p)
            };
            assert!(seal.positions.iter().any(is_open), "{name}: the seal {} is over", seal.key);
        }
        for position in states.values().flat_map(|state| state.open.keys()) {
            let is_push = all.contains_key(position) || self.may_be_lost(*position);
            assert!(is_push, "{name}: {position} is open and is no push");
        }
    }
}
