//! From the spool into the ledger: retries whose wait is over, and pushes that the lane has not seen yet.

use std::{sync::Arc, time::Duration};

use cdr_core::{Failure, Position, Push};
use cdr_spool::Outcome;
use tokio::time::Instant;

use super::{Lane, attempt, ledger::Ledger};
use crate::{errand::Errand, routing::Goes, store::BACKLOG_BYTES, window::Routed};

/// How many due deliveries are read back from the spool at a time, if they are small.
const READ_BACK: usize = 64;

/// How many pushes one look ahead takes in.
const READ_AHEAD: usize = 256;

/// Bytes of pushes that may be ready or under way in memory; beyond this they stay on disk.
const IN_HAND_BYTES: usize = 6 << 20;

/// What the hour holds back for no longer stays in memory.
const SOON: Duration = Duration::from_secs(2);

/// When nobody can decide where a push goes, the lane looks again after this.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl Lane {
    /// Moves retries whose wait is over to the batches that may go out; reads their bodies back where needed. True when it should
    /// look again at once.
    pub(super) async fn gather_due(&mut self) -> bool {
        for position in self.ledger.take_due() {
            self.ready(position);
        }
        // Only as many as can be tried soon: a long queue of due retries stays on disk.
        if !self.may_take_more() || self.must_not_read() {
            return false;
        }
        let lets = self.memos.held_until().is_none();
        let unread = self.ledger.unread(READ_BACK, lets);
        if unread.is_empty() {
            return false;
        }
        let mut read = self.store.get(unread.clone(), BACKLOG_BYTES).await.into_iter();
        for position in unread {
            match read.next() {
                Some(Ok(push)) => self.came_back(position, push),
                Some(Err(error)) => self.not_read(position, &error).await,
                None => self.ledger.still_unread(position),
            }
        }
        self.ledger.has_unread(lets) && self.may_take_more() && !self.must_not_read()
    }

    fn came_back(&mut self, position: Position, push: Option<Arc<Push>>) {
        self.was_read(position);
        match push {
            Some(push) => self.read_back(position, push),
            None => self.lose(position),
        }
    }

    fn read_back(&mut self, position: Position, push: Arc<Push>) {
        let Some(open) = self.ledger.get(position) else { return };
        let never_tried = open.attempts == 0 && !open.is_wanted;
        let routes = match self.goes_today(&push) {
            Goes::By(routes) => Some(routes),
            // It was read before a crash and nothing came of it: the routes of today decide, as they would have.
            Goes::Elsewhere if never_tried => return self.record([(position, Outcome::Passed)]),
            Goes::Elsewhere => None,
            Goes::Undecided => {
                self.ledger.still_unread(position);
                self.read_again_at = Some(Instant::now() + READ_AGAIN);
                return;
            }
        };
        if let Some(open) = self.ledger.get_mut(position) {
            open.received_at_ms = Some(push.facts().received_at.as_millisecond());
            open.routes = routes.unwrap_or_else(|| Arc::clone(&open.routes));
            open.push = Some(push);
        }
        self.ready(position);
    }

    /// What the hour holds back makes room for what it does not, such as alerts: it waits in the ledger, without bodies.
    fn let_held_wait(&mut self) {
        // Once some of it does, so does what comes after it: the hour then lets the oldest leave first.
        let is_much = self.is_full_up() || self.ledger.holds();
        let Some(until) = self.memos.held_until().filter(|_| is_much) else { return };
        if until.duration_since(Instant::now()) > SOON {
            self.gather.give_away_held(until).into_iter().for_each(|position| self.ledger.hold(position));
        }
    }

    /// Reads pushes that the lane has not seen yet, one look at a time; true when it should look again at once.
    pub(super) async fn read_ahead(&mut self) -> bool {
        self.let_held_wait();
        let may_read =
            |lane: &Self| lane.may_hold_more() && lane.next < lane.store.routed_end().min(lane.until);
        if self.must_not_read() || !may_read(self) {
            return false;
        }
        match self.store.read(self.next, READ_AHEAD).await {
            Ok(read) => {
                self.was_read_ahead();
                if self.take_in(read.pushes) {
                    self.next = read.next.min(self.until);
                    let lost = read.lost.into_iter().filter(|&position| position < self.next);
                    lost.collect::<Vec<_>>().into_iter().for_each(|position| self.lose(position));
                }
            }
            Err(error) => self.not_read_ahead(&error).await,
        }
        self.let_held_wait();
        !self.must_not_read() && may_read(self)
    }

    /// False when it stopped half-way, at a push about which nobody could decide.
    fn take_in(&mut self, pushes: Vec<Arc<Routed>>) -> bool {
        let mut passed = Vec::new();
        let mut undecided = None;
        let until = self.until;
        for routed in pushes.into_iter().take_while(|routed| routed.push.position() < until) {
            let position = routed.push.position();
            match self.goes(&routed) {
                Goes::By(routes) => {
                    self.ledger.read(Arc::clone(&routed.push), routes);
                    self.ready(position);
                }
                Goes::Elsewhere => passed.push((position, Outcome::Passed)),
                Goes::Undecided => {
                    undecided = Some(position);
                    break;
                }
            }
        }
        if !passed.is_empty() {
            self.record(passed);
        }
        if let Some(position) = undecided {
            self.next = position;
            self.read_again_at = Some(Instant::now() + READ_AGAIN);
        }
        undecided.is_none()
    }

    /// A push may have been routed by a configuration that did not name this sink yet, or no longer; then that of
    /// today decides. When it does not know the sink either, this lane is about to be stopped: a configuration
    /// edit never decides about data.
    fn goes(&self, routed: &Routed) -> Goes {
        match routed.destinations.to(&self.plan.name) {
            decided if decided != Goes::Undecided && self.errand.is_none() => decided,
            _ => self.goes_today(&routed.push),
        }
    }

    /// What decides today: the routes, or the wish of the person who began a replay.
    fn goes_today(&self, push: &Push) -> Goes {
        match self.errand.as_deref() {
            Some(Errand::Replay(replay)) => replay.goes(push),
            Some(Errand::HandedOver { .. } | Errand::SetAside) | None => {
                self.store.decide(push).to(&self.plan.name)
            }
        }
    }

    /// A push whose bytes the disk lost: nobody waits for it, a person learns of it.
    pub(super) fn lose(&mut self, position: Position) {
        let lost = Failure::new("damaged on disk: the push's bytes cannot be read");
        let attempts = self.ledger.get(position).map_or(0, |open| open.attempts);
        self.bury(position, lost, attempts);
    }

    pub(super) fn must_not_read(&mut self) -> bool {
        self.read_again_at = self.read_again_at.filter(|&at| at > Instant::now());
        self.read_again_at.is_some()
    }

    /// Whether as much is ready as can be tried soon: two rounds of attempts, and no more than fits in memory.
    fn is_full_up(&self) -> bool {
        let two_rounds = self.plan.concurrency.saturating_mul(self.gather.batch_size()).saturating_mul(2);
        self.gather.len() >= two_rounds.clamp(64, Ledger::MOST) || self.ready_bytes() >= IN_HAND_BYTES
    }

    fn ready_bytes(&self) -> usize {
        self.gather.bytes() + self.gather.len() * Routed::OVERHEAD
    }

    /// Whether bodies may be read: what is under way takes of the same room.
    pub(super) fn may_take_more(&self) -> bool {
        !self.is_full_up() && self.ready_bytes() + self.trying < IN_HAND_BYTES
    }

    /// Whether pushes may be read that the lane has not seen yet.
    pub(super) fn may_hold_more(&self) -> bool {
        self.may_take_more() && self.ledger.has_room()
    }

    /// Whether what is ready can get no company any more: then no batch waits for it. What is under way makes room
    /// when it is over, so that does not count.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_full_up() || !self.ledger.has_room()
    }

    pub(super) fn ready(&mut self, position: Position) {
        let Some(open) = self.ledger.get(position) else { return };
        let Some(push) = open.push.as_ref() else { return };
        let (goes_alone, bytes) = (open.goes_alone, push.body().len());
        let partition = match attempt::partition(self.plan.sink.as_ref(), push) {
            Ok(partition) => partition,
            Err(failure) => return self.not_gathered(position, failure),
        };
        let is_counted = self.is_counted(&partition);
        self.gather.add(partition, position, bytes, is_counted, goes_alone);
    }

    /// A push that its sink cannot even look at fails alone, as if it had been tried.
    fn not_gathered(&mut self, position: Position, failure: Failure) {
        let active = self.pace.active_time();
        if let Some(open) = self.ledger.get_mut(position) {
            open.first_tried.get_or_insert(active);
        }
        self.retry(position, self.pace.epoch(), failure, false);
    }

    /// The age of the oldest delivery is the first thing an operator looks at; after a restart it waits for its
    /// next attempt unread, so somebody has to look.
    pub(super) async fn learn_age(&mut self) {
        let Some((position, open)) = self.ledger.oldest() else { return };
        if open.received_at_ms.is_some() || self.must_not_read() {
            return;
        }
        let read = self.store.get(vec![position], usize::MAX).await.pop();
        let Some(open) = self.ledger.get_mut(position) else { return };
        // What cannot be read is told elsewhere; here it only must not be asked for again and again.
        open.received_at_ms = match read {
            Some(Ok(Some(push))) => Some(push.facts().received_at.as_millisecond()),
            _ => Some(jiff::Timestamp::now().as_millisecond()),
        };
    }
}
