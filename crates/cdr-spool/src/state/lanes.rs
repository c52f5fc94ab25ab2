//! What happens to lanes: outcomes, memos, seals, and changes of their set. The writer and a recovery let the same happen.

use super::{Lane, Reason, State};
use crate::log::entry::LaneChange;
use crate::log::outcomes::Item;
use crate::{Memo, Open, Position, Seal};

impl State {
    pub(crate) fn lane_name(&self, number: u32) -> Option<String> {
        self.lanes.iter().find(|(_, l)| l.number == number).map(|(name, _)| name.clone())
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LaneState;
    use crate::state::tests::state;

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
}
