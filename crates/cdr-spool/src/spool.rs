//! The handle that everyone else holds.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::catalog::keeper::{self, Keeper};
use crate::clock::{Clock, SystemClock};
use crate::disk::{Directory, Lock, RealDirectory};
use crate::inbox::{Change, Changed, Inbox, Request};
use crate::log::segment;
use crate::recovery::{self, Recovered};
use crate::state::Lane;
use crate::store::{Store, Stored};
use crate::writer::{self, Shared, Writer};
use crate::{
    AppendError, Appended, ControlError, DeadLetter, Errand, Health, Holder, LaneState, Memo, NewLane,
    NewPush, NewQuarantine, OpenError, Outcome, Position, Quarantined, Read, ReadError, Recovery, Seal,
    Settings, SpoolId, Start, Stats, StoredPush, StoredQuarantine, TermsOf,
};

/// What the writer calls after each commit, also one of outcomes alone: on its own thread, in order, after the sync, when the
/// appenders are answered. The next commit waits for it, and a panic in it stops the spool.
pub type OnCommit<T> = Box<dyn FnMut(Committed<T>) + Send>;

/// What a commit brought.
#[derive(Debug)]
pub struct Committed<T> {
    /// The first position that is not committed.
    pub end: Position,
    /// In order, each with what travelled along.
    pub pushes: Vec<(Position, T)>,
}

/// Facts longer than this are no facts, and names longer than this no names.
const LONGEST_FACTS: usize = 64 * 1024;
const LONGEST_NAME: usize = 1024;
/// An hour: how far the wall clock may be from the newest entry before it is doubted.
const CLOCK_DOUBT: Duration = Duration::from_secs(3600);

/// A spool, open for writing. Clones are handles to the same one; when the last is dropped the writer ends.
pub struct Spool<T> {
    handle: Arc<Handle<T>>,
}

struct Handle<T> {
    shared: Arc<Shared<T>>,
    closed: watch::Receiver<bool>,
    catalog: OnceLock<Keeper>,
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.shared.inbox.stop();
    }
}

impl<T> Clone for Spool<T> {
    fn clone(&self) -> Self {
        Spool { handle: self.handle.clone() }
    }
}

impl<T> std::fmt::Debug for Spool<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("identity", &self.store().identity).finish_non_exhaustive()
    }
}

/// A push on its way to the disk: see [`Spool::append`].
#[must_use = "only its outcome tells whether the push is kept"]
#[derive(Debug)]
pub struct Appending(Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError>);

impl Future for Appending {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(answer) => {
                Pin::new(answer).poll(context).map(|answer| answer.unwrap_or(Err(AppendError::Stopping)))
            }
            Err(refused) => Poll::Ready(Err(refused.clone())),
        }
    }
}

/// What a spool stands on. The tests put another disk and another clock below it.
pub struct Ground {
    /// The directory of the spool.
    pub directory: Arc<dyn Directory>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The size of a segment, if not the one that follows from the settings.
    pub segment_size: Option<u64>,
}

impl<T> Spool<T> {
    fn store(&self) -> &Store {
        &self.handle.shared.store
    }
}

impl<T: Send + 'static> Spool<T> {
    /// Opens a spool, or makes one, and starts its writer. Lanes that it does not know are registered durably before this
    /// returns; lanes that it knows and that are not named are left as they are.
    ///
    /// Blocks: reads the log from the newest checkpoint on, and the indexes of the segments before it.
    ///
    /// # Errors
    /// If the settings contradict each other, another process has the spool, a newer gateway wrote it, or the disk fails.
    pub fn open(
        settings: Settings,
        lanes: &[NewLane],
        on_commit: OnCommit<T>,
    ) -> Result<(Spool<T>, Recovery), OpenError> {
        let directory = RealDirectory::create(&settings.path).map_err(|source| OpenError::Io {
            doing: "make the directory",
            path: settings.path.clone(),
            source,
        })?;
        let clock = Arc::new(SystemClock::start());
        Spool::open_on(
            Ground { directory: Arc::new(directory), clock, segment_size: None },
            settings,
            lanes,
            on_commit,
        )
    }

    /// [`open`](Self::open) on another disk and another clock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        ground: Ground,
        settings: Settings,
        lanes: &[NewLane],
        on_commit: OnCommit<T>,
    ) -> Result<(Spool<T>, Recovery), OpenError> {
        let began = Instant::now();
        let segment_size = ground.segment_size.unwrap_or_else(|| settings.segment_size());
        settings.check(segment_size)?;
        let lock = lock(&ground, &settings)?;
        let mut recovered = recovery::recover(&*ground.directory, &settings.path)?;
        let now = ground.clock.wall_ms();
        let start = writer::Start::of(&mut recovered, &*ground.directory, now, settings.dedupe_window);
        let state = std::mem::take(&mut recovered.state);
        let store =
            Store::new(ground.directory, ground.clock, settings, segment_size, recovered.identity, state);
        let shared = Arc::new(Shared { store, inbox: Inbox::new() });
        let (closed, when_closed) = watch::channel(false);
        let lanes = starting_safely(lanes, &recovered);
        let (writer, registered) = Writer::start(shared.clone(), on_commit, start, &lanes, lock, closed)?;
        tidy(&shared.store, &recovered);
        let recovery = report(&shared.store, recovered, registered, now, began.elapsed());
        std::thread::Builder::new().name("spool-writer".into()).spawn(move || writer.run()).map_err(
            |source| OpenError::Io {
                doing: "start the writer",
                path: shared.store.settings.path.clone(),
                source,
            },
        )?;
        Ok((
            Spool { handle: Arc::new(Handle { shared, closed: when_closed, catalog: OnceLock::new() }) },
            recovery,
        ))
    }

    /// Keeps the catalog by which pushes are [searched](crate::Search), from here on and in the background: a file beside the
    /// log, made from it and made again whenever it is no good. `terms` says what a push is found by.
    ///
    /// The second call and those after it change nothing.
    ///
    /// # Errors
    /// If no thread can be started. What becomes of the file is told in the log and never here.
    pub fn keep_catalog(&self, terms: TermsOf) -> std::io::Result<()> {
        self.keep_catalog_at(self.store().settings.path.join(keeper::FILE), terms)
    }

    /// [`keep_catalog`](Self::keep_catalog) in a file elsewhere.
    ///
    /// # Errors
    /// As [`keep_catalog`](Self::keep_catalog).
    pub fn keep_catalog_at(&self, path: PathBuf, terms: TermsOf) -> std::io::Result<()> {
        if self.handle.catalog.get().is_none() {
            let keeper = Keeper::start(self.handle.shared.clone(), path, terms)?;
            self.handle.catalog.set(keeper).ok();
        }
        Ok(())
    }

    /// Lets the catalog take in everything that is committed now, without waiting for more; ready when it has.
    pub async fn catalog_caught_up(&self) {
        if let Some(keeper) = self.handle.catalog.get() {
            keeper.catch_up().await;
        }
    }

    /// Whose spool it is.
    pub fn identity(&self) -> SpoolId {
        self.store().identity
    }

    /// Stores a push, which is queued when this returns; the future is ready when it is on disk, or when it is sure that it
    /// was before. It is stored whether or not anyone waits: a dropped future loses the answer and never the push.
    ///
    /// Whatever the error, the push was not stored, or not for certain: its sender must keep it. After
    /// [`AppendError::Failing`] a crash that comes before the next segment may still bring it back; its sender's retry then is a
    /// repeat.
    pub fn append(&self, push: NewPush<T>) -> Appending {
        Appending(self.queue(push))
    }

    fn queue(
        &self,
        push: NewPush<T>,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        let settings = &self.store().settings;
        at_most("the body", push.body.len(), settings.body_limit)?;
        at_most("the facts", push.facts.len(), LONGEST_FACTS as u64)?;
        at_most("the action", push.key.action.len(), LONGEST_NAME as u64)?;
        at_most("the uuid", push.key.uuid.as_ref().map_or(0, String::len), LONGEST_NAME as u64)?;
        let (reply, answer) = oneshot::channel();
        let bytes = push.body.len() as u64;
        self.handle.shared.inbox.offer(Request::Append(push, reply), bytes, settings.in_flight)?;
        Ok(answer)
    }

    /// Keeps the bytes of an authentic request that is no push; once for equal bytes.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`AppendError::QuarantineFull`] when quarantine fills its 5 % of the room.
    pub async fn quarantine(&self, found: NewQuarantine) -> Result<Quarantined, AppendError> {
        let settings = &self.store().settings;
        at_most("the body", found.body.len(), settings.body_limit)?;
        at_most("the facts", found.facts.len(), LONGEST_FACTS as u64)?;
        at_most("the reason", found.reason.len(), LONGEST_FACTS as u64)?;
        let (reply, answer) = oneshot::channel();
        let bytes = found.body.len() as u64;
        self.handle.shared.inbox.offer(Request::Quarantine(found, reply), bytes, settings.in_flight)?;
        answer.await.unwrap_or(Err(AppendError::Stopping))
    }

    /// The first position that is not committed.
    pub fn end(&self) -> Position {
        self.store().state().end
    }

    /// All lanes that the spool knows, also those that no configuration names any more.
    pub fn lanes(&self) -> Vec<(String, LaneState)> {
        self.store().state().lanes.iter().map(|(name, lane)| (name.clone(), lane.state.clone())).collect()
    }

    /// The temporary lanes of them, with what each is for.
    pub fn errands(&self) -> Vec<(String, Errand)> {
        let state = self.store().state();
        let errand = |(name, lane): (&String, &Lane)| Some((name.clone(), lane.state.errand.clone()?));
        state.lanes.iter().filter_map(errand).collect()
    }

    /// Registers those lanes that are not known yet, durably; returns their names.
    ///
    /// # Errors
    /// If the disk fails, or the spool is being closed.
    pub async fn register_lanes(&self, lanes: &[NewLane]) -> Result<Vec<String>, ControlError> {
        Ok(self.control(Change::Register(lanes.to_vec())).await?.names)
    }

    /// Begins a temporary lane for this sink, durably, and returns its name. It reads what arrived from `from_ms` on and
    /// before `to_ms` (milliseconds since 1970), and perhaps a little on either side: whoever drives it looks at each push.
    ///
    /// # Errors
    /// If the facts are too large, the disk fails, or the spool is being closed.
    pub async fn begin_errand(
        &self,
        sink: &str,
        (from_ms, to_ms): (Option<i64>, Option<i64>),
        facts: Bytes,
    ) -> Result<String, ControlError> {
        no_larger("an errand's facts", facts.len(), LONGEST_FACTS)?;
        let change = Change::Begin { sink: sink.to_owned(), from_ms, to_ms, facts };
        Ok(self.control(change).await?.names.pop().unwrap_or_default())
    }

    /// Sets aside what a lane has not read, from `from` on: it becomes an [`Errand`] of the lane's sink, with these facts,
    /// that ends where the spool ends at present, and there the lane goes on; both durably and at once. What the lane has
    /// read before `from` stays its own. Returns where it goes on; none if there is nothing to be set aside.
    ///
    /// # Errors
    /// If there is no such lane, the facts are too large, the disk fails, or the spool is being closed.
    pub async fn set_aside(
        &self,
        lane: &str,
        from: Position,
        facts: Bytes,
    ) -> Result<Option<Position>, ControlError> {
        no_larger("an errand's facts", facts.len(), LONGEST_FACTS)?;
        let change = Change::SetAside { lane: lane.to_owned(), from, facts };
        let changed = self.control(change).await?;
        let goes_on = || self.store().state().lanes.get(lane).map(|lane| lane.state.next);
        Ok(if changed.names.is_empty() { None } else { goes_on() })
    }

    /// Hands over to the lane `new` everything that `old` owes, its dead letters and seals, and the errands of that sink,
    /// durably and at once; returns the names under which it is now. Without a lane `new` this is a mere new name. Otherwise
    /// the old lane becomes an [`Errand`] of `new`, with these facts, that ends where `new` began to read: what came later
    /// `new` has closed, or still owes by itself. Should `old` have been owed pushes for longer than that, it ends at `until`.
    ///
    /// # Errors
    /// If there is no such lane, both names are one, `new` began no later than `old`, the facts are too large, the disk fails,
    /// or the spool is being closed.
    pub async fn hand_over_lane(
        &self,
        old: &str,
        new: &str,
        until: Position,
        facts: Bytes,
    ) -> Result<Vec<String>, ControlError> {
        no_larger("an errand's facts", facts.len(), LONGEST_FACTS)?;
        let change = Change::HandOver { old: old.to_owned(), new: new.to_owned(), until, facts };
        Ok(self.control(change).await?.names)
    }

    /// Forgets a lane and the errands of its sink, with everything that they owe and their dead letters, durably.
    ///
    /// # Errors
    /// If there is no such lane, the disk fails, or the spool is being closed.
    pub async fn retire_lane(&self, name: &str) -> Result<(), ControlError> {
        self.control(Change::Retire(name.to_owned())).await.map(drop)
    }

    /// Notes the configuration that is in force from here on; returns its generation, which grows with each change of the hash.
    ///
    /// # Errors
    /// If the disk fails, or the spool is being closed.
    pub async fn configured(&self, hash: [u8; 32]) -> Result<u64, ControlError> {
        Ok(self.control(Change::Configured(hash)).await?.generation)
    }

    /// Committed pushes (not quarantine) from `from` on, in order: at most `max`, and at most `max_bytes` of bodies, but one if
    /// there is one. [`Read::next`] is where to go on; it equals [`end`](Self::end) when there is nothing more.
    ///
    /// Blocks for a `pread` or a few; cheap when `from` is where the last read ended.
    ///
    /// # Errors
    /// If the disk cannot be read at `from`: see [`step_over`](Self::step_over). Damaged pushes are no error: they are in
    /// [`Read::lost`].
    pub fn read(&self, from: Position, max: usize, max_bytes: usize) -> Result<Read, ReadError> {
        self.store().read(from, max, max_bytes)
    }

    /// When [`read`](Self::read) fails at `unreadable`: the pushes that may share that place on disk, at most `max` of them, and where
    /// reading can go on. Each of them may still be had by [`get`](Self::get), now or later. Blocks as `read` does.
    pub fn step_over(&self, unreadable: Position, max: usize) -> (Vec<Position>, Position) {
        self.store().step_over(unreadable, max.max(1))
    }

    /// One push; none if there is no push at that position, or no longer. Blocks for a `pread` or two.
    ///
    /// # Errors
    /// If it is damaged, or the disk cannot be read.
    pub fn get(&self, position: Position) -> Result<Option<StoredPush>, ReadError> {
        Ok(self.store().stored(position)?.and_then(|stored| match stored {
            Stored::Push(push) => Some(push),
            Stored::Quarantine(_) => None,
        }))
    }

    /// Makes outcomes of one lane durable. The future is ready when they are; a caller need not wait, nor poll it: they are
    /// queued when this returns. Never fails: while the disk fails they are kept in memory and written again. Once the spool
    /// is closed it is ready at once and records nothing.
    ///
    /// An outcome for a delivery that is closed already changes nothing.
    pub fn record(
        &self,
        lane: &str,
        outcomes: Vec<(Position, Outcome)>,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.record_with_memos(lane, outcomes, Vec::new())
    }

    /// The same, and notes for the lane's driver in the same commit. What is beyond the bounds of [`Memo`] is not kept.
    pub fn record_with_memos(
        &self,
        lane: &str,
        outcomes: Vec<(Position, Outcome)>,
        memos: Vec<Memo>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (done, when_done) = oneshot::channel();
        self.handle.shared.inbox.put(Request::Record { lane: lane.to_owned(), outcomes, memos, done });
        let mut closed = self.handle.closed.clone();
        async move {
            // The writer ended without having been closed, so this never becomes durable. Whoever counted it as done
            // would deliver it again after the next start; whoever stops waits with a limit.
            if when_done.await.is_err() && closed.wait_for(|closed| *closed).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Seals pushes that the lane owes, durably: before this returns nothing may be made of them under the seal, and from then
    /// on they are open, and come back under it after a crash. See [`Seal`] for when it ends.
    ///
    /// # Errors
    /// If there is no such lane, something of it is closed or no push, key or facts are too large, the disk fails, or the
    /// spool is being closed. Then the pushes are as they were.
    pub async fn seal(&self, lane: &str, mut seal: Seal) -> Result<(), ControlError> {
        seal.positions.sort_unstable();
        seal.positions.dedup();
        no_larger("a seal's key", seal.key.len(), LONGEST_NAME)?;
        no_larger("a seal's facts", seal.facts.len(), LONGEST_FACTS)?;
        self.control(Change::Seal { lane: lane.to_owned(), seal }).await.map(drop)
    }

    /// How many deliveries a lane has open, and how many dead letters, at one moment: with none of either it owes nothing of
    /// what it has read.
    pub fn count_open(&self, lane: &str) -> (usize, usize) {
        self.store().state().lanes.get(lane).map_or((0, 0), |lane| (lane.state.open.len(), lane.dead.len()))
    }

    /// How many dead letters a lane has.
    pub fn count_dead_letters(&self, lane: &str) -> usize {
        self.store().state().lanes.get(lane).map_or(0, |lane| lane.dead.len())
    }

    /// Dead letters of a lane behind `after`, at most `max`, in order. Start with `Position(0)`. Blocks: reads each frame in
    /// which some of them died once.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn dead_letters(
        &self,
        lane: &str,
        after: Position,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        let letters = self.store().dead_letters(lane, after, max)?;
        Ok(letters.into_iter().map(|(position, dead)| dead_letter(lane, position, dead)).collect())
    }

    /// Wakes dead letters, durably: they are open again, with no attempts. Returns those that were dead.
    ///
    /// # Errors
    /// If there is no such lane, the disk fails, or the spool is being closed.
    pub async fn reopen(&self, lane: &str, positions: &[Position]) -> Result<Vec<Position>, ControlError> {
        let change = Change::Reopen { lane: lane.to_owned(), positions: positions.to_vec() };
        Ok(self.control(change).await?.positions)
    }

    /// Lets dead letters go, durably: nobody will deliver them. Returns those that were dead.
    ///
    /// # Errors
    /// If there is no such lane, the disk fails, or the spool is being closed.
    pub async fn discard(&self, lane: &str, positions: &[Position]) -> Result<Vec<Position>, ControlError> {
        let change = Change::Discard { lane: lane.to_owned(), positions: positions.to_vec() };
        Ok(self.control(change).await?.positions)
    }

    /// Quarantined bytes behind `after`, at most `max`, in order. Start with `Position(0)`.
    ///
    /// # Errors
    /// If they are damaged, or the disk cannot be read.
    pub fn quarantined(&self, after: Position, max: usize) -> Result<Vec<StoredQuarantine>, ReadError> {
        let positions: Vec<Position> = {
            let state = self.store().state();
            let held = state.quarantine.range(after.next()..).filter(|(_, held)| !held.discarded);
            held.map(|(position, _)| *position).take(max).collect()
        };
        let mut found = Vec::with_capacity(positions.len());
        for position in positions {
            if let Some(Stored::Quarantine(quarantine)) = self.store().stored(position)? {
                found.push(quarantine);
            }
        }
        Ok(found)
    }

    /// Lets quarantined bytes go, durably: they no longer count, and their room is free when their segment goes. Returns those
    /// that were in quarantine.
    ///
    /// # Errors
    /// If the disk fails, or the spool is being closed.
    pub async fn discard_quarantine(&self, positions: &[Position]) -> Result<Vec<Position>, ControlError> {
        Ok(self.control(Change::DiscardQuarantine(positions.to_vec())).await?.positions)
    }

    /// Numbers for metrics; cheap enough for every scrape, not for every push.
    pub fn stats(&self) -> Stats {
        let mut stats = crate::stats::of(&self.store().state());
        stats.health = self.store().health();
        stats.in_flight = self.handle.shared.inbox.bytes();
        if let Some(keeper) = self.handle.catalog.get() {
            let (known, has_all) = keeper.known();
            stats.catalog_behind = if has_all { 0 } else { self.end().0.saturating_sub(known.0) };
            stats.catalog_rebuilds = keeper.rebuilds();
        }
        stats
    }

    /// Which lanes hold the room, the largest first; those that hold nothing are left out. Looks at each dead letter: for when
    /// somebody is to be told, not for every scrape.
    pub fn holders(&self) -> Vec<Holder> {
        crate::stats::holders(&self.store().state())
    }

    /// Can a push be stored now?
    pub fn health(&self) -> Health {
        self.store().health()
    }

    /// Takes no more pushes, commits what waits, writes a checkpoint, and releases the lock. Reading goes on working.
    pub async fn close(&self) {
        self.handle.shared.inbox.stop();
        let mut closed = self.handle.closed.clone();
        // An error means that the writer is gone, which is as closed as can be.
        closed.wait_for(|closed| *closed).await.ok();
        if let Some(keeper) = self.handle.catalog.get() {
            keeper.stop().await;
        }
    }

    async fn control(&self, change: Change) -> Result<Changed, ControlError> {
        let (reply, answer) = oneshot::channel();
        let inbox = &self.handle.shared.inbox;
        if inbox.is_stopping() || !inbox.put(Request::Control(change, reply)) {
            return Err(ControlError::Stopping);
        }
        answer.await.unwrap_or(Err(ControlError::Stopping))
    }
}

fn at_most(what: &'static str, size: usize, limit: u64) -> Result<(), AppendError> {
    let size = size as u64;
    if size > limit { Err(AppendError::TooLarge { what, size, limit }) } else { Ok(()) }
}

fn no_larger(what: &'static str, size: usize, limit: usize) -> Result<(), ControlError> {
    if size > limit { Err(ControlError::TooLarge { what, size, limit }) } else { Ok(()) }
}

fn dead_letter(lane: &str, position: Position, dead: Option<crate::log::outcomes::Dead>) -> DeadLetter {
    let lane = lane.to_owned();
    match dead {
        Some(dead) => DeadLetter {
            lane,
            position,
            reason: dead.reason,
            excerpt: dead.excerpt,
            attempts: dead.attempts,
            died_at_ms: dead.died_at_ms,
        },
        None => DeadLetter {
            lane,
            position,
            reason: "the reason is damaged on disk".into(),
            excerpt: String::new(),
            attempts: 0,
            died_at_ms: 0,
        },
    }
}

fn lock(ground: &Ground, settings: &Settings) -> Result<Lock, OpenError> {
    let path = settings.path.clone();
    ground.directory.lock().map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked { path, holder: source.to_string() },
        _ => OpenError::Io { doing: "take the lock", path, source },
    })
}

/// When damage hides what lanes had done, a lane that seems new may be an old one: it starts at the beginning, whatever it
/// was to do. Repeats are said and harmless, gaps are neither.
fn starting_safely(lanes: &[NewLane], recovered: &Recovered) -> Vec<NewLane> {
    let start = |lane: &NewLane| if recovered.lanes_unknown { Start::Beginning } else { lane.start };
    lanes.iter().map(|lane| NewLane { name: lane.name.clone(), start: start(lane) }).collect()
}

/// Removes what the log no longer names, keeps aside what cannot be read, and writes indexes that are missing. All of it
/// may fail: the next start does it again.
fn tidy(store: &Store, recovered: &Recovered) {
    for name in &recovered.leftovers {
        if store.directory.remove(name).is_ok() {
            tracing::info!(file = name, "removed a file that the log no longer needs");
        }
    }
    for number in &recovered.unreadable {
        store.directory.rename(&segment::file_name(*number), &segment::damaged_name(*number)).ok();
    }
    for index in recovered.indexes.iter().filter(|i| recovered.scanned.contains(&i.stamp.segment)) {
        index.save(&*store.directory).ok();
    }
}

fn report(
    store: &Store,
    recovered: Recovered,
    registered: Vec<String>,
    now_ms: i64,
    took: Duration,
) -> Recovery {
    let off = recovered.newest_ms.map(|newest| Duration::from_millis(now_ms.abs_diff(newest)));
    let state = store.state();
    let recovery = Recovery {
        identity: recovered.identity,
        is_new: recovered.is_new,
        end: state.end,
        segments: state.segments.len(),
        bytes_read: recovered.bytes_read,
        torn_bytes: recovered.torn_bytes,
        damage: recovered.damage,
        registered,
        clock_off: off.filter(|off| *off > CLOCK_DOUBT),
        took,
    };
    if recovery.torn_bytes > 0 {
        tracing::warn!(
            bytes = recovery.torn_bytes,
            "cut an unfinished last write; no sender was told that it was stored, unless the disk broke it after the stop"
        );
    }
    for damage in &recovery.damage {
        let lost = damage.lost.map_or(0, |(first, last)| last.0 - first.0 + 1);
        tracing::error!(
            file = damage.file,
            offset = damage.offset,
            lost,
            "the spool is damaged on disk; lost pushes become dead letters, lost outcomes and seals fall back to repeats, the file is kept"
        );
    }
    recovery
}
