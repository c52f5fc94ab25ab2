//! A line a minute about what came, when something came. Nobody reads a line for each of ten thousand pushes, and
//! writing it costs processor time: the command `trace` and the level `debug` tell of single ones.

use std::sync::{Mutex, PoisonError};

use crate::{answer::Verdict, counters::DoorCounters};

/// What was told so far.
#[derive(Default)]
pub(crate) struct Summary(Mutex<Told>);

#[derive(Clone, Copy, PartialEq, Default)]
struct Told {
    stored: u64,
    repeats: u64,
    refused: u64,
}

impl Told {
    fn of(counters: &DoorCounters) -> Self {
        let mut all = Self::default();
        for (verdict, count) in counters.snapshot().verdicts {
            match verdict {
                Verdict::Stored | Verdict::UuidReused => all.stored += count,
                Verdict::Repeat => all.repeats += count,
                Verdict::Token => {}
                _ => all.refused += count,
            }
        }
        all
    }
}

impl Summary {
    /// Tells what came since the last time; to be called every minute.
    pub fn tell(&self, counters: &DoorCounters) {
        let now = Told::of(counters);
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), now);
        if now != before {
            tracing::info!(
                stored = now.stored - before.stored,
                repeats = now.repeats - before.repeats,
                refused = now.refused - before.refused,
                "pushes in the last minute"
            );
        }
    }
}
