//! A small real file system that fills up.

use std::{collections::HashSet, time::Duration};

use cdr_simulator::crm::Crm;
use cdr_tests::{Process, until};
use serde_json::json;

use super::{configuration, session};

/// The spool may grow to four times what the disk holds: it is the disk that says no.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_delivers_what_it_has_and_goes_on() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.go_away().await;
    let mut settings = configuration(&crm.url());
    settings["spool"] = json!({ "path": disk.path().join("spool"), "max_size": "256MiB", "keep": "1s" });
    settings["sinks"] = json!({ "crm": settings["sinks"]["crm"] });
    settings["routes"] = json!([{ "name": "all", "to": ["crm"] }]);
    let gateway = Process::start_on_small_disk(folder.path(), &settings.to_string(), disk.path(), 64);

    let filler = "x".repeat(200_000);
    let body =
        |number: usize| format!(r#"{{"SessionId":"s-{number}","EndStatusString":"ok","Uui":"{filler}"}}"#);
    let mut acknowledged = HashSet::new();
    let mut refused = 0;
    for number in 0..1000 {
        let answer = gateway.push("cdr", body(number).as_bytes(), None);
        match answer.err_code() {
            0 => drop(acknowledged.insert(format!("s-{number}"))),
            503 => refused += 1,
            other => panic!("{other}: {answer:?}"),
        }
        if refused >= 5 {
            break;
        }
    }
    assert!(refused >= 5 && acknowledged.len() > 100, "{} taken, {refused} refused", acknowledged.len());
    let ready = gateway.ask("GET", "/readyz");
    assert_eq!(ready.status, 503, "{}", ready.body);

    crm.come_back().await.unwrap();
    let enough = acknowledged.len();
    tokio::time::timeout(Duration::from_secs(60), crm.until_kept(enough))
        .await
        .expect("a full disk still drains");
    // By itself, once there is room.
    until("pushes are taken again", || {
        (gateway.push("cdr", body(9999).as_bytes(), None).err_code() == 0).then_some(())
    });
    until("it is ready again", || (gateway.ask("GET", "/readyz").status == 200).then_some(()));
    gateway.until_delivered();
    let held: HashSet<String> = crm.received().iter().map(|received| session(&received.body)).collect();
    assert!(
        acknowledged.is_subset(&held),
        "{} of {enough} are missing",
        acknowledged.difference(&held).count()
    );
}
