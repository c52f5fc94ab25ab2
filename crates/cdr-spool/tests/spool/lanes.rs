//! Lanes, outcomes, dead letters.

use std::time::Duration;

use bytes::Bytes;
use cdr_spool::{ControlError, LaneState, Memo, NewLane, Open, Outcome, Position, Spool, Start};

use crate::harness::*;

pub const DELIVERED: Outcome = Outcome::Delivered { receipt: None };

pub fn dead(reason: &str) -> Outcome {
    Outcome::Dead { reason: reason.into(), excerpt: "<html>".into(), attempts: 3 }
}

pub fn lane(spool: &Spool<u64>, name: &str) -> LaneState {
    spool.lanes().into_iter().find(|(n, _)| n == name).unwrap().1
}

/// Records and waits, without the patience that outcomes have for company.
pub fn record(spool: &Spool<u64>, lane: &str, outcomes: Vec<(Position, Outcome)>) {
    let recorded = spool.record(lane, outcomes);
    wait(spool.configured([9; 32])).ok();
    wait(recorded);
}

#[test]
fn a_lane_goes_on_where_it_was_after_a_restart() {
    let world = World::new();
    let (spool, _) = world.open(&["crm", "archive"]);
    append(&spool, 0..10);
    let retry =
        Outcome::Retry { attempts: 2, spent: Duration::from_secs(3), due_ms: 99, answer: "503".into() };
    record(
        &spool,
        "crm",
        vec![(Position(4), DELIVERED), (Position(2), retry), (Position(1), Outcome::Passed)],
    );
    let before = lane(&spool, "crm");
    assert_eq!(before.next, Position(5));
    let open = Open { attempts: 2, spent: Duration::from_secs(3), due_ms: 99, answer: "503".into() };
    assert_eq!(
        before.open.into_iter().collect::<Vec<_>>(),
        [(Position(2), open.clone()), (Position(3), Open::default())]
    );
    wait(spool.close());

    let (spool, _) = world.open(&["crm", "archive"]);
    let after = lane(&spool, "crm");
    assert_eq!((after.next, after.open.len(), &after.open[&Position(2)]), (Position(5), 2, &open));
    assert_eq!(
        lane(&spool, "archive"),
        LaneState { began: Position(1), next: Position(1), ..LaneState::default() }
    );
}

#[test]
fn an_outcome_alone_is_durable_within_its_patience() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..2);
    wait(spool.record("crm", vec![(Position(1), DELIVERED)]));
    world.disk.crash(&mut crate::disk::Chance::new(1));
    drop(spool);
    let (spool, _) = world.open(&["crm"]);
    assert_eq!(lane(&spool, "crm").next, Position(2));
}

#[test]
fn a_killed_process_forgets_no_outcome_that_was_recorded() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..2);
    let recorded = spool.record("crm", vec![(Position(1), DELIVERED)]);
    until("the outcome", || lane(&spool, "crm").next == Position(2));
    // Written, not yet synced: a write follows the change of the state at once.
    let bytes = world.disk.used();
    until("the write", || world.disk.used() > bytes || lane(&spool, "crm").next == Position(2));
    wait(recorded);
    world.disk.kill();
    drop(spool);
    let (spool, _) = world.open(&["crm"]);
    assert_eq!(lane(&spool, "crm").next, Position(2));
}

#[test]
fn a_dead_letter_waits_with_its_reason_until_a_person_decides() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..5);
    record(&spool, "crm", (1..=4).map(|p| (Position(p), dead(&format!("refused {p}")))).collect());
    record(&spool, "crm", vec![(Position(2), DELIVERED)]);
    wait(spool.close());

    let (spool, _) = world.open(&["crm"]);
    let letters = spool.dead_letters("crm", Position(0), 10).unwrap();
    assert_eq!(letters.len(), 4, "an outcome wakes no dead letter");
    assert_eq!(
        (letters[1].position, letters[1].reason.as_str(), letters[1].excerpt.as_str()),
        (Position(2), "refused 2", "<html>")
    );
    assert_eq!((letters[1].attempts, letters[1].died_at_ms), (3, 1_800_000_000_000));
    assert_eq!(spool.dead_letters("crm", Position(1), 2).unwrap()[0].position, Position(2));

    assert_eq!(wait(spool.reopen("crm", &[Position(2), Position(5)])).unwrap(), [Position(2)]);
    assert_eq!(wait(spool.discard("crm", &[Position(3)])).unwrap(), [Position(3)]);
    assert_eq!(lane(&spool, "crm").open.into_keys().collect::<Vec<_>>(), [Position(2)]);
    record(&spool, "crm", vec![(Position(2), DELIVERED)]);
    wait(spool.close());

    let (spool, _) = world.open(&["crm"]);
    let left: Vec<u64> =
        spool.dead_letters("crm", Position(0), 10).unwrap().iter().map(|l| l.position.0).collect();
    assert_eq!(left, [1, 4]);
    assert!(lane(&spool, "crm").open.is_empty());
}

#[test]
fn lanes_start_where_they_are_told_and_keep_what_they_have() {
    let world = World::new();
    let (spool, recovery) = world.open(&["first"]);
    assert_eq!(recovery.registered, ["first"]);
    for n in 0..60 {
        wait(spool.append(push_at(n, cdr_spool::clock::Clock::wall_ms(&*world.clock)))).unwrap();
        world.clock.pass(Duration::from_secs(60));
    }
    let at = 1_800_000_000_000 + 30 * 60_000;
    let lanes =
        [("now", Start::Now), ("all", Start::Beginning), ("at", Start::At(at)), ("first", Start::Now)]
            .map(|(name, start)| NewLane { name: name.into(), start });
    let mut registered = wait(spool.register_lanes(&lanes)).unwrap();
    registered.sort();
    assert_eq!(registered, ["all", "at", "now"]);
    for (name, next) in [("now", 61), ("all", 1), ("at", 31), ("first", 1)] {
        assert_eq!(lane(&spool, name).next, Position(next), "{name}");
    }
    world.disk.crash(&mut crate::disk::Chance::new(2));
    drop(spool);
    let (spool, recovery) = world.open(&["all", "at"]);
    assert!(recovery.registered.is_empty());
    assert_eq!(lane(&spool, "at").next, Position(31));
}

#[test]
fn a_renamed_lane_keeps_its_dead_letters_and_a_retired_one_is_gone() {
    let world = World::new();
    let (spool, _) = world.open(&["old", "gone"]);
    append(&spool, 0..3);
    record(&spool, "old", vec![(Position(1), dead("why"))]);
    assert_eq!(wait(spool.hand_over_lane("old", "new", Position(0), Bytes::new())).unwrap(), ["new"]);
    wait(spool.retire_lane("gone")).unwrap();
    let unknown = wait(spool.retire_lane("gone")).unwrap_err();
    assert_eq!(unknown, ControlError::UnknownLane { lane: "gone".into(), known: "new".into() });
    record(&spool, "new", vec![(Position(2), DELIVERED)]);
    record(&spool, "gone", vec![(Position(2), DELIVERED)]);
    wait(spool.close());

    let (spool, _) = world.open(&[]);
    assert_eq!(spool.lanes().len(), 1);
    assert_eq!(lane(&spool, "new").next, Position(3));
    assert_eq!(spool.dead_letters("new", Position(0), 9).unwrap()[0].reason, "why");
}

#[test]
fn a_configuration_has_a_generation_that_survives() {
    let world = World::new();
    let (spool, _) = world.open(&[]);
    assert_eq!(wait(spool.configured([1; 32])).unwrap(), 1);
    assert_eq!(wait(spool.configured([1; 32])).unwrap(), 1);
    assert_eq!(wait(spool.configured([2; 32])).unwrap(), 2);
    wait(spool.close());
    let (spool, _) = world.open(&[]);
    assert_eq!(wait(spool.configured([2; 32])).unwrap(), 2);
    assert_eq!(wait(spool.configured([1; 32])).unwrap(), 3);
}

#[test]
fn a_closed_spool_takes_nothing_and_can_be_read() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..3);
    wait(spool.close());
    assert_eq!(wait(spool.append(push(9))), Err(cdr_spool::AppendError::Stopping));
    assert_eq!(wait(spool.retire_lane("crm")), Err(ControlError::Stopping));
    wait(spool.record("crm", vec![(Position(1), DELIVERED)]));
    assert_eq!(spool.get(Position(1)).unwrap().unwrap().body, body(0));
}

#[test]
fn outcomes_that_wait_when_their_segment_ends_by_age_are_answered() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..2);
    world.clock.pass(Duration::from_secs(2 * 24 * 3600));
    let recorded = spool.record("crm", vec![(Position(1), DELIVERED)]);
    until("the next segment", || spool.stats().segments > 1);
    wait(async { tokio::time::timeout(Duration::from_secs(10), recorded).await }).unwrap();
}

/// A lane that gives up a backlog leaves thousands in one frame.
#[test]
fn dead_letters_cost_a_read_for_each_frame_and_not_for_each_letter() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..60);
    record(&spool, "crm", (1..=60).map(|p| (Position(p), dead(&format!("reason {p}")))).collect());
    let reads = |max: usize| {
        let before = world.disk.reads();
        let letters = spool.dead_letters("crm", Position(0), max).unwrap();
        assert!(letters.iter().all(|letter| letter.reason == format!("reason {}", letter.position)));
        assert_eq!(letters.len(), max);
        world.disk.reads() - before
    };
    assert_eq!(reads(60), reads(1));
}

#[test]
fn a_memo_is_there_with_its_outcomes_or_not_at_all() {
    let memo = |key: &str, bytes: &'static [u8]| Memo { key: key.into(), bytes: Bytes::from_static(bytes) };
    for seed in 0..30 {
        let world = World::new();
        let (spool, _) = world.open(&["crm"]);
        append(&spool, 0..3);
        world.disk.cut_power_after(seed % 6);
        let told = vec![memo("busy", b"1"), memo("error", b"7")];
        drop(spool.record_with_memos("crm", vec![(Position(1), DELIVERED)], told));
        wait(spool.configured([9; 32])).ok();
        world.disk.crash(&mut crate::disk::Chance::new(seed.into()));
        drop(spool);
        let (spool, _) = world.open(&["crm"]);
        let LaneState { next, memos, .. } = lane(&spool, "crm");
        let expected = if next == Position(2) { 2 } else { 0 };
        assert_eq!(memos.len(), expected, "{next}: {memos:?}");
    }
}

#[test]
fn a_memo_is_replaced_forgotten_and_outlives_its_segment_and_a_rename() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..3);
    let note = |spool: &Spool<u64>, lane: &str, key: &str, bytes: Bytes| {
        let noted = spool.record_with_memos(lane, Vec::new(), vec![Memo { key: key.into(), bytes }]);
        wait(spool.configured([9; 32])).ok();
        wait(noted);
    };
    note(&spool, "crm", "busy", Bytes::from_static(b"1"));
    note(&spool, "crm", "busy", Bytes::from_static(b"2"));
    note(&spool, "crm", "error", Bytes::from_static(b"3"));
    note(&spool, "crm", "error", Bytes::new());
    note(&spool, "crm", "long", Bytes::from(vec![0; Memo::BYTES + 1]));
    note(&spool, "nobody", "busy", Bytes::from_static(b"1"));
    (0..Memo::MOST + 1).for_each(|n| note(&spool, "crm", &format!("more {n}"), Bytes::from_static(b"x")));
    assert_eq!(lane(&spool, "crm").memos.len(), Memo::MOST);
    wait(spool.hand_over_lane("crm", "sales", Position(0), Bytes::new())).unwrap();
    wait(spool.close());
    let (spool, _) = world.open(&["sales"]);
    let memos = lane(&spool, "sales").memos;
    assert_eq!((memos.len(), memos.get("busy")), (Memo::MOST, Some(&Bytes::from_static(b"2"))));
}

#[test]
fn a_memo_that_takes_the_place_of_another_on_a_full_lane_is_there_after_a_start() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    let memo = |key: String, bytes: &'static [u8]| Memo { key, bytes: Bytes::from_static(bytes) };
    let note = |memos: Vec<Memo>| {
        let noted = spool.record_with_memos("crm", Vec::new(), memos);
        wait(spool.configured([9; 32])).ok();
        wait(noted);
    };
    note((0..Memo::MOST).map(|n| memo(format!("z {n}"), b"x")).collect());
    note(vec![memo("z 7".into(), b""), memo("a".into(), b"y")]);
    let before = lane(&spool, "crm").memos;
    assert!(before.contains_key("a"));
    world.disk.kill();
    let (spool, _) = world.open(&["crm"]);
    assert!(lane(&spool, "crm").memos == before, "a memo is lost");
}

#[test]
fn a_memo_is_there_with_its_dead_letter_or_not_at_all_also_when_a_segment_ends_between() {
    let mut written = 0;
    for changes in 0..12 {
        let world = World::new();
        let (spool, _) = world.open(&["crm"]);
        append(&spool, 0..3);
        // Two of these do not fit into one segment.
        let long = "-".repeat(SEGMENT as usize * 2 / 3);
        record(&spool, "crm", vec![(Position(1), dead(&long))]);
        world.disk.cut_power_after(changes);
        let memo = Memo { key: "busy".into(), bytes: Bytes::from_static(b"1") };
        drop(spool.record_with_memos("crm", vec![(Position(2), dead(&long))], vec![memo]));
        wait(spool.configured([9; 32])).ok();
        world.disk.crash(&mut crate::disk::Chance::new(changes.into()));
        drop(spool);
        let (spool, _) = world.open(&["crm"]);
        let is_dead = spool.count_dead_letters("crm") == 2;
        assert_eq!(!lane(&spool, "crm").memos.is_empty(), is_dead, "after {changes} changes");
        written += u32::from(is_dead);
    }
    assert!((1..12).contains(&written), "{written} of 12");
}
