//! How full the spool is, in steps that are told on the way up at once, and on the way down when it lasts.

use std::time::{Duration, Instant};

/// Shares of the spool that are worth telling, in percent of `spool.max_size`.
const STEPS: [u64; 3] = [70, 85, 95];

/// A spool that stores nothing, beyond all [`STEPS`].
const REFUSES: u64 = 100;

/// So many points below a step it is over: a spool that goes up and down around a step is told of once.
const MARGIN: u64 = 10;

/// And for so long.
const CALM: Duration = Duration::from_secs(60);

/// What was told of the spool's room.
#[derive(Default)]
pub(super) struct Fill {
    /// The step in force, 0 for none.
    step: u64,
    /// Since when it has been below.
    calm_since: Option<Instant>,
}

/// What is worth telling.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has reached another step, or refuses.
    Worse,
    /// It refused and stores again, whatever its share.
    StoresAgain,
    /// It is below all steps.
    HasRoom,
}

impl Fill {
    /// `share` is what sinks have not taken, in percent; `refuses` that the spool is full or cannot write.
    pub fn look(&mut self, share: u64, refuses: bool, now: Instant) -> Option<Change> {
        let reached = if refuses { REFUSES } else { highest(|step| step <= share) };
        if reached > self.step {
            *self = Self { step: reached, calm_since: None };
            return Some(Change::Worse);
        }
        let below = if refuses { REFUSES } else { highest(|step| step < share + MARGIN).min(self.step) };
        if below == self.step {
            self.calm_since = None;
            return None;
        }
        let calm_since = *self.calm_since.get_or_insert(now);
        if now.duration_since(calm_since) < CALM {
            return None;
        }
        let before = std::mem::replace(self, Self { step: below, calm_since: None }).step;
        match (before, below) {
            (_, 0) => Some(Change::HasRoom),
            (REFUSES, _) => Some(Change::StoresAgain),
            _ => None,
        }
    }
}

/// The highest step of which that is so; 0 when it is so of none.
fn highest(is_so: impl Fn(u64) -> bool) -> u64 {
    STEPS.into_iter().rfind(|&step| is_so(step)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of these shares, each lasting for so many seconds; above 100 the spool refuses.
    fn told(shares: &[(u64, u64)]) -> Vec<(u64, Change)> {
        let (mut fill, mut now) = (Fill::default(), Instant::now());
        let seconds = shares.iter().flat_map(|&(share, seconds)| (0..seconds).map(move |_| share));
        let look = |share: u64| {
            now += Duration::from_secs(1);
            Some((share, fill.look(share.min(100), share > 100, now)?))
        };
        seconds.filter_map(look).collect()
    }

    #[test]
    fn each_step_up_is_told_at_once() {
        let worse = |share| (share, Change::Worse);
        assert_eq!(told(&[(69, 9), (70, 9), (84, 9), (85, 9), (96, 9)]), [worse(70), worse(85), worse(96)]);
        assert_eq!(told(&[(99, 9), (101, 9)]), [worse(99), worse(101)]);
    }

    #[test]
    fn going_up_and_down_around_a_step_is_told_once() {
        let flapping: Vec<_> = (0..50).flat_map(|_| [(70, 100), (61, 100), (60, 59)]).collect();
        assert_eq!(told(&flapping), [(70, Change::Worse)]);
        let flapping: Vec<_> = (0..50).flat_map(|_| [(101, 100), (99, 59)]).collect();
        assert_eq!(told(&flapping), [(101, Change::Worse)]);
    }

    #[test]
    fn the_end_is_told_when_it_lasts() {
        assert_eq!(told(&[(72, 9), (60, 60)]), [(72, Change::Worse)]);
        assert_eq!(told(&[(72, 9), (60, 61)]), [(72, Change::Worse), (60, Change::HasRoom)]);
        assert_eq!(told(&[(101, 9), (3, 61)]), [(101, Change::Worse), (3, Change::HasRoom)]);
    }

    #[test]
    fn a_spool_that_stores_again_says_so_while_it_is_nearly_full() {
        let end = [(101, Change::Worse), (97, Change::StoresAgain), (20, Change::HasRoom)];
        assert_eq!(told(&[(101, 9), (97, 200), (20, 200)]), end);
    }

    #[test]
    fn a_step_that_was_left_for_a_lower_one_is_told_again() {
        let worse = |share| (share, Change::Worse);
        assert_eq!(told(&[(95, 9), (80, 61), (85, 9), (95, 9)]), [worse(95), worse(95)]);
        assert_eq!(told(&[(95, 9), (72, 61), (85, 9), (95, 9)]), [worse(95), worse(85), worse(95)]);
    }
}
