//! What is asked and decided about lanes: which there are, what they owe, their seals and dead letters.

use bytes::Bytes;

use super::{LONGEST_FACTS, LONGEST_NAME, Spool};
use crate::inbox::Change;
use crate::log::outcomes::Dead;
use crate::state::Lane;
use crate::{ControlError, DeadLetter, Errand, LaneState, NewLane, Position, ReadError, Seal};

impl<T: Send + 'static> Spool<T> {
    /// All lanes that the spool knows, also those that no configuration names any more.
    pub fn lanes(&self) -> Vec<(String, LaneState)> {
        self.store().state().lanes.iter().map(|(name, lane)| (name.clone(), lane.state.clone())).collect()
    }

    /// The temporary lanes of them, with what each is for.
    pub fn errands(&self) -> Vec<(String, Errand)> {
        let state = self.store().state();
        let errand = |(name, lane): (&String, &Lane)| Some((name.clone(), lane.state.errand.clone()?));
        state.lanes.iter().filter_map(errand).collect()
    }

    /// Registers those lanes that are not known yet, durably; returns their names.
    ///
    /// # Errors
    /// If the disk fails, or the spool is being closed.
    pub async fn register_lanes(&self, lanes: &[NewLane]) -> Result<Vec<String>, ControlError> {
        Ok(self.control(Change::Register(lanes.to_vec())).await?.names)
    }

    /// Begins a temporary lane for this sink, durably, and returns its name. It reads what arrived from `from_ms` on and
    /// before `to_ms` (milliseconds since 1970), and perhaps a little on either side: whoever drives it looks at each push.
    ///
    /// # Errors
    /// If the facts are too large, the disk fails, or the spool is being closed.
    pub async fn begin_errand(
        &self,
        sink: &str,
        (from_ms, to_ms): (Option<i64>, Option<i64>),
        facts: Bytes,
    ) -> Result<String, ControlError> {
        no_larger("an errand's facts", facts.len(), LONGEST_FACTS)?;
        let change = Change::Begin { sink: sink.to_owned(), from_ms, to_ms, facts };
        Ok(self.control(change).await?.names.pop().unwrap_or_default())
    }

    /// Sets aside what a lane has not read, from `from` on: it becomes an [`Errand`] of the lane's sink, with these facts,
    /// that ends where the spool ends at present, and there the lane goes on; both durably and at once. What the lane has
    /// read before `from` stays its own. Returns where it goes on; none if there is nothing to be set aside.
    ///
    /// # Errors
    /// If there is no such lane, the facts are too large, the disk fails, or the spool is being closed.
    pub async fn set_aside(
        &self,
        lane: &str,
        from: Position,
        facts: Bytes,
    ) -> Result<Option<Position>, ControlError> {
        no_larger("an errand's facts", facts.len(), LONGEST_FACTS)?;
        let change = Change::SetAside { lane: lane.to_owned(), from, facts };
        let changed = self.control(change).await?;
        let goes_on = || self.store().state().lanes.get(lane).map(|lane| lane.state.next);
        Ok(if changed.names.is_empty() { None } else { goes_on() })
    }

    /// Hands over to the lane `new` everything that `old` owes, its dead letters and seals, and the errands of that sink,
    /// durably and at once; returns the names under which it is now. Without a lane `new` this is a mere new name. Otherwise
    /// the old lane becomes an [`Errand`] of `new`, with these facts, that ends where `new` began to read: what came later
    /// `new` has closed, or still owes by itself. Should `old` have been owed pushes for longer than that, it ends at `until`.
    ///
    /// # Errors
    /// If there is no such lane, both names are one, `new` began no later than `old`, the facts are too large, the disk fails,
    /// or the spool is being closed.
    pub async fn hand_over_lane(
        &self,
        old: &str,
        new: &str,
        until: Position,
        facts: Bytes,
    ) -> Result<Vec<String>, ControlError> {
        no_larger("an errand's facts", facts.len(), LONGEST_FACTS)?;
        let change = Change::HandOver { old: old.to_owned(), new: new.to_owned(), until, facts };
        Ok(self.control(change).await?.names)
    }

    /// Forgets a lane and the errands of its sink, with everything that they owe and their dead letters, durably.
    ///
    /// # Errors
    /// If there is no such lane, the disk fails, or the spool is being closed.
    pub async fn retire_lane(&self, name: &str) -> Result<(), ControlError> {
        self.control(Change::Retire(name.to_owned())).await.map(drop)
    }

    /// Seals pushes that the lane owes, durably: before this returns nothing may be made of them under the seal, and from then
    /// on they are open, and come back under it after a crash. See [`Seal`] for when it ends.
    ///
    /// # Errors
    /// If there is no such lane, something of it is closed or no push, key or facts are too large, the disk fails, or the
    /// spool is being closed. Then the pushes are as they were.
    pub async fn seal(&self, lane: &str, mut seal: Seal) -> Result<(), ControlError> {
        seal.positions.sort_unstable();
        seal.positions.dedup();
        no_larger("a seal's key", seal.key.len(), LONGEST_NAME)?;
        no_larger("a seal's facts", seal.facts.len(), LONGEST_FACTS)?;
        self.control(Change::Seal { lane: lane.to_owned(), seal }).await.map(drop)
    }

    /// How many deliveries a lane has open, and how many dead letters, at one moment: with none of either it owes nothing of
    /// what it has read.
    pub fn count_open(&self, lane: &str) -> (usize, usize) {
        self.store().state().lanes.get(lane).map_or((0, 0), |lane| (lane.state.open.len(), lane.dead.len()))
    }

    /// How many dead letters a lane has.
    pub fn count_dead_letters(&self, lane: &str) -> usize {
        self.store().state().lanes.get(lane).map_or(0, |lane| lane.dead.len())
    }

    /// Dead letters of a lane behind `after`, at most `max`, in order. Start with `Position(0)`. Blocks: reads each frame in
    /// which some of them died once.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn dead_letters(
        &self,
        lane: &str,
        after: Position,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        let letters = self.store().dead_letters(lane, after, max)?;
        Ok(letters.into_iter().map(|(position, dead)| dead_letter(lane, position, dead)).collect())
    }

    /// Wakes dead letters, durably: they are open again, with no attempts. Returns those that were dead.
    ///
    /// # Errors
    /// If there is no such lane, the disk fails, or the spool is being closed.
    pub async fn reopen(&self, lane: &str, positions: &[Position]) -> Result<Vec<Position>, ControlError> {
        let change = Change::Reopen { lane: lane.to_owned(), positions: positions.to_vec() };
        Ok(self.control(change).await?.positions)
    }

    /// Lets dead letters go, durably: nobody will deliver them. Returns those that were dead.
    ///
    /// # Errors
    /// If there is no such lane, the disk fails, or the spool is being closed.
    pub async fn discard(&self, lane: &str, positions: &[Position]) -> Result<Vec<Position>, ControlError> {
        let change = Change::Discard { lane: lane.to_owned(), positions: positions.to_vec() };
        Ok(self.control(change).await?.positions)
    }
}

fn no_larger(what: &'static str, size: usize, limit: usize) -> Result<(), ControlError> {
    if size > limit { Err(ControlError::TooLarge { what, size, limit }) } else { Ok(()) }
}

fn dead_letter(lane: &str, position: Position, dead: Option<Dead>) -> DeadLetter {
    let lane = lane.to_owned();
    match dead {
        Some(dead) => DeadLetter {
            lane,
            position,
            reason: dead.reason,
            excerpt: dead.excerpt,
            attempts: dead.attempts,
            died_at_ms: dead.died_at_ms,
        },
        None => DeadLetter {
            lane,
            position,
            reason: "the reason is damaged on disk".into(),
            excerpt: String::new(),
            attempts: 0,
            died_at_ms: 0,
        },
    }
}
