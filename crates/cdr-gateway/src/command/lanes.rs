//! What the log tells of a sink that has said nothing about a push: does it still owe it, or did it never get it?

use std::collections::{BTreeMap, BTreeSet};

use cdr_spool::{CheckpointLane, Logged, Position};

/// The lanes that the log knows, by their number: names can change.
#[derive(Default)]
pub struct Lanes {
    known: BTreeMap<u32, Lane>,
    /// The oldest checkpoint was seen: lanes that turn up after it are new.
    has_begun: bool,
}

/// A lane as the log first shows it.
struct Lane {
    name: String,
    /// The first position that it had not read then.
    next: Position,
    /// What it owed before.
    open: BTreeSet<Position>,
    /// It is older than what is left of the log.
    is_old: bool,
}

/// Why there is no outcome of a push at a sink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Untold {
    /// It waits for its first attempt.
    Waiting,
    /// It came before the sink did.
    Before,
    /// It is closed, and the outcome went with an old part of the log; or it came before the sink did.
    Forgotten,
}

impl Lanes {
    /// Takes in an entry of the log, oldest first.
    pub fn note(&mut self, entry: &Logged) {
        match entry {
            Logged::Checkpoint { lanes, .. } => {
                let is_old = !std::mem::replace(&mut self.has_begun, true);
                lanes.iter().for_each(|lane| self.first_seen(lane, is_old));
            }
            Logged::LaneRegistered { number, name, next } => {
                let lane = Lane { name: name.clone(), next: *next, open: BTreeSet::new(), is_old: false };
                self.known.insert(*number, lane);
            }
            Logged::LaneRenamed { number, name } => {
                if let Some(lane) = self.known.get_mut(number) {
                    lane.name.clone_from(name);
                }
            }
            // What a renamed sink left goes on under another name; a replay is no lane of a sink.
            Logged::LaneErrand { number, name, .. } => {
                if let Some(lane) = self.known.get_mut(number) {
                    lane.name.clone_from(name);
                }
            }
            Logged::LaneRetired { number } => drop(self.known.remove(number)),
            _ => {}
        }
    }

    fn first_seen(&mut self, lane: &CheckpointLane, is_old: bool) {
        let CheckpointLane { number, name, next, open, .. } = lane;
        let open = || open.iter().copied().collect();
        let lane = || Lane { name: name.clone(), next: *next, open: open(), is_old };
        self.known.entry(*number).or_insert_with(lane);
    }

    /// Why this sink has no outcome of this push.
    pub fn untold(&self, sink: &str, position: Position) -> Untold {
        match self.known.values().find(|lane| lane.name == sink) {
            Some(lane) if position >= lane.next || lane.open.contains(&position) => Untold::Waiting,
            Some(lane) if lane.is_old => Untold::Forgotten,
            _ => Untold::Before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str, next: u64, open: &[u64]) -> CheckpointLane {
        let open = open.iter().copied().map(Position).collect();
        let number = u32::from(name.as_bytes()[0]);
        let (dead, seals) = (Vec::new(), Vec::new());
        CheckpointLane { number, name: name.to_owned(), next: Position(next), open, dead, seals }
    }

    fn checkpoint(lanes: Vec<CheckpointLane>) -> Logged {
        Logged::Checkpoint { end: Position(100), lanes }
    }

    #[test]
    fn a_sink_owes_what_it_has_not_read_and_what_it_had_open() {
        let mut lanes = Lanes::default();
        lanes.note(&checkpoint(vec![lane("crm", 90, &[7])]));
        lanes.note(&checkpoint(vec![lane("crm", 200, &[])]));
        let untold = |position| lanes.untold("crm", Position(position));
        assert_eq!([untold(7), untold(90), untold(300)], [Untold::Waiting; 3]);
        assert_eq!([untold(8), untold(89)], [Untold::Forgotten; 2]);
    }

    #[test]
    fn what_came_before_a_sink_does_not_wait_for_it() {
        let mut lanes = Lanes::default();
        lanes.note(&checkpoint(vec![]));
        lanes.note(&checkpoint(vec![lane("at-start", 50, &[])]));
        let next = Position(60);
        lanes.note(&Logged::LaneRegistered { number: 9, name: "by-reload".to_owned(), next });
        let untold = |sink, position| lanes.untold(sink, Position(position));
        assert_eq!([untold("at-start", 49), untold("at-start", 50)], [Untold::Before, Untold::Waiting]);
        assert_eq!([untold("by-reload", 59), untold("by-reload", 60)], [Untold::Before, Untold::Waiting]);
        assert_eq!(untold("only-in-the-file", 60), Untold::Before);
    }

    #[test]
    fn a_lane_that_was_renamed_goes_on_and_one_that_was_retired_begins_again() {
        let mut lanes = Lanes::default();
        lanes.note(&checkpoint(vec![lane("a", 10, &[]), lane("b", 10, &[])]));
        lanes.note(&Logged::LaneRenamed { number: u32::from(b'a'), name: "c".to_owned() });
        lanes.note(&Logged::LaneRetired { number: u32::from(b'b') });
        lanes.note(&Logged::LaneRegistered { number: 9, name: "b".to_owned(), next: Position(60) });
        assert_eq!(lanes.untold("c", Position(20)), Untold::Waiting);
        assert_eq!(lanes.untold("b", Position(20)), Untold::Before);
    }
}
