//! Temporary lanes: begun, taken up after a start or a reload, retired when they are done.
//!
//! What an errand is lies in the spool; here is who runs it. One whose sink is not configured, or that nobody can read,
//! is parked: it waits like any lane, and its pushes with it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use cdr_core::{Batch, Delivery, Origin, SinkName, registry::AnySink};
use cdr_expression::ExpressionFault;
use cdr_spool::{ControlError, LaneState};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tracing::{error, info, warn};

use super::{
    Dispatcher,
    ending::{Ending, decided},
    errand_now::{ErrandNow, ErrandState, now, number_of},
};
use crate::{
    errand::{Errand, Replay, Wish, replay_facts},
    lane::{self, Control, Identity, LaneHandle, LanePlan, LaneStatus, NO_REPLAY_INTO_SEALS, Place},
    store::{Store, blocking},
    stored,
};

/// Most replays at once: each is a lane, and a sink that gets this many things at once is better helped by one.
const MOST_REPLAYS: usize = 16;

/// So many replays that are over are remembered until the process ends, for who asks how it went.
const REMEMBERED: usize = 32;

/// The errands that somebody runs, or ran.
#[derive(Default)]
pub(super) struct Errands(Mutex<Known>);

#[derive(Default)]
struct Known {
    running: BTreeMap<String, Running>,
    /// Why nobody can run them, by the names of their lanes.
    stuck: BTreeMap<String, String>,
    /// Lanes of replays that a person cancelled, until they are forgotten.
    cancelled: BTreeSet<String>,
    ended: VecDeque<ErrandNow>,
}

struct Running {
    sink: SinkName,
    errand: Arc<Errand>,
    handle: LaneHandle,
}

/// Why no replay was begun.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The sink is none of the configuration.
    #[error("there is no sink {sink:?}; there are: {known}")]
    UnknownSink {
        /// What was asked for.
        sink: String,
        /// Those there are.
        known: String,
    },
    /// The condition is none.
    #[error("--where: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Condition(Vec<ExpressionFault>),
    /// Nothing arrives in this time.
    #[error("no time lies between {from} and {to}")]
    NoTime {
        /// Its beginning.
        from: Timestamp,
        /// Its end.
        to: Timestamp,
    },
    /// It would put pushes into an archive twice.
    #[error("{NO_REPLAY_INTO_SEALS}")]
    Seals,
    /// Enough is enough.
    #[error(
        "{MOST_REPLAYS} replays are under way already; wait for one, or cancel it with cdr-gateway replay cancel"
    )]
    Many,
    /// There is no such replay.
    #[error("there is no replay {0}; cdr-gateway replay list tells which there are")]
    Unknown(u32),
    /// It was cancelled, and its lane has not ended.
    #[error(
        "replay {0} is told to end and begins nothing more, but the disk does not take its last outcomes or its sink blocks; it is \
         cancelled as soon as that is over, cdr-gateway replay list tells when"
    )]
    Ending(u32),
    /// The spool did not do it.
    #[error(transparent)]
    Spool(#[from] ControlError),
}

impl Errands {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // Inserting and looking up: nothing in here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn control_of(&self, lane: &str) -> Option<mpsc::Sender<Control>> {
        self.lock().running.get(lane).map(|running| running.handle.control.clone())
    }

    /// The lanes that nobody runs as errands. Looked up under one lock: one that is over leaves the spool first and those that
    /// run afterwards, and must not be seen in the one and missed in the other, or it would be run again, without an end.
    fn idle(&self, store: &Store) -> Vec<(String, LaneState)> {
        let known = self.lock();
        let mut lanes = store.spool().lanes();
        lanes.retain(|(lane, _)| !known.running.contains_key(lane));
        lanes
    }

    pub(super) fn why_parked(&self, lane: &str) -> Option<String> {
        self.lock().stuck.get(lane).cloned()
    }

    /// Takes out the errands of which the sink is gone, to be stopped.
    pub(super) fn without_sink(&self, stays: impl Fn(&SinkName) -> bool) -> Vec<(String, LaneHandle)> {
        let mut known = self.lock();
        let gone = known.running.extract_if(.., |_, running| !stays(&running.sink));
        gone.map(|(lane, running)| (lane, running.handle)).collect()
    }

    /// Takes out a replay that is to end; none if nobody runs it.
    fn begin_to_cancel(&self, lane: &str) -> Option<LaneHandle> {
        let mut known = self.lock();
        known.cancelled.insert(lane.to_owned());
        known.running.remove(lane).map(|running| running.handle)
    }

    /// Remembers how it ended before its lane goes, so that it is always to be seen. Nobody waits for it with a limit: what was
    /// asked of the spool happens, and until then nobody may run the lane again.
    async fn end(&self, store: &Store, ended: ErrandNow) -> Result<(), ControlError> {
        let lane = ended.lane.clone();
        {
            let mut known = self.lock();
            known.ended.push_front(ended);
            known.ended.truncate(REMEMBERED);
        }
        let retired = store.spool().retire_lane(&lane).await;
        let mut known = self.lock();
        known.cancelled.remove(&lane);
        match &retired {
            Ok(()) => drop(known.stuck.remove(&lane)),
            Err(_) => {
                drop(known.ended.iter().position(|ended| ended.lane == lane).map(|at| known.ended.remove(at)))
            }
        }
        retired
    }

    /// An errand's lane came to its end by itself: nothing is left of it.
    async fn done(&self, store: &Store, lane: &str, status: &LaneStatus) {
        let Some(state) = store.spool().lanes().into_iter().find(|(name, _)| name == lane) else { return };
        // Whoever took it out stopped it, and decides.
        let Some(errand) = self.lock().running.get(lane).map(|running| Arc::clone(&running.errand)) else {
            return;
        };
        let did = status.snapshot();
        let ended = ErrandNow {
            state: ErrandState::Ended,
            ..now(state, Some((Arc::clone(&errand), did.clone())), 0)
        };
        let sink = ended.sink.clone();
        if let Err(error) = self.end(store, ended).await {
            return warn!(lane, %error, "an errand is done and cannot be forgotten; the next start tries again");
        }
        self.lock().running.remove(lane);
        match &*errand {
            Errand::Replay(_) => {
                info!(replay = number_of(lane), sink, delivered = did.delivered, "a replay is over")
            }
            Errand::SetAside => {
                info!(sink, delivered = did.delivered, "everything that was set aside is delivered")
            }
            Errand::HandedOver { by } => {
                info!(sink, by, delivered = did.delivered, "everything that a renamed sink left is delivered")
            }
        }
    }
}

impl Dispatcher {
    /// Sends what is kept of this wish to a sink again: durably, so that it goes on after a restart. Gives its number.
    ///
    /// # Errors
    /// The sink, the condition or the time is none; or the sink seals; or it could not be made durable, or is not yet.
    pub async fn begin_replay(self: &Arc<Self>, sink: &str, wish: Wish) -> Result<u32, ReplayError> {
        let (plan, _) = self.plan_of(sink).ok_or_else(|| self.no_such_sink(sink))?;
        if let (Some(from), Some(to)) = (wish.from, wish.to)
            && from >= to
        {
            return Err(ReplayError::NoTime { from, to });
        }
        let checked = wish.clone();
        blocking(move || Replay::of(checked, "").map(drop)).await.map_err(ReplayError::Condition)?;
        // It reads the disk, which may take its time: nobody who changes lanes waits for that.
        if self.seals(plan.sink).await {
            return Err(ReplayError::Seals);
        }
        let (held, _) = self.hold_lanes().await?;
        if self.plan_of(sink).is_none() {
            return Err(self.no_such_sink(sink));
        }
        let is_replay = |errand: &&ErrandNow| errand.replay().is_some() && errand.is_under_way();
        if self.errands().iter().filter(is_replay).count() >= MOST_REPLAYS {
            return Err(ReplayError::Many);
        }
        let ms = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
        // An end within a millisecond takes in the whole of it; the replay itself looks at each push.
        let time = (ms(wish.from), ms(wish.to).map(|ms| ms.saturating_add(1)));
        let (dispatcher, sink) = (Arc::clone(self), sink.to_owned());
        let beginning = async move {
            let lane = dispatcher.store.spool().begin_errand(&sink, time, replay_facts(wish)).await?;
            let number = number_of(&lane).unwrap_or_default();
            info!(replay = number, sink, "a replay begins");
            dispatcher.start_errands(&held);
            Ok(number)
        };
        Ok(decided(beginning).await?)
    }

    /// Ends a replay where it is, and forgets its dead letters.
    ///
    /// # Errors
    /// There is no such replay, or it has not ended yet and will, or it could not be made durable: then it goes on.
    pub async fn cancel_replay(&self, number: u32) -> Result<ErrandNow, ReplayError> {
        let (mut ending, deadline) = self.hold_lanes().await?;
        let is_it = |errand: &ErrandNow| errand.id() == Some(number) && errand.is_under_way();
        let is_replay = |errand: &ErrandNow| !errand.errand.as_deref().is_some_and(Errand::is_owed);
        let found = self.errands().into_iter().find(|errand| is_it(errand) && is_replay(errand));
        let found = found.ok_or(ReplayError::Unknown(number))?;
        if found.state == ErrandState::Ending {
            return Err(ReplayError::Ending(number));
        }
        let lane = found.lane.clone();
        let (tell, told) = oneshot::channel();
        ending.insert(lane.clone(), self.cancel(found, tell));
        if ending.over(|name| name == lane, deadline).await.is_err() {
            return Err(ReplayError::Ending(number));
        }
        // Its task is over: it has told, unless it broke off.
        let cancelled = told.await.unwrap_or(Err(ControlError::Stopping));
        Ok(cancelled.inspect_err(|_| self.start_errands(&ending))?)
    }

    /// Stops what runs a replay, and forgets the replay when that has ended, however long the disk or the sink takes for it.
    fn cancel(
        &self,
        replay: ErrandNow,
        tell: oneshot::Sender<Result<ErrandNow, ControlError>>,
    ) -> JoinHandle<()> {
        let (errands, store) = (Arc::clone(&self.errands), Arc::clone(&self.store));
        let running = errands.begin_to_cancel(&replay.lane);
        tokio::spawn(async move {
            let mut cancelled = ErrandNow { state: ErrandState::Cancelled, ..replay };
            if let Some(LaneHandle { status, control, task, .. }) = running {
                // One that does not hear it is over at this moment, or ends with its control.
                let _ = control.try_send(Control::Stop(super::CLOSE_DEADLINE));
                drop(control);
                let _ = task.await;
                cancelled.did = Some(status.snapshot());
            }
            let ended = errands.end(&store, cancelled.clone()).await;
            let (lane, sink) = (cancelled.lane.clone(), cancelled.sink.clone());
            match &ended {
                Ok(()) => info!(replay = number_of(&lane), sink, "a replay was cancelled"),
                Err(error) => {
                    warn!(lane, %error, "a replay cannot be forgotten; it goes on, at the next reload or start at the latest")
                }
            }
            // Who asked may have gone.
            let _ = tell.send(ended.map(|()| cancelled));
        })
    }

    /// The errands that there are, then those that were over since this process began, the last one first.
    pub fn errands(&self) -> Vec<ErrandNow> {
        let spool = self.store.spool();
        // The lanes first: one that ends meanwhile is then among those that are over.
        let lanes = spool.lanes();
        let (mut ended, cancelled) = {
            let known = self.errands.lock();
            (known.ended.clone(), known.cancelled.clone())
        };
        // What a person cancelled has not ended before the disk has taken it.
        let is_there = |(lane, state): &(String, LaneState)| {
            let has_ended = || ended.iter().any(|ended| ended.lane == *lane);
            state.errand.is_some() && (cancelled.contains(lane) || !has_ended())
        };
        let there = lanes.into_iter().filter(is_there);
        let mut errands: Vec<ErrandNow> = there.map(|lane| self.errand_now(lane)).collect();
        ended.retain(|ended| !errands.iter().any(|there| there.lane == ended.lane));
        errands.sort_by_key(ErrandNow::id);
        errands.extend(ended);
        errands
    }

    fn errand_now(&self, (lane, state): (String, LaneState)) -> ErrandNow {
        let parked = self.why_parked(&lane, &state);
        let dead = self.store.spool().count_dead_letters(&lane);
        let (is_cancelled, run) = {
            let known = self.errands.lock();
            let run = known.running.get(&lane);
            let run = run.map(|running| (Arc::clone(&running.errand), running.handle.status.snapshot()));
            (known.cancelled.contains(&lane), run)
        };
        let readable =
            || state.errand.as_ref().and_then(|errand| Errand::from_spool(&lane, errand).ok()).map(Arc::new);
        let errand = run.as_ref().map(|(errand, _)| Arc::clone(errand)).or_else(readable);
        let now = ErrandNow { errand, ..now((lane, state), run, dead) };
        match parked {
            _ if is_cancelled => ErrandNow { state: ErrandState::Ending, ..now },
            Some(why) => ErrandNow { state: ErrandState::Parked(why), ..now },
            None => now,
        }
    }

    /// Runs the errands of which the sink is there and that nobody runs yet.
    pub(super) fn start_errands(&self, ending: &Ending) {
        let mut stuck = BTreeMap::new();
        for (lane, state) in self.errands.idle(&self.store) {
            let Some(kept) = state.errand.filter(|_| !ending.is_ending(&lane)) else { continue };
            let Some((plan, place)) = self.plan_of(&kept.sink) else { continue };
            match Errand::from_spool(&lane, &kept) {
                Ok(errand) => self.start_errand(lane, plan, &place, Arc::new(errand)),
                Err(why) => {
                    error!(
                        lane,
                        sink = kept.sink,
                        why,
                        "an errand cannot be run: it is parked, its pushes wait"
                    );
                    stuck.insert(lane, why);
                }
            }
        }
        self.errands.lock().stuck = stuck;
    }

    fn start_errand(&self, lane: String, plan: LanePlan, place: &Place, errand: Arc<Errand>) {
        // Held until it is known, so that it cannot be done before.
        let mut known = self.errands.lock();
        let sink = plan.name.clone();
        let identity = Identity { lane: lane.as_str().into(), errand: Some(Arc::clone(&errand)) };
        let plan = plan_for(plan, &errand);
        let LaneHandle { status, control, place, task } =
            lane::start(identity, plan, Arc::clone(&self.store), self.events.clone(), Some(place));
        let watched = watch(
            task,
            Arc::downgrade(&self.errands),
            Arc::clone(&self.store),
            lane.clone(),
            Arc::clone(&status),
        );
        let handle = LaneHandle { status, control, place, task: watched };
        known.running.insert(lane, Running { sink, errand, handle });
    }

    /// Runs what lanes set aside, for as long as the dispatcher is there.
    pub(super) async fn run_what_is_set_aside(dispatcher: Weak<Self>, mut heard: watch::Receiver<()>) {
        while heard.changed().await.is_ok() {
            let Some(dispatcher) = dispatcher.upgrade() else { return };
            let ending = dispatcher.ending.lock().await;
            dispatcher.start_errands(&ending);
        }
    }

    /// Hands the errands of a sink over to the sink as it is configured now.
    pub(super) async fn reconfigure_errands(&self, plan: &LanePlan) {
        let told: Vec<_> = {
            let known = self.errands.lock();
            let of_sink = known.running.values().filter(|running| running.sink == plan.name);
            of_sink
                .map(|running| (running.handle.control.clone(), plan_for(plan.clone(), &running.errand)))
                .collect()
        };
        for (control, plan) in told {
            // One that does not hear it is over.
            let _ = control.send(Control::Reconfigure(plan)).await;
        }
    }

    /// How a sink is driven, and where.
    pub(super) fn plan_of(&self, sink: &str) -> Option<(LanePlan, Place)> {
        let lanes = self.lock();
        let running = lanes.iter().find(|(name, _)| name.as_str() == sink).map(|(_, running)| running)?;
        Some((running.plan.clone(), running.handle.place.clone()))
    }

    fn no_such_sink(&self, sink: &str) -> ReplayError {
        let known: Vec<String> = self.lock().keys().map(ToString::to_string).collect();
        ReplayError::UnknownSink { sink: sink.to_owned(), known: known.join(", ") }
    }

    /// Whether the sink puts pushes into sealed batches, asked with one that is kept.
    async fn seals(&self, sink: Arc<dyn AnySink>) -> bool {
        let (spool, id) = (self.store.spool().clone(), self.store.id());
        blocking(move || {
            let mut from = cdr_spool::Position(0);
            // Quarantine, alerts and damage may come first.
            while let Ok(read) = spool.read(from, 64, 1 << 20) {
                let pushes = read.pushes.into_iter().map(|push| stored::from_spool(id, push));
                if let Some(push) = pushes.into_iter().find(|push| push.facts().origin == Origin::Push) {
                    let delivery = Delivery {
                        push,
                        routes: Arc::from([]),
                        attempt: 1,
                        replay: true,
                        may_be_there: true,
                    };
                    let batch = Batch::new(vec![delivery]);
                    return batch.is_some_and(|batch| {
                        lane::wanted_seal(sink.as_ref(), &batch).is_ok_and(|seal| seal.is_some())
                    });
                }
                if read.next <= from {
                    break;
                }
                from = read.next;
            }
            false
        })
        .await
    }
}

/// A replay goes one push at a time, so that the sink's own lane does not feel it, and no faster than it may.
fn plan_for(plan: LanePlan, errand: &Errand) -> LanePlan {
    match errand {
        Errand::HandedOver { .. } | Errand::SetAside => plan,
        Errand::Replay(replay) => {
            let rates = [plan.rate_limit, replay.wish().rate];
            let rate_limit = rates.into_iter().flatten().max_by_key(|rate| rate.spacing());
            LanePlan { concurrency: 1, rate_limit, ..plan }
        }
    }
}

/// Sees to the end of an errand's lane.
fn watch(
    task: JoinHandle<()>,
    errands: Weak<Errands>,
    store: Arc<Store>,
    lane: String,
    status: Arc<LaneStatus>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        // Then nobody knows what is left of it; the next start takes it up.
        if let Err(error) = task.await {
            return error!(lane, %error, "an errand broke off; its pushes wait for the next start");
        }
        // Gone with the dispatcher: then it was stopped.
        if let Some(errands) = errands.upgrade() {
            errands.done(&store, &lane, &status).await;
        }
    })
}
