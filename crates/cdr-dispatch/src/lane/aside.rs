//! A long backlog goes its own way, so that a fresh push does not wait behind all of it.
//!
//! When a sink passes its first push after an outage or a start, and what waits for it is more than memory holds, its lane
//! sets the backlog aside: one durable decision of the spool makes an errand of what the lane has not read, and the lane goes on
//! at the end. The errand runs beside it, in order, with half of the sink's concurrency and rate. What the lane had read
//! stays with it, and so do its dead letters.
//!
//! Not for a sink that puts pushes into seals, nor for one that wants its batches spaced, counted by the hour or one push at a
//! time: those rely on an order, or on a pace that two lanes would not keep.

use std::time::Duration;

use cdr_spool::LaneState;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Lane, NO_HURRY};
use crate::errand::Errand;

/// A lane that is no further behind than this works it off in order: soon done, and half of it may be in the ledger.
const SHORT: u64 = 4096;

/// Where a sink stands on its way back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Return {
    /// It has passed nothing since the lane was made, or since it was away.
    #[default]
    Awaited,
    /// It has passed its first push.
    Passed,
    /// It has been looked at what waits for it.
    Settled,
    /// It puts pushes into seals: they keep their order.
    Sealed,
}

impl Return {
    /// The sink is away.
    pub(super) fn is_away(&mut self) {
        if *self != Self::Sealed {
            *self = Self::Awaited;
        }
    }

    /// A delivery passed.
    pub(super) fn passed(&mut self) {
        if *self == Self::Awaited {
            *self = Self::Passed;
        }
    }
}

impl Lane {
    /// Makes an errand of what the lane has not read, if its sink has just come back and that is much.
    pub(super) async fn set_aside_backlog(&mut self) {
        if self.back != Return::Passed || self.pace.pause().is_some() {
            return;
        }
        self.back = Return::Settled;
        if !self.is_far_behind() || !self.may_share() || self.has_set_aside() {
            return;
        }
        let from = self.next;
        match self.store.set_aside(&self.lane, from).await {
            Ok(Some(goes_on)) => {
                self.next = goes_on;
                let pushes = goes_on.0 - from.0;
                info!(sink = %self.plan.name, pushes, "the backlog is set aside and delivered in order; fresh pushes go beside it");
            }
            Ok(None) => {}
            Err(error) => {
                warn!(sink = %self.plan.name, %error, "the backlog cannot be set aside; fresh pushes come after it");
            }
        }
    }

    fn is_far_behind(&self) -> bool {
        let behind = self.store.end().0.saturating_sub(self.next.0);
        self.errand.is_none() && behind > SHORT && !self.store.is_live(self.next)
    }

    fn may_share(&self) -> bool {
        let keeps_its_pace = self.gather.spacing() == Duration::ZERO && !self.memos.is_limited();
        self.plan.concurrency > 1 && keeps_its_pace && self.sealed.is_empty()
    }

    /// Whether something is set aside already and not through: a second errand would only slow down the first.
    fn has_set_aside(&self) -> bool {
        let is_under_way = |(lane, state): (String, LaneState)| {
            let is_read = state.next >= state.ends() && state.open.is_empty();
            let of_sink = state.errand.filter(|errand| errand.sink == self.plan.name.as_str());
            let errand = of_sink.and_then(|errand| Errand::from_spool(&lane, &errand).ok());
            matches!(errand, Some(Errand::SetAside)) && !is_read
        };
        self.store.spool().lanes().into_iter().any(is_under_way)
    }

    /// Whether this lane delivers what was set aside.
    pub(super) fn is_set_aside(&self) -> bool {
        matches!(self.errand.as_deref(), Some(Errand::SetAside))
    }

    /// Says what is under way here, and takes what the other lanes of the sink leave. To be called right before attempts begin,
    /// and right after.
    pub(super) fn share_pace(&mut self) {
        let is_busy = self.next < self.until || self.ledger.len() > 0;
        self.status.share_pace(self.attempts.len(), is_busy);
        self.pace.take_part(self.status.part());
        let is_crowded_out = self.gather.len() > 0 && self.pace.is_crowded_out(self.attempts.len());
        if is_crowded_out {
            self.look_at = Some(Instant::now() + NO_HURRY);
        }
        self.status.waits_for_room(is_crowded_out && self.is_due());
    }

    /// Whether nothing but room keeps a batch from going out.
    fn is_due(&self) -> bool {
        let due = self.gather.next_due(self.is_crowded());
        due.is_some_and(|due| due <= Instant::now()) && self.pace.held_until().is_none()
    }

    /// The lane ends: the others have all of it.
    pub(super) fn give_back_pace(&self) {
        self.status.share_pace(0, false);
        self.status.waits_for_room(false);
    }
}
