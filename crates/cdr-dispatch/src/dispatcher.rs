//! The whole of it: what the door hands its pushes to, and what keeps the lanes running.

mod dead;
mod ending;
mod errand_now;
mod errands;
mod parked;

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use cdr_core::{
    Alert, Batch, Delivery, Facts, Incoming, Intake, NotStored, Origin, Outcome as Sent, Position, Push,
    Quarantined, SinkName, Stored, Suspect, registry::AnySink,
};
use cdr_spool::{AppendError, Appended, Appending, ControlError, NewLane, OpenError, Recovery, Settings};
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use tokio::{runtime::Handle, sync::mpsc};
use tracing::{error, warn};

use self::{ending::Ending, errand_now::sink_of, errands::Errands, parked::ParkedSince};
pub use self::{
    ending::StillEnding,
    errand_now::{ErrandNow, ErrandState},
    errands::ReplayError,
    parked::{Parked, RenameError, RetireError},
};
use crate::{
    event::Event,
    lane::{self, Control, Identity, LaneHandle, LanePlan, LaneSnapshot},
    route::Routes,
    routing::Routing,
    store::Store,
    stored,
};

/// An alert that is not stored within this is sent at once.
const ALERT_DEADLINE: Duration = Duration::from_secs(4);

/// What ends in order ends within this.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);

/// Everything that decides who gets what.
pub struct Plan {
    /// A lane for each sink.
    pub lanes: Vec<LanePlan>,
    /// Which pushes go where.
    pub routes: Routes,
    /// The sinks that get the gateway's own alerts.
    pub alerts_to: Vec<SinkName>,
}

impl Plan {
    fn new_lanes(&self) -> Vec<NewLane> {
        let lane = |plan: &LanePlan| NewLane { name: plan.name.to_string(), start: plan.start };
        self.lanes.iter().map(lane).collect()
    }

    fn into_parts(self) -> (Vec<LanePlan>, Routing) {
        let sinks: Vec<SinkName> = self.lanes.iter().map(|lane| lane.name.clone()).collect();
        (self.lanes, Routing::new(self.routes, self.alerts_to, sinks))
    }
}

/// The spool, the routes and the running lanes.
pub struct Dispatcher {
    store: Arc<Store>,
    lanes: Mutex<BTreeMap<SinkName, Running>>,
    /// Temporary lanes.
    errands: Arc<Errands>,
    /// Lanes whose sink is gone, while they finish their attempts. Held by whoever changes which lanes there are.
    ending: Arc<tokio::sync::Mutex<Ending>>,
    parked_since: ParkedSince,
    events: mpsc::UnboundedSender<Event>,
}

/// Why no new plan was taken.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A sink is back before its lane has ended, which must not be driven twice.
    #[error(transparent)]
    Ending(#[from] StillEnding),
    /// The spool did not do it.
    #[error(transparent)]
    Spool(#[from] ControlError),
}

struct Running {
    handle: LaneHandle,
    plan: LanePlan,
}

impl Dispatcher {
    /// Opens the spool and starts a lane for each sink. Events of the lanes go to `events`.
    ///
    /// # Errors
    /// The spool cannot be opened.
    pub fn open(
        spool: Settings,
        plan: Plan,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<(Arc<Self>, Recovery), OpenError> {
        let new_lanes = plan.new_lanes();
        let (lanes, routing) = plan.into_parts();
        let (store, recovery) = Store::open(spool, &new_lanes, routing)?;
        let ending = Arc::default();
        let errands = Arc::default();
        let parked_since = ParkedSince::new(store.end());
        let store = Arc::new(store);
        let lanes_now = Mutex::default();
        let dispatcher = Self { store, lanes: lanes_now, errands, ending, parked_since, events };
        let dispatcher = Arc::new(dispatcher);
        let set_aside = dispatcher.store.hear_set_aside();
        tokio::spawn(Self::run_what_is_set_aside(Arc::downgrade(&dispatcher), set_aside));
        lanes.into_iter().for_each(|lane| dispatcher.start_lane(lane));
        dispatcher.start_errands(&Ending::default());
        Ok((dispatcher, recovery))
    }

    /// Takes a new plan without stopping anything: sinks that stay are handed over, new ones start, those that
    /// are gone finish their attempts within `grace` and are parked.
    ///
    /// # Errors
    /// A new lane cannot be registered in time, or one that is back has not ended; then nothing changed.
    pub async fn reload(&self, plan: Plan, grace: Duration) -> Result<(), ReloadError> {
        let (mut ending, deadline) = self.hold_lanes().await?;
        let is_back = |lane: &str| {
            let sink = sink_of(lane);
            plan.lanes.iter().any(|plan| plan.name.as_str() == sink) && self.plan_of(sink).is_none()
        };
        ending.over(is_back, deadline).await?;
        let mut ending = self.register(ending, plan.new_lanes()).await?;
        let (lanes, routing) = plan.into_parts();
        let stays = |name: &SinkName| lanes.iter().any(|lane| lane.name == *name);
        let gone: Vec<_> = self.lock().extract_if(.., |name, _| !stays(name)).collect();
        let gone = gone.into_iter().map(|(name, lane)| (name.to_string(), lane.handle));
        let mut parked = Vec::new();
        for (name, handle) in gone.chain(self.errands.without_sink(stays)) {
            parked.push(name.clone());
            // A lane that does not hear it has ended already.
            let _ = handle.control.send(Control::Stop(grace)).await;
            ending.insert(name, handle.task);
        }
        self.store.route_by(routing);
        self.parked_since.note(parked, self.store.end());
        for lane in lanes {
            if self.lock().contains_key(&lane.name) {
                self.reconfigure(lane).await;
                continue;
            }
            self.start_lane(lane);
        }
        self.start_errands(&ending);
        Ok(())
    }

    async fn reconfigure(&self, plan: LanePlan) {
        if let Some(running) = self.lock().get_mut(&plan.name) {
            running.plan = plan.clone();
        }
        self.reconfigure_errands(&plan).await;
        let Some(control) = self.control_of(plan.name.as_str()) else { return };
        // A lane that is gone has stopped with the gateway; there is nothing to hand over to.
        let _ = control.send(Control::Reconfigure(plan)).await;
    }

    fn start_lane(&self, plan: LanePlan) {
        let identity = Identity { lane: plan.name.as_str().into(), errand: None };
        let handle = lane::start(identity, plan.clone(), Arc::clone(&self.store), self.events.clone(), None);
        self.lock().insert(plan.name.clone(), Running { handle, plan });
    }

    /// The spool and the routes.
    pub fn pushes(&self) -> &Arc<Store> {
        &self.store
    }

    /// How each lane is doing.
    pub fn lanes(&self) -> Vec<(SinkName, LaneSnapshot)> {
        self.lock().iter().map(|(name, lane)| (name.clone(), lane.handle.status.snapshot())).collect()
    }

    /// Tells the operators something: through the spool like any push, so that it is neither lost nor repeated;
    /// should the spool be what is broken, by one attempt on the spot.
    pub async fn raise(&self, alert: &Alert) {
        let Some(incoming) = incoming(alert) else { return };
        let storing = tokio::time::timeout(ALERT_DEADLINE, Intake::store(self, incoming.clone())).await;
        let not_stored = match storing {
            Ok(Ok(_)) => return,
            Ok(Err(reason)) => reason,
            Err(_) => NotStored::Slow(ALERT_DEADLINE),
        };
        warn!(kind = alert.kind.as_str(), reason = %not_stored, "the alert cannot be stored; it is sent at once, with one attempt");
        let push = Arc::new(Push::stored(self.store.id(), Position(0), incoming));
        for name in &self.store.routing().alerts_to {
            let lane = self
                .lock()
                .get(name)
                .map(|lane| (Arc::clone(&lane.plan.sink), lane.handle.place.runtime.clone()));
            if let Some((sink, runtime)) = lane {
                send_at_once(name, sink, &runtime, Arc::clone(&push)).await;
            }
        }
    }

    /// Takes bytes out of quarantine for good; those that were not there are left out of the answer.
    ///
    /// # Errors
    /// It could not be made durable.
    pub async fn discard_quarantine(&self, numbers: &[Position]) -> Result<Vec<Position>, ControlError> {
        let numbers: Vec<_> = numbers.iter().copied().map(stored::spool_position).collect();
        let discarded = self.store.spool().discard_quarantine(&numbers).await?;
        Ok(discarded.into_iter().map(stored::position).collect())
    }

    fn control_of(&self, lane: &str) -> Option<mpsc::Sender<Control>> {
        let lanes = self.lock();
        let known = lanes.iter().find(|(name, _)| name.as_str() == lane);
        known.map(|(_, lane)| lane.handle.control.clone()).or_else(|| self.errands.control_of(lane))
    }

    /// Ends the lanes, their attempts within `grace`, then makes the spool's last outcomes durable and lets go of it.
    pub async fn stop(&self, grace: Duration) {
        // Outcomes that a broken disk never takes must not hold the process for ever; they repeat after the start. Nor must
        // somebody who changes which lanes there are, and waits for them.
        if tokio::time::timeout(grace + CLOSE_DEADLINE, self.stop_lanes(grace)).await.is_err() {
            error!(
                "some outcomes could not be made durable; their pushes are delivered again after the next start"
            );
        }
        if tokio::time::timeout(CLOSE_DEADLINE, self.store.spool().close()).await.is_err() {
            error!("the spool did not close in time; what was answered is on disk all the same");
        }
    }

    async fn stop_lanes(&self, grace: Duration) {
        let lanes = std::mem::take(&mut *self.lock());
        let mut tasks = Vec::new();
        let handles = lanes.into_values().map(|lane| lane.handle);
        for handle in
            handles.chain(self.errands.without_sink(|_| false).into_iter().map(|(_, handle)| handle))
        {
            let _ = handle.control.send(Control::Stop(grace)).await;
            tasks.push(handle.task);
        }
        join_all(tasks).await;
        // Last: whoever waits for one of these lanes holds them, perhaps for as long as all of this may take.
        let ending = std::mem::take(&mut *self.ending.lock().await);
        join_all(ending.into_tasks()).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SinkName, Running>> {
        // Inserting and looking up: nothing in here panics half-way.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn incoming(alert: &Alert) -> Option<Incoming> {
    let body = Bytes::from(serde_json::to_vec(alert).ok()?);
    let facts = Facts {
        action: Alert::ACTION.parse().ok()?,
        version: None,
        // Two alerts of equal text are two alerts.
        uuid: Some(uuid::Uuid::new_v4().to_string()),
        received_at: alert.at,
        sender: None,
        origin: Origin::Alert,
        sha256: Sha256::digest(&body).into(),
    };
    Some(Incoming { facts, body, cdr: None })
}

/// On the thread of its lane, where a sink that blocks blocks itself alone.
async fn send_at_once(name: &SinkName, sink: Arc<dyn AnySink>, lane: &Handle, push: Arc<Push>) {
    let delivery = Delivery { push, routes: Arc::from([]), attempt: 1, replay: false, may_be_there: false };
    let Some(batch) = Batch::new(vec![delivery]) else { return };
    let sending = lane.spawn(async move { sink.deliver(&batch).await });
    let running = sending.abort_handle();
    let Ok(sent) = tokio::time::timeout(Duration::from_secs(30), sending).await else {
        running.abort();
        return error!(sink = %name, reason = "the sink did not come back in time", "the alert could not be sent");
    };
    let reason = match sent.as_ref().map(|report| (report.outcomes(), report.why_unavailable())) {
        Ok(([Sent::Delivered(_)], _)) => return,
        Ok((_, Some(away))) => &away.reason,
        Ok(([Sent::Retry(failure) | Sent::Reject(failure)], None)) => &failure.reason,
        Ok(_) => "the sink made no attempt",
        Err(_) => "the sink panicked, or its lane has ended",
    };
    error!(sink = %name, reason, "the alert could not be sent");
}

/// A push on its way to the disk.
#[must_use = "only its outcome tells whether the push is kept"]
pub struct Storing(Appending);

impl Future for Storing {
    type Output = Result<Stored, NotStored>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|appended| appended.map(stored_as).map_err(not_stored))
    }
}

fn stored_as(appended: Appended) -> Stored {
    let (repeat, uuid_reused) = match appended {
        Appended::Stored { uuid_reused, .. } => (false, uuid_reused),
        Appended::Repeat { .. } => (true, false),
    };
    Stored { position: stored::position(appended.position()), repeat, uuid_reused }
}

impl Intake for Dispatcher {
    type Storing = Storing;

    fn store(&self, push: Incoming) -> Storing {
        Storing(self.store.spool().append(stored::to_spool(Box::new(push))))
    }

    async fn quarantine(&self, suspect: Suspect) -> Result<Quarantined, NotStored> {
        let kept = self.store.spool().quarantine(stored::to_quarantine(suspect)).await.map_err(not_stored)?;
        Ok(Quarantined { number: stored::position(kept.position), repeat: !kept.is_new })
    }
}

fn not_stored(error: AppendError) -> NotStored {
    match error {
        AppendError::Full { .. } => NotStored::Full,
        AppendError::QuarantineFull { .. } => NotStored::QuarantineFull,
        AppendError::Busy { .. } => NotStored::Busy,
        AppendError::Stopping => NotStored::Stopping,
        other => NotStored::Failing(other.to_string()),
    }
}
