//! A sink that gets another name while pushes wait for it.

use cdr_simulator::crm::Crm;
use cdr_tests::{Process, cli, until};
use serde_json::{Value, json};

use super::configuration;

fn call(number: usize) -> String {
    format!(r#"{{"SessionId":"s-{number}","EndStatusString":"ok"}}"#)
}

/// The configuration with its CRM under this name.
fn with_crm_named(mut settings: Value, name: &str) -> Value {
    let crm = settings["sinks"].as_object_mut().unwrap().remove("crm").unwrap();
    settings["sinks"][name] = crm;
    settings["routes"] = json!([{ "name": "all", "to": ["archive", name] }]);
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pushes_of_a_sink_that_was_renamed_are_delivered_under_its_new_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut crm = Crm::start("127.0.0.1:0").await.unwrap();
    let settings = configuration(&crm.url());
    crm.go_away().await;
    let gateway = Process::start(folder.path(), &with_crm_named(settings.clone(), "crm").to_string());
    let push = |from: usize, to: usize| {
        for number in from..to {
            assert_eq!(gateway.push("cdr", call(number).as_bytes(), None).err_code(), 0);
        }
    };
    push(0, 1000);
    let run = |arguments: &[&str]| cli(folder.path(), arguments, &[]);
    let mut renamed = with_crm_named(settings, "sales");
    renamed["admin"]["listen"] = json!(gateway.admin.to_string());
    std::fs::write(folder.path().join("gateway.yaml"), renamed.to_string()).unwrap();
    let early = run(&["sink", "rename", "crm", "sales"]);
    assert!(
        early.code == Some(1) && early.stderr.contains("configuration names the sink crm"),
        "{}",
        early.stderr
    );

    assert_eq!(run(&["reload"]).code, Some(0));
    let parked = gateway.until_logged("a lane of the spool is parked");
    assert_eq!((&parked["sink"], &parked["level"]), (&json!("crm"), &json!("WARN")));
    assert_eq!(gateway.ask("GET", "/readyz").json()["parked"], json!(["crm"]));
    assert!(gateway.ask("GET", "/metrics").body.contains("cdr_gateway_lanes_parked 1"));
    let list = run(&["sink", "list"]).stdout;
    assert!(list.lines().any(|line| line.starts_with("crm ") && line.contains("parked")), "{list}");
    crm.come_back().await.unwrap();
    push(1000, 1050);
    gateway.until_delivered();
    assert_eq!(crm.received().len(), 50, "the new name has its own");

    let done = run(&["sink", "rename", "crm", "sales"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    until("all are there", || (crm.digests().len() == 1050).then_some(()));
    gateway.until_delivered();
    assert_eq!((crm.received().len(), crm.repeats()), (1050, 0), "nothing is sent twice");
    assert_eq!(gateway.ask("GET", "/readyz").json()["parked"], json!([]));
    until("nothing is left of it", || (!run(&["sink", "list"]).stdout.contains('~')).then_some(()));
    let again = run(&["sink", "rename", "crm", "sales"]);
    assert!(again.code == Some(1) && again.stderr.contains("no lane"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_renamed_sink_left_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut crm = Crm::start("127.0.0.1:0").await.unwrap();
    let settings = configuration(&crm.url());
    crm.go_away().await;
    let gateway = Process::start(folder.path(), &with_crm_named(settings.clone(), "crm").to_string());
    (0..100).for_each(|number| drop(gateway.push("cdr", call(number).as_bytes(), None)));
    gateway.kill();
    let mut renamed = with_crm_named(settings, "sales");
    let gateway = Process::start(folder.path(), &renamed.to_string());
    gateway.until_logged("a lane of the spool is parked");
    renamed["admin"]["listen"] = json!(gateway.admin.to_string());
    std::fs::write(folder.path().join("gateway.yaml"), renamed.to_string()).unwrap();
    assert_eq!(cli(folder.path(), &["sink", "rename", "crm", "sales"], &[]).code, Some(0));
    // It is owed, so the oldest delivery and the watermark tell of it.
    until("it counts", || {
        let lanes = gateway.ask("GET", "/api/v1/lanes").json();
        let left = lanes["lanes"].as_array()?.iter().find(|lane| lane["handed_over_by"] == "crm").cloned()?;
        left["oldest_undelivered_s"].as_f64()
    });
    let metrics = gateway.ask("GET", "/metrics").body;
    let idle = "cdr_gateway_lane_oldest_undelivered_seconds{sink=\"sales\"} 0.0";
    assert!(!metrics.contains(idle) && !metrics.contains("sales~"), "{metrics}");
    gateway.kill();
    crm.come_back().await.unwrap();
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();
    assert_eq!(crm.digests().len(), 100);
}
