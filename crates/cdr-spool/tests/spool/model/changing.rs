//! Lanes that are handed over, set aside and retired.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use cdr_spool::{LaneState, NewLane, Position, Start};

use super::lane::LaneModel;
use super::{LANES, Model};
use crate::disk::Chance;
use crate::harness::*;
use crate::lanes::{DELIVERED, lane};

impl Model {
    /// On a disk that works: a decision that fails is tested elsewhere.
    pub(super) fn hand_over(&mut self, at: usize, closed: u8) {
        self.repair();
        let old = self.lanes[at].name().to_owned();
        let began = self.spool.lanes().into_iter().find(|(name, _)| *name == old).unwrap().1.began;
        if self.spool.end() <= began {
            // Refused: tested elsewhere.
            return;
        }
        self.lanes[at].renames += 1;
        let new = format!("{}-{}", LANES[at], self.lanes[at].renames);
        let lane = NewLane { name: new.clone(), start: Start::Now };
        assert_eq!(wait(self.spool.register_lanes(&[lane])).unwrap(), [new.as_str()]);
        let began = self.spool.end();
        self.append(closed.into());
        let fresh: Vec<Position> = self.stored.range(began..).map(|(position, _)| *position).collect();
        wait(async {
            let recorded = self.spool.record(&new, fresh.iter().map(|p| (*p, DELIVERED)).collect());
            self.spool.configured([closed; 32]).await.unwrap();
            recorded.await;
        });
        self.lanes[at].closed.extend(fresh);
        wait(self.spool.hand_over_lane(&old, &new, Position(0), Bytes::new())).unwrap();
        let errand = |(name, state): (String, LaneState)| {
            let number: u64 = name.split_once('~')?.1.parse().unwrap();
            let errand = state.errand.filter(|errand| errand.sink == new)?;
            Some((errand.until, number, name))
        };
        let mut errands: Vec<_> = self.spool.lanes().into_iter().filter_map(errand).collect();
        let mut notes = BTreeMap::new();
        for (name, part) in &mut self.lanes[at].aside {
            let before = std::mem::replace(name, format!("{new}~{}", name.split_once('~').unwrap().1));
            notes.extend(self.lanes[at].notes.remove(&before).map(|noted| (name.clone(), noted)));
            assert!(errands.iter().any(|(until, _, errand)| errand == name && *until == part.end));
        }
        let is_aside = |errand: &str| self.lanes[at].aside.iter().any(|(name, _)| name == errand);
        errands.retain(|(_, _, errand)| !is_aside(errand));
        errands.sort();
        assert_eq!(errands.len(), self.lanes[at].parts.len(), "{errands:?}");
        let model = &mut self.lanes[at];
        for ((before, _), (_, _, after)) in model.parts.iter().zip(&errands) {
            notes.extend(model.notes.remove(before).map(|noted| (after.clone(), noted)));
        }
        model.notes = notes;
        model.parts = errands.into_iter().map(|(until, _, name)| (name, until)).collect();
        model.parts.push((new, Position(u64::MAX)));
    }

    /// On a disk that works, as above.
    pub(super) fn set_aside(&mut self, at: usize, skip: u8) {
        self.repair();
        let (name, from, end) = self.unread(at, skip);
        let goes_on = wait(self.spool.set_aside(&name, from, Bytes::new())).unwrap();
        assert_eq!(goes_on, (from < end).then_some(end));
        assert_eq!(self.learn_aside(at, from..end), goes_on.is_some());
    }

    pub(super) fn crash_setting_aside(&mut self, at: usize, skip: u8, changes: u8, seed: u64) {
        self.repair();
        let (name, from, end) = self.unread(at, skip);
        self.world.disk.cut_power_after(changes.into());
        let goes_on = wait(self.spool.set_aside(&name, from, Bytes::new()));
        self.world.disk.crash(&mut Chance::new(seed));
        self.start();
        let is_there = self.learn_aside(at, from..end);
        if let Ok(goes_on) = goes_on {
            assert_eq!(is_there, goes_on.is_some(), "{name}: what was set aside is not there");
        }
        self.learn();
    }

    /// What a lane has not read, but for so many positions.
    pub(super) fn unread(&self, at: usize, skip: u8) -> (String, Position, Position) {
        let name = self.lanes[at].name().to_owned();
        let from = Position(lane(&self.spool, &name).next.0 + u64::from(skip));
        (name, from, self.spool.end())
    }

    /// Whether there is a lane that nobody knew; it must be for what was set aside.
    pub(super) fn learn_aside(&mut self, at: usize, part: Range<Position>) -> bool {
        let known: BTreeSet<&String> = self.lanes.iter().flat_map(LaneModel::part_names).collect();
        let is_new = |(name, _): &(String, LaneState)| !known.contains(name);
        let mut new = self.spool.lanes().into_iter().filter(is_new);
        let (aside, others) = (new.next(), new.next());
        assert!(others.is_none(), "{others:?}");
        let Some((name, state)) = aside else { return false };
        assert_eq!((state.began, state.ends()), (part.start, part.end));
        self.lanes[at].aside.push((name, part));
        true
    }

    /// On a disk that works, until the power goes.
    pub(super) fn retire(&mut self, at: usize, power: Option<(u8, u64)>) {
        self.repair();
        let name = self.lanes[at].name().to_owned();
        let retired = match power {
            None => {
                wait(self.spool.retire_lane(&name)).unwrap();
                let lane = NewLane { name: name.clone(), start: Start::Beginning };
                wait(self.spool.register_lanes(&[lane])).unwrap()
            }
            Some((changes, seed)) => {
                self.world.disk.cut_power_after(changes.into());
                let answer = wait(self.spool.retire_lane(&name));
                self.world.disk.crash(&mut Chance::new(seed));
                let retired = self.start().registered;
                assert!(answer.is_err() || !retired.is_empty(), "{name} was retired");
                retired
            }
        };
        if retired.is_empty() {
            return self.learn();
        }
        assert_eq!(retired, [name.as_str()]);
        let renames = self.lanes[at].renames;
        self.lanes[at] = LaneModel { renames, ..LaneModel::of(&name) };
        // What both lanes had closed may have gone meanwhile, and nobody is owed it.
        let (all, lost) = self.read_what_is_there();
        let there: BTreeSet<Position> = all.into_iter().map(|(position, _)| position).chain(lost).collect();
        let other = &self.lanes[1 - at];
        let is_there = |p: &Position| there.contains(p) || !other.may_be_closed(p);
        self.stored.retain(|position, _| is_there(position));
        self.lost.retain(|position, _| is_there(position));
        if power.is_some() {
            self.learn();
        }
    }
}
