//! Batches under a seal: all or nothing, never regrouped, tried again under the same seal until they are closed.
//!
//! A seal is durable before its first attempt (`attempt`), and comes back from the spool after a restart. So whatever an
//! attempt left behind when it was cut off, the next one makes the same thing again, in the same place.

use std::{collections::BTreeMap, mem::discriminant, sync::Arc, time::Duration};

use cdr_core::{Batch, Failure, Outcome, Position, Push, Seal};
use cdr_spool::{ControlError, LaneState, Outcome as Recorded, ReadError};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::{Lane, pace::Epoch};
use crate::{routing::Goes, stored};

/// While a lane is paused, so many probes go to one sealed batch before a new one is tried: a batch that alone is
/// refused must not keep the lane paused, and each new one means one object more in the archive.
const PROBES: u32 = 3;

/// When a batch cannot be sealed, it is gathered again after this.
const SEAL_AGAIN: Duration = Duration::from_secs(1);

/// A batch that is sealed.
#[derive(Debug)]
pub struct SealedBatch {
    /// What it becomes.
    pub seal: Seal,
    /// Its pushes, growing, at least one.
    pub positions: Vec<Position>,
}

/// The sealed batches that wait for an attempt, by their first position.
#[derive(Debug, Default)]
pub struct Sealed {
    waiting: BTreeMap<Position, (Instant, SealedBatch)>,
}

impl Sealed {
    /// Lets a batch wait until it is due.
    pub fn wait_until(&mut self, due: Instant, batch: SealedBatch) {
        if let Some(&first) = batch.positions.first() {
            self.waiting.insert(first, (due, batch));
        }
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many pushes wait in them.
    pub fn pushes(&self) -> usize {
        self.waiting.values().map(|(_, batch)| batch.positions.len()).sum()
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.values().map(|&(due, _)| due).min()
    }

    /// The due batch with the least `burden`, and of equals the oldest: its first position, and the burden.
    fn lightest(&self, burden: impl Fn(Position) -> u32) -> Option<(u32, Position)> {
        let now = Instant::now();
        let due = self.waiting.iter().filter(|(_, (due, _))| *due <= now);
        due.map(|(&first, _)| (burden(first), first)).min()
    }

    fn take(&mut self, first: Position) -> Option<SealedBatch> {
        self.waiting.remove(&first).map(|(_, batch)| batch)
    }
}

impl Lane {
    /// Takes over what the last process sealed and did not close. A seal of which something is closed cannot be made
    /// again: damage took a push of it, and the others go on without it.
    pub(super) fn recover_sealed(&mut self, state: &LaneState) {
        for seal in &state.seals {
            let Some(batch) = stored::from_spool_seal(seal) else {
                error!(sink = %self.plan.name, key = seal.key, "a seal cannot be read; its pushes are sent again without it");
                continue;
            };
            let open = seal.positions.iter().filter(|position| state.open.contains_key(position)).count();
            if open < seal.positions.len() {
                if open > 0 {
                    self.say_broken(&batch.seal, "a push of it is closed");
                }
                continue;
            }
            let due = self.ledger.seal(&batch.positions);
            self.sealed.wait_until(due, batch);
        }
    }

    /// Tries sealed batches that are due, before anything new.
    pub(super) async fn try_sealed(&mut self) {
        while self.may_start() && !self.must_not_read() {
            let Some(batch) = self.next_sealed() else { return };
            let read = self.store.get(batch.positions.clone(), usize::MAX).await;
            let mut pushes = Vec::with_capacity(read.len());
            let mut lost = Vec::new();
            let mut trouble = None;
            for (&position, read) in batch.positions.iter().zip(read) {
                match read {
                    Ok(Some(push)) => pushes.push(push),
                    Ok(None) => lost.push(position),
                    Err(error) => trouble = Some((position, error)),
                }
            }
            pushes
                .iter()
                .map(|push| push.position())
                .chain(lost.iter().copied())
                .for_each(|p| self.was_read(p));
            if let Some((position, error)) = trouble {
                self.sealed_not_read(batch, position, &error).await;
            } else if lost.is_empty() {
                self.try_again(batch, pushes);
            } else {
                self.break_seal(batch, &lost);
            }
        }
    }

    /// A push of it cannot be read at present: it waits for another look. Without one that is given up nobody can make it again.
    async fn sealed_not_read(&mut self, batch: SealedBatch, position: Position, error: &ReadError) {
        if let Some(wait) = self.look_later(position, error).await {
            return self.sealed.wait_until(Instant::now() + wait, batch);
        }
        self.say_broken(&batch.seal, "a push of it cannot be read");
        for other in batch.positions.into_iter().filter(|&other| other != position) {
            self.ledger.wait(other, Duration::ZERO);
        }
    }

    /// While paused, the batch that says most about the sink: the one that failed least.
    fn next_sealed(&mut self) -> Option<SealedBatch> {
        let paused = self.pace.pause().is_some();
        let burden = |first| if paused { self.ledger.get(first).map_or(0, |open| open.burden()) } else { 0 };
        let (burden, first) = self.sealed.lightest(burden)?;
        let something_new = self.gather.next_due(false).is_some_and(|due| due <= Instant::now());
        if burden >= PROBES && something_new {
            return None;
        }
        self.sealed.take(first)
    }

    fn try_again(&mut self, batch: SealedBatch, pushes: Vec<Arc<Push>>) {
        for push in pushes {
            // It is finished whatever the routes of today say; they only name themselves.
            let routes = match self.store.decide(&push).to(&self.plan.name) {
                Goes::By(routes) => Some(routes),
                Goes::Elsewhere | Goes::Undecided => None,
            };
            if let Some(open) = self.ledger.get_mut(push.position()) {
                open.received_at_ms = Some(push.facts().received_at.as_millisecond());
                open.routes = routes.unwrap_or_else(|| Arc::clone(&open.routes));
                open.push = Some(push);
            }
        }
        let deliveries = batch.positions.iter().filter_map(|&position| self.delivery(position)).collect();
        if let Some(again) = Batch::new(deliveries) {
            self.start(None, again.sealed(batch.seal));
        }
    }

    /// A push of it is lost: nobody can make the same bytes again.
    fn break_seal(&mut self, batch: SealedBatch, lost: &[Position]) {
        self.say_broken(&batch.seal, "the bytes of a push of it are damaged on disk");
        for position in batch.positions {
            match lost.contains(&position) {
                true => self.lose(position),
                false => self.ledger.wait(position, Duration::ZERO),
            }
        }
    }

    fn say_broken(&self, seal: &Seal, why: &str) {
        error!(sink = %self.plan.name, key = seal.key, why,
            "a sealed batch cannot be made again; its other pushes are sent without it, and may be there twice");
    }

    // === settling ===

    /// Nothing was tried: without a durable seal no attempt is made. The pushes are gathered again.
    pub(super) fn not_sealed(&mut self, positions: &[Position], error: &ControlError) {
        if let ControlError::NotOpen { positions: closed, .. } = error {
            // Outcomes from before the lane began again reached the spool after it had looked there.
            let closed: Vec<Position> = closed.iter().copied().map(stored::position).collect();
            self.ledger.close(&closed);
        }
        warn!(sink = %self.plan.name, %error, pushes = positions.len(), "a batch could not be sealed and was not tried; it will be in a second");
        self.status.note_failure(&format!("a batch could not be sealed: {error}"));
        for &position in positions {
            self.ledger.wait(position, SEAL_AGAIN);
        }
    }

    /// Makes the outcomes of a sealed batch one: all or nothing.
    pub(super) fn settle_as_one(&mut self, seal: &Seal, outcomes: &mut [Outcome], is_away: bool) {
        let is_mixed = outcomes.windows(2).any(|two| discriminant(&two[0]) != discriminant(&two[1]));
        if !is_mixed {
            return;
        }
        if !std::mem::replace(&mut self.said_mixed, true) {
            warn!(sink = %self.plan.name, key = seal.key, "the sink reported different outcomes within a sealed batch, which is all or nothing: such batches are tried again as a whole");
        }
        let why = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Retry(failure) | Outcome::Reject(failure) => Some(failure.clone()),
            Outcome::Delivered(_) | Outcome::Untried => None,
        });
        let one = match why {
            Some(failure) => Outcome::Retry(failure),
            None if is_away => Outcome::Untried,
            None => Outcome::Retry(Failure::new("a part of a sealed batch was not tried")),
        };
        outcomes.fill(one);
    }

    /// Closes a sealed batch, or lets it wait, as one; its outcomes are of one kind, and reach the spool together.
    pub(super) fn settle_sealed(
        &mut self,
        batch: SealedBatch,
        outcomes: Vec<Outcome>,
        began: Epoch,
        is_away: bool,
    ) {
        let mut closed = Vec::with_capacity(outcomes.len());
        for (&position, outcome) in batch.positions.iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered(receipt) => {
                    self.shown_alive(began, is_away);
                    self.tell_delivered(position, &receipt);
                    // A receipt that can be derived is not stored.
                    let receipt = Some(receipt.0).filter(|receipt| *receipt != batch.seal.key);
                    closed.push((position, Recorded::Delivered { receipt }));
                }
                Outcome::Reject(failure) => {
                    self.shown_alive(began, is_away);
                    let attempts = self.attempts_on(position);
                    closed.push((position, self.tell_dead(position, failure, attempts)));
                }
                Outcome::Retry(failure) => return self.retry_sealed(batch, began, failure, is_away),
                Outcome::Untried => return self.sealed_untried(batch, began, is_away),
            }
        }
        self.record(closed);
    }

    fn retry_sealed(&mut self, batch: SealedBatch, began: Epoch, failure: Failure, is_away: bool) {
        let active = self.pace.active_time();
        let mut tried = Vec::with_capacity(batch.positions.len());
        for &position in &batch.positions {
            let Some(open) = self.ledger.get_mut(position) else { continue };
            let (attempts, spent) = open.failed(active);
            tried.push((position, attempts, spent));
        }
        let attempts = tried.iter().map(|&(_, attempts, _)| attempts).max().unwrap_or(1);
        let spent = tried.iter().map(|&(.., spent)| spent).max().unwrap_or_default();
        if !is_away {
            // One object failed once, however many pushes are in it.
            let turn = self.pace.failed(began, batch.positions[0], attempts == 1, &failure.reason);
            self.turn(turn, &failure.reason);
        }
        if self.plan.retry.gives_up(spent) && self.pace.pause().is_none() {
            return self.give_up_sealed(tried, &failure);
        }
        let wait = self.plan.retry.wait(attempts, failure.retry_after);
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let due_ms = Timestamp::now().as_millisecond().saturating_add(wait_ms);
        debug!(sink = %self.plan.name, key = batch.seal.key, attempts, wait_s = wait.as_secs_f64(), reason = failure.reason, "a sealed batch will be tried again");
        let retry = |(position, attempts, spent)| {
            self.status.count_failed(&failure.reason);
            (position, Recorded::Retry { attempts, spent, due_ms, answer: failure.reason.clone() })
        };
        let outcomes = tried.into_iter().map(retry).collect();
        // A retry stays open, so nothing waits for this to be durable.
        drop(self.store.record(&self.lane, outcomes));
        self.wait_sealed(batch, wait);
    }

    fn give_up_sealed(&mut self, tried: Vec<(Position, u32, Duration)>, last: &Failure) {
        let mut dead = Vec::with_capacity(tried.len());
        for (position, attempts, _) in tried {
            let reason = format!("given up after {attempts} attempts; the last: {}", last.reason);
            let failure = Failure { reason, ..last.clone() };
            dead.push((position, self.tell_dead(position, failure, attempts)));
        }
        self.record(dead);
    }

    fn sealed_untried(&mut self, batch: SealedBatch, began: Epoch, is_away: bool) {
        if is_away {
            return self.wait_sealed(batch, Duration::ZERO);
        }
        debug!(sink = %self.plan.name, key = batch.seal.key, "the sink made no attempt on a sealed batch, and is not away");
        self.keep_pause(began);
        let wait = batch.positions.first().map_or(Duration::ZERO, |&first| self.wait_untried(first));
        self.wait_sealed(batch, wait);
    }

    /// Its bodies are read again before the next attempt.
    fn wait_sealed(&mut self, batch: SealedBatch, wait: Duration) {
        self.ledger.let_go(&batch.positions);
        self.sealed.wait_until(Instant::now() + wait, batch);
    }
}
