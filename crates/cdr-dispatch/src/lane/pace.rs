//! How fast a lane goes: running, paused, or feeling its way back; and never faster than its `rate_limit`.
//!
//! A sink that is away costs one probe per back-off, however many pushes wait (no retry storm). After an
//! outage the lane starts with one attempt at a time and doubles with each success.
//!
//! Attempts that were under way when a pause began tell nothing new when they come back: an outage counts once,
//! not once per attempt, and only a probe ends it. So each attempt bears the [epoch](Pace::epoch) in which it began.

use std::{collections::BTreeSet, time::Duration};

use cdr_core::Position;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    rate::{Limiter, Rate},
    retry::RetryPolicy,
};

/// So many failures in a row, of different pushes at their first attempt, mean that the sink is away.
const FAILURES_IN_A_ROW: usize = 5;

/// Which stretch of running or pausing an attempt began in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch(u64);

/// The pace of one lane.
#[derive(Debug)]
pub struct Pace {
    policy: RetryPolicy,
    /// As the configuration wants it.
    concurrency: usize,
    /// As it may be now; grows back to `concurrency` after an outage.
    allowed: usize,
    /// Other lanes of the sink may have the rest.
    part: Part,
    /// Pushes whose first attempt failed since the last success.
    failed: BTreeSet<Position>,
    pause: Option<Pause>,
    epoch: Epoch,
    running: Stopwatch,
    limiter: Option<Limiter>,
    held: Stopwatch,
}

/// How much of a sink's concurrency and rate a lane has. What is fresh and what was set aside have a half each, and not whatever
/// the other leaves: one would starve the other. Attempts that are under way count until they are over, so that both
/// together keep to the sink's concurrency at any moment. One attempt at a time has no half: there they take turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of it.
    Whole,
    /// Half, rounded up, for what is fresh, while so many attempts are under way on what was set aside.
    Fresh {
        /// Those attempts.
        aside: usize,
        /// What was set aside waits, and the last attempt was a fresh one.
        gives_way: bool,
    },
    /// Half, rounded down, but at least one attempt, for what was set aside.
    Aside {
        /// Attempts under way on what is fresh.
        fresh: usize,
        /// Attempts of other such lanes.
        beside: usize,
        /// How many such lanes are busy, at least one: they share the half.
        lanes: usize,
        /// What is fresh waits, and the last attempt was none of it.
        gives_way: bool,
    },
}

impl Part {
    /// The room of how many pushes each one takes in the sink's rate.
    fn cost(self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Fresh { .. } => 2,
            Self::Aside { lanes, .. } => lanes.saturating_mul(2),
        }
    }

    fn gives_way(self) -> bool {
        matches!(self, Self::Fresh { gives_way: true, .. } | Self::Aside { gives_way: true, .. })
    }
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
    failures: u32,
}

/// How the rate limit holds pushes back.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeldBack {
    /// The limit; none: there is none.
    pub rate: Option<Rate>,
    /// Since when pushes wait for nothing else; none: none do.
    pub since: Option<Instant>,
    before: Duration,
}

impl HeldBack {
    /// For how long pushes waited for nothing else, since the lane was made.
    pub fn total(&self) -> Duration {
        Stopwatch { before: self.before, since: self.since }.elapsed()
    }
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
    pub fn new(policy: RetryPolicy, concurrency: usize, limit: Option<Rate>) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            policy,
            concurrency,
            allowed: concurrency,
            part: Part::Whole,
            failed: BTreeSet::new(),
            pause: None,
            epoch: Epoch(0),
            running: Stopwatch::started(),
            limiter: limit.map(Limiter::new),
            held: Stopwatch::default(),
        }
    }

    /// Takes a new configuration; a paused lane probes at once, since the edit may be the repair.
    pub fn reconfigure(&mut self, policy: RetryPolicy, concurrency: usize, limit: Option<Rate>) {
        self.policy = policy;
        // The same limit goes on as it is: a reload is no way around it.
        if self.limiter.as_ref().map(Limiter::rate) != limit {
            self.limiter = limit.map(Limiter::new);
        }
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

    /// What an attempt that begins now must bear.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many more attempts may start now, when `running` are under way.
    pub fn room(&self, running: usize) -> usize {
        match &self.pause {
            None => self.room_beside(running),
            // One probe, and only when nothing else is under way.
            Some(pause) => usize::from(running == 0 && pause.probe_at <= Instant::now()),
        }
    }

    /// Takes this part of the sink's concurrency and rate from now on.
    pub fn take_part(&mut self, part: Part) {
        let begins_beside = matches!(part, Part::Aside { .. }) && self.part == Part::Whole;
        self.part = part;
        if let (true, Some(limiter)) = (begins_beside, &mut self.limiter) {
            // The other lane may just have taken its own.
            limiter.end_rest();
        }
    }

    /// The most that it may ever have under way at present.
    fn most(&self) -> usize {
        let part = match self.part {
            Part::Whole => self.concurrency,
            Part::Fresh { .. } => self.concurrency.div_ceil(2),
            Part::Aside { .. } => (self.concurrency / 2).max(1),
        };
        self.allowed.min(part)
    }

    fn room_beside(&self, running: usize) -> usize {
        let (of_part, others) = match self.part {
            Part::Whole => (0, 0),
            Part::Fresh { aside, .. } => (0, aside),
            Part::Aside { fresh, beside, .. } => (beside, fresh),
        };
        if self.concurrency == 1 && self.part.gives_way() {
            return 0;
        }
        let running = running + of_part;
        self.most().saturating_sub(running).min(self.concurrency.saturating_sub(running + others))
    }

    /// Whether nothing but other lanes of the sink keeps an attempt from beginning: none of them tells when one of theirs is over.
    pub fn is_crowded_out(&self, running: usize) -> bool {
        self.pause.is_none() && running < self.most() && self.room(running) == 0
    }

    /// Lets a lane feel its way back, as after an outage.
    pub fn start_slowly(&mut self) {
        self.allowed = 1;
    }

    /// Until when the rate limit lets no attempt begin; none when one may begin now.
    pub fn held_until(&self) -> Option<Instant> {
        self.limiter.as_ref().and_then(Limiter::held_until)
    }

    /// An attempt on so many pushes begins.
    pub fn began(&mut self, pushes: usize) {
        if let Some(limiter) = &mut self.limiter {
            limiter.began(pushes.saturating_mul(self.part.cost()));
        }
    }

    /// Notes whether it is the rate limit that pushes wait for; tells for how long they have, and since when.
    pub fn note_held(&mut self, is_held: bool) -> HeldBack {
        if is_held {
            self.held.start()
        } else {
            self.held.stop()
        }
        let Stopwatch { before, since } = self.held;
        HeldBack { before, since, rate: self.limiter.as_ref().map(Limiter::rate) }
    }

    /// Time for which the lane was not paused, since it was made: the clock that counts towards giving up.
    pub fn active_time(&self) -> Duration {
        self.running.elapsed()
    }

    /// An attempt passed, or was refused in a way that shows the sink alive.
    pub fn succeeded(&mut self, began: Epoch) -> Turn {
        self.failed.clear();
        if self.pause.is_none() {
            self.allowed = (self.allowed * 2).min(self.concurrency);
            return Turn::None;
        }
        if began != self.epoch {
            return Turn::None;
        }
        self.pause = None;
        self.epoch.0 += 1;
        self.allowed = 1;
        self.running.start();
        Turn::Resumed
    }

    /// An attempt on this push failed. Many different pushes in a row pause the lane, by their first attempt
    /// only: those that fail again and again while others pass hold up nobody.
    pub fn failed(&mut self, began: Epoch, position: Position, is_first: bool, reason: &str) -> Turn {
        if is_first {
            self.failed.insert(position);
        }
        if self.pause.is_some() || self.failed.len() >= FAILURES_IN_A_ROW {
            return self.unavailable(
                began,
                &format!("many pushes fail in a row, the last with: {reason}"),
                None,
            );
        }
        Turn::None
    }

    /// The sink said that it takes nothing.
    pub fn unavailable(&mut self, began: Epoch, reason: &str, retry_after: Option<Duration>) -> Turn {
        let now = Instant::now();
        if began != self.epoch {
            // No news but for how long it wants to be left alone.
            if let (Some(pause), Some(asked)) = (&mut self.pause, retry_after) {
                pause.probe_at = pause.probe_at.max(now + asked.min(self.policy.max));
            }
            return Turn::None;
        }
        let failures = self.pause.as_ref().map_or(1, |pause| pause.failures.saturating_add(1));
        let probe_at = now + self.policy.wait(failures, retry_after);
        let since = self.pause.as_ref().map_or_else(Timestamp::now, |pause| pause.since);
        let before = self.pause.replace(Pause { since, reason: reason.to_owned(), probe_at, failures });
        if before.is_some() {
            return Turn::None;
        }
        self.epoch.0 += 1;
        self.running.stop();
        Turn::Paused
    }
}

/// Adds up the time between `start` and `stop`.
#[derive(Clone, Copy, Debug, Default)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_counts_once_however_many_attempts_were_under_way() {
        let mut pace = Pace::new(RetryPolicy::default(), 8, None);
        let began = pace.epoch();
        assert_eq!(pace.unavailable(began, "refused", None), Turn::Paused);
        for _ in 1..8 {
            assert_eq!(pace.unavailable(began, "refused", None), Turn::None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pace.room(0), 1, "the first probe goes out after the first wait");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_probe_ends_a_pause_and_a_retry_after_is_kept() {
        let mut pace = Pace::new(RetryPolicy::default(), 8, None);
        let began = pace.epoch();
        assert_eq!(pace.unavailable(began, "429", Some(Duration::from_secs(60))), Turn::Paused);
        assert_eq!(pace.succeeded(began), Turn::None, "it was under way before");
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(pace.room(0), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pace.room(0), 1);
        assert_eq!(pace.succeeded(pace.epoch()), Turn::Resumed);
        assert_eq!(pace.room(0), 1, "it feels its way back");
        let epoch = pace.epoch();
        for _ in 0..3 {
            assert_eq!(pace.succeeded(epoch), Turn::None);
        }
        assert_eq!(pace.room(0), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn pushes_that_fail_again_do_not_pause_the_others() {
        let mut pace = Pace::new(RetryPolicy::default(), 8, None);
        let epoch = pace.epoch();
        for position in 0..100 {
            assert_eq!(pace.failed(epoch, Position(position), false, "404"), Turn::None);
        }
        let turns: Vec<_> =
            (0..5).map(|position| pace.failed(epoch, Position(position), true, "500")).collect();
        assert_eq!(turns.last(), Some(&Turn::Paused));
    }

    fn shared(concurrency: usize) -> Pace {
        Pace::new(RetryPolicy::default(), concurrency, Some("10/s".parse().unwrap()))
    }

    #[test]
    fn two_lanes_of_a_sink_never_try_more_together_than_one_may() {
        for (concurrency, of_fresh) in [(1, 1), (2, 1), (5, 3), (8, 4)] {
            let (mut fresh, mut aside) = (shared(concurrency), shared(concurrency));
            // The sink's own lane has all of it under way when the other one begins.
            let (mut trying, mut behind) = (concurrency, 0);
            for is_over in [false, true, true, true, true, true, true, true, true] {
                trying -= usize::from(is_over && trying > of_fresh);
                fresh.take_part(Part::Fresh { aside: behind, gives_way: false });
                trying += fresh.room(trying);
                aside.take_part(Part::Aside { fresh: trying, beside: 0, lanes: 1, gives_way: false });
                assert_eq!(aside.is_crowded_out(behind), behind == 0 && trying == concurrency);
                behind += aside.room(behind);
                assert!(trying + behind <= concurrency, "{trying} and {behind} of {concurrency}");
            }
            assert_eq!((trying, behind), (of_fresh, concurrency - of_fresh));
            fresh.take_part(Part::Whole);
            assert_eq!(fresh.room(0), concurrency);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_lanes_of_a_sink_keep_to_its_rate_together() {
        let (mut fresh, mut aside) = (shared(5), shared(5));
        fresh.began(1);
        fresh.take_part(Part::Fresh { aside: 0, gives_way: false });
        aside.take_part(Part::Aside { fresh: 0, beside: 0, lanes: 1, gives_way: false });
        let began = Instant::now();
        let mut starts = vec![began];
        while began.elapsed() < Duration::from_millis(9_990) {
            for pace in [&mut fresh, &mut aside] {
                if pace.held_until().is_none() {
                    pace.began(1);
                    starts.push(Instant::now());
                }
            }
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert_eq!(starts.len(), 1 + 100, "one at once, then ten seconds of both");
        assert!(starts.windows(12).all(|some| some[11] - some[0] >= Duration::from_secs(1)), "{starts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_does_not_count_towards_giving_up() {
        let mut pace = Pace::new(RetryPolicy::default(), 1, None);
        tokio::time::advance(Duration::from_secs(5)).await;
        let _ = pace.unavailable(pace.epoch(), "away", None);
        tokio::time::advance(Duration::from_secs(1000)).await;
        let _ = pace.succeeded(pace.epoch());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(pace.active_time(), Duration::from_secs(10));
    }
}
