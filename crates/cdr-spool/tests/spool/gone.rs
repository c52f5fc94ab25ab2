//! A directory that is moved away or removed while the spool writes into it: open files take bytes and syncs as before, and no
//! start finds them.

use std::fs;
use std::time::Duration;

use cdr_spool::{AppendError, Health, NewLane, Position, Settings, Spool, Start};

use crate::harness::*;
use crate::lanes::{DELIVERED, lane};

const LONG: Duration = Duration::from_secs(60);

fn reason(spool: &Spool<u64>) -> String {
    match spool.health() {
        Health::Failing { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

fn refused(spool: &Spool<u64>, n: u64) -> String {
    match wait(spool.append(push(n))) {
        Err(AppendError::Failing { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_that_was_moved_away_takes_no_push_and_goes_on_when_it_is_back() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..5);
    world.disk.move_away();
    assert!(refused(&spool, 5).contains("moved away"));
    let recorded = spool.record("crm", vec![(Position(1), DELIVERED)]);
    world.clock.pass(LONG);
    poke(&spool);
    assert!(reason(&spool).contains("Put it back"), "{}", reason(&spool));
    assert_eq!(spool.read(Position(1), 9, usize::MAX).unwrap().pushes.len(), 5, "what is open is still read");

    // An empty one at its place, as under a file system that is not mounted, is not it.
    world.disk.make_another();
    world.clock.pass(LONG);
    poke(&spool);
    assert!(reason(&spool).contains("not the directory that was opened"), "{}", reason(&spool));
    assert_eq!(world.disk.names(), Vec::<String>::new(), "nothing is begun in somebody else's directory");

    world.disk.move_back();
    world.clock.pass(LONG);
    poke(&spool);
    assert_eq!(spool.health(), Health::Ok);
    wait(recorded);
    append(&spool, [5]);
    wait(spool.close());
    let (spool, recovery) = world.open(&["crm"]);
    assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
    assert_eq!(spool.read(Position(1), 9, usize::MAX).unwrap().pushes.len(), 6);
    assert_eq!(lane(&spool, "crm").next, Position(2));
}

#[test]
fn somebody_hears_of_a_directory_that_is_gone_before_the_next_push() {
    let world = World::new();
    world.clock.freeze();
    let (spool, _) = world.open(&["crm"]);
    world.disk.move_away();
    world.clock.pass(Duration::from_secs(6));
    poke(&spool);
    assert!(reason(&spool).contains("moved away"), "{}", reason(&spool));
}

#[test]
fn outcomes_are_not_durable_in_a_file_that_has_no_name() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..3);
    world.disk.move_away();
    let mut recorded = Box::pin(spool.record("crm", vec![(Position(1), DELIVERED)]));
    until("the failure", || matches!(spool.health(), Health::Failing { .. }));
    let waits = wait(async { tokio::time::timeout(Duration::from_millis(1), &mut recorded).await.is_err() });
    assert!(waits, "its deliveries are not forgotten");
    world.disk.move_back();
    world.clock.pass(LONG);
    wait(recorded);
}

/// The same on the real disk, where it is `mv`, `rm -r` and `mkdir`.
#[test]
fn the_real_directory_is_missed_too() {
    let at = tempfile::tempdir().unwrap();
    let settings = Settings { max_size: 256 << 20, ..Settings::new(at.path().join("spool")) };
    let lanes = [NewLane { name: "crm".into(), start: Start::Beginning }];
    let (spool, _) = Spool::<u64>::open(settings.clone(), &lanes, Box::new(|_| {})).unwrap();
    append(&spool, 0..3);

    let elsewhere = at.path().join("elsewhere");
    fs::rename(&settings.path, &elsewhere).unwrap();
    assert!(refused(&spool, 3).contains("moved away"));
    fs::create_dir(&settings.path).unwrap();
    until("another directory is not taken for it", || {
        reason(&spool).contains("not the directory that was opened")
    });
    assert_eq!(fs::read_dir(&settings.path).unwrap().count(), 0);
    fs::remove_dir(&settings.path).unwrap();
    fs::rename(&elsewhere, &settings.path).unwrap();
    until("it goes on", || spool.health() == Health::Ok);
    append(&spool, [3]);

    // Only its newest segment: a new one is begun, and who reads the old one still has it open.
    let newest = fs::read_dir(&settings.path).unwrap().map(|file| file.unwrap().path());
    let newest = newest.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    fs::remove_file(newest).unwrap();
    assert!(refused(&spool, 4).contains("was removed"));
    until("it goes on", || spool.health() == Health::Ok);
    append(&spool, [4]);
    assert_eq!(spool.read(Position(1), 9, usize::MAX).unwrap().pushes.len(), 5);

    fs::remove_dir_all(&settings.path).unwrap();
    assert!(refused(&spool, 5).contains("was removed"));
}
