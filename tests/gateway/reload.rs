//! A reload says what waits for a restart, and stays out of the way of a stop.

use std::{fs, process::Command};

use cdr_simulator::crm::{Behaviour, Crm};
use cdr_tests::{Process, until};
use serde_json::json;

use super::configuration;

fn call(session: &str) -> String {
    json!({ "SessionId": session, "EndStatusString": "ok" }).to_string()
}

#[test]
fn a_limit_above_what_the_spool_was_opened_for_waits_for_a_restart_and_so_do_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["ingress"]["limits"] = json!({ "body": "64KiB", "in_flight": "1MiB" });
    let gateway = Process::start(folder.path(), &settings.to_string());
    let large = call(&"x".repeat(100 << 10));
    assert_eq!(gateway.push("cdr", large.as_bytes(), None).status, 413);

    settings["ingress"]["limits"] = json!({ "body": "1MiB", "in_flight": "32MiB" });
    settings["spool"]["keep"] = json!("1d");
    settings["admin"]["token"] = json!("a-token-of-tests");
    settings["log"] = json!({ "level": "debug" });
    fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    let reloaded = gateway.ask("POST", "/api/v1/reload");
    assert_eq!(reloaded.status, 200, "{reloaded:?}");
    let notes = reloaded.json()["notes"].as_array().unwrap().clone();
    let notes: Vec<&str> = notes.iter().filter_map(|note| note.as_str()).collect();
    let waiting =
        |setting: &str| notes.iter().any(|note| note.starts_with(setting) && note.contains("restart"));
    for setting in [
        "ingress.limits.body: ",
        "ingress.limits.in_flight: ",
        "spool.keep: ",
        "admin.token: ",
        "log.level: ",
    ] {
        assert!(waiting(setting), "{setting} in {notes:#?}");
    }
    for setting in ["spool.path", "spool.max_size", "spool.dedupe_window", "admin.listen", "log.format"] {
        assert!(!waiting(setting), "{setting} in {notes:#?}");
    }
    // The right reason: it is too large, the disk is not at fault.
    assert_eq!(gateway.push("cdr", large.as_bytes(), None).status, 413);
    assert_eq!(gateway.terminate(), Some(0));
    let gateway = Process::start_again(folder.path());
    assert_eq!(gateway.push("cdr", large.as_bytes(), None).status, 200);
}

#[test]
fn a_thread_that_hangs_on_a_file_does_not_hold_up_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    let gateway = Process::start(folder.path(), &settings.to_string());
    let pipe = folder.path().join("password");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    settings["ingress"]["verify"] =
        json!([{ "basic": { "username": "tccc", "password": { "file": "password" } } }]);
    fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    gateway.hang_up();
    // Opens when the gateway opens the other end; it then reads until we write or close, which we do not.
    let _held = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    assert_eq!(gateway.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_takes_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.behave(Behaviour::hang());
    let gateway = Process::start(folder.path(), &configuration(&crm.url()).to_string());
    gateway.push("cdr", call("s").as_bytes(), None);
    until("an attempt is under way", || (gateway.lane("crm")["trying"] == 1).then_some(()));
    gateway.ask_to_end();
    until("it stops", || (gateway.ask("GET", "/readyz").status == 503).then_some(()));
    let refused = gateway.ask("POST", "/api/v1/reload");
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.body.contains("the gateway is stopping"), "{refused:?}");
    drop(crm);
    assert_eq!(gateway.ended(), Some(0));
}
