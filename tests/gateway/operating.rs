//! What operators decide: quarantine, parked sinks; and what they ask before anything happens.

use cdr_tests::{Process, cli, samples, until};
use serde_json::json;

use super::configuration;

/// A configuration whose admin listener commands can find: ports 0 are for tests that need no commands.
fn with_admin_at(gateway: &Process, mut settings: serde_json::Value) -> String {
    settings["admin"]["listen"] = json!(gateway.admin.to_string());
    settings.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_understood_leaves_the_quarantine() {
    let folder = tempfile::tempdir().unwrap();
    let settings = configuration("http://127.0.0.1:1/");
    let gateway = Process::start(folder.path(), &settings.to_string());
    std::fs::write(folder.path().join("gateway.yaml"), with_admin_at(&gateway, settings)).unwrap();
    gateway.push("cdr", b"one", None);
    gateway.push("cdr", b"two", None);
    let discarded = cli(folder.path(), &["quarantine", "discard", "1", "77"], &[]);
    assert_eq!(
        (discarded.code, discarded.stdout.as_str()),
        (Some(0), "1 discarded\n"),
        "{}",
        discarded.stderr
    );
    let list = cli(folder.path(), &["quarantine", "list", "--format", "json"], &[]);
    assert_eq!(list.stdout.lines().count(), 1, "{}", list.stdout);
    assert!(list.stdout.contains(r#""number":2"#), "{}", list.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_left_waits_parked_until_somebody_retires_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    let gateway = Process::start(folder.path(), &settings.to_string());
    for number in 0..10 {
        let body = format!(r#"{{"SessionId":"s-{number}","EndStatusString":"ok"}}"#);
        gateway.push("cdr", body.as_bytes(), None);
    }
    settings["sinks"].as_object_mut().unwrap().remove("crm");
    settings["routes"].as_array_mut().unwrap().pop();
    std::fs::write(folder.path().join("gateway.yaml"), with_admin_at(&gateway, settings)).unwrap();
    let known = cli(folder.path(), &["sink", "retire", "crm"], &[]);
    assert!(
        known.code == Some(1) && known.stderr.contains("configuration names this sink"),
        "{}",
        known.stderr
    );
    assert_eq!(cli(folder.path(), &["reload"], &[]).code, Some(0));
    let list = until("parked", || {
        let list = cli(folder.path(), &["sink", "list"], &[]).stdout;
        list.contains("parked").then_some(list)
    });
    // What the stop cut off is open, the others are unread.
    let crm = list.lines().find(|line| line.starts_with("crm")).unwrap();
    let (unread, open) = crm.split_once(';').unwrap().0.split_once(',').unwrap();
    let number = |text: &str| text.split_whitespace().find_map(|word| word.parse::<usize>().ok()).unwrap();
    assert_eq!(number(unread) + number(open), 10, "{list}");
    assert_eq!(gateway.ask("GET", "/readyz").json()["parked"], json!(["crm"]));
    let retired = cli(folder.path(), &["sink", "retire", "crm"], &[]);
    assert_eq!(retired.code, Some(0), "{}", retired.stderr);
    assert_eq!(gateway.ask("GET", "/readyz").json()["parked"], json!([]));
    let unknown = cli(folder.path(), &["sink", "retire", "crm"], &[]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("no lane"), "{}", unknown.stderr);
}

#[test]
fn explain_tells_what_would_become_of_a_push() {
    let folder = tempfile::tempdir().unwrap();
    let settings = configuration("http://127.0.0.1:1/").to_string();
    std::fs::write(folder.path().join("gateway.yaml"), settings).unwrap();
    let explain = |name: &str| {
        let path = samples().join(name);
        cli(folder.path(), &["explain", path.to_str().unwrap()], &[])
    };
    let failed = explain("cdr/cdr-02-outbound-error-duplicate-duration.json");
    assert_eq!(failed.code, Some(0), "{}", failed.stderr);
    let says = |text: &str| assert!(failed.stdout.contains(text), "{text} in {}", failed.stdout);
    says("EndStatusString error, result fault");
    says("on-call: by \"failed sessions alert\"");
    says("crm: no");
    let masked = explain("invalid/masked-sdkappid.txt");
    assert_eq!(masked.code, Some(1));
    assert!(masked.stderr.contains("quarantine") && masked.stderr.contains("byte 21"), "{}", masked.stderr);
    assert!(!folder.path().join("data").exists(), "it stores nothing");
}
