//! What a person waits for: lanes that are to end, and decisions that the disk is to take. Neither is waited for without a
//! limit, since a disk that fails or hangs may keep both for as long as it likes.

use std::{collections::BTreeMap, future::Future, time::Duration};

use cdr_spool::ControlError;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

/// A lane has the grace of its attempts, ten seconds in the gateway, and this leaves it some for its last outcomes.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// A decision is one commit.
const DECIDED_WITHIN: Duration = Duration::from_secs(10);

/// A lane does not end.
#[derive(Debug, thiserror::Error)]
#[error(
    "nothing was decided: {lane} is still ending after {} s, since the disk does not take its last outcomes or its sink blocks; \
     mend that (/readyz and the log tell more) and try again",
    ENDS_WITHIN.as_secs()
)]
pub struct StillEnding {
    /// Its name in the spool.
    pub lane: String,
}

/// Lanes that were told to end, by their names in the spool.
#[derive(Debug, Default)]
pub(super) struct Ending(BTreeMap<String, JoinHandle<()>>);

impl Ending {
    pub(super) fn insert(&mut self, lane: String, task: JoinHandle<()>) {
        self.0.insert(lane, task);
    }

    pub(super) fn take(&mut self, lane: &str) -> Option<JoinHandle<()>> {
        self.0.remove(lane)
    }

    pub(super) fn into_tasks(self) -> impl Iterator<Item = JoinHandle<()>> {
        self.0.into_values()
    }

    /// Whether somebody still drives it.
    pub(super) fn is_ending(&self, lane: &str) -> bool {
        self.0.get(lane).is_some_and(|task| !task.is_finished())
    }

    /// Waits for the lanes that are meant: they may be finishing their attempts.
    ///
    /// # Errors
    /// One of them does not end; it stays here.
    pub(super) async fn over(&mut self, is_meant: impl Fn(&str) -> bool) -> Result<(), StillEnding> {
        let deadline = Instant::now() + ENDS_WITHIN;
        let meant: Vec<String> = self.0.keys().filter(|lane| is_meant(lane)).cloned().collect();
        for lane in meant {
            let Some(task) = self.0.get_mut(&lane) else { continue };
            if timeout_at(deadline, task).await.is_err() {
                return Err(StillEnding { lane });
            }
            self.0.remove(&lane);
        }
        Ok(())
    }
}

/// Waits for what the spool is asked to decide.
pub(super) async fn decided<T>(
    deciding: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    timeout(DECIDED_WITHIN, deciding).await.unwrap_or_else(|_| {
        let waited = DECIDED_WITHIN.as_secs();
        let reason = format!(
            "the disk has not answered for {waited} s; it may still do so, look before you try again"
        );
        Err(ControlError::Failing { reason })
    })
}
