//! From the state to a checkpoint, and back.

use super::{Lane, Reason, Segment, State};
use crate::log::entry::{Checkpoint, KnownLane, KnownSegment};
use crate::log::outcomes::{Item, Items};
use crate::{LaneState, Open};

impl State {
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

    /// The outcomes that a checkpoint leaves open, by number and name of the lane. They belong into its frame: without them a
    /// memo would be there, and what it came with not.
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
}

impl Lane {
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
}
