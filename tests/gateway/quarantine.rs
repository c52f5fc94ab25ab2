//! `quarantine retry`: what is a push by today's reader becomes one.

use cdr_core::Suspect;
use cdr_spool::{Settings, Spool};
use cdr_tests::{Process, cli, facts};
use serde_json::{Value, json};

use super::{ask, call, configuration, files};

/// A spool whose quarantine holds a call, as a gateway left it that did not understand it; and one more thing.
async fn old_spool(folder: &std::path::Path) {
    let path = folder.join("data/spool");
    let settings = Settings { max_size: 256 << 20, ..Settings::new(path) };
    let (spool, _) = Spool::<()>::open(settings, &[], Box::new(|_| {})).unwrap();
    for body in [call("understood-at-last", "ok"), "never a push".to_owned()] {
        let facts = facts("cdr", body.as_bytes());
        let suspect = Suspect { facts, body: body.into(), reason: "a reader of old".into() };
        spool.quarantine(cdr_dispatch::stored::to_quarantine(suspect)).await.unwrap();
    }
    spool.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_push_today_leaves_the_quarantine_and_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    old_spool(folder.path()).await;
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    let retried = ask(&gateway, &["quarantine", "retry", "--all"], &[]);
    assert_eq!(retried.code, Some(1), "one stayed, and a script should hear of it");
    assert_eq!(retried.stderr, "1 stored as pushes, 1 not\n");
    assert!(retried.stdout.contains("1 is push 3 now\n"), "{}", retried.stdout);
    assert!(
        retried.stdout.contains("2 still is no push: the body is not a JSON object"),
        "{}",
        retried.stdout
    );
    cdr_tests::until("it is archived", || {
        let archived = files(&folder.path().join("data/archive"), ".json");
        archived.contains(&call("understood-at-last", "ok").into_bytes()).then_some(())
    });
    let left = ask(&gateway, &["quarantine", "list", "--format", "json"], &[]).stdout;
    assert!(left.lines().count() == 1 && left.contains(r#""number":2"#), "{left}");
    let again = ask(&gateway, &["quarantine", "retry", "1"], &[]);
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), "nothing lies in quarantine under 1\n"));
    let answer = gateway.ask("POST", "/api/v1/quarantine/retry");
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[test]
fn numbers_or_all_must_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    gateway.push("cdr", b"one", None);
    gateway.push("cdr", b"two", None);
    for verb in ["retry", "discard"] {
        assert_eq!(ask(&gateway, &["quarantine", verb], &[]).code, Some(2));
    }
    let shown = ask(&gateway, &["quarantine", "show", "2", "--raw"], &[]);
    assert_eq!(shown.bytes, b"two");
    assert_eq!(ask(&gateway, &["quarantine", "discard", "--all"], &[]).stdout, "2 discarded\n");
    let json = ask(&gateway, &["quarantine", "retry", "1", "--format", "json"], &[]).stdout;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), json!({ "number": 1 }));
}

#[test]
fn the_list_is_the_same_with_the_catalog_and_without() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    // More than are read at once.
    for number in 0..40 {
        assert_eq!(gateway.push("cdr", format!("no push {number}").as_bytes(), None).err_code(), 400);
    }
    let discarded = ask(&gateway, &["quarantine", "discard", "7", "40"], &[]);
    assert_eq!(discarded.stdout, "2 discarded\n");
    assert_eq!(gateway.terminate(), Some(0));
    let told = |arguments: &[&str]| cli(folder.path(), &[&["quarantine"], arguments].concat(), &[]);
    let both = || [told(&["list"]), told(&["list", "--format", "json"]), told(&["show", "8", "--raw"])];
    let with = both();
    assert_eq!(with[0].stderr, "38 in quarantine\n");
    let of = |line: &str| serde_json::from_str::<Value>(line).unwrap()["number"].as_u64().unwrap();
    let numbers: Vec<u64> = with[1].stdout.lines().map(of).collect();
    assert_eq!(numbers, (1..=39).filter(|number| *number != 7).collect::<Vec<_>>());
    assert_eq!(with[2].bytes, b"no push 7");
    let gone = told(&["show", "7"]);
    assert!(gone.code == Some(1) && gone.stderr.contains("nothing lies in quarantine under 7"));
    std::fs::remove_file(folder.path().join("data/spool/catalog.sqlite")).unwrap();
    for (with, without) in with.iter().zip(both()) {
        assert!(without.stderr.contains("the catalog is not used"), "{}", without.stderr);
        assert_eq!(without.bytes, with.bytes);
    }
}
