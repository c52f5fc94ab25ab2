//! Which push came before: *maybe*, in little memory. Whoever asks reads the stored push and compares before it believes.
//!
//! Of the segment that is being written every push is known exactly ([`Recent`]); of each closed one a [`Filter`] of 18 to 20
//! bits a push says whether it may hold a push, and then its index file says where. What is remembered is never denied. One stranger
//! in 65,536 is suspected of a segment, so with a backlog of 2 million pushes in 45 segments one push in 1,400 has an index
//! read (350 KB) for nothing.
//!
//! Each filter that is asked costs three reads of memory that is in no cache, 0.1 µs; so eight segments share one as soon as
//! there are so many.
//!
//! The rejected alternative, a table of all pushes with their positions, takes 11 to 24 bytes a push: 32 MiB for 2 million.

mod filter;
mod prints;
mod recent;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use self::filter::Filter;
pub(crate) use self::prints::Prints;
use self::recent::Recent;
use crate::Position;
use crate::disk::Directory;
use crate::log::frame::Stamp;
use crate::log::index::{Note, SegmentIndex};

/// See the module.
pub(crate) struct Dedupe {
    /// Of the segment that is being written, and of the frame that is being made.
    recent: Recent,
    /// Of those before it, as far as the window reaches; oldest first.
    closed: Vec<Closed>,
    joining: Option<Joining>,
}

/// So many closed segments share a filter. More would have fewer filters asked, but more segments wait for company.
const JOINED: usize = 8;

/// A closed segment, or several that share a filter.
struct Closed {
    segments: Vec<Source>,
    /// When the last frame of the newest was written.
    newest_ms: i64,
    known: Known,
}

/// By which the index of a closed segment is found.
#[derive(Clone, Copy)]
struct Source {
    stamp: Stamp,
    end: u64,
}

impl Source {
    fn of(index: &SegmentIndex) -> Source {
        Source { stamp: index.stamp, end: index.end }
    }
}

/// A filter of several segments that is being built of their indexes.
struct Joining {
    segments: Vec<Source>,
    building: Building,
}

type Building = JoinHandle<Option<Filter>>;

/// What is known of closed segments.
enum Known {
    /// Everything, until its filter is built.
    Exactly(Recent, Option<Building>),
    Roughly(Filter),
    /// Nothing but what their indexes say.
    Unread,
}

/// What is known of one segment or some, to be asked for suspects.
pub(crate) struct Layer<'a>(What<'a>);

enum What<'a> {
    Exact(&'a Recent),
    /// The segments, and their filter if there is one.
    Rough(&'a [Source], Option<&'a Filter>),
}

impl Dedupe {
    /// Knows these closed segments, oldest first. A start waits until their filters are built: 150 ms for 2 million pushes.
    pub(crate) fn of(
        indexes: &[&SegmentIndex],
        prints_of: impl Fn(&SegmentIndex) -> Option<Vec<Prints>>,
    ) -> Dedupe {
        let (joined, single) = indexes.split_at(indexes.len() / JOINED * JOINED);
        let groups = joined.chunks(JOINED).chain(single.chunks(1));
        let closed = groups.map(|group| Closed {
            segments: group.iter().map(|index| Source::of(index)).collect(),
            newest_ms: group.iter().map(|index| index.newest_ms).max().unwrap_or(i64::MIN),
            known: Filter::joined(group.len(), |part| prints_of(group[part]))
                .map_or(Known::Unread, Known::Roughly),
        });
        Dedupe { recent: Recent::new(), closed: closed.collect(), joining: None }
    }

    /// What to ask for suspects, newest first: a sender repeats soon.
    pub(crate) fn layers(&self) -> impl Iterator<Item = Layer<'_>> {
        let closed = self.closed.iter().rev().map(|Closed { segments, known, .. }| match known {
            Known::Exactly(recent, _) => What::Exact(recent),
            Known::Roughly(filter) => What::Rough(segments, Some(filter)),
            Known::Unread => What::Rough(segments, None),
        });
        std::iter::once(What::Exact(&self.recent)).chain(closed).map(Layer)
    }

    /// Remembers a push of the frame that is being made.
    pub(crate) fn insert(&mut self, prints: Prints, position: Position) {
        self.recent.insert(prints, position);
    }

    /// Remembers what was carried into the segment that is being written.
    pub(crate) fn carried(&mut self, notes: &[Note]) {
        for note in notes {
            if let Note::Carried { position, prints, .. } = note {
                self.recent.insert(*prints, *position);
            }
        }
    }

    /// Forgets positions from `from` on that were inserted a moment ago: their commit failed.
    pub(crate) fn forget_from(&mut self, from: Position) {
        self.recent.forget_from(from);
    }

    /// The segment that was being written is closed, and this is its index, which lies in `directory`. What came behind its
    /// end belongs to the next one.
    pub(crate) fn close(&mut self, index: &SegmentIndex, directory: &Arc<dyn Directory>) {
        let next = self.recent.since(index.until);
        let recent = std::mem::replace(&mut self.recent, next);
        let prints: Vec<Prints> = index.known().map(|(prints, _)| prints).collect();
        if !prints.is_empty() {
            let known = Known::Exactly(recent, in_background(move || Filter::of(prints)));
            self.closed.push(Closed { segments: vec![Source::of(index)], newest_ms: index.newest_ms, known });
        }
        self.take_filters();
        self.join(directory);
    }

    /// Begins to join the oldest segments that have a filter each.
    fn join(&mut self, directory: &Arc<dyn Directory>) {
        let is_single =
            |closed: &&Closed| closed.segments.len() == 1 && matches!(closed.known, Known::Roughly(_));
        let single = self.closed.iter().filter(is_single).flat_map(|closed| closed.segments.iter().copied());
        let segments: Vec<Source> = single.take(JOINED).collect();
        if segments.len() < JOINED || self.joining.is_some() {
            return;
        }
        let (directory, sources) = (directory.clone(), segments.clone());
        let building = in_background(move || {
            Filter::joined(sources.len(), |part| {
                let Source { stamp, end } = sources[part];
                Some(SegmentIndex::load(&*directory, stamp, end)?.known().map(|(prints, _)| prints).collect())
            })
        });
        self.joining = building.map(|building| Joining { segments, building });
    }

    /// Lets filters that are built take the place of what they were built of.
    pub(crate) fn take_filters(&mut self) {
        for Closed { known, .. } in &mut self.closed {
            if let Known::Exactly(_, building) = known
                && let Some(done) = building.take_if(|building| building.is_finished())
                && let Ok(Some(filter)) = done.join()
            {
                *known = Known::Roughly(filter);
            }
        }
        if let Some(done) = self.joining.take_if(|joining| joining.building.is_finished())
            && let Ok(Some(filter)) = done.building.join()
        {
            self.replace(&done.segments, filter);
        }
    }

    /// Lets one filter take the place of those of these segments, as far as they are still there.
    fn replace(&mut self, segments: &[Source], filter: Filter) {
        let is_one = |source: &Source| segments.iter().any(|other| other.stamp == source.stamp);
        let is_joined = |closed: &Closed| closed.segments.iter().all(is_one);
        let Some(at) = self.closed.iter().position(is_joined) else { return };
        let joined: Vec<Closed> = self.closed.extract_if(.., |closed| is_joined(closed)).collect();
        let newest_ms = joined.iter().map(|closed| closed.newest_ms).max().unwrap_or(i64::MIN);
        let segments = joined.into_iter().flat_map(|closed| closed.segments).collect();
        self.closed.insert(at, Closed { segments, newest_ms, known: Known::Roughly(filter) });
    }

    /// A segment went. What was carried out of it is known with the segment that it went into.
    pub(crate) fn forget_segment(&mut self, number: u64) {
        self.closed.retain_mut(|closed| {
            closed.segments.retain(|source| source.stamp.segment != number);
            !closed.segments.is_empty()
        });
    }

    /// Forgets segments that were last written before this.
    pub(crate) fn forget_older(&mut self, oldest_ms: i64) {
        self.closed.retain(|closed| closed.newest_ms >= oldest_ms);
    }
}

impl Layer<'_> {
    /// Positions that may hold the same push, or, if that is not known yet, another one with its UUID.
    pub(crate) fn suspects(
        &self,
        prints: Prints,
        uuid_is_reused: bool,
        index_of: impl Fn(u64) -> Option<SegmentIndex>,
    ) -> Vec<Position> {
        match self.0 {
            What::Exact(recent) => recent.suspects(prints),
            What::Rough(_, Some(filter)) if !filter.may_hold(prints, uuid_is_reused) => Vec::new(),
            What::Rough(segments, _) => {
                let indexes = segments.iter().rev().filter_map(|source| index_of(source.stamp.segment));
                indexes.flat_map(|index| suspects_in(&index, prints, uuid_is_reused)).collect()
            }
        }
    }
}

fn suspects_in(index: &SegmentIndex, prints: Prints, uuid_is_reused: bool) -> Vec<Position> {
    let same = index.known().filter(|(other, _)| *other == prints);
    // The newest is the one that is surely within the window, and one is enough to tell that a UUID is reused.
    let same_uuid = index.known().filter(|(other, _)| other.has_uuid_of(prints) && *other != prints).last();
    same.chain(same_uuid.filter(|_| !uuid_is_reused)).map(|(_, position)| position).collect()
}

/// Builds a filter beside the writer: it takes milliseconds, which those who wait for a commit need not spend.
fn in_background(build: impl FnOnce() -> Option<Filter> + Send + 'static) -> Option<Building> {
    let building = thread::Builder::new().name("spool-filter".into()).spawn(build);
    let building = building.inspect_err(|error| {
        tracing::warn!(%error, "cannot start a thread; a segment's pushes stay in memory to recognise repeats, a megabyte");
    });
    building.ok()
}

/// The first bytes of a SHA-256, to look quarantined bodies up by.
pub(crate) fn short_digest(sha256: &[u8; 32]) -> u64 {
    sha256[..8].iter().fold(0, |digest, byte| digest << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn prints(n: u64, with_uuid: bool) -> Prints {
        let mut sha256 = [0; 32];
        sha256[..8].copy_from_slice(&n.to_le_bytes());
        let uuid = format!("0000-{n}");
        Prints::of("cdr", with_uuid.then_some(uuid.as_str()), &sha256)
    }

    const PUSHES: u64 = 50;

    /// Segment `number` with fifty pushes, its index saved.
    fn saved(number: u64, directory: &dyn Directory) -> SegmentIndex {
        let first = Position(number * PUSHES + 1);
        let mut index = SegmentIndex::new(Stamp { segment: number, salt: 7 }, first, 0);
        index.prints = (0..PUSHES).map(|n| prints(first.0 + n, !n.is_multiple_of(3))).collect();
        index.until = Position(first.0 + PUSHES);
        index.save(directory).unwrap();
        index
    }

    fn settle(dedupe: &mut Dedupe) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let is_building = |closed: &Closed| matches!(closed.known, Known::Exactly(..));
        while dedupe.joining.is_some() || dedupe.closed.iter().any(is_building) {
            assert!(std::time::Instant::now() < deadline, "filters are not built");
            thread::yield_now();
            dedupe.take_filters();
        }
    }

    /// Which of the pushes of these segments are suspected where they are.
    fn found(dedupe: &Dedupe, directory: &dyn Directory, segments: std::ops::Range<u64>) -> usize {
        let load = |number| SegmentIndex::load(directory, Stamp { segment: number, salt: 7 }, 128);
        let is_found = |position: &u64| {
            let prints = prints(*position, !((position - 1) % PUSHES).is_multiple_of(3));
            dedupe.layers().any(|layer| layer.suspects(prints, false, load).contains(&Position(*position)))
        };
        (segments.start * PUSHES + 1..=segments.end * PUSHES).filter(is_found).count()
    }

    #[test]
    fn eight_segments_share_a_filter_and_nothing_is_forgotten_but_what_went() {
        let at = tempfile::tempdir().unwrap();
        let directory: Arc<dyn Directory> = Arc::new(crate::disk::RealDirectory::at(at.path()));
        let mut dedupe = Dedupe::of(&[], |_| None);
        for number in 0..21 {
            let index = saved(number, &*directory);
            index.known().for_each(|(prints, position)| dedupe.insert(prints, position));
            dedupe.close(&index, &directory);
            assert_eq!(found(&dedupe, &*directory, number..number + 1), PUSHES as usize, "while it is built");
            settle(&mut dedupe);
        }
        assert_eq!(dedupe.layers().count(), 1 + 2 + 5);
        assert_eq!(found(&dedupe, &*directory, 0..21), 21 * PUSHES as usize);

        dedupe.forget_segment(3);
        directory.remove(&crate::log::segment::index_name(3)).unwrap();
        assert_eq!(found(&dedupe, &*directory, 0..21), 20 * PUSHES as usize);

        let indexes: Vec<_> = (4..21).map(|number| saved_again(number, &*directory)).collect();
        let restarted = Dedupe::of(&indexes.iter().collect::<Vec<_>>(), |index| {
            Some(index.known().map(|(prints, _)| prints).collect())
        });
        assert_eq!(restarted.layers().count(), 1 + 2 + 1);
        assert_eq!(found(&restarted, &*directory, 4..21), 17 * PUSHES as usize);
    }

    fn saved_again(number: u64, directory: &dyn Directory) -> SegmentIndex {
        SegmentIndex::load(directory, Stamp { segment: number, salt: 7 }, 128).unwrap()
    }
}
