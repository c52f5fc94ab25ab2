//! What the spool can say about itself, cheaply.

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
    /// No: the disk fails. It is tried again by itself.
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
    /// Bytes (about) that some lane has not closed.
    pub owed_bytes: u64,
    /// The same by lane, largest first.
    pub owed_by_lane: Vec<(String, u64)>,
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
    /// Bytes of an unfinished last write that were cut; nothing in them was ever answered.
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

/// The numbers of a state: counters as they are, the rest computed from segments and lanes.
pub(crate) fn of(state: &State) -> Stats {
    let mut owed_by_lane: Vec<(String, u64)> = state
        .lanes
        .iter()
        .map(|(name, lane)| (name.clone(), state.segments.iter().map(|s| owed(s, lane)).sum()))
        .collect();
    owed_by_lane.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let most = |segment: &Segment| state.lanes.values().map(|lane| owed(segment, lane)).max().unwrap_or(0);
    Stats {
        health: state.health.clone(),
        bytes: state.bytes(),
        segments: state.segments.len() as u64,
        owed_bytes: state.segments.iter().map(most).sum(),
        owed_by_lane,
        oldest_kept_ms: state.segments.first().map(|s| s.opened_at_ms),
        quarantine_bytes: state.quarantine_bytes,
        dead_letters: state.lanes.iter().map(|(name, lane)| (name.clone(), lane.dead.len() as u64)).collect(),
        ..state.counters.clone()
    }
}

/// Bytes of a segment that a lane has not closed, taking its pushes as equally large.
fn owed(segment: &Segment, lane: &Lane) -> u64 {
    let pushes = segment.until.0 - segment.first.0;
    if pushes == 0 {
        return 0;
    }
    let unread = segment.until.0.saturating_sub(lane.state.next.max(segment.first).0);
    let open = match unread == pushes {
        true => 0,
        false => lane.state.open.range(segment.first..segment.until).count() as u64,
    };
    segment.size * (unread + open).min(pushes) / pushes
}
