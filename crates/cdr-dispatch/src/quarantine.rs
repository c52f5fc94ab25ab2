//! A second look at quarantined bytes: what is a push by today's reader becomes one.

use cdr_core::{Incoming, Intake as _, NotStored, Position, Stored, push::short};
use cdr_spool::{ControlError, ReadError};
use tracing::info;

use crate::{dispatcher::Dispatcher, store::blocking, stored};

/// What became of quarantined bytes that were read again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Retried {
    /// They are a push, which is stored, and no longer in quarantine.
    Stored(Stored),
    /// They are none, for this reason, and stay.
    Still(String),
    /// Nothing lies in quarantine under this number.
    Absent,
}

/// Why quarantined bytes could not be retried. They are in quarantine as before.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The disk does not give them.
    #[error("the quarantine cannot be read: {0}")]
    Read(#[from] ReadError),
    /// They are a push that could not be stored.
    #[error("{0}; it stays in quarantine")]
    Store(#[from] NotStored),
    /// The push is stored; retrying again finds it as a repeat.
    #[error("stored as push {push}, but it could not be taken out of quarantine; try again: {why}")]
    Discard {
        /// Where the push lies.
        push: Position,
        /// What the spool said.
        why: ControlError,
    },
}

impl Dispatcher {
    /// Reads quarantined bytes as the door would today. A push goes the way of every push, with the facts that came with
    /// it then: it is routed, and a repeat of one that is there already is stored once. It leaves the quarantine only when
    /// the push is durable; after a crash in between, the next retry meets a repeat.
    ///
    /// # Errors
    /// See [`RetryError`].
    pub async fn retry_quarantine(&self, number: Position) -> Result<Retried, RetryError> {
        let spool = self.pushes().spool().clone();
        let before = cdr_spool::Position(number.0.saturating_sub(1));
        let found = blocking(move || spool.quarantined(before, 1)).await?;
        let Some(found) = found.into_iter().find(|found| found.position.0 == number.0) else {
            return Ok(Retried::Absent);
        };
        let Some(facts) = stored::suspect_facts(&found) else {
            return Ok(Retried::Still("what is known beside its bytes cannot be read".to_owned()));
        };
        let push = match Incoming::read(facts, found.body) {
            Ok(push) => push,
            Err(fault) => return Ok(Retried::Still(fault.without_excerpt())),
        };
        let session_id =
            push.cdr.as_ref().and_then(|cdr| cdr.session_id.as_deref()).map(|id| short(id).to_owned());
        let kept = self.store(push).await?;
        let (position, repeat) = (kept.position, kept.repeat);
        info!(%position, session_id, repeat, quarantine = %number, "stored out of quarantine");
        self.discard_quarantine(&[number])
            .await
            .map_err(|why| RetryError::Discard { push: kept.position, why })?;
        Ok(Retried::Stored(kept))
    }
}
