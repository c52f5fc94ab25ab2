//! The spool in the words of pushes, and the live window before it: what lanes read and write.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use cdr_core::{Incoming, Position, Push, Seal, SpoolId};
use cdr_spool::{
    Committed, ControlError, LaneState, Memo, NewLane, OpenError, Outcome, ReadError, Recovery, Settings,
    Spool,
};
use tokio::sync::watch;

use crate::{
    errand::set_aside_facts,
    routing::{Destinations, Routing},
    stored, terms,
    window::{Routed, Window},
};

/// Bytes of bodies that a lane reads from disk at a time.
pub const BACKLOG_BYTES: usize = 1 << 20;

/// What a lane read.
pub struct Read {
    /// Pushes in order.
    pub pushes: Vec<Arc<Routed>>,
    /// Where to go on.
    pub next: Position,
    /// Pushes whose bytes the disk lost.
    pub lost: Vec<Position>,
}

/// The spool and what is live of it.
pub struct Store {
    spool: Spool<Box<Incoming>>,
    live: Arc<Live>,
    set_aside: watch::Sender<()>,
}

/// What the spool's writer fills at each commit.
struct Live {
    id: OnceLock<SpoolId>,
    window: Window,
    routing: ArcSwap<Routing>,
    /// The first position that is not routed; those before it are committed.
    routed: watch::Sender<Position>,
}

impl Live {
    /// Runs on the spool's writer thread, after the fsync and the answers: routes each push once for all lanes.
    fn committed(&self, Committed { end, pushes }: Committed<Box<Incoming>>) {
        // Set before the spool is handed out; nothing can be appended earlier.
        let Some(&id) = self.id.get() else { return };
        let routing = self.routing.load_full();
        self.window.extend(pushes.into_iter().map(|(position, incoming)| {
            let push = Push::stored(id, stored::position(position), *incoming);
            Routed { destinations: routing.decide(&push), push: Arc::new(push) }
        }));
        // A commit of outcomes alone brings lanes nothing to read.
        let end = stored::position(end);
        self.routed.send_if_modified(|routed| std::mem::replace(routed, end) != end);
    }
}

impl Store {
    /// Opens the spool; `lanes` it does not know yet are registered before it returns.
    ///
    /// # Errors
    /// The spool cannot be opened.
    pub fn open(
        settings: Settings,
        lanes: &[NewLane],
        routing: Routing,
    ) -> Result<(Self, Recovery), OpenError> {
        let live = Arc::new(Live {
            id: OnceLock::new(),
            window: Window::default(),
            routing: ArcSwap::from_pointee(routing),
            routed: watch::Sender::new(Position(0)),
        });
        let writer = Arc::clone(&live);
        let (spool, recovery) =
            Spool::open(settings, lanes, Box::new(move |committed| writer.committed(committed)))?;
        live.id.get_or_init(|| stored::spool_id(spool.identity()));
        live.routed.send_replace(stored::position(spool.end()));
        if let Err(error) = spool.keep_catalog(terms::of) {
            tracing::warn!(%error, "no catalog is kept in this run; searches read the log, which takes longer");
        }
        Ok((Self { spool, live, set_aside: watch::Sender::default() }, recovery))
    }

    /// The spool itself.
    pub fn spool(&self) -> &Spool<Box<Incoming>> {
        &self.spool
    }

    /// The identity of the spool.
    pub fn id(&self) -> SpoolId {
        stored::spool_id(self.spool.identity())
    }

    /// Where the spool knows this lane to be.
    pub fn lane(&self, name: &str) -> LaneState {
        let known = self.spool.lanes().into_iter().find(|(lane, _)| lane == name);
        known.map(|(_, state)| state).unwrap_or_default()
    }

    /// The first position that is not committed.
    pub fn end(&self) -> Position {
        stored::position(self.spool.end())
    }

    /// Tells how far pushes are routed, which they are a moment after their commit: up to there lanes read.
    pub fn routed(&self) -> watch::Receiver<Position> {
        self.live.routed.subscribe()
    }

    /// The first position that is not routed.
    pub fn routed_end(&self) -> Position {
        *self.live.routed.borrow()
    }

    /// Who gets what at present.
    pub fn routing(&self) -> Arc<Routing> {
        self.live.routing.load_full()
    }

    /// Replaces who gets what, for pushes committed from now on and for those read from disk.
    pub fn route_by(&self, routing: Routing) {
        self.live.routing.store(Arc::new(routing));
    }

    /// Where a push goes by the routes of today.
    pub fn decide(&self, push: &Push) -> Destinations {
        self.routing().consider(push)
    }

    /// Up to `most` pushes from `from` on: from memory when they are fresh, else from disk.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub async fn read(&self, from: Position, most: usize) -> Result<Read, ReadError> {
        let end = self.routed_end();
        if let Some(pushes) = self.live.window.read(from, most) {
            let after_last = pushes.last().map_or(from, |routed| Position(routed.push.position().0 + 1));
            let next = if pushes.len() < most { after_last.max(end) } else { after_last };
            return Ok(Read { pushes, next, lost: Vec::new() });
        }
        let spool = self.spool.clone();
        let read = blocking(move || spool.read(stored::spool_position(from), most, BACKLOG_BYTES)).await?;
        let (id, routing) = (self.id(), self.routing());
        let route = |push| {
            let push = stored::from_spool(id, push);
            Arc::new(Routed { destinations: routing.consider(&push), push })
        };
        Ok(Read {
            pushes: read.pushes.into_iter().map(route).collect(),
            next: stored::position(read.next),
            lost: read.lost.into_iter().map(stored::position).collect(),
        })
    }

    /// When [`read`](Self::read) fails at `unreadable`: the pushes that may share that place on disk, at most `most`, and where
    /// reading can go on.
    pub async fn step_over(&self, unreadable: Position, most: usize) -> (Vec<Position>, Position) {
        let spool = self.spool.clone();
        let (pushes, next) =
            blocking(move || spool.step_over(stored::spool_position(unreadable), most)).await;
        (pushes.into_iter().map(stored::position).collect(), stored::position(next))
    }

    /// Single pushes, each for itself: none for one whose bytes are gone, an error for one that the disk does not give at
    /// present. With that it ends, since a disk that fails may take its time for each; and when there are `most_bytes` of bodies.
    pub async fn get(
        &self,
        positions: Vec<Position>,
        most_bytes: usize,
    ) -> Vec<Result<Option<Arc<Push>>, ReadError>> {
        let (spool, id) = (self.spool.clone(), self.id());
        blocking(move || {
            let mut read = Vec::with_capacity(positions.len());
            let mut bytes = 0;
            for position in positions {
                let push = match spool.get(stored::spool_position(position)) {
                    Ok(push) => Ok(push.map(|push| stored::from_spool(id, push))),
                    Err(ReadError::Damaged { .. }) => Ok(None),
                    Err(error) => Err(error),
                };
                let failed = push.is_err();
                bytes += push.as_ref().ok().and_then(Option::as_ref).map_or(0, |push| push.body().len());
                read.push(push);
                if failed || bytes >= most_bytes {
                    break;
                }
            }
            read
        })
        .await
    }

    /// Whether a lane that goes on here finds everything in memory.
    pub fn is_live(&self, from: Position) -> bool {
        self.live.window.holds(from)
    }

    /// Sets aside what a lane has not read; where it goes on, if there was anything.
    ///
    /// # Errors
    /// It could not be made durable.
    pub async fn set_aside(&self, lane: &str, from: Position) -> Result<Option<Position>, ControlError> {
        let goes_on = self.spool.set_aside(lane, stored::spool_position(from), set_aside_facts()).await?;
        self.set_aside.send_replace(());
        Ok(goes_on.map(stored::position))
    }

    /// Tells when something was set aside: somebody has to run it.
    pub fn hear_set_aside(&self) -> watch::Receiver<()> {
        self.set_aside.subscribe()
    }

    /// Makes durable what pushes of a lane become together.
    ///
    /// # Errors
    /// It is not sealed: something of it is closed, or the disk fails.
    pub async fn seal(&self, lane: &str, positions: &[Position], seal: &Seal) -> Result<(), ControlError> {
        self.spool.seal(lane, stored::to_spool_seal(positions, seal)).await
    }

    /// Hands outcomes of a lane to the spool, now; the future completes when they are durable.
    pub fn record(
        &self,
        lane: &str,
        outcomes: Vec<(Position, Outcome)>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.record_with_memos(lane, outcomes, Vec::new())
    }

    /// The same, and what the lane notes with them.
    pub fn record_with_memos(
        &self,
        lane: &str,
        outcomes: Vec<(Position, Outcome)>,
        memos: Vec<Memo>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let outcomes =
            outcomes.into_iter().map(|(position, outcome)| (stored::spool_position(position), outcome));
        Box::pin(self.spool.record_with_memos(lane, outcomes.collect(), memos))
    }
}

/// Runs what blocks on the disk away from the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The runtime cancels blocking work only while it shuts down, and nobody polls this then.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
