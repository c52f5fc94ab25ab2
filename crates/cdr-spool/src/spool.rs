//! The handle that everyone else holds: pushes go in, are read, and become something.

mod lanes;
mod opening;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::sync::{oneshot, watch};

pub use self::opening::Ground;
use crate::catalog::keeper::{self, Keeper};
use crate::inbox::{Change, Changed, Request};
use crate::store::{Store, Stored};
use crate::writer::Shared;
use crate::{
    AppendError, Appended, ControlError, Health, Holder, Memo, NewPush, NewQuarantine, Outcome, Position,
    Quarantined, Read, ReadError, SpoolId, Stats, StoredPush, StoredQuarantine, TermsOf,
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

impl<T> Spool<T> {
    fn store(&self) -> &Store {
        &self.handle.shared.store
    }
}

impl<T: Send + 'static> Spool<T> {
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
