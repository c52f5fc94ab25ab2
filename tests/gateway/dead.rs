//! `dead`: which dead letters there are, by what is asked, and what is decided about them.

use std::path::Path;

use bytes::Bytes;
use cdr_core::Incoming;
use cdr_simulator::crm::{Behaviour, Crm};
use cdr_spool::{NewLane, Outcome, Settings, Spool, Start};
use cdr_tests::{Process, cli, facts, until};
use futures_util::future::join_all;
use serde_json::Value;

use super::{ask, call, configuration};

/// The JSON lines of a list.
fn list(gateway: &Process, arguments: &[&str]) -> Vec<Value> {
    let listed = ask(gateway, &[&["dead", "list", "--format", "json"], arguments].concat(), &[]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sessions(letters: &[Value]) -> Vec<&str> {
    letters.iter().map(|letter| letter["session_id"].as_str().unwrap()).collect()
}

/// A gateway that gave up two sessions for one reason and one for another.
async fn three_dead(folder: &Path, crm: &Crm) -> Process {
    let mut settings = configuration(&crm.url());
    settings["routes"][2]["when"] = r#"action == "cdr""#.into();
    let gateway = Process::start(folder, &settings.to_string());
    crm.behave(Behaviour::status(422).body("no such owner"));
    gateway.push("cdr", call("one", "ok").as_bytes(), None);
    gateway.push("cdr", call("two", "busy").as_bytes(), None);
    gateway.until_delivered();
    crm.behave(Behaviour::status(413));
    gateway.push("cdr", call("three", "ok").as_bytes(), None);
    gateway.until_delivered();
    gateway
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_found_by_sink_reason_age_number_and_expression() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = three_dead(folder.path(), &crm).await;
    let found = |arguments: &[&str]| {
        let letters = list(&gateway, arguments);
        sessions(&letters).join(" ")
    };
    assert_eq!(found(&[]), "one two three");
    assert_eq!(found(&["--sink", "crm"]), "one two three");
    assert_eq!(found(&["--sink", "archive"]), "");
    assert_eq!(found(&["--reason", "unprocessable"]), "one two");
    assert_eq!(found(&["--where", r#"EndStatusString == "busy""#]), "two");
    assert_eq!(found(&["--older-than", "1h"]), "");
    assert_eq!(found(&["--newer-than", "1h"]), "one two three");
    assert_eq!(found(&["1", "3", "77"]), "one three");
    let summary = ask(&gateway, &["dead", "list", "--summary"], &[]);
    let counted = |count: &str, reason: &str| {
        let has = |line: &str| line.split_whitespace().nth(1) == Some(count) && line.contains(reason);
        assert!(summary.stdout.lines().any(has), "{count} {reason} in {}", summary.stdout);
    };
    counted("2", "422");
    counted("1", "413");
    let unknown = ask(&gateway, &["dead", "list", "--sink", "cmr"], &[]);
    assert!(
        unknown.code == Some(1) && unknown.stderr.contains("did you mean \"crm\"?"),
        "{}",
        unknown.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_gateway_tells_the_same_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = three_dead(folder.path(), &crm).await;
    let asked: [&[&str]; 3] = [&[], &["--reason", "422"], &["--where", r#"EndStatusString == "ok""#]];
    let running: Vec<_> = asked.iter().map(|arguments| list(&gateway, arguments)).collect();
    assert_eq!(running[2].len(), 2);
    assert_eq!(gateway.terminate(), Some(0));
    for (arguments, running) in asked.iter().zip(running) {
        let stopped = [&["dead", "list", "--format", "json"], *arguments].concat();
        let stopped = cli(folder.path(), &stopped, &[]);
        assert!(stopped.stderr.contains("reading the disk"), "{}", stopped.stderr);
        let stopped: Vec<Value> =
            stopped.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // The log writes when its frame was written, a moment after the lane noted the death.
        let without_time = |mut letter: Value| {
            letter["died_at"].take();
            letter
        };
        let (stopped, running): (Vec<_>, Vec<_>) = (
            stopped.into_iter().map(without_time).collect(),
            running.into_iter().map(without_time).collect(),
        );
        assert_eq!(stopped, running);
    }
    let retried = cli(folder.path(), &["dead", "retry", "--all"], &[]);
    assert!(retried.code == Some(1) && retried.stderr.contains("is it running"), "{}", retried.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn show_tells_each_attempt_the_answer_and_what_to_do_and_gives_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.behave(Behaviour::status(422).body("no such owner"));
    crm.behave(Behaviour::status(500).times(1));
    let gateway = Process::start(folder.path(), &configuration(&crm.url()).to_string());
    let body = call("looked-at", "ok");
    gateway.push("cdr", body.as_bytes(), Some("uuid-1"));
    gateway.until_delivered();
    let show = |arguments: &[&str]| cli(folder.path(), &[&["dead", "show"], arguments].concat(), &[]);
    let shown = show(&["1"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for part in [
        "dead letter 1 of crm",
        "session   looked-at",
        "uuid      uuid-1",
        "attempt 1 failed, the next one at",
        "500",
        "given up with attempt 2: the receiver answered 422",
        "answer    no such owner",
        "cdr-gateway dead retry 1 --sink crm",
        &body,
    ] {
        assert!(shown.stdout.contains(part), "{part} in {}", shown.stdout);
    }
    assert_eq!(show(&["1", "--raw"]).bytes, body.as_bytes());
    let absent = show(&["1", "--sink", "archive"]);
    assert!(absent.code == Some(1) && absent.stderr.contains("no such dead letter"), "{}", absent.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn show_tells_the_same_with_the_catalog_and_without() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = three_dead(folder.path(), &crm).await;
    assert_eq!(ask(&gateway, &["dead", "retry", "2", "--sink", "crm"], &[]).code, Some(0));
    gateway.until_delivered();
    assert_eq!(gateway.terminate(), Some(0));
    let show = || cli(folder.path(), &["dead", "show", "3", "2", "1", "--format", "json"], &[]);
    let with = show();
    assert_eq!((with.code, with.stderr.as_str()), (Some(0), ""));
    let letters: Vec<Value> = with.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(sessions(&letters), ["one", "two", "three"]);
    let events = |letter: &Value| -> Vec<String> {
        let story = letter["story"].as_array().unwrap().iter();
        story.map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(events(&letters[0]), ["dead"]);
    assert_eq!(events(&letters[1]), ["dead", "sent again", "dead"]);
    std::fs::remove_file(folder.path().join("data/spool/catalog.sqlite")).unwrap();
    let without = show();
    assert!(without.stderr.contains("the catalog is not used"), "{}", without.stderr);
    assert_eq!(without.stdout, with.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_decided_about_all_without_saying_so() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = three_dead(folder.path(), &crm).await;
    for verb in ["retry", "discard"] {
        let vague = ask(&gateway, &["dead", verb], &[]);
        assert!(vague.code == Some(2) && vague.stderr.contains("--all"), "{}", vague.stderr);
    }
    let discarded = ask(&gateway, &["dead", "discard", "--reason", "413"], &[]);
    assert_eq!(discarded.stdout, "crm: 1 dead letters discarded\n", "{}", discarded.stderr);
    crm.behave_well();
    let retried = ask(&gateway, &["dead", "retry", "--where", r#"EndStatusString == "busy""#], &[]);
    assert_eq!(retried.stdout, "crm: 1 dead letters are being sent again\n", "{}", retried.stderr);
    until("the busy one is delivered", || (crm.kept() == 1).then_some(()));
    gateway.until_delivered();
    assert_eq!(sessions(&list(&gateway, &[])), ["one"]);
    let retried = ask(&gateway, &["dead", "retry", "--all"], &[]);
    assert_eq!(retried.stdout, "crm: 1 dead letters are being sent again\n", "{}", retried.stderr);
    until("the last one is delivered", || (crm.kept() == 2).then_some(()));
    gateway.until_delivered();
    assert_eq!(ask(&gateway, &["dead", "retry", "--all"], &[]).stdout, "there is no such dead letter\n");
}

/// A spool with so many dead letters of the CRM, a multiple of 50.
async fn many_dead(folder: &Path, many: usize) {
    let settings = Settings { max_size: 256 << 20, ..Settings::new(folder.join("data/spool")) };
    let lanes = ["archive", "crm", "on-call"].map(|name| NewLane { name: name.into(), start: Start::Now });
    let (spool, _) = Spool::open(settings, &lanes, Box::new(|_| {})).unwrap();
    let dead = Outcome::Dead { reason: "it answered 422".into(), excerpt: String::new(), attempts: 1 };
    for first in (0..many).step_by(50) {
        let pushes = (first..first + 50).map(|number| {
            let body = Bytes::from(call(&format!("s-{number}"), "ok"));
            let push = Incoming::read(facts("cdr", &body), body).unwrap();
            spool.append(cdr_dispatch::stored::to_spool(Box::new(push)))
        });
        let kept = join_all(pushes).await.into_iter().map(|kept| kept.unwrap().position());
        let positions: Vec<_> = kept.collect();
        for (lane, outcome) in [("crm", &dead), ("archive", &Outcome::Passed), ("on-call", &Outcome::Passed)]
        {
            // The next append commits it; the last ones are committed by the close.
            drop(spool.record(lane, positions.iter().map(|at| (*at, outcome.clone())).collect()));
        }
    }
    spool.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_are_listed_page_by_page_and_sent_again_slice_by_slice() {
    const MANY: usize = 2_100;
    let folder = tempfile::tempdir().unwrap();
    many_dead(folder.path(), MANY).await;
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = Process::start(folder.path(), &configuration(&crm.url()).to_string());
    let letters = list(&gateway, &[]);
    let numbers: Vec<u64> = letters.iter().map(|letter| letter["number"].as_u64().unwrap()).collect();
    assert!(numbers.len() == MANY && numbers.is_sorted(), "{}", numbers.len());
    let retried = ask(&gateway, &["dead", "retry", "--all"], &[]);
    assert_eq!(
        retried.stdout,
        format!("crm: {MANY} dead letters are being sent again\n"),
        "{}",
        retried.stderr
    );
    gateway.until_delivered();
    assert_eq!((crm.kept(), crm.repeats()), (MANY, 0));
    assert!(list(&gateway, &[]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_ends_with_a_word_when_the_sink_is_away_and_its_lane_is_full() {
    let folder = tempfile::tempdir().unwrap();
    many_dead(folder.path(), 4_500).await;
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    let retried = ask(&gateway, &["dead", "retry", "--sink", "crm"], &[]);
    assert_eq!(retried.code, Some(1));
    for part in ["4000 dead letters were sent again before this", "crm is away (", "nobody listens"] {
        assert!(retried.stderr.contains(part), "{part} in {}", retried.stderr);
    }
    assert_eq!(list(&gateway, &[]).len(), 500);
}
