//! A lane: what drives one sink. Lanes share nothing but the spool, so a sink that is slow, away, hanging or
//! panicking leaves the others and the door alone.
//!
//! One thread a lane, one loop ([`Lane::run`]):
//! ```text
//!  spool ─read_ahead─▶ ledger ─▶ gather ─start_attempts─▶ sink
//!                        ▲                                  │ report
//!                        └── wait (back-off) ◀── settle ◀───┘
//!                                                 └─▶ outcome to the spool ─durable─▶ forgotten
//! ```
//! A delivery is forgotten only when its outcome is durable. What a crash interrupts is tried again.
//!
//! * `sealed`: batches that are all or nothing.
//! * `reading`: from the spool into the ledger; `unreadable`: what it does not give. * `settling`: from a report to an outcome.
//! * `aside`: a long backlog goes its own way. * `ledger`, `gather`, `pace`: what is open, what is ready, how fast. * `attempt`: one guarded attempt.
//! * `memos`: what the sink noted, and what it is to close. * `summary`: what the log hears. * `thread`: what a lane runs on.

mod aside;
mod attempt;
mod gather;
mod ledger;
mod memos;
mod pace;
mod reading;
mod sealed;
mod settling;
mod status;
mod summary;
mod thread;
mod unreadable;

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use cdr_core::{Batch, Delivery, Partition, Position, SinkName, registry::AnySink};
use cdr_spool::{LaneState, Outcome as Recorded};
use futures_util::{
    FutureExt,
    stream::{FuturesUnordered, StreamExt},
};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tracing::{error, info};

use self::{
    aside::Return,
    attempt::{Attempted, attempt, batching, weight},
    gather::{Gather, Ready},
    ledger::Ledger,
    memos::{Closed, Memos},
    pace::Pace,
    sealed::Sealed,
    summary::Summary,
    unreadable::Unreadable,
};
pub use self::{
    attempt::{NO_REPLAY_INTO_SEALS, wanted_seal},
    pace::HeldBack,
    sealed::SealedBatch,
    status::{LaneNow, LaneSnapshot, LaneStatus, PausedNow, UnreadableNow},
    thread::Place,
};
use crate::{errand::Errand, event::Event, rate::Rate, retry::RetryPolicy, store::Store, stored};

/// A lane whose own task panicked begins again after this, where the spool knows it to be.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);

/// After a look ahead that gave nothing to try, as when a batch is still gathering or all went elsewhere, a lane is not
/// woken by commits for this long: under load each is a wake-up, and there are hundreds in a second.
const NO_HURRY: Duration = Duration::from_millis(10);

/// No attempt begins while pushes of so many bytes are under way.
const TRYING_BYTES: usize = 3 << 20;

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
    /// Most pushes in a time, first attempts, retries and probes together; none: as fast as the sink takes them.
    pub rate_limit: Option<Rate>,
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
    Stop(Duration),
}

type Recording = Pin<Box<dyn Future<Output = Vec<Position>> + Send>>;

/// The task of one lane.
pub struct Lane {
    plan: LanePlan,
    /// Its name in the spool: that of its sink, but for errands.
    lane: Arc<str>,
    /// What it is for, if it is temporary.
    errand: Option<Arc<Errand>>,
    /// The first position that it never reads.
    until: Position,
    store: Arc<Store>,
    routed: watch::Receiver<Position>,
    events: mpsc::UnboundedSender<Event>,
    status: Arc<LaneStatus>,
    next: Position,
    ledger: Ledger,
    gather: Gather,
    pace: Pace,
    sealed: Sealed,
    summary: Summary,
    /// Tasks, on the lane's thread: they go on while the lane waits for the disk.
    attempts: JoinSet<Attempted>,
    /// Bytes of the pushes in them, as [`weight`] counts them.
    trying: usize,
    /// Final outcomes of this turn of the loop; the spool gets them in one go.
    finals: Vec<(Position, Recorded)>,
    recordings: FuturesUnordered<Recording>,
    /// What the sink noted about its partitions.
    memos: Memos,
    closings: FuturesUnordered<Pin<Box<dyn Future<Output = Closed> + Send>>>,
    /// What could not be read.
    unreadable: Unreadable,
    /// Nothing is read from the spool before this.
    read_again_at: Option<Instant>,
    /// Commits do not wake the lane before this; see [`NO_HURRY`].
    look_at: Option<Instant>,
    /// Deliveries that passed, to tell a push that is refused alone from a sink that is away.
    passed: u64,
    /// Whether a backlog is to be looked for.
    back: Return,
    /// The sink reported different outcomes within a sealed batch, and the log says so.
    said_mixed: bool,
    /// The sink panicked when asked how much may leave in an hour, and the log says so.
    said_panic: bool,
    /// Everything is read and tried, and dead letters wait.
    rests: bool,
}

/// What the dispatcher holds of a running lane.
pub struct LaneHandle {
    /// What the lane tells.
    pub status: Arc<LaneStatus>,
    /// What it can be told.
    pub control: mpsc::Sender<Control>,
    /// Where its sink is called, and nowhere else: its connections live there.
    pub place: Place,
    /// Ends when the lane has stopped.
    pub task: JoinHandle<()>,
}

/// What a lane is to the spool.
#[derive(Clone)]
pub struct Identity {
    /// Its name there.
    pub lane: Arc<str>,
    /// What it is for, if it is temporary.
    pub errand: Option<Arc<Errand>>,
}

/// Starts a lane where the spool knows it to be: on a thread of its own, or `beside` another of the same sink. One with an
/// errand ends when that is done.
pub fn start(
    identity: Identity,
    plan: LanePlan,
    store: Arc<Store>,
    events: mpsc::UnboundedSender<Event>,
    beside: Option<&Place>,
) -> LaneHandle {
    let (control, orders) = mpsc::channel(16);
    // What is set aside is the sink's backlog: its deliveries count as the sink's.
    let own = beside.filter(|_| matches!(identity.errand.as_deref(), Some(Errand::SetAside)));
    let status = Arc::new(own.map_or_else(LaneStatus::default, |place| LaneStatus::part_of(&place.status)));
    let name = plan.name.clone();
    let lane = supervise(identity, plan, store, events, Arc::clone(&status), orders);
    let (place, task) = match beside {
        Some(place) => (place.clone(), place.run_beside(lane)),
        None => thread::run(name.as_str(), Arc::clone(&status), lane),
    };
    LaneHandle { status, control, place, task }
}

/// Runs a lane to its stop. A panic in it, as of a sink that is dropped, ends neither the lane nor the process.
async fn supervise(
    identity: Identity,
    plan: LanePlan,
    store: Arc<Store>,
    events: mpsc::UnboundedSender<Event>,
    status: Arc<LaneStatus>,
    mut orders: mpsc::Receiver<Control>,
) {
    let mut lane = Lane::new(identity.clone(), plan, store, events, status);
    while let Err(panic) = AssertUnwindSafe(lane.run(&mut orders)).catch_unwind().await {
        let reason = attempt::message(panic.as_ref());
        error!(sink = %lane.plan.name, reason, "the lane panicked; it begins again where the spool knows it to be");
        lane.status.note_failure(&format!("the lane panicked: {reason}"));
        // What sinks confirmed in the turn that panicked is not sent again.
        lane.hand_over();
        tokio::time::sleep(BEGIN_AGAIN).await;
        let Lane { plan, store, events, status, .. } = lane;
        lane = Lane::new(identity.clone(), plan, store, events, status);
    }
}

impl Lane {
    fn new(
        Identity { lane, errand }: Identity,
        plan: LanePlan,
        store: Arc<Store>,
        events: mpsc::UnboundedSender<Event>,
        status: Arc<LaneStatus>,
    ) -> Self {
        let state = store.lane(&lane);
        let mut lane = Self {
            lane,
            errand,
            until: Position(state.ends().0),
            routed: store.routed(),
            events,
            status,
            next: Position(state.next.0),
            ledger: Ledger::default(),
            gather: Gather::new(batching(&plan.name, plan.sink.as_ref())),
            pace: Pace::new(plan.retry, plan.concurrency, plan.rate_limit),
            sealed: Sealed::default(),
            summary: Summary::default(),
            attempts: JoinSet::new(),
            trying: 0,
            finals: Vec::new(),
            recordings: FuturesUnordered::new(),
            memos: Memos::default(),
            closings: FuturesUnordered::new(),
            unreadable: Unreadable::default(),
            read_again_at: None,
            look_at: None,
            passed: 0,
            back: Return::default(),
            said_mixed: false,
            said_panic: false,
            rests: false,
            plan,
            store,
        };
        if lane.is_set_aside() {
            lane.pace.start_slowly();
        }
        lane.recover(state);
        lane.ask_anew();
        lane
    }

    /// Opens what the last process left open. No wait is longer than the longest back-off, whatever the wall
    /// clock did in between.
    fn recover(&mut self, state: LaneState) {
        let now_ms = Timestamp::now().as_millisecond();
        for (position, open) in &state.open {
            let left = Duration::from_millis(u64::try_from(open.due_ms.saturating_sub(now_ms)).unwrap_or(0));
            let due = Instant::now() + left.min(self.plan.retry.max);
            self.ledger.recovered(Position(position.0), open.attempts, open.spent, due);
        }
        self.recover_memos(&state);
        self.recover_sealed(&state);
    }

    /// Until it is told to stop.
    async fn run(&mut self, orders: &mut mpsc::Receiver<Control>) {
        loop {
            self.set_aside_backlog().await;
            let is_more_due = self.gather_due().await;
            self.try_sealed().await;
            let before = (self.next, self.attempts.len());
            let is_more = self.read_ahead().await || is_more_due;
            self.share_pace();
            self.start_attempts(is_more_due);
            self.share_pace();
            self.close_quiet();
            if self.next != before.0 && self.attempts.len() == before.1 {
                self.look_at = Some(Instant::now() + NO_HURRY);
            }
            self.hand_over();
            self.learn_age().await;
            self.tell();
            if self.is_done() {
                self.give_back_pace();
                return;
            }
            if let Some(delivered) = self.summary.take_due() {
                self.say_delivered(delivered);
            }
            let wake = if is_more { Instant::now() } else { self.next_wake() };
            tokio::select! {
                Some(attempted) = self.attempts.join_next() => {
                    self.after(attempted);
                    // What else is over settles in the same turn: one look ahead, one record for all of it.
                    while let Some(attempted) = self.attempts.try_join_next() {
                        self.after(attempted);
                    }
                }
                Some(closed) = self.recordings.next() => {
                    self.ledger.close(&closed);
                    self.forget_durable();
                }
                Some(closed) = self.closings.next() => self.closed(closed),
                _ = self.routed.changed(), if self.is_curious() => {}
                () = tokio::time::sleep_until(wake) => {}
                order = orders.recv() => match order {
                    Some(Control::Reconfigure(plan)) => self.reconfigure(plan),
                    Some(Control::Reopened(positions)) => self.reopen(&positions),
                    Some(Control::Stop(grace)) => return self.stop(grace).await,
                    None => return self.stop(Duration::ZERO).await,
                },
            }
        }
    }

    /// Whether a commit may wake the lane: not one that has enough to do, has just looked in vain, or is at
    /// its end.
    fn is_curious(&mut self) -> bool {
        self.look_at = self.look_at.filter(|&at| at > Instant::now());
        self.look_at.is_none() && self.may_hold_more() && self.next < self.until
    }

    // === attempts ===

    fn start_attempts(&mut self, is_more_due: bool) {
        while self.may_start() {
            let held = self.memos.held_until();
            self.gather.hold(held, is_more_due);
            let hurry = self.is_crowded();
            let push = |position| self.ledger.get(position).and_then(|open| open.push.as_ref());
            let size = |position| push(position).map_or(0, |push| push.body().len());
            let burden = |position| self.ledger.get(position).map_or(0, |open| open.burden());
            let ready = match self.pace.pause() {
                None => self.gather.next(size, hurry),
                // A sink that seals gets whole batches: an object a probe would leave many small ones.
                Some(_) if !self.sealed.is_empty() => self.gather.next(size, hurry),
                Some(_) => self.gather.probe(size, burden),
            };
            let Some(ready) = ready else { return };
            let deliveries = ready.positions.iter().filter_map(|&position| self.delivery(position)).collect();
            let Some(batch) = Batch::new(deliveries) else {
                self.gather.finished(&ready.partition, false);
                continue;
            };
            let batch = self.remembering(&ready, batch);
            self.start(Some(ready.partition), batch);
        }
    }

    /// What the sink noted about the partition goes with the batch, but for errands.
    fn remembering(&mut self, ready: &Ready, batch: Batch) -> Batch {
        if self.errand.is_some() {
            return batch;
        }
        if self.is_counted(&ready.partition) {
            self.memos.leaves();
        }
        batch.remembering(self.memos.get(&ready.partition)).held_back(ready.was_held)
    }

    fn may_start(&self) -> bool {
        self.has_room() && self.pace.held_until().is_none()
    }

    /// Whether one more attempt may be under way: large batches go one after the other, or a sink that gathers would
    /// hold as many as it may make attempts.
    fn has_room(&self) -> bool {
        self.trying < TRYING_BYTES && self.pace.room(self.attempts.len()) > 0
    }

    fn start(&mut self, partition: Option<Partition>, batch: Batch) {
        self.status.count_attempt();
        self.status.begins();
        self.pace.began(batch.deliveries().len());
        self.trying += weight(&batch);
        let (sink, store, lane) =
            (Arc::clone(&self.plan.sink), Arc::clone(&self.store), Arc::clone(&self.lane));
        for push in batch.pushes() {
            self.mark_tried(push.position(), true);
        }
        let in_doubt = self.in_doubt(&batch);
        self.attempts.spawn(attempt(sink, store, lane, partition, self.pace.epoch(), batch, in_doubt));
    }

    fn mark_tried(&mut self, position: Position, is_tried: bool) {
        if let Some(open) = self.ledger.get_mut(position) {
            open.is_tried = is_tried;
        }
    }

    /// Pushes of it that may be there already.
    fn in_doubt(&self, batch: &Batch) -> Vec<Position> {
        let may_be_there =
            |position: &Position| self.ledger.get(*position).is_some_and(|open| open.may_be_there);
        batch.pushes().map(|push| push.position()).filter(may_be_there).collect()
    }

    fn delivery(&mut self, position: Position) -> Option<Delivery> {
        let active = self.pace.active_time();
        let replay = matches!(self.errand.as_deref(), Some(Errand::Replay(_)));
        let open = self.ledger.get_mut(position)?;
        open.first_tried.get_or_insert(active);
        Some(Delivery {
            push: Arc::clone(open.push.as_ref()?),
            routes: Arc::clone(&open.routes),
            attempt: open.attempts.saturating_add(1),
            replay,
            may_be_there: replay || open.was_given(),
        })
    }

    // === errands ===

    /// The lane's name in the spool, if it is temporary.
    fn errand_lane(&self) -> Option<&str> {
        self.errand.is_some().then_some(&*self.lane)
    }

    /// Whether it has nothing left to do. With dead letters it waits for what a person decides.
    fn is_done(&mut self) -> bool {
        let is_idle = self.ledger.len() == 0
            && self.attempts.is_empty()
            && self.finals.is_empty()
            && self.recordings.is_empty();
        if self.errand.is_none() || self.next < self.until || !is_idle {
            return false;
        }
        let (open, dead) = self.store.spool().count_open(&self.lane);
        if open > 0 || dead == 0 {
            // What is open there was a dead letter a moment ago: this lane is about to hear of it.
            return open == 0;
        }
        if !std::mem::replace(&mut self.rests, true) {
            // Behind its last push may lie positions that are none. Else the spool would keep a segment for them.
            let end = Position(self.until.0.saturating_sub(1));
            drop(self.store.record(&self.lane, vec![(end, Recorded::Passed)]));
        }
        false
    }

    // === orders ===

    fn reconfigure(&mut self, plan: LanePlan) {
        let ready = self.gather.reconfigure(batching(&plan.name, plan.sink.as_ref()));
        self.pace.reconfigure(plan.retry, plan.concurrency, plan.rate_limit);
        self.back = Return::default();
        self.plan = plan;
        self.said_panic = false;
        self.ask_anew();
        ready.into_iter().for_each(|position| self.ready(position));
    }

    fn reopen(&mut self, positions: &[Position]) {
        // Their deaths may be durable without having been forgotten here; that must not happen afterwards.
        self.forget_durable();
        for &position in positions {
            self.ledger.reopened(position);
        }
        self.pace.probe_now();
    }

    /// Forgets deliveries whose outcome is durable by now.
    fn forget_durable(&mut self) {
        while let Some(Some(closed)) = self.recordings.next().now_or_never() {
            self.ledger.close(&closed);
        }
    }

    /// Lets attempts under way finish within `grace`, and cuts off the others.
    async fn stop(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        while let Ok(Some(attempted)) = tokio::time::timeout_at(deadline, self.attempts.join_next()).await {
            self.after(attempted);
            self.hand_over();
        }
        self.attempts.shutdown().await;
        self.give_back_pace();
        self.hand_over();
        self.record_doubt();
        while self.recordings.next().await.is_some() {}
        self.tell();
        if let Some(delivered) = self.summary.take() {
            self.say_delivered(delivered);
        }
    }

    /// What the sink may have taken without our knowing counts as one attempt, due at once, of which no time counts towards giving
    /// up: so the next process, or a sink with other settings, knows that it may be there. What is sealed needs no word: it is
    /// made again the same.
    fn record_doubt(&mut self) {
        let retry = || Recorded::Retry {
            attempts: 1,
            spent: Duration::ZERO,
            due_ms: Timestamp::now().as_millisecond(),
            answer: "the lane stopped before the sink confirmed it; it may be there".to_owned(),
        };
        let seals = self.store.lane(&self.lane).seals;
        let is_sealed = |position: &Position| {
            let position = stored::spool_position(*position);
            seals.iter().any(|seal| seal.positions.binary_search(&position).is_ok())
        };
        let in_doubt = self.ledger.in_doubt().filter(|position| !is_sealed(position));
        let outcomes: Vec<_> = in_doubt.map(|position| (position, retry())).collect();
        if outcomes.is_empty() {
            return;
        }
        let durable = self.store.record(&self.lane, outcomes);
        self.recordings.push(Box::pin(durable.map(|()| Vec::new())));
    }

    // === telling ===

    fn next_wake(&mut self) -> Instant {
        let read_again = if self.must_not_read() { self.read_again_at } else { None };
        let sealed = self.sealed.next_due().map(|due| read_again.map_or(due, |again| due.max(again)));
        let hurry = self.is_crowded() || (self.pace.pause().is_some() && self.sealed.is_empty());
        let ready = [self.gather.next_due(hurry), sealed].into_iter().flatten().min();
        let batch = match self.pace.pause().map(|pause| pause.probe_at) {
            Some(probe_at) if self.attempts.is_empty() => ready.map(|due| due.max(probe_at)),
            Some(_) => None,
            None if !self.has_room() => None,
            None => ready,
        };
        let held = self.pace.held_until();
        let batch = batch.map(|due| held.map_or(due, |until| due.max(until)));
        let idle = Instant::now() + Duration::from_secs(3600);
        let lets_go = self.next_let_go();
        [
            self.ledger.next_due(),
            self.next_close(),
            self.summary.due(),
            self.look_at,
            read_again,
            batch,
            lets_go,
        ]
        .into_iter()
        .flatten()
        .fold(idle, Instant::min)
    }

    /// When the hour lets leave what it holds back without bodies, and it may be read again.
    fn next_let_go(&mut self) -> Option<Instant> {
        let may_read = self.ledger.holds() && self.may_take_more() && !self.must_not_read();
        may_read.then(|| self.memos.held_until().unwrap_or_else(Instant::now))
    }

    /// Whether something could go out now if there were no rate limit.
    fn note_held(&mut self) -> HeldBack {
        let is_ready = |due: Option<Instant>| due.is_some_and(|due| due <= Instant::now());
        let is_held = self.has_room()
            && (is_ready(self.gather.next_due(self.is_crowded())) || is_ready(self.sealed.next_due()))
            && self.pace.held_until().is_some();
        self.pace.note_held(is_held)
    }

    fn tell(&mut self) {
        let paused = self.pace.pause().map(|pause| PausedNow {
            since: pause.since,
            reason: pause.reason.clone(),
            probe_at: pause.probe_at,
        });
        let (open, waiting) = (self.ledger.len(), self.ledger.waiting() + self.sealed.pushes());
        self.status.is_at(paused, self.next, open, waiting, self.attempts.len());
        self.status.cannot_read(self.unreadable.now());
        let held_back = self.note_held();
        self.status.is_held_back(held_back);
        self.status.oldest_is(self.ledger.oldest().and_then(|(_, open)| open.received_at_ms));
    }

    fn say_delivered(&self, delivered: u64) {
        let owed = self.ledger.len() as u64 + self.store.end().min(self.until).0.saturating_sub(self.next.0);
        info!(sink = %self.plan.name, delivered, owed, "delivered since the last such line");
    }
}
