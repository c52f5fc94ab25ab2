//! Sick sinks beside a well one: whatever one of them does, the others and the door go on.

use std::collections::{HashMap, HashSet};

use cdr_simulator::crm::{Behaviour, Crm};
use cdr_tests::{Process, until};
use serde_json::{Value, json};

use super::{ask, configuration, session};

/// A gateway in which each of these sinks gets every push.
fn settings(sinks: Value) -> Value {
    let mut settings = configuration("http://127.0.0.1:1/");
    let names: Vec<String> = sinks.as_object().unwrap().keys().cloned().collect();
    settings["sinks"] = sinks;
    settings["routes"] = json!([{ "name": "all", "to": names }]);
    settings
}

fn http(crm: &Crm) -> Value {
    json!({ "http": { "url": crm.url() } })
}

fn push(gateway: &Process, session: &str) {
    let body = format!(r#"{{"SessionId":"{session}","EndStatusString":"ok"}}"#);
    assert_eq!(gateway.push("cdr", body.as_bytes(), Some(session)).err_code(), 0);
}

fn sessions(crm: &Crm) -> HashSet<String> {
    crm.received().iter().map(|received| session(&received.body)).collect()
}

fn paused(gateway: &Process, sink: &str) -> Option<Value> {
    Some(gateway.lane(sink)).filter(|lane| !lane["paused"].is_null())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hangs_one_panics_one_answers_500_and_the_fourth_gets_every_push() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Crm::start("127.0.0.1:0");
    let (hangs, fails, well) = (start().await.unwrap(), start().await.unwrap(), start().await.unwrap());
    hangs.behave(Behaviour::hang());
    fails.behave(Behaviour::status(500));
    let hanging = json!({ "http": { "url": hangs.url(), "timeout": "3s" } });
    let settings = settings(json!({
        "hangs": hanging, "fails": http(&fails), "well": http(&well), "panics": { "panics": { "until": "stop" } },
    }));
    let gateway = Process::start_own(folder.path(), &settings.to_string());
    for number in 0..200 {
        push(&gateway, &format!("s-{number}"));
    }
    // The others hold theirs: not one has ended.
    until("the fourth has every push", || (well.kept() == 200).then_some(()));
    assert_eq!((well.repeats(), hangs.kept(), fails.kept()), (0, 0, 0));
    for sick in ["hangs", "fails", "panics"] {
        let lane = until("it pauses", || paused(&gateway, sick));
        assert_eq!((&lane["delivered"], &lane["dead"]), (&json!(0), &json!(0)), "{lane}");
    }
    let ready = gateway.ask("GET", "/readyz");
    let reasons: HashMap<String, String> = (ready.json()["sick_sinks"].as_array().unwrap().iter())
        .map(|sick| (sick["sink"].as_str().unwrap().to_owned(), sick["reason"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!((ready.status, reasons.len()), (200, 3), "{}", ready.body);
    for (sink, reason) in [("hangs", "within 3"), ("fails", "500"), ("panics", "on purpose")] {
        assert!(reasons[sink].contains(reason), "{}", ready.body);
    }
    let metrics = gateway.ask("GET", "/metrics").body;
    let away = |sink: &str| {
        let began =
            |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("sink is away"));
        gateway.log().iter().any(|line| line["sink"] == sink && began(line))
    };
    for (sink, paused) in [("hangs", 1), ("fails", 1), ("panics", 1), ("well", 0)] {
        let line = format!(r#"cdr_gateway_lane_paused{{sink="{sink}"}} {paused}"#);
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
        assert_eq!(away(sink), paused == 1, "{sink} in the log");
    }

    // Mended, each gets all of them.
    hangs.behave_well();
    fails.behave_well();
    std::fs::write(folder.path().join("stop"), "").unwrap();
    gateway.until_delivered();
    assert_eq!((sessions(&hangs).len(), sessions(&fails).len()), (200, 200));
    assert_eq!(gateway.lane("panics")["delivered"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_alone_is_answered_500_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.behave(Behaviour::status(500).only_for("poison"));
    let gateway = Process::start(folder.path(), &settings(json!({ "crm": http(&crm) })).to_string());
    push(&gateway, "poison");
    for number in 0..50 {
        push(&gateway, &format!("s-{number}"));
    }
    until("the others are there", || (crm.kept() == 50).then_some(()));
    until("it is tried again and again", || (gateway.lane("crm")["failed"].as_u64()? >= 4).then_some(()));
    push(&gateway, "after");
    until("those that come later too", || (crm.kept() == 51).then_some(()));
    assert_eq!(paused(&gateway, "crm"), None);
    assert_eq!(gateway.ask("GET", "/readyz").json()["sick_sinks"], json!([]));
    crm.behave_well();
    gateway.until_delivered();
    assert_eq!((crm.kept(), gateway.lane("crm")["dead"].as_u64()), (52, Some(0)));
}

#[test]
fn what_was_sealed_under_a_lost_key_is_in_sight_until_the_key_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let with_key = |key: &str| {
        let file =
            json!({ "path": "data/archive", "layout": "ndjson", "batch": { "pushes": 5, "age": "20ms" } });
        let mask = json!({ "numbers": "hash", "key": key, "archive": true });
        let mut settings = settings(json!({ "archive": { "file": file, "mask": mask } }));
        settings["sinks"]["archive"]["retry"] = json!({ "initial": "100ms", "max": "200ms" });
        settings.to_string()
    };
    // In the place of the folder is a file: what is sealed fails.
    let archive = folder.path().join("data/archive");
    std::fs::create_dir_all(folder.path().join("data")).unwrap();
    std::fs::write(&archive, "in the way").unwrap();
    let gateway = Process::start(folder.path(), &with_key("the first key of 16 bytes"));
    push(&gateway, "stuck");
    until("it was tried", || (!gateway.lane("archive")["last_failure"].as_str()?.is_empty()).then_some(()));
    assert_eq!(gateway.terminate(), Some(0));

    std::fs::remove_file(&archive).unwrap();
    let gateway = Process::start(folder.path(), &with_key("the other key of 16 bytes"));
    push(&gateway, "fresh");
    until("the fresh one is there", || (gateway.lane("archive")["delivered"] == 1).then_some(()));
    let lane = until("the other waits", || {
        Some(gateway.lane("archive")).filter(|lane| lane["unmended"]["pushes"] == 1)
    });
    assert!(lane["paused"].is_null() && lane["dead"] == 0, "{lane}");
    let ready = gateway.ask("GET", "/readyz");
    let reason = ready.json()["sick_sinks"][0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(
        ready.status == 200 && reason.starts_with("1 of its pushes wait for a person: "),
        "{}",
        ready.body
    );
    assert!(reason.contains("set that key again"), "{reason}");
    let listed = ask(&gateway, &["sink", "list"], &[]).stdout;
    assert!(listed.contains("1 wait for a person: ") && listed.contains("set that key again"), "{listed}");
    let metrics = gateway.ask("GET", "/metrics").body;
    assert!(metrics.contains(r#"cdr_gateway_lane_unmended_deliveries{sink="archive"} 1"#), "{metrics}");
    let told = |message: &'static str| {
        let is_it = move |line: &Value| line["message"] == message && line["kind"] == "unmended";
        until(message, || gateway.log().into_iter().find(is_it))
    };
    assert_eq!(told("alert")["about"], "archive");

    std::fs::write(folder.path().join("gateway.yaml"), with_key("the first key of 16 bytes")).unwrap();
    gateway.hang_up();
    gateway.until_delivered();
    told("alert is over");
    assert_eq!(gateway.ask("GET", "/readyz").json()["sick_sinks"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_refuses_the_password_for_longer_than_give_up_after_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.behave(Behaviour::status(401));
    let mut sink = http(&crm);
    sink["retry"] = json!({ "initial": "50ms", "max": "100ms", "give_up_after": "200ms" });
    let gateway = Process::start(folder.path(), &settings(json!({ "crm": sink })).to_string());
    for number in 0..20 {
        push(&gateway, &format!("s-{number}"));
    }
    // Each probe waits for at least 90 ms from the third on: many times longer than it takes to give up.
    until("it has been probed for long", || {
        (gateway.lane("crm")["paused"].is_object() && probes(&gateway) >= 20.0).then_some(())
    });
    let lane = gateway.lane("crm");
    assert_eq!((&lane["delivered"], &lane["dead"]), (&json!(0), &json!(0)), "{lane}");
    assert!(lane["paused"]["reason"].as_str().unwrap().contains("401"), "{lane}");
    crm.behave_well();
    gateway.until_delivered();
    assert_eq!((crm.kept(), crm.repeats(), gateway.lane("crm")["dead"].as_u64()), (20, 0, Some(0)));
}

fn probes(gateway: &Process) -> f64 {
    let metrics = gateway.ask("GET", "/metrics").body;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix(r#"cdr_gateway_lane_attempts_total{sink="crm"} "#));
    line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}
