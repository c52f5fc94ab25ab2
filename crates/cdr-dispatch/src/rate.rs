//! `rate_limit`: how many pushes a sink is given in a time, at most.
//!
//! Pushes are spread evenly and not handed out once a period: a receiver that counts by its own clock would see twice
//! the rate around the turn of ours. Only what a tenth of a second brings may come at once; without that much, timers
//! of a millisecond would make fast rates slower than they were asked to be.
//!
//! The algorithm is GCRA, the token bucket that needs one time and no timer of its own. A batch goes as a whole, however
//! large, and the next one waits until it has been made up for. Rejected: the crate `governor`, whose limiter takes a token
//! when it is only asked whether one is there, and refuses a batch that is larger than its bucket.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize, Serializer, de};
use tokio::time::Instant;

/// The fastest rate that is one: a push per microsecond. Beyond it a limit limits nothing.
const FASTEST: Duration = Duration::from_micros(1);

/// A number of pushes in a time, as it is written: `10/s`, `600/m`, `1000/h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    pushes: NonZeroU32,
    per: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl Unit {
    fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        })
    }
}

impl Rate {
    /// The time from one push to the next; rounded up, so that no rate is exceeded by rounding.
    pub fn spacing(self) -> Duration {
        let nanos = self.per.length().as_nanos().div_ceil(u128::from(self.pushes.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many pushes may go at once after a rest: those of a tenth of a second, at least one.
    fn burst(self) -> u32 {
        let tenth = Duration::from_millis(100).as_nanos() / self.spacing().as_nanos();
        u32::try_from(tenth).unwrap_or(u32::MAX).max(1)
    }
}

/// As it is written.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per {
            Unit::Second => 's',
            Unit::Minute => 'm',
            Unit::Hour => 'h',
        };
        write!(f, "{}/{unit}", self.pushes)
    }
}

/// Why a text is no rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRate {
    /// It is written otherwise.
    #[error("expected a number of pushes per second, minute or hour, such as 10/s, 600/m or 1000/h")]
    Form,
    /// Nothing would ever be delivered.
    #[error("must be at least 1; a sink that shall get nothing is taken out of the routes")]
    Zero,
    /// No sink is that fast.
    #[error("is faster than 1000000/s; leave it out for no limit")]
    TooFast,
}

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        let (pushes, unit) = text.split_once('/').ok_or(NoRate::Form)?;
        let per = match unit.trim() {
            "s" => Unit::Second,
            "m" => Unit::Minute,
            "h" => Unit::Hour,
            _ => return Err(NoRate::Form),
        };
        let pushes = pushes.trim();
        if pushes.is_empty() || !pushes.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(NoRate::Form);
        }
        let pushes: u32 = pushes.parse().map_err(|_| NoRate::TooFast)?;
        let rate = Self { pushes: NonZeroU32::new(pushes).ok_or(NoRate::Zero)?, per };
        if rate.spacing() < FASTEST { Err(NoRate::TooFast) } else { Ok(rate) }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate such as 10/s, 600/m or 1000/h")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Keeps a lane to a rate.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    /// When everything that has begun would have been due, one push after the other.
    due: Instant,
}

impl Limiter {
    /// A limiter after a rest.
    pub fn new(rate: Rate) -> Self {
        Self { rate, due: Instant::now() }
    }

    /// What it keeps to.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Until when the next attempt must wait; none when it may begin now.
    pub fn held_until(&self) -> Option<Instant> {
        let now = Instant::now();
        let until = self.due.checked_sub(self.rate.spacing() * (self.rate.burst() - 1)).unwrap_or(now);
        Some(until).filter(|until| *until > now)
    }

    /// Takes the burst that a rest saved up.
    pub fn end_rest(&mut self) {
        self.due = self.due.max(Instant::now() + self.rate.spacing() * self.rate.burst());
    }

    /// An attempt on so many pushes begins.
    pub fn began(&mut self, pushes: usize) {
        let pushes = u32::try_from(pushes).unwrap_or(u32::MAX);
        self.due = self.due.max(Instant::now()) + self.rate.spacing().saturating_mul(pushes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    /// Begins attempts on batches of this size as early as allowed, for so long; gives when.
    async fn starts(limiter: &mut Limiter, pushes: usize, time: Duration) -> Vec<Duration> {
        let began = Instant::now();
        let mut starts = Vec::new();
        while began.elapsed() < time {
            match limiter.held_until() {
                Some(until) => tokio::time::sleep_until(until).await,
                None => {
                    starts.push(began.elapsed());
                    limiter.began(pushes);
                }
            }
        }
        starts
    }

    #[test]
    fn a_rate_is_a_number_per_second_minute_or_hour_and_nothing_else() {
        for (text, spacing) in [("10/s", 100), ("600/m", 100), ("1000/h", 3600), (" 5 / s", 200)] {
            assert_eq!(rate(text).spacing(), Duration::from_millis(spacing), "{text}");
        }
        assert_eq!(rate("600/m").to_string(), "600/m");
        for text in ["", "10", "/s", "-1/s", "+1/s", "1.5/s", "10/d", "10/S", "10/s/s", "10 per s"] {
            assert_eq!(text.parse::<Rate>(), Err(NoRate::Form), "{text}");
        }
        assert_eq!("0/s".parse::<Rate>(), Err(NoRate::Zero));
        assert_eq!("1100000/s".parse::<Rate>(), Err(NoRate::TooFast));
        assert_eq!("99999999999/h".parse::<Rate>(), Err(NoRate::TooFast));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_rate_is_spread_evenly_and_a_rest_saves_nothing_up() {
        let mut limiter = Limiter::new(rate("10/s"));
        assert_eq!(limiter.held_until(), None);
        tokio::time::advance(Duration::from_secs(60)).await;
        let starts = starts(&mut limiter, 1, Duration::from_secs(1)).await;
        assert_eq!(starts.len(), 10, "{starts:?}");
        assert!(starts.windows(2).all(|two| two[1] - two[0] >= Duration::from_millis(99)), "{starts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_larger_than_any_burst_passes_and_is_made_up_for() {
        let mut limiter = Limiter::new(rate("10/s"));
        let starts = starts(&mut limiter, 50, Duration::from_secs(21)).await;
        let seconds: Vec<u64> = starts.iter().map(|start| start.as_secs_f64().round() as u64).collect();
        assert_eq!(seconds, [0, 5, 10, 15, 20]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_window_of_a_second_sees_more_than_the_rate_and_a_tenth(per_second in 1_u32..500) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time().start_paused(true).build().unwrap();
            let starts = runtime.block_on(async {
                let mut limiter = Limiter::new(rate(&format!("{per_second}/s")));
                starts(&mut limiter, 1, Duration::from_secs(3)).await
            });
            let most = per_second as usize + (per_second as usize / 10).max(1);
            for window in starts.windows(most + 1) {
                prop_assert!(window[most] - window[0] >= Duration::from_secs(1), "{most} from {:?} on", window[0]);
            }
            // As fast as it may be, but for timers of a millisecond.
            prop_assert!(starts.len() + 1 >= per_second as usize * 28 / 10, "{} of {per_second}/s", starts.len());
        }
    }
}
