//! Dead letters, and what a person decides about them.
//!
//! Those of what was set aside are the sink's: an operator asks for them, and decides about them, by its name.

use cdr_core::Position;
use cdr_spool::{ControlError, DeadLetter, ReadError};

use super::Dispatcher;
use crate::{errand::Errand, lane::Control, store::blocking, stored};

impl Dispatcher {
    /// Dead letters of a lane, from after `after` on; of a sink's own lane also those of what was set aside of it.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub async fn dead_letters(
        &self,
        lane: &str,
        after: Position,
        most: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        let (spool, lane, parts) = (self.store.spool().clone(), lane.to_owned(), self.parts_of(lane));
        let after = stored::spool_position(after);
        blocking(move || {
            let mut letters = spool.dead_letters(&lane, after, most)?;
            for part in parts {
                let of_part = spool.dead_letters(&part, after, most)?;
                letters.extend(of_part.into_iter().map(|letter| DeadLetter { lane: lane.clone(), ..letter }));
            }
            letters.sort_by_key(|letter| letter.position);
            letters.truncate(most);
            Ok(letters)
        })
        .await
    }

    /// Opens dead letters again; those that were none are left out of the answer.
    ///
    /// # Errors
    /// It could not be made durable, or there is no such lane.
    pub async fn retry_dead(
        &self,
        lane: &str,
        positions: &[Position],
    ) -> Result<Vec<Position>, ControlError> {
        let mut all = self.reopen(lane, positions).await?;
        for part in self.parts_of(lane) {
            all.extend(unless_over(self.reopen(&part, positions).await)?);
        }
        all.sort_unstable();
        Ok(all)
    }

    async fn reopen(&self, lane: &str, positions: &[Position]) -> Result<Vec<Position>, ControlError> {
        let reopened = self.store.spool().reopen(lane, &to_spool(positions)).await?;
        let reopened: Vec<Position> = reopened.into_iter().map(stored::position).collect();
        if let Some(control) = self.control_of(lane) {
            // A lane that is parked takes them when its sink is back.
            let _ = control.send(Control::Reopened(reopened.clone())).await;
        }
        Ok(reopened)
    }

    /// Discards dead letters: a person decided that they are not to be delivered.
    ///
    /// # Errors
    /// It could not be made durable, or there is no such lane.
    pub async fn discard_dead(
        &self,
        lane: &str,
        positions: &[Position],
    ) -> Result<Vec<Position>, ControlError> {
        let mut all = self.discard(lane, positions).await?;
        for part in self.parts_of(lane) {
            all.extend(unless_over(self.discard(&part, positions).await)?);
        }
        all.sort_unstable();
        Ok(all)
    }

    async fn discard(&self, lane: &str, positions: &[Position]) -> Result<Vec<Position>, ControlError> {
        let discarded = self.store.spool().discard(lane, &to_spool(positions)).await?;
        if let Some(control) = self.errands.control_of(lane) {
            // It may have waited for nothing but this. One that does not hear it is over.
            let _ = control.send(Control::Reopened(Vec::new())).await;
        }
        Ok(discarded.into_iter().map(stored::position).collect())
    }

    /// The lanes of what was set aside of a sink.
    fn parts_of(&self, sink: &str) -> Vec<String> {
        let errands = self.store.spool().errands().into_iter();
        let is_part = |(lane, errand): &(String, cdr_spool::Errand)| {
            errand.sink == sink && matches!(Errand::from_spool(lane, errand), Ok(Errand::SetAside))
        };
        errands.filter(is_part).map(|(lane, _)| lane).collect()
    }
}

/// What was set aside may be over by now: then it has no dead letter.
fn unless_over(decided: Result<Vec<Position>, ControlError>) -> Result<Vec<Position>, ControlError> {
    match decided {
        Err(ControlError::UnknownLane { .. }) => Ok(Vec::new()),
        decided => decided,
    }
}

fn to_spool(positions: &[Position]) -> Vec<cdr_spool::Position> {
    positions.iter().copied().map(stored::spool_position).collect()
}
