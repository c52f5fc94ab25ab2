//! What the spool's log says of one sink: what was delivered, and what is open.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use cdr_core::SpoolId;
use cdr_dispatch::stored;
use cdr_spool::{CheckpointLane, Logged, Outcome};
use jiff::Timestamp;

use crate::command::kept::{Kept, moment};

/// What the log says of one sink, as far as it is kept.
pub struct Delivered {
    spool: SpoolId,
    known: BTreeMap<u64, Known>,
    delivered: BTreeSet<u64>,
    open: BTreeSet<u64>,
}

struct Known {
    received_at: Timestamp,
    sha256: [u8; 32],
    /// The log has it where it came in, and so all that became of it.
    is_whole: bool,
}

/// A push that was delivered.
pub struct DeliveredPush {
    pub position: u64,
    pub received_at: Timestamp,
    pub sha256: [u8; 32],
}

impl Delivered {
    /// Goes through the log.
    ///
    /// # Errors
    /// There is no spool, or it cannot be read.
    pub fn read(kept: &Kept, sink: &str) -> anyhow::Result<Self> {
        let mut log = kept.log_since(Timestamp::MIN)?;
        let spool = stored::spool_id(log.identity());
        let mut told =
            Self { spool, known: BTreeMap::new(), delivered: BTreeSet::new(), open: BTreeSet::new() };
        let mut lanes = Lanes { sink, ..Lanes::default() };
        kept.rest(&mut log, |_, entry| told.take(&mut lanes, entry))?;
        // Only now: a lane can begin behind what it reads.
        let owed = told.known.iter().filter(|(position, known)| lanes.owes(**position, known.is_whole));
        told.open = owed.map(|(&position, _)| position).collect();
        Ok(told)
    }

    fn take(&mut self, lanes: &mut Lanes<'_>, entry: Logged) {
        match entry {
            Logged::Push { push, carried } => {
                let received_at = moment(push.received_at_ms);
                let known = Known { received_at, sha256: push.key.sha256, is_whole: !carried };
                self.known.entry(push.position.0).or_insert(known);
            }
            Logged::Checkpoint { lanes: all, .. } if lanes.next.is_none() => lanes.begin(&all),
            Logged::LaneRegistered { name, next, .. } if name == lanes.sink => lanes.next = Some(next.0),
            Logged::Outcome { lane, position, outcome } if lanes.is_of(&lane) && outcome.is_final() => {
                lanes.closed.insert(position.0);
                if matches!(outcome, Outcome::Delivered { .. }) {
                    self.delivered.insert(position.0);
                }
            }
            Logged::Reopened { lane, position } if lanes.is_of(&lane) => {
                lanes.closed.remove(&position.0);
            }
            _ => {}
        }
    }

    /// The spool.
    pub fn spool(&self) -> SpoolId {
        self.spool
    }

    /// What was delivered and is still known, in the order of positions.
    pub fn pushes(&self) -> impl Iterator<Item = DeliveredPush> {
        self.delivered.iter().filter_map(|&position| {
            let Known { received_at, sha256, .. } = *self.known.get(&position)?;
            Some(DeliveredPush { position, received_at, sha256 })
        })
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

    fn begin(&mut self, all: &[CheckpointLane]) {
        for lane in all.iter().filter(|lane| self.is_of(&lane.name)).collect::<Vec<_>>() {
            self.open.extend(lane.open.iter().map(|position| position.0));
            let next = Some(lane.next.0);
            match lane.name == self.sink {
                true => self.next = next,
                false => {
                    self.errands_next = self.errands_next.map_or(next, |earlier| next.min(Some(earlier)))
                }
            }
        }
    }

    fn owes(&self, position: u64, is_whole: bool) -> bool {
        let is_behind = |next: Option<u64>| next.is_some_and(|next| position >= next);
        let was_owed = is_behind(self.next)
            || self.open.contains(&position)
            || (is_whole && is_behind(self.errands_next));
        was_owed && !self.closed.contains(&position)
    }
}
