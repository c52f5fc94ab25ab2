//! What became of a push: the last word of each lane on it, and what checkpoints tell where there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use super::life::{LaneLife, Told};
use super::search::{Failed, Search};
use crate::log::entry::{self, Entry};
use crate::log::outcomes::Item;
use crate::log::view::LogView;
use crate::log::walk::Walk;
use crate::state::Place;
use crate::{Errand, Open, Position};

/// What checkpoints tell of lanes.
#[derive(Default)]
pub(super) struct Lanes {
    /// In the oldest checkpoint: what they did before it is told nowhere.
    old: BTreeSet<u32>,
    /// Where the newest checkpoint lies, and what each lane had open there.
    newest: Option<Place>,
    open: BTreeMap<u32, BTreeMap<Position, Open>>,
    pub(super) today: BTreeMap<u32, LaneToday>,
}

/// A lane that there is today.
pub(super) struct LaneToday {
    pub(super) name: String,
    /// The first position that it had not read at the newest checkpoint, or when it was registered.
    pub(super) next: Position,
    pub(super) began: Position,
    pub(super) errand: Option<Errand>,
    /// What was set aside of it, behind `next`.
    pub(super) aside: Vec<Range<Position>>,
}

impl LaneToday {
    /// Whether a push is its business, as far as it says nothing of it: a temporary lane reads a part of the log only.
    fn may_want(&self, position: Position) -> bool {
        self.errand.as_ref().is_none_or(|errand| self.began <= position && position < errand.until)
    }

    /// Whether it will come to a push, as far as it says nothing of it.
    fn has_yet_to_read(&self, position: Position) -> bool {
        position >= self.next && !self.aside.iter().any(|aside| aside.contains(&position))
    }
}

/// A thing that the log says of a delivery.
struct Word {
    place: Place,
    at_ms: i64,
    name: String,
    item: Item,
}

impl Lanes {
    pub(super) fn read_checkpoints(&mut self, log: &LogView) -> io::Result<()> {
        for extent in log.segments() {
            if let Some(oldest) = log.checkpoint(extent)? {
                self.old = oldest.lanes.iter().map(|lane| lane.lane).collect();
                break;
            }
        }
        for extent in log.segments().iter().rev() {
            if let Some(newest) = log.checkpoint(extent)? {
                self.newest = Some(Place { segment: extent.stamp.segment, offset: Walk::start() });
                let lanes = newest.lanes.into_iter();
                self.open = lanes.map(|lane| (lane.lane, lane.open.into_iter().collect())).collect();
                break;
            }
        }
        Ok(())
    }
}

impl Search {
    /// Its deliveries, by the names of the lanes.
    pub(super) fn lanes_of(&mut self, position: Position) -> Result<Vec<LaneLife>, Failed> {
        let mut words = self.words(position)?;
        let mut lives = Vec::new();
        for (number, lane) in &self.lanes.today {
            let word = words.remove(number);
            if word.is_none() && !lane.may_want(position) {
                continue;
            }
            let told = self.told(*number, lane, position, word)?;
            lives.push(LaneLife { lane: lane.name.clone(), errand: lane.errand.clone(), told });
        }
        // What is left was said by lanes that were retired since.
        let is_known = |name: &str| self.lanes.today.values().any(|known| known.name == name);
        let retired = words.into_values().filter(|word| !is_known(&word.name));
        lives.extend(retired.map(|word| LaneLife {
            lane: word.name.clone(),
            errand: None,
            told: word.into_told(),
        }));
        lives.sort_by(|a, b| a.lane.cmp(&b.lane));
        Ok(lives)
    }

    /// All that a lane of today said of a position.
    pub(super) fn story_of(&mut self, lane: &str, position: Position) -> Result<Vec<Told>, Failed> {
        let number = self.lanes.today.iter().find(|(_, today)| today.name == lane).map(|(number, _)| *number);
        let said = self.said_of(position)?;
        let of_lane = said.into_iter().filter(|(number_of, _)| Some(*number_of) == number);
        Ok(of_lane.map(|(_, word)| word.into_told()).collect())
    }

    /// The last word of each lane on a position.
    fn words(&mut self, position: Position) -> Result<BTreeMap<u32, Word>, Failed> {
        Ok(self.said_of(position)?.into_iter().collect())
    }

    /// What lanes said of a position, by their numbers, oldest first.
    fn said_of(&mut self, position: Position) -> Result<Vec<(u32, Word)>, Failed> {
        let mut places = BTreeSet::new();
        for database in self.databases() {
            places.extend(database.frames_telling_of(position)?);
        }
        let mut said = Vec::new();
        let mut sealed: BTreeMap<u32, String> = BTreeMap::new();
        for place in places {
            let Some(frame) = self.frame(place)? else { continue };
            for entry in entry::entries(&frame.bytes) {
                follow_seals(&mut sealed, &entry, position);
                let Entry::Outcomes { lane, name, runs } = entry else { continue };
                let holds = |first: Position, count: u64| position >= first && position.0 - first.0 < count;
                let Some(run) = runs.into_iter().find(|run| holds(run.first, run.count)) else { continue };
                let item = with_seal(&mut sealed, lane, run.item);
                said.push((lane, Word { place, at_ms: frame.written_at_ms, name: name.to_owned(), item }));
            }
        }
        Ok(said)
    }

    /// What became of a delivery of a lane that there is today.
    fn told(
        &self,
        lane: u32,
        today: &LaneToday,
        position: Position,
        word: Option<Word>,
    ) -> Result<Told, Failed> {
        let open = self.lanes.open.get(&lane).and_then(|open| open.get(&position));
        let waiting = match open {
            Some(open) => Some(open.clone()),
            None if today.has_yet_to_read(position) => Some(Open::default()),
            None => None,
        };
        let is_newer = |word: &Word| self.lanes.newest.is_none_or(|newest| word.place > newest);
        let Some(word) = word else {
            return Ok(match waiting {
                Some(open) => Told::Waiting(open),
                // What lies behind its beginning was its business, or was set aside and is told of by another lane.
                None if self.lanes.old.contains(&lane) || today.began <= position => Told::Forgotten,
                None => Told::Before,
            });
        };
        // A segment between two others may be gone, and with it a later word.
        let is_outdated = match word.item {
            Item::Dead(_) => !self.recent.is_dead(lane, position)?,
            Item::Retry(_) | Item::Reopened => waiting.is_none() && !is_newer(&word),
            Item::Delivered(_) | Item::Passed | Item::Discarded => false,
        };
        Ok(match (is_outdated, waiting) {
            (false, _) => word.into_told(),
            (true, Some(open)) => Told::Waiting(open),
            (true, None) => Told::Forgotten,
        })
    }
}

impl Word {
    fn into_told(self) -> Told {
        match self.item.into_outcome() {
            Some(outcome) => Told::Outcome(self.at_ms, outcome),
            None => Told::Reopened(self.at_ms),
        }
    }
}

/// Learns under which key a position was sealed, by lane.
fn follow_seals(sealed: &mut BTreeMap<u32, String>, entry: &Entry, position: Position) {
    let mut learn = |lane: u32, seal: &crate::Seal| {
        if seal.positions.binary_search(&position).is_ok() {
            sealed.insert(lane, seal.key.clone());
        }
    };
    match entry {
        Entry::Seal { lane, seal, .. } => learn(*lane, seal),
        Entry::Checkpoint(checkpoint) => {
            for lane in &checkpoint.lanes {
                lane.seals.iter().for_each(|seal| learn(lane.lane, seal));
            }
        }
        _ => {}
    }
}

/// The key of its seal is the receipt that is not stored.
fn with_seal(sealed: &mut BTreeMap<u32, String>, lane: u32, item: Item) -> Item {
    if matches!(item, Item::Retry(_) | Item::Reopened) {
        return item;
    }
    match (sealed.remove(&lane), item) {
        (Some(key), Item::Delivered(None)) => Item::Delivered(Some(key)),
        (_, item) => item,
    }
}
