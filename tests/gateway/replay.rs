//! `cdr-gateway replay`: what is kept is sent again, and nothing else.

use std::collections::HashMap;

use cdr_simulator::crm::{Behaviour, Crm, Received};
use cdr_tests::{Process, cli, until};
use serde_json::{Value, json};

use super::configuration;

const STATUSES: [&str; 5] = ["ok", "busy", "noAnswer", "ok", "error"];

/// A gateway whose commands find its admin listener, and 1,000 pushes of which 200 were busy, all delivered to the CRM.
async fn with_a_thousand(folder: &std::path::Path, crm: &Crm) -> Process {
    let mut settings = configuration(&crm.url());
    settings["routes"] = json!([{ "name": "all", "to": ["archive", "crm"] }]);
    let gateway = Process::start(folder, &settings.to_string());
    settings["admin"]["listen"] = json!(gateway.admin.to_string());
    std::fs::write(folder.join("gateway.yaml"), settings.to_string()).unwrap();
    for number in 0..1000 {
        let status = STATUSES[number % 5];
        let body = format!(r#"{{"SessionId":"s-{number}","EndStatusString":"{status}"}}"#);
        assert_eq!(gateway.push("cdr", body.as_bytes(), None).err_code(), 0);
    }
    gateway.until_delivered();
    assert_eq!(crm.received().len(), 1000);
    gateway
}

/// How often each session came as a replay.
fn replayed(crm: &Crm) -> HashMap<String, usize> {
    let is_replay =
        |received: &Received| received.header("x-cdr-gateway-replay") == Some("true") && received.kept;
    let mut sessions = HashMap::new();
    for received in crm.received().into_iter().filter(is_replay) {
        let body: Value = serde_json::from_slice(&received.body).unwrap();
        *sessions.entry(body["SessionId"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    sessions
}

fn is_busy(session: &str) -> bool {
    let number: usize = session.trim_start_matches("s-").parse().unwrap();
    STATUSES[number % 5] == "busy"
}

const BUSY: &str = r#"EndStatusString == "busy""#;

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_exactly_what_matches_again() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = with_a_thousand(folder.path(), &crm).await;
    let run = |arguments: &[&str]| cli(folder.path(), arguments, &[]);

    let wrong = run(&["replay", "--sink", "crm", "--where", r#"EndStatusStrin == "busy""#]);
    assert!(wrong.code == Some(1) && wrong.stderr.contains("EndStatusString"), "{}", wrong.stderr);
    let unknown = run(&["replay", "--sink", "cmr"]);
    assert!(unknown.stderr.contains("there are: archive, crm, on-call"), "{}", unknown.stderr);
    assert_eq!(run(&["replay", "--where", BUSY]).code, Some(2), "no sink is named");

    let dry = run(&["replay", "--sink", "crm", "--where", BUSY, "--dry-run"]);
    assert_eq!(dry.code, Some(0), "{}", dry.stderr);
    assert!(dry.stdout.starts_with("200 pushes would be sent to crm\n"), "{}", dry.stdout);
    assert!(dry.stdout.contains("push 2: cdr busy") && dry.stdout.contains("and 195 more"), "{}", dry.stdout);
    assert_eq!(crm.received().len(), 1000, "nothing was sent");

    let sent = run(&["replay", "--sink", "crm", "--where", BUSY]);
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    assert!(
        sent.stdout.contains("over") && sent.stdout.contains("200 sent, 0 open, 0 dead"),
        "{}",
        sent.stdout
    );
    let sessions = replayed(&crm);
    assert_eq!((sessions.len(), crm.received().len()), (200, 1200));
    assert!(sessions.iter().all(|(session, count)| is_busy(session) && *count == 1), "{sessions:?}");

    let metrics = gateway.ask("GET", "/metrics").body;
    assert!(metrics.contains("cdr_gateway_replays{sink=\"crm\"} 0"), "{metrics}");
    let list = run(&["replay", "list"]).stdout;
    assert!(list.contains("to crm: over") && list.contains(BUSY), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_after_kill_9_and_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = with_a_thousand(folder.path(), &crm).await;
    let begun =
        cli(folder.path(), &["replay", "--sink", "crm", "--where", BUSY, "--rate", "100/s", "--detach"], &[]);
    assert_eq!(begun.code, Some(0), "{}", begun.stderr);
    until("a part is sent", || (crm.received().len() >= 1050).then_some(()));
    gateway.kill();
    let before = replayed(&crm);
    assert!(before.len() < 200, "it was not killed in the middle");
    let gateway = Process::start_again(folder.path());
    let over = until("it is over", || {
        let replays = gateway.ask("GET", "/api/v1/replays").json()["replays"].clone();
        replays.as_array()?.iter().find(|replay| replay["state"] == "over").cloned()
    });
    let after = replayed(&crm);
    assert_eq!(after.len(), 200);
    assert!(after.keys().all(|session| is_busy(session)));
    let twice = after.values().filter(|&&count| count > 1).count();
    println!("{} sent before the kill, {} after it, {twice} twice", before.len(), over["delivered"]);
    // Where it was, and not from its beginning: what comes twice is what had no outcome on disk yet.
    assert!(twice < 20, "{twice} of {} came twice", before.len());
    assert_eq!(gateway.lane("crm")["delivered"], 0, "the sink's own lane has nothing to do with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_can_be_cancelled_and_leaves_the_live_lane_alone() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = with_a_thousand(folder.path(), &crm).await;
    let run = |arguments: &[&str]| cli(folder.path(), arguments, &[]);
    let begun = run(&["replay", "--sink", "crm", "--rate", "1/s", "--detach", "--format", "json"]);
    let number = serde_json::from_str::<Value>(&begun.stdout).unwrap()["replay"].to_string();
    assert_eq!(gateway.push("cdr", br#"{"SessionId":"s-live","EndStatusString":"ok"}"#, None).err_code(), 0);
    gateway.until_delivered();
    let metrics = gateway.ask("GET", "/metrics").body;
    assert!(metrics.contains("cdr_gateway_replays{sink=\"crm\"} 1"), "{metrics}");
    assert!(metrics.contains("cdr_gateway_lane_oldest_undelivered_seconds{sink=\"crm\"} 0"), "{metrics}");
    let cancelled = run(&["replay", "cancel", &number]);
    assert!(cancelled.stdout.contains("cancelled"), "{} {}", cancelled.stdout, cancelled.stderr);
    assert_eq!(gateway.ask("GET", "/readyz").json()["parked"], json!([]));
    assert!(run(&["replay", "follow", &number]).stdout.contains("cancelled"));
    let again = run(&["replay", "cancel", &number]);
    assert!(again.code == Some(1) && again.stderr.contains("there is no replay"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_a_replay_are_listed_and_decided_by_its_lane() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let _gateway = with_a_thousand(folder.path(), &crm).await;
    let run = |arguments: &[&str]| cli(folder.path(), arguments, &[]);
    crm.behave(Behaviour::status(422).only_for(r#""s-1""#));
    let sent = run(&["replay", "--sink", "crm", "--where", BUSY]);
    assert!(sent.stdout.contains("rests") && sent.stdout.contains("1 dead"), "{}", sent.stdout);
    assert!(sent.stderr.contains("dead list --sink crm~"), "{}", sent.stderr);
    let list = run(&["dead", "list"]).stdout;
    assert!(list.starts_with("crm~") && list.contains("422"), "{list}");
    crm.behave_well();
    let lane = list.split(' ').next().unwrap();
    assert_eq!(run(&["dead", "retry", "--sink", lane]).code, Some(0));
    until("it is sent", || replayed(&crm).contains_key("s-1").then_some(()));
    until("it is over", || run(&["replay", "list"]).stdout.contains("over").then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_many_in_a_file_takes_no_replay_and_one_of_single_files_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:9/");
    settings["sinks"]["many"] = json!({
        "file": { "path": "data/many", "layout": "ndjson", "batch": { "age": "10ms" } },
    });
    settings["routes"] = json!([{ "name": "all", "to": ["archive", "many"] }]);
    let gateway = Process::start(folder.path(), &settings.to_string());
    settings["admin"]["listen"] = json!(gateway.admin.to_string());
    std::fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    for number in 0..10 {
        let body = format!(r#"{{"SessionId":"s-{number}","EndStatusString":"ok"}}"#);
        gateway.push("cdr", body.as_bytes(), None);
    }
    gateway.until_delivered();
    let files = || super::files(&folder.path().join("data"), "json");
    let before = files();
    let refused = cli(folder.path(), &["replay", "--sink", "many"], &[]);
    assert!(refused.code == Some(1) && refused.stderr.contains("exactly once"), "{}", refused.stderr);
    let same = cli(folder.path(), &["replay", "--sink", "archive"], &[]);
    assert!(same.stdout.contains("10 sent"), "{} {}", same.stdout, same.stderr);
    assert_eq!(files().len(), before.len());
}
