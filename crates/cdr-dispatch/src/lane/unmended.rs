//! Pushes that wait for a person, such as what was sealed under a key that is lost.
//!
//! Their sink is there, and time does not heal what they lack, so they are no word about the sink: they pause no lane, are no
//! probes, and take no room of the [ledger](super::ledger) from others, up to a bound. Each is looked at again within a minute, is
//! never given up, and stands in front of the operator for as long as it lasts.

use cdr_core::{Outcome, Position, Unavailable};
use jiff::Timestamp;
use tracing::{info, warn};

use super::{Lane, settling::untried, status::UnmendedNow};

/// Why pushes wait for a person.
#[derive(Debug)]
pub struct Unmended {
    since: Timestamp,
    /// What the sink said last.
    reason: String,
}

impl Lane {
    /// What these pushes wait for is theirs alone. They stay untried, without a pause.
    pub(super) fn leave_to_a_person(
        &mut self,
        positions: &[Position],
        outcomes: &[Outcome],
        why: Unavailable,
    ) {
        self.status.note_failure(&why.reason);
        self.are_mended(positions);
        for position in untried(positions, outcomes) {
            self.ledger.leave_unmended(position);
            if let Some(open) = self.ledger.get_mut(position) {
                open.met_away = open.met_away.saturating_add(1);
            }
        }
        let reason = why.reason;
        if let Some(unmended) = &mut self.unmended {
            unmended.reason = reason;
            return;
        }
        warn!(sink = %self.plan.name, reason, "some pushes wait until a person mends something: the others go on, and these are never given up");
        self.unmended = Some(Unmended { since: Timestamp::now(), reason });
    }

    /// Attempts on these came to something else.
    pub(super) fn are_mended(&mut self, positions: &[Position]) {
        for &position in positions {
            self.ledger.is_mended(position);
        }
    }

    /// For those who ask how the lane is.
    pub(super) fn unmended_now(&mut self) -> Option<UnmendedNow> {
        if self.ledger.unmended() == 0 && self.unmended.take().is_some() {
            info!(sink = %self.plan.name, "no push waits for a person any more");
        }
        let Unmended { since, reason } = self.unmended.as_ref()?;
        Some(UnmendedNow { since: *since, pushes: self.ledger.unmended(), reason: reason.clone() })
    }
}
