//! What a person waits for: lanes that are to end, and decisions that the disk is to take. Neither is waited for without a
//! limit, since a disk that fails or hangs may keep both for as long as it likes.
//!
//! Who waits no longer takes nothing back: what was handed to the spool happens as soon as the disk lets it. So a decision is a
//! task of its own, and with it goes what follows from it, such as to drive the lanes that it made. It [holds](Held) the lanes
//! until then: no other decision is made beside one of which nobody knows yet whether it happens.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use cdr_spool::{ControlError, NewLane};
use tokio::{
    sync::{OwnedMutexGuard, oneshot},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tracing::warn;

use super::Dispatcher;

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

/// What whoever changes which lanes there are holds meanwhile.
pub(super) type Held = OwnedMutexGuard<Ending>;

/// Lanes that were told to end, by their names in the spool.
#[derive(Debug, Default)]
pub(super) struct Ending(BTreeMap<String, JoinHandle<()>>);

impl Ending {
    pub(super) fn insert(&mut self, lane: String, task: JoinHandle<()>) {
        self.0.insert(lane, task);
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
    /// One of them does not end in time; it stays here.
    pub(super) async fn over(
        &mut self,
        is_meant: impl Fn(&str) -> bool,
        deadline: Instant,
    ) -> Result<(), StillEnding> {
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

impl Dispatcher {
    /// Lets nobody else change which lanes there are; and until when lanes that are to end are waited for.
    ///
    /// # Errors
    /// Somebody else does not come to an end with it.
    pub(super) async fn hold_lanes(&self) -> Result<(Held, Instant), ControlError> {
        let deadline = Instant::now() + ENDS_WITHIN;
        match timeout_at(deadline, Arc::clone(&self.ending).lock_owned()).await {
            Ok(held) => Ok((held, deadline)),
            Err(_) => Err(ControlError::Failing {
                reason: "an earlier decision about lanes still waits for the disk or for a sink, and nothing was decided now; \
                    mend that (/readyz and the log tell more) and try again"
                    .to_owned(),
            }),
        }
    }

    /// Makes the lanes known to the spool. Should it do so when nobody waits any more they are forgotten again: no sink would
    /// take what they are owed, and the spool would keep all of it.
    ///
    /// # Errors
    /// The spool did not do it in time.
    pub(super) async fn register(&self, held: Held, lanes: Vec<NewLane>) -> Result<Held, ControlError> {
        let store = Arc::clone(&self.store);
        let (tell, mut told) = oneshot::channel();
        tokio::spawn(async move {
            let registered = store.spool().register_lanes(&lanes).await.map(|names| (held, names));
            let Err(Ok((_held, unwanted))) = tell.send(registered) else { return };
            for lane in unwanted {
                match store.spool().retire_lane(&lane).await {
                    Ok(()) => {
                        warn!(lane, "the lane of a configuration that was not taken is forgotten again")
                    }
                    Err(error) => {
                        warn!(lane, %error, "the lane of a configuration that was not taken cannot be forgotten; it is parked")
                    }
                }
            }
        });
        let registered = match timeout(DECIDED_WITHIN, &mut told).await {
            Ok(registered) => registered.unwrap_or(Err(ControlError::Stopping)),
            Err(_) => {
                // Either it came at the last moment, or it is not sent any more.
                told.close();
                told.try_recv().unwrap_or_else(|_| Err(unanswered("nothing changed")))
            }
        };
        Ok(registered?.0)
    }
}

/// Lets the spool decide, and what follows from that be done, however long it takes. Whoever asked is told no later than after
/// ten seconds.
///
/// # Errors
/// The spool did not do it, or has not done it yet.
pub(super) async fn decided<T: Send + 'static>(
    deciding: impl Future<Output = Result<T, ControlError>> + Send + 'static,
) -> Result<T, ControlError> {
    match timeout(DECIDED_WITHIN, tokio::spawn(deciding)).await {
        Ok(Ok(decided)) => decided,
        Ok(Err(broken)) => match broken.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nobody aborts it but the end of the runtime.
            Err(_) => Err(ControlError::Stopping),
        },
        Err(_) => Err(unanswered("what was asked for happens as soon as it does, look before you try again")),
    }
}

fn unanswered(and_so: &str) -> ControlError {
    let reason = format!("the disk has not answered for {} s; {and_so}", DECIDED_WITHIN.as_secs());
    ControlError::Failing { reason }
}
