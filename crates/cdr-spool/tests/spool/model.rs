//! Anything may happen, in any order; a simple model says what must be true all the same.
//!
//! - What was answered is there until every lane has closed it.
//! - What was refused does not come back; what was neither (the power went) may, and then counts.
//! - No position is given twice.
//! - What is closed stays closed once somebody was told, what is dead waits, what is owed is offered to its lane again.
//! - A lane may be handed over to another one: together they owe what they owed, and what either closed stays closed. The same for what is set aside.
//! - What was noted on a lane is there with the outcomes that it came with, or neither is; it goes with its lane, and with nothing of a lane that was retired comes back.
//! - What was sealed stays sealed, the same positions under the same key, until all of them are closed.
//! - What the disk damages is said; only that is lost, and a lane that was owed it is told. A torn tail is cut instead.
//! - The catalog tells what the log tells, whatever became of either.
//! - The counters, the reader beside it and a second start agree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use cdr_spool::{
    AppendError, Appended, ControlError, Damage, DeadLetter, Health, LaneState, Logged, NewLane, Outcome,
    Position, Recovery, Seal, Spool, Start,
};
use proptest::prelude::*;

use crate::catalog::{assert_tells_what_the_log_tells, terms};
use crate::damage::{Wound, wound};
use crate::disk::Chance;
use crate::harness::*;
use crate::lanes::{DELIVERED, dead, lane};
use crate::notes::{Notes, Noting};
use crate::seals::seal_of;

const LANES: [&str; 2] = ["crm", "mail"];
/// What the spool says of a push that it lost, and of a reason.
const DAMAGED: &str = "damaged on disk";
const REASON_DAMAGED: &str = "the reason is damaged on disk";

#[derive(Clone, Debug)]
enum Action {
    /// New pushes, all at once.
    Append(u8),
    /// A push that came before, by its rank.
    Repeat(u8),
    /// An outcome for owed pushes of a lane: from the rank on, so many.
    Record {
        lane: usize,
        rank: u8,
        count: u8,
        kind: u8,
    },
    /// A seal over owed pushes of a lane: from the rank on, so many.
    Seal {
        lane: usize,
        rank: u8,
        count: u8,
    },
    /// The outcome of a whole seal, as lanes record it.
    CloseSeal {
        lane: usize,
        rank: u8,
        kind: u8,
    },
    /// The same, and nobody waits for it.
    RecordUnawaited {
        lane: usize,
        rank: u8,
        count: u8,
    },
    /// Notes, with an outcome for owed pushes: from the rank on, so many. Nobody may wait for it.
    Note {
        lane: usize,
        noting: Noting,
        rank: u8,
        count: u8,
        kind: u8,
        is_awaited: bool,
    },
    Reopen {
        lane: usize,
        rank: u8,
    },
    Discard {
        lane: usize,
        rank: u8,
    },
    /// A lane gets a new name that has a lane of its own by then, and has closed so many pushes.
    HandOver {
        lane: usize,
        closed: u8,
    },
    /// What a lane has not read goes to a temporary lane, but for so many positions.
    SetAside {
        lane: usize,
        skip: u8,
    },
    /// The same, and the power goes meanwhile: both lanes know of it, or neither.
    CrashSettingAside {
        lane: usize,
        skip: u8,
        changes: u8,
        seed: u64,
    },
    /// A lane is retired, and one of the same name registered: at once, or by the start after the power went meanwhile.
    Retire {
        lane: usize,
        power: Option<(u8, u64)>,
    },
    Quarantine(u8),
    /// The power goes while pushes and outcomes are being written.
    CrashDuring {
        changes: u8,
        seed: u64,
        pushes: u8,
    },
    Crash(u64),
    Kill,
    Restart,
    /// The disk damages something that was synced, while the gateway is stopped or after it was killed.
    Damage {
        seed: u64,
        pushes: u8,
        is_killed: bool,
        is_index_lost: bool,
    },
    /// The catalog takes in what there is.
    Catalog,
    /// Somebody deletes the catalog.
    DeleteCatalog,
    FailSyncs(u8),
    FailWrites(u8),
    /// The disk has so much room left.
    FullDisk(u16),
    Repair,
    /// Time passes: so many hours.
    Pass(u16),
    /// The wall clock jumps: so many hours.
    Jump(i16),
}

fn action() -> impl Strategy<Value = Action> {
    let lane = 0..LANES.len();
    prop_oneof![
        12 => (1u8..12).prop_map(Action::Append),
        3 => any::<u8>().prop_map(Action::Repeat),
        12 => (lane.clone(), 0u8..4, 1u8..40, 0u8..6).prop_map(|(lane, rank, count, kind)| Action::Record { lane, rank, count, kind }),
        3 => (lane.clone(), 0u8..4, 1u8..9).prop_map(|(lane, rank, count)| Action::RecordUnawaited { lane, rank, count }),
        5 => (lane.clone(), 0u8..6, 1u8..9).prop_map(|(lane, rank, count)| Action::Seal { lane, rank, count }),
        4 => (lane.clone(), any::<u8>(), 0u8..6).prop_map(|(lane, rank, kind)| Action::CloseSeal { lane, rank, kind }),
        6 => (lane.clone(), noting(), 0u8..4, 0u8..4, 0u8..6, any::<bool>()).prop_map(|(lane, noting, rank, count, kind, is_awaited)| Action::Note { lane, noting, rank, count, kind, is_awaited }),
        2 => (lane.clone(), any::<u8>()).prop_map(|(lane, rank)| Action::Reopen { lane, rank }),
        2 => (lane.clone(), any::<u8>()).prop_map(|(lane, rank)| Action::Discard { lane, rank }),
        2 => (lane.clone(), 0u8..6).prop_map(|(lane, closed)| Action::HandOver { lane, closed }),
        2 => (lane.clone(), 0u8..4).prop_map(|(lane, skip)| Action::SetAside { lane, skip }),
        1 => (lane.clone(), 0u8..4, 0u8..6, any::<u64>()).prop_map(|(lane, skip, changes, seed)| Action::CrashSettingAside { lane, skip, changes, seed }),
        1 => (lane, prop::option::of((0u8..6, any::<u64>()))).prop_map(|(lane, power)| Action::Retire { lane, power }),
        1 => (0u8..8).prop_map(Action::Quarantine),
        3 => (0u8..14, any::<u64>(), 1u8..6).prop_map(|(changes, seed, pushes)| Action::CrashDuring { changes, seed, pushes }),
        1 => any::<u64>().prop_map(Action::Crash),
        1 => Just(Action::Kill),
        1 => Just(Action::Restart),
        2 => (any::<u64>(), 0u8..8, any::<bool>(), any::<bool>()).prop_map(|(seed, pushes, is_killed, is_index_lost)| Action::Damage { seed, pushes, is_killed, is_index_lost }),
        2 => Just(Action::Catalog),
        1 => Just(Action::DeleteCatalog),
        1 => (1u8..4).prop_map(Action::FailSyncs),
        1 => (1u8..4).prop_map(Action::FailWrites),
        1 => (0u16..3000).prop_map(Action::FullDisk),
        3 => Just(Action::Repair),
        2 => (1u16..400).prop_map(Action::Pass),
        1 => (-2000i16..2000).prop_map(Action::Jump),
    ]
}

fn noting() -> impl Strategy<Value = Noting> {
    prop_oneof![
        4 => (0u8..20, 1u8..6).prop_map(|(first, many)| Noting::Write { first, many }),
        2 => (0u8..20, 1u8..6).prop_map(|(rank, many)| Noting::Forget { rank, many }),
        1 => Just(Noting::Fill),
        2 => (1u8..9).prop_map(|many| Noting::Replace { many }),
        1 => any::<(bool, bool)>().prop_map(|(is_key, is_too_large)| Noting::Large { is_key, is_too_large }),
    ]
}

/// What a lane must have done; what it may have done.
#[derive(Default)]
struct LaneModel {
    closed: BTreeSet<Position>,
    dead: BTreeSet<Position>,
    /// Recorded, and the power went before anyone was told: closed or not, nobody knows.
    unsure: BTreeSet<Position>,
    /// What damaged frames said of: a start may remember less of them.
    doubted: BTreeSet<Position>,
    doubted_seals: Vec<Seal>,
    /// Every seal that was ever asked for.
    asked_seals: Vec<Seal>,
    /// What was set aside of it, in which lanes.
    aside: Vec<(String, Range<Position>)>,
    /// What was sealed, and is not over for certain.
    seals: Vec<Seal>,
    /// There or not: perhaps over; or refused while the disk failed, and the power may go next.
    unsure_seals: Vec<Seal>,
    /// The spool's lanes that it consists of, each up to a position; the last is the one that goes on.
    parts: Vec<(String, Position)>,
    /// How often it got a new name.
    renames: u32,
    /// Of each of them.
    notes: BTreeMap<String, Notes>,
}

impl LaneModel {
    fn of(name: &str) -> LaneModel {
        LaneModel { parts: vec![(name.to_owned(), Position(u64::MAX))], ..LaneModel::default() }
    }

    fn name(&self) -> &str {
        &self.parts.last().unwrap().0
    }

    /// The spool's lane that answers for a push.
    fn part_of(&self, position: &Position) -> &str {
        let aside = self.aside.iter().find(|(_, part)| part.contains(position)).map(|(name, _)| name);
        aside.unwrap_or_else(|| &self.parts.iter().find(|(_, until)| position < until).unwrap().0)
    }

    fn part_names(&self) -> impl Iterator<Item = &String> {
        self.parts.iter().map(|(name, _)| name).chain(self.aside.iter().map(|(name, _)| name))
    }

    /// Forgets what only damaged frames say, and what is no push any more.
    fn doubt(&mut self, is_push: impl Fn(&Position) -> bool) {
        let LaneModel { closed, dead, unsure, doubted, doubted_seals, .. } = self;
        for known in [&mut *closed, &mut *dead] {
            known.retain(|position| is_push(position) && !doubted.contains(position));
        }
        unsure.extend(&*doubted);
        unsure.retain(is_push);
        self.seals.retain(|seal| !doubted_seals.contains(seal));
        self.unsure_seals.extend(self.asked_seals.iter().cloned());
    }

    /// Takes in outcomes of a kind. Whoever was not told of them cannot know.
    fn close(&mut self, positions: Vec<Position>, kind: u8, was_told: bool) {
        match (was_told, kind) {
            (_, RETRY..) => {}
            (true, DEAD) => self.dead.extend(positions),
            (true, _) => self.closed.extend(positions),
            (false, _) => self.unsure.extend(positions),
        }
    }

    fn may_be_closed(&self, position: &Position) -> bool {
        self.closed.contains(position) || self.dead.contains(position) || self.unsure.contains(position)
    }
}

struct Model {
    world: World,
    /// Where the catalog lies.
    folder: tempfile::TempDir,
    spool: Spool<u64>,
    next_number: u64,
    /// Answered, or found after a crash.
    stored: BTreeMap<Position, u64>,
    /// Refused while the disk failed: gone for certain once the spool writes again, but not if the power goes before.
    refused_just_now: BTreeSet<u64>,
    /// The same for pushes that were stored before and were no repeat any more.
    refused_again: BTreeSet<u64>,
    /// Neither answered nor refused.
    maybe: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    lanes: [LaneModel; 2],
    quarantined: BTreeMap<Position, u64>,
    /// Stored, and damaged since. What was carried may be read all the same.
    lost: BTreeMap<Position, u64>,
    /// Where damage was done: the file, and where in it.
    wounds: BTreeMap<String, u64>,
    /// Segments that went by frames which are damaged.
    dropped: BTreeSet<String>,
    /// The positions of damaged frames: there may be burnt ones and quarantine among them, and nobody can tell.
    damaged: Vec<Range<Position>>,
    /// Above every position ever seen.
    highest: Position,
    /// How much was noted.
    texts: u64,
}

impl Model {
    fn new() -> Model {
        let world = World::new();
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = world.open(&LANES);
        spool.keep_catalog_at(folder.path().join("catalog.sqlite"), terms).unwrap();
        Model {
            world,
            folder,
            spool,
            next_number: 0,
            stored: BTreeMap::new(),
            refused_just_now: BTreeSet::new(),
            refused_again: BTreeSet::new(),
            maybe: BTreeSet::new(),
            refused: BTreeSet::new(),
            lanes: LANES.map(LaneModel::of),
            quarantined: BTreeMap::new(),
            lost: BTreeMap::new(),
            wounds: BTreeMap::new(),
            dropped: BTreeSet::new(),
            damaged: Vec::new(),
            highest: Position(0),
            texts: 0,
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Append(count) => self.append(count.into()),
            Action::Repeat(rank) => self.repeat(rank),
            Action::Record { lane, rank, count, kind } => self.record(lane, rank, count, kind),
            Action::RecordUnawaited { lane, rank, count } => {
                let owed = self.owed(lane, rank, count);
                for position in &owed {
                    let part = self.lanes[lane].part_of(position);
                    drop(self.spool.record(part, vec![(*position, DELIVERED)]));
                }
                // In the same process it happened; whether a crash forgets it is open.
                self.lanes[lane].unsure.extend(owed);
            }
            Action::Seal { lane, rank, count } => self.seal(lane, rank, count),
            Action::CloseSeal { lane, rank, kind } => {
                let seals = &self.lanes[lane].seals;
                if let Some(seal) = seals.get(usize::from(rank) % seals.len().max(1)).cloned() {
                    let is_owed = |p: &Position| !self.lanes[lane].may_be_closed(p);
                    self.record_of(lane, seal.positions.into_iter().filter(is_owed).collect(), kind);
                }
            }
            Action::Note { lane, noting, rank, count, kind, is_awaited } => {
                let owed = self.owed(lane, rank, count);
                self.note(lane, noting, owed, kind, is_awaited);
            }
            Action::Reopen { lane, rank } => self.decide(lane, rank, true),
            Action::Discard { lane, rank } => self.decide(lane, rank, false),
            Action::HandOver { lane, closed } => self.hand_over(lane, closed),
            Action::SetAside { lane, skip } => self.set_aside(lane, skip),
            Action::CrashSettingAside { lane, skip, changes, seed } => {
                self.crash_setting_aside(lane, skip, changes, seed);
            }
            Action::Retire { lane, power } => self.retire(lane, power),
            Action::Quarantine(n) => self.quarantine(1_000_000 + u64::from(n)),
            Action::CrashDuring { changes, seed, pushes } => {
                self.world.disk.cut_power_after(changes.into());
                self.append(pushes.into());
                self.record(0, 0, 3, 0);
                self.seal(1, 0, pushes);
                for kind in [0, 4] {
                    let owed = self.owed(1, kind, pushes);
                    self.note(1, Noting::Replace { many: pushes }, owed, kind, seed % 2 == 0);
                }
                self.append(pushes.into());
                self.crash(seed);
            }
            Action::Crash(seed) => self.crash(seed),
            Action::Kill => {
                self.world.disk.kill();
                self.reopen();
            }
            Action::Restart => {
                wait(self.spool.close());
                self.reopen();
            }
            Action::Damage { seed, pushes, is_killed, is_index_lost } => {
                self.damage(&mut Chance::new(seed), pushes, is_killed, is_index_lost);
            }
            Action::Catalog => {
                wait(self.spool.catalog_caught_up());
                self.check_catalog();
            }
            Action::DeleteCatalog => {
                self.check_catalog();
                std::fs::remove_file(self.catalog_file()).ok();
            }
            Action::FailSyncs(n) => self.world.disk.fail_syncs(n.into()),
            Action::FailWrites(n) => self.world.disk.fail_writes(n.into()),
            Action::FullDisk(left) => {
                self.world.disk.set_capacity(Some(self.world.disk.used() + u64::from(left)))
            }
            Action::Repair => self.repair(),
            Action::Pass(hours) => {
                self.world.clock.pass(Duration::from_secs(u64::from(hours) * 3600));
                poke(&self.spool);
            }
            Action::Jump(hours) => {
                self.world.clock.jump(i64::from(hours) * 3_600_000);
                poke(&self.spool);
            }
        }
    }

    fn catalog_file(&self) -> std::path::PathBuf {
        self.folder.path().join("catalog.sqlite")
    }

    /// Whatever the catalog knows by now.
    fn check_catalog(&self) {
        assert_tells_what_the_log_tells(&self.world, &self.catalog_file());
    }

    fn append(&mut self, count: u64) {
        let numbers: Vec<u64> = (self.next_number..self.next_number + count).collect();
        self.next_number += count;
        let now = cdr_spool::clock::Clock::wall_ms(&*self.world.clock);
        let spool = self.spool.clone();
        let answers = wait(async {
            let tasks: Vec<_> = numbers.iter().map(|n| spool.append(push_at(*n, now))).collect();
            let mut answers = Vec::new();
            // One poll each queues them all before the first is waited for.
            let mut tasks: Vec<_> = tasks.into_iter().map(Box::pin).collect();
            for task in &mut tasks {
                let early = std::future::poll_fn(|cx| std::task::Poll::Ready(task.as_mut().poll(cx))).await;
                answers.push(match early {
                    std::task::Poll::Ready(answer) => answer,
                    std::task::Poll::Pending => task.await,
                });
            }
            answers
        });
        for (n, answer) in numbers.into_iter().zip(answers) {
            self.note_answer(n, answer);
        }
    }

    fn note_answer(&mut self, n: u64, answer: Result<Appended, AppendError>) {
        match answer {
            Ok(Appended::Stored { position, .. }) => {
                assert!(position > self.highest, "{position} is given again, {} was seen", self.highest);
                self.highest = position;
                self.stored.insert(position, n);
            }
            Ok(Appended::Repeat { position }) => panic!("push {n} is new and was taken for {position}"),
            Err(AppendError::Full { .. } | AppendError::Busy { .. }) => drop(self.refused.insert(n)),
            Err(AppendError::Failing { .. }) => drop(self.refused_just_now.insert(n)),
            Err(error) => panic!("{error}"),
        }
    }

    fn repeat(&mut self, rank: u8) {
        let Some((position, n)) = nth(&self.stored, rank) else { return };
        let owed = self.is_owed(position);
        let now = cdr_spool::clock::Clock::wall_ms(&*self.world.clock);
        match wait(self.spool.append(push_at(n, now))) {
            Ok(Appended::Repeat { position: same }) => {
                // It may have been stored a second time after it left the window or the disk.
                assert_eq!(self.stored.get(&same).or(self.lost.get(&same)), Some(&n));
            }
            // Gone, or out of the window: then it is a new push.
            Ok(Appended::Stored { position: again, .. }) => {
                let young = self
                    .read_at(position)
                    .is_some_and(|received| now - received <= 48 * 3_600_000 && received <= now);
                assert!(!(owed && young), "push {n} at {position} was not recognised");
                assert!(again > self.highest);
                self.highest = again;
                self.stored.insert(again, n);
            }
            Err(AppendError::Failing { .. }) => drop(self.refused_again.insert(n)),
            Err(AppendError::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn read_at(&self, position: Position) -> Option<i64> {
        self.spool.get(position).unwrap().map(|push| push.received_at_ms)
    }

    /// Pushes that the lane has to close, in order.
    fn owed(&self, lane: usize, rank: u8, count: u8) -> Vec<Position> {
        let lane = &self.lanes[lane];
        let pushes: BTreeSet<&Position> = self.stored.keys().chain(self.lost.keys()).collect();
        let owed = pushes
            .into_iter()
            .filter(|p| !lane.closed.contains(p) && !lane.dead.contains(p) && !lane.unsure.contains(p));
        owed.copied().skip(rank.into()).take(count.into()).collect()
    }

    fn note_seals_that_may_be_over(&mut self) {
        for model in &mut self.lanes {
            let (over, open): (Vec<Seal>, Vec<Seal>) = std::mem::take(&mut model.seals)
                .into_iter()
                .partition(|seal| seal.positions.iter().all(|p| model.may_be_closed(p)));
            model.seals = open;
            model.unsure_seals.extend(over);
        }
    }

    fn seal(&mut self, at: usize, rank: u8, count: u8) {
        let mut positions = self.owed(at, rank, count);
        let Some(part) = positions.first().map(|first| self.lanes[at].part_of(first).to_owned()) else {
            return;
        };
        positions.retain(|p| self.lanes[at].part_of(p) == part);
        let seal = seal_of(positions.iter().map(|p| p.0));
        self.lanes[at].asked_seals.push(seal.clone());
        match wait(self.spool.seal(&part, seal.clone())) {
            Ok(()) => {
                let shares = |other: &Seal| other.positions.iter().any(|p| positions.contains(p));
                self.lanes[at].seals.retain(|other| !shares(other));
                self.lanes[at].seals.push(seal);
            }
            Err(ControlError::Failing { .. }) => self.lanes[at].unsure_seals.push(seal),
            // Given up by the spool itself, a moment ago.
            Err(ControlError::NotOpen { positions, .. })
                if positions.iter().all(|p| self.lost.contains_key(p)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn record(&mut self, lane: usize, rank: u8, count: u8, kind: u8) {
        let owed = self.owed(lane, rank, count);
        self.record_of(lane, owed, kind);
    }

    fn record_of(&mut self, lane: usize, owed: Vec<Position>, kind: u8) {
        let mut of_parts: BTreeMap<&str, Vec<(Position, Outcome)>> = BTreeMap::new();
        for position in &owed {
            let part = self.lanes[lane].part_of(position);
            of_parts.entry(part).or_default().push((*position, outcome_of(kind, position)));
        }
        let mut recorded = Vec::new();
        for (part, outcomes) in of_parts {
            let positions: Vec<Position> = outcomes.iter().map(|(position, _)| *position).collect();
            recorded.push((positions, self.spool.record(part, outcomes)));
        }
        let durable = self.sync();
        for (positions, answer) in recorded {
            // Whoever is told forgets the delivery, so it stays closed though the power goes before the disk works again.
            let was_told = is_ready(answer);
            assert!(was_told || !durable, "{positions:?} are durable and nobody was told");
            self.lanes[lane].close(positions, kind, was_told);
        }
    }

    /// A decision of its own syncs what waits before it; a failing disk refuses it, and the outcomes wait on. True if all of
    /// them are durable.
    fn sync(&self) -> bool {
        match wait(self.spool.discard_quarantine(&[Position(u64::MAX)])) {
            Ok(_) => self.spool.health() == Health::Ok,
            Err(ControlError::Failing { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn note(&mut self, at: usize, noting: Noting, mut owed: Vec<Position>, kind: u8, is_awaited: bool) {
        let model = &mut self.lanes[at];
        let part = owed.first().map_or_else(|| model.name(), |first| model.part_of(first)).to_owned();
        owed.retain(|p| model.part_of(p) == part);
        let outcomes = owed.iter().map(|p| (*p, outcome_of(kind, p))).collect();
        let closed = if kind < RETRY { owed.clone() } else { Vec::new() };
        let mut text = || {
            self.texts += 1;
            format!("text {}", self.texts)
        };
        let memos = model.notes.entry(part.clone()).or_default().add(noting, closed, &mut text);
        let answer = self.spool.record_with_memos(&part, outcomes, memos);
        let was_told = is_awaited && {
            let durable = self.sync();
            let was_told = is_ready(answer);
            assert!(was_told || !durable, "notes of {part} are durable and nobody was told");
            was_told
        };
        let model = &mut self.lanes[at];
        model.close(owed, kind, was_told);
        if was_told {
            model.notes.entry(part).or_default().settle();
        }
    }

    fn decide(&mut self, at: usize, rank: u8, wake: bool) {
        let model = &mut self.lanes[at];
        let Some(position) = model.dead.iter().nth(usize::from(rank) % model.dead.len().max(1)).copied()
        else {
            return;
        };
        let part = model.part_of(&position).to_owned();
        let decided = match wake {
            true => wait(self.spool.reopen(&part, &[position])),
            false => wait(self.spool.discard(&part, &[position])),
        };
        match decided {
            Ok(changed) => {
                assert_eq!(changed, [position]);
                model.dead.remove(&position);
                if !wake {
                    model.closed.insert(position);
                }
            }
            Err(_) => {
                // It did not happen, but for a crash that comes before the next segment.
                model.dead.remove(&position);
                model.unsure.insert(position);
            }
        }
    }

    /// On a disk that works: a decision that fails is tested elsewhere.
    fn hand_over(&mut self, at: usize, closed: u8) {
        self.repair();
        let old = self.lanes[at].name().to_owned();
        let began = self.spool.lanes().into_iter().find(|(name, _)| *name == old).unwrap().1.began;
        if self.spool.end() <= began {
            // Refused: tested elsewhere.
            return;
        }
        self.lanes[at].renames += 1;
        let new = format!("{}-{}", LANES[at], self.lanes[at].renames);
        let lane = NewLane { name: new.clone(), start: Start::Now };
        assert_eq!(wait(self.spool.register_lanes(&[lane])).unwrap(), [new.as_str()]);
        let began = self.spool.end();
        self.append(closed.into());
        let fresh: Vec<Position> = self.stored.range(began..).map(|(position, _)| *position).collect();
        wait(async {
            let recorded = self.spool.record(&new, fresh.iter().map(|p| (*p, DELIVERED)).collect());
            self.spool.configured([closed; 32]).await.unwrap();
            recorded.await;
        });
        self.lanes[at].closed.extend(fresh);
        wait(self.spool.hand_over_lane(&old, &new, Position(0), Bytes::new())).unwrap();
        let errand = |(name, state): (String, LaneState)| {
            let number: u64 = name.split_once('~')?.1.parse().unwrap();
            let errand = state.errand.filter(|errand| errand.sink == new)?;
            Some((errand.until, number, name))
        };
        let mut errands: Vec<_> = self.spool.lanes().into_iter().filter_map(errand).collect();
        let mut notes = BTreeMap::new();
        for (name, part) in &mut self.lanes[at].aside {
            let before = std::mem::replace(name, format!("{new}~{}", name.split_once('~').unwrap().1));
            notes.extend(self.lanes[at].notes.remove(&before).map(|noted| (name.clone(), noted)));
            assert!(errands.iter().any(|(until, _, errand)| errand == name && *until == part.end));
        }
        let is_aside = |errand: &str| self.lanes[at].aside.iter().any(|(name, _)| name == errand);
        errands.retain(|(_, _, errand)| !is_aside(errand));
        errands.sort();
        assert_eq!(errands.len(), self.lanes[at].parts.len(), "{errands:?}");
        let model = &mut self.lanes[at];
        for ((before, _), (_, _, after)) in model.parts.iter().zip(&errands) {
            notes.extend(model.notes.remove(before).map(|noted| (after.clone(), noted)));
        }
        model.notes = notes;
        model.parts = errands.into_iter().map(|(until, _, name)| (name, until)).collect();
        model.parts.push((new, Position(u64::MAX)));
    }

    /// On a disk that works, as above.
    fn set_aside(&mut self, at: usize, skip: u8) {
        self.repair();
        let (name, from, end) = self.unread(at, skip);
        let goes_on = wait(self.spool.set_aside(&name, from, Bytes::new())).unwrap();
        assert_eq!(goes_on, (from < end).then_some(end));
        assert_eq!(self.learn_aside(at, from..end), goes_on.is_some());
    }

    fn crash_setting_aside(&mut self, at: usize, skip: u8, changes: u8, seed: u64) {
        self.repair();
        let (name, from, end) = self.unread(at, skip);
        self.world.disk.cut_power_after(changes.into());
        let goes_on = wait(self.spool.set_aside(&name, from, Bytes::new()));
        self.world.disk.crash(&mut Chance::new(seed));
        self.start();
        let is_there = self.learn_aside(at, from..end);
        if let Ok(goes_on) = goes_on {
            assert_eq!(is_there, goes_on.is_some(), "{name}: what was set aside is not there");
        }
        self.learn();
    }

    /// What a lane has not read, but for so many positions.
    fn unread(&self, at: usize, skip: u8) -> (String, Position, Position) {
        let name = self.lanes[at].name().to_owned();
        let from = Position(lane(&self.spool, &name).next.0 + u64::from(skip));
        (name, from, self.spool.end())
    }

    /// Whether there is a lane that nobody knew; it must be for what was set aside.
    fn learn_aside(&mut self, at: usize, part: Range<Position>) -> bool {
        let known: BTreeSet<&String> = self.lanes.iter().flat_map(LaneModel::part_names).collect();
        let is_new = |(name, _): &(String, LaneState)| !known.contains(name);
        let mut new = self.spool.lanes().into_iter().filter(is_new);
        let (aside, others) = (new.next(), new.next());
        assert!(others.is_none(), "{others:?}");
        let Some((name, state)) = aside else { return false };
        assert_eq!((state.began, state.ends()), (part.start, part.end));
        self.lanes[at].aside.push((name, part));
        true
    }

    /// On a disk that works, until the power goes.
    fn retire(&mut self, at: usize, power: Option<(u8, u64)>) {
        self.repair();
        let name = self.lanes[at].name().to_owned();
        let retired = match power {
            None => {
                wait(self.spool.retire_lane(&name)).unwrap();
                let lane = NewLane { name: name.clone(), start: Start::Beginning };
                wait(self.spool.register_lanes(&[lane])).unwrap()
            }
            Some((changes, seed)) => {
                self.world.disk.cut_power_after(changes.into());
                let answer = wait(self.spool.retire_lane(&name));
                self.world.disk.crash(&mut Chance::new(seed));
                let retired = self.start().registered;
                assert!(answer.is_err() || !retired.is_empty(), "{name} was retired");
                retired
            }
        };
        if retired.is_empty() {
            return self.learn();
        }
        assert_eq!(retired, [name.as_str()]);
        let renames = self.lanes[at].renames;
        self.lanes[at] = LaneModel { renames, ..LaneModel::of(&name) };
        // What both lanes had closed may have gone meanwhile, and nobody is owed it.
        let (all, lost) = self.read_what_is_there();
        let there: BTreeSet<Position> = all.into_iter().map(|(position, _)| position).chain(lost).collect();
        let other = &self.lanes[1 - at];
        let is_there = |p: &Position| there.contains(p) || !other.may_be_closed(p);
        self.stored.retain(|position, _| is_there(position));
        self.lost.retain(|position, _| is_there(position));
        if power.is_some() {
            self.learn();
        }
    }

    fn quarantine(&mut self, n: u64) {
        match wait(self.spool.quarantine(found(n))) {
            Ok(quarantined) => {
                let known = self.quarantined.values().any(|m| *m == n);
                assert!(!known || !quarantined.is_new, "{n} is kept twice");
                self.highest = self.highest.max(quarantined.position);
                self.quarantined.insert(quarantined.position, n);
            }
            Err(
                AppendError::QuarantineFull { .. } | AppendError::Full { .. } | AppendError::Failing { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn repair(&mut self) {
        self.world.disk.fail_syncs(0);
        self.world.disk.fail_writes(0);
        self.world.disk.set_capacity(None);
        for _ in 0..2 {
            self.world.clock.pass(Duration::from_secs(40));
            poke(&self.spool);
        }
        assert!(!matches!(self.spool.health(), Health::Failing { .. }), "{:?}", self.spool.health());
        self.refused.append(&mut self.refused_just_now);
        self.refused_again.clear();
        self.lanes.iter_mut().flat_map(|model| model.notes.values_mut()).for_each(Notes::settle);
        self.learn_unsure();
    }

    fn crash(&mut self, seed: u64) {
        self.world.disk.crash(&mut Chance::new(seed));
        self.reopen();
    }

    fn reopen(&mut self) -> Recovery {
        let recovery = self.start();
        assert!(recovery.registered.is_empty(), "a lane was forgotten");
        self.learn();
        recovery
    }

    fn start(&mut self) -> Recovery {
        self.world.disk.fail_syncs(0);
        self.world.disk.fail_writes(0);
        self.world.disk.set_capacity(None);
        self.maybe.append(&mut self.refused_just_now);
        let (spool, recovery) = self.world.open(&self.lanes.each_ref().map(LaneModel::name));
        self.spool = spool;
        self.spool.keep_catalog_at(self.catalog_file(), terms).unwrap();
        for damage in &recovery.damage {
            let is_known = self.wounds.get(&damage.file) == Some(&damage.offset);
            assert!(is_known || self.dropped.contains(&damage.file), "no damage was done: {damage:?}");
        }
        recovery
    }

    /// What nobody could know before a start.
    fn learn(&mut self) {
        // What comes back counts from now on; what does not is gone.
        for (position, n) in self.read_all() {
            let is_known = self.stored.contains_key(&position) || self.lost.contains_key(&position);
            if self.maybe.remove(&n) || (!is_known && self.refused_again.remove(&n)) {
                assert!(!is_known);
                self.stored.insert(position, n);
                self.highest = self.highest.max(position);
            }
        }
        self.refused.append(&mut self.maybe);
        self.refused_again.clear();
        self.learn_notes();
        self.learn_unsure();
        self.learn_mourned();
    }

    /// The newest segment gets more than its beginning, the gateway stops, the disk damages what it has, and a start says so.
    fn damage(&mut self, chance: &mut Chance, pushes: u8, is_killed: bool, is_index_lost: bool) {
        self.repair();
        // Files that a failure left over are no part of the log, and go with a start.
        wait(self.spool.close());
        self.reopen();
        for lane in 0..LANES.len() {
            self.append(pushes.into());
            self.record(lane, 0, 3, pushes % 6);
            let owed = self.owed(lane, 0, 2);
            self.note(lane, Noting::Write { first: pushes, many: 2 }, owed, pushes % 6, true);
            self.seal(lane, 0, pushes);
            self.quarantine(1_000_000 + u64::from(pushes));
        }
        self.append(1);
        match is_killed {
            true => self.world.disk.kill(),
            false => wait(self.spool.close()),
        }
        let Some(wound) = wound(&self.world.disk, chance, |file| self.wounds.get(file).copied()) else {
            self.reopen();
            return;
        };
        if is_index_lost {
            self.world.disk.lose(&wound.file.replace(".log", ".index"));
        }
        // The catalog remembers more than the log does now.
        std::fs::remove_file(self.catalog_file()).ok();
        self.note_wound(&wound);
        let recovery = self.reopen();
        let is_said = |damage: &Damage| {
            (&damage.file, damage.offset) == (&wound.file, wound.offset) && wound.is_told_by(damage)
        };
        match wound.looks_torn {
            true => assert!(recovery.torn_bytes > 0, "{wound:?} {recovery:?}"),
            false => assert_eq!(recovery.torn_bytes, 0, "{wound:?}"),
        }
        if !wound.looks_torn && (wound.is_newest || is_index_lost || wound.offset == 0) {
            assert!(recovery.damage.iter().any(is_said), "{wound:?} is not said: {:?}", recovery.damage);
            self.nobody_waits_for_what_is_lost(&wound);
        }
    }

    /// A start that found the damage has closed what was open of it.
    fn nobody_waits_for_what_is_lost(&self, wound: &Wound) {
        let states: Vec<_> = self.lanes.iter().flat_map(|model| states(&self.spool, model)).collect();
        for position in wound.positions().filter(|p| !matches!(self.spool.get(*p), Ok(Some(_)))) {
            for (name, state) in &states {
                assert!(!state.open.contains_key(&position), "{name} waits for {position}, which is lost");
            }
        }
    }

    /// What is not certain any more, and what is gone.
    fn note_wound(&mut self, wound: &Wound) {
        if !wound.looks_torn {
            self.wounds.insert(wound.file.clone(), wound.offset);
            self.damaged.push(wound.between.clone());
        }
        if !wound.dropped.is_empty() {
            self.dropped.extend(wound.dropped.iter().cloned());
            self.damaged.push(Position(0)..wound.between.start);
        }
        let of = |name: &str| LANES.iter().position(|lane| name.starts_with(lane)).unwrap();
        for logged in &wound.taken {
            match logged {
                Logged::Push { push, carried } => {
                    let n = self.stored.remove(&push.position);
                    // What a torn write takes is as if it had never been.
                    if let Some(n) = n.filter(|_| *carried || !wound.looks_torn) {
                        self.lost.insert(push.position, n);
                    }
                }
                Logged::Quarantine { quarantine, .. } => drop(self.quarantined.remove(&quarantine.position)),
                Logged::Outcome { lane, position, .. } | Logged::Reopened { lane, position } => {
                    self.lanes[of(lane)].doubted.insert(*position);
                }
                Logged::Sealed { lane, seal } => self.lanes[of(lane)].doubted_seals.push(seal.clone()),
                _ => {}
            }
        }
        for notes in self.lanes.iter_mut().flat_map(|model| model.notes.values_mut()) {
            notes.doubt(&wound.noted);
        }
        for lane in &mut self.lanes {
            lane.doubt(|position| self.stored.contains_key(position) || self.lost.contains_key(position));
        }
    }

    /// Whether a position may be said to be lost.
    fn may_be_lost(&self, position: Position) -> bool {
        self.lost.contains_key(&position) || self.damaged.iter().any(|range| range.contains(&position))
    }

    /// The spool itself closes what is lost and was open, when it finds that out.
    fn learn_mourned(&mut self) {
        for model in &mut self.lanes {
            for letter in letters(&self.spool, model) {
                let is_owed = !model.may_be_closed(&letter.position);
                if is_owed && letter.reason == DAMAGED && self.lost.contains_key(&letter.position) {
                    model.dead.insert(letter.position);
                }
            }
        }
    }

    fn learn_notes(&mut self) {
        for model in &mut self.lanes {
            for (name, state) in states(&self.spool, model) {
                let is_lost = |p: &Position| self.lost.contains_key(p);
                model.notes.entry(name.clone()).or_default().learn(&name, &state, is_lost);
            }
        }
    }

    /// What nobody could know is what the spool says; from here on it must stay so.
    fn learn_unsure(&mut self) {
        for model in &mut self.lanes {
            let states = states(&self.spool, model);
            let came_true = |seal: &Seal| states.values().any(|state| state.seals.contains(seal));
            for seal in std::mem::take(&mut model.unsure_seals).into_iter().filter(came_true) {
                let shares = |other: &Seal| other.positions.iter().any(|p| seal.positions.contains(p));
                model.seals.retain(|other| !shares(other));
                model.seals.push(seal);
            }
            let dead: BTreeSet<Position> = letters(&self.spool, model).iter().map(|l| l.position).collect();
            for position in std::mem::take(&mut model.unsure) {
                if dead.contains(&position) {
                    model.dead.insert(position);
                } else if is_closed(&states[model.part_of(&position)], position) {
                    model.closed.insert(position);
                }
            }
        }
    }

    fn read_all(&self) -> Vec<(Position, u64)> {
        self.read_what_is_there().0
    }

    /// All pushes, and the positions that are said to be lost.
    fn read_what_is_there(&self) -> (Vec<(Position, u64)>, BTreeSet<Position>) {
        let (mut all, mut lost) = (Vec::new(), BTreeSet::new());
        let mut from = Position(0);
        loop {
            let read = self.spool.read(from, 50, 4000).unwrap();
            for position in read.lost {
                assert!(self.may_be_lost(position), "{position} is said to be lost");
                lost.insert(position);
            }
            assert!(read.next >= from && read.next <= self.spool.end());
            for push in read.pushes {
                assert!(push.position >= from && push.position < read.next);
                let n: u64 = std::str::from_utf8(&push.facts).unwrap()[6..].parse().unwrap();
                assert_eq!((&push.body, &push.key), (&body(n), &key(n)));
                all.push((push.position, n));
            }
            if read.next >= self.spool.end() {
                return (all, lost);
            }
            from = read.next;
        }
    }

    fn is_owed(&self, position: Position) -> bool {
        self.lanes.iter().any(|lane| !lane.closed.contains(&position) && !lane.unsure.contains(&position))
    }

    /// Whether some lane will come upon it by reading on. One that has it open asks for it, and is told that it is not there.
    fn is_unread(&self, position: &Position) -> bool {
        self.lanes.iter().any(|model| *position >= states(&self.spool, model)[model.part_of(position)].next)
    }

    fn check(&mut self) {
        self.learn_mourned();
        let (all, lost) = self.read_what_is_there();
        let all: BTreeMap<Position, u64> = all.into_iter().collect();
        for (position, n) in &all {
            assert!(!self.refused.contains(n), "push {n} was refused and is at {position}");
            match self.stored.get(position).or(self.lost.get(position)) {
                Some(stored) => assert_eq!(stored, n),
                None => panic!("push {n} at {position} was never answered"),
            }
        }
        for (position, n) in self.stored.iter().filter(|(p, _)| self.is_owed(**p)) {
            assert_eq!(all.get(position), Some(n), "push {n} is owed and gone");
        }
        for position in self.lost.keys() {
            let is_told = lost.contains(position) || all.contains_key(position) || !self.is_unread(position);
            assert!(is_told, "{position} is damaged, and whoever reads it is not told");
        }
        for model in &self.lanes {
            self.check_lane(model, &all);
        }
        for (position, n) in &self.quarantined {
            let held = self.spool.quarantined(Position(position.0 - 1), 1).unwrap();
            let is_there = held.iter().any(|q| q.position == *position && q.body == body(*n));
            assert!(is_there, "quarantine {n} is gone");
        }
        assert!(self.spool.end() > self.highest);
    }

    fn check_lane(&self, model: &LaneModel, all: &BTreeMap<Position, u64>) {
        let name = model.name();
        let states = states(&self.spool, model);
        let state_of = |position: &Position| &states[model.part_of(position)];
        let letters = letters(&self.spool, model);
        for (name, state) in &states {
            match model.notes.get(name) {
                Some(notes) => notes.check(name, &state.memos),
                None => assert!(state.memos.is_empty(), "{name}: nothing was noted"),
            }
        }
        for letter in &letters {
            let position = &letter.position;
            let is_known = match letter.reason.as_str() {
                DAMAGED => self.may_be_lost(*position),
                REASON_DAMAGED => model.doubted.contains(position),
                reason => reason == format!("reason {position}"),
            };
            assert!(is_known, "{letter:?}");
            let may_be_dead = model.dead.contains(position) || model.unsure.contains(position);
            assert!(may_be_dead || self.may_be_lost(*position), "{name}: {letter:?}");
        }
        for position in model.dead.iter() {
            assert!(
                letters.iter().any(|l| l.position == *position),
                "{name}: the dead letter {position} is gone"
            );
        }
        for position in model.closed.iter() {
            assert!(is_closed(state_of(position), *position), "{name}: {position} was closed");
        }
        for position in all
            .keys()
            .chain(self.lost.keys())
            .filter(|p| !model.closed.contains(p) && !model.dead.contains(p) && !model.unsure.contains(p))
        {
            assert!(!is_closed(state_of(position), *position), "{name}: {position} is owed and forgotten");
        }
        for seal in model.seals.iter().filter(|s| s.positions.iter().any(|p| !model.may_be_closed(p))) {
            let is_there = states.values().any(|state| state.seals.contains(seal));
            assert!(is_there, "{name}: the seal {} is gone", seal.key);
        }
        for seal in states.values().flat_map(|state| &state.seals) {
            let known = model.seals.contains(seal) || model.unsure_seals.contains(seal);
            assert!(known, "{name}: the seal {} came from nowhere", seal.key);
            let is_open = |p: &Position| {
                state_of(p).open.contains_key(p) || letters.iter().any(|letter| letter.position == *p)
            };
            assert!(seal.positions.iter().any(is_open), "{name}: the seal {} is over", seal.key);
        }
        for position in states.values().flat_map(|state| state.open.keys()) {
            let is_push = all.contains_key(position) || self.may_be_lost(*position);
            assert!(is_push, "{name}: {position} is open and is no push");
        }
    }
}

/// The states of the spool's lanes that make up one of ours, by their names.
fn states(spool: &Spool<u64>, model: &LaneModel) -> BTreeMap<String, LaneState> {
    model.part_names().map(|name| (name.clone(), lane(spool, name))).collect()
}

fn letters(spool: &Spool<u64>, model: &LaneModel) -> Vec<DeadLetter> {
    let letters = |name: &String| spool.dead_letters(name, Position(0), usize::MAX).unwrap();
    model.part_names().flat_map(letters).collect()
}

/// Kinds of outcomes; those below are deliveries.
const DEAD: u8 = 4;
const RETRY: u8 = 5;

fn outcome_of(kind: u8, position: &Position) -> Outcome {
    match kind {
        0 | 1 => DELIVERED,
        2 => Outcome::Passed,
        3 => Outcome::Delivered { receipt: Some(format!("receipt {position}")) },
        DEAD => dead(&format!("reason {position}")),
        _ => Outcome::Retry { attempts: 1, spent: Duration::from_secs(1), due_ms: 7, answer: "503".into() },
    }
}

/// Whether there is an answer by now.
fn is_ready(answer: impl Future<Output = ()>) -> bool {
    pin!(answer).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn is_closed(state: &LaneState, position: Position) -> bool {
    position < state.next && !state.open.contains_key(&position)
}

fn nth(stored: &BTreeMap<Position, u64>, rank: u8) -> Option<(Position, u64)> {
    stored.iter().rev().nth(usize::from(rank) % stored.len().max(1)).map(|(p, n)| (*p, *n))
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::with_cases(std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48)) })]

    #[test]
    fn whatever_happens_the_promise_holds(actions in prop::collection::vec(action(), 1..50)) {
        let mut model = Model::new();
        for action in &actions {
            model.act(action);
            model.note_seals_that_may_be_over();
            model.check();
        }
        model.repair();
        model.check();
        model.check_catalog();
        wait(model.spool.close());
        model.reopen();
        model.check();
        wait(model.spool.catalog_caught_up());
        model.check_catalog();
    }
}
