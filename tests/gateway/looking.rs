//! Commands that look at what is kept or decide about it: `trace`, `dead`, `quarantine`, and `reload`.

use std::fs;

use cdr_simulator::crm::{Behaviour, Crm};
use cdr_tests::{Following, Process, cli, until};
use serde_json::{Value, json};

use super::{ask, call, configuration, files};

/// What `trace` says about a session, as text and as the sinks of its JSON.
fn trace(gateway: &Process, session: &str) -> (String, Value) {
    let text = cli(gateway.folder(), &["trace", session], &[]);
    assert_eq!(text.code, Some(0), "{}", text.stderr);
    let told = cli(gateway.folder(), &["trace", session, "--format", "json"], &[]);
    let told: Value = serde_json::from_str(told.stdout.trim()).unwrap();
    (text.stdout, told["sinks"].clone())
}

#[test]
fn trace_tells_sinks_that_owe_a_push_from_those_that_came_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    let gateway = Process::start(folder.path(), &settings.to_string());
    for session in ["first", "second"] {
        assert_eq!(gateway.push("cdr", call(session, "ok").as_bytes(), None).err_code(), 0);
    }
    until("the CRM is away", || (!gateway.lane("crm")["paused"].is_null()).then_some(()));
    settings["sinks"]["late"] = json!({ "file": { "path": "data/late", "layout": "raw" } });
    settings["routes"][0]["to"] = json!(["archive", "late"]);
    fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    assert_eq!(gateway.ask("POST", "/api/v1/reload").status, 200);
    until("the archive has it", || trace(&gateway, "second").0.contains("archive: delivered").then_some(()));

    let (text, sinks) = trace(&gateway, "second");
    assert!(text.contains("  late: came before this sink"), "{text}");
    assert!(text.contains("  crm: waiting"), "{text}");
    assert_eq!(sinks["late"]["state"], "before this sink");
    assert_eq!(sinks["crm"]["state"], "waiting");
    assert_eq!(sinks["on-call"]["state"], "not routed");
}

#[test]
fn trace_tells_of_replays_and_of_what_a_renamed_sink_left_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    let gateway = Process::start(folder.path(), &settings.to_string());
    assert_eq!(gateway.push("cdr", call("first", "ok").as_bytes(), None).err_code(), 0);
    settings["admin"]["listen"] = json!(gateway.admin.to_string());
    fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    let run = |arguments: &[&str]| {
        let told = cli(folder.path(), arguments, &[]);
        assert_eq!(told.code, Some(0), "{}", told.stderr);
    };
    run(&["replay", "--sink", "crm", "--detach"]);
    assert_eq!(gateway.push("cdr", call("later", "ok").as_bytes(), None).err_code(), 0);
    let (text, sinks) = trace(&gateway, "first");
    assert!(text.contains(" (a replay to crm): waiting"), "{text}");
    let replay = sinks.as_object().unwrap().keys().find(|lane| lane.starts_with("crm~")).unwrap();
    assert_eq!(sinks[replay]["for"], json!({ "sink": "crm", "what": "replay" }));
    assert!(!trace(&gateway, "later").0.contains("a replay"), "it came behind its end");

    let crm = settings["sinks"].as_object_mut().unwrap().remove("crm").unwrap();
    settings["sinks"]["sales"] = crm;
    settings["routes"] = json!([{ "name": "all", "to": ["archive", "sales"] }]);
    fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    run(&["reload"]);
    run(&["sink", "rename", "crm", "sales"]);
    let (text, sinks) = trace(&gateway, "first");
    assert!(text.contains(" (what crm left to sales when it was renamed): waiting"), "{text}");
    assert!(text.contains(" (a replay to sales): waiting"), "{text}");
    assert!(text.contains("  sales: came before this sink"), "{text}");
    assert!(sinks.get("crm").is_none(), "{sinks}");
}

/// A push that one sink still owes outlives its part of the log: it is written again, behind its own outcomes.
#[test]
fn trace_knows_what_became_of_a_push_that_was_carried() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["spool"]["max_size"] = json!("16MiB");
    // The archive is away until its folder can be made.
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/archive"), "in the way").unwrap();
    let gateway = Process::start(folder.path(), &settings.to_string());
    assert_eq!(gateway.push("cdr", call("carried", "ok").as_bytes(), None).err_code(), 0);
    let mut number = 0;
    let mut fill = || {
        number += 1;
        let body = json!({ "SessionId": format!("fill-{number}"), "EndStatusString": "busy", "UserRemark": "x".repeat(900 << 10) });
        assert_eq!(gateway.push("cdr", body.to_string().as_bytes(), None).err_code(), 0);
    };
    // Beyond the first segment of 4 MiB; the archive's outcomes then lie in the second.
    (0..5).for_each(|_| fill());
    fs::remove_file(folder.path().join("data/archive")).unwrap();
    let archived = || files(&folder.path().join("data/archive"), ".json").len();
    until("the archive is back", || (archived() == 6).then_some(()));
    let segments = || {
        let names = fs::read_dir(folder.path().join("data/spool")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".log")).min().unwrap()
    };
    let first = segments();
    until("the first segment goes", || {
        fill();
        (segments() != first).then_some(())
    });
    let (text, sinks) = trace(&gateway, "carried");
    assert!(text.contains("  archive: delivered"), "{text}");
    assert!(text.contains("  crm: waiting"), "{text}");
    assert_eq!(sinks["archive"]["state"], "delivered");

    // That it was written again is no news.
    let tail = Following::start(folder.path(), &["tail", "--since", "1h"]);
    assert_eq!(gateway.push("cdr", call("last", "busy").as_bytes(), None).err_code(), 0);
    tail.until_said(&["session last"]);
    let arrived = |line: &String| line.ends_with("session carried");
    assert!(!tail.lines().iter().any(arrived), "{:#?}", tail.lines());
}

#[test]
fn looking_needs_no_secret_and_no_other_part_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["sinks"]["crm"]["http"]["auth"] = json!({ "bearer": { "file": "token" } });
    fs::write(folder.path().join("token"), "x").unwrap();
    let gateway = Process::start(folder.path(), &settings.to_string());
    assert_eq!(gateway.push("cdr", call("s", "ok").as_bytes(), None).err_code(), 0);
    assert_eq!(gateway.push("cdr", b"{}", None).err_code(), 400);

    fs::remove_file(folder.path().join("token")).unwrap();
    settings["routes"] = json!([{ "name": "broken", "to": ["archvie"] }]);
    fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    assert_eq!(cli(folder.path(), &["check"], &[]).code, Some(1));
    for command in [vec!["trace", "s"], vec!["dead", "list"], vec!["quarantine", "list"]] {
        let looked = cli(folder.path(), &command, &[]);
        assert_eq!(looked.code, Some(0), "{command:?}: {}", looked.stderr);
    }
}

#[test]
fn the_gateway_judges_a_reload_by_its_own_environment() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    // A variable that every process has; the operator's shell below has it empty, which no secret may be.
    settings["sinks"]["crm"]["http"]["auth"] = json!({ "bearer": { "env": "PATH" } });
    let gateway = Process::start(folder.path(), &settings.to_string());
    let reloaded = ask(&gateway, &["reload"], &[("PATH", "")]);
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    assert!(reloaded.stdout.contains("reloaded"), "{}", reloaded.stdout);

    settings["routes"][0]["to"] = json!(["archvie"]);
    fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    let refused = ask(&gateway, &["reload"], &[("PATH", "")]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("did you mean \"archive\"?"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_a_sink_that_is_gone_wait_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.behave(Behaviour::status(422));
    let complete = configuration(&crm.url());
    let gateway = Process::start(folder.path(), &complete.to_string());
    assert_eq!(gateway.push("cdr", call("unwanted", "ok").as_bytes(), None).err_code(), 0);
    until("it dies", || (gateway.lane("crm")["dead"] == 1).then_some(()));

    let mut without = complete.clone();
    without["sinks"].as_object_mut().unwrap().remove("crm");
    without["routes"].as_array_mut().unwrap().pop();
    fs::write(folder.path().join("gateway.yaml"), without.to_string()).unwrap();
    assert_eq!(gateway.ask("POST", "/api/v1/reload").status, 200);
    let retried = ask(&gateway, &["dead", "retry", "--sink", "crm"], &[]);
    assert_eq!(retried.code, Some(0), "{}", retried.stderr);
    assert!(retried.stdout.starts_with("crm: 1 dead letters wait"), "{}", retried.stdout);

    crm.behave_well();
    fs::write(folder.path().join("gateway.yaml"), complete.to_string()).unwrap();
    assert_eq!(gateway.ask("POST", "/api/v1/reload").status, 200);
    tokio::time::timeout(std::time::Duration::from_secs(60), crm.until_kept(1)).await.unwrap();
}
