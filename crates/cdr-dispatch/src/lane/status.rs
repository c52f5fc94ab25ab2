//! What a lane tells about itself: numbers for metrics, words for the operator.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use cdr_core::Position;
use jiff::Timestamp;
use tokio::time::Instant;

use super::pace::{HeldBack, Part};

/// The state of one lane, read by whoever asks; written by the lane alone.
#[derive(Debug, Default)]
pub struct LaneStatus {
    delivered: AtomicU64,
    failed: AtomicU64,
    died: AtomicU64,
    attempts: AtomicU64,
    /// Attempts under way, exactly, for the other lanes of the sink.
    under_way: AtomicUsize,
    /// It has something to do, and needs its part of the sink's pace.
    is_busy: AtomicBool,
    /// It could begin an attempt now if the other lanes of the sink left room.
    waits: AtomicBool,
    /// Of what was set aside of the sink, those lanes together.
    aside: Aside,
    /// That of the sink's own lane, as a part of which this one counts.
    own: Option<Arc<LaneStatus>>,
    now: Mutex<LaneNow>,
}

#[derive(Debug, Default)]
struct Aside {
    under_way: AtomicUsize,
    busy: AtomicUsize,
    waiting: AtomicUsize,
    /// Whether the sink's last attempt was one of theirs.
    was_last: AtomicBool,
}

/// Where a lane is at the moment.
#[derive(Clone, Debug, Default)]
pub struct LaneNow {
    /// Why it is paused, if it is.
    pub paused: Option<PausedNow>,
    /// The first position that it has not read.
    pub next: u64,
    /// Deliveries read and not closed.
    pub open: usize,
    /// Those of them that failed and wait for their next attempt.
    pub waiting: usize,
    /// Attempts under way.
    pub trying: usize,
    /// What the rate limit does.
    pub held_back: HeldBack,
    /// When the oldest undelivered push arrived, in milliseconds since 1970.
    pub oldest_received_at_ms: Option<i64>,
    /// What of the spool it cannot read, if there is anything.
    pub unreadable: Option<UnreadableNow>,
    /// The last failure, in words for the operator; empty when there was none.
    pub last_failure: String,
}

/// What a lane cannot read, for the operator.
#[derive(Clone, Debug)]
pub struct UnreadableNow {
    /// Since when there is something.
    pub since: Timestamp,
    /// How many pushes wait for another look; those that the lane has not come to are not counted.
    pub pushes: usize,
    /// What the disk said last.
    pub reason: String,
}

/// A pause, for the operator.
#[derive(Clone, Debug)]
pub struct PausedNow {
    /// When it began.
    pub since: Timestamp,
    /// Why.
    pub reason: String,
    /// When the next probe may go out.
    pub probe_at: Instant,
}

/// Counters of a lane since the process started, and where it is now.
#[derive(Clone, Debug, Default)]
pub struct LaneSnapshot {
    /// Deliveries that were confirmed.
    pub delivered: u64,
    /// Attempts on a push that failed and will be made again.
    pub failed: u64,
    /// Deliveries that became dead letters.
    pub died: u64,
    /// Calls of the sink.
    pub attempts: u64,
    /// Where it is now.
    pub now: LaneNow,
}

impl LaneStatus {
    /// Of a lane whose deliveries count as those of the sink's `own` lane, too.
    pub(super) fn part_of(own: &Arc<Self>) -> Self {
        Self { own: Some(Arc::clone(own)), ..Self::default() }
    }

    fn count(&self, counter: impl Fn(&Self) -> &AtomicU64) {
        for status in [Some(self), self.own.as_deref()].into_iter().flatten() {
            counter(status).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says to the other lanes of the sink how many attempts are under way here, and whether there is something to do.
    ///
    /// They are on one thread: nobody adds to these numbers between a look at them and the attempts that follow from it.
    pub(super) fn share_pace(&self, under_way: usize, is_busy: bool) {
        let before = self.under_way.swap(under_way, Ordering::Relaxed);
        let was_busy = self.is_busy.swap(is_busy, Ordering::Relaxed);
        let Some(Aside { under_way: all, busy, .. }) = self.own.as_deref().map(|own| &own.aside) else {
            return;
        };
        all.fetch_add(under_way, Ordering::Relaxed);
        all.fetch_sub(before, Ordering::Relaxed);
        busy.fetch_add(usize::from(is_busy), Ordering::Relaxed);
        busy.fetch_sub(usize::from(was_busy), Ordering::Relaxed);
    }

    /// Says to the other lanes of the sink whether this one waits for them.
    pub(super) fn waits_for_room(&self, waits: bool) {
        let did = self.waits.swap(waits, Ordering::Relaxed);
        if let Some(own) = self.own.as_deref() {
            own.aside.waiting.fetch_add(usize::from(waits), Ordering::Relaxed);
            own.aside.waiting.fetch_sub(usize::from(did), Ordering::Relaxed);
        }
    }

    /// Says to them that this one begins an attempt.
    pub(super) fn begins(&self) {
        let aside = self.own.as_deref().map_or(&self.aside, |own| &own.aside);
        aside.was_last.store(self.own.is_some(), Ordering::Relaxed);
    }

    /// What is left to this lane of the sink's pace.
    pub(super) fn part(&self) -> Part {
        let of = |number: &AtomicUsize| number.load(Ordering::Relaxed);
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        match self.own.as_deref() {
            Some(LaneStatus { under_way, aside, waits, .. }) if is(&self.is_busy) => Part::Aside {
                fresh: of(under_way),
                beside: of(&aside.under_way).saturating_sub(of(&self.under_way)),
                lanes: of(&aside.busy).max(1),
                gives_way: is(waits) && is(&aside.was_last),
            },
            None if of(&self.aside.busy) > 0 => Part::Fresh {
                aside: of(&self.aside.under_way),
                gives_way: of(&self.aside.waiting) > 0 && !is(&self.aside.was_last),
            },
            _ => Part::Whole,
        }
    }

    pub(super) fn count_delivered(&self) {
        self.count(|status| &status.delivered);
    }

    pub(super) fn count_failed(&self, reason: &str) {
        self.count(|status| &status.failed);
        self.note_failure(reason);
    }

    pub(super) fn count_died(&self, reason: &str) {
        self.count(|status| &status.died);
        self.note_failure(reason);
    }

    pub(super) fn count_attempt(&self) {
        self.count(|status| &status.attempts);
    }

    pub(super) fn note_failure(&self, reason: &str) {
        self.lock().last_failure = reason.to_owned();
    }

    pub(super) fn is_at(
        &self,
        paused: Option<PausedNow>,
        next: Position,
        open: usize,
        waiting: usize,
        trying: usize,
    ) {
        let mut now = self.lock();
        (now.paused, now.next, now.open, now.waiting, now.trying) = (paused, next.0, open, waiting, trying);
    }

    pub(super) fn cannot_read(&self, unreadable: Option<UnreadableNow>) {
        self.lock().unreadable = unreadable;
    }

    pub(super) fn is_held_back(&self, held_back: HeldBack) {
        self.lock().held_back = held_back;
    }

    pub(super) fn oldest_is(&self, received_at_ms: Option<i64>) {
        self.lock().oldest_received_at_ms = received_at_ms;
    }

    /// All of it, at this moment.
    pub fn snapshot(&self) -> LaneSnapshot {
        LaneSnapshot {
            delivered: self.delivered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            died: self.died.load(Ordering::Relaxed),
            attempts: self.attempts.load(Ordering::Relaxed),
            now: self.lock().clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LaneNow> {
        // Plain assignments: nothing in here panics half-way.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
