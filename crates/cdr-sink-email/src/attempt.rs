//! How long an attempt may take, in which several mails may go out.
//!
//! The lane cuts off an attempt that is not back in time and knows nothing of it then: whoever was told is told again. So the sink
//! comes back before, and says of each push how far it got.

use std::time::Duration;

use cdr_core::ATTEMPT_DEADLINE;
use tokio::time::Instant;

/// Shortly before the lane cuts it off.
const LONGEST: Duration = ATTEMPT_DEADLINE.saturating_sub(Duration::from_secs(5));

/// Longest `timeout`: nearly as long again is left for the answer to a mail's text, which is what servers are slow with.
pub(crate) const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
const _: () = assert!(LONGEST_TIMEOUT.as_secs() < LONGEST.as_secs());

/// An attempt that is going on.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    began: Instant,
}

impl Attempt {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now() }
    }

    /// When it must be over.
    pub(crate) fn end(self) -> Instant {
        self.began + LONGEST
    }

    /// Whether another mail may be begun, of which all that comes before its text takes at most `timeout`. A server may be as slow
    /// with it as with those before: so it is begun only while as much time is left as went by.
    pub(crate) fn has_time(self, timeout: Duration) -> bool {
        let elapsed = self.began.elapsed();
        elapsed + elapsed.max(timeout) <= LONGEST
    }
}
