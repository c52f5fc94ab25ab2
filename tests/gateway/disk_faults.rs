//! A disk that refuses, hangs or is gone: never a false 0, said everywhere, and the gateway goes on by itself.

use std::{collections::HashSet, fs};

use cdr_simulator::crm::Crm;
use cdr_tests::{
    Call::{self, Create, Read, Sync, Write},
    FaultyDisk, Process, until,
};
use serde_json::{Value, json};

use super::{configuration, session};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// A gateway that sends everything to the CRM, its spool on a disk that fails when it is told.
fn settings(crm: &str) -> Value {
    let mut settings = configuration(crm);
    settings["sinks"] = json!({ "crm": settings["sinks"]["crm"] });
    settings["routes"] = json!([{ "name": "all", "to": ["crm"] }]);
    settings
}

fn body(session: &str) -> String {
    format!(r#"{{"SessionId":"{session}","EndStatusString":"ok"}}"#)
}

fn push(gateway: &Process, session: &str) -> i64 {
    gateway.push("cdr", body(session).as_bytes(), Some(session)).err_code()
}

fn sessions(crm: &Crm) -> HashSet<String> {
    crm.received().iter().map(|received| session(&received.body)).collect()
}

fn metric(gateway: &Process, name: &str) -> f64 {
    let metrics = gateway.ask("GET", "/metrics").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
}

/// Waits for `/readyz` to say 503, and gives its reason.
fn until_not_ready(gateway: &Process) -> String {
    until("it is not ready", || {
        let ready = gateway.ask("GET", "/readyz");
        (ready.status == 503).then(|| ready.json()["reason"].as_str().unwrap().to_owned())
    })
}

fn until_ready(gateway: &Process) {
    until("it is ready again", || (gateway.ask("GET", "/readyz").status == 200).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_refuses_is_never_confirmed_and_the_gateway_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let disk = FaultyDisk::new(folder.path());
    let gateway = Process::start_on_faulty_disk(folder.path(), &settings(&crm.url()).to_string(), &disk);
    let faults: [(&str, &[Call], i32); 5] = [
        ("EIO on sync", &[Sync], EIO),
        ("EIO on write", &[Write], EIO),
        ("a full disk", &[Write, Create], ENOSPC),
        ("a disk that became read-only", &[Write, Create], EROFS),
        ("EIO everywhere", &[Read, Write, Sync, Create], EIO),
    ];
    let mut acknowledged = HashSet::new();
    for (number, (what, calls, errno)) in faults.into_iter().enumerate() {
        for nth in 0..10 {
            let session = format!("good-{number}-{nth}");
            assert_eq!(push(&gateway, &session), 0, "before {what}");
            acknowledged.insert(session);
        }
        let failures = metric(&gateway, "cdr_gateway_spool_failures_total");
        disk.fail(calls, errno, "data/spool/");
        for nth in 0..10 {
            assert_eq!(push(&gateway, &format!("refused-{number}-{nth}")), 503, "{what}");
        }
        let reason = until_not_ready(&gateway);
        assert!(reason.contains(&format!("os error {errno}")), "{what}: {reason}");
        assert_eq!(metric(&gateway, "cdr_gateway_spool_ok"), 0.0, "{what}");
        assert!(metric(&gateway, "cdr_gateway_spool_failures_total") > failures, "{what}");
        let said = format!("os error {errno}");
        gateway
            .log()
            .into_iter()
            .rfind(|line| line["level"] == "ERROR" && line.to_string().contains(&said))
            .expect(what);
        disk.mend();
        until_ready(&gateway);
        // What was refused comes again, as TCCC's retry.
        let again = format!("refused-{number}-0");
        assert_eq!(push(&gateway, &again), 0, "after {what}");
        acknowledged.insert(again);
    }
    // The log is as good as what was answered: a kill, and everything is there.
    gateway.kill();
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();
    assert!(acknowledged.is_subset(&sessions(&crm)), "{:?}", acknowledged.difference(&sessions(&crm)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_told_and_what_it_takes_in_the_end_is_delivered_once() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let disk = FaultyDisk::new(folder.path());
    let gateway = Process::start_on_faulty_disk(folder.path(), &settings(&crm.url()).to_string(), &disk);
    assert_eq!(push(&gateway, "before"), 0);
    gateway.until_delivered();
    disk.hang(&[Sync], "data/spool/");
    assert_eq!(push(&gateway, "slow"), 503);
    let reason = until_not_ready(&gateway);
    assert!(reason.contains("slow or hangs"), "{reason}");
    assert_eq!(gateway.ask("GET", "/healthz").status, 200);
    gateway.until_logged("alert");
    assert_eq!(crm.kept(), 1, "nothing is delivered that is not on disk");
    disk.mend();
    until_ready(&gateway);
    assert_eq!(push(&gateway, "slow"), 0, "its sender comes again, and it is a repeat");
    gateway.until_delivered();
    assert_eq!((crm.kept(), crm.repeats()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_that_the_disk_does_not_give_wait_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.go_away().await;
    let disk = FaultyDisk::new(folder.path());
    let configuration = settings(&crm.url()).to_string();
    let gateway = Process::start_on_faulty_disk(folder.path(), &configuration, &disk);
    for number in 0..800 {
        assert_eq!(push(&gateway, &format!("s-{number}")), 0);
    }
    assert_eq!(gateway.terminate(), Some(0));

    // From here on the backlog is read from the disk; far behind what the lane reads while the CRM is away is a place with EIO.
    let gateway = Process::start_on_faulty_disk(folder.path(), &configuration, &disk);
    let segment = fs::metadata(folder.path().join("data/spool/0000000001.log")).unwrap();
    let place = i64::try_from(segment.len()).unwrap() * 3 / 4;
    disk.fail_at(Read, EIO, "0000000001.log", place..place + 4096);
    crm.come_back().await.unwrap();
    let unreadable = || gateway.lane("crm")["unreadable"].as_u64().filter(|&pushes| pushes > 0);
    until("the place is met", unreadable);
    until("the others are delivered", || {
        let lane = gateway.lane("crm");
        (lane["unread"] == 0 && lane["open"] == lane["unreadable"]).then_some(())
    });
    let stuck = unreadable().unwrap() as usize;
    // Two stretches of 32 KiB at the most: the place may lie on the border of two.
    assert!(stuck < 400 && crm.kept() + stuck == 800, "{} delivered, {stuck} unreadable", crm.kept());
    assert_eq!(push(&gateway, "fresh"), 0);

    let ready = gateway.ask("GET", "/readyz");
    assert_eq!(ready.status, 200, "pushes are stored: {}", ready.body);
    assert!(
        ready.json()["sick_sinks"][0]["reason"].as_str().unwrap().contains("cannot be read"),
        "{}",
        ready.body
    );
    assert_eq!(metric(&gateway, r#"cdr_gateway_lane_unreadable_deliveries{sink="crm"}"#), stuck as f64);
    gateway.until_logged("the spool cannot be read in places");
    until("the alert", || {
        gateway.log().into_iter().find(|line| line["message"] == "alert" && line["kind"] == "disk")
    });

    disk.mend();
    gateway.until_delivered();
    assert_eq!((crm.kept(), crm.repeats(), gateway.lane("crm")["dead"].as_u64()), (801, 0, Some(0)));
    gateway.until_logged("the spool can be read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_was_moved_away_takes_nothing_and_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = Process::start(folder.path(), &settings(&crm.url()).to_string());
    let (here, elsewhere) = (folder.path().join("data/spool"), folder.path().join("elsewhere"));
    assert_eq!(push(&gateway, "before"), 0);
    fs::rename(&here, &elsewhere).unwrap();
    assert_eq!(push(&gateway, "lost"), 503);
    until("it says what to do", || until_not_ready(&gateway).contains("Put it back").then_some(()));
    // A folder of that name is not the spool.
    fs::create_dir(&here).unwrap();
    assert_eq!(push(&gateway, "lost"), 503);
    fs::remove_dir(&here).expect("nothing was put into it");
    fs::rename(&elsewhere, &here).unwrap();
    until_ready(&gateway);
    assert_eq!(push(&gateway, "after"), 0);
    gateway.until_delivered();
    assert_eq!(gateway.terminate(), Some(0));
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();
    assert_eq!(sessions(&crm), HashSet::from(["before".to_owned(), "after".to_owned()]));
    assert_eq!(crm.repeats(), 0);

    // For good: nobody is told that it was stored.
    fs::remove_dir_all(&here).unwrap();
    assert_eq!(push(&gateway, "lost"), 503);
    assert!(until_not_ready(&gateway).contains("removed"));
    assert_eq!(gateway.ask("GET", "/healthz").status, 200);
}
