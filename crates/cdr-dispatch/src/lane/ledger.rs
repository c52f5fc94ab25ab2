//! What a lane has read and not closed: each delivery, what it is doing, and since when.
//!
//! Bounded: at most [`Ledger::MOST`] deliveries are open, beside [`Ledger::MOST_HELD`] that the hour holds back, and the bodies
//! of those that wait long for their next attempt are let go and read again from the spool. A backlog costs disk, not memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use cdr_core::{Position, Push};
use tokio::time::Instant;

/// Bodies of deliveries that wait longer than this are not kept in memory.
const KEEP_BODY: Duration = Duration::from_secs(2);

/// The open deliveries of one lane.
#[derive(Debug, Default)]
pub struct Ledger {
    open: BTreeMap<Position, Open>,
    /// Failed ones, by when they are due.
    waiting: BTreeSet<(Instant, Position)>,
    /// Due ones whose body must be read from the spool first.
    due: BTreeSet<Position>,
    /// Those that the most of an hour holds back, their body let go.
    held: BTreeSet<Position>,
}

/// One open delivery.
#[derive(Debug, Default)]
pub struct Open {
    /// The push, unless its body was let go.
    pub push: Option<Arc<Push>>,
    /// The routes that named this sink for it.
    pub routes: Arc<[String]>,
    /// How often it was tried.
    pub attempts: u32,
    /// Time that counted towards giving up before this process, or before the last attempt.
    pub spent: Duration,
    /// The lane's active time at the start of its first attempt in this process.
    pub first_tried: Option<Duration>,
    /// When the push arrived, once known, in milliseconds since 1970.
    pub received_at_ms: Option<i64>,
    /// A person wants it delivered, whatever the routes say.
    pub is_wanted: bool,
    /// How often the sink said that it is away when it was given this push, and how many deliveries had passed
    /// by the last time: one that always meets this while others pass is refused alone.
    pub met_away: u32,
    /// See `met_away`; or by the last time that it failed with others.
    pub passed_then: u64,
    /// It shares a batch with nobody: those that it shared fell as a whole while others passed.
    pub goes_alone: bool,
    /// It was sent without a seal and not confirmed.
    pub may_be_there: bool,
    /// What became of it before is not known here: an earlier process had it, or it was a dead letter.
    pub has_a_past: bool,
    /// An attempt on it is under way.
    pub is_tried: bool,
}

impl Open {
    /// Counts a failed attempt, at this active time of the lane: how many there were, and for how long they count.
    pub fn failed(&mut self, active: Duration) -> (u32, Duration) {
        self.attempts = self.attempts.saturating_add(1);
        (self.attempts, self.spent + active.saturating_sub(self.first_tried.unwrap_or(active)))
    }

    /// Whether it fell before, and others have passed since, of which there were so many by now.
    pub fn fell_while_others_pass(&self, passed: u64) -> bool {
        self.burden() > 0 && self.passed_then < passed
    }

    /// Whether the sink may have been given it before, so that it may be with the receiver, sealed or not.
    pub fn was_given(&self) -> bool {
        self.has_a_past || self.burden() > 0
    }

    /// The later it comes as a probe: one that never failed says most about the sink.
    pub fn burden(&self) -> u32 {
        self.attempts.saturating_add(self.met_away)
    }
}

impl Ledger {
    /// Most open deliveries; when full the lane reads no further.
    pub const MOST: usize = 4096;

    /// Most deliveries beside these that the hour holds back: what it does not hold back, such as alerts, is read past them. Each
    /// takes 200 bytes.
    pub const MOST_HELD: usize = 4 * Self::MOST;

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// How many wait for their next attempt.
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.due.len()
    }

    /// Whether one more may be opened.
    pub fn has_room(&self) -> bool {
        self.open.len() < Self::MOST + self.held.len().min(Self::MOST_HELD)
    }

    /// The oldest open delivery.
    pub fn oldest(&self) -> Option<(Position, &Open)> {
        self.open.first_key_value().map(|(&position, open)| (position, open))
    }

    /// Opens a delivery that was read just now.
    pub fn read(&mut self, push: Arc<Push>, routes: Arc<[String]>) {
        let received_at_ms = Some(push.facts().received_at.as_millisecond());
        let position = push.position();
        let open = Open { push: Some(push), routes, received_at_ms, ..Open::default() };
        self.open.insert(position, open);
    }

    /// Opens a delivery that the spool still knows from an earlier process.
    pub fn recovered(&mut self, position: Position, attempts: u32, spent: Duration, due: Instant) {
        let may_be_there = attempts > 0;
        self.open
            .insert(position, Open { attempts, spent, may_be_there, has_a_past: true, ..Open::default() });
        self.waiting.insert((due, position));
    }

    /// Lets these deliveries wait together, as a sealed batch, and no longer each for itself; when the last of them is due.
    pub fn seal(&mut self, positions: &[Position]) -> Instant {
        let is_in = |position: &Position| positions.binary_search(position).is_ok();
        let due = self.waiting.iter().filter(|(_, position)| is_in(position)).map(|&(due, _)| due).max();
        self.waiting.retain(|(_, position)| !is_in(position));
        for position in positions {
            if let Some(open) = self.open.get_mut(position) {
                open.may_be_there = false;
            }
        }
        due.unwrap_or_else(Instant::now)
    }

    /// Lets go of bodies that are read again before the next attempt.
    pub fn let_go(&mut self, positions: &[Position]) {
        for position in positions {
            if let Some(open) = self.open.get_mut(position) {
                open.push = None;
            }
        }
    }

    /// Opens a dead letter again because a person said so, whatever the routes say today.
    pub fn reopened(&mut self, position: Position) {
        self.open.insert(position, Open { is_wanted: true, has_a_past: true, ..Open::default() });
        self.waiting.insert((Instant::now(), position));
    }

    /// An open delivery.
    pub fn get(&self, position: Position) -> Option<&Open> {
        self.open.get(&position)
    }

    /// An open delivery, to change it.
    pub fn get_mut(&mut self, position: Position) -> Option<&mut Open> {
        self.open.get_mut(&position)
    }

    /// Those on which the first attempt ended without a word of the sink, or with one that proves nothing: they may be there, and
    /// the spool does not know that they were tried.
    pub fn in_doubt(&self) -> impl Iterator<Item = Position> {
        let is_in_doubt = |open: &Open| open.attempts == 0 && (open.is_tried || open.may_be_there);
        self.open.iter().filter(move |(_, open)| is_in_doubt(open)).map(|(&position, _)| position)
    }

    /// Lets a failed delivery wait, and lets go of its body if that is long.
    pub fn wait(&mut self, position: Position, wait: Duration) {
        if let Some(open) = self.open.get_mut(&position) {
            if wait > KEEP_BODY {
                open.push = None;
            }
            self.waiting.insert((Instant::now() + wait, position));
        }
    }

    /// When the next waiting delivery is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|&(due, _)| due)
    }

    /// Deliveries that are due now, their body in memory; the others go where [`unread`](Self::unread) finds them.
    pub fn take_due(&mut self) -> Vec<Position> {
        let now = Instant::now();
        let mut ready = Vec::new();
        while let Some(&(due, position)) = self.waiting.first()
            && due <= now
        {
            self.waiting.pop_first();
            match self.open.get(&position) {
                Some(open) if open.push.is_some() => ready.push(position),
                Some(_) => {
                    self.due.insert(position);
                }
                None => {}
            }
        }
        ready
    }

    /// Lets a ready delivery wait until the hour lets more leave, and lets go of its body.
    pub fn hold(&mut self, position: Position) {
        if let Some(open) = self.open.get_mut(&position) {
            open.push = None;
            self.held.insert(position);
        }
    }

    /// Whether the hour holds something back whose body was let go.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes up to `most` due deliveries whose body must be read, and of those held back too if the hour `lets` them leave.
    pub fn unread(&mut self, most: usize, lets: bool) -> Vec<Position> {
        let held = self.held.iter().filter(|_| lets);
        let chosen: Vec<_> = self.due.iter().chain(held).copied().take(most).collect();
        for position in &chosen {
            self.due.remove(position);
            self.held.remove(position);
        }
        chosen
    }

    /// Whether there is such a one.
    pub fn has_unread(&self, lets: bool) -> bool {
        !self.due.is_empty() || (lets && self.holds())
    }

    /// Puts back what was not read.
    pub fn still_unread(&mut self, position: Position) {
        self.due.insert(position);
    }

    /// Forgets deliveries whose outcome is durable.
    pub fn close(&mut self, positions: &[Position]) {
        for position in positions {
            self.open.remove(position);
            self.held.remove(position);
        }
    }
}
