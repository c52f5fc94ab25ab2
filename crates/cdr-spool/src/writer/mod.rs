//! The one thread that writes.
//!
//! [`Writer::run`] takes everything that waits, makes one frame of it, writes it, syncs it, and only then tells anyone:
//! first the state, then the commit callback, then those who wait. Outcomes alone are written at once and synced with the next
//! commit, at the latest after [`SYNC_OUTCOMES_WITHIN`].
//!
//! Read on in [`intake`] (what a request puts into the frame), [`commit`] (frame, segment, sync, failure),
//! [`control`] (lanes, dead letters), [`space`] (what may go).

mod commit;
mod control;
mod intake;
mod reserve;
pub(crate) mod space;
mod tail;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use self::intake::Batch;
use self::space::AgeGuard;
use self::tail::Tail;
use crate::dedupe::Dedupe;
use crate::disk::{Directory, Lock};
use crate::inbox::{Inbox, Request, Taken};
use crate::log::frame::FrameBuilder;
use crate::log::outcomes::{Item, Items};
use crate::recovery::{Doubtful, Recovered};
use crate::spool::OnCommit;
use crate::store::Store;
use crate::{Health, NewLane, OpenError, Position};

/// A power cut forgets at most this much of what was delivered; `kill -9` forgets nothing.
const SYNC_OUTCOMES_WITHIN: Duration = Duration::from_millis(50);
/// A frame is ended when it has grown to this, so that memory and the price of reading one push stay small.
const LARGE_FRAME: u64 = 1024 * 1024;
/// How often the writer looks after age and room when nothing else wakes it.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// What handles and the writer share.
pub(crate) struct Shared<T> {
    pub(crate) store: Store,
    pub(crate) inbox: Inbox<T>,
}

impl<T> AsRef<Store> for Shared<T> {
    fn as_ref(&self) -> &Store {
        &self.store
    }
}

pub(crate) struct Writer<T> {
    shared: Arc<Shared<T>>,
    on_commit: OnCommit<T>,
    /// None while the disk fails.
    tail: Option<Tail>,
    next_number: u64,
    /// The last segment that ended, and where.
    last: (u64, u64),
    /// The next position to be given.
    next: Position,
    dedupe: Dedupe,
    /// The frame being made, and who waits for it.
    frame: FrameBuilder,
    batch: Batch<T>,
    /// Outcomes that changed the state and are not yet in a frame, by lane.
    unwritten: BTreeMap<String, Items>,
    /// Outcomes in frames that are not yet synced; if the sync fails they are written again.
    unsynced: BTreeMap<String, Items>,
    /// The lane and key of each memo that changed and is not yet in a frame; the state has what it says.
    unwritten_memos: BTreeSet<(String, String)>,
    /// Those in frames that are not yet synced.
    unsynced_memos: BTreeSet<(String, String)>,
    /// Who waits for outcomes.
    waiting: Vec<oneshot::Sender<()>>,
    /// When unsynced outcomes are synced (clock: running).
    sync_due: Option<Duration>,
    /// When a failing disk is tried again (clock: running), and how long it will be after that.
    retry_due: Duration,
    backoff: Duration,
    look_due: Duration,
    /// Bytes of all segments.
    used: u64,
    age: AgeGuard,
    /// Something was closed since room was last looked for in vain.
    room_may_have_come: bool,
    /// The reserve file is there.
    reserved: bool,
    closed: watch::Sender<bool>,
    /// Held until the writer ends.
    lock: Option<Lock>,
}

impl<T> Writer<T> {
    /// Begins a new segment on what was recovered; a segment that ended in a crash is never appended to again.
    pub(crate) fn start(
        shared: Arc<Shared<T>>,
        on_commit: OnCommit<T>,
        recovered: Start,
        lanes: &[NewLane],
        lock: Lock,
        closed: watch::Sender<bool>,
    ) -> Result<(Writer<T>, Vec<String>), OpenError> {
        let clock = &shared.store.clock;
        let age = AgeGuard::start(clock.wall_ms(), clock.running(), recovered.newest_ms);
        let look_due = clock.running();
        let next = shared.store.state().end;
        let mut writer = Writer {
            shared,
            on_commit,
            tail: None,
            next_number: recovered.next_number,
            last: recovered.last,
            next,
            dedupe: recovered.dedupe,
            frame: FrameBuilder::new(),
            batch: Batch::starting_at(next),
            unwritten: BTreeMap::new(),
            unsynced: BTreeMap::new(),
            unwritten_memos: BTreeSet::new(),
            unsynced_memos: BTreeSet::new(),
            waiting: Vec::new(),
            sync_due: None,
            retry_due: Duration::ZERO,
            backoff: commit::FIRST_BACKOFF,
            look_due,
            used: 0,
            age,
            room_may_have_come: true,
            reserved: false,
            closed,
            lock: Some(lock),
        };
        for (lane, position, item) in recovered.dead {
            writer.fold(&lane, position, item);
        }
        let registered = writer.register(lanes);
        writer.open_for_the_first_time(&recovered.in_doubt)?;
        Ok((writer, registered))
    }

    /// Works until the spool is closed, or its last handle is gone.
    pub(crate) fn run(mut self) {
        loop {
            let Taken { requests, bytes, stopping } = self.shared.inbox.take(self.patience());
            let idle = requests.is_empty();
            self.shared.store.round.begin(self.running());
            requests.into_iter().for_each(|request| self.take(request));
            self.commit();
            self.shared.inbox.done(bytes);
            self.look_after();
            self.shared.store.round.end(self.running());
            if stopping && idle {
                break;
            }
        }
        self.finish();
    }

    fn take(&mut self, request: Request<T>) {
        match request {
            Request::Append(push, reply) => self.take_push(push, reply),
            Request::Quarantine(found, reply) => self.take_quarantine(found, reply),
            Request::Record { lane, outcomes, memos, done } => {
                self.take_memos(&lane, memos);
                self.take_outcomes(&lane, outcomes, done);
            }
            Request::Control(change, reply) => self.control(change, reply),
        }
        if self.is_large(&self.frame) {
            self.commit();
        }
    }

    fn is_large(&self, frame: &FrameBuilder) -> bool {
        frame.size() as u64 >= LARGE_FRAME.min(self.shared.store.segment_size / 4)
    }

    /// How long the writer may sleep.
    fn patience(&self) -> Duration {
        let mut due = self.look_due;
        if let Some(sync) = self.sync_due {
            due = due.min(sync);
        }
        if self.tail.is_none() {
            due = due.min(self.retry_due);
        }
        due.saturating_sub(self.running())
    }

    /// What is due by time, and not because someone asked.
    fn look_after(&mut self) {
        let now = self.running();
        if self.tail.is_none() && now >= self.retry_due {
            self.try_again();
        }
        if self.sync_due.is_some_and(|due| now >= due) {
            self.sync();
        }
        if now >= self.look_due {
            self.look_due = now + LOOK_AFTER;
            self.look_for_the_segment();
            self.let_go_by_age();
            self.restore_reserve();
            self.open_the_door_if_there_is_room();
            self.shared.store.state_mut().prune_lost();
            self.dedupe.take_filters();
        }
    }

    fn finish(&mut self) {
        self.sync();
        if self.tail.is_none() {
            // The disk may be back before its time: what waits for it is lost otherwise.
            self.try_again();
        }
        let checkpoint = self.shared.store.state().checkpoint();
        self.frame.checkpoint(&checkpoint);
        self.commit();
        self.sync();
        let lost: usize =
            self.unwritten.values().chain(self.unsynced.values()).map(|items| items.len()).sum();
        let memos = self.unwritten_memos.len() + self.unsynced_memos.len();
        if lost + memos > 0 {
            tracing::warn!(
                outcomes = lost,
                memos,
                "the disk fails: outcomes could not be written, these deliveries will be repeated after the next start; what sinks \
                 noted about them is lost, too"
            );
        }
    }

    fn running(&self) -> Duration {
        self.shared.store.clock.running()
    }

    fn wall_ms(&self) -> i64 {
        self.shared.store.clock.wall_ms()
    }
}

/// However the writer ends: nobody waits for it for ever.
impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.shared.inbox.end();
        if std::thread::panicking() {
            let reason = "the writer met a fault in the program; restart the gateway".to_owned();
            tracing::error!(reason, "the spool has stopped");
            self.shared.store.state_mut().health =
                Health::Failing { reason, since: std::time::SystemTime::now() };
        }
        // Whoever waits for the end may open the spool again.
        self.lock = None;
        self.closed.send_replace(true);
    }
}

/// What the writer goes on from.
pub(crate) struct Start {
    pub(crate) next_number: u64,
    pub(crate) last: (u64, u64),
    pub(crate) newest_ms: Option<i64>,
    pub(crate) dedupe: Dedupe,
    /// Outcomes that recovery found necessary.
    pub(crate) dead: Vec<(String, Position, Item)>,
    /// What recovery believes and cannot prove to be durable.
    pub(crate) in_doubt: Vec<Doubtful>,
}

impl Start {
    pub(crate) fn of(
        recovered: &mut Recovered,
        directory: &dyn Directory,
        now_ms: i64,
        dedupe_window: Duration,
    ) -> Start {
        let dead = recovered.dead_of_lost(now_ms);
        recovered.give_up_the_doubtful();
        let dedupe = intake::remembered(recovered, directory, now_ms, dedupe_window);
        Start {
            next_number: recovered.next_number,
            last: recovered.last,
            newest_ms: recovered.newest_ms,
            dedupe,
            dead,
            in_doubt: std::mem::take(&mut recovered.in_doubt),
        }
    }
}
