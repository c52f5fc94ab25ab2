//! A sink that comes back to a long backlog.

use std::thread;

use cdr_simulator::crm::Crm;
use cdr_tests::{Process, cli, until};
use serde_json::json;

use super::{configuration, sha256};

/// More than a lane works off in order, and than memory holds.
const BACKLOG: usize = 6000;

fn call(number: usize) -> String {
    format!(r#"{{"SessionId":"s-{number}","EndStatusString":"ok"}}"#)
}

fn push_backlog(gateway: &Process) {
    thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                for number in (part..BACKLOG).step_by(8) {
                    assert_eq!(gateway.push("cdr", call(number).as_bytes(), None).err_code(), 0);
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_push_passes_a_long_backlog_of_which_kill_9_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut crm = Crm::start("127.0.0.1:0").await.unwrap();
    let mut settings = configuration(&crm.url());
    settings["sinks"]["crm"]["rate_limit"] = json!("1500/s");
    settings["routes"] = json!([{ "name": "all", "to": ["crm"] }]);
    crm.go_away().await;
    let gateway = Process::start(folder.path(), &settings.to_string());
    push_backlog(&gateway);
    until("the lane pauses", || (!gateway.lane("crm")["paused"].is_null()).then_some(()));
    crm.come_back().await.unwrap();
    gateway.until_logged("the backlog is set aside");
    assert_eq!(gateway.push("cdr", call(BACKLOG).as_bytes(), None).err_code(), 0);
    let fresh = sha256(call(BACKLOG).as_bytes());
    until("the fresh push is there", || crm.digests().contains_key(&fresh).then_some(()));
    assert!(crm.digests().len() < BACKLOG, "the backlog is not through");
    let metrics = gateway.ask("GET", "/metrics").body;
    assert!(!metrics.contains("cdr_gateway_lane_unread_positions{sink=\"crm\"} 0\n"), "{metrics}");
    let left = until("it is listed", || {
        let lanes = gateway.ask("GET", "/api/v1/lanes").json();
        let is_left =
            |lane: &&serde_json::Value| lane["sink"].as_str().is_some_and(|name| name.contains('~'));
        lanes["lanes"].as_array()?.iter().find(is_left).cloned()
    });
    assert!(left["unread"].as_u64().unwrap() > 0, "{left}");

    gateway.kill();
    let gateway = Process::start_again(folder.path());
    let before = crm.digests().len();
    until("it goes on", || (crm.digests().len() > before + 100).then_some(()));
    gateway.kill();
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();
    assert_eq!(crm.digests().len(), BACKLOG + 1, "nothing is lost");
    assert!(crm.repeats() <= 2 * 64, "{} repeats", crm.repeats());
    until("nothing is left of it", || gateway.lane(left["sink"].as_str()?).is_null().then_some(()));
    let trace = cli(folder.path(), &["trace", &format!("s-{}", BACKLOG - 1)], &[]).stdout;
    assert!(trace.contains("crm: delivered") && !trace.contains("crm~"), "{trace}");
}
