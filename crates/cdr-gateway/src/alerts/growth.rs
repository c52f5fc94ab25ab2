//! How long the room lasts at the pace of the last hour.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How far back the pace is taken from: a minute of rush hour says nothing about the night.
const LOOKED_BACK: Duration = Duration::from_secs(3600);

/// How far apart what is remembered is.
const STEP: Duration = Duration::from_secs(60);

/// What sinks have not taken, once a minute of the last hour.
#[derive(Default)]
pub(super) struct Growth(VecDeque<(Instant, u64)>);

impl Growth {
    /// `owed` bytes are owed now.
    pub fn saw(&mut self, owed: u64, now: Instant) {
        if self.0.back().is_none_or(|(at, _)| now.duration_since(*at) >= STEP) {
            self.0.push_back((now, owed));
        }
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > LOOKED_BACK) {
            self.0.pop_front();
        }
    }

    /// When `room` more bytes are gone at this pace. None when it does not grow, or nobody has looked for as long as a minute.
    pub fn left(&self, room: u64, now: Instant) -> Option<Duration> {
        let ((first, before), (last, after)) = (*self.0.front()?, *self.0.back()?);
        let grown = after.checked_sub(before).filter(|grown| *grown > 0)?;
        let per_byte = last.duration_since(first).as_secs_f64() / grown as f64;
        let seconds = per_byte * room as f64 - now.duration_since(last).as_secs_f64();
        Duration::try_from_secs_f64(seconds.max(0.0)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spool that grows by so many bytes a second for so long, then by others.
    fn grown(paces: &[(u64, u64)]) -> (Growth, Instant) {
        let (mut growth, mut now, mut owed) = (Growth::default(), Instant::now(), 1000);
        for &(pace, seconds) in paces {
            for _ in 0..seconds {
                growth.saw(owed, now);
                now += Duration::from_secs(1);
                owed += pace;
            }
        }
        (growth, now)
    }

    fn left(paces: &[(u64, u64)], room: u64) -> Option<u64> {
        let (growth, now) = grown(paces);
        Some(growth.left(room, now)?.as_secs())
    }

    #[test]
    fn the_room_lasts_as_the_pace_says() {
        // The last look that is remembered is 59 seconds old.
        assert_eq!(left(&[(10, 600)], 36_000), Some(3600 - 60));
        assert_eq!(left(&[(10, 600)], 0), Some(0));
    }

    #[test]
    fn a_spool_that_does_not_grow_lasts() {
        assert_eq!(left(&[(0, 600)], 36_000), None);
        assert_eq!(left(&[(10, 30)], 36_000), None, "too short a look");
    }

    #[test]
    fn only_the_last_hour_counts() {
        assert_eq!(left(&[(1000, 600), (1, 3700)], 3600), Some(3600 - 40));
    }
}
