//! How an errand is doing, for whoever looks.

use std::sync::Arc;

use cdr_core::Position;
use cdr_spool::LaneState;

use crate::{
    errand::{Errand, Replay},
    lane::LaneSnapshot,
    stored,
};

/// How an errand is doing.
#[derive(Clone, Debug)]
pub struct ErrandNow {
    /// Its lane in the spool.
    pub lane: String,
    /// The sink that it delivers to.
    pub sink: String,
    /// What it is for; none if nobody can read it.
    pub errand: Option<Arc<Errand>>,
    /// Where it began to read.
    pub began: Position,
    /// The first position that it has not read.
    pub next: Position,
    /// The first position that it will not read.
    pub until: Position,
    /// Its dead letters.
    pub dead: usize,
    /// Deliveries read and not closed.
    pub open: usize,
    /// Whether somebody runs it.
    pub state: ErrandState,
    /// What it did since this process began.
    pub did: Option<LaneSnapshot>,
}

/// Whether somebody runs an errand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ErrandState {
    /// It is under way.
    Runs,
    /// Everything is read and delivered but for dead letters, about which a person decides.
    Rests,
    /// Nobody runs it, for this reason.
    Parked(String),
    /// A person ended it, and its lane or the disk has not come to the end: should the process end before, it goes on.
    Ending,
    /// It is over.
    Ended,
    /// A person ended it.
    Cancelled,
}

impl ErrandNow {
    /// The number of a replay, and of any errand: the end of its lane's name.
    pub fn id(&self) -> Option<u32> {
        number_of(&self.lane)
    }

    /// Positions that it has yet to read.
    pub fn unread(&self) -> u64 {
        self.until.0.saturating_sub(self.next.0)
    }

    /// What is replayed, if it is a replay.
    pub fn replay(&self) -> Option<&Replay> {
        match self.errand.as_deref() {
            Some(Errand::Replay(replay)) => Some(&**replay),
            _ => None,
        }
    }

    /// Whether it is not over.
    pub fn is_under_way(&self) -> bool {
        !matches!(self.state, ErrandState::Ended | ErrandState::Cancelled)
    }
}

/// The sink in the name of an errand's lane.
pub(super) fn sink_of(lane: &str) -> &str {
    lane.split('~').next().unwrap_or(lane)
}

pub(super) fn number_of(lane: &str) -> Option<u32> {
    lane.split_once('~')?.1.parse().ok()
}

/// How an errand is doing, from what the spool says and, if somebody runs it, from its lane.
pub(super) fn now(
    (lane, state): (String, LaneState),
    run: Option<(Arc<Errand>, LaneSnapshot)>,
    dead: usize,
) -> ErrandNow {
    let LaneState { began, next, open, errand, .. } = state;
    let (sink, until) =
        errand.map_or((sink_of(&lane).to_owned(), next), |errand| (errand.sink, errand.until));
    let (errand, did) = run.unzip();
    let read_to = did.as_ref().map_or(stored::position(next), |did| Position(did.now.next));
    let open = did.as_ref().map_or(open.len(), |did| did.now.open);
    let is_read = read_to.0 >= until.0;
    ErrandNow {
        lane,
        sink,
        errand,
        began: stored::position(began),
        next: read_to,
        until: stored::position(until),
        dead,
        open,
        state: if is_read && open == 0 && dead > 0 { ErrandState::Rests } else { ErrandState::Runs },
        did,
    }
}
