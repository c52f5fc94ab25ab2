//! The running gateway: door, dispatcher, admin listener and alerts, wired as the plan says.
//!
//! [`Gateway::start`] opens the spool first and the door last; [`Gateway::stop`] goes the other way round, so
//! that no push is taken that cannot be kept, and none is answered that is not.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use cdr_core::Sinks;
use cdr_dispatch::Dispatcher;
use cdr_ingress::{BindError, Door, DoorHandle, DoorSnapshot, Reloaded, Verdict};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{error, info, warn};

use crate::{
    admin,
    alerts::Watch,
    config::{self, Alerts, Finding, PlannedSink, Plan, Source},
};

/// How long attempts that are under way may take when the gateway stops or a sink goes away.
const ATTEMPTS_GRACE: Duration = Duration::from_secs(10);

/// A gateway that runs.
pub struct Gateway {
    inner: Arc<Inner>,
    address: SocketAddr,
    admin_address: SocketAddr,
    stop: watch::Sender<bool>,
    door: JoinHandle<()>,
    admin: JoinHandle<()>,
    watch: JoinHandle<()>,
}

/// What its parts share.
pub struct Inner {
    /// The spool, the routes and the lanes.
    pub dispatcher: Arc<Dispatcher>,
    /// `spool.max_size`, in bytes.
    pub spool_max_size: u64,
    /// When the process started.
    pub started_at: Timestamp,
    door: DoorHandle,
    kinds: Sinks,
    source: Source,
    alerts: ArcSwap<Alerts>,
    reload: Mutex<Reload>,
    reloading: tokio::sync::Mutex<()>,
    last_push: Mutex<(u64, Instant)>,
    stopping: AtomicBool,
}

/// How the last reload went.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// Whether it was refused.
    pub failed: bool,
    /// When a configuration was last taken.
    pub taken_at: Timestamp,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spool cannot be opened.
    #[error("{0}")]
    Spool(#[from] cdr_spool::OpenError),
    /// There is no door.
    #[error("{0}")]
    Door(#[from] BindError),
    /// The admin listener cannot be opened.
    #[error("cannot listen at {address}: {source}; set admin.listen to an address of this machine and a free port")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl Gateway {
    /// Starts what the plan says. `source` and `kinds` are for reloads.
    ///
    /// # Errors
    /// The spool is in use or cannot be read, or an address is taken. Nothing runs then.
    pub async fn start(plan: Plan, source: Source, kinds: Sinks) -> Result<Self, StartError> {
        let no_admin = |source| StartError::Admin { address: plan.admin.listen, source };
        let admin_listener = admin::bind(&plan.admin).await.map_err(no_admin)?;
        let door = Door::bind(plan.ingress).await?;
        let (events, heard) = mpsc::unbounded_channel();
        let spool_max_size = plan.spool.max_size;
        describe(&plan.sinks);
        let lanes = plan.sinks.iter().map(|sink| sink.lane.clone()).collect();
        let routing = cdr_dispatch::Plan { lanes, routes: plan.routes, alerts_to: plan.alerts.to.clone() };
        let (dispatcher, recovery) = Dispatcher::open(plan.spool, routing, events)?;
        tell_recovery(&recovery);
        let now = Timestamp::now();
        let inner = Arc::new(Inner {
            dispatcher: Arc::new(dispatcher),
            spool_max_size,
            started_at: now,
            door: door.handle(),
            kinds,
            source,
            alerts: ArcSwap::from_pointee(plan.alerts),
            reload: Mutex::new(Reload { failed: false, taken_at: now }),
            reloading: tokio::sync::Mutex::new(()),
            last_push: Mutex::new((0, Instant::now())),
            stopping: AtomicBool::new(false),
        });
        for lane in inner.dispatcher.parked() {
            warn!(
                sink = lane.name,
                open = lane.open,
                next = %lane.next,
                "the spool knows a sink that the configuration does not name: it is parked, its pushes wait until it is back under this name"
            );
        }
        let stop = watch::Sender::new(false);
        let address = inner.door.address();
        let admin_address = admin_listener.local_addr().unwrap_or(plan.admin.listen);
        let admin = tokio::spawn(admin::serve(admin_listener, plan.admin, Arc::clone(&inner), stop.subscribe()));
        let watch = tokio::spawn(Watch::new(Arc::clone(&inner)).run(heard));
        let intake = Arc::clone(&inner.dispatcher);
        let mut stopped = stop.subscribe();
        let door = tokio::spawn(async move {
            door.serve(intake, async move { drop(stopped.wait_for(|stop| *stop).await) }).await;
        });
        info!(%address, admin = %admin_address, configuration = plan.digest, "ready: pushes are taken");
        tokio::spawn(probe(plan.sinks));
        Ok(Self { inner, address, admin_address, stop, door, admin, watch })
    }

    /// Where the door listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What its parts share.
    pub fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Stops in order: not ready, listener closed, requests finished, attempts finished or opened again,
    /// outcomes durable, spool released.
    pub async fn stop(self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        if let Err(error) = self.door.await {
            error!(%error, "the door did not end in order");
        }
        self.inner.dispatcher.stop(ATTEMPTS_GRACE).await;
        self.watch.abort();
        self.admin.abort();
        info!("stopped: everything taken is on disk");
    }
}

impl Inner {
    /// What the door counted.
    pub fn door_counters(&self) -> DoorSnapshot {
        self.door.counters().snapshot()
    }

    /// Who hears alerts, and when.
    pub fn alert_settings(&self) -> Arc<Alerts> {
        self.alerts.load_full()
    }

    /// How the last reload went.
    pub fn last_reload(&self) -> Reload {
        *self.reload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the gateway is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// How long ago the last push came, repeats included; since the start when none did.
    pub fn since_last_push(&self) -> Duration {
        let door = self.door_counters();
        let taken = [Verdict::Stored, Verdict::Repeat, Verdict::UuidReused].map(|verdict| door.of(verdict));
        let taken = taken.into_iter().sum();
        let mut last = self.last_push.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != taken {
            *last = (taken, Instant::now());
        }
        last.1.elapsed()
    }

    /// Reads the configuration again and takes it as a whole, or leaves everything as it is. The listener stays
    /// open. The answer says what needs a restart.
    ///
    /// # Errors
    /// Every fault, each with its place.
    pub async fn reload(&self) -> Result<Vec<String>, Vec<String>> {
        // One at a time: two signals in a row must not interleave.
        let _turn = self.reloading.lock().await;
        let result = self.take_configuration().await;
        let mut reload = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(notes) => {
                *reload = Reload { failed: false, taken_at: Timestamp::now() };
                info!(configuration = %self.source.name(), notes = notes.join("; "), "configuration reloaded");
            }
            Err(faults) => {
                reload.failed = true;
                for fault in faults {
                    error!(fault, "the configuration was not taken; the gateway goes on with the one before");
                }
            }
        }
        result
    }

    async fn take_configuration(&self) -> Result<Vec<String>, Vec<String>> {
        let (plan, warnings) = self.read_configuration().await.map_err(|faults| to_text(&faults))?;
        let mut notes = to_text(&warnings);
        let lanes = plan.sinks.iter().map(|sink| sink.lane.clone()).collect();
        let routing = cdr_dispatch::Plan { lanes, routes: plan.routes, alerts_to: plan.alerts.to.clone() };
        let taken = self.dispatcher.reload(routing, ATTEMPTS_GRACE).await;
        taken.map_err(|error| vec![format!("{}: {error}", self.source.name())])?;
        notes.extend(self.reload_door(plan.ingress));
        self.alerts.store(Arc::new(plan.alerts));
        tokio::spawn(probe(plan.sinks));
        Ok(notes)
    }

    fn reload_door(&self, settings: cdr_ingress::IngressSettings) -> Vec<String> {
        match self.door.reload(settings) {
            Ok(Reloaded::Wholly) => Vec::new(),
            Ok(Reloaded::ListenNeedsRestart { now, then }) => {
                vec![format!("ingress.listen: the door stays at {now}; {then} takes a restart")]
            }
            // The plan has checked them; should it have missed one, the operator hears it.
            Err(faults) => faults.iter().map(|fault| format!("ingress.{fault}: the door keeps its settings")).collect(),
        }
    }

    /// Away from the async threads: it reads files.
    async fn read_configuration(&self) -> Result<(Plan, Vec<Finding>), Vec<Finding>> {
        let (source, kinds) = (self.source.clone(), self.kinds.clone());
        let read = tokio::task::spawn_blocking(move || config::load(&source, &kinds, config::environment()));
        match read.await {
            Ok(loaded) => loaded,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

fn to_text(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

/// A line per sink: what it will do.
fn describe(sinks: &[PlannedSink]) {
    for sink in sinks {
        info!(sink = %sink.lane.name, kind = sink.kind, "{}", sink.lane.sink.describe());
    }
}

/// Looks once whether the receivers are there; the operator reads it, nothing depends on it.
async fn probe(sinks: Vec<PlannedSink>) {
    for sink in sinks {
        let looked = tokio::time::timeout(Duration::from_secs(10), sink.lane.sink.probe()).await;
        if let Ok(Err(reason)) = looked {
            warn!(sink = %sink.lane.name, "{reason}; pushes wait safely");
        }
    }
}

fn tell_recovery(recovery: &cdr_spool::Recovery) {
    let cdr_spool::Recovery { identity, end, segments, torn_bytes, took, .. } = recovery;
    info!(spool = %identity, %end, segments, took_ms = took.as_millis(), "spool open");
    if *torn_bytes > 0 {
        warn!(torn_bytes, "the last write before the stop was unfinished and was cut; nothing in it was ever answered");
    }
    for damage in &recovery.damage {
        error!(file = damage.file, offset = damage.offset, lost = ?damage.lost, "the disk damaged the spool; what is lost becomes dead letters");
    }
    if let Some(off) = recovery.clock_off {
        warn!(off_s = off.as_secs(), "the clock is far from the newest entry of the spool; nothing is expired by age for an hour");
    }
}
