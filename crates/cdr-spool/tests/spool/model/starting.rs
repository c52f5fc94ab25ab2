//! Repairs, crashes, damage and starts; and what nobody could know before.

use std::collections::BTreeSet;
use std::time::Duration;

use cdr_spool::{Damage, Health, Logged, Position, Recovery, Seal};

use super::lane::{LaneModel, is_closed, letters, states};
use super::notes::{Notes, Noting};
use super::{DAMAGED, LANES, Model};
use crate::catalog::terms;
use crate::damage::{Wound, wound};
use crate::disk::Chance;
use crate::harness::*;

impl Model {
    pub(super) fn repair(&mut self) {
        self.world.disk.fail_syncs(0);
        self.world.disk.fail_directory_syncs(0);
        self.world.disk.fail_writes(0);
        self.world.disk.set_capacity(None);
        for _ in 0..2 {
            self.world.clock.pass(Duration::from_secs(40));
            poke(&self.spool);
        }
        assert!(!matches!(self.spool.health(), Health::Failing { .. }), "{:?}", self.spool.health());
        self.refused.append(&mut self.refused_just_now);
        self.refused_again.clear();
        self.lanes.iter_mut().flat_map(|model| model.notes.values_mut()).for_each(Notes::settle);
        self.learn_unsure();
    }

    pub(super) fn crash(&mut self, seed: u64) {
        self.world.disk.crash(&mut Chance::new(seed));
        self.reopen();
    }

    pub(super) fn reopen(&mut self) -> Recovery {
        let recovery = self.start();
        assert!(recovery.registered.is_empty(), "a lane was forgotten");
        self.learn();
        recovery
    }

    pub(super) fn start(&mut self) -> Recovery {
        self.world.disk.fail_syncs(0);
        self.world.disk.fail_directory_syncs(0);
        self.world.disk.fail_writes(0);
        self.world.disk.set_capacity(None);
        self.maybe.append(&mut self.refused_just_now);
        let (spool, recovery) = self.world.open(&self.lanes.each_ref().map(LaneModel::name));
        self.spool = spool;
        self.spool.keep_catalog_at(self.catalog_file(), terms).unwrap();
        for damage in &recovery.damage {
            let is_known = self.wounds.get(&damage.file) == Some(&damage.offset);
            assert!(is_known || self.dropped.contains(&damage.file), "no damage was done: {damage:?}");
        }
        recovery
    }

    /// What nobody could know before a start.
    pub(super) fn learn(&mut self) {
        // What comes back counts from now on; what does not is gone.
        for (position, n) in self.read_all() {
            let is_known = self.stored.contains_key(&position) || self.lost.contains_key(&position);
            if self.maybe.remove(&n) || (!is_known && self.refused_again.remove(&n)) {
                assert!(!is_known);
                self.stored.insert(position, n);
                self.highest = self.highest.max(position);
            }
        }
        self.refused.append(&mut self.maybe);
        self.refused_again.clear();
        self.learn_notes();
        self.learn_unsure();
        self.learn_mourned();
    }

    /// The newest segment gets more than its beginning, the gateway stops, the disk damages what it has, and a start says so.
    pub(super) fn damage(&mut self, chance: &mut Chance, pushes: u8, is_killed: bool, is_index_lost: bool) {
        self.repair();
        // Files that a failure left over are no part of the log, and go with a start.
        wait(self.spool.close());
        self.reopen();
        for lane in 0..LANES.len() {
            self.append(pushes.into());
            self.record(lane, 0, 3, pushes % 6);
            let owed = self.owed(lane, 0, 2);
            self.note(lane, Noting::Write { first: pushes, many: 2 }, owed, pushes % 6, true);
            self.seal(lane, 0, pushes);
            self.quarantine(1_000_000 + u64::from(pushes));
        }
        self.append(1);
        match is_killed {
            true => self.world.disk.kill(),
            false => wait(self.spool.close()),
        }
        let Some(wound) = wound(&self.world.disk, chance, |file| self.wounds.get(file).copied()) else {
            self.reopen();
            return;
        };
        if is_index_lost {
            self.world.disk.lose(&wound.file.replace(".log", ".index"));
        }
        // The catalog remembers more than the log does now.
        std::fs::remove_file(self.catalog_file()).ok();
        self.note_wound(&wound);
        let recovery = self.reopen();
        let is_said = |damage: &Damage| {
            (&damage.file, damage.offset) == (&wound.file, wound.offset) && wound.is_told_by(damage)
        };
        match wound.looks_torn {
            true => assert!(recovery.torn_bytes > 0, "{wound:?} {recovery:?}"),
            false => assert_eq!(recovery.torn_bytes, 0, "{wound:?}"),
        }
        if !wound.looks_torn && (wound.is_newest || is_index_lost || wound.offset == 0) {
            assert!(recovery.damage.iter().any(is_said), "{wound:?} is not said: {:?}", recovery.damage);
            self.nobody_waits_for_what_is_lost(&wound);
        }
    }

    /// A start that found the damage has closed what was open of it.
    pub(super) fn nobody_waits_for_what_is_lost(&self, wound: &Wound) {
        let states: Vec<_> = self.lanes.iter().flat_map(|model| states(&self.spool, model)).collect();
        for position in wound.positions().filter(|p| !matches!(self.spool.get(*p), Ok(Some(_)))) {
            for (name, state) in &states {
                assert!(!state.open.contains_key(&position), "{name} waits for {position}, which is lost");
            }
        }
    }

    /// What is not certain any more, and what is gone.
    pub(super) fn note_wound(&mut self, wound: &Wound) {
        if !wound.looks_torn {
            self.wounds.insert(wound.file.clone(), wound.offset);
            self.damaged.push(wound.between.clone());
        }
        if !wound.dropped.is_empty() {
            self.dropped.extend(wound.dropped.iter().cloned());
            self.damaged.push(Position(0)..wound.between.start);
        }
        let of = |name: &str| LANES.iter().position(|lane| name.starts_with(lane)).unwrap();
        for logged in &wound.taken {
            match logged {
                Logged::Push { push, carried } => {
                    let n = self.stored.remove(&push.position);
                    // What a torn write takes is as if it had never been.
                    if let Some(n) = n.filter(|_| *carried || !wound.looks_torn) {
                        self.lost.insert(push.position, n);
                    }
                }
                Logged::Quarantine { quarantine, .. } => drop(self.quarantined.remove(&quarantine.position)),
                Logged::Outcome { lane, position, .. } | Logged::Reopened { lane, position, .. } => {
                    self.lanes[of(lane)].doubted.insert(*position);
                }
                Logged::Sealed { lane, seal } => self.lanes[of(lane)].doubted_seals.push(seal.clone()),
                _ => {}
            }
        }
        for notes in self.lanes.iter_mut().flat_map(|model| model.notes.values_mut()) {
            notes.doubt(&wound.noted);
        }
        for lane in &mut self.lanes {
            lane.doubt(|position| self.stored.contains_key(position) || self.lost.contains_key(position));
        }
    }

    /// The spool itself closes what is lost and was open, when it finds that out.
    pub(super) fn learn_mourned(&mut self) {
        for model in &mut self.lanes {
            for letter in letters(&self.spool, model) {
                let is_owed = !model.may_be_closed(&letter.position);
                if is_owed && letter.reason == DAMAGED && self.lost.contains_key(&letter.position) {
                    model.dead.insert(letter.position);
                }
            }
        }
    }

    pub(super) fn learn_notes(&mut self) {
        for model in &mut self.lanes {
            for (name, state) in states(&self.spool, model) {
                let is_lost = |p: &Position| self.lost.contains_key(p);
                model.notes.entry(name.clone()).or_default().learn(&name, &state, is_lost);
            }
        }
    }

    /// What nobody could know is what the spool says; from here on it must stay so.
    pub(super) fn learn_unsure(&mut self) {
        for model in &mut self.lanes {
            let states = states(&self.spool, model);
            let came_true = |seal: &Seal| states.values().any(|state| state.seals.contains(seal));
            for seal in std::mem::take(&mut model.unsure_seals).into_iter().filter(came_true) {
                let shares = |other: &Seal| other.positions.iter().any(|p| seal.positions.contains(p));
                model.seals.retain(|other| !shares(other));
                model.seals.push(seal);
            }
            let dead: BTreeSet<Position> = letters(&self.spool, model).iter().map(|l| l.position).collect();
            for position in std::mem::take(&mut model.unsure) {
                if dead.contains(&position) {
                    model.dead.insert(position);
                } else if is_closed(&states[model.part_of(&position)], position) {
                    model.closed.insert(position);
                }
            }
        }
    }
}
