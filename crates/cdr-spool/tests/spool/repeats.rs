//! Repeats, over many segments: what is recognised after the segment is closed, carried, or has lost its index.

use std::time::Duration;

use cdr_spool::{Appended, Outcome, Position, Spool};

use crate::harness::*;
use crate::lanes::{DELIVERED, dead, record};

/// Enough for a dozen segments.
const MANY: u64 = 300;

/// With room for all of them.
fn roomy() -> World {
    let mut world = World::new();
    world.settings.max_size = 64 * SEGMENT;
    world
}

fn all_are_repeats(spool: &Spool<u64>, when: &str) {
    for n in 0..MANY {
        let answer = wait(spool.append(push(n))).unwrap();
        assert_eq!(answer, Appended::Repeat { position: Position(n + 1) }, "{when}");
    }
}

fn lose_indexes(world: &World) {
    let names = world.disk.names().into_iter().filter(|name| name.ends_with(".index"));
    names.for_each(|name| world.disk.lose(&name));
}

#[test]
fn repeats_are_recognised_in_all_segments_and_after_each_way_to_end() {
    let world = roomy();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..MANY);
    assert!(spool.stats().segments > 10);
    all_are_repeats(&spool, "in the process that stored them");
    lose_indexes(&world);
    all_are_repeats(&spool, "without index files");
    wait(spool.close());
    let (spool, _) = world.open(&["crm"]);
    all_are_repeats(&spool, "after a restart");
    world.disk.kill();
    let (spool, _) = world.open(&["crm"]);
    all_are_repeats(&spool, "after a kill");
    assert_eq!(spool.end(), Position(MANY + 1));
}

#[test]
fn what_was_carried_is_recognised_when_its_segment_is_gone() {
    let mut world = roomy();
    world.settings.keep = Duration::from_secs(3600);
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..MANY);
    let carried = [5, 6, 100];
    let outcome = |p| if carried.contains(&p) { dead("no") } else { DELIVERED };
    let outcomes: Vec<(Position, Outcome)> = (1..=MANY).map(|p| (Position(p), outcome(p))).collect();
    record(&spool, "crm", outcomes);
    for _ in 0..2 {
        world.clock.pass(world.settings.keep * 2);
        poke(&spool);
    }
    assert!(spool.stats().segments < 4 && spool.stats().carried >= 3, "{:?}", spool.stats());
    // A segment ends, so that what was carried lies in a closed one.
    append(&spool, 1000..1050);
    let check = |spool: &Spool<u64>| {
        for position in carried {
            let answer = wait(spool.append(push(position - 1))).unwrap();
            assert_eq!(answer, Appended::Repeat { position: Position(position) });
        }
    };
    check(&spool);
    wait(spool.close());
    check(&world.open(&["crm"]).0);
}

#[test]
fn a_uuid_that_comes_again_with_other_bytes_is_told_however_long_ago_it_was() {
    let world = roomy();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..MANY);
    wait(spool.close());
    let (spool, _) = world.open(&["crm"]);
    let mut other = push(5000);
    other.key.uuid = key(1).uuid;
    let stored = wait(spool.append(other)).unwrap();
    assert_eq!(stored, Appended::Stored { position: Position(MANY + 1), uuid_reused: true });
}

#[test]
fn one_uuid_for_all_hides_no_repeat() {
    let world = roomy();
    let (spool, _) = world.open(&["crm"]);
    let same = |n: u64| {
        let mut push = push(n);
        push.key.uuid = Some("always".into());
        push
    };
    for n in 0..MANY {
        let answer = wait(spool.append(same(n))).unwrap();
        assert_eq!(answer, Appended::Stored { position: Position(n + 1), uuid_reused: n > 0 });
    }
    for n in 0..MANY {
        assert_eq!(wait(spool.append(same(n))).unwrap(), Appended::Repeat { position: Position(n + 1) });
    }
}
