//! Temporary lanes: what a renamed sink left, and what is read once more.

use std::time::Duration;

use bytes::Bytes;
use cdr_spool::{ControlError, Errand, LaneState, LogReader, Logged, NewLane, Position, Spool, Start};

use crate::disk::Chance;
use crate::harness::*;
use crate::lanes::{DELIVERED, dead, lane, record};
use crate::seals::seal_of;

fn delivered(positions: impl IntoIterator<Item = u64>) -> Vec<(Position, cdr_spool::Outcome)> {
    positions.into_iter().map(|p| (Position(p), DELIVERED)).collect()
}

/// A lane that begins with the next push.
fn register(spool: &Spool<u64>, name: &str) {
    wait(spool.register_lanes(&[NewLane { name: name.into(), start: Start::Now }])).unwrap();
}

fn hand_over(spool: &Spool<u64>, old: &str, new: &str) -> Vec<String> {
    wait(spool.hand_over_lane(old, new, Position(0), Bytes::from_static(b"facts"))).unwrap()
}

fn begin(spool: &Spool<u64>, from_ms: Option<i64>, to_ms: Option<i64>) -> String {
    wait(spool.begin_errand("crm", (from_ms, to_ms), Bytes::from_static(b"facts"))).unwrap()
}

/// What a lane owes, read or not.
fn owes(spool: &Spool<u64>, name: &str) -> Vec<u64> {
    let LaneState { next, open, .. } = lane(spool, name);
    let until = lane(spool, name).ends().min(spool.end());
    open.into_keys().map(|p| p.0).chain(next.0..until.0).collect()
}

#[test]
fn what_a_renamed_lane_owes_ends_where_the_new_one_began() {
    let world = World::new();
    let (spool, _) = world.open(&["old"]);
    append(&spool, 0..10);
    record(&spool, "old", vec![(Position(2), dead("why"))]);
    wait(spool.seal("old", seal_of([4, 5]))).unwrap();
    register(&spool, "new");
    append(&spool, 10..15);
    record(&spool, "new", delivered([11, 13]));
    assert_eq!(hand_over(&spool, "old", "new"), ["new~0"]);
    let check = |spool: &Spool<u64>| {
        assert_eq!(owes(spool, "new~0"), [1, 3, 4, 5, 6, 7, 8, 9, 10], "and not what the new one closed");
        assert_eq!(owes(spool, "new"), [12, 14, 15]);
        let left = lane(spool, "new~0");
        let facts = Bytes::from_static(b"facts");
        assert_eq!(left.errand, Some(Errand { sink: "new".into(), until: Position(11), facts }));
        assert_eq!(left.seals, [seal_of([4, 5])]);
        assert_eq!(spool.dead_letters("new~0", Position(0), 9).unwrap()[0].reason, "why");
    };
    check(&spool);
    world.disk.crash(&mut Chance::new(3));
    drop(spool);
    let (spool, recovery) = world.open(&["new"]);
    assert!(recovery.registered.is_empty());
    check(&spool);
    wait(spool.close());
    let (spool, _) = world.open(&["new"]);
    check(&spool);
}

#[test]
fn what_was_read_behind_the_end_and_never_tried_is_the_new_lanes() {
    let world = World::new();
    let (spool, _) = world.open(&["old"]);
    append(&spool, 0..3);
    register(&spool, "new");
    append(&spool, 3..9);
    let retry =
        cdr_spool::Outcome::Retry { attempts: 1, spent: Duration::ZERO, due_ms: 0, answer: "503".into() };
    // 1 to 4 and 6 are read and untouched, 5 was tried, 7 and 8 are sealed, 9 is not read.
    record(&spool, "old", vec![(Position(5), retry)]);
    wait(spool.seal("old", seal_of([7, 8]))).unwrap();
    hand_over(&spool, "old", "new");
    assert_eq!(owes(&spool, "new~0"), [1, 2, 3, 5, 7, 8]);
    assert_eq!(owes(&spool, "new"), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn errands_follow_their_sink_to_another_name_and_go_with_it() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..3);
    assert_eq!(begin(&spool, None, None), "crm~1");
    assert_eq!(hand_over(&spool, "crm", "other"), ["other", "other~1"]);
    assert_eq!(lane(&spool, "other~1").errand.unwrap().until, Position(4));
    register(&spool, "third");
    let same = wait(spool.hand_over_lane("other", "other", Position(0), Bytes::new())).unwrap_err();
    assert_eq!(same, ControlError::LaneExists { lane: "other".into() });
    hand_over(&spool, "other", "third");
    let names = |spool: &Spool<u64>| spool.lanes().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&spool), ["third", "third~0", "third~1"]);
    assert!(matches!(
        wait(spool.hand_over_lane("other", "third", Position(0), Bytes::new())),
        Err(ControlError::UnknownLane { .. })
    ));
    wait(spool.retire_lane("third~0")).unwrap();
    assert_eq!(names(&spool), ["third", "third~1"]);
    wait(spool.retire_lane("third")).unwrap();
    assert_eq!(names(&spool), [""; 0]);
    // A number is never given twice, so the name is not, either.
    assert_eq!(begin(&spool, None, None), "crm~3");
}

#[test]
fn an_errand_covers_what_arrived_in_its_time_and_little_more() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    let now = || cdr_spool::clock::Clock::wall_ms(&*world.clock);
    let start = now();
    for n in 0..200 {
        wait(spool.append(push_at(n, now()))).unwrap();
        world.clock.pass(Duration::from_secs(900));
    }
    assert!(spool.stats().segments > 8);
    let hour = 3_600_000;
    let cover = |from: Option<i64>, to: Option<i64>| {
        let state =
            lane(&spool, &begin(&spool, from.map(|h| start + h * hour), to.map(|h| start + h * hour)));
        (state.next.0, state.ends().0)
    };
    assert_eq!(cover(None, None), (1, 201));
    let (next, until) = cover(Some(20), Some(30));
    assert!(next <= 81 && until >= 121, "four pushes an hour: {next} to {until}");
    assert!(next > 30 && until < 170, "not much more: {next} to {until}");
    assert_eq!(cover(Some(100), None), (201, 201));
    assert_eq!(cover(None, Some(-9)), (1, 1));
}

#[test]
fn pushes_stay_while_an_errand_has_not_read_them_and_go_when_it_has() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..60);
    record(&spool, "crm", delivered(1..=60));
    let errand = begin(&spool, None, None);
    append(&spool, 60..120);
    record(&spool, "crm", delivered(61..=120));
    world.clock.pass(Duration::from_secs(30 * 24 * 3600));
    poke(&spool);
    assert!(spool.get(Position(1)).unwrap().is_some(), "the errand has not read it");
    assert_eq!(spool.holders()[0].lane, errand);
    record(&spool, &errand, delivered(1..=60));
    until("the segments went", || {
        poke(&spool);
        spool.get(Position(1)).unwrap().is_none()
    });
    assert_eq!(lane(&spool, &errand).next, Position(61));
    assert!(spool.get(Position(119)).unwrap().is_none(), "what comes behind its end it does not hold");
}

#[test]
fn the_reader_beside_it_tells_of_errands() {
    let folder = tempfile::tempdir().unwrap();
    let settings = cdr_spool::Settings { max_size: 64 << 20, ..cdr_spool::Settings::new(folder.path()) };
    let lanes = [NewLane { name: "crm".into(), start: Start::Beginning }];
    let (spool, _) = Spool::<u64>::open(settings, &lanes, Box::new(drop)).unwrap();
    let name = begin(&spool, None, None);
    let told = LogReader::open(folder.path()).unwrap().find_map(|entry| match entry.unwrap().what {
        Logged::LaneErrand { number, name, errand, .. } => Some((number, name, errand.sink)),
        _ => None,
    });
    assert_eq!(told, Some((1, name, "crm".into())));
}

fn set_aside(spool: &Spool<u64>, from: u64) -> Option<Position> {
    wait(spool.set_aside("crm", Position(from), Bytes::from_static(b"facts"))).unwrap()
}

#[test]
fn what_is_set_aside_is_owed_by_an_errand_and_what_was_read_stays() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..20);
    // 1 is a dead letter, 2 delivered, 3 and 4 read and untouched.
    record(&spool, "crm", [vec![(Position(1), dead("why"))], delivered([2])].concat());
    assert_eq!(set_aside(&spool, 5), Some(Position(21)));
    append(&spool, 20..23);
    record(&spool, "crm", delivered([22]));
    record(&spool, "crm~1", delivered([5, 6]));
    let check = |spool: &Spool<u64>| {
        assert_eq!(owes(spool, "crm"), [3, 4, 21, 23]);
        assert_eq!(owes(spool, "crm~1"), (7..21).collect::<Vec<_>>());
        assert_eq!(lane(spool, "crm").began, Position(1), "it is the lane that it was");
        assert_eq!(spool.dead_letters("crm", Position(0), 9).unwrap()[0].reason, "why");
    };
    check(&spool);
    world.disk.crash(&mut Chance::new(3));
    drop(spool);
    let (spool, _) = world.open(&["crm"]);
    check(&spool);
    wait(spool.close());
    let (spool, _) = world.open(&["crm"]);
    check(&spool);
    assert_eq!(set_aside(&spool, 24), None, "everything is read");
    assert_eq!(hand_over(&spool, "crm", "other"), ["other", "other~1"]);
    let unknown = wait(spool.set_aside("crm", Position(0), Bytes::new()));
    assert!(matches!(unknown, Err(ControlError::UnknownLane { .. })), "{unknown:?}");
}

#[test]
fn a_set_aside_that_the_disk_refuses_changes_nothing() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..9);
    world.disk.fail_syncs(1);
    assert!(wait(spool.set_aside("crm", Position(4), Bytes::new())).is_err());
    assert_eq!(owes(&spool, "crm"), (1..10).collect::<Vec<_>>());
    assert_eq!(spool.lanes().len(), 1);
}
