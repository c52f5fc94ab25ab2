//! On the real disk: modes, the lock, a reader beside the gateway, and many appenders at once.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use cdr_spool::{LogReader, Logged, NewLane, OpenError, Outcome, Position, Settings, Spool, Start};

use crate::harness::*;
use crate::lanes::dead;

fn open(settings: &Settings) -> (Spool<u64>, cdr_spool::Recovery) {
    let lanes = [NewLane { name: "crm".into(), start: Start::Beginning }];
    Spool::open(settings.clone(), &lanes, Box::new(|_| {})).unwrap()
}

fn settings(at: &tempfile::TempDir) -> Settings {
    let mut settings = Settings::new(at.path().join("a/b/spool"));
    settings.max_size = 256 * 1024 * 1024;
    settings
}

#[test]
fn files_are_for_their_owner_only_and_the_lock_names_its_holder() {
    let at = tempfile::tempdir().unwrap();
    let settings = settings(&at);
    let (spool, _) = open(&settings);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for made in [settings.path.as_path(), settings.path.parent().unwrap()] {
        assert_eq!(mode(made), 0o700);
    }
    for entry in std::fs::read_dir(&settings.path).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let refused = Spool::<u64>::open(settings.clone(), &[], Box::new(|_| {})).unwrap_err();
    let OpenError::Locked { holder, .. } = refused else { panic!("{refused}") };
    assert_eq!(holder, format!("process {}", std::process::id()));
    wait(spool.close());
    open(&settings);
}

#[test]
fn what_many_append_at_once_is_all_there_after_a_restart() {
    let at = tempfile::tempdir().unwrap();
    let settings = settings(&at);
    let (spool, _) = open(&settings);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let spool = Arc::new(spool);
    let appenders: Vec<_> = (0..64u64)
        .map(|a| {
            let spool = spool.clone();
            runtime.spawn(async move {
                for n in 0..20 {
                    spool.append(push(a * 1000 + n)).await.unwrap();
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for appender in appenders {
            appender.await.unwrap();
        }
        spool.close().await;
    });
    assert!(spool.stats().commits <= 1280, "a commit takes all that waits");
    let (spool, recovery) = open(&settings);
    assert_eq!((recovery.end, recovery.torn_bytes, recovery.damage.len()), (Position(1281), 0, 0));
    let read = spool.read(Position(1), 5000, usize::MAX).unwrap();
    let mut bodies: Vec<_> = read.pushes.into_iter().map(|p| p.body).collect();
    let mut expected: Vec<_> = (0..64).flat_map(|a| (0..20).map(move |n| body(a * 1000 + n))).collect();
    bodies.sort();
    expected.sort();
    assert_eq!(bodies, expected);
}

#[test]
fn bad_settings_are_refused_with_the_number_that_would_do() {
    let at = tempfile::tempdir().unwrap();
    let mut settings = settings(&at);
    settings.body_limit = 5 * 1024 * 1024;
    let refused = Spool::<u64>::open(settings.clone(), &[], Box::new(|_| {})).unwrap_err().to_string();
    assert!(refused.contains("limits.body") && refused.contains("4194304"), "{refused}");
    settings.body_limit = 1024;
    settings.max_size = 1024 * 1024;
    let refused = Spool::<u64>::open(settings, &[], Box::new(|_| {})).unwrap_err().to_string();
    assert!(refused.contains("spool.max_size") && refused.contains("16777216"), "{refused}");
}

#[test]
fn a_reader_sees_everything_in_order_while_the_gateway_runs() {
    let at = tempfile::tempdir().unwrap();
    let settings = settings(&at);
    let (spool, _) = open(&settings);
    append(&spool, 0..3);
    let quarantined = wait(spool.quarantine(found(70))).unwrap();
    let retry =
        Outcome::Retry { attempts: 1, spent: Duration::from_secs(2), due_ms: 7, answer: "503".into() };
    let delivered = Outcome::Delivered { receipt: Some("HTTP 200".into()) };
    wait(spool.record(
        "crm",
        vec![(Position(1), delivered.clone()), (Position(2), retry.clone()), (Position(3), dead("no"))],
    ));
    wait(spool.reopen("crm", &[Position(3)])).unwrap();

    let reader = LogReader::open(&settings.path).unwrap();
    assert_eq!(reader.identity(), spool.identity());
    let entries: Vec<Logged> = reader.map(|entry| entry.unwrap().what).collect();
    let pushes: Vec<u64> = entries
        .iter()
        .filter_map(|e| match e {
            Logged::Push { push, carried: false } => Some(push.position.0),
            _ => None,
        })
        .collect();
    assert_eq!(pushes, [1, 2, 3]);
    assert!(entries.iter().any(
        |e| matches!(e, Logged::Quarantine { quarantine, .. } if quarantine.position == quarantined.position && quarantine.body == body(70))
    ));
    let outcomes: Vec<(u64, Outcome)> = entries
        .iter()
        .filter_map(|e| match e {
            Logged::Outcome { lane, position, outcome, .. } if lane == "crm" => {
                Some((position.0, outcome.clone()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(outcomes, [(1, delivered), (2, retry), (3, dead("no"))]);
    assert!(matches!(entries.last(), Some(Logged::Reopened { position: Position(3), .. })));

    let nothing = LogReader::open(at.path()).unwrap_err().to_string();
    assert!(nothing.contains("no spool"), "{nothing}");
}
