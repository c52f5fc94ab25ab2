//! Decisions about lanes, seals, dead letters, quarantine and the configuration. Each is a commit of its own: durable before the
//! state changes, and before whoever decided is told.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Writer;
use crate::inbox::{Change, Changed};
use crate::log::entry::LaneChange;
use crate::log::frame::FrameBuilder;
use crate::log::outcomes::{Item, Items};
use crate::state::{Lane, State};
use crate::{ControlError, Errand, NewLane, Position, Seal, Start};

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
            Change::Begin { sink, from_ms, to_ms, facts } => {
                let change = beginning(&self.shared.store.state(), sink, (from_ms, to_ms), facts);
                self.change_lanes(vec![change])
            }
            Change::SetAside { lane, from, facts } => {
                let changes = setting_aside(&self.shared.store.state(), &lane, from, facts)?;
                self.change_lanes(changes)
            }
            Change::HandOver { old, new, until, facts } => {
                let changes = handing_over(&self.shared.store.state(), &old, &new, until, &facts)?;
                self.change_lanes(changes)
            }
            Change::Retire(name) => {
                let changes = retiring(&self.shared.store.state(), &name)?;
                self.change_lanes(changes)
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
            LaneChange::Registered { name, .. }
            | LaneChange::Renamed { name, .. }
            | LaneChange::Errand { name, .. }
            | LaneChange::SetAside { name, .. } => Some(name),
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
            (state.end, state.beginning())
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
    state.lanes.get(lane).map(|l| l.number).ok_or_else(|| unknown(state, lane))
}

fn unknown(state: &State, lane: &str) -> ControlError {
    let known = state.lanes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    ControlError::UnknownLane { lane: lane.to_owned(), known }
}

/// The name of a temporary lane. A number is given once, so the name is, too.
fn errand_name(sink: &str, number: u32) -> String {
    format!("{sink}~{number}")
}

fn beginning(
    state: &State,
    sink: String,
    (from_ms, to_ms): (Option<i64>, Option<i64>),
    facts: Bytes,
) -> LaneChange {
    let (next, until) = state.arrived_between(from_ms, to_ms);
    let (lane, name) = (state.next_lane, errand_name(&sink, state.next_lane));
    LaneChange::Errand { lane, name, next, errand: Errand { sink, until, facts } }
}

/// Nothing when the lane has read everything.
fn setting_aside(
    state: &State,
    sink: &str,
    from: Position,
    facts: Bytes,
) -> Result<Vec<LaneChange>, ControlError> {
    let Some(Lane { number, state: known, .. }) = state.lanes.get(sink) else {
        return Err(unknown(state, sink));
    };
    let (next, until) = (from.max(known.next), state.end.min(known.ends()));
    if next >= until {
        return Ok(Vec::new());
    }
    let (lane, name) = (state.next_lane, errand_name(sink, state.next_lane));
    let errand = Errand { sink: sink.to_owned(), until, facts };
    Ok(vec![LaneChange::SetAside { of: *number, lane, name, next, errand }])
}

/// A lane and the errands of its sink.
fn with_errands<'a>(state: &'a State, sink: &'a str) -> impl Iterator<Item = (&'a String, &'a Lane)> {
    let is_of = move |name: &str, lane: &Lane| {
        name == sink || lane.state.errand.as_ref().is_some_and(|errand| errand.sink == sink)
    };
    state.lanes.iter().filter(move |(name, lane)| is_of(name, lane))
}

/// What the new name has of its own stays as it is; the old lane becomes an errand of it that ends where the new one
/// began, or at `until`, up to where the old one was owed pushes. So nothing is owed twice, however many pushes it is, and numbers stay, by which reasons and seals are found. One
/// that did not begin after it cannot take it over.
fn handing_over(
    state: &State,
    old: &str,
    new: &str,
    until: Position,
    facts: &Bytes,
) -> Result<Vec<LaneChange>, ControlError> {
    if old == new {
        return Err(ControlError::LaneExists { lane: new.to_owned() });
    }
    let there = state.lanes.get(new);
    if let (Some(lane), Some(there)) = (state.lanes.get(old), there)
        && lane.state.errand.is_none()
        && there.state.began <= lane.state.began
    {
        // The errand would end before it began: all that is not read would be dropped without a word.
        return Err(ControlError::Beside { old: old.to_owned(), new: new.to_owned() });
    }
    let change = |(_, Lane { number, state, .. }): (&String, &Lane)| {
        let errand = match (&state.errand, there) {
            (Some(errand), _) => Errand { sink: new.to_owned(), ..errand.clone() },
            (None, Some(there)) => {
                Errand { sink: new.to_owned(), until: there.state.began.max(until), facts: facts.clone() }
            }
            (None, None) => return LaneChange::Renamed { lane: *number, name: new.to_owned() },
        };
        LaneChange::Errand { lane: *number, name: errand_name(new, *number), next: state.next, errand }
    };
    let changes: Vec<LaneChange> = with_errands(state, old).map(change).collect();
    if changes.is_empty() { Err(unknown(state, old)) } else { Ok(changes) }
}

fn retiring(state: &State, name: &str) -> Result<Vec<LaneChange>, ControlError> {
    let changes: Vec<LaneChange> =
        with_errands(state, name).map(|(_, lane)| LaneChange::Retired { lane: lane.number }).collect();
    if changes.is_empty() { Err(unknown(state, name)) } else { Ok(changes) }
}
