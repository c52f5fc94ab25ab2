//! A reader that follows the log beside the gateway that writes it, and over its restarts.

use std::io::Write as _;
use std::sync::Arc;

use cdr_spool::clock::SystemClock;
use cdr_spool::disk::RealDirectory;
use cdr_spool::{Ground, LogReader, Logged, NewLane, Settings, Spool, Start};

use crate::harness::*;

fn open(at: &tempfile::TempDir) -> Spool<u64> {
    let mut settings = Settings::new(at.path());
    settings.max_size = 64 * SEGMENT;
    settings.body_limit = SEGMENT / 4;
    let directory = Arc::new(RealDirectory::create(at.path()).unwrap());
    let clock = Arc::new(SystemClock::start());
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
