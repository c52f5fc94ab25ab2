//! Pushes, outcomes, notes, seals and decisions: the spool is asked, the answer is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::task::{Context, Waker};

use cdr_spool::{AppendError, Appended, ControlError, Health, Outcome, Position, Seal};

use super::Model;
use super::lane::{RETRY, outcome_of};
use super::notes::Noting;
use crate::harness::*;
use crate::seals::seal_of;

impl Model {
    pub(super) fn append(&mut self, count: u64) {
        let numbers: Vec<u64> = (self.next_number..self.next_number + count).collect();
        self.next_number += count;
        let now = cdr_spool::clock::Clock::wall_ms(&*self.world.clock);
        let spool = self.spool.clone();
        let answers = wait(async {
            let tasks: Vec<_> = numbers.iter().map(|n| spool.append(push_at(*n, now))).collect();
            let mut answers = Vec::new();
            // One poll each queues them all before the first is waited for.
            let mut tasks: Vec<_> = tasks.into_iter().map(Box::pin).collect();
            for task in &mut tasks {
                let early = std::future::poll_fn(|cx| std::task::Poll::Ready(task.as_mut().poll(cx))).await;
                answers.push(match early {
                    std::task::Poll::Ready(answer) => answer,
                    std::task::Poll::Pending => task.await,
                });
            }
            answers
        });
        for (n, answer) in numbers.into_iter().zip(answers) {
            self.note_answer(n, answer);
        }
    }

    pub(super) fn note_answer(&mut self, n: u64, answer: Result<Appended, AppendError>) {
        match answer {
            Ok(Appended::Stored { position, .. }) => {
                assert!(position > self.highest, "{position} is given again, {} was seen", self.highest);
                self.highest = position;
                self.stored.insert(position, n);
            }
            Ok(Appended::Repeat { position }) => panic!("push {n} is new and was taken for {position}"),
            Err(AppendError::Full { .. } | AppendError::Busy { .. }) => drop(self.refused.insert(n)),
            Err(AppendError::Failing { .. }) => drop(self.refused_just_now.insert(n)),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn repeat(&mut self, rank: u8) {
        let Some((position, n)) = nth(&self.stored, rank) else { return };
        let owed = self.is_owed(position);
        let now = cdr_spool::clock::Clock::wall_ms(&*self.world.clock);
        match wait(self.spool.append(push_at(n, now))) {
            Ok(Appended::Repeat { position: same }) => {
                // It may have been stored a second time after it left the window or the disk.
                assert_eq!(self.stored.get(&same).or(self.lost.get(&same)), Some(&n));
            }
            // Gone, or out of the window: then it is a new push.
            Ok(Appended::Stored { position: again, .. }) => {
                let young = self
                    .read_at(position)
                    .is_some_and(|received| now - received <= 48 * 3_600_000 && received <= now);
                assert!(!(owed && young), "push {n} at {position} was not recognised");
                assert!(again > self.highest);
                self.highest = again;
                self.stored.insert(again, n);
            }
            Err(AppendError::Failing { .. }) => drop(self.refused_again.insert(n)),
            Err(AppendError::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn read_at(&self, position: Position) -> Option<i64> {
        self.spool.get(position).unwrap().map(|push| push.received_at_ms)
    }

    /// Pushes that the lane has to close, in order.
    pub(super) fn owed(&self, lane: usize, rank: u8, count: u8) -> Vec<Position> {
        let lane = &self.lanes[lane];
        let pushes: BTreeSet<&Position> = self.stored.keys().chain(self.lost.keys()).collect();
        let owed = pushes
            .into_iter()
            .filter(|p| !lane.closed.contains(p) && !lane.dead.contains(p) && !lane.unsure.contains(p));
        owed.copied().skip(rank.into()).take(count.into()).collect()
    }

    pub(super) fn note_seals_that_may_be_over(&mut self) {
        for model in &mut self.lanes {
            let (over, open): (Vec<Seal>, Vec<Seal>) = std::mem::take(&mut model.seals)
                .into_iter()
                .partition(|seal| seal.positions.iter().all(|p| model.may_be_closed(p)));
            model.seals = open;
            model.unsure_seals.extend(over);
        }
    }

    pub(super) fn seal(&mut self, at: usize, rank: u8, count: u8) {
        let mut positions = self.owed(at, rank, count);
        let Some(part) = positions.first().map(|first| self.lanes[at].part_of(first).to_owned()) else {
            return;
        };
        positions.retain(|p| self.lanes[at].part_of(p) == part);
        let seal = seal_of(positions.iter().map(|p| p.0));
        self.lanes[at].asked_seals.push(seal.clone());
        match wait(self.spool.seal(&part, seal.clone())) {
            Ok(()) => {
                let shares = |other: &Seal| other.positions.iter().any(|p| positions.contains(p));
                self.lanes[at].seals.retain(|other| !shares(other));
                self.lanes[at].seals.push(seal);
            }
            Err(ControlError::Failing { .. }) => self.lanes[at].unsure_seals.push(seal),
            // Given up by the spool itself, a moment ago.
            Err(ControlError::NotOpen { positions, .. })
                if positions.iter().all(|p| self.lost.contains_key(p)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn record(&mut self, lane: usize, rank: u8, count: u8, kind: u8) {
        let owed = self.owed(lane, rank, count);
        self.record_of(lane, owed, kind);
    }

    pub(super) fn record_of(&mut self, lane: usize, owed: Vec<Position>, kind: u8) {
        let mut of_parts: BTreeMap<&str, Vec<(Position, Outcome)>> = BTreeMap::new();
        for position in &owed {
            let part = self.lanes[lane].part_of(position);
            of_parts.entry(part).or_default().push((*position, outcome_of(kind, position)));
        }
        let mut recorded = Vec::new();
        for (part, outcomes) in of_parts {
            let positions: Vec<Position> = outcomes.iter().map(|(position, _)| *position).collect();
            recorded.push((positions, self.spool.record(part, outcomes)));
        }
        let durable = self.sync();
        for (positions, answer) in recorded {
            // Whoever is told forgets the delivery, so it stays closed though the power goes before the disk works again.
            let was_told = is_ready(answer);
            assert!(was_told || !durable, "{positions:?} are durable and nobody was told");
            self.lanes[lane].close(positions, kind, was_told);
        }
    }

    /// A decision of its own syncs what waits before it; a failing disk refuses it, and the outcomes wait on. True if all of
    /// them are durable.
    pub(super) fn sync(&self) -> bool {
        match wait(self.spool.discard_quarantine(&[Position(u64::MAX)])) {
            Ok(_) => self.spool.health() == Health::Ok,
            Err(ControlError::Failing { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn note(
        &mut self,
        at: usize,
        noting: Noting,
        mut owed: Vec<Position>,
        kind: u8,
        is_awaited: bool,
    ) {
        let model = &mut self.lanes[at];
        let part = owed.first().map_or_else(|| model.name(), |first| model.part_of(first)).to_owned();
        owed.retain(|p| model.part_of(p) == part);
        let outcomes = owed.iter().map(|p| (*p, outcome_of(kind, p))).collect();
        let closed = if kind < RETRY { owed.clone() } else { Vec::new() };
        let mut text = || {
            self.texts += 1;
            self.texts.to_string()
        };
        let memos = model.notes.entry(part.clone()).or_default().add(noting, closed, &mut text);
        let answer = self.spool.record_with_memos(&part, outcomes, memos);
        let was_told = is_awaited && {
            let durable = self.sync();
            let was_told = is_ready(answer);
            assert!(was_told || !durable, "notes of {part} are durable and nobody was told");
            was_told
        };
        let model = &mut self.lanes[at];
        model.close(owed, kind, was_told);
        if was_told {
            model.notes.entry(part).or_default().settle();
        }
    }

    pub(super) fn decide(&mut self, at: usize, rank: u8, wake: bool) {
        let model = &mut self.lanes[at];
        let Some(position) = model.dead.iter().nth(usize::from(rank) % model.dead.len().max(1)).copied()
        else {
            return;
        };
        let part = model.part_of(&position).to_owned();
        let decided = match wake {
            true => wait(self.spool.reopen(&part, &[position])),
            false => wait(self.spool.discard(&part, &[position])),
        };
        match decided {
            Ok(changed) => {
                assert_eq!(changed, [position]);
                model.dead.remove(&position);
                if !wake {
                    model.closed.insert(position);
                }
            }
            Err(_) => {
                // It did not happen, but for a crash that comes before the next segment.
                model.dead.remove(&position);
                model.unsure.insert(position);
            }
        }
    }

    pub(super) fn quarantine(&mut self, n: u64) {
        match wait(self.spool.quarantine(found(n))) {
            Ok(quarantined) => {
                let known = self.quarantined.values().any(|m| *m == n);
                assert!(!known || !quarantined.is_new, "{n} is kept twice");
                self.highest = self.highest.max(quarantined.position);
                self.quarantined.insert(quarantined.position, n);
            }
            Err(
                AppendError::QuarantineFull { .. } | AppendError::Full { .. } | AppendError::Failing { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether there is an answer by now.
fn is_ready(answer: impl Future<Output = ()>) -> bool {
    pin!(answer).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn nth(stored: &BTreeMap<Position, u64>, rank: u8) -> Option<(Position, u64)> {
    stored.iter().rev().nth(usize::from(rank) % stored.len().max(1)).map(|(p, n)| (*p, *n))
}
