//! What the model knows of a lane.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use cdr_spool::{DeadLetter, LaneState, Outcome, Position, Seal, Spool};

use super::notes::Notes;
use crate::lanes::{DELIVERED, dead, lane};

/// What a lane must have done; what it may have done.
#[derive(Default)]
pub(super) struct LaneModel {
    pub(super) closed: BTreeSet<Position>,
    pub(super) dead: BTreeSet<Position>,
    /// Recorded, and the power went before anyone was told: closed or not, nobody knows.
    pub(super) unsure: BTreeSet<Position>,
    /// What damaged frames said of: a start may remember less of them.
    pub(super) doubted: BTreeSet<Position>,
    pub(super) doubted_seals: Vec<Seal>,
    /// Every seal that was ever asked for.
    pub(super) asked_seals: Vec<Seal>,
    /// What was set aside of it, in which lanes.
    pub(super) aside: Vec<(String, Range<Position>)>,
    /// What was sealed, and is not over for certain.
    pub(super) seals: Vec<Seal>,
    /// There or not: perhaps over; or refused while the disk failed, and the power may go next.
    pub(super) unsure_seals: Vec<Seal>,
    /// The spool's lanes that it consists of, each up to a position; the last is the one that goes on.
    pub(super) parts: Vec<(String, Position)>,
    /// How often it got a new name.
    pub(super) renames: u32,
    /// Of each of them.
    pub(super) notes: BTreeMap<String, Notes>,
}

impl LaneModel {
    pub(super) fn of(name: &str) -> LaneModel {
        LaneModel { parts: vec![(name.to_owned(), Position(u64::MAX))], ..LaneModel::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.parts.last().unwrap().0
    }

    /// The spool's lane that answers for a push.
    pub(super) fn part_of(&self, position: &Position) -> &str {
        let aside = self.aside.iter().find(|(_, part)| part.contains(position)).map(|(name, _)| name);
        aside.unwrap_or_else(|| &self.parts.iter().find(|(_, until)| position < until).unwrap().0)
    }

    pub(super) fn part_names(&self) -> impl Iterator<Item = &String> {
        self.parts.iter().map(|(name, _)| name).chain(self.aside.iter().map(|(name, _)| name))
    }

    /// Forgets what only damaged frames say, and what is no push any more.
    pub(super) fn doubt(&mut self, is_push: impl Fn(&Position) -> bool) {
        let LaneModel { closed, dead, unsure, doubted, doubted_seals, .. } = self;
        for known in [&mut *closed, &mut *dead] {
            known.retain(|position| is_push(position) && !doubted.contains(position));
        }
        unsure.extend(&*doubted);
        unsure.retain(is_push);
        self.seals.retain(|seal| !doubted_seals.contains(seal));
        self.unsure_seals.extend(self.asked_seals.iter().cloned());
    }

    /// Takes in outcomes of a kind. Whoever was not told of them cannot know.
    pub(super) fn close(&mut self, positions: Vec<Position>, kind: u8, was_told: bool) {
        match (was_told, kind) {
            (_, RETRY..) => {}
            (true, DEAD) => self.dead.extend(positions),
            (true, _) => self.closed.extend(positions),
            (false, _) => self.unsure.extend(positions),
        }
    }

    pub(super) fn may_be_closed(&self, position: &Position) -> bool {
        self.closed.contains(position) || self.dead.contains(position) || self.unsure.contains(position)
    }
}

/// Kinds of outcomes; those below are deliveries.
pub(super) const DEAD: u8 = 4;
pub(super) const RETRY: u8 = 5;

pub(super) fn outcome_of(kind: u8, position: &Position) -> Outcome {
    match kind {
        0 | 1 => DELIVERED,
        2 => Outcome::Passed,
        3 => Outcome::Delivered { receipt: Some(format!("receipt {position}")) },
        DEAD => dead(&format!("reason {position}")),
        _ => Outcome::Retry { attempts: 1, spent: Duration::from_secs(1), due_ms: 7, answer: "503".into() },
    }
}

/// The states of the spool's lanes that make up one of ours, by their names.
pub(super) fn states(spool: &Spool<u64>, model: &LaneModel) -> BTreeMap<String, LaneState> {
    model.part_names().map(|name| (name.clone(), lane(spool, name))).collect()
}

pub(super) fn letters(spool: &Spool<u64>, model: &LaneModel) -> Vec<DeadLetter> {
    let letters = |name: &String| spool.dead_letters(name, Position(0), usize::MAX).unwrap();
    model.part_names().flat_map(letters).collect()
}

pub(super) fn is_closed(state: &LaneState, position: Position) -> bool {
    position < state.next && !state.open.contains_key(&position)
}
