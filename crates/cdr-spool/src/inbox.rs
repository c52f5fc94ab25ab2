//! What waits for the writer.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    AppendError, Appended, ControlError, Memo, NewLane, NewPush, NewQuarantine, Outcome, Position,
    Quarantined, Seal,
};

/// Something to be made durable, and who waits for it.
pub(crate) enum Request<T> {
    Append(NewPush<T>, oneshot::Sender<Result<Appended, AppendError>>),
    Quarantine(NewQuarantine, oneshot::Sender<Result<Quarantined, AppendError>>),
    Record { lane: String, outcomes: Vec<(Position, Outcome)>, memos: Vec<Memo>, done: oneshot::Sender<()> },
    Control(Change, oneshot::Sender<Result<Changed, ControlError>>),
}

/// A decision about lanes, seals, dead letters, quarantine or the configuration.
pub(crate) enum Change {
    Register(Vec<NewLane>),
    /// A temporary lane over what arrived in a time.
    Begin {
        sink: String,
        from_ms: Option<i64>,
        to_ms: Option<i64>,
        facts: Bytes,
    },
    /// What a lane has not read, from a position on, becomes a temporary lane.
    SetAside {
        lane: String,
        from: Position,
        facts: Bytes,
    },
    HandOver {
        old: String,
        new: String,
        /// Up to where the old one was owed pushes, should it be behind where the new one began.
        until: Position,
        facts: Bytes,
    },
    Retire(String),
    Reopen {
        lane: String,
        positions: Vec<Position>,
    },
    Discard {
        lane: String,
        positions: Vec<Position>,
    },
    Seal {
        lane: String,
        seal: Seal,
    },
    DiscardQuarantine(Vec<Position>),
    Configured([u8; 32]),
}

/// What a decision changed.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) names: Vec<String>,
    pub(crate) positions: Vec<Position>,
    pub(crate) generation: u64,
}

/// The queue before the writer. Only its bytes are bounded: what a push costs is its body.
pub(crate) struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    work: Condvar,
}

struct Queue<T> {
    requests: Vec<Request<T>>,
    /// Bytes of bodies queued or being committed.
    bytes: u64,
    asleep: bool,
    stopping: bool,
    /// The writer is gone; nothing will be answered any more.
    gone: bool,
}

/// What the writer finds when it wakes.
pub(crate) struct Taken<T> {
    pub(crate) requests: Vec<Request<T>>,
    /// The bytes to be given back with [`Inbox::done`].
    pub(crate) bytes: u64,
    pub(crate) stopping: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Inbox<T> {
        let queue = Queue { requests: Vec::new(), bytes: 0, asleep: false, stopping: false, gone: false };
        Inbox { queue: Mutex::new(queue), work: Condvar::new() }
    }

    /// Queues a request with bodies of `bytes`, unless more than `limit` would wait.
    pub(crate) fn offer(&self, request: Request<T>, bytes: u64, limit: u64) -> Result<(), AppendError> {
        let mut queue = self.lock();
        if queue.stopping || queue.gone {
            return Err(AppendError::Stopping);
        }
        // One push always may wait, or a small limit would refuse every large body for ever.
        if queue.bytes > 0 && queue.bytes + bytes > limit {
            return Err(AppendError::Busy { waiting: queue.bytes });
        }
        queue.bytes += bytes;
        self.add(queue, request);
        Ok(())
    }

    /// Queues an outcome or a decision; false if the writer is gone. Outcomes are taken until the writer has ended.
    pub(crate) fn put(&self, request: Request<T>) -> bool {
        let queue = self.lock();
        if queue.gone {
            return false;
        }
        self.add(queue, request);
        true
    }

    fn add(&self, mut queue: MutexGuard<'_, Queue<T>>, request: Request<T>) {
        queue.requests.push(request);
        if queue.asleep {
            queue.asleep = false;
            drop(queue);
            self.work.notify_one();
        }
    }

    /// Everything that waits; if nothing does, waits up to `patience` for it.
    pub(crate) fn take(&self, patience: Duration) -> Taken<T> {
        let mut queue = self.lock();
        if queue.requests.is_empty() && !queue.stopping {
            queue.asleep = true;
            let waiting = |queue: &mut Queue<T>| queue.asleep && !queue.stopping;
            queue = self
                .work
                .wait_timeout_while(queue, patience, waiting)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            queue.asleep = false;
        }
        Taken { requests: std::mem::take(&mut queue.requests), bytes: queue.bytes, stopping: queue.stopping }
    }

    /// Gives back the bytes of what was answered.
    pub(crate) fn done(&self, bytes: u64) {
        self.lock().bytes -= bytes;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Takes no more pushes; the writer ends when it has done what waits.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.work.notify_one();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// The writer ends. Whoever still waits is let go: the queue is dropped, and with it the answers' senders.
    pub(crate) fn end(&self) {
        let mut queue = self.lock();
        queue.gone = true;
        queue.requests.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
