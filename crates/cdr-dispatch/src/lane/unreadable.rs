//! Pushes that the disk does not give: each is looked for again by itself, with back-off, while the lane goes on with the others.
//!
//! One that stays away while other pushes can be read becomes a dead letter after [`LOSE_AFTER`], so that a person learns of it;
//! its place in the spool is kept, and a retry looks for it again. While nothing at all can be read, or the spool cannot write,
//! it is the disk: then the lane waits, for as long as it takes.

use std::{collections::BTreeMap, time::Duration};

use cdr_core::{Failure, Position};
use cdr_spool::{Health, ReadError};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, info};

use super::{Lane, ledger::Ledger, status::UnreadableNow};
use crate::store::Store;

/// The first wait for a place that cannot be read; it doubles with each look.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A lane that cannot read this place for so long, while others can be read, gives its pushes up. A cable or a controller that
/// comes back does so sooner; a sector that is gone never does.
pub const LOSE_AFTER: Duration = Duration::from_secs(600);

/// And not before so many looks.
const LOOKS: u32 = 3;

/// Most pushes that are looked for at once; the other half of the ledger is for those that can be read.
const MOST: usize = Ledger::MOST / 2;

/// What a lane cannot read at present.
#[derive(Debug, Default)]
pub struct Unreadable {
    /// How often each was looked for in vain.
    looks: BTreeMap<Position, u32>,
    /// How often the next unread place was looked for in vain.
    looks_ahead: u32,
    trouble: Option<Trouble>,
}

/// From the first failed look on, until everything could be read.
#[derive(Debug)]
struct Trouble {
    began: Instant,
    since: Timestamp,
    reason: String,
}

impl Unreadable {
    /// A push could not be read; how long to wait before the next look.
    fn failed(&mut self, position: Position) -> Duration {
        let looks = self.looks.entry(position).or_default();
        *looks = looks.saturating_add(1);
        wait_after(*looks)
    }

    /// How many more pushes may be looked for.
    fn room(&self) -> usize {
        MOST.saturating_sub(self.looks.len())
    }

    /// Whether it has been looked for long enough.
    fn is_overdue(&self, position: Position) -> bool {
        self.looks.get(&position).is_some_and(|looks| *looks >= LOOKS)
            && self.trouble.as_ref().is_some_and(|trouble| trouble.began.elapsed() >= LOSE_AFTER)
    }

    /// For those who ask how the lane is.
    pub fn now(&self) -> Option<UnreadableNow> {
        let trouble = self.trouble.as_ref()?;
        Some(UnreadableNow { since: trouble.since, pushes: self.looks.len(), reason: trouble.reason.clone() })
    }
}

fn wait_after(looks: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << looks.saturating_sub(1).min(16)).min(LONGEST_WAIT)
}

impl Lane {
    /// An open push could not be read: it waits for another look, or is given up.
    pub(super) async fn not_read(&mut self, position: Position, error: &ReadError) {
        if let Some(wait) = self.look_later(position, error).await {
            self.ledger.wait(position, wait);
        }
    }

    /// How long to wait for a push that could not be read; none when it was given up.
    pub(super) async fn look_later(&mut self, position: Position, error: &ReadError) -> Option<Duration> {
        self.say_unreadable(error);
        let wait = self.unreadable.failed(position);
        if !self.unreadable.is_overdue(position) || !gives_others(&self.store).await {
            return Some(wait);
        }
        let attempts = self.ledger.get(position).map_or(0, |open| open.attempts);
        let reason = format!("unreadable on disk: {error}; see to the disk, then retry it");
        self.bury(position, Failure::new(reason), attempts);
        self.was_read(position);
        None
    }

    /// A push that could be read, or is closed.
    pub(super) fn was_read(&mut self, position: Position) {
        self.unreadable.looks.remove(&position);
        self.see_whether_all_is_read();
    }

    /// The next unread place could not be read. The second time it is stepped over: its pushes are open, and each is looked for by
    /// itself. When too many are, the lane waits here.
    pub(super) async fn not_read_ahead(&mut self, error: &ReadError) {
        self.say_unreadable(error);
        self.unreadable.looks_ahead = self.unreadable.looks_ahead.saturating_add(1);
        let room = self.unreadable.room().min(Ledger::MOST - self.ledger.len().min(Ledger::MOST));
        if self.unreadable.looks_ahead < 2 || room == 0 {
            self.read_again_at = Some(Instant::now() + wait_after(self.unreadable.looks_ahead));
            return;
        }
        let (positions, next) = self.store.step_over(self.next, room).await;
        let until = self.until;
        for position in positions.into_iter().filter(|position| *position < until) {
            let wait = self.unreadable.failed(position);
            self.ledger.recovered(position, 0, Duration::ZERO, Instant::now() + wait);
        }
        self.next = next.min(until);
    }

    /// What lies ahead could be read.
    pub(super) fn was_read_ahead(&mut self) {
        self.unreadable.looks_ahead = 0;
        self.see_whether_all_is_read();
    }

    /// Once, at its beginning, in the log; those who ask hear the newest reason.
    fn say_unreadable(&mut self, error: &ReadError) {
        let reason = error.to_string();
        self.status.note_failure(&reason);
        if let Some(trouble) = &mut self.unreadable.trouble {
            trouble.reason = reason;
            return;
        }
        error!(sink = %self.plan.name, reason, "the spool cannot be read in places: these pushes wait, the others go on; see to the disk");
        let (began, since) = (Instant::now(), Timestamp::now());
        self.unreadable.trouble = Some(Trouble { began, since, reason });
    }

    fn see_whether_all_is_read(&mut self) {
        let unreadable = &mut self.unreadable;
        if unreadable.looks_ahead == 0 && unreadable.looks.is_empty() && unreadable.trouble.take().is_some() {
            info!(sink = %self.plan.name, "the spool can be read again, but for what became dead letters");
        }
    }
}

/// Whether it is the place, and not the disk: the spool can write, and gives its newest push.
async fn gives_others(store: &Store) -> bool {
    if matches!(store.spool().health(), Health::Failing { .. }) {
        return false;
    }
    let newest = Position(store.end().0.saturating_sub(1));
    store.get(vec![newest], usize::MAX).await.iter().all(Result::is_ok)
}

#[cfg(test)]
mod tests;
