//! The manifests of archives: when a day is over and all of it is delivered, what the archive holds of it is written down
//! beside it; see [`cdr_archive::manifest`].
//!
//! [`due`] is one look, that of `archive manifest` too; here is who looks when. A look goes through a day of the log and
//! reads a day of the archive, so it is made when a day is over and, as far as memory tells, nothing of it is open: once a
//! day. While it fails or has to wait it is made again, ever more rarely. It runs beside the runtime's threads, and what
//! it meets disturbs no delivery. [`delivered`] is the log's side of it, and [`lanes`] whose its lanes are.

pub mod delivered;
pub mod due;
mod lanes;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cdr_core::Position;
use jiff::{Timestamp, civil::Date};
use tokio::{runtime::Handle, task::spawn_blocking, time::MissedTickBehavior};
use tracing::{debug, info, warn};

use self::due::{Faulty, Looked, Waits};
use crate::{config::Archive, engine::Engine};

/// After a look that did not come to its end the next one waits so long, and twice as long each time.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(3600);

/// Who writes the manifests of a gateway's archives.
pub struct Manifests {
    engine: Arc<Engine>,
    /// As of the last reload.
    archives: Arc<Vec<Archive>>,
    progress: BTreeMap<String, Progress>,
}

/// How far the manifests of one archive have come.
struct Progress {
    /// The first day that lacks its manifest, once a look has told.
    next: Option<Date>,
    not_before: Instant,
    wait: Duration,
    /// The sink's dead letters at the last look.
    dead: u64,
    /// What was said last: each cause is said once.
    said: String,
}

impl Progress {
    fn begin() -> Self {
        Self { next: None, not_before: Instant::now(), wait: SOONEST, dead: 0, said: String::new() }
    }

    fn look_soon(&mut self) {
        (self.not_before, self.wait) = (Instant::now(), SOONEST);
    }

    fn look_later(&mut self) {
        self.not_before = Instant::now() + self.wait;
        self.wait = (2 * self.wait).min(LATEST);
    }

    /// `is_open` is whether memory, too, says that something of the day is open.
    fn came(&mut self, sink: &str, looked: Looked, is_open: bool) {
        let Looked { written, elsewhere, next, waits } = looked;
        if elsewhere > 0 && waits.is_none() {
            warn!(
                sink,
                pushes = elsewhere,
                "manifests begin with the first push that lies here; what was delivered before it stands in none: to another path, \
                 bucket or prefix, or it is missing"
            );
        }
        for manifest in &written {
            let (key, pushes, objects) = (manifest.key(), manifest.pushes, manifest.objects.len());
            info!(sink, key, pushes, objects, absent = manifest.absent, "the manifest of a day was written");
        }
        let Some(waits) = waits else {
            *self = Self { next: Some(next), dead: self.dead, ..Self::begin() };
            return;
        };
        if !written.is_empty() {
            self.look_soon();
        }
        self.look_later();
        match waits {
            Waits::Open if !is_open && self.is_news(&format!("{next} open")) => info!(
                sink, day = %next,
                "the manifest of a day waits: by the spool's log something of it is owed to the archive, though no lane has it open now; \
                 it is looked at again"
            ),
            Waits::Open => {
                debug!(sink, day = %next, "the manifest of a day waits for what is still owed to the archive");
            }
            Waits::DeadLetters { count, until } if self.is_news(&format!("{next} {count}")) => warn!(
                sink, day = %next, dead_letters = count, %until,
                "the manifest of a day waits for a decision about its dead letters (cdr-gateway dead list --sink {sink}); in the \
                 end it says that they are absent"
            ),
            Waits::Parked { owing } if self.is_news(&format!("{next} {owing}")) => warn!(
                sink, day = %next, owing,
                "the manifest of a day waits for a decision about a parked sink that owes pushes of it, which may be this archive's \
                 (cdr-gateway sink rename {owing} {sink}, or cdr-gateway sink retire {owing})"
            ),
            Waits::DeadLetters { .. } | Waits::Parked { .. } => {}
        }
    }

    fn failed(&mut self, sink: &str, error: &anyhow::Error) {
        self.look_later();
        let why = format!("{error:#}");
        if self.is_news(&why) {
            warn!(
                sink,
                why,
                "a day of the archive is over and gets no manifest; it is tried again, deliveries go on, and \
                 `manifest: false` leaves it"
            );
        }
    }

    /// Whether this was not said before.
    fn is_news(&mut self, text: &str) -> bool {
        let is_news = self.said != text;
        if is_news {
            text.clone_into(&mut self.said);
        }
        is_news
    }
}

impl Manifests {
    /// For this gateway's archives.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, archives: Arc::default(), progress: BTreeMap::new() }
    }

    /// Runs until the gateway stops.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.engine.is_stopping() {
            tick.tick().await;
            let archives = self.engine.archives();
            if !Arc::ptr_eq(&archives, &self.archives) {
                // A reload may have put another folder or bucket under an old name.
                self.progress.clear();
                self.archives = archives;
            }
            for number in 0..self.archives.len() {
                if self.archives[number].holding.filing().wants_manifests() && self.is_due(number).await {
                    self.look(number).await;
                }
            }
        }
    }

    /// Whether a look may find something to write, as far as memory tells.
    async fn is_due(&mut self, number: usize) -> bool {
        let archive = &self.archives[number];
        let today = due::today(archive, Timestamp::now());
        let (oldest_open, dead) = self.owed(&archive.sink);
        let progress = self.progress.entry(archive.sink.clone()).or_insert_with(Progress::begin);
        if progress.next.is_some_and(|next| next >= today) {
            return false;
        }
        let waits_for = oldest_open.map(|at| archive.holding.filing().day(at));
        if waits_for.is_some_and(|open| progress.next.is_some_and(|next| open <= next)) {
            progress.look_soon();
            return false;
        }
        if progress.dead != dead {
            progress.dead = dead;
            progress.look_soon();
        }
        if Instant::now() < progress.not_before {
            return false;
        }
        if progress.next.is_none() && self.holds_nothing_before(number, today).await {
            self.has_come_to(number, today);
            return false;
        }
        true
    }

    /// The arrival of the oldest push that is owed to a sink, and how many dead letters it has.
    fn owed(&self, sink: &str) -> (Option<Timestamp>, u64) {
        let dispatcher = &self.engine.dispatcher;
        let is_of = |lane: &str| lane.split('~').next() == Some(sink);
        let own =
            dispatcher.lanes().into_iter().filter(|(name, _)| name.as_str() == sink).map(|(_, lane)| lane);
        let errands = dispatcher.errands().into_iter().filter(|errand| errand.sink == sink);
        let lanes = own.chain(errands.filter_map(|errand| errand.did));
        let oldest = lanes.filter_map(|lane| lane.now.oldest_received_at_ms).min();
        let dead = dispatcher.pushes().spool().stats().dead_letters;
        let dead = dead.into_iter().filter(|(lane, _)| is_of(lane)).map(|(_, count)| count).sum();
        (oldest.and_then(|ms| Timestamp::from_millisecond(ms).ok()), dead)
    }

    /// Whether the oldest push that the spool keeps arrived today: a fresh spool, or one that holds a day at most, is not
    /// gone through at each start.
    async fn holds_nothing_before(&self, number: usize, today: Date) -> bool {
        let pushes = self.engine.dispatcher.pushes();
        let Ok(read) = pushes.read(Position(0), 1).await else { return false };
        let filing = self.archives[number].holding.filing();
        read.lost.is_empty()
            && read.pushes.first().is_none_or(|oldest| filing.day(oldest.push.facts().received_at) >= today)
    }

    /// Whether no reload came while a look was under way.
    fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.engine.archives(), &self.archives)
    }

    fn has_come_to(&mut self, number: usize, next: Date) {
        let archive = &self.archives[number];
        if let Some(begin) = archive.holding.filing().begin_of(next).filter(|_| self.is_current()) {
            self.engine.note_manifests(&archive.sink, begin);
        }
        if let Some(progress) = self.progress.get_mut(&archive.sink) {
            progress.next = Some(next);
        }
    }

    async fn look(&mut self, number: usize) {
        let Some(looked) = self.looked(number).await else { return };
        let sink = self.archives[number].sink.clone();
        if let Ok(looked) = &looked {
            self.has_come_to(number, looked.next);
        }
        let filing = self.archives[number].holding.filing();
        let oldest_open = self.owed(&sink).0.map(|at| filing.day(at));
        let Some(progress) = self.progress.get_mut(&sink) else { return };
        match looked {
            Ok(looked) => {
                let is_open = oldest_open.is_some_and(|open| open <= looked.next);
                progress.came(&sink, looked, is_open);
            }
            Err(error) => {
                progress.failed(&sink, &error);
                if self.is_current() {
                    self.engine.note_no_manifests(&sink);
                }
            }
        }
    }

    /// On a thread that may block, where neither the log nor reading objects holds up the door. None when the gateway stops.
    async fn looked(&self, number: usize) -> Option<anyhow::Result<Looked>> {
        let (engine, archives) = (Arc::clone(&self.engine), Arc::clone(&self.archives));
        let runtime = Handle::current();
        let from = self.progress.get(&archives[number].sink).and_then(|progress| progress.next);
        let look = move || {
            let spool = &engine.started_with.spool.path;
            runtime.block_on(engine.unless_stopping(due::look(
                &archives[number],
                spool,
                Faulty::Waits,
                from,
                Timestamp::now(),
            )))
        };
        // A look that panics has told so, and is made again.
        spawn_blocking(look).await.unwrap_or_else(|ended| Some(Err(ended.into())))
    }
}
