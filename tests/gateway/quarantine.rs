//! `quarantine retry`: what is a push by today's reader becomes one.

use cdr_core::Suspect;
use cdr_spool::{Settings, Spool};
use cdr_tests::{Process, facts};
use serde_json::json;

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
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), json!({ "number": 1 }));
}
