//! What TCCC pushes beside CDRs: recordings, voicemails, text and video sessions, and what nobody has heard of.

use std::path::Path;

use cdr_simulator::crm::Crm;
use cdr_tests::{Process, cli, sample, until};
use serde_json::{Value, json};

use super::{configuration, files, outbox};

const SAMPLES: [(&str, &str); 5] = [
    ("record", "record-01-agent-side"),
    ("record", "record-02-user-side-custom-cos"),
    ("voicemail", "voicemail-01-numeric-endpoint-user"),
    ("imcdr", "imcdr-01-ok"),
    ("videoCdr", "videocdr-01-error"),
];

fn body(file: &str) -> bytes::Bytes {
    sample(&format!("other-actions/{file}.json"))
}

/// The actions of the pushes that `trace` finds.
fn traced(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let told = cli(folder, &[&["trace", "--format", "json"], arguments].concat(), &[]);
    let action = |line: &str| {
        let push: Value = serde_json::from_str(line).unwrap();
        push["action"].as_str().unwrap().to_owned()
    };
    told.stdout.lines().map(action).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_taken_and_routed_by_its_action_and_its_own_fields() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let mut settings = configuration(&crm.url());
    settings["routes"] = json!([
        { "name": "every push is archived", "to": ["archive"] },
        { "name": "recordings of customers", "when": r#"action == "record" && RecordURL != null && !EndpointUser.contains("@")"#, "to": ["crm"] },
        { "name": "satisfied", "when": r#"action == "imcdr" && result == "answered" && Satisfaction.id == "104""#, "to": ["crm"] },
        { "name": "new things", "when": r#"action == "somethingNew" && cdr.Anything == 1"#, "to": ["crm"] },
        { "name": "voicemails", "when": r#"action == "voicemail" && EndpointUser == "13800138000""#, "to": ["on-call"] },
        { "name": "trouble", "when": r#"result == "fault""#, "to": ["on-call"] },
    ]);
    let gateway = Process::start(folder.path(), &settings.to_string());
    for (action, file) in SAMPLES {
        // TCCC's spelling is what counts, however the URL has it.
        let spelled = if action == "videoCdr" { "VIDEOCDR" } else { action };
        assert_eq!(gateway.push(spelled, &body(file), None).err_code(), 0, "{file}");
    }
    assert_eq!(gateway.push("somethingNew", br#"{"Anything":1}"#, None).err_code(), 0);
    let question = gateway.push("specifiedSeat", br#"{"RequestId":"1"}"#, None);
    assert_eq!((question.status, question.err_code()), (404, 404));
    assert!(question.err_msg().contains("which agent takes a live call"), "{}", question.err_msg());
    gateway.until_delivered();

    let mut got: Vec<Vec<u8>> = crm.received().iter().map(|received| received.body.to_vec()).collect();
    let mut meant =
        [body("record-02-user-side-custom-cos"), body("imcdr-01-ok")].map(|body| body.to_vec()).to_vec();
    meant.push(br#"{"Anything":1}"#.to_vec());
    got.sort();
    meant.sort();
    assert!(got == meant, "the CRM got other pushes");
    let mails = outbox(folder.path());
    assert_eq!(mails.len(), 2, "{mails:?}");
    let mail = |subject: &str| mails.iter().find(|mail| mail.starts_with(subject)).expect(subject);
    assert!(mail("[CDR] voicemail: a caller left a message").contains("Caller:       ***8000"));
    assert!(mail("[CDR] error: system error").contains("Push:         videoCdr"));
    assert_eq!(files(&folder.path().join("data/archive/videoCdr"), ".json").len(), 1);

    // The session and the number of a recording are found like a call's.
    let session = "44c97144-125f-5646-b773-c2a0dbbd427c";
    until("the recordings are found", || (traced(folder.path(), &[session]).len() == 2).then_some(()));
    assert_eq!(traced(folder.path(), &["--number", "+86 138 0013 8000"]), ["record", "voicemail"]);
}

#[test]
fn recordings_of_one_session_are_no_repeats_and_retries_are() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    let recording = |id: &str, whose: &str| {
        json!({ "SessionId": "s-1", "RecordId": id, "EndpointUser": whose, "RecordURL": "https://x/a.mp3" })
            .to_string()
    };
    let sides = [
        recording("7", "agent@example.com"),
        recording("7", "008613800138000"),
        recording("8", "agent@example.com"),
    ];
    for uuids in [[None; 3], [Some("u-1"), Some("u-2"), Some("u-3")]] {
        for (side, uuid) in sides.iter().zip(uuids) {
            for _retry in 0..2 {
                assert_eq!(gateway.push("record", side.as_bytes(), uuid).err_code(), 0);
            }
        }
    }
    // The same bytes as another kind of push are another push.
    assert_eq!(gateway.push("voicemail", sides[0].as_bytes(), None).err_code(), 0);
    gateway.until_delivered();
    let found = traced(folder.path(), &["s-1"]);
    assert_eq!((found.len(), found.last().map(String::as_str)), (7, Some("voicemail")), "{found:?}");
    assert_eq!(files(&folder.path().join("data/archive/record"), ".json").len(), 6);
}

#[test]
fn send_makes_up_recordings_and_voicemails() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    let url = format!("http://{}/", gateway.door);
    for (action, count) in [("record", "5"), ("voicemail", "2")] {
        let sent = cli(folder.path(), &["send", "--url", &url, "--action", action, "--count", count], &[]);
        assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    }
    gateway.until_delivered();
    assert_eq!(files(&folder.path().join("data/archive/record"), ".json").len(), 5);
    assert_eq!(files(&folder.path().join("data/archive/voicemail"), ".json").len(), 2);
    let other = cli(folder.path(), &["send", "--url", &url, "--action", "imcdr"], &[]);
    assert_eq!(other.code, Some(1));
    assert!(other.stderr.contains("name files"), "{}", other.stderr);
}
