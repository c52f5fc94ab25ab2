//! `tail`: what arrives and what becomes of it.

use cdr_simulator::crm::{Behaviour, Crm};
use cdr_tests::{Following, Process, cli, until};
use serde_json::{Value, json};

use super::{call, configuration};

#[tokio::test(flavor = "multi_thread")]
async fn tail_begins_now_and_goes_on_over_a_restart_without_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = Process::start(folder.path(), &configuration(&crm.url()).to_string());
    let push = |gateway: &Process, session: &str| {
        let body = json!({ "SessionId": session, "EndStatusString": "ok", "Caller": "008613800138000" });
        assert_eq!(gateway.push("cdr", body.to_string().as_bytes(), None).err_code(), 0);
    };
    push(&gateway, "long-ago");
    gateway.until_delivered();
    let tail = Following::start(folder.path(), &["tail"]);
    let mut number = 0;
    until("it follows", || {
        number += 1;
        push(&gateway, &format!("new-{number}"));
        tail.lines().iter().any(|line| line.contains("session new-")).then_some(())
    });
    tail.until_said(&[" cdr answered session new-", " → crm delivered (HTTP 200, ", "ms)"]);
    tail.until_said(&[" cdr answered session new-", " → archive delivered ("]);
    assert_eq!(gateway.terminate(), Some(0));
    let gateway = Process::start_again(folder.path());
    push(&gateway, "after-the-restart");
    tail.until_said(&["session after-the-restart"]);
    tail.until_said(&["session after-the-restart → crm delivered"]);
    let said = tail.lines().join("\n");
    assert!(!said.contains("long-ago") && !said.contains("8000"), "{said}");
    assert!(!said.contains("not routed"), "nobody asked about a sink that passes pushes by: {said}");
    let first = said.lines().next().unwrap();
    assert!(first.ends_with("(+08:00)"), "the day and the zone stand first: {first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_tells_failures_dead_letters_and_what_an_operator_decides() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.behave(Behaviour::status(500).times(1).only_for("twice"));
    let gateway = Process::start(folder.path(), &configuration(&crm.url()).to_string());
    gateway.push("cdr", call("twice", "ok").as_bytes(), None);
    gateway.until_delivered();
    crm.behave(Behaviour::status(422));
    gateway.push("cdr", call("unwanted", "ok").as_bytes(), None);
    gateway.push("cdr", b"[]", None);
    gateway.until_delivered();
    super::ask(&gateway, &["dead", "discard", "--sink", "crm"], &[]);
    super::ask(&gateway, &["quarantine", "discard", "--all"], &[]);
    let tail = Following::start(folder.path(), &["tail", "--since", "1h"]);
    tail.until_said(&["quarantine 3 taken out"]);
    for said in [
        &["session twice → crm failed (attempt 1, again in ", "500"][..],
        &["session twice → crm delivered (HTTP 200"],
        &["session unwanted → crm dead letter (attempt 1): the receiver answered 422"],
        &["session unwanted → crm discarded by an operator"],
        &["quarantine 3: the body is a JSON array"],
    ] {
        tail.until_said(said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_leaves_out_what_was_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    for (session, status) in [("one", "busy"), ("two", "ok"), ("three", "busy")] {
        assert_eq!(gateway.push("cdr", call(session, status).as_bytes(), None).err_code(), 0);
    }
    gateway.push("cdr", b"no push", None);
    until("archived", || (gateway.lane("archive")["delivered"] == 3).then_some(()));
    let busy = r#"EndStatusString == "busy""#;
    let tail = Following::start(
        folder.path(),
        &["tail", "--since", "1h", "--where", busy, "--sink", "archive", "--format", "json"],
    );
    tail.until_said(&["\"three\"", "delivered"]);
    let lines: Vec<Value> = tail.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["session_id"].as_str(), line["event"].as_str())).collect();
    assert_eq!(told, [(Some("one"), Some("delivered")), (Some("three"), Some("delivered"))], "{lines:?}");
    assert!(lines.iter().all(|line| line["sink"] == "archive" && line["after_s"].is_number()), "{lines:?}");

    let passed = Following::start(folder.path(), &["tail", "--since", "1h", "--sink", "on-call"]);
    passed.until_said(&["session three → on-call not routed"]);
}

#[test]
fn what_tail_cannot_mean_is_said_with_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    let misspelled = cli(gateway.folder(), &["tail", "--where", "Caler == '1'"], &[]);
    assert_eq!(misspelled.code, Some(2), "{}", misspelled.stderr);
    assert!(misspelled.stderr.contains("did you mean \"Caller\"?"), "{}", misspelled.stderr);
    let unknown = cli(gateway.folder(), &["tail", "--sink", "archvie"], &[]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("did you mean \"archive\"?"), "{}", unknown.stderr);
}
