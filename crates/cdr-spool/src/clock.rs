//! What time it is, twice: the wall clock for people, and a clock that never jumps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The two clocks the spool goes by.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970. May jump in either direction.
    fn wall_ms(&self) -> i64;
    /// Time since some fixed moment. Never goes back.
    fn running(&self) -> Duration;
}

/// The machine's clocks.
pub struct SystemClock(Instant);

impl SystemClock {
    /// Counts `running` from now.
    pub fn start() -> SystemClock {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        }
    }

    fn running(&self) -> Duration {
        self.0.elapsed()
    }
}
