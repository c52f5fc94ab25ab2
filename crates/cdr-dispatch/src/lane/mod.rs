//! A lane: what drives one sink. Lanes share nothing but the spool, so a sink that is slow, away, hanging or
//! panicking leaves the others and the door alone.
//!
//! One task a lane, one loop ([`Lane::run`]):
//! ```text
//!  spool ─read_ahead─▶ ledger ─▶ gather ─start_attempts─▶ sink
//!                        ▲                                  │ report
//!                        └── wait (back-off) ◀── settle ◀───┘
//!                                                 └─▶ outcome to the spool ─durable─▶ forgotten
//! ```
//! A delivery is forgotten only when its outcome is durable. What a crash interrupts is tried again.

mod attempt;
mod gather;
mod ledger;
mod pace;
mod status;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use cdr_core::{
    Batch, Delivery, Failure, Origin, Outcome, Position, Push, Receipt, SinkName, registry::AnySink,
};
use cdr_spool::{LaneState, Outcome as Recorded};
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, error, info, warn};

pub use self::status::{LaneNow, LaneSnapshot, LaneStatus, PausedNow};
use self::{
    attempt::{Attempted, attempt},
    gather::Gather,
    ledger::Ledger,
    pace::{Pace, Turn},
};
use crate::{event::Event, retry::RetryPolicy, store::Store, window::Routed};

/// How many due deliveries are read back from the spool at a time.
const READ_BACK: usize = 64;

/// How many pushes one look ahead takes in.
const READ_AHEAD: usize = 256;

/// When the spool cannot be read, the lane looks again after this.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// A sink and how its lane shall drive it.
#[derive(Clone)]
pub struct LanePlan {
    /// The sink's name.
    pub name: SinkName,
    /// The sink.
    pub sink: Arc<dyn AnySink>,
    /// When again, and when never again.
    pub retry: RetryPolicy,
    /// Most attempts at once, at least 1.
    pub concurrency: usize,
    /// Where it starts to read when the spool does not know it yet.
    pub start: cdr_spool::Start,
}

/// What a lane can be told while it runs.
pub enum Control {
    /// Drive this sink from now on; attempts under way finish with the old one.
    Reconfigure(LanePlan),
    /// These deliveries were dead letters and are open again.
    Reopened(Vec<Position>),
    /// Finish the attempts under way within this time, open the others again, and end.
    Stop(Duration, oneshot::Sender<()>),
}

type Recording = Pin<Box<dyn Future<Output = Vec<Position>> + Send>>;

/// The task of one lane.
pub struct Lane {
    plan: LanePlan,
    store: Arc<Store>,
    committed: watch::Receiver<Position>,
    control: mpsc::Receiver<Control>,
    events: mpsc::UnboundedSender<Event>,
    status: Arc<LaneStatus>,
    next: Position,
    ledger: Ledger,
    gather: Gather,
    pace: Pace,
    attempts: JoinSet<Attempted>,
    recordings: FuturesUnordered<Recording>,
    read_again_at: Option<Instant>,
}

/// What the dispatcher holds of a running lane.
pub struct LaneHandle {
    /// What the lane tells.
    pub status: Arc<LaneStatus>,
    /// What it can be told.
    pub control: mpsc::Sender<Control>,
}

impl Lane {
    /// Starts a lane where the spool says it was.
    pub fn start(
        plan: LanePlan,
        state: LaneState,
        store: Arc<Store>,
        events: mpsc::UnboundedSender<Event>,
    ) -> LaneHandle {
        let (control, orders) = mpsc::channel(16);
        let status = Arc::new(LaneStatus::default());
        let mut lane = Self {
            committed: store.committed(),
            control: orders,
            events,
            status: Arc::clone(&status),
            next: Position(state.next.0),
            ledger: Ledger::default(),
            gather: Gather::new(plan.sink.batching()),
            pace: Pace::new(plan.retry, plan.concurrency),
            attempts: JoinSet::new(),
            recordings: FuturesUnordered::new(),
            read_again_at: None,
            plan,
            store,
        };
        lane.recover(state);
        tokio::spawn(lane.run());
        LaneHandle { status, control }
    }

    /// Opens what the last process left open. No wait is longer than the longest back-off, whatever the wall
    /// clock did in between.
    fn recover(&mut self, state: LaneState) {
        let now_ms = Timestamp::now().as_millisecond();
        for (position, open) in state.open {
            let left = Duration::from_millis(u64::try_from(open.due_ms.saturating_sub(now_ms)).unwrap_or(0));
            let due = Instant::now() + left.min(self.plan.retry.max);
            self.ledger.recovered(Position(position.0), open.attempts, open.spent, due);
        }
    }

    async fn run(mut self) {
        loop {
            self.gather_due().await;
            self.read_ahead().await;
            self.start_attempts();
            self.tell();
            let wake = self.next_wake();
            tokio::select! {
                Some(attempted) = self.attempts.join_next() => self.after(attempted),
                Some(closed) = self.recordings.next() => self.ledger.close(&closed),
                _ = self.committed.changed() => {}
                () = tokio::time::sleep_until(wake) => {}
                order = self.control.recv() => match order {
                    Some(Control::Reconfigure(plan)) => self.reconfigure(plan),
                    Some(Control::Reopened(positions)) => self.reopen(&positions),
                    Some(Control::Stop(grace, done)) => {
                        self.stop(grace).await;
                        let _ = done.send(());
                        return;
                    }
                    None => return self.stop(Duration::ZERO).await,
                },
            }
        }
    }

    // === reading ===

    /// Moves retries whose wait is over to the batches that may go out; reads their bodies back where needed.
    async fn gather_due(&mut self) {
        for position in self.ledger.take_due() {
            self.ready(position);
        }
        // Only as many as can be tried soon: a long queue of due retries stays on disk.
        if self.gather.len() >= self.appetite() || self.must_not_read() {
            return;
        }
        let unread = self.ledger.unread(READ_BACK);
        if unread.is_empty() {
            return;
        }
        match self.store.get(unread.clone()).await {
            Ok(pushes) => {
                let pushes = unread.into_iter().zip(pushes);
                pushes.for_each(|(position, push)| self.read_back(position, push));
            }
            Err(error) => {
                self.ledger.still_unread(unread);
                self.cannot_read(&error.to_string());
            }
        }
    }

    fn read_back(&mut self, position: Position, push: Option<Arc<Push>>) {
        let Some(push) = push else {
            return self.lose(position);
        };
        let never_tried = self.ledger.get(position).is_some_and(|open| open.attempts == 0);
        let routes = self.store.decide(&push).to(&self.plan.name);
        // It was read before a crash and nothing came of it: the routes of today decide, as they would have.
        if never_tried && routes.is_none() {
            return self.record(vec![(position, Recorded::Passed)]);
        }
        if let Some(open) = self.ledger.get_mut(position) {
            open.received_at_ms = Some(push.facts().received_at.as_millisecond());
            open.routes = routes.unwrap_or_else(|| Arc::clone(&open.routes));
            open.push = Some(push);
        }
        self.ready(position);
    }

    /// Reads pushes that the lane has not seen yet, as many as can be tried soon.
    async fn read_ahead(&mut self) {
        while self.gather.len() < self.appetite()
            && self.ledger.has_room()
            && self.next < self.store.end()
            && !self.must_not_read()
        {
            match self.store.read(self.next, READ_AHEAD).await {
                Ok(read) => self.take_in(read.pushes, read.next, &read.lost),
                Err(error) => return self.cannot_read(&error.to_string()),
            }
        }
    }

    fn take_in(&mut self, pushes: Vec<Arc<Routed>>, next: Position, lost: &[Position]) {
        let mut passed = Vec::new();
        for routed in pushes {
            let position = routed.push.position();
            match routed.destinations.to(&self.plan.name) {
                Some(routes) => {
                    self.ledger.read(Arc::clone(&routed.push), routes);
                    self.ready(position);
                }
                None => passed.push((position, Recorded::Passed)),
            }
        }
        self.next = next;
        lost.iter().for_each(|&position| self.lose(position));
        if !passed.is_empty() {
            self.record(passed);
        }
    }

    /// A push whose bytes the disk lost: nobody waits for it, a person learns of it.
    fn lose(&mut self, position: Position) {
        let lost = Failure::new("damaged on disk: the push's bytes cannot be read");
        let attempts = self.ledger.get(position).map_or(0, |open| open.attempts);
        self.bury(position, None, lost, attempts);
    }

    fn cannot_read(&mut self, error: &str) {
        error!(sink = %self.plan.name, error, "cannot read the spool; the lane looks again in a second");
        self.read_again_at = Some(Instant::now() + READ_AGAIN);
    }

    fn must_not_read(&mut self) -> bool {
        self.read_again_at = self.read_again_at.filter(|&at| at > Instant::now());
        self.read_again_at.is_some()
    }

    /// How many deliveries may be ready at once: two rounds of attempts.
    fn appetite(&self) -> usize {
        (self.plan.concurrency * self.gather.batch_size() * 2).clamp(64, Ledger::MOST)
    }

    fn ready(&mut self, position: Position) {
        if let Some(push) = self.ledger.get(position).and_then(|open| open.push.as_ref()) {
            self.gather.add(self.plan.sink.partition(push), position, push.body().len());
        }
    }

    // === attempts ===

    fn start_attempts(&mut self) {
        while self.pace.room(self.attempts.len()) > 0 {
            let size = |position| {
                self.ledger.get(position).and_then(|open| open.push.as_ref()).map_or(0, |p| p.body().len())
            };
            let is_fresh = |position| self.ledger.get(position).is_some_and(|open| open.attempts == 0);
            let Some(ready) = self.gather.next(self.pace.pause().is_some(), size, is_fresh) else { return };
            let deliveries = ready.positions.iter().filter_map(|&position| self.delivery(position)).collect();
            let Some(batch) = Batch::new(deliveries) else {
                self.gather.finished(&ready.partition, false);
                continue;
            };
            self.status.count_attempt();
            self.attempts.spawn(attempt(Arc::clone(&self.plan.sink), ready.partition, batch));
        }
    }

    fn delivery(&mut self, position: Position) -> Option<Delivery> {
        let active = self.pace.active_time();
        let open = self.ledger.get_mut(position)?;
        open.first_tried.get_or_insert(active);
        Some(Delivery {
            push: Arc::clone(open.push.as_ref()?),
            routes: Arc::clone(&open.routes),
            attempt: open.attempts.saturating_add(1),
            replay: false,
        })
    }

    // === reports ===

    fn after(&mut self, attempted: Result<Attempted, tokio::task::JoinError>) {
        match attempted {
            Ok(attempted) => self.settle(attempted),
            // `attempt` catches panics, and nobody aborts it but `stop`, which does not look here.
            Err(error) => error!(sink = %self.plan.name, %error, "an attempt ended without a report"),
        }
    }

    fn settle(&mut self, attempted: Attempted) {
        let Attempted { partition, positions, report } = attempted;
        let (outcomes, unavailable) = report.into_parts();
        let delivered = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Delivered(_)));
        self.gather.finished(&partition, delivered);
        let is_away = unavailable.is_some();
        for (position, outcome) in positions.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered(receipt) => self.close(position, &receipt),
                Outcome::Retry(failure) => self.retry(position, failure, is_away),
                Outcome::Reject(failure) => self.reject(position, failure),
                Outcome::Untried => self.untried(position, is_away),
            }
        }
        if let Some(away) = unavailable {
            let turn = self.pace.unavailable(&away.reason, away.retry_after);
            self.turn(turn, &away.reason);
        }
    }

    fn close(&mut self, position: Position, receipt: &Receipt) {
        let turn = self.pace.succeeded();
        self.turn(turn, "");
        self.status.count_delivered();
        let open = self.ledger.get(position);
        let session_id = open.and_then(|open| open.push.as_ref()).and_then(|push| push.session_id());
        let attempts = open.map_or(1, |open| open.attempts + 1);
        info!(%position, session_id, sink = %self.plan.name, status = "delivered", attempts, receipt = receipt.0, "delivered");
        self.record(vec![(position, Recorded::Delivered { receipt: Some(receipt.0.clone()) })]);
    }

    fn retry(&mut self, position: Position, failure: Failure, is_away: bool) {
        let active = self.pace.active_time();
        let Some(open) = self.ledger.get_mut(position) else { return };
        open.attempts = open.attempts.saturating_add(1);
        let spent = open.spent + active.saturating_sub(open.first_tried.unwrap_or(active));
        let attempts = open.attempts;
        if !is_away {
            let turn = self.pace.failed(position, &failure.reason);
            self.turn(turn, &failure.reason);
        }
        if self.plan.retry.gives_up(spent) && self.pace.pause().is_none() {
            let reason = format!("given up after {attempts} attempts; the last: {}", failure.reason);
            return self.bury(position, self.session_of(position), Failure { reason, ..failure }, attempts);
        }
        let wait = self.plan.retry.wait(attempts, failure.retry_after);
        let due_ms = Timestamp::now()
            .as_millisecond()
            .saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        debug!(%position, sink = %self.plan.name, attempts, wait_s = wait.as_secs_f64(), reason = failure.reason, "will be tried again");
        self.status.count_failed(&failure.reason);
        self.ledger.wait(position, wait);
        // A retry stays open, so nothing waits for this to be durable.
        let answer = failure.reason;
        drop(
            self.store.record(
                &self.plan.name,
                vec![(position, Recorded::Retry { attempts, spent, due_ms, answer })],
            ),
        );
    }

    fn reject(&mut self, position: Position, failure: Failure) {
        // The sink read it and said no: it is there.
        let turn = self.pace.succeeded();
        self.turn(turn, "");
        let attempts = self.ledger.get(position).map_or(1, |open| open.attempts + 1);
        self.bury(position, self.session_of(position), failure, attempts);
    }

    fn untried(&mut self, position: Position, is_away: bool) {
        // A sink that tries nothing and gives no reason must not spin.
        let wait = if is_away { Duration::ZERO } else { self.plan.retry.initial };
        self.ledger.wait(position, wait);
    }

    fn bury(&mut self, position: Position, session_id: Option<String>, failure: Failure, attempts: u32) {
        self.status.count_died(&failure.reason);
        warn!(%position, session_id, sink = %self.plan.name, status = "dead", attempts, reason = failure.reason,
            "dead letter: kept until someone retries or discards it");
        let push = self.ledger.get(position).and_then(|open| open.push.as_ref());
        let origin = push.map_or(Origin::Push, |push| push.facts().origin);
        let _ = self.events.send(Event::Died {
            sink: self.plan.name.clone(),
            position,
            session_id,
            origin,
            reason: failure.reason.clone(),
        });
        let Failure { reason, excerpt, .. } = failure;
        self.record(vec![(position, Recorded::Dead { reason, excerpt, attempts })]);
    }

    fn session_of(&self, position: Position) -> Option<String> {
        self.ledger.get(position)?.push.as_ref()?.session_id().map(str::to_owned)
    }

    /// Hands final outcomes to the spool; the deliveries are forgotten when they are durable.
    fn record(&mut self, outcomes: Vec<(Position, Recorded)>) {
        let positions: Vec<Position> = outcomes.iter().map(|(position, _)| *position).collect();
        let durable = self.store.record(&self.plan.name, outcomes);
        self.recordings.push(Box::pin(async move {
            durable.await;
            positions
        }));
    }

    fn turn(&mut self, turn: Turn, reason: &str) {
        let sink = &self.plan.name;
        match turn {
            Turn::None => {}
            Turn::Paused => {
                self.status.note_failure(reason);
                let next = self
                    .pace
                    .pause()
                    .map_or(0.0, |pause| pause.probe_at.duration_since(Instant::now()).as_secs_f64());
                warn!(%sink, reason, probe_in_s = next, "sink is away: its lane pauses, pushes wait safely");
                let _ = self.events.send(Event::Paused { sink: sink.clone(), reason: reason.to_owned() });
            }
            Turn::Resumed => {
                info!(%sink, "sink is back: its lane runs again");
                let _ = self.events.send(Event::Resumed { sink: sink.clone() });
            }
        }
    }

    // === orders ===

    fn reconfigure(&mut self, plan: LanePlan) {
        self.gather.reconfigure(plan.sink.batching());
        self.pace.reconfigure(plan.retry, plan.concurrency);
        self.plan = plan;
    }

    fn reopen(&mut self, positions: &[Position]) {
        for &position in positions {
            // It was tried before it died; so routes that no longer name this sink do not close it unseen.
            self.ledger.recovered(position, 1, Duration::ZERO, Instant::now());
        }
        self.pace.probe_now();
    }

    /// Lets attempts under way finish within `grace`; what is cut off counts as not tried.
    async fn stop(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        while let Ok(Some(attempted)) = tokio::time::timeout_at(deadline, self.attempts.join_next()).await {
            self.after(attempted);
        }
        self.attempts.shutdown().await;
        while self.recordings.next().await.is_some() {}
        self.tell();
    }

    // === telling ===

    fn next_wake(&mut self) -> Instant {
        let batch = match self.pace.pause().map(|pause| pause.probe_at) {
            Some(probe_at) if self.attempts.is_empty() => {
                self.gather.next_due(true).map(|due| due.max(probe_at))
            }
            Some(_) => None,
            None if self.pace.room(self.attempts.len()) == 0 => None,
            None => self.gather.next_due(false),
        };
        let read_again = if self.must_not_read() { self.read_again_at } else { None };
        let idle = Instant::now() + Duration::from_secs(3600);
        [self.ledger.next_due(), read_again, batch].into_iter().flatten().fold(idle, Instant::min)
    }

    fn tell(&self) {
        let paused = self.pace.pause().map(|pause| PausedNow {
            since: pause.since,
            reason: pause.reason.clone(),
            probe_in: pause.probe_at.saturating_duration_since(Instant::now()),
        });
        let (open, waiting) = (self.ledger.len(), self.ledger.waiting());
        self.status.is_at(paused, self.next, open, waiting, self.attempts.len());
        self.status.oldest_is(self.ledger.oldest().and_then(|(_, open)| open.received_at_ms));
    }
}
