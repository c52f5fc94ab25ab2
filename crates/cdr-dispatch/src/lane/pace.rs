//! How fast a lane goes: running, paused, or feeling its way back.
//!
//! A sink that is away costs one probe per back-off, however many pushes wait (no retry storm). After an
//! outage the lane starts with one attempt at a time and doubles with each success.

use std::{collections::BTreeSet, time::Duration};

use cdr_core::Position;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::retry::RetryPolicy;

/// So many failures in a row, of different pushes, mean that the sink is away.
const FAILURES_IN_A_ROW: usize = 5;

/// The pace of one lane.
#[derive(Debug)]
pub struct Pace {
    policy: RetryPolicy,
    /// As the configuration wants it.
    concurrency: usize,
    /// As it may be now; grows back to `concurrency` after an outage.
    allowed: usize,
    /// Pushes that failed since the last success, each once.
    failed: BTreeSet<Position>,
    pause: Option<Pause>,
    running: Stopwatch,
}

/// Why and until when a lane is paused.
#[derive(Clone, Debug)]
pub struct Pause {
    /// When it began.
    pub since: Timestamp,
    /// Why, in words for the operator.
    pub reason: String,
    /// When the next probe may go out.
    pub probe_at: Instant,
    /// How many probes found the sink away, the first failure included.
    pub failures: u32,
}

/// What a report changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing the operator need hear of.
    None,
    /// The lane is paused from now on.
    Paused,
    /// It runs again.
    Resumed,
}

impl Pace {
    /// A lane that runs at full pace.
    pub fn new(policy: RetryPolicy, concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        let running = Stopwatch::started();
        Self { policy, concurrency, allowed: concurrency, failed: BTreeSet::new(), pause: None, running }
    }

    /// Takes a new configuration; a paused lane probes at once, since the edit may be the repair.
    pub fn reconfigure(&mut self, policy: RetryPolicy, concurrency: usize) {
        self.policy = policy;
        self.concurrency = concurrency.max(1);
        self.allowed = self.allowed.min(self.concurrency);
        if self.pause.is_none() {
            self.allowed = self.concurrency;
        }
        self.probe_now();
    }

    /// Lets a paused lane probe at once.
    pub fn probe_now(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.probe_at = Instant::now();
        }
    }

    /// The pause, if there is one.
    pub fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// How many more attempts may start now, when `running` are under way.
    pub fn room(&self, running: usize) -> usize {
        match &self.pause {
            None => self.allowed.saturating_sub(running),
            // One probe, and only when nothing else is under way.
            Some(pause) => usize::from(running == 0 && pause.probe_at <= Instant::now()),
        }
    }

    /// Time for which the lane was not paused, since it was made: the clock that counts towards giving up.
    pub fn active_time(&self) -> Duration {
        self.running.elapsed()
    }

    /// An attempt passed, or was refused in a way that shows the sink alive.
    pub fn succeeded(&mut self) -> Turn {
        self.failed.clear();
        if self.pause.take().is_some() {
            self.allowed = 1;
            self.running.start();
            return Turn::Resumed;
        }
        self.allowed = (self.allowed * 2).min(self.concurrency);
        Turn::None
    }

    /// An attempt failed for this push; many different ones in a row pause the lane.
    pub fn failed(&mut self, position: Position, reason: &str) -> Turn {
        self.failed.insert(position);
        if self.pause.is_some() || self.failed.len() >= FAILURES_IN_A_ROW {
            return self.unavailable(&format!("many pushes fail in a row, the last with: {reason}"), None);
        }
        Turn::None
    }

    /// The sink said that it takes nothing.
    pub fn unavailable(&mut self, reason: &str, retry_after: Option<Duration>) -> Turn {
        let failures = self.pause.as_ref().map_or(1, |pause| pause.failures.saturating_add(1));
        let probe_at = Instant::now() + self.policy.wait(failures, retry_after);
        let since = self.pause.as_ref().map_or_else(Timestamp::now, |pause| pause.since);
        let began =
            self.pause.replace(Pause { since, reason: reason.to_owned(), probe_at, failures }).is_none();
        self.running.stop();
        if began { Turn::Paused } else { Turn::None }
    }
}

/// Adds up the time between `start` and `stop`.
#[derive(Debug)]
struct Stopwatch {
    before: Duration,
    since: Option<Instant>,
}

impl Stopwatch {
    fn started() -> Self {
        Self { before: Duration::ZERO, since: Some(Instant::now()) }
    }

    fn start(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    fn stop(&mut self) {
        self.before = self.elapsed();
        self.since = None;
    }

    fn elapsed(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
