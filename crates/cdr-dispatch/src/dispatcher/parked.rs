//! Lanes that nobody drives, and what a person decides about them.
//!
//! A sink that disappears from the configuration leaves its lane behind: a configuration edit never decides about data.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use cdr_core::{Position, SinkName, sink::InvalidSinkName};
use cdr_spool::{ControlError, LaneState};
use tracing::info;

use super::{
    Dispatcher,
    ending::{StillEnding, decided},
    errand_now::sink_of,
};
use crate::{
    errand::{Errand, handed_over_facts},
    stored,
};

/// Why a lane was not retired.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// Its sink is configured.
    #[error("the configuration names this sink; take it out and reload first")]
    Configured,
    /// It left the configuration a moment ago, and has not ended.
    #[error(transparent)]
    Ending(#[from] StillEnding),
    /// The spool did not do it.
    #[error(transparent)]
    Spool(#[from] ControlError),
}

/// Why a lane got no other name.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    /// The old name is configured.
    #[error("the configuration names the sink {0}; give it its new name there and reload first")]
    Configured(String),
    /// The new name is none.
    #[error("{name:?} is no name: {why}")]
    NoName {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        why: InvalidSinkName,
    },
    /// It left the configuration a moment ago, and has not ended.
    #[error(transparent)]
    Ending(#[from] StillEnding),
    /// The spool did not do it.
    #[error(transparent)]
    Spool(#[from] ControlError),
}

/// A lane that the spool knows and nobody drives: its pushes wait until a person decides.
#[derive(Clone, Debug)]
pub struct Parked {
    /// Its name: that of the sink that disappeared, or of an errand.
    pub name: String,
    /// The sink of which it was set aside, if it was.
    pub set_aside_of: Option<String>,
    /// Positions that it has not read.
    pub unread: u64,
    /// Deliveries that it had read and not closed.
    pub open: usize,
    /// Why nobody drives it.
    pub why: String,
}

/// From which position on a parked lane is owed no pushes any more, as far as this process knows: the routes did not name
/// its sink from there on. What left the configuration before the start may have left it anywhere, so it is the start.
pub(super) struct ParkedSince {
    start: Position,
    since: Mutex<BTreeMap<String, Position>>,
}

impl ParkedSince {
    pub(super) fn new(start: Position) -> Self {
        Self { start, since: Mutex::default() }
    }

    pub(super) fn note(&self, lanes: impl IntoIterator<Item = String>, end: Position) {
        self.lock().extend(lanes.into_iter().map(|lane| (lane, end)));
    }

    fn of(&self, lane: &str) -> Position {
        self.lock().get(lane).copied().unwrap_or(self.start)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Position>> {
        // Nothing in here panics half-way.
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dispatcher {
    /// Lanes that nobody drives.
    pub fn parked(&self) -> Vec<Parked> {
        let end = self.store.spool().end();
        let parked = |(name, state): (String, LaneState)| {
            let why = self.why_parked(&name, &state)?;
            let unread = state.ends().min(end).0.saturating_sub(state.next.0);
            let errand = state.errand.as_ref();
            let aside =
                errand.filter(|errand| matches!(Errand::from_spool(&name, errand), Ok(Errand::SetAside)));
            let set_aside_of = aside.map(|errand| errand.sink.clone());
            Some(Parked { name, set_aside_of, unread, open: state.open.len(), why })
        };
        self.store.spool().lanes().into_iter().filter_map(parked).collect()
    }

    /// None if somebody drives it.
    pub(super) fn why_parked(&self, lane: &str, state: &LaneState) -> Option<String> {
        let sink = state.errand.as_ref().map_or(lane, |errand| &errand.sink);
        if !self.lock().keys().any(|name| name.as_str() == sink) {
            return Some(format!("the configuration names no sink {sink}"));
        }
        state.errand.as_ref().and_then(|_| self.errands.why_parked(lane))
    }

    /// Forgets a parked lane and all that it owes: a person decided that its sink does not come back.
    ///
    /// # Errors
    /// There is no such lane, or it is no parked one, or it could not be made durable, or is not yet.
    pub async fn retire(&self, lane: &str) -> Result<(), RetireError> {
        let (mut ending, deadline) = self.hold_lanes().await?;
        if self.control_of(lane).is_some() {
            return Err(RetireError::Configured);
        }
        ending.over(is_of(lane), deadline).await?;
        let (store, lane) = (Arc::clone(&self.store), lane.to_owned());
        let retiring = async move {
            let _held = ending;
            store.spool().retire_lane(&lane).await
        };
        Ok(decided(retiring).await?)
    }

    /// Hands over to the sink `new` all that the parked lane `old` owes: what is open or not read, dead letters, seals and
    /// replays. When `new` has a lane of its own, it is an errand of that one, and the names under which it now lies are
    /// the answer. What both were owed, as when they stood in the configuration together, may come twice.
    ///
    /// # Errors
    /// There is no such lane, its sink is configured, or it could not be made durable, or is not yet.
    pub async fn rename(self: &Arc<Self>, old: &str, new: &str) -> Result<Vec<String>, RenameError> {
        let no_name = |why| RenameError::NoName { name: new.to_owned(), why };
        let new: SinkName = new.parse().map_err(no_name)?;
        let (mut ending, deadline) = self.hold_lanes().await?;
        if self.control_of(old).is_some() {
            return Err(RenameError::Configured(old.to_owned()));
        }
        ending.over(is_of(old), deadline).await?;
        let (dispatcher, old) = (Arc::clone(self), old.to_owned());
        let handing_over = async move {
            let until = stored::spool_position(dispatcher.parked_since.of(&old));
            let facts = handed_over_facts(&old);
            let names = dispatcher.store.spool().hand_over_lane(&old, new.as_str(), until, facts).await?;
            info!(old, %new, "a parked sink was handed over to another name");
            dispatcher.start_errands(&ending);
            Ok(names)
        };
        Ok(decided(handing_over).await?)
    }
}

/// The lane itself, and the errands of its sink.
fn is_of(lane: &str) -> impl Fn(&str) -> bool {
    move |name| name == lane || sink_of(name) == lane
}
