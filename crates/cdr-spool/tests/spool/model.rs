//! Anything may happen, in any order; a simple model says what must be true all the same.
//!
//! - What was answered is there until every lane has closed it.
//! - What was refused does not come back; what was neither (the power went) may, and then counts.
//! - No position is given twice.
//! - What is closed stays closed once somebody was told, what is dead waits, what is owed is offered to its lane again.
//! - A lane may be handed over to another one: together they owe what they owed, and what either closed stays closed. The same for what is set aside.
//! - What was noted on a lane is there with the outcomes that it came with, or neither is. It goes with its lane: nothing of one that was
//!   retired comes back.
//! - What was sealed stays sealed, the same positions under the same key, until all of them are closed.
//! - What the disk damages is said; only that is lost, and a lane that was owed it is told. A torn tail is cut instead.
//! - The catalog tells what the log tells, whatever became of either.
//! - The counters, the reader beside it and a second start agree.

mod changing;
mod checking;
mod doing;
mod lane;
mod notes;
mod starting;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use cdr_spool::{Position, Spool};
use proptest::prelude::*;

use self::lane::LaneModel;
use self::notes::Noting;
use crate::catalog::{assert_tells_what_the_log_tells, terms};
use crate::disk::Chance;
use crate::harness::*;
use crate::lanes::DELIVERED;

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
    /// The power goes while notes are being written, and outcomes with them.
    CrashNoting {
        lane: usize,
        noting: Noting,
        count: u8,
        kind: u8,
        changes: u8,
        seed: u64,
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
    FailDirectorySyncs(u8),
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
        2 => (lane.clone(), noting(), 1u8..4, 0u8..5, 0u8..5, any::<u64>()).prop_map(|(lane, noting, count, kind, changes, seed)| Action::CrashNoting { lane, noting, count, kind, changes, seed }),
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
        1 => (1u8..4).prop_map(Action::FailDirectorySyncs),
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
                self.append(pushes.into());
                self.crash(seed);
            }
            Action::CrashNoting { lane, noting, count, kind, changes, seed } => {
                if matches!(noting, Noting::Replace { .. }) {
                    self.note(lane, Noting::Fill, Vec::new(), 0, true);
                }
                self.world.disk.cut_power_after(changes.into());
                let owed = self.owed(lane, 0, count);
                self.note(lane, noting, owed, kind, true);
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
            Action::FailDirectorySyncs(n) => self.world.disk.fail_directory_syncs(n.into()),
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
