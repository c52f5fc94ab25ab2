//! The lanes of a spool's log, followed by their numbers: whose they are by now, whatever they were called once, and what they
//! owe.

use std::collections::{BTreeMap, HashSet};

use cdr_dispatch::Errand;
use cdr_spool::{CheckpointLane, Logged, Position};

/// All lanes that the log told of so far.
#[derive(Default)]
pub struct Lanes(BTreeMap<u32, Lane>);

/// A lane, as of the last checkpoint and what came behind it.
struct Lane {
    /// The sink to which it delivers; of one that is over the one to which its sink's name went.
    sink: String,
    began: u64,
    next: u64,
    errand: Option<cdr_spool::Errand>,
    open: HashSet<u64>,
    closed: HashSet<u64>,
    /// Ranges that became lanes of their own.
    set_aside: Vec<std::ops::Range<u64>>,
    is_over: bool,
}

impl Lane {
    fn begun(sink: &str, began: Position, next: Position) -> Self {
        Self {
            sink: sink.to_owned(),
            began: began.0,
            next: next.0,
            errand: None,
            open: HashSet::new(),
            closed: HashSet::new(),
            set_aside: Vec::new(),
            is_over: false,
        }
    }

    fn owes(&self, position: u64) -> bool {
        let is_its = self.errand.as_ref().is_none_or(|errand| position < errand.until.0);
        let is_unread = position >= self.next
            && is_its
            && !self.set_aside.iter().any(|set_aside| set_aside.contains(&position));
        !self.is_over && (is_unread || self.open.contains(&position)) && !self.closed.contains(&position)
    }
}

impl Lanes {
    /// Takes in what an entry says of lanes.
    pub fn follow(&mut self, entry: &Logged) {
        match entry {
            Logged::Checkpoint { lanes, .. } => self.are(lanes),
            Logged::LaneRegistered { number, name, next } => {
                self.0.insert(*number, Lane::begun(sink_of(name), *next, *next));
            }
            Logged::LaneRenamed { number, name } => self.is_of(*number, sink_of(name)),
            Logged::LaneErrand { number, next, errand, .. } => self.has_errand(*number, *next, errand),
            Logged::LaneSetAside { of, number, next, errand, .. } => {
                self.has_errand(*number, *next, errand);
                if let Some(lane) = self.0.get_mut(of) {
                    lane.set_aside.push(next.0..errand.until.0);
                }
            }
            Logged::LaneRetired { number } => {
                if let Some(lane) = self.0.get_mut(number) {
                    lane.is_over = true;
                }
            }
            Logged::Outcome { number, position, outcome, .. } if outcome.is_final() => {
                if let Some(lane) = self.0.get_mut(number) {
                    lane.closed.insert(position.0);
                }
            }
            Logged::Reopened { number, position, .. } => {
                if let Some(lane) = self.0.get_mut(number) {
                    lane.closed.remove(&position.0);
                    lane.open.insert(position.0);
                }
            }
            _ => {}
        }
    }

    /// A checkpoint tells of all that are not over.
    fn are(&mut self, lanes: &[CheckpointLane]) {
        self.0.values_mut().for_each(|lane| lane.is_over = true);
        for told in lanes {
            let sink = sink_of(&told.name);
            self.is_of(told.number, sink);
            let lane = Lane {
                errand: told.errand.clone(),
                open: told.open.iter().map(|position| position.0).collect(),
                ..Lane::begun(sink, told.began, told.next)
            };
            self.0.insert(told.number, lane);
        }
    }

    fn has_errand(&mut self, number: u32, next: Position, errand: &cdr_spool::Errand) {
        self.is_of(number, &errand.sink);
        let lane = self.0.entry(number).or_insert_with(|| Lane::begun(&errand.sink, next, next));
        lane.errand = Some(errand.clone());
    }

    /// What the errands of a sink did that are over goes where its own lane goes.
    fn is_of(&mut self, number: u32, sink: &str) {
        let Some(lane) = self.0.get_mut(&number).filter(|lane| lane.sink != sink) else { return };
        let before = std::mem::replace(&mut lane.sink, sink.to_owned());
        if lane.errand.is_none() {
            let over = self.0.values_mut().filter(|lane| lane.is_over && lane.sink == before);
            over.for_each(|lane| sink.clone_into(&mut lane.sink));
        }
    }

    /// The sink to which a lane delivers, as far as that is known.
    pub fn sink(&self, number: u32) -> Option<&str> {
        self.0.get(&number).map(|lane| lane.sink.as_str())
    }

    /// Whether a lane is there only because a person wants something again.
    pub fn is_replay(&self, number: u32) -> bool {
        let errand = self.0.get(&number).and_then(|lane| lane.errand.as_ref());
        errand.is_some_and(|errand| {
            Errand::from_spool(&errand.sink, errand).is_ok_and(|errand| !errand.is_owed())
        })
    }

    /// Whether a lane of this sink owes it a push.
    pub fn owe(&self, sink: &str, position: u64) -> bool {
        self.0.values().any(|lane| lane.sink == sink && lane.owes(position))
    }

    /// The sink of a lane that owes this push, that none of these drives, and that may yet be handed over to `sink`: one that
    /// began before that did.
    pub fn parked(&self, sink: &str, driven: &[String], position: u64) -> Option<&str> {
        let own = self.0.values().find(|lane| lane.sink == sink && lane.errand.is_none() && !lane.is_over);
        let may_be_handed_over = |lane: &&Lane| {
            !driven.contains(&lane.sink)
                && own.is_none_or(|own| lane.began < own.began)
                && lane.owes(position)
        };
        self.0.values().find(may_be_handed_over).map(|lane| lane.sink.as_str())
    }
}

/// Temporary lanes bear their sink's name, `~` and a number.
fn sink_of(lane: &str) -> &str {
    lane.split('~').next().unwrap_or(lane)
}

#[cfg(test)]
mod tests {
    use cdr_spool::Outcome;

    use super::*;

    fn lanes(entries: &[Logged]) -> Lanes {
        let mut lanes = Lanes::default();
        entries.iter().for_each(|entry| lanes.follow(entry));
        lanes
    }

    fn registered(number: u32, name: &str, next: u64) -> Logged {
        Logged::LaneRegistered { number, name: name.to_owned(), next: Position(next) }
    }

    fn errand(sink: &str, until: u64, facts: &str) -> cdr_spool::Errand {
        let facts = facts.as_bytes().to_vec().into();
        cdr_spool::Errand { sink: sink.to_owned(), until: Position(until), facts }
    }

    fn begins(number: u32, sink: &str, next: u64, until: u64) -> Logged {
        let name = format!("{sink}~{number}");
        Logged::LaneErrand { number, name, next: Position(next), errand: errand(sink, until, "") }
    }

    fn delivered(number: u32, positions: std::ops::Range<u64>) -> Vec<Logged> {
        let delivered = |position| Logged::Outcome {
            number,
            lane: String::new(),
            position: Position(position),
            outcome: Outcome::Delivered { receipt: None },
        };
        positions.map(delivered).collect()
    }

    fn owed(lanes: &Lanes, sink: &str) -> Vec<u64> {
        (1..10).filter(|&position| lanes.owe(sink, position)).collect()
    }

    #[test]
    fn an_errand_owes_up_to_its_end_and_nothing_once_it_is_cancelled() {
        let mut log = vec![registered(1, "archive", 1)];
        log.extend(delivered(1, 1..10));
        log.push(begins(2, "archive", 3, 6));
        assert_eq!(owed(&lanes(&log), "archive"), [3, 4, 5]);
        log.push(Logged::LaneRetired { number: 2 });
        assert_eq!(owed(&lanes(&log), "archive"), [0; 0]);
    }

    #[test]
    fn what_is_set_aside_is_owed_by_its_own_lane_alone() {
        let mut log = vec![registered(1, "archive", 1)];
        log.push(Logged::LaneSetAside {
            of: 1,
            number: 2,
            name: "archive~2".to_owned(),
            next: Position(2),
            errand: errand("archive", 7, ""),
        });
        log.extend(delivered(2, 2..7));
        assert_eq!(owed(&lanes(&log), "archive"), [1, 7, 8, 9]);
    }

    #[test]
    fn a_checkpoint_says_what_is_owed_from_there_on() {
        let mut log = delivered(1, 1..3);
        log.push(Logged::Checkpoint {
            end: Position(8),
            lanes: vec![CheckpointLane {
                number: 1,
                name: "archive".to_owned(),
                began: Position(1),
                next: Position(7),
                open: vec![Position(2), Position(5)],
                dead: vec![],
                seals: vec![],
                errand: None,
            }],
        });
        log.extend(delivered(1, 5..6));
        assert_eq!(owed(&lanes(&log), "archive"), [2, 7, 8, 9]);
    }

    #[test]
    fn a_sink_that_is_renamed_takes_along_what_its_errands_did() {
        let over = [registered(1, "old", 1), begins(2, "old", 1, 4), Logged::LaneRetired { number: 2 }];
        let mut log = over.to_vec();
        log.push(Logged::LaneRenamed { number: 1, name: "new".to_owned() });
        log.push(registered(3, "old", 9));
        assert_eq!(
            [1, 2, 3].map(|number| lanes(&log).sink(number).map(str::to_owned).unwrap()),
            ["new", "new", "old"]
        );
        let mut log = over.to_vec();
        log.extend([registered(4, "new", 5), begins(1, "new", 1, 5)]);
        assert_eq!([1, 2, 4].map(|number| lanes(&log).sink(number).map(str::to_owned).unwrap()), ["new"; 3]);
    }

    #[test]
    fn only_what_may_be_handed_over_is_waited_for() {
        let parked = |log: &[Logged], position| {
            lanes(log).parked("new", &["new".to_owned()], position).map(str::to_owned)
        };
        let mut log = vec![registered(1, "old", 1), registered(2, "new", 5)];
        assert_eq!(parked(&log, 3), Some("old".to_owned()));
        log.push(registered(3, "later", 8));
        log.extend(delivered(1, 1..10));
        assert_eq!(parked(&log, 9), None);
    }
}
