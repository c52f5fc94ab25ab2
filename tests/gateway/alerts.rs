//! What the gateway tells its operators about itself, through the outbox.

use cdr_simulator::crm::{Behaviour, Crm};
use cdr_tests::{Process, until};
use serde_json::json;

use super::{configuration, files, outbox};

/// Waits for a mail whose subject holds these words.
fn until_mail(gateway: &Process, words: &str) -> String {
    until(words, || {
        outbox(gateway.folder()).into_iter().find(|mail| mail.lines().next().unwrap_or("").contains(words))
    })
}

#[test]
fn without_anybody_to_tell_alerts_are_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    assert_eq!(gateway.push("cdr", b"{}", None).status, 400);
    let alert = gateway.until_logged("alert");
    assert_eq!((&alert["level"], &alert["kind"]), (&json!("WARN"), &json!("quarantine")), "{alert}");
    assert_eq!(alert["subject"], "1 request(s) in quarantine");
}

#[test]
fn a_full_quarantine_is_told_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["spool"]["max_size"] = json!("16MiB");
    settings["alerts"] = json!({ "to": ["on-call"] });
    let gateway = Process::start(folder.path(), &settings.to_string());
    let bad = |letter: &str| gateway.push("cdr", letter.repeat(600 << 10).as_bytes(), None);
    assert!(bad("a").err_msg().contains("kept in quarantine"));
    let full = bad("b");
    assert_eq!((full.status, full.err_msg().ends_with("; not kept")), (400, true), "{full:?}");
    // One mail may tell of both.
    let told = |words: &str| outbox(gateway.folder()).iter().any(|mail| mail.contains(words));
    until("what is kept is told", || told("1 request(s) in quarantine").then_some(()));
    until("what is not kept is told", || {
        (told("the quarantine is full: 1 request(s) not kept") && told("NOT kept")).then_some(())
    });
    // There is room for pushes.
    assert_eq!(gateway.push("cdr", br#"{"SessionId":"s"}"#, None).status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn troubles_are_told_by_mail_and_so_is_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.behave(Behaviour::status(422).body("{\"error\":\"no owner\"}"));
    let mut settings = configuration(&crm.url());
    settings["alerts"] = json!({ "to": ["on-call"], "silence": "3s" });
    settings["ingress"]["verify"] =
        json!([{ "basic": { "username": "tccc", "password": "p4ssw0rd-of-tests" } }]);
    let gateway = Process::start(folder.path(), &settings.to_string());

    until_mail(&gateway, "no push for");
    assert_eq!(gateway.push("cdr", b"{}", None).status, 401);
    let refused = until_mail(&gateway, "refused at the door");
    assert!(!refused.contains("p4ssw0rd"), "{refused}");
    assert!(refused.contains("1 × no_proof from 127.0.0.0/24 since 20"), "{refused}");

    settings["ingress"].as_object_mut().unwrap().remove("verify");
    std::fs::write(folder.path().join("gateway.yaml"), "sinks: [").unwrap();
    gateway.hang_up();
    until_mail(&gateway, "was not taken");
    std::fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    gateway.hang_up();
    until_mail(&gateway, "configuration is good again");

    assert_eq!(gateway.push("cdr", b"{}", None).status, 400);
    until_mail(&gateway, "in quarantine");
    gateway.push("cdr", br#"{"SessionId":"unwanted","EndStatusString":"ok"}"#, None);
    let dead = until_mail(&gateway, "dead letter");
    assert!(dead.contains("unwanted") && dead.contains("422"), "{dead}");
    until_mail(&gateway, "pushes come again");
    until_mail(&gateway, "pushes arrive again");

    // Alerts are for people: no archive, no CRM gets them.
    assert_eq!(files(&folder.path().join("data/archive"), ".json").len(), 1);
    assert_eq!(crm.received().len(), 1);
}
