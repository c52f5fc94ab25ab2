//! Which push came before: *maybe*, in little memory. Whoever asks reads the stored push and compares before it believes.
//!
//! Of the segment that is being written every push is known exactly ([`Recent`]); of each closed one a [`Filter`] of 18 to 20
//! bits a push says whether it may hold a push, and then its index file says where. What is remembered is never denied. One stranger
//! in 65,536 is suspected of a segment, so with a backlog of 2 million pushes in 45 segments one push in 1,400 has an index
//! read (350 KB) for nothing.
//!
//! The rejected alternative, a table of all pushes with their positions, takes 11 to 24 bytes a push: 32 MiB for 2 million.

mod filter;
mod prints;
mod recent;

use std::num::NonZero;
use std::thread::{self, JoinHandle};

use self::filter::Filter;
pub(crate) use self::prints::Prints;
use self::recent::Recent;
use crate::Position;
use crate::log::index::{Note, SegmentIndex};

/// See the module.
pub(crate) struct Dedupe {
    /// Of the segment that is being written, and of the frame that is being made.
    recent: Recent,
    /// Of those before it, as far as the window reaches; oldest first.
    closed: Vec<Closed>,
}

struct Closed {
    number: u64,
    /// When its last frame was written.
    newest_ms: i64,
    known: Known,
}

/// What is known of a closed segment.
enum Known {
    /// Everything, until its filter is built.
    Exactly(Recent, Option<JoinHandle<Option<Filter>>>),
    Roughly(Filter),
    /// Nothing but what its index says.
    Unread,
}

/// What is known of one segment, to be asked for suspects.
pub(crate) enum Layer<'a> {
    Exact(&'a Recent),
    /// The segment's number, and its filter if there is one.
    Rough(u64, Option<&'a Filter>),
}

impl Dedupe {
    /// Knows these closed segments, oldest first. Their filters are built side by side, as a start waits for them.
    pub(crate) fn of(
        indexes: &[&SegmentIndex],
        prints_of: impl Fn(&SegmentIndex) -> Option<Vec<Prints>> + Sync,
    ) -> Dedupe {
        let filters = side_by_side(indexes, |index| prints_of(index).and_then(Filter::of));
        let closed = indexes.iter().zip(filters).map(|(index, filter)| Closed {
            number: index.stamp.segment,
            newest_ms: index.newest_ms,
            known: filter.map_or(Known::Unread, Known::Roughly),
        });
        Dedupe { recent: Recent::new(), closed: closed.collect() }
    }

    /// What to ask for suspects, newest first: a sender repeats soon.
    pub(crate) fn layers(&self) -> impl Iterator<Item = Layer<'_>> {
        let closed = self.closed.iter().rev().map(|closed| match &closed.known {
            Known::Exactly(recent, _) => Layer::Exact(recent),
            Known::Roughly(filter) => Layer::Rough(closed.number, Some(filter)),
            Known::Unread => Layer::Rough(closed.number, None),
        });
        std::iter::once(Layer::Exact(&self.recent)).chain(closed)
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

    /// The segment that was being written is closed, and this is its index. What came behind its end belongs to the next one.
    pub(crate) fn close(&mut self, index: &SegmentIndex) {
        self.take_filters();
        let next = self.recent.since(index.until);
        let recent = std::mem::replace(&mut self.recent, next);
        let prints: Vec<Prints> = index.known().map(|(prints, _)| prints).collect();
        if prints.is_empty() {
            return;
        }
        // It takes milliseconds, which those who wait for a commit need not spend.
        let builder = thread::Builder::new().name("spool-filter".into());
        let building = builder.spawn(move || Filter::of(prints)).inspect_err(|error| {
            tracing::warn!(%error, "cannot start a thread; a segment's pushes stay in memory to recognise repeats, a megabyte");
        });
        let known = Known::Exactly(recent, building.ok());
        self.closed.push(Closed { number: index.stamp.segment, newest_ms: index.newest_ms, known });
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
    }

    /// A segment went. What was carried out of it is known with the segment that it went into.
    pub(crate) fn forget_segment(&mut self, number: u64) {
        self.closed.retain(|closed| closed.number != number);
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
        index_of: impl FnOnce(u64) -> Option<SegmentIndex>,
    ) -> Vec<Position> {
        let (number, filter) = match self {
            Layer::Exact(recent) => return recent.suspects(prints),
            Layer::Rough(number, filter) => (*number, filter),
        };
        if filter.is_some_and(|filter| !filter.may_hold(prints, uuid_is_reused)) {
            return Vec::new();
        }
        let Some(index) = index_of(number) else { return Vec::new() };
        let same = index.known().filter(|(other, _)| *other == prints);
        // The newest is the one that is surely within the window, and one is enough to tell that a UUID is reused.
        let same_uuid =
            index.known().filter(|(other, _)| other.has_uuid_of(prints) && *other != prints).last();
        same.chain(same_uuid.filter(|_| !uuid_is_reused)).map(|(_, position)| position).collect()
    }
}

/// Does work on each item, on as many threads as the machine has; results in the order of the items.
fn side_by_side<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = items.len().div_ceil(threads).max(1);
    let work = &work;
    thread::scope(|scope| {
        let shares = items.chunks(share).map(|share| scope.spawn(move || share.iter().map(work).collect()));
        let shares: Vec<thread::ScopedJoinHandle<'_, Vec<O>>> = shares.collect();
        let done = shares
            .into_iter()
            .flat_map(|share| share.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        done.collect()
    })
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
}
