//! Troubles that come one by one (dead letters, refusals, quarantine): told at once, then summed up.

use std::time::{Duration, Instant};

/// How often they are summed up.
const SUM_UP: Duration = Duration::from_secs(600);

/// Troubles of one kind.
#[derive(Default)]
pub(super) struct Counted {
    /// How many there were, ever.
    pub seen: u64,
    told: u64,
    told_at: Option<Instant>,
}

impl Counted {
    /// How many are new, when it is time to tell.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        let is_time = self.told_at.is_none_or(|at| now.duration_since(at) >= SUM_UP);
        let new = self.seen.saturating_sub(self.told);
        if new == 0 || !is_time {
            return None;
        }
        self.told = self.seen;
        self.told_at = Some(now);
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_are_summed_up() {
        let (mut counted, start) = (Counted::default(), Instant::now());
        assert_eq!(counted.due(start), None);
        counted.seen = 1;
        assert_eq!(counted.due(start), Some(1));
        counted.seen = 8;
        assert_eq!(counted.due(start + SUM_UP - Duration::from_secs(1)), None);
        assert_eq!(counted.due(start + SUM_UP), Some(7));
        assert_eq!(counted.due(start + 9 * SUM_UP), None);
    }
}
