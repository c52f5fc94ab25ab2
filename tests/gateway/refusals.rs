//! What is no push: it is refused with its reason, reaches no sink, and is kept for a person to look at.

use cdr_simulator::crm::Crm;
use cdr_tests::{Process, cli, sample, samples};

use super::{configuration, files, outbox};

#[tokio::test(flavor = "multi_thread")]
async fn every_invalid_sample_is_refused_with_its_place_and_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = Process::start(folder.path(), &configuration(&crm.url()).to_string());
    let mut names: Vec<String> = std::fs::read_dir(samples().join("invalid"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in &names {
        let body = sample(&format!("invalid/{name}"));
        for _ in 0..4 {
            let answer = gateway.push("cdr", &body, None);
            assert_eq!((answer.status, answer.err_code()), (400, 400), "{name}: {}", answer.body);
            assert!(answer.err_msg().contains("quarantine"), "{name}: {}", answer.err_msg());
        }
    }
    let masked = gateway.push("cdr", &sample("invalid/masked-sdkappid.txt"), None).err_msg();
    assert!(masked.contains("1400xxx214") && masked.contains("byte 21"), "{masked}");
    gateway.until_delivered();
    assert!(crm.received().is_empty());
    assert!(files(&folder.path().join("data/archive"), ".json").is_empty());
    assert!(outbox(folder.path()).is_empty());

    let list = cli(folder.path(), &["quarantine", "list", "--format", "json"], &[]);
    assert_eq!(list.code, Some(0), "{}", list.stderr);
    let entries: Vec<serde_json::Value> =
        list.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.len(), names.len(), "{}", list.stdout);
    let show = |entry: &serde_json::Value| {
        let shown = cli(folder.path(), &["quarantine", "show", &entry["number"].to_string(), "--raw"], &[]);
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        shown.bytes
    };
    let mut held: Vec<Vec<u8>> = entries.iter().map(show).collect();
    let mut sent: Vec<Vec<u8>> =
        names.iter().map(|name| sample(&format!("invalid/{name}")).to_vec()).collect();
    held.sort();
    sent.sort();
    assert!(held == sent, "the bytes in quarantine are not those that were sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_and_no_log_line_tells_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["ingress"]["verify"] =
        serde_json::json!([{ "basic": { "username": "tccc", "password": "a-secret-of-tests" } }]);
    let gateway = Process::start(folder.path(), &settings.to_string());
    let answer = gateway.push("cdr", br#"{"SessionId":"s","Caller":"008613800138000"}"#, None);
    assert_eq!((answer.status, answer.err_code()), (401, 401));
    let url = format!("http://{}/", gateway.door);
    let password = [("PASSWORD", "a-secret-of-tests")];
    let arguments =
        ["send", "--url", &url, "--username", "tccc", "--password-env", "PASSWORD", "--retries", "0"];
    let sent = cli(folder.path(), &arguments, &password);
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    let wrong = cli(folder.path(), &arguments, &[("PASSWORD", "another-secret")]);
    assert_eq!(wrong.code, Some(1));
    gateway.until_logged("refused");
    for line in gateway.log() {
        let line = line.to_string();
        assert!(!line.contains("a-secret-of-tests") && !line.contains("another-secret"), "{line}");
        assert!(!line.contains("13800138000"), "{line}");
    }
}
