//! What became of all pushes of a run.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

use super::{Outcome, Sent};

/// An hour, in microseconds: a run that is behind its rate by more has nothing to say about a receiver.
const LONGEST_LATENCY: u64 = 3_600_000_000;

/// What became of all pushes of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Pushes that the receiver answered with `ErrCode` 0.
    pub taken: u64,
    /// Pushes that it did not take, after all retries: from TCCC these would be lost.
    pub given_up: u64,
    /// What the attempts met; all of them, so their sum is at least that of the pushes.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// From the first push to the last answer.
    pub elapsed: Duration,
    /// Of the attempts that ended with `ErrCode` 0, in microseconds.
    latency: Histogram<u64>,
}

impl Summary {
    pub(super) fn new() -> Self {
        Self {
            taken: 0,
            given_up: 0,
            outcomes: BTreeMap::new(),
            elapsed: Duration::ZERO,
            latency: Histogram::new_with_bounds(1, LONGEST_LATENCY, 3)
                .expect("1 to an hour, and 3 digits, fit"),
        }
    }

    pub(super) fn count(&mut self, sent: &Sent) {
        for answer in sent.retried.iter().chain([&sent.answer]) {
            *self.outcomes.entry(answer.outcome).or_default() += 1;
        }
        if !sent.is_taken() {
            self.given_up += 1;
            return;
        }
        self.taken += 1;
        let micros = u64::try_from(sent.latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros);
    }

    /// How many pushes there were.
    pub fn pushes(&self) -> u64 {
        self.taken + self.given_up
    }

    /// How often they were sent, retries included.
    pub fn attempts(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Pushes taken a second.
    pub fn rate(&self) -> f64 {
        self.taken as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The latency that this share of the taken pushes had at most: 0.5 for the median, 0.99, 1.0 for the
    /// slowest. From sending an attempt to having its whole answer, as [`Sent::latency`] says; to three
    /// digits, at most an hour; zero when none was taken.
    pub fn latency(&self, share: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(share))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pushes, seconds, rate) = (self.pushes(), self.elapsed.as_secs_f64(), self.rate());
        write!(f, "{pushes} pushes in {seconds:.2} s: {} taken ({rate:.0}/s)", self.taken)?;
        if self.given_up > 0 {
            write!(f, ", {} given up, which TCCC would lose", self.given_up)?;
        }
        if self.taken > 0 {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| self.latency(share));
            write!(f, "\nlatency p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}")?;
        }
        if self.outcomes.keys().any(|&outcome| outcome != Outcome::Taken) {
            write!(f, "\n{} attempts:", self.attempts())?;
            for (at, (outcome, count)) in self.outcomes.iter().enumerate() {
                write!(f, "{} {count} {outcome}", if at == 0 { "" } else { " ·" })?;
            }
        }
        Ok(())
    }
}
