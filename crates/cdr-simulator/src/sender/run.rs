//! Many pushes over a number of connections.

use std::{
    iter::{Enumerate, Fuse},
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Line, Outgoing, Sent, Summary};

/// What the connections of a run share.
struct Run<S: Iterator, F> {
    line: Arc<Line>,
    source: Mutex<Enumerate<Fuse<S>>>,
    pace: Pace,
    on_each: F,
    summary: Mutex<Summary>,
    stop: CancellationToken,
}

pub(super) async fn run<S, F>(line: Arc<Line>, source: S, on_each: F, stop: CancellationToken) -> Summary
where
    S: Iterator<Item: Into<Outgoing>> + Send + 'static,
    F: Fn(&Outgoing, &Sent) + Send + Sync + 'static,
{
    let connections = line.settings.connections;
    let pace = Pace { began: Instant::now(), rate: line.settings.rate };
    let run = Arc::new(Run {
        line,
        source: Mutex::new(source.fuse().enumerate()),
        pace,
        on_each,
        summary: Mutex::new(Summary::new()),
        stop,
    });
    let mut workers: JoinSet<()> = (0..connections).map(|_| Arc::clone(&run).work()).collect();
    while let Some(ended) = workers.join_next().await {
        if let Some(panic) = ended.err().and_then(|ended| ended.try_into_panic().ok()) {
            resume_unwind(panic);
        }
    }
    let mut summary = run.summary.lock().unwrap_or_else(PoisonError::into_inner).clone();
    summary.elapsed = pace.began.elapsed();
    summary
}

impl<S, F> Run<S, F>
where
    S: Iterator<Item: Into<Outgoing>> + Send + 'static,
    F: Fn(&Outgoing, &Sent) + Send + Sync + 'static,
{
    /// What one connection does: pushes until the source is empty or the run is stopped.
    async fn work(self: Arc<Self>) {
        while let Some((number, push)) = self.next() {
            let Some(since) = self.stop.run_until_cancelled(self.pace.turn_of(number)).await else {
                return;
            };
            let sent = self.line.send(&push, since, &self.stop).await;
            self.summary.lock().unwrap_or_else(PoisonError::into_inner).count(&sent);
            (self.on_each)(&push, &sent);
        }
    }

    fn next(&self) -> Option<(usize, Outgoing)> {
        if self.stop.is_cancelled() {
            return None;
        }
        let (number, push) = self.source.lock().unwrap_or_else(PoisonError::into_inner).next()?;
        Some((number, push.into()))
    }
}

/// Evenly spaced turns; without a rate every turn is now.
#[derive(Clone, Copy)]
struct Pace {
    began: Instant,
    rate: Option<f64>,
}

impl Pace {
    /// Waits for the turn of a push, by its number from 0, and tells from when its first attempt counts.
    async fn turn_of(&self, number: usize) -> Instant {
        let Some(due) = self.due(number) else { return std::future::pending().await };
        if due <= Instant::now() {
            return due;
        }
        tokio::time::sleep_until(due).await;
        // Not from `due`: that the timer woke us late is no fault of the receiver.
        Instant::now()
    }

    /// None: later than a clock can tell.
    fn due(&self, number: usize) -> Option<Instant> {
        let Some(rate) = self.rate else { return Some(Instant::now()) };
        let after = Duration::try_from_secs_f64(number as f64 / rate).ok()?;
        self.began.checked_add(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pushes_are_evenly_spaced() {
        let pace = Pace { began: Instant::now(), rate: Some(20.0) };
        for number in 0..100 {
            pace.turn_of(number).await;
            let due = Duration::from_millis(50) * number as u32;
            assert!((pace.began.elapsed()).abs_diff(due) <= Duration::from_millis(1), "push {number}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_that_is_late_goes_at_once_and_counts_from_when_it_was_due() {
        let pace = Pace { began: Instant::now(), rate: Some(1.0) };
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(pace.turn_of(3).await, pace.began + Duration::from_secs(3));
        assert_eq!(pace.began.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_every_turn_is_now() {
        let pace = Pace { began: Instant::now(), rate: None };
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(pace.turn_of(1_000_000).await, Instant::now());
    }

    #[test]
    fn a_moment_beyond_the_clock_is_none() {
        let pace = Pace { began: Instant::now(), rate: Some(f64::MIN_POSITIVE) };
        assert_eq!(pace.due(1), None);
    }
}
