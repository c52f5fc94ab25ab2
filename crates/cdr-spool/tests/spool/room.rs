//! Age, room, carrying.

use std::time::Duration;

use cdr_spool::{AppendError, Health, Outcome, Position};

use crate::harness::*;
use crate::lanes::{DELIVERED, dead, record};

fn all_delivered(until: u64) -> Vec<(Position, Outcome)> {
    (1..until).map(|p| (Position(p), DELIVERED)).collect()
}

fn age(world: &World, spool: &cdr_spool::Spool<u64>) {
    world.clock.pass(world.settings.keep + Duration::from_secs(3600));
    poke(spool);
    world.clock.pass(Duration::from_secs(60));
    poke(spool);
}

#[test]
fn closed_pushes_go_when_they_are_old_and_open_ones_do_not() {
    let world = World::new();
    let (spool, _) = world.open(&["crm", "slow"]);
    append(&spool, 0..100);
    let before = spool.stats().segments;
    record(&spool, "crm", all_delivered(101));
    age(&world, &spool);
    assert!(spool.stats().segments >= before, "slow has read nothing");
    record(&spool, "slow", all_delivered(101));
    assert!(spool.stats().segments >= before, "only now everything is closed");
    age(&world, &spool);
    assert!(spool.stats().segments < 3, "{:?}", spool.stats());
    assert_eq!(spool.get(Position(1)).unwrap(), None);
    assert_eq!(spool.read(Position(1), 9, usize::MAX).unwrap().next, Position(101));
    assert_eq!(append(&spool, [500]), [Position(101)]);
}

#[test]
fn what_is_needed_is_carried_when_its_segment_goes() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    let quarantined = wait(spool.quarantine(found(900))).unwrap().position;
    append(&spool, 0..100);
    let mut outcomes = all_delivered(102);
    outcomes[4].1 = dead("why it died");
    outcomes[40].1 = Outcome::Retry { attempts: 1, spent: Duration::ZERO, due_ms: 5, answer: "503".into() };
    record(&spool, "crm", outcomes);
    age(&world, &spool);
    assert!(spool.stats().carried >= 3 && spool.stats().segments < 4, "{:?}", spool.stats());

    let check = |spool: &cdr_spool::Spool<u64>| {
        assert_eq!(spool.get(Position(5)).unwrap().unwrap().body, body(3));
        assert_eq!(spool.get(Position(41)).unwrap().unwrap().key, key(39));
        assert_eq!(spool.get(Position(42)).unwrap(), None);
        let letter = &spool.dead_letters("crm", Position(0), 9).unwrap()[0];
        assert_eq!((letter.reason.as_str(), letter.died_at_ms), ("why it died", 1_800_000_000_000));
        let held = &spool.quarantined(Position(0), 9).unwrap()[0];
        assert_eq!((held.position, held.body.clone()), (quarantined, body(900)));
        let positions: Vec<u64> =
            spool.read(Position(1), 99, usize::MAX).unwrap().pushes.iter().map(|p| p.position.0).collect();
        assert_eq!(positions, [5, 41]);
    };
    check(&spool);
    wait(spool.close());
    let (spool, _) = world.open(&["crm"]);
    check(&spool);

    // Carried again, and gone once it is closed.
    age(&world, &spool);
    age(&world, &spool);
    check(&spool);
    wait(spool.discard("crm", &[Position(5)])).unwrap();
    record(&spool, "crm", vec![(Position(41), DELIVERED)]);
    wait(spool.discard_quarantine(&[quarantined])).unwrap();
    age(&world, &spool);
    age(&world, &spool);
    assert_eq!(spool.get(Position(5)).unwrap(), None);
    assert_eq!(spool.get(Position(41)).unwrap(), None);
    assert!(spool.quarantined(Position(0), 9).unwrap().is_empty());
}

#[test]
fn when_room_is_needed_closed_pushes_go_before_their_time() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    for n in 0..2000 {
        let position = append(&spool, [n])[0];
        if n % 10 == 9 {
            record(&spool, "crm", (position.0 - 9..=position.0).map(|p| (Position(p), DELIVERED)).collect());
        }
        assert!(spool.stats().bytes <= world.settings.max_size);
    }
    assert!(spool.stats().dropped_segments > 10);
    assert_eq!(spool.health(), Health::Ok);
}

#[test]
fn full_of_what_is_owed_it_refuses_and_never_drops() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    let mut stored = 0;
    let refused = loop {
        match wait(spool.append(push(stored))) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Full { .. }), "{refused:?}");
    assert!(matches!(spool.health(), Health::Full { .. }));
    assert_eq!(wait(spool.append(push(3))).unwrap().position(), Position(4), "a repeat needs no room");
    assert!(wait(spool.append(push(stored + 1))).is_err());
    assert_eq!(spool.read(Position(1), 9999, usize::MAX).unwrap().pushes.len() as u64, stored);
    assert!(spool.stats().bytes > world.settings.max_size * 3 / 4);

    // It drains although it is full, and the door opens by itself.
    record(&spool, "crm", all_delivered(stored / 2));
    world.clock.pass(Duration::from_secs(10));
    poke(&spool);
    assert_eq!(spool.health(), Health::Ok);
    append(&spool, [stored + 1]);
    let left = spool.read(Position(stored / 2), 9999, usize::MAX).unwrap().pushes;
    assert_eq!(left.last().unwrap().position, Position(stored + 1));
}

#[test]
fn one_open_push_in_each_segment_does_not_hold_the_room() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    let mut open = Vec::new();
    for n in 0..1500 {
        let position = append(&spool, [n])[0];
        let retry = Outcome::Retry { attempts: 1, spent: Duration::ZERO, due_ms: 5, answer: String::new() };
        let outcome = if n % 100 == 0 { retry } else { DELIVERED };
        if n % 100 == 0 {
            open.push((position, n));
        }
        record(&spool, "crm", vec![(position, outcome)]);
    }
    for (position, n) in open {
        assert_eq!(spool.get(position).unwrap().unwrap().body, body(n));
    }
}

#[test]
fn a_clock_that_jumped_expires_nothing_for_an_hour() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..100);
    record(&spool, "crm", all_delivered(101));
    world.clock.pass(Duration::from_secs(10));
    poke(&spool);
    world.clock.jump(400 * DAY_MS);
    let look = |s| {
        world.clock.pass(Duration::from_secs(s));
        poke(&spool);
    };
    look(10);
    look(1800);
    assert!(spool.get(Position(1)).unwrap().is_some());
    look(1900);
    look(10);
    assert_eq!(spool.get(Position(1)).unwrap(), None, "after an hour the clock is believed");
}

#[test]
fn a_start_with_a_doubtful_clock_says_so_and_expires_nothing() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..100);
    record(&spool, "crm", all_delivered(101));
    wait(spool.close());
    world.clock.jump(400 * DAY_MS);
    let (spool, recovery) = world.open(&["crm"]);
    assert_eq!(recovery.clock_off, Some(Duration::from_millis(400 * DAY_MS as u64)));
    world.clock.pass(Duration::from_secs(60));
    poke(&spool);
    assert!(spool.get(Position(1)).unwrap().is_some());
}

#[test]
fn stats_name_the_lane_that_holds_the_room() {
    let world = World::new();
    let (spool, _) = world.open(&["quick", "dead"]);
    append(&spool, 0..100);
    record(&spool, "quick", all_delivered(101));
    let (stats, holders) = (spool.stats(), spool.holders());
    assert_eq!(holders.iter().map(|holder| holder.lane.as_str()).collect::<Vec<_>>(), ["dead"]);
    assert!(holders[0].waiting_bytes > stats.bytes / 2 && holders[0].dead_bytes == 0, "{holders:?}");
    assert!(stats.owed_bytes > stats.bytes / 2 && stats.owed_bytes <= stats.bytes);
}

#[test]
fn dead_letters_hold_room_and_are_named_wherever_they_lie() {
    let world = World::new();
    let (spool, _) = world.open(&["crm", "slow"]);
    append(&spool, 0..100);
    record(&spool, "crm", (1..=100).map(|p| (Position(p), dead("no"))).collect());
    record(&spool, "slow", (1..=90).map(|p| (Position(p), DELIVERED)).collect());
    let held = spool.holders();
    assert_eq!(held.iter().map(|holder| holder.lane.as_str()).collect::<Vec<_>>(), ["crm", "slow"]);
    assert_eq!((held[0].waiting_bytes, held[0].dead_letters, held[1].dead_bytes), (0, 100, 0));
    assert!(held[0].dead_bytes > 5 * held[1].waiting_bytes && held[1].waiting_bytes > 0, "{held:?}");
    assert!(spool.stats().owed_bytes >= held[0].dead_bytes);

    // Few of many: they are carried, and held all the same.
    wait(spool.discard("crm", &(6..=100).map(Position).collect::<Vec<_>>())).unwrap();
    record(&spool, "slow", (91..=100).map(|p| (Position(p), DELIVERED)).collect());
    age(&world, &spool);
    assert!(spool.stats().carried >= 5);
    let held = spool.holders();
    assert_eq!((held.len(), held[0].lane.as_str(), held[0].dead_letters), (1, "crm", 5));
    assert!(held[0].dead_bytes > 5 * 40, "{held:?}");
}

#[test]
fn a_spool_full_of_dead_letters_opens_when_they_are_discarded() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    let mut stored = 0;
    while wait(spool.append(push(stored))).is_ok() {
        stored += 1;
        record(&spool, "crm", vec![(Position(stored), dead("no"))]);
    }
    let Health::Full { owed, max_size } = spool.health() else { panic!("{:?}", spool.health()) };
    assert!(owed > max_size / 2, "{owed} of {max_size}");
    assert_eq!(spool.holders()[0].dead_letters, stored);
    wait(spool.discard("crm", &(1..=stored).map(Position).collect::<Vec<_>>())).unwrap();
    world.clock.pass(Duration::from_secs(10));
    poke(&spool);
    assert_eq!(spool.health(), Health::Ok);
    append(&spool, [stored + 1]);
}
