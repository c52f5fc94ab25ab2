//! A second look at quarantined bytes.

use cdr_core::{NotStored, Suspect};
use cdr_dispatch::quarantine::Retried;

use super::*;

/// Puts a push into quarantine, as if a reader of old had not understood it.
async fn misunderstood(dispatcher: &Dispatcher, session: &str) -> Result<Position, NotStored> {
    let Incoming { facts, body, .. } = incoming(session);
    let suspect = Suspect { facts, body, reason: "a reader of old".into() };
    Ok(dispatcher.quarantine(suspect).await?.number)
}

fn held(dispatcher: &Dispatcher) -> Vec<u64> {
    let held = dispatcher.pushes().spool().quarantined(cdr_spool::Position(0), 100).unwrap();
    held.into_iter().map(|held| held.position.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_bytes_that_are_a_push_today_are_delivered_with_the_facts_of_then() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    let number = misunderstood(&dispatcher, "late").await.unwrap();
    let Retried::Stored(stored) = dispatcher.retry_quarantine(number).await.unwrap() else { panic!() };
    assert!(!stored.repeat && stored.position != number);
    until_idle(&dispatcher).await;
    assert_eq!((sink.attempts_on("late"), held(&dispatcher)), (1, vec![]));
    let push = dispatcher.pushes().get(vec![stored.position], usize::MAX).await.remove(0).unwrap().unwrap();
    let facts = push.facts();
    assert_eq!((facts.uuid.as_deref(), facts.origin), (Some("uuid-late"), Origin::Push));
    assert_eq!(facts.sender, Some([127, 0, 0, 1].into()));
    assert_eq!(dispatcher.retry_quarantine(number).await.unwrap(), Retried::Absent);
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_bytes_that_still_are_none_stay_with_todays_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &Told::new())]));
    let mut suspect =
        Suspect { facts: incoming("x").facts, body: "[]".into(), reason: "a reader of old".into() };
    suspect.facts.sha256 = Sha256::digest(&suspect.body).into();
    let number = dispatcher.quarantine(suspect).await.unwrap().number;
    match dispatcher.retry_quarantine(number).await.unwrap() {
        Retried::Still(reason) => assert!(reason.contains("array"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(held(&dispatcher), [number.0]);
}

/// What a crash between the push and the word that it left the quarantine leaves behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_a_crash_cut_in_two_meets_a_repeat_and_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    let number = misunderstood(&dispatcher, "cut").await.unwrap();
    let first = push(&dispatcher, "cut").await;
    until_idle(&dispatcher).await;
    dispatcher.stop(Duration::from_secs(5)).await;
    drop(dispatcher);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    let Retried::Stored(stored) = dispatcher.retry_quarantine(number).await.unwrap() else { panic!() };
    assert_eq!((stored.repeat, stored.position), (true, first));
    until_idle(&dispatcher).await;
    assert_eq!((sink.attempts_on("cut"), held(&dispatcher)), (1, vec![]));
}
