//! Asking what the spool keeps, from outside: beside a running gateway or without one.
//!
//! Two catalogs are asked and their answers put together: the one in the file, and one of our own that is made of what the log
//! holds behind it. Without a usable file ours is made of the whole log; that takes longer and gives the same answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::database::{Database, Known, Trouble};
use super::keeper::FILE;
use super::life::{DeadListed, HeldListed, LaneLife, Life, Told};
use super::rows::Rows;
use super::terms::{self, TermsOf};
use crate::disk::{Directory, RealDirectory};
use crate::log::entry::{self, Entry};
use crate::log::outcomes::Item;
use crate::log::view::LogView;
use crate::log::walk::Walk;
use crate::state::Place;
use crate::{Open, Position, ReadError, SpoolId, StoredPush};

/// Pushes that are put into our own catalog at once.
const AT_ONCE: u64 = 4096;
/// Frames that stay in memory: neighbours lie in the same ones.
const FRAMES: usize = 16;
/// Candidates that are looked at together; a digest that lies is the only one that is not an answer.
const PAGE: usize = 256;

/// A spool, opened to be searched.
pub struct Search {
    log: LogView,
    identity: SpoolId,
    terms: TermsOf,
    catalog: Option<Database>,
    /// What the catalog does not know.
    recent: Database,
    /// Why the catalog is not used.
    without: Option<String>,
    lanes: Lanes,
    frames: VecDeque<(Place, Arc<Frame>)>,
}

struct Frame {
    written_at_ms: i64,
    bytes: Vec<u8>,
}

/// What to look for. Everything given must hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// Kind and text of a term, as [`TermsOf`] tells them.
    pub term: Option<(&'a str, &'a str)>,
    /// Arrived at or after this, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Arrived before this, in milliseconds since 1970.
    pub until_ms: Option<i64>,
    /// Behind this position; `Position(0)` for the beginning.
    pub after: Position,
}

/// What checkpoints tell of lanes.
#[derive(Default)]
struct Lanes {
    /// In the oldest checkpoint: what they did before it is told nowhere.
    old: BTreeSet<u32>,
    /// Where the newest checkpoint lies, and what each lane had open there.
    newest: Option<Place>,
    open: BTreeMap<u32, BTreeMap<Position, Open>>,
    /// Today's: name, and the first position that it had not read at the newest checkpoint, or when it was registered.
    today: BTreeMap<u32, (String, Position)>,
}

/// The last thing that the log says of a delivery.
struct Word {
    place: Place,
    at_ms: i64,
    name: String,
    item: Item,
}

/// What went wrong: with a catalog, which can be done without, or with the log.
enum Failed {
    Catalog(Trouble),
    Log(ReadError),
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Failed {
        Failed::Catalog(trouble)
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        Failed::Catalog(error.into())
    }
}

impl From<io::Error> for Failed {
    fn from(source: io::Error) -> Failed {
        Failed::Log(ReadError::Io { file: "the log".into(), source })
    }
}

impl Search {
    /// Opens the spool at `path`. `terms` must be those with which its catalog is kept.
    ///
    /// Blocks: reads what the catalog does not know yet, which without one is the whole log.
    ///
    /// # Errors
    /// If there is no spool, or the disk cannot be read.
    pub fn open(path: impl AsRef<Path>, terms: TermsOf) -> Result<Search, ReadError> {
        let path = path.as_ref();
        Search::open_on(Arc::new(RealDirectory::at(path)), &path.join(FILE), terms)
    }

    /// [`open`](Self::open) on another disk, with the catalog's file elsewhere.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        directory: Arc<dyn Directory>,
        catalog: &Path,
        terms: TermsOf,
    ) -> Result<Search, ReadError> {
        let failed = |source| ReadError::Io { file: "the log".into(), source };
        let no_spool = || ReadError::NoSpool("there is no spool here".into());
        let (identity, _) = LogView::of(directory.clone()).map_err(failed)?.ok_or_else(no_spool)?;
        let (catalog, known, without) = match Database::open_to_read(catalog, identity) {
            Ok((catalog, known)) => (Some(catalog), known, None),
            Err(trouble) => (None, Known::NOTHING, Some(trouble.to_string())),
        };
        // Only now: everything that the catalog does not know must be in it.
        let (_, log) = LogView::of(directory).map_err(failed)?.ok_or_else(no_spool)?;
        let recent = Database::for_a_moment(identity).map_err(unable)?;
        let (lanes, frames) = (Lanes::default(), VecDeque::new());
        let mut search = Search { log, identity, terms, catalog, recent, without, lanes, frames };
        match search.read_on(known) {
            Err(Failed::Catalog(trouble)) if search.catalog.is_some() => search.go_without(&trouble)?,
            read => read.map_err(Failed::told)?,
        }
        Ok(search)
    }

    /// Why the catalog is not used, if it is not: the answers are the same and take longer.
    pub fn without_catalog(&self) -> Option<&str> {
        self.without.as_deref()
    }

    /// The pushes that a query asks for, and what became of them: at most `max`, in the order of their positions. To go on, ask
    /// again with [`Query::after`] the last one.
    ///
    /// # Errors
    /// If the disk cannot be read. Pushes that are damaged are passed over.
    pub fn find(&mut self, query: &Query, max: usize) -> Result<Vec<Life>, ReadError> {
        match self.try_find(query, max) {
            Err(Failed::Catalog(trouble)) if self.catalog.is_some() => {
                self.go_without(&trouble)?;
                self.try_find(query, max).map_err(Failed::told)
            }
            found => found.map_err(Failed::told),
        }
    }

    /// Dead letters, those of one lane or of all, by lane and position, behind `after`: at most `max`.
    ///
    /// # Errors
    /// If the search cannot go on.
    pub fn dead_letters(
        &self,
        lane: Option<&str>,
        after: Option<(&str, Position)>,
        max: usize,
    ) -> Result<Vec<DeadListed>, ReadError> {
        self.recent.dead_letters(lane, after, max).map_err(unable)
    }

    /// What lies in quarantine behind `after`, in order: at most `max`.
    ///
    /// # Errors
    /// If the search cannot go on.
    pub fn quarantined(&self, after: Position, max: usize) -> Result<Vec<HeldListed>, ReadError> {
        self.recent.quarantined(after, max).map_err(unable)
    }

    /// The catalog turned out to be no good: the log alone is read.
    fn go_without(&mut self, trouble: &Trouble) -> Result<(), ReadError> {
        self.without = Some(trouble.to_string());
        self.catalog = None;
        self.recent = Database::for_a_moment(self.identity).map_err(unable)?;
        self.lanes = Lanes::default();
        self.read_on(Known::NOTHING).map_err(Failed::told)
    }

    /// Takes in what lies behind the place that the catalog knows.
    fn read_on(&mut self, mut known: Known) -> Result<(), Failed> {
        if let Some(catalog) = &self.catalog {
            self.recent.take_over_today(catalog)?;
        }
        self.recent.start_at(known)?;
        loop {
            let (mut rows, mut segment) = (Rows::default(), known.place.segment);
            let place = self.log.follow(known.place, |place, _, bytes| {
                let is_other = place.segment != segment && !rows.is_empty();
                if is_other || rows.pushes >= AT_ONCE {
                    return ControlFlow::Break(());
                }
                segment = place.segment;
                rows.add(place, bytes, self.identity, self.terms);
                ControlFlow::Continue(())
            })?;
            let to = Known { place, ..known };
            if let Some(extent) = self.log.segment(segment) {
                self.recent.add(&mut rows, extent, known, to)?;
            }
            if to == known || place >= self.log.end() {
                break;
            }
            known = to;
        }
        self.read_checkpoints()?;
        self.lanes.today = self.recent.lanes()?;
        Ok(())
    }

    fn read_checkpoints(&mut self) -> Result<(), Failed> {
        for extent in self.log.segments() {
            if let Some(oldest) = self.log.checkpoint(extent)? {
                self.lanes.old = oldest.lanes.iter().map(|lane| lane.lane).collect();
                break;
            }
        }
        for extent in self.log.segments().iter().rev() {
            if let Some(newest) = self.log.checkpoint(extent)? {
                self.lanes.newest = Some(Place { segment: extent.stamp.segment, offset: Walk::start() });
                let lanes = newest.lanes.into_iter();
                self.lanes.open = lanes.map(|lane| (lane.lane, lane.open.into_iter().collect())).collect();
                break;
            }
        }
        Ok(())
    }

    fn try_find(&mut self, query: &Query, max: usize) -> Result<Vec<Life>, Failed> {
        let mut lives = Vec::new();
        let mut query = *query;
        while lives.len() < max {
            let candidates = self.candidates(&query, PAGE.min(max - lives.len()))?;
            let Some(last) = candidates.last() else { break };
            query.after = *last;
            for position in candidates {
                let Some(push) = self.push(position)? else { continue };
                if self.is_asked_for(&query, &push) {
                    let lanes = self.lanes_of(position)?;
                    lives.push(Life { push, lanes });
                }
            }
        }
        Ok(lives)
    }

    fn databases(&self) -> impl Iterator<Item = &Database> {
        self.catalog.iter().chain([&self.recent])
    }

    fn candidates(&self, query: &Query, max: usize) -> Result<Vec<Position>, Failed> {
        let digest = query.term.map(|(kind, text)| terms::digest(self.identity, kind, text));
        let mut found = BTreeSet::new();
        for database in self.databases() {
            found.extend(match digest {
                Some(digest) => database.with_term(digest, query.after, max)?,
                None => database.arrived(query, max)?,
            });
        }
        Ok(found.into_iter().take(max).collect())
    }

    fn is_asked_for(&self, query: &Query, push: &StoredPush) -> bool {
        query.since_ms.is_none_or(|since| push.received_at_ms >= since)
            && query.until_ms.is_none_or(|until| push.received_at_ms < until)
            && query.term.is_none_or(|(kind, text)| terms::has(self.terms, push, kind, text))
    }

    fn push(&mut self, position: Position) -> Result<Option<StoredPush>, Failed> {
        let mut places = Vec::new();
        for database in self.databases() {
            places.extend(database.places_of(position)?);
        }
        for place in places {
            let Some(frame) = self.frame(place)? else { continue };
            let found = entry::entries(&frame.bytes).find_map(|entry| match entry {
                Entry::Push { push, .. } if push.position == position => Some(push.to_stored()),
                _ => None,
            });
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn frame(&mut self, place: Place) -> Result<Option<Arc<Frame>>, Failed> {
        if let Some((_, frame)) = self.frames.iter().find(|(known, _)| *known == place) {
            return Ok(Some(frame.clone()));
        }
        let read = self.log.frame(place, |header, bytes| {
            Arc::new(Frame { written_at_ms: header.written_at_ms, bytes: bytes.to_vec() })
        })?;
        if let Some(frame) = &read {
            self.frames.truncate(FRAMES - 1);
            self.frames.push_front((place, frame.clone()));
        }
        Ok(read)
    }

    fn lanes_of(&mut self, position: Position) -> Result<Vec<LaneLife>, Failed> {
        let mut words = self.words(position)?;
        let mut lives = Vec::new();
        for (number, (name, next)) in &self.lanes.today {
            let told = self.told(*number, *next, position, words.remove(number))?;
            lives.push(LaneLife { lane: name.clone(), told });
        }
        // What is left was said by lanes that were retired since.
        let is_known = |name: &str| self.lanes.today.values().any(|(known, _)| known == name);
        let retired = words.into_values().filter(|word| !is_known(&word.name));
        lives.extend(retired.map(|word| LaneLife { lane: word.name.clone(), told: word.into_told() }));
        lives.sort_by(|a, b| a.lane.cmp(&b.lane));
        Ok(lives)
    }

    /// The last word of each lane on a position.
    fn words(&mut self, position: Position) -> Result<BTreeMap<u32, Word>, Failed> {
        let mut places = BTreeSet::new();
        for database in self.databases() {
            places.extend(database.frames_telling_of(position)?);
        }
        let mut words = BTreeMap::new();
        let mut sealed: BTreeMap<u32, String> = BTreeMap::new();
        for place in places {
            let Some(frame) = self.frame(place)? else { continue };
            for entry in entry::entries(&frame.bytes) {
                follow_seals(&mut sealed, &entry, position);
                let Entry::Outcomes { lane, name, runs } = entry else { continue };
                let holds = |first: Position, count: u64| position >= first && position.0 - first.0 < count;
                let Some(run) = runs.into_iter().find(|run| holds(run.first, run.count)) else { continue };
                let item = with_seal(&mut sealed, lane, run.item);
                words.insert(lane, Word { place, at_ms: frame.written_at_ms, name: name.to_owned(), item });
            }
        }
        Ok(words)
    }

    /// What became of a delivery of a lane that there is today.
    fn told(
        &self,
        lane: u32,
        next: Position,
        position: Position,
        word: Option<Word>,
    ) -> Result<Told, Failed> {
        let open = self.lanes.open.get(&lane).and_then(|open| open.get(&position));
        let waiting = match open {
            Some(open) => Some(open.clone()),
            None if position >= next => Some(Open::default()),
            None => None,
        };
        let is_newer = |word: &Word| self.lanes.newest.is_none_or(|newest| word.place > newest);
        let Some(word) = word else {
            return Ok(match waiting {
                Some(open) => Told::Waiting(open),
                None if self.lanes.old.contains(&lane) => Told::Forgotten,
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

impl Failed {
    fn told(self) -> ReadError {
        match self {
            Failed::Catalog(trouble) => unable(trouble),
            Failed::Log(error) => error,
        }
    }
}

fn unable(trouble: Trouble) -> ReadError {
    ReadError::Search(trouble.to_string())
}
