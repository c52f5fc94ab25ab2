//! The listener: accepts, limits, reloads, and closes in good order.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use cdr_core::{Intake, SettingFault};
use jiff::Timestamp;
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{
    Allow, Newcomer, Stranger,
    connection::{self, Stop},
    counters::DoorCounters,
    keeper::{Keeper, Policy},
    settings::IngressSettings,
    tls,
    visit::Visit,
};

/// How long requests may take to finish when the gateway stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How long accepting rests after it failed, mostly for want of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How often it is told what was not told one by one.
const TELL: Duration = Duration::from_secs(60);

/// A listener that is bound and does not accept yet.
pub struct Door {
    listener: TcpListener,
    handle: DoorHandle,
}

/// Looks at a door and reloads it while it serves.
#[derive(Clone)]
pub struct DoorHandle {
    keeper: Arc<Keeper>,
    /// As the settings had it when it was bound.
    listen: SocketAddr,
    /// As the system gave it.
    address: SocketAddr,
}

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The settings cannot work.
    #[error("{}", .0.iter().map(|fault| format!("ingress.{fault}")).collect::<Vec<_>>().join("; "))]
    Settings(Vec<SettingFault>),
    /// Nobody can listen there.
    #[error(
        "cannot listen at {address}: {error}; set ingress.listen to an address of this machine and a free port"
    )]
    Listen {
        /// `ingress.listen`.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

/// What a reload did. All settings but `listen` are in force.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reloaded {
    /// All is in force.
    Wholly,
    /// `listen` has changed, and takes a restart.
    ListenNeedsRestart {
        /// Where the door stays until then.
        now: SocketAddr,
        /// What the settings say.
        then: SocketAddr,
    },
}

impl Door {
    /// Takes the address. Connections wait in the system's queue until [`serve`](Self::serve).
    ///
    /// # Errors
    /// The settings cannot work, or nobody can listen there.
    pub async fn bind(settings: IngressSettings) -> Result<Self, BindError> {
        let listen = settings.listen;
        let policy = Policy::new(settings).map_err(BindError::Settings)?;
        let no_listener = |error| BindError::Listen { address: listen, error };
        let listener = TcpListener::bind(listen).await.map_err(no_listener)?;
        let address = listener.local_addr().map_err(no_listener)?;
        let handle = DoorHandle { keeper: Arc::new(Keeper::new(policy)), listen, address };
        Ok(Self { listener, handle })
    }

    /// What stays when the door serves.
    pub fn handle(&self) -> DoorHandle {
        self.handle.clone()
    }

    /// Serves until `shutdown`; then closes the listener, finishes requests for at most 5 s, and returns.
    ///
    /// What was handed to the intake goes on beyond that if it must; the answer to it does not.
    pub async fn serve<I: Intake>(self, intake: Arc<I>, shutdown: impl Future<Output = ()>) {
        let Self { listener, handle: DoorHandle { keeper, .. } } = self;
        let (tasks, stop) = (TaskTracker::new(), Stop::default());
        tokio::select! {
            () = shutdown => {}
            () = accept_all(&listener, &keeper, &intake, &tasks, &stop) => {}
            () = watch_certificate(&keeper) => {}
        }
        drop(listener);
        stop.finish.cancel();
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            let connections = keeper.counters.open_connections();
            tracing::warn!(
                connections,
                "requests did not finish within {DRAIN:?}; their senders get no answer"
            );
        }
        stop.abandon.cancel();
        keeper.tell_the_last();
    }
}

impl DoorHandle {
    /// Where the door is; with the port that the system chose when the settings left it open.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counts.
    pub fn counters(&self) -> &DoorCounters {
        &self.keeper.counters
    }

    /// Who passed since the start only because of `allow: { mode: log }`, and is in no network that is allowed now.
    pub fn newcomers(&self) -> Vec<Newcomer> {
        self.keeper.newcomers()
    }

    /// Which networks may push, as the settings in force say.
    pub fn allow(&self) -> Option<Allow> {
        self.keeper.policy.load().settings.allow.clone()
    }

    /// Who was refused lately, and may have been whom the operator waits for.
    pub fn strangers(&self) -> Vec<Stranger> {
        self.keeper.strangers()
    }

    /// When the certificate in use ends; none without TLS.
    pub fn certificate_expires_at(&self) -> Option<Timestamp> {
        self.keeper.policy.load().tls.as_ref().map(|tls| tls.material().expires_at)
    }

    /// Puts other settings in force for every request that begins from now on. The listener and all
    /// connections stay; `limits.header_timeout` counts for new connections. One with a client certificate for which
    /// `tls.client_ca` vouches no more ends with its next request.
    ///
    /// # Errors
    /// The settings cannot work; nothing has changed.
    pub fn reload(&self, settings: IngressSettings) -> Result<Reloaded, Vec<SettingFault>> {
        let then = settings.listen;
        self.keeper.policy.store(Arc::new(Policy::new(settings)?));
        match then == self.listen {
            true => Ok(Reloaded::Wholly),
            false => Ok(Reloaded::ListenNeedsRestart { now: self.address, then }),
        }
    }
}

async fn accept_all<I: Intake>(
    listener: &TcpListener,
    keeper: &Arc<Keeper>,
    intake: &Arc<I>,
    tasks: &TaskTracker,
    stop: &Stop,
) {
    let mut tell = tokio::time::interval_at(Instant::now() + TELL, TELL);
    let mut failing = false;
    loop {
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    rest_after(&error, &mut failing).await;
                    continue;
                }
            },
            _ = tell.tick() => {
                keeper.tell_of_the_minute();
                continue;
            }
        };
        if std::mem::take(&mut failing) {
            tracing::info!("connections are accepted again");
        }
        welcome(socket, peer.ip(), keeper, intake, tasks, stop);
    }
}

/// Takes other certificates as their files change. Away from the async threads: it reads files.
async fn watch_certificate(keeper: &Keeper) {
    loop {
        tokio::time::sleep(tls::LOOK).await;
        if let Some(tls) = keeper.policy.load().tls.clone()
            && let Err(error) = tokio::task::spawn_blocking(move || tls.look()).await
        {
            tracing::error!(%error, "looking at the files of ingress.tls was broken off");
        }
    }
}

/// Serves a connection, or turns it away when there are too many.
fn welcome<I: Intake>(
    socket: TcpStream,
    peer: IpAddr,
    keeper: &Arc<Keeper>,
    intake: &Arc<I>,
    tasks: &TaskTracker,
    stop: &Stop,
) {
    // Answers are one small packet each; a system that refuses this only makes them later.
    let _ = socket.set_nodelay(true);
    let policy = keeper.policy.load();
    let rejection = match keeper.seat(&policy, peer) {
        Ok(seat) => {
            let (keeper, intake, stores) = (Arc::clone(keeper), Arc::clone(intake), tasks.clone());
            let visit = Visit { keeper, intake, stores, peer, certificate: None, seat };
            tasks.spawn(connection::serve(socket, visit, stop.clone()));
            return;
        }
        Err(rejection) => rejection,
    };
    keeper.refused(&rejection, peer);
    if let Some(turned_away) = keeper.turn_away(&policy) {
        tasks.spawn(connection::turn_away(socket, rejection, stop.clone(), turned_away));
    }
}

/// A fault of one connection means nothing to the others. Anything else is ours and lasts: rest, instead of
/// asking again at full speed, and say so once.
async fn rest_after(error: &io::Error, failing: &mut bool) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    if !std::mem::replace(failing, true) {
        tracing::error!(
            %error,
            "cannot accept connections, trying again; if too many files are open, raise the limit (ulimit -n) \
             above ingress.limits.connections"
        );
    }
    tokio::time::sleep(ACCEPT_REST).await;
}
