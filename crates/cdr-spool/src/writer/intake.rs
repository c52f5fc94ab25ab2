//! What a request puts into the frame that is being made.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Writer;
use crate::dedupe::{Dedupe, Prints, short_digest};
use crate::disk::Directory;
use crate::log::entry::{Entry, PushEntry, QuarantineEntry};
use crate::log::index::SegmentIndex;
use crate::log::outcomes::{Item, Items};
use crate::recovery::Recovered;
use crate::{
    AppendError, Appended, Health, Key, Memo, NewPush, NewQuarantine, Outcome, Position, Quarantined,
};

/// Bytes of a push on disk besides its body, facts and names: entry, position, time, digest, lengths.
const PUSH_OVERHEAD: u64 = 80;
/// Quarantine may fill a twentieth of the room.
const QUARANTINE_SHARE: u64 = 20;

type AppendReply = oneshot::Sender<Result<Appended, AppendError>>;
type QuarantineReply = oneshot::Sender<Result<Quarantined, AppendError>>;

/// Who waits for the frame that is being made.
pub(super) struct Batch<T> {
    /// The position before all of the batch.
    pub(super) first: Position,
    pub(super) pushes: Vec<Queued<T>>,
    pub(super) quarantined: Vec<QueuedQuarantine>,
}

/// A push in the frame.
pub(super) struct Queued<T> {
    pub(super) position: Position,
    pub(super) key: Key,
    pub(super) live: T,
    pub(super) uuid_reused: bool,
    pub(super) reply: AppendReply,
    /// The same push again while the first is in flight: it shares its fate.
    pub(super) repeats: Vec<AppendReply>,
}

pub(super) struct QueuedQuarantine {
    pub(super) position: Position,
    pub(super) sha256: [u8; 32],
    pub(super) replies: Vec<QuarantineReply>,
}

impl<T> Batch<T> {
    pub(super) fn starting_at(first: Position) -> Batch<T> {
        Batch { first, pushes: Vec::new(), quarantined: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pushes.is_empty() && self.quarantined.is_empty()
    }
}

/// What the spool knows of a push that comes in.
enum Known {
    New {
        uuid_reused: bool,
    },
    Stored(Position),
    /// In this batch, at this index.
    InFlight(usize),
}

/// How a suspect compares.
enum Compared {
    Same,
    SameUuid,
    Other,
}

fn compare_keys(key: &Key, other: &Key) -> Compared {
    compare(key, &other.action, other.uuid.as_deref(), &other.sha256)
}

fn compare(key: &Key, action: &str, uuid: Option<&str>, sha256: &[u8; 32]) -> Compared {
    match key.uuid.as_deref() == uuid {
        true if key.sha256 == *sha256 && key.action == action => Compared::Same,
        true if uuid.is_some() => Compared::SameUuid,
        _ => Compared::Other,
    }
}

impl<T> Writer<T> {
    pub(super) fn take_push(&mut self, push: NewPush<T>, reply: AppendReply) {
        let prints = Prints::of_key(&push.key);
        let uuid_reused = match self.known(&push.key, prints) {
            Known::New { uuid_reused } => uuid_reused,
            Known::Stored(position) => {
                self.shared.store.state_mut().counters.repeats += 1;
                reply.send(Ok(Appended::Repeat { position })).ok();
                return;
            }
            Known::InFlight(first) => {
                self.batch.pushes[first].repeats.push(reply);
                return;
            }
        };
        let names = push.key.action.len() + push.key.uuid.as_ref().map_or(0, String::len);
        let bytes = PUSH_OVERHEAD + (names + push.facts.len() + push.body.len()) as u64;
        if let Err(refused) = self.find_room(bytes) {
            reply.send(Err(refused)).ok();
            return;
        }
        let position = self.give_position();
        let entry = PushEntry {
            position,
            received_at_ms: push.received_at_ms,
            sha256: &push.key.sha256,
            action: &push.key.action,
            uuid: push.key.uuid.as_deref(),
            facts: &push.facts,
            body: &push.body,
        };
        self.frame.push(&entry, false);
        self.dedupe.insert(prints, position);
        let NewPush { key, live, .. } = push;
        self.batch.pushes.push(Queued { position, key, live, uuid_reused, reply, repeats: Vec::new() });
    }

    /// Whether a push is here already. What is remembered only suspects; the push itself is read before it is believed.
    fn known(&self, key: &Key, prints: Prints) -> Known {
        let mut uuid_reused = false;
        for layer in self.dedupe.layers() {
            for suspect in layer.suspects(prints, uuid_reused, |number| self.index(number)) {
                let in_flight = self.in_flight(suspect);
                let compared = match in_flight {
                    Some(at) => compare_keys(key, &self.batch.pushes[at].key),
                    None => self.compare_stored(key, suspect),
                };
                match compared {
                    Compared::Same => return in_flight.map_or(Known::Stored(suspect), Known::InFlight),
                    Compared::SameUuid => uuid_reused = true,
                    Compared::Other => {}
                }
            }
        }
        Known::New { uuid_reused }
    }

    /// The index of a push in the batch.
    fn in_flight(&self, position: Position) -> Option<usize> {
        self.batch.pushes.binary_search_by_key(&position, |queued| queued.position).ok()
    }

    /// What cannot be read suspects nothing: then the push is stored.
    fn index(&self, number: u64) -> Option<SegmentIndex> {
        self.shared.store.index(number).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot look for repeats in a segment; the push is stored as a new one");
            None
        })
    }

    /// A push that cannot be read cannot be confirmed: then the new one is stored.
    fn compare_stored(&self, key: &Key, suspect: Position) -> Compared {
        let oldest = self.oldest_repeat_ms();
        let compared = self.shared.store.with_entry(suspect, |entry| match entry {
            Entry::Push { push, .. } if push.received_at_ms >= oldest => {
                compare(key, push.action, push.uuid, push.sha256)
            }
            _ => Compared::Other,
        });
        match compared {
            Ok(compared) => compared.unwrap_or(Compared::Other),
            Err(error) => {
                tracing::warn!(position = %suspect, %error, "cannot compare a push with a stored one; it is stored as a new one");
                Compared::Other
            }
        }
    }

    /// A push that arrived before this is no repeat of one that comes now.
    pub(super) fn oldest_repeat_ms(&self) -> i64 {
        self.wall_ms().saturating_sub(millis(self.shared.store.settings.dedupe_window))
    }

    pub(super) fn take_quarantine(&mut self, found: NewQuarantine, reply: QuarantineReply) {
        if let Some(position) = self.in_quarantine(&found.sha256) {
            reply.send(Ok(Quarantined { position, is_new: false })).ok();
            return;
        }
        if let Some(queued) = self.batch.quarantined.iter_mut().find(|q| q.sha256 == found.sha256) {
            queued.replies.push(reply);
            return;
        }
        let bytes = PUSH_OVERHEAD + (found.reason.len() + found.facts.len() + found.body.len()) as u64;
        if let Err(refused) = self.quarantine_has_room(bytes).and_then(|()| self.find_room(bytes)) {
            reply.send(Err(refused)).ok();
            return;
        }
        let position = self.give_position();
        let entry = QuarantineEntry {
            position,
            received_at_ms: found.received_at_ms,
            sha256: &found.sha256,
            reason: &found.reason,
            facts: &found.facts,
            body: &found.body,
        };
        self.frame.quarantine(&entry, false);
        self.batch.quarantined.push(QueuedQuarantine {
            position,
            sha256: found.sha256,
            replies: vec![reply],
        });
    }

    /// Where equal bytes lie in quarantine; read and compared before it is believed.
    fn in_quarantine(&self, sha256: &[u8; 32]) -> Option<Position> {
        let position = *self.shared.store.state().quarantine_by_digest.get(&short_digest(sha256))?;
        let same = self.shared.store.with_entry(
            position,
            |entry| matches!(entry, Entry::Quarantine { quarantine, .. } if quarantine.sha256 == sha256),
        );
        matches!(same, Ok(Some(true))).then_some(position)
    }

    fn quarantine_has_room(&self, bytes: u64) -> Result<(), AppendError> {
        let held = self.shared.store.state().quarantine_bytes;
        let limit = self.shared.store.settings.max_size / QUARANTINE_SHARE;
        if held + bytes > limit { Err(AppendError::QuarantineFull { held, limit }) } else { Ok(()) }
    }

    fn give_position(&mut self) -> Position {
        let position = self.next;
        self.next = position.next();
        position
    }

    /// Takes outcomes into the state, and into the next frame what of them changed something.
    pub(super) fn take_outcomes(
        &mut self,
        lane: &str,
        outcomes: Vec<(Position, Outcome)>,
        done: oneshot::Sender<()>,
    ) {
        let now = self.wall_ms();
        let items = outcomes.into_iter().map(|(position, outcome)| (position, Item::new(outcome, now)));
        let mut state = self.shared.store.state_mut();
        let end = state.end;
        let written = self.unwritten.entry(lane.to_owned()).or_default();
        for (position, item) in items {
            if position >= end || !state.fold(lane, position, &item) {
                tracing::debug!(lane, %position, "an outcome changes nothing: the delivery is closed, or the lane is gone");
                continue;
            }
            state.counters.outcomes += 1;
            written.insert(position, item);
        }
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.close_seals();
        }
        drop(state);
        self.room_may_have_come = true;
        self.waiting.push(done);
    }

    /// Takes memos into the state, and into the next frame those that changed something: that of the outcomes which they
    /// come with.
    pub(super) fn take_memos(&mut self, lane: &str, memos: Vec<Memo>) {
        let mut state = self.shared.store.state_mut();
        for memo in memos {
            let key = memo.key.clone();
            if !state.note(lane, memo) {
                tracing::debug!(lane, "a memo changes nothing: the lane is gone, or has as many as it may");
                continue;
            }
            self.unwritten_memos.insert((lane.to_owned(), key));
        }
    }

    /// The same for one outcome that the spool itself decides.
    pub(super) fn fold(&mut self, lane: &str, position: Position, item: Item) {
        if self.shared.store.state_mut().fold(lane, position, &item) {
            self.unwritten.entry(lane.to_owned()).or_default().insert(position, item);
        }
    }

    /// Puts the outcomes that wait into the frame.
    pub(super) fn write_outcomes(&mut self) {
        let state = self.shared.store.state();
        for (name, items) in std::mem::take(&mut self.unwritten) {
            let Some(lane) = state.lanes.get(&name).filter(|_| !items.is_empty()) else { continue };
            self.frame.outcomes(lane.number, &name, &items);
            merge(&mut self.unsynced, name, items);
        }
        for (name, key) in std::mem::take(&mut self.unwritten_memos) {
            let Some(lane) = state.lanes.get(&name) else { continue };
            self.frame.memo(lane.number, &key, lane.state.memos.get(&key).map_or(&[], |bytes| bytes));
            self.unsynced_memos.insert((name, key));
        }
    }

    /// Refuses while the disk fails, or when the room is full of what is owed.
    fn find_room(&mut self, bytes: u64) -> Result<(), AppendError> {
        if self.tail.is_none() || !self.has_reserve() {
            return Err(AppendError::Failing { reason: self.failing_reason() });
        }
        if self.fits(bytes) {
            return Ok(());
        }
        // Letting segments go makes commits of its own, so the frame at hand goes first.
        self.commit();
        if self.tail.is_some() && self.make_room(bytes) {
            return Ok(());
        }
        match self.tail {
            Some(_) => Err(self.refuse_for_room()),
            // It failed while it made room.
            None => Err(AppendError::Failing { reason: self.failing_reason() }),
        }
    }

    pub(super) fn failing_reason(&self) -> String {
        match &self.shared.store.state().health {
            Health::Failing { reason, .. } => reason.clone(),
            _ => "the disk fails".to_owned(),
        }
    }
}

/// Later words replace earlier ones.
pub(super) fn merge(into: &mut std::collections::BTreeMap<String, Items>, lane: String, items: Items) {
    into.entry(lane).or_default().extend(items);
}

/// What is remembered of the segments that are young enough, from their indexes.
pub(super) fn remembered(
    recovered: &Recovered,
    directory: &dyn Directory,
    now_ms: i64,
    window: Duration,
) -> Dedupe {
    // A wall clock that is wrong must not forget everything: the newest entry counts if it is older.
    let now = recovered.newest_ms.map_or(now_ms, |newest| newest.min(now_ms));
    let oldest = now.saturating_sub(millis(window));
    let young: Vec<_> = recovered.indexes.iter().filter(|index| index.newest_ms >= oldest).collect();
    let prints = |index: &SegmentIndex| index.known().map(|(prints, _)| prints).collect();
    Dedupe::of(&young, |index| match recovered.scanned.contains(&index.stamp.segment) {
        true => Some(prints(index)),
        false => SegmentIndex::load(directory, index.stamp, index.end).map(|whole| prints(&whole)),
    })
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
