//! Asking what the spool keeps, from outside: beside a running gateway or without one.
//!
//! Two catalogs are asked and their answers put together: the one in the file, and one of our own that is made of what the log
//! holds behind it. Without a usable file ours is made of the whole log; that takes longer and gives the same answers.
//!
//! Beside a gateway segments go, and what is still needed of them is carried into newer ones. An answer during which one
//! went is thrown away, what was written since is taken in, and the question asked again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::database::{Database, Known, Trouble};
use super::keeper::FILE;
use super::life::{Life, Told};
use super::rows::Rows;
use super::telling::Lanes;
use super::terms::{self, TermsOf};
use crate::disk::{Directory, RealDirectory};
use crate::log::entry::{self, Entry};
use crate::log::view::LogView;
use crate::state::Place;
use crate::{DeadLetter, Errand, Position, ReadError, SpoolId, StoredPush, StoredQuarantine};

/// Pushes that are put into our own catalog at once.
const AT_ONCE: u64 = 4096;
/// Frames that stay in memory: neighbours lie in the same ones.
const FRAMES: usize = 16;
/// Candidates that are looked at together; a digest that lies is the only one that is not an answer.
const PAGE: usize = 256;
/// So often a question is asked in a log out of which segments go. It takes milliseconds; mostly they go seconds apart, and
/// as fast as the disk syncs when `keep` was made shorter.
const TRIES: u32 = 8;
/// The second time at once, then after so long, and longer each time.
const PAUSE: Duration = Duration::from_millis(10);

/// A spool, opened to be searched.
pub struct Search {
    directory: Arc<dyn Directory>,
    log: LogView,
    identity: SpoolId,
    terms: TermsOf,
    catalog: Option<Database>,
    /// What the catalog does not know, and how far it was read.
    pub(super) recent: Database,
    known: Known,
    /// Why the catalog is not used.
    without: Option<String>,
    pub(super) lanes: Lanes,
    frames: VecDeque<(Place, Arc<Frame>)>,
    damaged: BTreeSet<Position>,
}

/// A frame that was read.
pub(super) struct Frame {
    pub(super) written_at_ms: i64,
    pub(super) bytes: Vec<u8>,
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

/// What went wrong: with a catalog, which can be done without, or with the log.
pub(super) enum Failed {
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
        Failed::Log(unreadable(source))
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
        let (identity, _) = view_of(&directory)?;
        let (catalog, known, without) = match Database::open_to_read(catalog, identity) {
            Ok((catalog, known)) => (Some(catalog), known, None),
            Err(trouble) => (None, Known::NOTHING, Some(trouble.to_string())),
        };
        // Only now: everything that the catalog does not know must be in it.
        let (_, log) = view_of(&directory)?;
        let recent = Database::for_a_moment(identity).map_err(unable)?;
        let (lanes, frames, damaged) = (Lanes::default(), VecDeque::new(), BTreeSet::new());
        let mut search = Search {
            directory,
            log,
            identity,
            terms,
            catalog,
            recent,
            known,
            without,
            lanes,
            frames,
            damaged,
        };
        match search.begin_at(known) {
            Err(Failed::Catalog(trouble)) if search.catalog.is_some() => search.go_without(&trouble)?,
            read => read.map_err(Failed::told)?,
        }
        Ok(search)
    }

    /// Whose spool it is.
    pub fn identity(&self) -> SpoolId {
        self.identity
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
        self.ask(|search| search.try_find(query, max))
    }

    /// Pushes and quarantined bytes that were passed over since the last call, because the disk does not give them as they were written.
    pub fn take_damaged(&mut self) -> Vec<Position> {
        std::mem::take(&mut self.damaged).into_iter().collect()
    }

    /// One push, wherever it lies. None if there is none at that position, or no longer.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn get(&mut self, position: Position) -> Result<Option<StoredPush>, ReadError> {
        // Most are found at once, which needs no look at the directory.
        match self.ask_at_once(&|search| search.push(position))? {
            None => self.ask(|search| search.push(position)),
            found => Ok(found),
        }
    }

    /// Everything that the log tells of one delivery, oldest first: what it became, again and again. Nothing if there is no such
    /// lane today.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn story(&mut self, lane: &str, position: Position) -> Result<Vec<Told>, ReadError> {
        self.ask(|search| search.story_of(lane, position))
    }

    /// The lanes that there are: their names, and what those are for that are temporary.
    pub fn lanes(&self) -> impl Iterator<Item = (&str, Option<&Errand>)> {
        self.lanes.today.values().map(|lane| (lane.name.as_str(), lane.errand.as_ref()))
    }

    /// Dead letters, those of one lane or of all, by lane and position, behind `after`: at most `max`.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn dead_letters(
        &mut self,
        lane: Option<&str>,
        after: Option<(&str, Position)>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.ask(|search| search.try_dead_letters(lane, after, max))
    }

    /// What lies in quarantine behind `after`, in order: at most `max`.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn quarantined(&mut self, after: Position, max: usize) -> Result<Vec<StoredQuarantine>, ReadError> {
        self.ask(|search| search.try_quarantined(after, max))
    }

    /// Asks, and again if a segment went meanwhile.
    fn ask<T>(&mut self, ask: impl Fn(&mut Search) -> Result<T, Failed>) -> Result<T, ReadError> {
        for tried in 0..TRIES {
            let told = self.ask_at_once(&ask)?;
            if !self.log.has_lost_a_segment().map_err(unreadable)? {
                return Ok(told);
            }
            thread::sleep(PAUSE * tried);
            self.look_again()?;
        }
        Err(ReadError::Restless { tries: TRIES })
    }

    /// Asks, and once more without the catalog if it turns out to be no good.
    fn ask_at_once<T>(&mut self, ask: &impl Fn(&mut Search) -> Result<T, Failed>) -> Result<T, ReadError> {
        match ask(self) {
            Err(Failed::Catalog(trouble)) if self.catalog.is_some() => {
                self.go_without(&trouble)?;
                ask(self).map_err(Failed::told)
            }
            told => told.map_err(Failed::told),
        }
    }

    /// Takes another view of the log, and in what was written since the last one.
    fn look_again(&mut self) -> Result<(), ReadError> {
        (_, self.log) = view_of(&self.directory)?;
        let read = self.recent.align(&self.log, self.known).map_err(Failed::from);
        match read.and_then(|known| self.read_on(known)) {
            // A gateway that started anew wrote the end of the log again.
            Err(Failed::Catalog(trouble)) => self.go_without(&trouble),
            read => read.map_err(Failed::told),
        }
    }

    /// The catalog turned out to be no good: the log alone is read.
    fn go_without(&mut self, trouble: &Trouble) -> Result<(), ReadError> {
        self.without = Some(trouble.to_string());
        self.catalog = None;
        self.recent = Database::for_a_moment(self.identity).map_err(unable)?;
        self.begin_at(Known::NOTHING).map_err(Failed::told)
    }

    /// Takes over what the catalog says of today, and reads on behind what it knows.
    fn begin_at(&mut self, known: Known) -> Result<(), Failed> {
        if let Some(catalog) = &self.catalog {
            self.recent.take_over_today(catalog)?;
        }
        self.recent.start_at(known)?;
        self.read_on(known)
    }

    /// Takes in what lies behind a place.
    fn read_on(&mut self, mut known: Known) -> Result<(), Failed> {
        loop {
            let (mut rows, mut segment) = (Rows::default(), known.place.segment);
            // Behind whole frames: what breaks off at the end may be being written, and is whole the next time.
            let mut behind = known.place;
            let place = self.log.follow(known.place, |place, header, bytes| {
                let is_other = place.segment != segment && !rows.is_empty();
                if is_other || rows.pushes >= AT_ONCE {
                    return ControlFlow::Break(());
                }
                segment = place.segment;
                behind = Place { offset: place.offset + header.size(), ..place };
                rows.add(place, bytes, self.identity, self.terms);
                ControlFlow::Continue(())
            })?;
            let from = std::mem::replace(&mut known.place, behind);
            if let Some(extent) = self.log.segment(segment).filter(|_| from != behind) {
                self.recent.add(&mut rows, extent, Known { place: from, ..known }, known)?;
            }
            self.known = known;
            if from == behind || place >= self.log.end() {
                break;
            }
        }
        self.lanes = Lanes::default();
        self.lanes.read_checkpoints(&self.log)?;
        self.lanes.today = self.recent.lanes()?;
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

    fn try_dead_letters(
        &mut self,
        lane: Option<&str>,
        after: Option<(&str, Position)>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, Failed> {
        let listed = self.recent.dead_letters(lane, after, max)?;
        let mut letters: Vec<DeadLetter> = Vec::with_capacity(listed.len());
        let mut by_frame: BTreeMap<(Place, u32), Vec<usize>> = BTreeMap::new();
        for (lane, letter, place) in listed {
            by_frame.entry((place, lane)).or_default().push(letters.len());
            letters.push(letter);
        }
        for ((place, lane), of_frame) in by_frame {
            let Some(frame) = self.frame(place)? else { continue };
            let mut deaths = entry::deaths(&frame.bytes, lane);
            for at in of_frame {
                let letter = &mut letters[at];
                letter.excerpt =
                    deaths.remove(&letter.position).map_or_else(String::new, |dead| dead.excerpt);
            }
        }
        Ok(letters)
    }

    fn try_quarantined(&mut self, after: Position, max: usize) -> Result<Vec<StoredQuarantine>, Failed> {
        let listed = self.recent.quarantined(after, max)?;
        let mut found = Vec::with_capacity(listed.len());
        for (position, place) in listed {
            let frame = self.frame(place)?;
            let held = frame.and_then(|frame| quarantined_in(&frame.bytes, position));
            if held.is_none() && self.log.should_have(place) {
                self.damaged.insert(position);
            }
            found.extend(held);
        }
        Ok(found)
    }

    pub(super) fn databases(&self) -> impl Iterator<Item = &Database> {
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
        let mut is_damaged = false;
        for place in places {
            let Some(frame) = self.frame(place)? else {
                is_damaged |= self.log.should_have(place);
                continue;
            };
            let found = entry::entries(&frame.bytes).find_map(|entry| match entry {
                Entry::Push { push, .. } if push.position == position => Some(push.to_stored()),
                _ => None,
            });
            if found.is_some() {
                self.damaged.remove(&position);
                return Ok(found);
            }
        }
        self.damaged.extend(is_damaged.then_some(position));
        Ok(None)
    }

    pub(super) fn frame(&mut self, place: Place) -> Result<Option<Arc<Frame>>, Failed> {
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
}

impl Failed {
    fn told(self) -> ReadError {
        match self {
            Failed::Catalog(trouble) => unable(trouble),
            Failed::Log(error) => error,
        }
    }
}

fn quarantined_in(frame: &[u8], position: Position) -> Option<StoredQuarantine> {
    entry::entries(frame).find_map(|entry| match entry {
        Entry::Quarantine { quarantine, .. } if quarantine.position == position => {
            Some(quarantine.to_stored())
        }
        _ => None,
    })
}

fn view_of(directory: &Arc<dyn Directory>) -> Result<(SpoolId, LogView), ReadError> {
    let viewed = LogView::of(directory.clone()).map_err(unreadable)?;
    viewed.ok_or_else(|| ReadError::NoSpool("there is no spool here".into()))
}

fn unreadable(source: io::Error) -> ReadError {
    ReadError::Io { file: "the log".into(), source }
}

fn unable(trouble: Trouble) -> ReadError {
    ReadError::Search(trouble.to_string())
}
