//! From a report to an outcome: what each delivery of an attempt becomes, and what the lane learns of its sink.

use std::time::Duration;

use cdr_core::{Failure, Origin, Outcome, Partition, Position, Receipt, Unavailable};
use cdr_spool::Outcome as Recorded;
use jiff::Timestamp;
use tokio::{task::JoinError, time::Instant};
use tracing::{debug, error, info, warn};

use super::{
    Lane, SealedBatch,
    aside::Return,
    attempt::{Attempted, NotMade},
    pace::{Epoch, Turn},
};
use crate::event::Event;

/// A push on which nothing was tried is looked at again after this at the latest: what a person mends shall be seen soon.
const LONGEST_UNTRIED: Duration = Duration::from_secs(60);

impl Lane {
    pub(super) fn after(&mut self, attempted: Result<Attempted, JoinError>) {
        match attempted {
            Ok(attempted) => self.settle(attempted),
            Err(ended) => match ended.try_into_panic() {
                // `attempt` catches what a sink does, so it is a fault of ours. Which pushes it had went with it: the lane begins
                // again where the spool knows it to be, or they would be under way for ever.
                Ok(panic) => std::panic::resume_unwind(panic),
                // Nobody aborts it but `stop`, which does not look here.
                Err(error) => error!(sink = %self.plan.name, %error, "an attempt ended without a report"),
            },
        }
    }

    fn settle(&mut self, attempted: Attempted) {
        let Attempted { partition, positions, weight, began, seal, was_sent, went } = attempted;
        self.trying = self.trying.saturating_sub(weight);
        for &position in &positions {
            self.mark_tried(position, false);
        }
        let report = match went {
            Ok(report) => report,
            Err(why) => {
                self.finished(partition.as_ref(), false);
                self.note(partition.as_ref(), false, None);
                return match why {
                    NotMade::NotSealed(error) => self.not_sealed(&positions, &error),
                    NotMade::Apart(in_doubt) => self.gather_apart(&positions, &in_doubt),
                };
            }
        };
        let memo = report.memo().cloned();
        let (mut outcomes, mut away) = report.into_parts();
        let missing =
            || Outcome::Retry(Failure::new("the sink reported fewer outcomes than it was given pushes"));
        outcomes.resize_with(positions.len(), missing);
        match &seal {
            Some(seal) => self.settle_as_one(seal, &mut outcomes, away.is_some()),
            None if was_sent => self.doubt(&positions, &outcomes, away.is_some()),
            None => {}
        }
        let delivered = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Delivered(_)));
        match &seal {
            Some(_) => self.back = Return::Sealed,
            None if delivered && away.is_none() => self.back.passed(),
            None => {}
        }
        let left = delivered || memo.is_some();
        self.finished(partition.as_ref(), left);
        self.note(partition.as_ref(), left, memo);
        // A mail about each call would be worse than one that is late.
        let stays_whole = seal.is_some() || self.gather.spacing() > Duration::ZERO;
        if !stays_whole {
            self.part(&positions, &outcomes, away.is_some());
        }
        if let Some(why) = away.take_if(|_| self.refuses_only(&positions, &outcomes, stays_whole)) {
            match why.is_until_mended {
                true => self.left_to_a_person(&positions, &why),
                false => refuse_alone(&mut outcomes, &why),
            }
        }
        // First, so that nothing is given up by a report that says that the sink is away.
        if let Some(why) = &away {
            self.met_away(&positions);
            let turn = self.pace.unavailable(began, &why.reason, why.retry_after);
            self.turn(turn, &why.reason);
        }
        if let Some(seal) = seal {
            return self.settle_sealed(SealedBatch { seal, positions }, outcomes, began, away.is_some());
        }
        for (position, outcome) in positions.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered(receipt) => self.close(position, began, receipt, away.is_some()),
                Outcome::Retry(failure) => self.retry(position, began, failure, away.is_some()),
                Outcome::Reject(failure) => self.reject(position, began, failure, away.is_some()),
                Outcome::Untried => self.untried(position, began, away.is_some()),
            }
        }
    }

    fn finished(&mut self, partition: Option<&Partition>, left: bool) {
        if let Some(partition) = partition {
            self.gather.finished(partition, left);
        }
    }

    /// Pushes that were sent without a seal and not confirmed may be there all the same: an answer can be lost.
    fn doubt(&mut self, positions: &[Position], outcomes: &[Outcome], is_away: bool) {
        for (&position, outcome) in positions.iter().zip(outcomes) {
            let may_be_there = match outcome {
                Outcome::Retry(_) => true,
                Outcome::Untried => is_away,
                Outcome::Delivered(_) | Outcome::Reject(_) => false,
            };
            if let (true, Some(open)) = (may_be_there, self.ledger.get_mut(position)) {
                open.may_be_there = true;
            }
        }
    }

    /// The sink has begun to seal since some of these were tried: those go by themselves, as they went, the others without them.
    fn gather_apart(&mut self, positions: &[Position], in_doubt: &[Position]) {
        for &position in positions {
            if let Some(open) = self.ledger.get_mut(position) {
                open.goes_alone |= in_doubt.contains(&position);
            }
            self.ledger.wait(position, Duration::ZERO);
        }
    }

    /// Of pushes that fell together, those that fell before while others passed go alone from now on: it may be one of them
    /// that is refused, and it must not take the others along. Not before that, or an outage would cost a request for each push.
    fn part(&mut self, positions: &[Position], outcomes: &[Outcome], is_away: bool) {
        let fell = match is_away {
            true => untried(positions, outcomes),
            false => failed_as_one(positions, outcomes),
        };
        if fell.len() < 2 {
            return;
        }
        for position in fell {
            if let Some(open) = self.ledger.get_mut(position) {
                open.goes_alone |= open.fell_while_others_pass(self.passed);
                open.passed_then = self.passed;
            }
        }
    }

    /// Whether the sink called itself away for this push before, and others have passed since: then it is not
    /// the sink. (A firewall in front of it that dislikes one body answers 403 like a wrong password.) Of pushes that may go
    /// apart nobody knows which one it is; they [part](Self::part) first.
    fn refuses_only(&self, positions: &[Position], outcomes: &[Outcome], stays_whole: bool) -> bool {
        let untried = untried(positions, outcomes);
        let is_one = untried.len() == 1 || (stays_whole && !untried.is_empty());
        let mut opens = untried.iter().filter_map(|&position| self.ledger.get(position));
        is_one && opens.all(|open| open.met_away > 0 && open.fell_while_others_pass(self.passed))
    }

    fn met_away(&mut self, positions: &[Position]) {
        for &position in positions {
            if let Some(open) = self.ledger.get_mut(position) {
                open.met_away = open.met_away.saturating_add(1);
                open.passed_then = self.passed;
            }
        }
    }

    /// What these pushes wait for is theirs alone, and no attempt. They stay untried, without a pause.
    fn left_to_a_person(&mut self, positions: &[Position], why: &Unavailable) {
        self.status.note_failure(&why.reason);
        for &position in positions {
            if let Some(open) = self.ledger.get_mut(position) {
                open.met_away = open.met_away.saturating_add(1);
            }
        }
    }

    fn close(&mut self, position: Position, began: Epoch, receipt: Receipt, is_away: bool) {
        self.shown_alive(began, is_away);
        self.tell_delivered(position, &receipt);
        self.record([(position, Recorded::Delivered { receipt: Some(receipt.0) })]);
    }

    pub(super) fn tell_delivered(&mut self, position: Position, receipt: &Receipt) {
        self.passed += 1;
        self.status.count_delivered();
        self.summary.add();
        // Looked up only for whoever listens: to find the session means to read the body.
        debug!(%position, session_id = self.session_id(position), sink = %self.plan.name, status = "delivered", errand = self.errand_lane(), attempts = self.attempts_on(position), receipt = receipt.0, "delivered");
    }

    fn session_id(&self, position: Position) -> Option<&str> {
        let push = self.ledger.get(position)?.push.as_ref()?;
        push.session_id().map(cdr_core::push::short)
    }

    /// How often it was tried, when the attempt at hand is over.
    pub(super) fn attempts_on(&self, position: Position) -> u32 {
        self.ledger.get(position).map_or(1, |open| open.attempts.saturating_add(1))
    }

    pub(super) fn retry(&mut self, position: Position, began: Epoch, failure: Failure, is_away: bool) {
        let active = self.pace.active_time();
        let Some(open) = self.ledger.get_mut(position) else { return };
        let (attempts, spent) = open.failed(active);
        if failure.is_alone {
            self.shown_alive(began, is_away);
        } else if !is_away {
            let turn = self.pace.failed(began, position, attempts == 1, &failure.reason);
            self.turn(turn, &failure.reason);
        }
        if self.plan.retry.gives_up(spent) && self.pace.pause().is_none() {
            let reason = format!("given up after {attempts} attempts; the last: {}", failure.reason);
            return self.bury(position, Failure { reason, ..failure }, attempts);
        }
        let wait = self.plan.retry.wait(attempts, failure.retry_after);
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let due_ms = Timestamp::now().as_millisecond().saturating_add(wait_ms);
        debug!(%position, sink = %self.plan.name, attempts, wait_s = wait.as_secs_f64(), reason = failure.reason, "will be tried again");
        self.status.count_failed(&failure.reason);
        self.ledger.wait(position, wait);
        // A retry stays open, so nothing waits for this to be durable.
        let outcome = Recorded::Retry { attempts, spent, due_ms, answer: failure.reason };
        drop(self.store.record(&self.lane, vec![(position, outcome)]));
    }

    fn reject(&mut self, position: Position, began: Epoch, failure: Failure, is_away: bool) {
        // The sink read it and said no: it is there.
        self.shown_alive(began, is_away);
        let attempts = self.attempts_on(position);
        self.bury(position, failure, attempts);
    }

    fn untried(&mut self, position: Position, began: Epoch, is_away: bool) {
        if is_away {
            return self.ledger.wait(position, Duration::ZERO);
        }
        // A sink that tries nothing must neither spin nor keep a pause without end.
        debug!(%position, sink = %self.plan.name, "the sink made no attempt, and is not away");
        self.keep_pause(began);
        let wait = self.wait_untried(position);
        self.ledger.wait(position, wait);
    }

    /// The wait of a push on which nothing was tried, though the sink is there.
    pub(super) fn wait_untried(&self, position: Position) -> Duration {
        let met = self.ledger.get(position).map_or(0, |open| open.met_away);
        self.plan.retry.wait(met.max(1), None).min(LONGEST_UNTRIED)
    }

    /// A probe that tried nothing is no sign of life.
    pub(super) fn keep_pause(&mut self, began: Epoch) {
        if self.pace.pause().is_some() {
            let turn = self.pace.unavailable(began, "the sink made no attempt and did not say why", None);
            self.turn(turn, "");
        }
    }

    /// Makes a delivery a dead letter: kept with its reason until a person decides.
    pub(super) fn bury(&mut self, position: Position, failure: Failure, attempts: u32) {
        let died = self.tell_dead(position, failure, attempts);
        self.record([(position, died)]);
    }

    pub(super) fn tell_dead(&mut self, position: Position, failure: Failure, attempts: u32) -> Recorded {
        let push = self.ledger.get(position).and_then(|open| open.push.as_ref());
        let origin = push.map_or(Origin::Push, |push| push.facts().origin);
        let session_id = self.session_id(position).map(str::to_owned);
        self.status.count_died(&failure.reason);
        warn!(%position, session_id, sink = %self.plan.name, status = "dead", errand = self.errand_lane(), attempts, reason = failure.reason,
            "dead letter: kept until someone retries or discards it");
        let Failure { reason, excerpt, .. } = failure;
        let (sink, told) = (self.plan.name.clone(), reason.clone());
        let _ = self.events.send(Event::Died { sink, position, session_id, origin, reason: told });
        Recorded::Dead { reason, excerpt, attempts }
    }

    /// Final outcomes, handed to the spool at the end of this turn; see [`hand_over`](Self::hand_over).
    pub(super) fn record(&mut self, outcomes: impl IntoIterator<Item = (Position, Recorded)>) {
        self.finals.extend(outcomes);
    }

    /// Hands this turn's final outcomes to the spool; the deliveries are forgotten when they are durable.
    pub(super) fn hand_over(&mut self) {
        let memos = self.memos.take_changed();
        if self.finals.is_empty() && memos.is_empty() {
            return;
        }
        let outcomes = std::mem::take(&mut self.finals);
        let positions: Vec<Position> = outcomes.iter().map(|(position, _)| *position).collect();
        // Nobody reads them again, however long the disk takes.
        self.ledger.let_go(&positions);
        let durable = self.store.record_with_memos(&self.lane, outcomes, memos);
        self.recordings.push(Box::pin(async move {
            durable.await;
            positions
        }));
    }

    pub(super) fn shown_alive(&mut self, began: Epoch, is_away: bool) {
        if !is_away {
            let turn = self.pace.succeeded(began);
            self.turn(turn, "");
        }
    }

    /// Tells how the sink is; an errand leaves that to the sink's own lane, or it would be told twice.
    fn send(&self, event: Event) {
        if self.errand.is_none() {
            let _ = self.events.send(event);
        }
    }

    pub(super) fn turn(&mut self, turn: Turn, reason: &str) {
        let sink = &self.plan.name;
        match turn {
            Turn::None => {}
            Turn::Paused => {
                self.status.note_failure(reason);
                self.back.is_away();
                let probe_at = self.pace.pause().map_or_else(Instant::now, |pause| pause.probe_at);
                let probe_in_s = probe_at.duration_since(Instant::now()).as_secs_f64();
                warn!(%sink, reason, probe_in_s, "sink is away: its lane pauses, pushes wait safely");
                self.send(Event::Paused { sink: sink.clone(), reason: reason.to_owned() });
            }
            Turn::Resumed => {
                info!(%sink, "sink is back: its lane runs again");
                self.send(Event::Resumed { sink: sink.clone() });
            }
        }
    }
}

/// The pushes on which nothing was tried.
fn untried(positions: &[Position], outcomes: &[Outcome]) -> Vec<Position> {
    let all = positions.iter().zip(outcomes);
    all.filter(|(_, outcome)| **outcome == Outcome::Untried).map(|(&position, _)| position).collect()
}

/// The pushes that failed with one answer to all of them; none where the sink took others of the batch.
fn failed_as_one(positions: &[Position], outcomes: &[Outcome]) -> Vec<Position> {
    if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Delivered(_))) {
        return Vec::new();
    }
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Retry(_));
    let all = positions.iter().zip(outcomes);
    all.filter(|(_, outcome)| failed(outcome)).map(|(&position, _)| position).collect()
}

/// What the sink said about itself is about these pushes alone: they fail, by themselves.
fn refuse_alone(outcomes: &mut [Outcome], why: &Unavailable) {
    for outcome in outcomes.iter_mut().filter(|outcome| **outcome == Outcome::Untried) {
        let reason = format!("refused alone, while others pass: {}", why.reason);
        *outcome = Outcome::Retry(Failure::new(reason).retry_after(why.retry_after));
    }
}
