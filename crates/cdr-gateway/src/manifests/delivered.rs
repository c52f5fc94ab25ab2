//! What the spool's log says of one sink: what was delivered, what is open, what was given up.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Context as _;
use cdr_core::SpoolId;
use cdr_dispatch::stored;
use cdr_spool::{LogReader, Logged, Outcome, ReadError};
use jiff::Timestamp;

use super::lanes::Lanes;
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
    sink: String,
    lanes: Lanes,
    stretch: Stretch,
    /// The first position that is left out, and the arrival of the oldest push that is.
    beyond: Option<(u64, Timestamp)>,
}

/// Of which pushes somebody wants to know; the log is read to its end all the same, since what became of them may stand anywhere.
#[derive(Clone, Copy)]
pub struct Stretch {
    /// The log is read from a little before this time on.
    pub since: Timestamp,
    /// What arrived before this time, and was delivered since, is late.
    pub from: Timestamp,
    /// What arrived from this time on is left out.
    pub until: Option<Timestamp>,
}

impl Stretch {
    /// All that is kept.
    pub const ALL: Self = Self { since: Timestamp::MIN, from: Timestamp::MIN, until: None };
}

struct Known {
    received_at: Timestamp,
    sha256: [u8; 32],
}

/// What became of pushes in one lane.
#[derive(Default)]
struct Became {
    delivered: BTreeSet<u64>,
    given_up: BTreeMap<u64, Option<Timestamp>>,
    late: BTreeSet<String>,
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
    /// Goes through the log of the spool at this path. `end_of_day` says when the day of an arrival ends: without an end the stretch
    /// ends with the day of the first push in it. Blocks.
    ///
    /// # Errors
    /// There is no spool, or it cannot be read.
    pub fn read(
        path: &Path,
        sink: &str,
        stretch: Stretch,
        end_of_day: impl Fn(Timestamp) -> Option<Timestamp>,
    ) -> anyhow::Result<Self> {
        let now = lanes_at_the_end(path)?;
        let log = log(path, stretch.since)?;
        let mut told = Self {
            spool: stored::spool_id(log.identity()),
            known: BTreeMap::new(),
            delivered: BTreeSet::new(),
            open: BTreeSet::new(),
            given_up: BTreeMap::new(),
            late: BTreeSet::new(),
            damage: BTreeSet::new(),
            sink: sink.to_owned(),
            lanes: Lanes::default(),
            stretch,
            beyond: None,
        };
        // Whose an ended lane was may show only behind what it did.
        let mut became: BTreeMap<u32, Became> = BTreeMap::new();
        let may_be_ours = |number: u32| now.sink(number).is_none_or(|of| of == sink);
        let mut is_first = true;
        for read in log {
            let (at, entry) = match read {
                Ok(read) => (moment(read.at_ms), read.what),
                Err(error @ (ReadError::Damaged { .. } | ReadError::DamagedLog { .. })) => {
                    told.damage.insert(error.to_string());
                    continue;
                }
                Err(error) => return Err(error).context("the spool cannot be read"),
            };
            told.lanes.follow(&entry);
            match entry {
                Logged::Push { push, .. } => {
                    let received_at = moment(push.received_at_ms);
                    if told.stretch.until.is_none() && received_at >= stretch.from {
                        told.stretch.until = end_of_day(received_at);
                    }
                    told.learn(push.position.0, Known { received_at, sha256: push.key.sha256 });
                }
                Logged::Checkpoint { lanes, .. } if is_first => {
                    is_first = false;
                    for lane in lanes.into_iter().filter(|lane| may_be_ours(lane.number)) {
                        let dead = lane.dead.into_iter().map(|position| (position.0, None));
                        became.entry(lane.number).or_default().given_up.extend(dead);
                    }
                }
                Logged::Outcome { number, position, outcome, .. }
                    if may_be_ours(number) && !told.is_left_out(position.0) =>
                {
                    let arrived = told.known.get(&position.0).map(|known| known.received_at);
                    let is_late = arrived.is_none_or(|at| at < stretch.from) && at >= stretch.since;
                    became.entry(number).or_default().close(position.0, at, outcome, is_late);
                }
                Logged::Reopened { number, position, .. } if may_be_ours(number) => {
                    became.entry(number).or_default().given_up.remove(&position.0);
                }
                // What a replay gave up was no part of what is owed; of the rest nobody can decide any more.
                Logged::LaneRetired { number } if told.lanes.is_replay(number) => {
                    became.entry(number).or_default().given_up.clear();
                }
                Logged::LaneRetired { number } => {
                    let given_up = &mut became.entry(number).or_default().given_up;
                    given_up.values_mut().for_each(|since| *since = None);
                }
                _ => {}
            }
        }
        for (_, became) in became.into_iter().filter(|(number, _)| told.lanes.sink(*number) == Some(sink)) {
            told.delivered.extend(became.delivered);
            told.given_up.extend(became.given_up);
            told.late.extend(became.late);
        }
        let owed = told.known.keys().copied().filter(|&position| told.lanes.owe(sink, position));
        told.open = owed.collect();
        Ok(told)
    }

    fn learn(&mut self, position: u64, push: Known) {
        if self.stretch.until.is_none_or(|until| push.received_at < until) {
            self.known.entry(position).or_insert(push);
            return;
        }
        let (first, oldest) = self.beyond.unwrap_or((position, push.received_at));
        self.beyond = Some((first.min(position), oldest.min(push.received_at)));
    }

    /// What is not known and lies before may be carried, and come yet.
    fn is_left_out(&self, position: u64) -> bool {
        self.beyond.is_some_and(|(first, _)| position >= first) && !self.known.contains_key(&position)
    }

    /// The end of the stretch, and the arrival of the oldest push behind it; none when all is known.
    pub fn until(&self) -> Option<(Timestamp, Timestamp)> {
        let (_, oldest) = self.beyond?;
        Some((self.stretch.until?, oldest))
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

    /// Receipts of what arrived before the stretch, and was delivered since.
    pub fn late(&self) -> impl Iterator<Item = &str> {
        self.late.iter().map(String::as_str)
    }

    /// The arrival of the oldest push that is known.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.known.values().map(|known| known.received_at).min()
    }

    /// The oldest push that a lane owes whose sink is none of these, and that may yet be handed over to this one: that sink, and
    /// when the push arrived.
    pub fn parked(&self, driven: &[String]) -> Option<(&str, Timestamp)> {
        let owed = self.known.iter().filter_map(|(&position, known)| {
            Some((self.lanes.parked(&self.sink, driven, position)?, known.received_at))
        });
        owed.min_by_key(|(_, received_at)| *received_at)
    }

    /// The arrival of the oldest push that is neither delivered nor given up nor passed; what is open is kept.
    pub fn oldest_open(&self) -> Option<Timestamp> {
        self.open.iter().filter_map(|position| self.known.get(position)).map(|known| known.received_at).min()
    }
}

impl Became {
    fn close(&mut self, position: u64, at: Timestamp, outcome: Outcome, is_late: bool) {
        match outcome {
            Outcome::Delivered { receipt } => {
                self.delivered.insert(position);
                self.late.extend(receipt.filter(|_| is_late));
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
}

/// The lanes as the newest checkpoint has them, and what came behind it.
fn lanes_at_the_end(path: &Path) -> anyhow::Result<Lanes> {
    let mut lanes = Lanes::default();
    log(path, Timestamp::MAX)?.flatten().for_each(|read| lanes.follow(&read.what));
    Ok(lanes)
}
