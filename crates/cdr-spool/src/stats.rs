//! What the spool can say about itself, cheaply.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::state::{Lane, Segment, State};
use crate::{Position, SpoolId};

/// Can a push be stored now?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    #[default]
    Ok,
    /// No: what is still owed fills the room.
    Full {
        /// Bytes that some lane has not closed.
        owed: u64,
        /// The room.
        max_size: u64,
    },
    /// No: the disk fails, or hangs. It is tried again by itself.
    Failing {
        /// What the disk said.
        reason: String,
        /// Since when.
        since: SystemTime,
    },
}

/// Numbers for metrics. Counters count since the spool was opened.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Can a push be stored now?
    pub health: Health,
    /// Bytes of all segments on disk.
    pub bytes: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Bytes (about) that some lane has not closed, or keeps as dead letters: they cannot go.
    pub owed_bytes: u64,
    /// When the oldest segment that is kept began, in milliseconds since 1970.
    pub oldest_kept_ms: Option<i64>,
    /// Commits.
    pub commits: u64,
    /// Syncs, and how long they took together.
    pub syncs: u64,
    /// How long all syncs took together.
    pub sync_time: Duration,
    /// How long the last sync took.
    pub last_sync: Duration,
    /// Pushes stored.
    pub appended: u64,
    /// Pushes that were stored before.
    pub repeats: u64,
    /// Pushes whose UUID was seen with other bytes.
    pub uuid_reuses: u64,
    /// Quarantined bodies stored.
    pub quarantined: u64,
    /// Bytes held in quarantine.
    pub quarantine_bytes: u64,
    /// Outcomes recorded.
    pub outcomes: u64,
    /// Dead letters that wait, by lane.
    pub dead_letters: Vec<(String, u64)>,
    /// Failed writes and syncs.
    pub failures: u64,
    /// Bodies carried into a newer segment.
    pub carried: u64,
    /// Segments let go.
    pub dropped_segments: u64,
    /// Bytes waiting for a commit now.
    pub in_flight: u64,
    /// Positions that the catalog does not know yet; searches read them from the log.
    pub catalog_behind: u64,
    /// How often the catalog was built anew since the spool was opened.
    pub catalog_rebuilds: u64,
}

/// What opening the spool found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Whose spool it is.
    pub identity: SpoolId,
    /// It was made just now.
    pub is_new: bool,
    /// The first position that will be given.
    pub end: Position,
    /// Segments on disk.
    pub segments: usize,
    /// Bytes read to get here.
    pub bytes_read: u64,
    /// Bytes of an unfinished last write that were cut. Nothing in it was ever answered, unless the disk damaged that very
    /// write while the gateway was down: nothing behind the last write says that it was synced.
    pub torn_bytes: u64,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// Lanes that this start registered.
    pub registered: Vec<String>,
    /// How far the wall clock is from the newest entry, if more than an hour: retention by age then waits for an hour of running.
    pub clock_off: Option<Duration>,
    /// How long it took.
    pub took: Duration,
}

/// A place on disk whose bytes are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file.
    pub file: String,
    /// Where it begins.
    pub offset: u64,
    /// The positions that lay there, first and last; none if it held only outcomes.
    pub lost: Option<(Position, Position)>,
}

/// What of the room one lane holds, about: pushes are taken as equally large within a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The lane.
    pub lane: String,
    /// Bytes that it has not read, or read and not closed.
    pub waiting_bytes: u64,
    /// Bytes of its dead letters.
    pub dead_bytes: u64,
    /// How many dead letters it has.
    pub dead_letters: u64,
}

impl Holder {
    fn bytes(&self) -> u64 {
        self.waiting_bytes + self.dead_bytes
    }
}

/// The numbers of a state: counters as they are, the rest computed from segments and lanes.
pub(crate) fn of(state: &State) -> Stats {
    let most = |segment: &Segment| state.lanes.values().map(|lane| owed(segment, lane)).max().unwrap_or(0);
    Stats {
        health: state.health.clone(),
        bytes: state.bytes(),
        segments: state.segments.len() as u64,
        owed_bytes: state.segments.iter().map(most).sum(),
        oldest_kept_ms: state.segments.first().map(|s| s.opened_at_ms),
        quarantine_bytes: state.quarantine_bytes,
        dead_letters: state.lanes.iter().map(|(name, lane)| (name.clone(), lane.dead.len() as u64)).collect(),
        ..state.counters.clone()
    }
}

/// Who holds the room, the largest first. Looks at each carried push: not for every second.
pub(crate) fn holders(state: &State) -> Vec<Holder> {
    let mut carried: BTreeMap<u64, Vec<Position>> = BTreeMap::new();
    for (position, place) in &state.carried {
        carried.entry(place.segment).or_default().push(*position);
    }
    let mut holders: Vec<Holder> =
        state.lanes.iter().map(|(name, lane)| holder(name, lane, &state.segments, &carried)).collect();
    holders.retain(|holder| holder.bytes() > 0);
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.bytes()));
    holders
}

fn holder(name: &str, lane: &Lane, segments: &[Segment], carried: &BTreeMap<u64, Vec<Position>>) -> Holder {
    let (mut waiting_bytes, mut dead_bytes) = (0, 0);
    for segment in segments {
        let guests = carried.get(&segment.number()).map_or(&[][..], Vec::as_slice);
        let is_waiting = |p: &&Position| lane.has_unread(**p, p.next()) || lane.state.open.contains_key(p);
        let waiting_guests = guests.iter().filter(is_waiting).count() as u64;
        let dead_guests = guests.iter().filter(|p| lane.dead.contains_key(p)).count() as u64;
        let pushes = segment.until.0 - segment.first.0 + guests.len() as u64;
        let of_size = |part: u64| segment.size * part.min(pushes) / pushes.max(1);
        waiting_bytes += of_size(waiting(segment, lane) + waiting_guests);
        dead_bytes += of_size(dead(segment, lane) + dead_guests);
    }
    Holder { lane: name.to_owned(), waiting_bytes, dead_bytes, dead_letters: lane.dead.len() as u64 }
}

/// Bytes of a segment that a lane has not closed, or keeps as dead letters, taking its pushes as equally large.
fn owed(segment: &Segment, lane: &Lane) -> u64 {
    let pushes = segment.until.0 - segment.first.0;
    segment.size * (waiting(segment, lane) + dead(segment, lane)).min(pushes) / pushes.max(1)
}

/// How many pushes of a segment a lane has not closed.
fn waiting(segment: &Segment, lane: &Lane) -> u64 {
    let until = lane.state.ends().min(segment.until);
    let unread = until.0.saturating_sub(lane.state.next.max(segment.first).0);
    if unread == segment.until.0 - segment.first.0 {
        return unread;
    }
    unread + lane.state.open.range(segment.first..segment.until).count() as u64
}

/// How many pushes of a segment are dead letters of a lane.
fn dead(segment: &Segment, lane: &Lane) -> u64 {
    lane.dead.range(segment.first..segment.until).count() as u64
}
