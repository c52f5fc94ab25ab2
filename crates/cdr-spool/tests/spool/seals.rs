//! Seals: durable before anyone acts on them, and the same after whatever happens.

use std::time::Duration;

use bytes::Bytes;
use cdr_spool::{ControlError, LogReader, Logged, Outcome, Position, Seal, Spool};

use crate::disk::Chance;
use crate::harness::*;
use crate::lanes::{DELIVERED, dead, lane, record};

/// A seal whose key tells its positions.
pub fn seal_of(positions: impl IntoIterator<Item = u64>) -> Seal {
    let positions: Vec<Position> = positions.into_iter().map(Position).collect();
    let key = positions.iter().map(|p| format!("-{p}")).collect();
    Seal { positions, key, facts: Bytes::from_static(b"{\"format\":1}") }
}

fn seals(spool: &Spool<u64>) -> Vec<Seal> {
    lane(spool, "archive").seals
}

fn delivered(positions: impl IntoIterator<Item = u64>) -> Vec<(Position, Outcome)> {
    positions.into_iter().map(|p| (Position(p), DELIVERED)).collect()
}

#[test]
fn a_seal_is_there_after_a_power_cut_and_opens_what_it_names() {
    let world = World::new();
    let (spool, _) = world.open(&["archive"]);
    append(&spool, 0..6);
    wait(spool.seal("archive", seal_of([2, 3, 5]))).unwrap();
    world.disk.crash(&mut Chance::new(1));
    drop(spool);

    let (spool, _) = world.open(&["archive"]);
    assert_eq!(seals(&spool), [seal_of([2, 3, 5])]);
    let state = lane(&spool, "archive");
    assert_eq!(state.next, Position(6));
    assert_eq!(state.open.keys().map(|p| p.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_seal_is_over_when_all_its_positions_are_closed() {
    let world = World::new();
    let (spool, _) = world.open(&["archive"]);
    append(&spool, 0..6);
    wait(spool.seal("archive", seal_of([1, 2]))).unwrap();
    wait(spool.seal("archive", seal_of([3, 4]))).unwrap();
    record(&spool, "archive", delivered([1]));
    assert_eq!(seals(&spool).len(), 2);
    record(&spool, "archive", delivered([2]));
    assert_eq!(seals(&spool), [seal_of([3, 4])]);
    record(&spool, "archive", vec![(Position(3), dead("no")), (Position(4), dead("no"))]);
    assert!(seals(&spool).is_empty());
    wait(spool.close());
    let (spool, _) = world.open(&["archive"]);
    assert!(seals(&spool).is_empty());
}

#[test]
fn what_is_closed_cannot_be_sealed_and_a_new_seal_voids_an_old_one() {
    let world = World::new();
    let (spool, _) = world.open(&["archive"]);
    append(&spool, 0..6);
    record(&spool, "archive", delivered([1]));
    let error = wait(spool.seal("archive", seal_of([1, 2, 99]))).unwrap_err();
    let positions = vec![Position(1), Position(99)];
    assert_eq!(error, ControlError::NotOpen { lane: "archive".into(), positions });
    assert!(matches!(wait(spool.seal("crm", seal_of([2]))), Err(ControlError::UnknownLane { .. })));

    wait(spool.seal("archive", seal_of([2, 3]))).unwrap();
    wait(spool.seal("archive", seal_of([3, 4]))).unwrap();
    assert_eq!(seals(&spool), [seal_of([3, 4])]);
}

#[test]
fn a_disk_that_fails_seals_nothing() {
    let world = World::new();
    let (spool, _) = world.open(&["archive"]);
    append(&spool, 0..3);
    world.disk.fail_syncs(1);
    assert!(matches!(wait(spool.seal("archive", seal_of([1, 2]))), Err(ControlError::Failing { .. })));
    assert!(seals(&spool).is_empty());
    world.clock.pass(Duration::from_secs(40));
    poke(&spool);
    wait(spool.seal("archive", seal_of([1, 3]))).unwrap();
    world.disk.crash(&mut Chance::new(3));
    drop(spool);
    let (spool, _) = world.open(&["archive"]);
    assert_eq!(seals(&spool), [seal_of([1, 3])]);
}

#[test]
fn bodies_that_an_open_seal_names_are_carried_and_the_seal_outlives_its_segment() {
    let world = World::new();
    let (spool, _) = world.open(&["archive"]);
    append(&spool, 0..40);
    wait(spool.seal("archive", seal_of([2, 3]))).unwrap();
    record(&spool, "archive", delivered((1..=40).filter(|p| ![2, 3].contains(p))));
    world.clock.pass(Duration::from_secs(30 * 24 * 3600));
    append(&spool, 100..120);
    record(&spool, "archive", delivered(41..=60));
    world.clock.pass(Duration::from_secs(30 * 24 * 3600));
    until("the segment went", || {
        poke(&spool);
        spool.stats().carried >= 2
    });
    world.disk.crash(&mut Chance::new(5));
    drop(spool);
    let (spool, _) = world.open(&["archive"]);
    assert_eq!(seals(&spool), [seal_of([2, 3])]);
    assert_eq!(spool.get(Position(2)).unwrap().unwrap().body, body(1));
    assert_eq!(spool.get(Position(3)).unwrap().unwrap().body, body(2));
}

#[test]
fn a_lane_that_is_renamed_keeps_its_seals() {
    let world = World::new();
    let (spool, _) = world.open(&["old"]);
    append(&spool, 0..3);
    wait(spool.seal("old", seal_of([1, 2]))).unwrap();
    wait(spool.hand_over_lane("old", "archive", Position(0), Bytes::new())).unwrap();
    wait(spool.close());
    let (spool, _) = world.open(&["archive"]);
    assert_eq!(seals(&spool), [seal_of([1, 2])]);
}

#[test]
fn a_damaged_seal_is_said_and_its_pushes_are_owed_without_it() {
    let world = World::new();
    let (spool, _) = world.open(&["archive"]);
    append(&spool, 0..6);
    let seal = Seal { key: "a key that is found".into(), ..seal_of([2, 3]) };
    wait(spool.seal("archive", seal.clone())).unwrap();
    append(&spool, 6..8);
    let find = |name: &String| {
        let bytes = world.disk.bytes_of(name);
        bytes.windows(seal.key.len()).position(|w| w == seal.key.as_bytes())
    };
    let logs: Vec<String> = world.disk.names().into_iter().filter(|name| name.ends_with(".log")).collect();
    let (file, at) = logs.iter().find_map(|name| Some((name, find(name)?))).unwrap();
    world.disk.kill();
    drop(spool);
    world.disk.flip(file, at);

    let (spool, recovery) = world.open(&["archive"]);
    assert_eq!((recovery.damage.len(), recovery.damage[0].lost), (1, None));
    let state = lane(&spool, "archive");
    assert!(state.seals.is_empty());
    for position in [2, 3].map(Position) {
        assert!(position >= state.next || state.open.contains_key(&position), "{position} is owed");
    }
    wait(spool.seal("archive", seal_of([2, 3]))).unwrap();
}

#[test]
fn a_push_that_damage_takes_out_of_a_seal_leaves_the_others_open() {
    let world = World::new();
    let (spool, _) = world.open(&["archive"]);
    append(&spool, 0..6);
    wait(spool.seal("archive", seal_of([2, 3]))).unwrap();
    let lost = body(1);
    let name = world.disk.names().into_iter().find(|name| name.ends_with(".log")).unwrap();
    let at = world.disk.bytes_of(&name).windows(lost.len()).position(|w| w == lost).unwrap();
    world.disk.kill();
    drop(spool);
    world.disk.flip(&name, at);

    let (spool, _) = world.open(&["archive"]);
    assert_eq!(spool.dead_letters("archive", Position(0), 9).unwrap()[0].position, Position(2));
    assert!(lane(&spool, "archive").open.contains_key(&Position(3)));
    // The lane sees that it is not whole, and seals what is left.
    wait(spool.seal("archive", seal_of([3]))).unwrap();
    assert_eq!(seals(&spool), [seal_of([3])]);
}

#[test]
fn the_log_tells_seals_and_the_receipts_that_follow_from_them() {
    let at = tempfile::tempdir().unwrap();
    let settings = cdr_spool::Settings { max_size: 64 << 20, ..cdr_spool::Settings::new(at.path()) };
    let lanes = [cdr_spool::NewLane { name: "archive".into(), start: cdr_spool::Start::Beginning }];
    let open = || Spool::<u64>::open(settings.clone(), &lanes, Box::new(|_| {})).unwrap().0;
    let spool = open();
    append(&spool, 0..4);
    wait(spool.seal("archive", seal_of([1, 2]))).unwrap();
    wait(spool.close());
    drop(spool);
    // The next segment knows the seal from its checkpoint.
    let spool = open();
    wait(spool.record("archive", delivered([1, 2, 3])));

    let entries: Vec<Logged> = LogReader::open(at.path()).unwrap().map(|entry| entry.unwrap().what).collect();
    let sealed = Logged::Sealed { lane: "archive".into(), seal: seal_of([1, 2]) };
    assert!(entries.contains(&sealed), "{entries:?}");
    let receipts: Vec<Option<String>> = entries
        .iter()
        .filter_map(|entry| match entry {
            Logged::Outcome { outcome: Outcome::Delivered { receipt }, .. } => Some(receipt.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(receipts, [Some("-1-2".into()), Some("-1-2".into()), None]);
}

/// The segment with the deaths fails; the next one begins with a checkpoint, and the deaths come behind it.
#[test]
fn what_is_open_after_a_crash_has_its_seal_wherever_its_deaths_were_lost() {
    let mut open_again = 0;
    for changes in 0..16 {
        let world = World::new();
        let (spool, _) = world.open(&["archive"]);
        append(&spool, 0..3);
        wait(spool.seal("archive", seal_of([1, 2]))).unwrap();
        world.disk.fail_syncs(1);
        drop(spool.record("archive", vec![(Position(1), dead("no")), (Position(2), dead("no"))]));
        poke(&spool);
        world.disk.cut_power_after(changes);
        world.clock.pass(Duration::from_secs(40));
        poke(&spool);
        world.disk.crash(&mut Chance::new(changes as u64));
        drop(spool);

        let (spool, _) = world.open(&["archive"]);
        let state = lane(&spool, "archive");
        let is_owed = |p: &Position| *p >= state.next || state.open.contains_key(p);
        match [Position(1), Position(2)].iter().filter(|p| is_owed(p)).count() {
            0 => assert!(state.seals.is_empty(), "after {changes} changes"),
            2 => {
                open_again += 1;
                assert_eq!(state.seals, [seal_of([1, 2])], "after {changes} changes");
            }
            _ => panic!("one of two is open after {changes} changes"),
        }
    }
    assert!((1..16).contains(&open_again), "{open_again}");
}

#[test]
fn a_dead_letter_that_is_woken_is_not_sealed_any_more_and_stays_so() {
    let world = World::new();
    let (spool, _) = world.open(&["archive"]);
    append(&spool, 0..3);
    wait(spool.seal("archive", seal_of([1, 2]))).unwrap();
    record(&spool, "archive", vec![(Position(1), dead("no")), (Position(2), dead("no"))]);
    wait(spool.reopen("archive", &[Position(1), Position(2)])).unwrap();
    assert!(seals(&spool).is_empty());
    world.disk.kill();
    drop(spool);
    let (spool, _) = world.open(&["archive"]);
    assert!(seals(&spool).is_empty());
    assert_eq!(lane(&spool, "archive").open.len(), 2);
}
