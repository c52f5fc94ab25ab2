//! A reader that follows the log beside the gateway that writes it, and over its restarts.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use cdr_spool::clock::{Clock, SystemClock};
use cdr_spool::disk::RealDirectory;
use cdr_spool::{Ground, LogReader, Logged, NewLane, Position, Settings, Spool, Start};

use crate::harness::*;
use crate::lanes::{DELIVERED, dead, record};

fn open(at: &tempfile::TempDir) -> Spool<u64> {
    open_by(at, Arc::new(SystemClock::start()))
}

fn open_by(at: &tempfile::TempDir, clock: Arc<dyn Clock>) -> Spool<u64> {
    let mut settings = Settings::new(at.path());
    settings.max_size = 64 * SEGMENT;
    settings.body_limit = SEGMENT / 4;
    let directory = Arc::new(RealDirectory::create(at.path()).unwrap());
    let ground = Ground { directory, clock, segment_size: Some(SEGMENT) };
    let lanes = [NewLane { name: "crm".into(), start: Start::Beginning }];
    Spool::open_on(ground, settings, &lanes, Box::new(|_| {})).unwrap().0
}

/// The positions of the pushes that the reader finds before its end.
fn pushes(reader: &mut LogReader) -> Vec<u64> {
    let position = |entry: Logged| match entry {
        Logged::Push { push, carried: false } => Some(push.position.0),
        _ => None,
    };
    reader.by_ref().filter_map(|entry| position(entry.unwrap().what)).collect()
}

fn files(at: &tempfile::TempDir) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(at.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    logs
}

#[test]
fn what_is_written_after_the_end_is_read_once_and_in_order_over_segments_and_restarts() {
    let at = tempfile::tempdir().unwrap();
    let spool = open(&at);
    append(&spool, 0..3);
    let mut reader = LogReader::open(at.path()).unwrap();
    assert_eq!(pushes(&mut reader), [1, 2, 3]);
    assert!(!reader.catch_up().unwrap());
    assert_eq!(pushes(&mut reader), []);
    append(&spool, 3..4);
    assert!(reader.catch_up().unwrap());
    assert_eq!(pushes(&mut reader), [4]);
    let before = files(&at).len();
    append(&spool, 4..100);
    assert!(files(&at).len() > before + 2, "it takes several segments");
    assert!(reader.catch_up().unwrap());
    assert_eq!(pushes(&mut reader), (5..=100).collect::<Vec<_>>());
    wait(spool.close());
    drop(spool);
    let spool = open(&at);
    append(&spool, 100..103);
    assert!(reader.catch_up().unwrap());
    assert_eq!(pushes(&mut reader), [101, 102, 103]);
}

#[test]
fn a_write_that_a_crash_tore_is_neither_read_nor_waited_for() {
    let at = tempfile::tempdir().unwrap();
    let spool = open(&at);
    append(&spool, 0..3);
    let mut reader = LogReader::open(at.path()).unwrap();
    assert_eq!(pushes(&mut reader), [1, 2, 3]);
    wait(spool.close());
    drop(spool);
    let last = files(&at).pop().unwrap();
    let written = std::fs::read(&last).unwrap();
    std::fs::OpenOptions::new().append(true).open(&last).unwrap().write_all(&written[128..200]).unwrap();
    assert!(reader.catch_up().unwrap());
    assert_eq!(pushes(&mut reader), []);
    let spool = open(&at);
    let positions: Vec<u64> = append(&spool, 3..5).into_iter().map(|position| position.0).collect();
    assert!(reader.catch_up().unwrap());
    assert_eq!(pushes(&mut reader), positions);
}

#[test]
fn a_reader_from_a_time_on_leaves_older_segments_alone() {
    let at = tempfile::tempdir().unwrap();
    let spool = open(&at);
    append(&spool, 0..100);
    let all = pushes(&mut LogReader::open_since(at.path(), 0).unwrap());
    let late = pushes(&mut LogReader::open_since(at.path(), i64::MAX).unwrap());
    assert_eq!(all.len(), 100);
    assert!(!late.is_empty() && late.len() < 30, "{late:?}");
    assert!(all.ends_with(&late));
}

#[test]
fn what_a_segment_got_since_is_read_though_its_successor_went() {
    let at = tempfile::tempdir().unwrap();
    let spool = open(&at);
    append(&spool, 0..3);
    let mut reader = LogReader::open(at.path()).unwrap();
    assert_eq!(pushes(&mut reader), [1, 2, 3]);
    append(&spool, 3..60);
    let logs = files(&at);
    assert!(logs.len() > 3, "it takes several segments");
    std::fs::remove_file(&logs[1]).unwrap();
    let mut expected = pushes(&mut LogReader::open(at.path()).unwrap());
    expected.retain(|position| *position > 3);
    assert!(expected.contains(&4) && !expected.is_sorted_by(|a, b| a + 1 == *b), "{expected:?}");
    assert!(reader.catch_up().unwrap());
    assert_eq!(pushes(&mut reader), expected);
}

/// Retention takes every segment that the reader has in line, and what is needed of them into one that it does not know.
#[test]
fn what_is_carried_out_of_a_segment_before_its_turn_is_read_all_the_same() {
    for entries_before in [0, 1] {
        let at = tempfile::tempdir().unwrap();
        let clock = TestClock::start();
        let spool = open_by(&at, clock.clone());
        append(&spool, 0..90);
        let outcome = |p| if p == 2 || p == 60 { dead("422") } else { DELIVERED };
        record(&spool, "crm", (1..=90).map(|p| (Position(p), outcome(p))).collect());
        let mut reader = LogReader::open(at.path()).unwrap();
        reader.by_ref().take(entries_before).for_each(|entry| drop(entry.unwrap()));
        clock.pass(Duration::from_secs(9 * 24 * 3600));
        poke(&spool);
        assert_eq!(spool.stats().carried, 2);
        append(&spool, [90]);
        let position = |entry: Logged| match entry {
            Logged::Push { push, carried } => Some((push.position.0, carried)),
            _ => None,
        };
        let mut read: Vec<_> = reader.by_ref().filter_map(|entry| position(entry.unwrap().what)).collect();
        read.retain(|(position, _)| [2, 60, 90, 91].contains(position));
        // The segment that it has begun it reads to its end.
        let begun = [(2, false)];
        let expected = [&begun[..entries_before], &[(2, true), (60, true), (91, false)]].concat();
        assert_eq!(read, expected);
        assert!(!reader.catch_up().unwrap(), "nothing comes twice");
    }
}

#[test]
fn a_newest_segment_whose_beginning_is_damaged_is_read_behind_it() {
    let at = tempfile::tempdir().unwrap();
    let spool = open(&at);
    append(&spool, 0..30);
    wait(spool.close());
    let newest = files(&at).pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    // The header, and the checkpoint behind it.
    bytes[..200].fill(0);
    std::fs::write(&newest, bytes).unwrap();
    let position = |what| match what {
        Logged::Push { push, .. } => Some(push.position.0),
        _ => None,
    };
    let (read, damaged): (Vec<_>, Vec<_>) = LogReader::open(at.path()).unwrap().partition(Result::is_ok);
    let read: Vec<u64> = read.into_iter().filter_map(|entry| position(entry.unwrap().what)).collect();
    assert_eq!(read, (1..=30).collect::<Vec<_>>());
    assert!(!damaged.is_empty(), "it is said");
}
