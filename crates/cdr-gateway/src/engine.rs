//! The gateway at work, for whoever looks at it or changes it: what admin listener, metrics, alerts and signals
//! share. [`Engine::reload`] lives here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use cdr_core::Sinks;
use cdr_dispatch::Dispatcher;
use cdr_ingress::{Allow, DoorHandle, DoorSnapshot, Newcomer, Reloaded, Stranger, Verdict};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    config::{self, Alerts, Archive, Finding, Plan, PlannedSink, Source},
    open_files,
    restart::StartedWith,
};

/// How long attempts that are under way may take when the gateway stops or a sink goes away.
pub const ATTEMPTS_GRACE: Duration = Duration::from_secs(10);

/// The gateway at work.
pub struct Engine {
    /// The spool, the routes and the lanes.
    pub dispatcher: Arc<Dispatcher>,
    /// The settings that no reload changes.
    pub started_with: StartedWith,
    /// When the process started.
    pub started_at: Timestamp,
    door: DoorHandle,
    kinds: Sinks,
    source: Source,
    alerts: ArcSwap<Alerts>,
    archives: ArcSwap<Vec<Archive>>,
    /// By archive the time before which every day has its manifest.
    manifests_until: Mutex<BTreeMap<String, Timestamp>>,
    reload: Mutex<Reload>,
    reloading: tokio::sync::Mutex<()>,
    last_push: Mutex<(u64, Instant)>,
    stopping: CancellationToken,
}

/// How the last reload went.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// Whether it was refused.
    pub failed: bool,
    /// When a configuration was last taken.
    pub taken_at: Timestamp,
}

impl Engine {
    /// Puts the parts together. `source` and `kinds` are for reloads.
    pub fn new(
        dispatcher: Arc<Dispatcher>,
        door: DoorHandle,
        started_with: StartedWith,
        alerts: Alerts,
        archives: Vec<Archive>,
        source: Source,
        kinds: Sinks,
    ) -> Self {
        let now = Timestamp::now();
        Self {
            dispatcher,
            started_with,
            started_at: now,
            door,
            kinds,
            source,
            alerts: ArcSwap::from_pointee(alerts),
            archives: ArcSwap::from_pointee(archives),
            manifests_until: Mutex::default(),
            reload: Mutex::new(Reload { failed: false, taken_at: now }),
            reloading: tokio::sync::Mutex::new(()),
            last_push: Mutex::new((0, Instant::now())),
            stopping: CancellationToken::new(),
        }
    }

    /// Where the door is.
    pub fn address(&self) -> std::net::SocketAddr {
        self.door.address()
    }

    /// From now on the gateway is not ready, and takes no configuration; one that is being read is dropped.
    pub fn begin_to_stop(&self) {
        self.stopping.cancel();
    }

    /// Waits for the end of a reload that was under way: the lanes that it starts would outlive the stop. The
    /// answer is held until the end; it is none when a broken disk holds the reload up.
    pub async fn no_more_reloads(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        tokio::time::timeout(ATTEMPTS_GRACE, self.reloading.lock()).await.ok()
    }

    /// What the door counted.
    pub fn door_counters(&self) -> DoorSnapshot {
        self.door.counters().snapshot()
    }

    /// Which networks may push, as the door has it now.
    pub fn allow(&self) -> Option<Allow> {
        self.door.allow()
    }

    /// Who passed the door only because of `allow: { mode: log }`.
    pub fn newcomers(&self) -> Vec<Newcomer> {
        self.door.newcomers()
    }

    /// Who was refused at the door lately, and may have been TCCC.
    pub fn strangers(&self) -> Vec<Stranger> {
        self.door.strangers()
    }

    /// When the certificate of the door ends; none without TLS.
    pub fn certificate_expires_at(&self) -> Option<Timestamp> {
        self.door.certificate_expires_at()
    }

    /// Who hears alerts, and when.
    pub fn alert_settings(&self) -> Arc<Alerts> {
        self.alerts.load_full()
    }

    /// The archives, to be read back.
    pub fn archives(&self) -> Arc<Vec<Archive>> {
        self.archives.load_full()
    }

    /// Every day of an archive that ended before this time has its manifest, or held nothing.
    pub fn note_manifests(&self, sink: &str, until: Timestamp) {
        self.lock_manifests().insert(sink.to_owned(), until);
    }

    /// A look failed. An archive of which nothing is known yet then has no manifest of any day: who alerts must see it.
    pub fn note_no_manifests(&self, sink: &str) {
        self.lock_manifests().entry(sink.to_owned()).or_insert(Timestamp::UNIX_EPOCH);
    }

    /// By archive the time before which every day has its manifest; none until that was looked at.
    pub fn manifests_until(&self) -> BTreeMap<String, Timestamp> {
        self.lock_manifests().clone()
    }

    fn lock_manifests(&self) -> MutexGuard<'_, BTreeMap<String, Timestamp>> {
        // Nothing in here panics half-way.
        self.manifests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the last reload went.
    pub fn last_reload(&self) -> Reload {
        *self.reload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the gateway is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Does it, unless the gateway stops before that.
    pub async fn unless_stopping<T>(&self, doing: impl Future<Output = T>) -> Option<T> {
        self.stopping.run_until_cancelled(doing).await
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
    /// Every fault, each with its place; or that the gateway is stopping.
    pub async fn reload(&self) -> Result<Vec<String>, Vec<String>> {
        // One at a time: two signals in a row must not interleave.
        let in_turn = async { (self.reloading.lock().await, self.read_configuration().await) };
        let Some((_turn, read)) = self.stopping.run_until_cancelled(in_turn).await else {
            return Err(vec![
                "the gateway is stopping; it reads its configuration at the next start".to_owned(),
            ]);
        };
        let result = match read {
            Ok((plan, warnings)) => self.take(plan, to_text(&warnings)).await,
            Err(faults) => Err(to_text(&faults)),
        };
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

    async fn take(&self, plan: Plan, mut notes: Vec<String>) -> Result<Vec<String>, Vec<String>> {
        notes.extend(self.started_with.differences(&plan));
        let lanes = plan.sinks.iter().map(|sink| sink.lane.clone()).collect();
        let routing = cdr_dispatch::Plan { lanes, routes: plan.routes, alerts_to: plan.alerts.to.clone() };
        let taken = self.dispatcher.reload(routing, ATTEMPTS_GRACE).await;
        taken.map_err(|error| vec![format!("{}: {error}", self.source.name())])?;
        self.tell_parked();
        notes.extend(self.reload_door(plan.ingress));
        self.alerts.store(Arc::new(plan.alerts));
        self.lock_manifests().clear();
        self.archives.store(Arc::new(plan.archives));
        tokio::spawn(probe(plan.sinks));
        Ok(notes)
    }

    /// Warns of lanes that nobody drives: they hold pushes, and in the end the whole spool.
    pub fn tell_parked(&self) {
        for lane in self.dispatcher.parked() {
            let cdr_dispatch::Parked { name, unread, open, why, .. } = lane;
            warn!(
                sink = name,
                unread,
                open,
                why,
                "a lane of the spool is parked: its pushes wait until its sink is back, or cdr-gateway sink rename or retire decides"
            );
        }
    }

    fn reload_door(&self, settings: cdr_ingress::IngressSettings) -> Vec<String> {
        let (settings, mut notes) = self.started_with.hold(settings);
        open_files::provide(settings.limits.connections);
        match self.door.reload(settings) {
            Ok(Reloaded::Wholly) => {}
            Ok(Reloaded::ListenNeedsRestart { now, then }) => {
                notes.push(format!("ingress.listen: the door stays at {now}; {then} takes a restart"));
            }
            // The plan has checked them; should it have missed one, the operator hears it.
            Err(faults) => {
                let kept = |fault| format!("ingress.{fault}: the door keeps its settings");
                notes.extend(faults.iter().map(kept));
            }
        }
        notes
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

/// Looks once whether the receivers are there; the operator reads it, nothing depends on it.
pub async fn probe(sinks: Vec<PlannedSink>) {
    for sink in sinks {
        let looked = tokio::time::timeout(Duration::from_secs(10), sink.lane.sink.probe()).await;
        if let Ok(Err(reason)) = looked {
            warn!(sink = %sink.lane.name, "{reason}; pushes wait safely");
        }
    }
}
