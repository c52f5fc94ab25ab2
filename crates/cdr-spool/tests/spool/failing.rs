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
fn a_decision_that_cannot_be_written_does_not_happen() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    world.disk.fail_writes(1);
    assert!(wait(spool.hand_over_lane("crm", "other", Bytes::new())).is_err());
    assert_eq!(spool.lanes()[0].0, "crm");
    world.clock.pass(LONG);
    poke(&spool);
    wait(spool.hand_over_lane("crm", "other", Bytes::new())).unwrap();
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
fn a_fault_in_the_callback_stops_the_spool_and_says_so() {
    let world = World::new();
    let ground = cdr_spool::Ground {
        directory: world.disk.directory(),
        clock: world.clock.clone(),
        segment_size: Some(SEGMENT),
    };
    let broken = Box::new(|_: Vec<(Position, u64)>| panic!("a fault in the test's callback"));
    let (spool, _) = cdr_spool::Spool::open_on(ground, world.settings.clone(), &[], broken).unwrap();
    assert_eq!(wait(spool.append(push(1))), Err(AppendError::Stopping));
    until("the end", || matches!(spool.health(), Health::Failing { .. }));
    assert_eq!(wait(spool.append(push(2))), Err(AppendError::Stopping));
    wait(spool.close());
}
