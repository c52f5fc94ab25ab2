//! What a start makes of what it finds.

use cdr_spool::{LogReader, Logged, NewLane, OpenError, Outcome, Position, Settings, Spool, Start};

use crate::disk::Chance;
use crate::harness::*;
use crate::lanes::{DELIVERED, dead, lane, record};

fn logs(world: &World) -> Vec<String> {
    world.disk.names().into_iter().filter(|n| n.ends_with(".log")).collect()
}

/// Where a push's body lies in a file.
fn find_body(world: &World, n: u64) -> (String, usize) {
    let wanted = body(n);
    let start = &wanted[..wanted.len().min(20)];
    let found = logs(world).into_iter().find_map(|name| {
        let bytes = world.disk.bytes_of(&name);
        bytes.windows(start.len()).position(|w| w == start).map(|at| (name, at))
    });
    found.unwrap()
}

#[test]
fn two_gateways_cannot_have_one_spool() {
    let world = World::new();
    let (spool, _) = world.open(&[]);
    let second = world.open_with(&[]).unwrap_err();
    assert!(matches!(second, OpenError::Locked { .. }), "{second}");
    wait(spool.close());
    world.open(&[]);
}

#[test]
fn a_torn_tail_is_cut_and_said_and_its_positions_are_not_given_again() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..5);
    // The push is written and never synced; the crash tears it.
    world.disk.cut_power_after(1);
    assert!(wait(spool.append(push(5))).is_err());
    world.disk.kill();
    drop(spool);
    let (spool, recovery) = world.open(&["crm"]);
    assert!(recovery.torn_bytes > 0 && recovery.damage.is_empty(), "{recovery:?}");
    assert_eq!(spool.read(Position(1), 9, usize::MAX).unwrap().pushes.len(), 5);
    assert!(append(&spool, [6])[0] > Position(6));
}

#[test]
fn damage_before_what_was_synced_becomes_dead_letters_and_the_file_is_kept() {
    let world = World::new();
    let (spool, _) = world.open(&["crm", "mail"]);
    append(&spool, 0..10);
    record(&spool, "crm", vec![(Position(6), DELIVERED)]);
    let (file, at) = find_body(&world, 3);
    world.disk.kill();
    drop(spool);
    world.disk.flip(&file, at);

    let (spool, recovery) = world.open(&["crm", "mail"]);
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(recovery.damage[0].lost, Some((Position(4), Position(4))));
    assert_eq!((recovery.torn_bytes, recovery.end), (0, Position(11)));
    // crm had it open: the spool itself closes it. mail has not read it: the read says so.
    assert_eq!(spool.dead_letters("crm", Position(0), 9).unwrap()[0].reason, "damaged on disk");
    assert!(!lane(&spool, "crm").open.contains_key(&Position(4)));
    let read = spool.read(Position(1), 99, usize::MAX).unwrap();
    assert_eq!((read.pushes.len(), read.lost, read.next), (9, vec![Position(4)], Position(11)));
    assert!(spool.get(Position(4)).is_err());

    for name in ["crm", "mail"] {
        record(&spool, name, (1..=10).map(|p| (Position(p), DELIVERED)).collect());
    }
    world.clock.pass(world.settings.keep * 2);
    poke(&spool);
    world.clock.pass(world.settings.keep * 2);
    poke(&spool);
    assert!(world.disk.names().contains(&file.replace(".log", ".damaged")), "{:?}", world.disk.names());
}

#[test]
fn a_reader_is_told_of_damage_in_the_last_push_before_a_stop() {
    let world = World::new();
    let (spool, _) = world.open(&["crm", "late"]);
    append(&spool, 0..3);
    record(&spool, "crm", vec![(Position(1), DELIVERED)]);
    append(&spool, 3..4);
    wait(spool.close());
    let (file, at) = find_body(&world, 3);
    world.disk.flip(&file, at);

    for is_told_by_the_start in [true, false] {
        let (spool, recovery) = world.open(&["crm", "late"]);
        assert_eq!(recovery.damage.len(), usize::from(is_told_by_the_start), "{recovery:?}");
        let read = spool.read(Position(1), 99, usize::MAX).unwrap();
        assert_eq!((read.pushes.len(), read.lost, read.next), (3, vec![Position(4)], Position(5)));
        wait(spool.close());
    }
}

#[test]
fn damaged_outcomes_are_repeated_and_said() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..3);
    let file = logs(&world).pop().unwrap();
    let at = world.disk.bytes_of(&file).len();
    record(&spool, "crm", vec![(Position(1), DELIVERED)]);
    append(&spool, 3..5);
    record(&spool, "crm", vec![(Position(2), DELIVERED)]);
    world.disk.kill();
    drop(spool);
    world.disk.flip(&file, at + 30);
    let (spool, recovery) = world.open(&["crm"]);
    assert_eq!(recovery.damage.iter().map(|d| d.lost).collect::<Vec<_>>(), [None]);
    assert_eq!(lane(&spool, "crm").open.into_keys().collect::<Vec<_>>(), [Position(1)]);
    assert_eq!(spool.read(Position(1), 9, usize::MAX).unwrap().pushes.len(), 5);
}

#[test]
fn a_damaged_header_costs_nothing() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..60);
    record(&spool, "crm", (1..=50).map(|p| (Position(p), DELIVERED)).collect());
    let identity = spool.identity();
    wait(spool.close());
    let names = logs(&world);
    for name in [&names[1], names.last().unwrap()] {
        world.disk.flip(name, 40);
    }
    let (spool, recovery) = world.open(&["crm"]);
    assert_eq!(recovery.damage.len(), 2);
    assert_eq!((spool.identity(), lane(&spool, "crm").next), (identity, Position(51)));
    assert_eq!(spool.read(Position(1), 99, usize::MAX).unwrap().pushes.len(), 60);
}

#[test]
fn a_segment_whose_header_is_damaged_is_read_from_outside_too() {
    let at = tempfile::tempdir().unwrap();
    let settings = Settings { max_size: 64 << 20, ..Settings::new(at.path()) };
    let lanes = [NewLane { name: "crm".into(), start: Start::Beginning }];
    let open = || Spool::<u64>::open(settings.clone(), &lanes, Box::new(|_| {})).unwrap().0;
    let spool = open();
    append(&spool, 0..4);
    wait(spool.close());
    let spool = open();
    let identity = spool.identity();
    append(&spool, 4..6);
    wait(spool.close());
    for name in ["0000000001.log", "0000000002.log"] {
        let mut bytes = std::fs::read(at.path().join(name)).unwrap();
        bytes[40] ^= 1;
        std::fs::write(at.path().join(name), bytes).unwrap();
        let reader = LogReader::open(at.path()).unwrap();
        assert!(name.contains('2') || reader.identity() == identity);
        let pushes = reader.filter(|entry| matches!(entry.as_ref().unwrap().what, Logged::Push { .. }));
        assert_eq!(pushes.count(), 6, "with {name} damaged");
    }
}

#[test]
fn a_missing_segment_is_said_and_what_was_owed_of_it_is_dead() {
    let world = World::new();
    let (spool, _) = world.open(&["crm", "late"]);
    append(&spool, 0..60);
    record(&spool, "crm", vec![(Position(60), DELIVERED)]);
    wait(spool.close());
    world.disk.lose(&logs(&world)[1]);
    let (spool, recovery) = world.open(&["crm", "late"]);
    let (first, last) = recovery.damage[0].lost.unwrap();
    let lost = last.0 - first.0 + 1;
    assert!(lost > 5);
    assert_eq!(spool.dead_letters("crm", Position(0), 99).unwrap().len() as u64, lost);
    let read = spool.read(Position(1), 99, usize::MAX).unwrap();
    assert_eq!((read.pushes.len() as u64, read.lost.len() as u64), (60 - lost, lost));
    wait(spool.close());
    let (spool, recovery) = world.open(&["crm", "late"]);
    assert!(recovery.damage.is_empty(), "it is told once");
    assert_eq!(spool.read(Position(1), 99, usize::MAX).unwrap().lost.len() as u64, lost, "and remembered");
}

#[test]
fn indexes_may_be_deleted_or_damaged() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..100);
    record(
        &spool,
        "crm",
        (1..=40).map(|p| (Position(p), if p == 7 { dead("no") } else { DELIVERED })).collect(),
    );
    append(&spool, 100..160);
    wait(spool.close());
    let indexes: Vec<String> = world.disk.names().into_iter().filter(|n| n.ends_with(".index")).collect();
    assert!(indexes.len() > 3, "{indexes:?}");
    for (n, name) in indexes.iter().enumerate() {
        match n % 2 {
            0 => world.disk.lose(name),
            _ => world.disk.flip(name, 20),
        }
    }
    let (spool, recovery) = world.open(&["crm"]);
    assert!(recovery.damage.is_empty());
    assert_eq!(spool.dead_letters("crm", Position(0), 9).unwrap()[0].reason, "no");
    assert_eq!(spool.read(Position(1), 999, usize::MAX).unwrap().pushes.len(), 160);
    assert_eq!(append(&spool, 0..160), (1..=160).map(Position).collect::<Vec<_>>(), "all are repeats");
}

#[test]
fn a_start_reads_the_log_from_the_newest_checkpoint_only() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..200);
    wait(spool.close());
    let bytes: u64 = world.disk.used();
    let (_spool, recovery) = world.open(&["crm"]);
    assert!(recovery.bytes_read < bytes / 3, "{} of {bytes}", recovery.bytes_read);
}

#[test]
fn segments_of_another_spool_are_refused() {
    let (one, other) = (World::new(), World::new());
    for world in [&one, &other] {
        let (spool, _) = world.open(&[]);
        append(&spool, 0..3);
        wait(spool.close());
    }
    let stranger = other.disk.bytes_of("0000000001.log");
    one.disk.directory().create("0000000009.log").unwrap().write_at(&stranger, 0).unwrap();
    // The number in the header is not that of the name: no header of this segment.
    let (_, recovery) = one.open(&[]);
    assert_eq!(recovery.damage[0].file, "0000000009.log");

    let (one, other) = (World::new(), World::new());
    for world in [&one, &other] {
        wait(world.open(&[]).0.close());
    }
    wait(other.open(&[]).0.close());
    let stranger = other.disk.bytes_of("0000000002.log");
    one.disk.directory().create("0000000002.log").unwrap().write_at(&stranger, 0).unwrap();
    let refused = one.open_with(&[]).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let world = World::new();
    wait(world.open(&[]).0.close());
    let file = world.disk.directory().open("0000000001.log").unwrap();
    let mut header = [0; 128];
    file.read_at(&mut header, 0).unwrap();
    header[8] = 2;
    let crc = crc32fast::hash(&header[..124]);
    header[124..].copy_from_slice(&crc.to_le_bytes());
    file.write_at(&header, 0).unwrap();
    let refused = world.open_with(&[]).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 2, supported: 1, .. }), "{refused}");
}

#[test]
fn a_body_that_looks_like_a_frame_is_none() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..3);
    let file = logs(&world).pop().unwrap();
    let bytes = world.disk.bytes_of(&file);
    // Everything from the magic on, as a body: a sender who had read our disk could do no better.
    let at = bytes.windows(4).rposition(|w| w == b"CdrF").unwrap();
    let forged = bytes[at..].to_vec();
    let mut evil = push(50);
    evil.body = forged.into();
    wait(spool.append(evil)).unwrap();
    append(&spool, 60..62);
    wait(spool.close());
    let (spool, recovery) = world.open(&["crm"]);
    assert!(recovery.damage.is_empty() && recovery.torn_bytes == 0);
    let read = spool.read(Position(1), 99, usize::MAX).unwrap();
    assert_eq!(read.pushes.iter().map(|p| p.position.0).collect::<Vec<_>>(), (1..=6).collect::<Vec<_>>());
}

#[test]
fn a_crash_at_any_change_of_the_first_start_leaves_a_spool_or_none() {
    for changes in 0..40 {
        let world = World::new();
        world.disk.cut_power_after(changes);
        let opened = world.open_with(&[]);
        if let Ok((spool, _)) = &opened {
            wait(spool.close());
        }
        drop(opened);
        world.disk.crash(&mut Chance::new(changes.into()));
        let (spool, recovery) = world.open(&["crm"]);
        assert!(recovery.damage.is_empty(), "{changes}: {recovery:?}");
        append(&spool, [1]);
        record(&spool, "crm", vec![(Position(1), Outcome::Passed)]);
    }
}

#[test]
fn a_start_goes_over_a_place_that_cannot_be_read_and_nothing_of_it_is_given_up() {
    let mut world = World::new();
    world.settings.max_size = 1 << 20;
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..12);
    record(&spool, "crm", vec![(Position(1), DELIVERED)]);
    wait(spool.close());
    world.disk.spoil(Some(("0000000001.log", 2000..2001)));
    let (spool, recovery) = world.open(&["crm"]);
    assert_eq!(recovery.damage.len(), 1, "{:?}", recovery.damage);
    assert!(spool.read(Position(1), 99, usize::MAX).is_ok_and(|read| read.next < Position(13)));
    assert!(spool.dead_letters("crm", Position(0), 99).unwrap().is_empty());
    assert_eq!(append(&spool, [12]), [Position(13)], "the door is open");
    world.disk.spoil(None);
    let read = spool.read(Position(1), 99, usize::MAX).unwrap();
    assert_eq!(
        read.pushes.iter().map(|push| push.position.0).collect::<Vec<_>>(),
        (1..=13).collect::<Vec<_>>()
    );
}

#[test]
fn an_end_that_cannot_be_read_is_not_taken_for_a_torn_write() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..3);
    let size = world.disk.bytes_of("0000000001.log").len() as u64;
    world.disk.kill();
    drop(spool);
    world.disk.spoil(Some(("0000000001.log", size - 1..size)));
    let refused = world.open_with(&[]).unwrap_err().to_string();
    assert!(refused.contains("the end of 0000000001.log cannot be read"), "{refused}");
    world.disk.spoil(None);
    let (spool, recovery) = world.open(&["crm"]);
    assert_eq!((recovery.torn_bytes, spool.read(Position(1), 9, usize::MAX).unwrap().pushes.len()), (0, 3));
}
