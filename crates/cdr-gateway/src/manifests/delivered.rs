//! What the spool's log says of one sink: what was delivered, what is open, what was given up.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
};

use anyhow::Context as _;
use cdr_core::SpoolId;
use cdr_dispatch::stored;
use cdr_spool::{CheckpointLane, LogReader, Logged, Outcome, ReadError};
use jiff::Timestamp;

use crate::traced::moment;

/// What the log says of one sink, as far as it is kept.
///
/// About 150 bytes for each push; bodies are read and let go.
pub struct Delivered {
    spool: SpoolId,
    known: BTreeMap<u64, Known>,
    delivered: BTreeSet<u64>,
    open: BTreeSet<u64>,
    /// Since when each is a dead letter; none when that was before the log, or it was discarded.
    given_up: BTreeMap<u64, Option<Timestamp>>,
    late: BTreeSet<String>,
    damage: BTreeSet<String>,
}

struct Known {
    received_at: Timestamp,
    sha256: [u8; 32],
    /// The log has it where it came in, and so all that became of it.
    is_whole: bool,
}

/// A push that was delivered.
pub struct DeliveredPush {
    /// Its place in the spool.
    pub position: u64,
    /// When it arrived.
    pub received_at: Timestamp,
    /// SHA-256 of its body.
    pub sha256: [u8; 32],
}

/// A push that was given up: a dead letter, or discarded.
pub struct GivenUp {
    /// Its place in the spool.
    pub position: u64,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Since when a person may decide about it; none when that is decided, or longer ago than the log tells.
    pub dead_since: Option<Timestamp>,
}

/// Whose spool lies at a path.
///
/// # Errors
/// There is no spool, or it cannot be read.
pub fn spool_at(path: &Path) -> anyhow::Result<SpoolId> {
    Ok(stored::spool_id(log(path, Timestamp::MAX)?.identity()))
}

fn log(path: &Path, since: Timestamp) -> anyhow::Result<LogReader> {
    LogReader::open_since(path, since.as_millisecond()).with_context(|| {
        let path = path.display();
        format!("no spool can be read at {path} (spool.path); has the gateway run with this configuration?")
    })
}

impl Delivered {
    /// Goes through the log of the spool at this path, from a little before this time on. Blocks.
    ///
    /// # Errors
    /// There is no spool, or it cannot be read.
    pub fn read(path: &Path, sink: &str, since: Timestamp) -> anyhow::Result<Self> {
        let log = log(path, since)?;
        let mut told = Self {
            spool: stored::spool_id(log.identity()),
            known: BTreeMap::new(),
            delivered: BTreeSet::new(),
            open: BTreeSet::new(),
            given_up: BTreeMap::new(),
            late: BTreeSet::new(),
            damage: BTreeSet::new(),
        };
        let mut lanes = Lanes { sink, ..Lanes::default() };
        for read in log {
            match read {
                Ok(read) => told.take(&mut lanes, since, moment(read.at_ms), read.what),
                Err(error @ (ReadError::Damaged { .. } | ReadError::DamagedLog { .. })) => {
                    told.damage.insert(error.to_string());
                }
                Err(error) => return Err(error).context("the spool cannot be read"),
            }
        }
        // Only now: a lane can begin behind what it reads.
        let owed = told.known.iter().filter(|(position, known)| lanes.owes(**position, known.is_whole));
        told.open = owed.map(|(&position, _)| position).collect();
        Ok(told)
    }

    fn take(&mut self, lanes: &mut Lanes<'_>, since: Timestamp, at: Timestamp, entry: Logged) {
        match entry {
            Logged::Push { push, carried } => {
                let received_at = moment(push.received_at_ms);
                let known = Known { received_at, sha256: push.key.sha256, is_whole: !carried };
                self.known.entry(push.position.0).or_insert(known);
            }
            Logged::Checkpoint { lanes: all, .. } if lanes.next.is_none() => {
                let dead = lanes.begin(&all);
                self.given_up.extend(dead.into_iter().map(|position| (position, None)));
            }
            Logged::LaneRegistered { name, next, .. } if name == lanes.sink => lanes.next = Some(next.0),
            Logged::Outcome { lane, position, outcome } if lanes.is_of(&lane) && outcome.is_final() => {
                lanes.closed.insert(position.0);
                self.close(position.0, since, at, outcome);
            }
            Logged::Reopened { lane, position } if lanes.is_of(&lane) => {
                lanes.closed.remove(&position.0);
                self.given_up.remove(&position.0);
            }
            _ => {}
        }
    }

    fn close(&mut self, position: u64, since: Timestamp, at: Timestamp, outcome: Outcome) {
        match outcome {
            Outcome::Delivered { receipt } => {
                self.delivered.insert(position);
                let is_early = self.known.get(&position).is_none_or(|known| known.received_at < since);
                self.late.extend(receipt.filter(|_| is_early && at >= since));
            }
            Outcome::Dead { .. } => {
                self.given_up.insert(position, Some(at));
            }
            Outcome::Discarded => {
                self.given_up.insert(position, None);
            }
            Outcome::Passed | Outcome::Retry { .. } => {}
        }
    }

    /// The spool.
    pub fn spool(&self) -> SpoolId {
        self.spool
    }

    /// What of the log cannot be read, and was passed over.
    pub fn damage(&self) -> &BTreeSet<String> {
        &self.damage
    }

    /// What was delivered and is still known, in the order of positions.
    pub fn pushes(&self) -> impl Iterator<Item = DeliveredPush> {
        self.delivered.iter().filter_map(|&position| {
            let Known { received_at, sha256, .. } = *self.known.get(&position)?;
            Some(DeliveredPush { position, received_at, sha256 })
        })
    }

    /// What was given up and not delivered in another way, in the order of positions.
    pub fn given_up(&self) -> impl Iterator<Item = GivenUp> {
        let left = self.given_up.iter().filter(|(position, _)| !self.delivered.contains(position));
        left.filter_map(|(&position, &dead_since)| {
            Some(GivenUp { position, received_at: self.known.get(&position)?.received_at, dead_since })
        })
    }

    /// Receipts of what arrived earlier than the log was asked for, and was delivered since.
    pub fn late(&self) -> impl Iterator<Item = &str> {
        self.late.iter().map(String::as_str)
    }

    /// The arrival of the oldest push that is known.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.known.values().map(|known| known.received_at).min()
    }

    /// The arrival of the oldest push that is neither delivered nor given up nor passed; what is open is kept.
    pub fn oldest_open(&self) -> Option<Timestamp> {
        self.open.iter().filter_map(|position| self.known.get(position)).map(|known| known.received_at).min()
    }
}

/// The lanes that deliver to the sink, and what they have done.
#[derive(Default)]
struct Lanes<'a> {
    sink: &'a str,
    /// What its own lane had not read where the log first tells of it, and the temporary ones; and what they had open.
    next: Option<u64>,
    errands_next: Option<u64>,
    open: HashSet<u64>,
    closed: HashSet<u64>,
}

impl Lanes<'_> {
    /// Temporary lanes (replays, what was set aside or left by another sink) bear the sink's name, `~` and a number.
    fn is_of(&self, lane: &str) -> bool {
        lane == self.sink || lane.rsplit_once('~').is_some_and(|(sink, _)| sink == self.sink)
    }

    /// Begins with what a checkpoint says; gives the dead letters that there were.
    fn begin(&mut self, all: &[CheckpointLane]) -> Vec<u64> {
        let mut dead = Vec::new();
        for lane in all.iter().filter(|lane| self.is_of(&lane.name)).collect::<Vec<_>>() {
            self.open.extend(lane.open.iter().map(|position| position.0));
            dead.extend(lane.dead.iter().map(|position| position.0));
            let next = Some(lane.next.0);
            match lane.name == self.sink {
                true => self.next = next,
                false => {
                    self.errands_next = self.errands_next.map_or(next, |earlier| next.min(Some(earlier)))
                }
            }
        }
        dead
    }

    fn owes(&self, position: u64, is_whole: bool) -> bool {
        let is_behind = |next: Option<u64>| next.is_some_and(|next| position >= next);
        let was_owed = is_behind(self.next)
            || self.open.contains(&position)
            || (is_whole && is_behind(self.errands_next));
        was_owed && !self.closed.contains(&position)
    }
}
