//! A sign of life in the log: what a lane has delivered, at most once a minute.
//!
//! A line for each delivery would cost a tenth of what the delivery costs, and bury what an operator looks for. What became
//! of a single push is in the spool (`trace`), and in the log at `debug`.

use std::time::Duration;

use tokio::time::Instant;

/// So long there is silence after a line.
const EVERY: Duration = Duration::from_secs(60);

/// What was delivered since the last line.
#[derive(Debug, Default)]
pub struct Summary {
    delivered: u64,
    said: Option<Instant>,
}

impl Summary {
    /// One more.
    pub fn add(&mut self) {
        self.delivered += 1;
    }

    /// When the next line is due, if there is something to say. The first after a silence is due at once.
    pub fn due(&self) -> Option<Instant> {
        let may_speak = self.said.map_or_else(Instant::now, |said| said + EVERY);
        (self.delivered > 0).then_some(may_speak)
    }

    /// How many to tell now, if a line is due.
    pub fn take_due(&mut self) -> Option<u64> {
        self.due().filter(|&due| due <= Instant::now()).and_then(|_| self.take())
    }

    /// How many to tell, due or not.
    pub fn take(&mut self) -> Option<u64> {
        let delivered = std::mem::take(&mut self.delivered);
        (delivered > 0).then(|| {
            self.said = Some(Instant::now());
            delivered
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_delivery_is_told_at_once_and_the_others_once_a_minute() {
        let mut summary = Summary::default();
        assert_eq!((summary.due(), summary.take_due()), (None, None));
        summary.add();
        assert_eq!(summary.take_due(), Some(1));
        for _ in 0..1000 {
            summary.add();
            assert_eq!(summary.take_due(), None);
        }
        assert_eq!(summary.due(), Some(Instant::now() + EVERY));
        tokio::time::advance(EVERY).await;
        assert_eq!(summary.take_due(), Some(1000));
        assert_eq!(summary.take(), None, "nothing is told twice");
    }
}
