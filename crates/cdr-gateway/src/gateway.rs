//! The running gateway: door, dispatcher, admin listener, alerts and manifests, wired as the plan says.
//!
//! [`Gateway::start`] opens the spool first and the door last; [`Gateway::stop`] goes the other way round, so
//! that no push is taken that cannot be kept, and none is answered that is not.

use std::{io, net::SocketAddr, sync::Arc};

use cdr_core::Sinks;
use cdr_dispatch::Dispatcher;
use cdr_ingress::{BindError, Door};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{error, info, warn};

use crate::{
    admin,
    alerts::Watch,
    config::{Plan, PlannedSink, Source},
    engine::{ATTEMPTS_GRACE, Engine, probe},
    manifests::Manifests,
    open_files,
    restart::StartedWith,
};

/// A gateway that runs.
pub struct Gateway {
    engine: Arc<Engine>,
    address: SocketAddr,
    admin_address: SocketAddr,
    stop: watch::Sender<bool>,
    door: JoinHandle<()>,
    admin: JoinHandle<()>,
    watch: JoinHandle<()>,
    manifests: JoinHandle<()>,
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
    #[error(
        "cannot listen at {address}: {source}; set admin.listen to an address of this machine and a free port"
    )]
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
        let started_with = StartedWith::of(&plan);
        let no_admin = |source| StartError::Admin { address: plan.admin.listen, source };
        let admin_listener = admin::bind(&plan.admin).await.map_err(no_admin)?;
        open_files::provide(plan.ingress.limits.connections);
        let door = Door::bind(plan.ingress).await?;
        let (events, heard) = mpsc::unbounded_channel();
        describe(&plan.sinks);
        let lanes = plan.sinks.iter().map(|sink| sink.lane.clone()).collect();
        let routing = cdr_dispatch::Plan { lanes, routes: plan.routes, alerts_to: plan.alerts.to.clone() };
        let (dispatcher, recovery) = Dispatcher::open(plan.spool, routing, events)?;
        tell_recovery(&recovery);
        let engine =
            Engine::new(dispatcher, door.handle(), started_with, plan.alerts, plan.archives, source, kinds);
        let engine = Arc::new(engine);
        engine.tell_parked();
        let stop = watch::Sender::new(false);
        let address = engine.address();
        let admin_address = admin_listener.local_addr().unwrap_or(plan.admin.listen);
        let admin = tokio::spawn(admin::serve(admin_listener, plan.admin, Arc::clone(&engine)));
        let watch = tokio::spawn(Watch::new(Arc::clone(&engine)).run(heard));
        let manifests = tokio::spawn(Manifests::new(Arc::clone(&engine)).run());
        let intake = Arc::clone(&engine.dispatcher);
        let mut stopped = stop.subscribe();
        let door = tokio::spawn(async move {
            door.serve(intake, async move { drop(stopped.wait_for(|stop| *stop).await) }).await;
        });
        info!(%address, admin = %admin_address, configuration = plan.digest, "ready: pushes are taken");
        tokio::spawn(probe(plan.sinks));
        Ok(Self { engine, address, admin_address, stop, door, admin, watch, manifests })
    }

    /// Where the door listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The gateway at work.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Stops in order: not ready, listener closed, requests finished, attempts finished or opened again,
    /// outcomes durable, spool released.
    pub async fn stop(self) {
        self.engine.begin_to_stop();
        self.stop.send_replace(true);
        if let Err(error) = self.door.await {
            error!(%error, "the door did not end in order");
        }
        let _no_reload = self.engine.no_more_reloads().await;
        self.engine.dispatcher.stop(ATTEMPTS_GRACE).await;
        self.watch.abort();
        self.manifests.abort();
        self.admin.abort();
        info!("stopped: everything taken is on disk");
    }
}

/// A line per sink: what it will do.
fn describe(sinks: &[PlannedSink]) {
    for sink in sinks {
        info!(sink = %sink.lane.name, kind = sink.kind, "{}", sink.lane.sink.describe());
    }
}

fn tell_recovery(recovery: &cdr_spool::Recovery) {
    let cdr_spool::Recovery { identity, end, segments, torn_bytes, took, .. } = recovery;
    info!(spool = %identity, %end, segments, took_ms = took.as_millis(), "spool open");
    if *torn_bytes > 0 {
        warn!(
            torn_bytes,
            "the last write before the stop is not whole and was cut; nothing in it was ever answered, unless the disk broke \
             it after the stop"
        );
    }
    for damage in &recovery.damage {
        error!(file = damage.file, offset = damage.offset, lost = ?damage.lost, "the disk damaged the spool; what is lost becomes dead letters");
    }
    if let Some(off) = recovery.clock_off {
        warn!(
            off_s = off.as_secs(),
            "the clock is far from the newest entry of the spool; nothing is expired by age for an hour"
        );
    }
}
