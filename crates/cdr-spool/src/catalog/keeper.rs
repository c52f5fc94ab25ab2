//! The thread that keeps the catalog: reads what was committed, behind everyone's back, and writes it down in large
//! transactions. Nobody ever waits for it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::database::{Database, Known, Trouble};
use super::rows::Rows;
use super::terms::TermsOf;
use crate::Position;
use crate::log::view::LogView;
use crate::store::Store;

/// The catalog's file, in the directory of the spool.
pub(crate) const FILE: &str = "catalog.sqlite";

/// Where the processor is short, the catalog gets a tenth of what the writer gets.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// Pushes of one transaction. More would save few bytes and cost memory and everyone who searches: what is not written down
/// yet is read from the log each time.
const PUSHES: u64 = 4096;
/// A frame tells of outcomes alone, too; so many are enough for a transaction.
const SPANS: usize = 65_536;
/// Fewer pushes wait this long for company.
const COMPANY: Duration = Duration::from_secs(5);
/// How often it looks whether something came.
const LOOK: Duration = Duration::from_millis(500);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// What everyone may know of the catalog.
#[derive(Default)]
pub(crate) struct Progress {
    /// The first position behind what it knows.
    known: AtomicU64,
    /// It knows the whole log.
    caught_up: AtomicBool,
    rebuilds: AtomicU64,
    stop: AtomicBool,
    /// Who waits until everything that is committed now is written down.
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
}

/// The thread, as the spool holds it.
pub(crate) struct Keeper {
    progress: Arc<Progress>,
    /// Until it is joined.
    thread: Option<JoinHandle<()>>,
    ended: watch::Receiver<bool>,
}

impl Keeper {
    /// Starts the thread.
    pub(crate) fn start<S>(store: Arc<S>, path: PathBuf, terms: TermsOf) -> std::io::Result<Keeper>
    where
        S: AsRef<Store> + Send + Sync + 'static,
    {
        let progress = Arc::new(Progress::default());
        let (end, ended) = watch::channel(false);
        let is_new_spool = (*store).as_ref().state().end == Position::FIRST;
        let seen = progress.clone();
        let thread = thread::Builder::new().name("spool-catalog".into()).spawn(move || {
            // Dropped however the thread ends.
            let _end = end;
            // For Linux this is about the calling thread. Storing comes before searching.
            #[cfg(target_os = "linux")]
            let _ = rustix::process::nice(NICER);
            Work::new((*store).as_ref(), &path, terms, &seen, is_new_spool).run();
        })?;
        Ok(Keeper { progress, thread: Some(thread), ended })
    }

    /// The first position that it does not know, and whether it knows everything before the end of the log.
    pub(crate) fn known(&self) -> (Position, bool) {
        let known = Position(self.progress.known.load(Ordering::Relaxed));
        (known, self.progress.caught_up.load(Ordering::Relaxed))
    }

    /// How often it was built anew since the start.
    pub(crate) fn rebuilds(&self) -> u64 {
        self.progress.rebuilds.load(Ordering::Relaxed)
    }

    /// Lets it write down everything that is committed, without waiting for company; ready when it has, or ended.
    pub(crate) async fn catch_up(&self) {
        let (done, when_done) = oneshot::channel();
        self.progress.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        self.wake();
        let mut ended = self.ended.clone();
        tokio::select! {
            _ = when_done => {}
            _ = ended.wait_for(|ended| *ended) => {}
        }
    }

    /// Lets it write down what there is and end; ready when it has.
    pub(crate) async fn stop(&self) {
        self.ask_to_stop();
        // The sender is dropped with the thread.
        self.ended.clone().wait_for(|ended| *ended).await.ok();
    }

    fn ask_to_stop(&self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

/// Two keepers of one file would each take the other's journal for its own. It ends within a transaction; after a
/// [`stop`](Keeper::stop) it has ended.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            // A panic in it was told by the panic hook and concerns nobody here.
            thread.join().ok();
        }
    }
}

/// The thread's own.
struct Work<'a> {
    store: &'a Store,
    path: &'a Path,
    terms: TermsOf,
    progress: &'a Progress,
    open: Option<(Database, Known)>,
    /// There was no push yet, so that no catalog is no loss.
    is_new_spool: bool,
    /// Since when it is being built anew.
    building: Option<Instant>,
    /// When something was last written, or there was nothing to write.
    last_written: Instant,
    backoff: Duration,
    /// Who waits; they asked before the log was looked at.
    hurried: Vec<oneshot::Sender<()>>,
}

impl<'a> Work<'a> {
    fn new(
        store: &'a Store,
        path: &'a Path,
        terms: TermsOf,
        progress: &'a Progress,
        is_new_spool: bool,
    ) -> Work<'a> {
        Work {
            store,
            path,
            terms,
            progress,
            open: None,
            is_new_spool,
            building: None,
            last_written: Instant::now(),
            backoff: FIRST_BACKOFF,
            hurried: Vec::new(),
        }
    }

    fn run(mut self) {
        while !self.is_stopping() {
            let began = Instant::now();
            match self.round() {
                // Half of a processor at most: pushes come first.
                Ok(Went::On) => self.rest(began.elapsed()),
                Ok(Went::Nowhere) => self.rest(LOOK),
                Err(Trouble::Unusable(reason)) => self.begin_anew(&reason),
                Err(Trouble::Passing(reason)) => self.wait_for_the_disk(&reason),
            }
        }
        self.finish();
    }

    /// What is left, and not more than a transaction of it: a gateway that stops is waited for.
    fn finish(mut self) {
        let Some((mut database, known)) = self.open.take() else { return };
        if database.is_there() {
            let log = self.store.log();
            let written =
                database.align(&log, known).and_then(|known| self.write(&mut database, &log, known));
            if let Err(trouble) = written.and_then(|_| database.close()) {
                tracing::debug!(%trouble, "the catalog was not closed in order; the next start looks it through");
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.progress.stop.load(Ordering::Relaxed)
    }

    fn rest(&self, time: Duration) {
        if !self.is_stopping() {
            thread::park_timeout(time);
        }
    }

    /// Opens the catalog if need be, and writes one transaction if it is time.
    fn round(&mut self) -> Result<Went, Trouble> {
        let (mut database, known) = match self.open.take() {
            Some((database, _)) if !database.is_there() => {
                return Err(Trouble::Unusable("its file was removed".into()));
            }
            Some(open) => open,
            None => Database::open(self.path, self.store.identity)?,
        };
        self.hurried.append(&mut self.progress.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let log = self.store.log();
        let mut known = database.align(&log, known)?;
        let is_due = !self.hurried.is_empty() || self.building.is_some() || self.is_worth_it(known);
        let went = match known.place != log.end() && is_due {
            true => {
                known = self.write(&mut database, &log, known)?;
                self.backoff = FIRST_BACKOFF;
                Went::On
            }
            false => Went::Nowhere,
        };
        self.open = Some((database, known));
        if self.tell(&log, known) {
            self.last_written = Instant::now();
            self.hurried.drain(..).for_each(|done| {
                done.send(()).ok();
            });
        }
        Ok(went)
    }

    fn is_worth_it(&self, known: Known) -> bool {
        let pushes = self.store.state().end.0.saturating_sub(known.position.0);
        pushes >= PUSHES || self.last_written.elapsed() >= COMPANY
    }

    /// Writes one transaction: what follows in one segment, up to [`PUSHES`].
    fn write(&mut self, database: &mut Database, log: &LogView, known: Known) -> Result<Known, Trouble> {
        let mut rows = Rows::default();
        let mut position = known.position;
        let mut segment = known.place.segment;
        let place = log.follow(known.place, |place, header, bytes| {
            let is_enough = rows.pushes >= PUSHES || rows.spans.len() >= SPANS;
            if is_enough || (place.segment != segment && !rows.is_empty()) {
                return ControlFlow::Break(());
            }
            segment = place.segment;
            rows.add(place, bytes, self.store.identity, self.terms);
            position = position.max(header.position).max(rows.next_position());
            ControlFlow::Continue(())
        })?;
        let to = Known { place, position };
        let Some(extent) = log.segment(segment) else { return Ok(to) };
        database.add(&mut rows, extent, known, to)?;
        self.last_written = Instant::now();
        if place.segment != known.place.segment {
            database.merge(known.place.segment)?;
        }
        Ok(to)
    }

    /// True if everything is known that was committed when `log` was taken.
    fn tell(&mut self, log: &LogView, known: Known) -> bool {
        let caught_up = known.place == log.end();
        self.progress.known.store(known.position.0, Ordering::Relaxed);
        self.progress.caught_up.store(caught_up, Ordering::Relaxed);
        if caught_up && let Some(began) = self.building.take() {
            tracing::info!(
                took_s = began.elapsed().as_secs_f64(),
                "the catalog is built; searches use it again"
            );
        }
        caught_up
    }

    /// Throws the catalog away; it is built from the log while everything goes on.
    fn begin_anew(&mut self, reason: &str) {
        if self.building.is_some() {
            // Again, before it was done: not in a circle.
            self.wait_for_the_disk(reason);
        }
        match Database::create(self.path, self.store.identity) {
            Ok(database) => {
                if !std::mem::take(&mut self.is_new_spool) {
                    tracing::info!(
                        reason,
                        "the catalog is built from the log; until then searches read the log, which takes longer"
                    );
                    self.progress.rebuilds.fetch_add(1, Ordering::Relaxed);
                    self.building.get_or_insert(Instant::now());
                }
                self.open = Some((database, Known::NOTHING));
            }
            Err(trouble) => self.wait_for_the_disk(&trouble.to_string()),
        }
    }

    /// The disk fails, or someone else has the catalog. Searches read the log meanwhile.
    fn wait_for_the_disk(&mut self, reason: &str) {
        self.open = None;
        self.progress.caught_up.store(false, Ordering::Relaxed);
        match self.backoff == FIRST_BACKOFF {
            true => tracing::warn!(
                reason,
                "the catalog cannot be written; searches read the log until it can, which takes longer"
            ),
            false => tracing::debug!(reason, "the catalog still cannot be written"),
        }
        let until = Instant::now() + self.backoff;
        while !self.is_stopping() && Instant::now() < until {
            self.rest(until.saturating_duration_since(Instant::now()));
        }
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// What a round did.
enum Went {
    On,
    Nowhere,
}
