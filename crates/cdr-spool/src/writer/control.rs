//! Decisions about lanes, seals, dead letters, quarantine and the configuration. Each is a commit of its own: durable before the
//! state changes, and before whoever decided is told.

use tokio::sync::oneshot;

use super::Writer;
use crate::inbox::{Change, Changed};
use crate::log::entry::LaneChange;
use crate::log::frame::FrameBuilder;
use crate::log::outcomes::{Item, Items};
use crate::state::State;
use crate::{ControlError, NewLane, Position, Seal, Start};

/// How many pushes a search by time reads at once.
const SEARCH: usize = 256;

impl<T> Writer<T> {
    pub(super) fn control(&mut self, change: Change, reply: oneshot::Sender<Result<Changed, ControlError>>) {
        self.commit();
        self.sync();
        let changed = self.decide(change);
        self.room_may_have_come = true;
        reply.send(changed).ok();
    }

    fn decide(&mut self, change: Change) -> Result<Changed, ControlError> {
        match change {
            Change::Register(lanes) => {
                let changes = self.registrations(&lanes);
                self.change_lanes(changes)
            }
            Change::Rename { old, new } => {
                let lane = known(&self.shared.store.state(), &old)?;
                if self.shared.store.state().lanes.contains_key(&new) {
                    return Err(ControlError::LaneExists { lane: new });
                }
                self.change_lanes(vec![LaneChange::Renamed { lane, name: new }])
            }
            Change::Retire(name) => {
                let lane = known(&self.shared.store.state(), &name)?;
                self.change_lanes(vec![LaneChange::Retired { lane }])
            }
            Change::Reopen { lane, positions } => self.close_dead_letters(&lane, &positions, &Item::Reopened),
            Change::Discard { lane, positions } => {
                self.close_dead_letters(&lane, &positions, &Item::Discarded)
            }
            Change::Seal { lane, seal } => self.seal(&lane, seal),
            Change::DiscardQuarantine(positions) => self.discard_quarantine(positions),
            Change::Configured(hash) => self.configured(hash),
        }
    }

    fn change_lanes(&mut self, changes: Vec<LaneChange>) -> Result<Changed, ControlError> {
        if changes.is_empty() {
            return Ok(Changed::default());
        }
        let mut frame = FrameBuilder::new();
        changes.iter().for_each(|change| frame.lane(change));
        self.write_decision(frame)?;
        let mut state = self.shared.store.state_mut();
        changes.iter().for_each(|change| state.change_lane(change));
        let names = changes.into_iter().filter_map(|change| match change {
            LaneChange::Registered { name, .. } | LaneChange::Renamed { name, .. } => Some(name),
            LaneChange::Retired { .. } => None,
        });
        Ok(Changed { names: names.collect(), ..Changed::default() })
    }

    fn close_dead_letters(
        &mut self,
        lane: &str,
        positions: &[Position],
        item: &Item,
    ) -> Result<Changed, ControlError> {
        let (number, items) = {
            let state = self.shared.store.state();
            let number = known(&state, lane)?;
            let is_dead = |p: &&Position| state.lanes.get(lane).is_some_and(|l| l.dead.contains_key(p));
            let items: Items = positions.iter().filter(is_dead).map(|p| (*p, item.clone())).collect();
            (number, items)
        };
        if items.is_empty() {
            return Ok(Changed::default());
        }
        let mut frame = FrameBuilder::new();
        frame.outcomes(number, lane, &items);
        self.write_decision(frame)?;
        let mut state = self.shared.store.state_mut();
        for (position, item) in &items {
            state.fold(lane, *position, item);
        }
        Ok(Changed { positions: items.into_keys().collect(), ..Changed::default() })
    }

    fn seal(&mut self, lane: &str, seal: Seal) -> Result<Changed, ControlError> {
        let number = {
            let state = self.shared.store.state();
            let number = known(&state, lane)?;
            let not_open = state.not_open(lane, &seal.positions).unwrap_or_default();
            if !not_open.is_empty() {
                return Err(ControlError::NotOpen { lane: lane.to_owned(), positions: not_open });
            }
            number
        };
        let mut frame = FrameBuilder::new();
        frame.lane_seal(number, lane, &seal);
        self.write_decision(frame)?;
        self.shared.store.state_mut().seal(lane, seal);
        Ok(Changed::default())
    }

    fn discard_quarantine(&mut self, mut positions: Vec<Position>) -> Result<Changed, ControlError> {
        positions.sort_unstable();
        positions.dedup();
        {
            let state = self.shared.store.state();
            positions.retain(|p| state.quarantine.get(p).is_some_and(|held| !held.discarded));
        }
        if positions.is_empty() {
            return Ok(Changed::default());
        }
        let mut frame = FrameBuilder::new();
        frame.quarantine_discarded(&positions);
        self.write_decision(frame)?;
        let mut state = self.shared.store.state_mut();
        positions.retain(|p| state.discard_quarantine(*p));
        Ok(Changed { positions, ..Changed::default() })
    }

    fn configured(&mut self, hash: [u8; 32]) -> Result<Changed, ControlError> {
        let (known, generation) = {
            let state = self.shared.store.state();
            (state.generation > 0 && state.configuration == hash, state.generation)
        };
        if known {
            return Ok(Changed { generation, ..Changed::default() });
        }
        let generation = generation + 1;
        let mut frame = FrameBuilder::new();
        frame.configuration(generation, &hash);
        self.write_decision(frame)?;
        let mut state = self.shared.store.state_mut();
        state.generation = generation;
        state.configuration = hash;
        Ok(Changed { generation, ..Changed::default() })
    }

    /// Writes and syncs a frame of its own.
    fn write_decision(&mut self, mut frame: FrameBuilder) -> Result<(), ControlError> {
        if self.tail.is_some() {
            match self.put(&mut frame, self.next) {
                Ok(()) => self.sync(),
                Err(error) => self.fail("write", &error),
            }
        }
        match self.tail {
            Some(_) => Ok(()),
            None => Err(ControlError::Failing { reason: self.failing_reason() }),
        }
    }

    /// Takes the lanes that the spool does not know into the state; the next checkpoint makes them durable.
    pub(super) fn register(&mut self, lanes: &[NewLane]) -> Vec<String> {
        let changes = self.registrations(lanes);
        let mut state = self.shared.store.state_mut();
        changes.iter().for_each(|change| state.change_lane(change));
        changes
            .into_iter()
            .filter_map(|change| match change {
                LaneChange::Registered { name, .. } => Some(name),
                _ => None,
            })
            .collect()
    }

    fn registrations(&self, lanes: &[NewLane]) -> Vec<LaneChange> {
        let (mut number, known): (u32, Vec<String>) = {
            let state = self.shared.store.state();
            (state.next_lane, state.lanes.keys().cloned().collect())
        };
        let mut changes: Vec<LaneChange> = Vec::new();
        for lane in lanes.iter().filter(|lane| !known.contains(&lane.name)) {
            let again = changes
                .iter()
                .any(|c| matches!(c, LaneChange::Registered { name, .. } if *name == lane.name));
            if again {
                continue;
            }
            changes.push(LaneChange::Registered {
                lane: number,
                name: lane.name.clone(),
                next: self.starting(lane.start),
            });
            number += 1;
        }
        changes
    }

    fn starting(&self, start: Start) -> Position {
        let (end, beginning) = {
            let state = self.shared.store.state();
            let first = state.segments.first().map_or(state.end, |s| s.first);
            let carried = state.carried.keys().next().copied().unwrap_or(first);
            (state.end, first.min(carried))
        };
        match start {
            Start::Now => end,
            Start::Beginning => beginning,
            Start::At(ms) => self.first_at(ms, beginning).unwrap_or(end),
        }
    }

    /// The first push that arrived at or after a time. Segments that ended before it are not read.
    fn first_at(&self, ms: i64, beginning: Position) -> Option<Position> {
        let store = &self.shared.store;
        let mut from = {
            let state = store.state();
            state.segments.iter().find(|s| s.newest_ms >= ms).map(|s| s.first)?.max(beginning)
        };
        loop {
            let read = match store.read(from, SEARCH, usize::MAX) {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(%error, position = %from, "a lane's first push cannot be looked for; it starts here: too many are better than a gap");
                    return Some(from);
                }
            };
            if let Some(found) = read.pushes.iter().find(|push| push.received_at_ms >= ms) {
                return Some(found.position);
            }
            if read.next == from {
                return None;
            }
            from = read.next;
        }
    }
}

fn known(state: &State, lane: &str) -> Result<u32, ControlError> {
    let unknown = || ControlError::UnknownLane {
        lane: lane.to_owned(),
        known: state.lanes.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    state.lanes.get(lane).map(|l| l.number).ok_or_else(unknown)
}
