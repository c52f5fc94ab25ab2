//! Disks that refuse.

use std::time::Duration;

use bytes::Bytes;
use cdr_spool::{AppendError, Appended, Health, Position};

use crate::disk::Chance;
use crate::harness::*;
use crate::lanes::{DELIVERED, dead, lane, record};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_failed_sync_refuses_the_push_burns_its_position_and_ends_the_segment() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..3);
    let segments = spool.stats().segments;
    world.disk.fail_syncs(1);
    let refused = wait(spool.append(push(3)));
    assert!(
        matches!(refused, Err(AppendError::Failing { ref reason }) if reason.contains("injected")),
        "{refused:?}"
    );
    assert!(matches!(spool.health(), Health::Failing { .. }));
    assert!(matches!(wait(spool.append(push(4))), Err(AppendError::Failing { .. })));
    assert_eq!(
        wait(spool.append(push(1))).unwrap(),
        Appended::Repeat { position: Position(2) },
        "a repeat needs no disk"
    );

    world.clock.pass(LONG);
    poke(&spool);
    assert_eq!(spool.health(), Health::Ok);
    assert_eq!(spool.stats().segments, segments + 1);
    assert_eq!(append(&spool, [3]), [Position(5)]);
    let read = spool.read(Position(1), 10, usize::MAX).unwrap();
    assert_eq!(read.pushes.iter().map(|p| p.position.0).collect::<Vec<_>>(), [1, 2, 3, 5]);

    world.disk.crash(&mut Chance::new(3));
    drop(spool);
    let (spool, recovery) = world.open(&["crm"]);
    assert!(recovery.damage.is_empty());
    let read = spool.read(Position(1), 10, usize::MAX).unwrap();
    assert_eq!(
        read.pushes.iter().map(|p| p.position.0).collect::<Vec<_>>(),
        [1, 2, 3, 5],
        "what was refused stays away"
    );
}

#[test]
fn outcomes_wait_for_a_failing_disk_and_are_written_again() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..4);
    world.disk.fail_writes(1);
    let first = spool.record("crm", vec![(Position(1), DELIVERED), (Position(2), dead("no"))]);
    until("the failure", || matches!(spool.health(), Health::Failing { .. }));
    let second = spool.record("crm", vec![(Position(3), DELIVERED)]);
    world.clock.pass(LONG);
    poke(&spool);
    wait(first);
    wait(second);
    world.disk.crash(&mut Chance::new(4));
    drop(spool);
    let (spool, _) = world.open(&["crm"]);
    assert_eq!(lane(&spool, "crm").next, Position(4));
    assert!(lane(&spool, "crm").open.is_empty());
    assert_eq!(spool.dead_letters("crm", Position(0), 9).unwrap()[0].reason, "no");
}

#[test]
fn a_segment_whose_name_is_not_durable_is_given_up_with_its_file() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..2);
    let logs = || world.disk.names().into_iter().filter(|name| !name.ends_with(".index")).count();
    let before = logs();
    world.disk.fail_directory_syncs(5);
    world.disk.fail_syncs(1);
    assert!(wait(spool.append(push(2))).is_err());
    for _ in 0..5 {
        world.clock.pass(LONG);
        poke(&spool);
        assert!(matches!(spool.health(), Health::Failing { .. }));
    }
    assert_eq!(logs(), before, "{:?}", world.disk.names());
    world.clock.pass(LONG);
    poke(&spool);
    append(&spool, [2]);
    world.disk.crash(&mut Chance::new(6));
    let (spool, recovery) = world.open(&["crm"]);
    assert!(recovery.damage.is_empty());
    assert_eq!(spool.read(Position(1), 10, usize::MAX).unwrap().pushes.len(), 3);
}

#[test]
fn outcomes_that_wait_at_the_stop_are_written_if_the_disk_is_back() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..2);
    world.disk.fail_syncs(1);
    assert!(wait(spool.append(push(2))).is_err());
    drop(spool.record("crm", vec![(Position(1), DELIVERED)]));
    wait(spool.close());
    world.disk.crash(&mut Chance::new(5));
    let (spool, _) = world.open(&["crm"]);
    assert_eq!(lane(&spool, "crm").next, Position(2));
}

#[test]
fn a_disk_that_fails_while_room_is_made_is_not_said_to_be_full() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    let full = (0..).find_map(|n| wait(spool.append(push(n))).err());
    assert!(matches!(full, Some(AppendError::Full { .. })), "{full:?}");
    record(&spool, "crm", (1..spool.end().0).map(|p| (Position(p), DELIVERED)).collect());
    // A segment that goes is a write of its own.
    world.disk.fail_writes(1);
    let refused = wait(spool.append(push(9000)));
    assert!(matches!(refused, Err(AppendError::Failing { .. })), "{refused:?}");
}

#[test]
fn a_decision_that_cannot_be_written_does_not_happen() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    world.disk.fail_writes(1);
    assert!(wait(spool.hand_over_lane("crm", "other", Position(0), Bytes::new())).is_err());
    assert_eq!(spool.lanes()[0].0, "crm");
    world.clock.pass(LONG);
    poke(&spool);
    wait(spool.hand_over_lane("crm", "other", Position(0), Bytes::new())).unwrap();
    assert_eq!(spool.lanes()[0].0, "other");
}

#[test]
fn a_disk_that_fails_again_and_again_is_tried_again_and_again() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..2);
    world.disk.fail_syncs(6);
    assert!(wait(spool.append(push(5))).is_err());
    until("the disk's return", || {
        world.clock.pass(LONG);
        poke(&spool);
        spool.health() == Health::Ok
    });
    append(&spool, [5]);
    assert!(spool.stats().failures > 2);
    wait(spool.close());
    let (spool, recovery) = world.open(&["crm"]);
    assert!(recovery.damage.is_empty());
    assert_eq!(spool.read(Position(1), 10, usize::MAX).unwrap().pushes.len(), 3);
}

#[test]
fn on_a_full_disk_outcomes_go_on_and_pushes_come_back_with_the_room() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..60);
    world.disk.set_capacity(Some(world.disk.used() + 100));
    let refused = (100..200).find_map(|n| wait(spool.append(push(n))).err());
    assert!(matches!(refused, Some(AppendError::Failing { .. })), "{refused:?}");
    poke(&spool);
    record(&spool, "crm", (1..=20).map(|p| (Position(p), DELIVERED)).collect());
    assert_eq!(lane(&spool, "crm").next, Position(21));
    assert!(
        matches!(wait(spool.append(push(300))), Err(AppendError::Failing { .. })),
        "the reserve is not for pushes"
    );

    world.disk.set_capacity(None);
    world.clock.pass(LONG);
    poke(&spool);
    assert_eq!(spool.health(), Health::Ok);
    append(&spool, [300]);
}

#[test]
fn a_disk_that_hangs_is_told_while_it_does() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    world.disk.hang(true);
    let pushing = std::thread::spawn({
        let spool = spool.clone();
        move || wait(spool.append(push(1)))
    });
    until("the push waits for the disk", || spool.stats().in_flight > 0);
    assert_eq!(spool.health(), Health::Ok);
    until("it is told", || {
        world.clock.pass(Duration::from_secs(1));
        matches!(spool.health(), Health::Failing { reason, .. } if reason.contains("slow or hangs"))
    });
    world.disk.hang(false);
    assert!(pushing.join().unwrap().is_ok(), "whoever still waits is answered");
    poke(&spool);
    assert_eq!(spool.health(), Health::Ok);
}

#[test]
fn a_disk_that_became_read_only_refuses_and_goes_on_when_it_can_be_written() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..3);
    world.disk.make_read_only(true);
    let refused = wait(spool.append(push(3)));
    assert!(
        matches!(refused, Err(AppendError::Failing { ref reason }) if reason.contains("read-only")),
        "{refused:?}"
    );
    let recorded = spool.record("crm", vec![(Position(1), DELIVERED)]);
    assert_eq!(
        spool.read(Position(1), 9, usize::MAX).unwrap().pushes.len(),
        3,
        "it can be read all the same"
    );
    world.clock.pass(LONG);
    poke(&spool);
    assert!(matches!(spool.health(), Health::Failing { .. }));
    world.disk.make_read_only(false);
    world.clock.pass(LONG);
    poke(&spool);
    assert_eq!(spool.health(), Health::Ok);
    wait(recorded);
    append(&spool, [3]);
}

#[test]
fn a_push_that_cannot_be_compared_is_stored_and_reading_goes_on_with_the_disk() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..3);
    world.disk.fail_reads(true);
    let again = wait(spool.append(push(1))).unwrap();
    assert!(matches!(again, Appended::Stored { .. }), "nothing is confirmed that was not read: {again:?}");
    assert!(spool.read(Position(1), 9, usize::MAX).is_err());
    assert!(spool.get(Position(1)).is_err(), "unreadable now is not gone");
    world.disk.fail_reads(false);
    assert_eq!(spool.read(Position(1), 9, usize::MAX).unwrap().pushes.len(), 4);
    assert_eq!(spool.health(), Health::Ok);
}

/// Reads all there is, over what cannot be read; gives what was read and what was not.
fn read_over(spool: &cdr_spool::Spool<u64>, max: usize) -> (Vec<u64>, Vec<u64>) {
    let (mut found, mut stepped_over, mut from) = (Vec::new(), Vec::new(), Position(1));
    while from < spool.end() {
        let next = match spool.read(from, 1000, usize::MAX) {
            Ok(read) => {
                found.extend(read.pushes.iter().map(|push| push.position.0));
                read.next
            }
            Err(_) => {
                let (positions, next) = spool.step_over(from, max);
                assert!(positions.len() <= max);
                stepped_over.extend(positions.iter().map(|position| position.0));
                next
            }
        };
        assert!(next > from, "no step ahead at {from}");
        from = next;
    }
    (found, stepped_over)
}

#[test]
fn what_lies_before_and_behind_an_unreadable_place_can_be_read() {
    let mut world = World::new();
    world.settings.max_size = 1 << 20;
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..60);
    let segments = spool.stats().segments;
    assert!(segments > 2, "{segments}");
    // In the middle of a closed segment, and of the one that is being written.
    for name in ["0000000002.log".to_owned(), format!("{segments:010}.log")] {
        let place = world.disk.bytes_of(&name).len() as u64 * 3 / 4;
        world.disk.spoil(Some((&name, place..place + 1)));
        for max in [1, 5, 1000] {
            let (found, stepped_over) = read_over(&spool, max);
            let mut all: Vec<u64> = found.iter().chain(&stepped_over).copied().collect();
            all.sort_unstable();
            assert_eq!(all, (1..=60).collect::<Vec<_>>(), "{name}, {max} at a time");
            assert!((1..12).contains(&stepped_over.len()), "{name}: {stepped_over:?}");
            assert!(stepped_over.iter().any(|p| spool.get(Position(*p)).is_err()));
        }
    }
    world.disk.spoil(None);
    assert_eq!(read_over(&spool, 1000).0.len(), 60);
}

#[test]
fn a_lane_whose_beginning_cannot_be_looked_for_starts_early_and_skips_nothing() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..10);
    world.disk.fail_reads(true);
    let late = cdr_spool::NewLane { name: "late".into(), start: cdr_spool::Start::At(1_800_000_000_000) };
    wait(spool.register_lanes(&[late])).unwrap();
    assert_eq!(lane(&spool, "late").next, Position(1));
}

#[test]
fn a_start_on_a_disk_that_others_filled_gives_up_the_reserve() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..10);
    wait(spool.close());
    world.disk.set_capacity(Some(world.disk.used()));
    let (spool, _) = world.open(&["crm"]);
    assert!(matches!(spool.health(), Health::Failing { .. }));
    assert!(wait(spool.append(push(50))).is_err(), "the reserve is not for pushes");
    record(&spool, "crm", vec![(Position(1), DELIVERED)]);
    assert_eq!(lane(&spool, "crm").next, Position(2));
    world.disk.set_capacity(None);
    world.clock.pass(LONG);
    poke(&spool);
    assert_eq!(spool.health(), Health::Ok);
    append(&spool, [50]);
}

#[test]
fn a_fault_in_the_callback_stops_the_spool_and_says_so() {
    let world = World::new();
    let ground = cdr_spool::Ground {
        directory: world.disk.directory(),
        clock: world.clock.clone(),
        segment_size: Some(SEGMENT),
    };
    let broken = Box::new(|_: cdr_spool::Committed<u64>| panic!("a fault in the test's callback"));
    let (spool, _) = cdr_spool::Spool::open_on(ground, world.settings.clone(), &[], broken).unwrap();
    assert!(wait(spool.append(push(1))).is_ok(), "it is on disk");
    until("the end", || matches!(spool.health(), Health::Failing { .. }));
    assert_eq!(wait(spool.append(push(2))), Err(AppendError::Stopping));
    wait(spool.close());
}
