//! What a sink noted about its partitions, and when the lane lets it close one.
//!
//! A memo is durable in the same commit as the outcomes of the batch it came with, so a restart neither forgets nor tells
//! twice what was told. It bears the time of its batch: from that the least time between two batches goes on where it was,
//! and so does the most that may leave in an hour. Errands have none: what they deliver is told for itself, and not counted; so
//! no backlog of a sink that counts is set aside (`aside`).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use cdr_core::{Outcome, Partition};
use cdr_spool::{LaneState, Memo};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::{Lane, attempt};

/// Before a partition's name in its key.
const PARTITION: char = 'p';

/// The key of when the batches left that are counted by the hour.
const LEFT: &str = "h";

const HOUR: Duration = Duration::from_secs(3600);

/// Most batches an hour of which the lane keeps count: their times fit into a memo.
const MOST_AN_HOUR: usize = 120;

/// A closing call that is over.
pub struct Closed {
    partition: Partition,
    outcome: Outcome,
}

/// What a sink noted, and what is to be made durable of it.
#[derive(Debug, Default)]
pub struct Memos {
    known: BTreeMap<Partition, Known>,
    /// How long a partition may be quiet before the sink closes it; never, where there is none.
    quiet: Option<Duration>,
    /// How many may leave in an hour, as far as the sink said so.
    most: Option<usize>,
    /// When batches left that are counted, the oldest first.
    left: VecDeque<Instant>,
    /// What goes to the spool with the next outcomes.
    changed: Vec<Memo>,
}

#[derive(Debug)]
struct Known {
    bytes: Bytes,
    /// When the last batch of the partition left.
    at: Instant,
    /// How often closing failed, and when it may be tried again.
    failed: u32,
    again_at: Option<Instant>,
    is_closing: bool,
}

impl Memos {
    /// What the sink noted last about a partition.
    pub fn get(&self, partition: &Partition) -> Option<Bytes> {
        self.known.get(partition).map(|known| known.bytes.clone())
    }

    /// Whether the sink wants only so many to leave in an hour.
    pub fn is_limited(&self) -> bool {
        self.most.is_some()
    }

    /// Counts a batch that leaves.
    pub fn leaves(&mut self) {
        self.left.push_back(Instant::now());
        if self.left.len() > MOST_AN_HOUR {
            self.left.pop_front();
        }
    }

    /// It did not arrive, so it does not count.
    pub fn did_not_leave(&mut self) {
        self.left.pop_back();
    }

    /// Until when no more may leave, if so many left within the hour.
    pub fn held_until(&self) -> Option<Instant> {
        let first = self.left.len().checked_sub(self.most?.clamp(1, MOST_AN_HOUR))?;
        self.left.get(first).map(|&left| left + HOUR).filter(|&until| until > Instant::now())
    }

    fn note(&mut self, partition: &Partition, bytes: Bytes) {
        let key = format!("{PARTITION}{}", partition.0);
        let mut stored = BytesMut::with_capacity(8 + bytes.len());
        stored.put_i64_le(Timestamp::now().as_millisecond());
        stored.put_slice(&bytes);
        if key.len() > Memo::KEY || stored.len() > Memo::BYTES || !self.has_room_for(partition) {
            return debug!(
                partition = &*partition.0,
                "no memo is kept: it is too long, or there are too many"
            );
        }
        let known = Known { bytes, at: Instant::now(), failed: 0, again_at: None, is_closing: false };
        self.known.insert(partition.clone(), known);
        self.changed.push(Memo { key, bytes: stored.freeze() });
        self.note_left();
    }

    /// One memo is that of the batches that left.
    fn has_room_for(&self, partition: &Partition) -> bool {
        self.known.len() + 1 < Memo::MOST || self.known.contains_key(partition)
    }

    fn note_left(&mut self) {
        self.left.retain(|left| left.elapsed() < HOUR);
        let now_ms = Timestamp::now().as_millisecond();
        let mut times = BytesMut::with_capacity(self.left.len() * 8);
        self.left.iter().for_each(|left| times.put_i64_le(now_ms.saturating_sub(millis(left.elapsed()))));
        self.changed.push(Memo { key: LEFT.to_owned(), bytes: times.freeze() });
    }

    fn forget(&mut self, partition: &Partition) {
        if self.known.remove(partition).is_some() {
            self.changed.push(Memo { key: format!("{PARTITION}{}", partition.0), bytes: Bytes::new() });
        }
    }

    /// What the spool shall keep with the next outcomes.
    pub fn take_changed(&mut self) -> Vec<Memo> {
        std::mem::take(&mut self.changed)
    }
}

impl Known {
    fn due(&self, quiet: Duration) -> Option<Instant> {
        (!self.is_closing).then(|| (self.at + quiet).max(self.again_at.unwrap_or(self.at)))
    }
}

impl Lane {
    /// Takes up what the last process noted.
    pub(super) fn recover_memos(&mut self, state: &LaneState) {
        if self.errand.is_some() {
            return;
        }
        let spacing = self.gather.spacing();
        for (key, stored) in &state.memos {
            if key == LEFT {
                self.memos.left =
                    stored.chunks_exact(8).filter_map(|ms| Some(ago(ms.first_chunk()?))).collect();
            }
            let (Some(name), Some((ms, bytes))) = (key.strip_prefix(PARTITION), stored.split_first_chunk())
            else {
                continue;
            };
            let (partition, at) = (Partition(name.to_owned().into()), ago(ms));
            self.gather.resume(&partition, at + spacing);
            let bytes = Bytes::copy_from_slice(bytes);
            self.memos
                .known
                .insert(partition, Known { bytes, at, failed: 0, again_at: None, is_closing: false });
        }
    }

    /// A new sink may let more leave in an hour, or fewer, and close partitions sooner or later.
    pub(super) fn ask_anew(&mut self) {
        self.memos.quiet = attempt::quiet(&self.plan.name, self.plan.sink.as_ref());
        let known: Vec<Partition> = self.memos.known.keys().cloned().collect();
        self.memos.most = known.iter().find_map(|partition| self.most_an_hour(partition));
    }

    /// Whether the batches of a partition are counted by the hour.
    pub(super) fn is_counted(&mut self, partition: &Partition) -> bool {
        let most = self.most_an_hour(partition).filter(|_| self.errand.is_none());
        self.memos.most = most.or(self.memos.most);
        most.is_some()
    }

    fn most_an_hour(&mut self, partition: &Partition) -> Option<usize> {
        attempt::guarded(|| self.plan.sink.most_an_hour(partition)).unwrap_or_else(|reason| {
            if !std::mem::replace(&mut self.said_panic, true) {
                error!(sink = %self.plan.name, reason, "the sink panicked when asked how much may leave in an hour; it is not counted");
            }
            None
        })
    }

    /// A batch of a partition is over, with what its report noted.
    pub(super) fn note(&mut self, partition: Option<&Partition>, left: bool, memo: Option<Bytes>) {
        let Some(partition) = partition.filter(|_| self.errand.is_none()) else { return };
        let is_counted = self.is_counted(partition);
        match (left, memo) {
            (true, Some(memo)) => self.memos.note(partition, memo),
            (true, None) if is_counted => self.memos.note_left(),
            (true, None) => {}
            (false, _) if is_counted => self.memos.did_not_leave(),
            (false, _) => {}
        }
    }

    /// When a partition may be closed that was quiet for long enough; none while something of it may still be on its way.
    pub(super) fn next_close(&self) -> Option<Instant> {
        let quiet = self.memos.quiet?;
        let is_at_rest = self.pace.pause().is_none()
            && self.ledger.len() == 0
            && self.finals.is_empty()
            && self.next >= self.store.routed_end();
        let due = self.memos.known.values().filter_map(|known| known.due(quiet)).min()?;
        is_at_rest.then_some(due)
    }

    /// Lets the sink close what was quiet for long enough.
    pub(super) fn close_quiet(&mut self) {
        let now = Instant::now();
        let Some(quiet) = self.memos.quiet.filter(|_| self.next_close().is_some_and(|due| due <= now)) else {
            return;
        };
        for (partition, known) in &mut self.memos.known {
            if known.due(quiet).is_none_or(|due| due > now) {
                continue;
            }
            known.is_closing = true;
            let (sink, partition, memo) =
                (std::sync::Arc::clone(&self.plan.sink), partition.clone(), known.bytes.clone());
            self.closings.push(Box::pin(async move {
                let outcome = attempt::close(sink.as_ref(), &partition, &memo).await;
                Closed { partition, outcome }
            }));
        }
    }

    /// A memo whose partition is closed is forgotten; a closing call that failed is made again, with back-off.
    pub(super) fn closed(&mut self, Closed { partition, outcome }: Closed) {
        let sink = &self.plan.name;
        let Some(known) = self.memos.known.get_mut(&partition) else { return };
        if !std::mem::take(&mut known.is_closing) {
            // Something came while the end was told: it begins anew, with what it noted.
            return;
        }
        let failure = match outcome {
            Outcome::Delivered(receipt) => {
                debug!(%sink, partition = &*partition.0, receipt = receipt.0, "closed");
                return self.memos.forget(&partition);
            }
            Outcome::Reject(failure) => {
                warn!(%sink, reason = failure.reason, "the end of something that was told cannot be told");
                return self.memos.forget(&partition);
            }
            Outcome::Retry(failure) => Some(failure),
            Outcome::Untried => None,
        };
        known.failed = known.failed.saturating_add(1);
        let retry_after = failure.as_ref().and_then(|failure| failure.retry_after);
        let wait = self.plan.retry.wait(known.failed, retry_after);
        known.again_at = Some(Instant::now() + wait);
        let reason = failure.map_or_else(|| "the sink is away".to_owned(), |failure| failure.reason);
        debug!(%sink, partition = &*partition.0, reason, wait_s = wait.as_secs_f64(), "closing will be tried again");
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A wall clock's time on the monotonic clock. One that lies ahead, since the clock was set, is now; one from before the
/// machine started is as old as that clock can tell.
fn ago(ms: &[u8; 8]) -> Instant {
    let ago = Timestamp::now().as_millisecond().saturating_sub(i64::from_le_bytes(*ms));
    let ago = Duration::from_millis(u64::try_from(ago).unwrap_or(0));
    let now = Instant::now();
    now.checked_sub(ago).or_else(|| now.checked_sub(HOUR)).unwrap_or(now)
}
