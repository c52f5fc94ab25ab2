//! What a receiver answers, and what `trace` tells of it: each goes where the design says.

use std::time::{Duration, SystemTime};

use cdr_simulator::crm::{Behaviour, Crm};
use cdr_tests::{Process, cli, until};
use serde_json::{Value, json};

use super::configuration;

/// A receiver's name, how it behaves, and what `trace` says of a push to it.
type Case = (&'static str, Behaviour, &'static [&'static str]);

fn cases() -> Vec<Case> {
    let in_an_hour = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    let in_an_hour = in_an_hour.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    vec![
        (
            "busy-seconds",
            Behaviour::status(429).header("retry-after", "3600"),
            &["waiting", "is away", "429"],
        ),
        (
            "busy-date",
            Behaviour::status(429).header("retry-after", &in_an_hour),
            &["waiting", "is away", "429"],
        ),
        ("broken", Behaviour::status(500), &["waiting", "500"]),
        ("locked", Behaviour::status(401), &["waiting", "is away", "401"]),
        ("too-large", Behaviour::status(413), &["dead", "413"]),
        ("hangs", Behaviour::hang(), &["waiting", "within 1s"]),
        ("closes", Behaviour::cut_before_reading(), &["waiting", "closed"]),
        ("says-no", Behaviour::err_code(), &["waiting", "ErrCode 1"]),
        ("well", Behaviour::status(200).keeping(), &["delivered", "HTTP 200"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_goes_where_it_belongs_and_trace_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    let (mut crms, mut sinks) = (Vec::new(), serde_json::Map::new());
    for (name, behaviour, _) in cases() {
        let crm = Crm::start("127.0.0.1:0").await.unwrap();
        crm.behave(behaviour);
        sinks.insert(name.to_owned(), json!({ "http": { "url": crm.url(), "timeout": "1s" } }));
        crms.push(crm);
    }
    let names: Vec<&String> = sinks.keys().collect();
    settings["routes"] = json!([{ "name": "all", "to": names }]);
    settings["sinks"] = Value::Object(sinks);
    let gateway = Process::start(folder.path(), &settings.to_string());
    // Commands find the running gateway by its file.
    settings["admin"]["listen"] = json!(gateway.admin.to_string());
    std::fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    let body = br#"{"SessionId":"told","EndStatusString":"ok"}"#;
    assert_eq!(gateway.push("cdr", body, None).err_code(), 0);

    for (name, _, words) in cases() {
        let mut line = String::new();
        until(&format!("trace tells of {name}: {words:?}"), || {
            let told = cli(folder.path(), &["trace", "told"], &[]).stdout;
            line = told.lines().find(|line| line.trim_start().starts_with(&format!("{name}: ")))?.to_owned();
            words.iter().all(|word| line.contains(word)).then_some(())
        });
        println!("{line}");
    }
    let paused = |name: &str| !gateway.lane(name)["paused"].is_null();
    assert!(
        paused("busy-seconds") && paused("busy-date") && paused("locked"),
        "those that are away wait as a whole"
    );
    assert_eq!(gateway.lane("too-large")["dead"], 1, "what can never pass is a dead letter at once");
}
