//! When again: the arithmetic of back-off.
//!
//! Strategies come from `tokio-retry`; the waits themselves live in the spool, so that a restart neither
//! forgets nor hurries. Whoever reads `tokio_retry::ExponentialBackoff`: its first argument is the base of a
//! power, not the first wait, and its `jitter` covers the whole of 0…d.

use std::{iter, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_retry::strategy::{ExponentialBackoff, jitter};

/// How often and how long a lane tries again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// The wait after the first failure.
    pub initial: Duration,
    /// By what each further wait is multiplied, at least 1.
    pub factor: u64,
    /// No wait is longer, and no `Retry-After` is obeyed for longer.
    pub max: Duration,
    /// A delivery that failed for this long, the pauses of its lane not counted, becomes a dead letter; none: never.
    pub give_up_after: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            factor: 2,
            max: Duration::from_secs(600),
            give_up_after: None,
        }
    }
}

impl RetryPolicy {
    /// The wait after this many failures, at least 1, without jitter.
    pub fn backoff(&self, failures: u32) -> Duration {
        let millis = u64::try_from(self.initial.as_millis()).unwrap_or(u64::MAX);
        let growing = ExponentialBackoff::from_millis(self.factor.max(1)).factor(millis).max_delay(self.max);
        // Beyond 64 doublings every wait is the longest one; with a factor of 1 they are all equal.
        let index = failures.saturating_sub(1).min(64) as usize;
        iter::once(self.initial.min(self.max)).chain(growing).nth(index).unwrap_or(self.max)
    }

    /// The wait after this many failures: up to a tenth shorter by chance, so that what failed together does not
    /// come back together, and at least what the receiver asked for, capped at [`max`](Self::max).
    pub fn wait(&self, failures: u32, retry_after: Option<Duration>) -> Duration {
        let backoff = self.backoff(failures);
        let scattered = backoff - jitter(backoff / 10);
        scattered.max(retry_after.unwrap_or_default().min(self.max))
    }

    /// Whether a delivery that failed for `spent` is given up.
    pub fn gives_up(&self, spent: Duration) -> bool {
        self.give_up_after.is_some_and(|limit| spent >= limit)
    }
}

/// `retry:` of the configuration, for all sinks and for one; what is not set comes from above.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// The wait after the first failure; 1s.
    #[serde(with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    pub initial: Option<Duration>,
    /// By what each further wait is multiplied; 2.
    pub factor: Option<u64>,
    /// The longest wait; 10m.
    #[serde(with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    pub max: Option<Duration>,
    /// When a delivery is given up, or `never`; archives never, http 7d, email 24h.
    #[schemars(with = "Option<String>")]
    pub give_up_after: Option<GiveUp>,
}

/// When a delivery is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum GiveUp {
    /// It is tried for as long as it takes.
    Never,
    /// After this time from its first attempt on, pauses of its lane not counted.
    After(Duration),
}

impl TryFrom<String> for GiveUp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let limit = humantime::parse_duration(&text)
            .map_err(|error| format!("expected a duration such as 7d, or never: {error}"))?;
        Ok(Self::After(limit))
    }
}

impl RetrySettings {
    /// These settings over a policy that stands for what is not set.
    ///
    /// # Errors
    /// The name of the setting that is wrong, and why.
    pub fn over(&self, base: RetryPolicy) -> Result<RetryPolicy, (&'static str, String)> {
        let policy = RetryPolicy {
            initial: self.initial.unwrap_or(base.initial),
            factor: self.factor.unwrap_or(base.factor),
            max: self.max.unwrap_or(base.max),
            give_up_after: match self.give_up_after {
                None => base.give_up_after,
                Some(GiveUp::Never) => None,
                Some(GiveUp::After(limit)) => Some(limit),
            },
        };
        match policy {
            RetryPolicy { initial: Duration::ZERO, .. } => {
                Err(("initial", "must be longer than 0".to_owned()))
            }
            RetryPolicy { factor: 0, .. } => Err(("factor", "must be at least 1".to_owned())),
            RetryPolicy { initial, max, .. } if max < initial => {
                Err(("max", format!("must be at least initial, which is {initial:?}")))
            }
            RetryPolicy { give_up_after: Some(Duration::ZERO), .. } => {
                Err(("give_up_after", "must be longer than 0, or never".to_owned()))
            }
            policy => Ok(policy),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_grow_by_the_factor_up_to_the_longest() {
        let policy = RetryPolicy::default();
        let waits: Vec<_> = (1..=12).map(|failures| policy.backoff(failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        let steady = RetryPolicy { factor: 1, ..policy };
        assert_eq!(steady.backoff(9), SECOND);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_longest_or_shorter_than_asked(
            initial in 1_u64..100_000, factor in 1_u64..50, max in 1_u64..10_000_000, failures in 0_u32..,
            asked in proptest::option::of(0_u64..),
        ) {
            let millis = Duration::from_millis;
            let policy = RetryPolicy { initial: millis(initial), factor, max: millis(max), give_up_after: None };
            let asked = asked.map(Duration::from_secs);
            let wait = policy.wait(failures, asked);
            prop_assert!(wait <= policy.max);
            prop_assert!(wait >= asked.unwrap_or_default().min(policy.max));
            prop_assert!(wait >= policy.backoff(failures).mul_f64(0.89));
            prop_assert!(policy.backoff(failures) <= policy.backoff(failures.saturating_add(1)));
        }
    }
}
