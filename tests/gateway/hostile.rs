//! What strangers choose, and what strangers may read: texts of a call, pages in a browser, other users of the machine.

use std::os::unix::fs::MetadataExt;

use cdr_simulator::crm::{Behaviour, Crm};
use cdr_tests::{Cli, Process, cli, until};
use serde_json::{Value, json};

use super::{configuration, outbox, paths};

/// Moves the cursor, ends the line, turns its direction, begins another header or element.
const NASTY: &str = "x\u{1b}[2J\u{9b}31m\u{7}\u{202e}\r\nBcc: a@example.org\n2026-11-22 INFO stored <script>";

/// Whether it could do more in a terminal than stand there.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}')
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_a_call_move_no_cursor_and_begin_no_line_and_no_header() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.behave(Behaviour::status(422));
    let mut settings = configuration(&crm.url());
    settings["routes"][1] = json!({ "name": "all are mailed", "to": ["on-call", "crm"] });
    let gateway = Process::start(folder.path(), &settings.to_string());
    let call = json!({
        "SessionId": NASTY, "EndStatusString": NASTY, "Caller": NASTY, "CallerLocation": NASTY,
        "SeatUser": { "Mail": NASTY, "Name": NASTY },
    });
    assert_eq!(gateway.push("cdr", call.to_string().as_bytes(), None).err_code(), 0);
    let fault = format!("{{\"SessionId\":\"s\",{NASTY}");
    assert_eq!(gateway.push("cdr", fault.as_bytes(), None).err_code(), 400);
    until("it dies", || (gateway.lane("crm")["dead"] == 1).then_some(()));
    gateway.until_delivered();

    let ask = |arguments: &[&str]| -> Cli { cli(folder.path(), arguments, &[]) };
    for arguments in [
        ["trace", "--since", "1h"].as_slice(),
        &["dead", "list"],
        &["dead", "list", "--summary"],
        &["dead", "show", "1"],
        &["quarantine", "list"],
        &["quarantine", "show", "2"],
    ] {
        let told = ask(arguments);
        assert_eq!(told.code, Some(0), "{arguments:?}: {}", told.stderr);
        assert!(is_plain(&told.stdout) && is_plain(&told.stderr), "{arguments:?}: {:?}", told.stdout);
        // `show` ends with the body, as it came.
        let ours = told.stdout.split("\n\n").next().unwrap();
        assert!(!ours.lines().any(|line| line.starts_with("2026-11-22 INFO")), "{arguments:?}: {ours}");
    }
    let traced: Value = serde_json::from_str(&ask(&["trace", NASTY, "--format", "json"]).stdout).unwrap();
    assert_eq!(traced["session_id"], NASTY, "JSON tells it as it is: {traced}");
    let mails = outbox(folder.path());
    assert_eq!(mails.len(), 1);
    assert!(is_plain(&mails[0].replace("\r\n", "\n")), "{:?}", mails[0]);
    assert!(!mails[0].lines().any(|line| line.starts_with("Bcc")), "{}", mails[0]);
}

#[test]
fn a_page_in_a_browser_on_this_machine_is_answered_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    let port = gateway.admin.port();
    let from = |headers: &str, method: &str, path: &str| gateway.ask_with(method, path, headers).status;
    for page in [
        "Origin: http://example.org\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        format!("Host: example.org:{port}\r\n"),
    ] {
        assert_eq!(from(&page, "POST", "/api/v1/reload"), 403, "{page}");
        assert_eq!(from(&page, "GET", "/api/v1/lanes"), 403, "{page}");
        assert_eq!(from(&page, "GET", "/metrics"), 403, "{page}");
    }
    for host in
        [format!("localhost:{port}"), "127.0.0.1".to_owned(), format!("[::1]:{port}"), "::1".to_owned()]
    {
        assert_eq!(from(&format!("Host: {host}\r\n"), "GET", "/api/v1/lanes"), 200, "{host}");
    }
}

#[test]
fn nothing_that_is_written_can_be_read_by_other_users() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("gateway.yaml");
    assert_eq!(cli(folder.path(), &["init"], &[]).code, Some(0));
    assert_eq!(own.metadata().unwrap().mode() & 0o777, 0o600);
    for layout in ["raw", "ndjson", "parquet"] {
        let mut settings = configuration("http://127.0.0.1:1/");
        settings["sinks"]["archive"]["file"]["layout"] = layout.into();
        let gateway = Process::start(folder.path(), &settings.to_string());
        let call = json!({ "SessionId": layout, "EndStatusString": "error" }).to_string();
        assert_eq!(gateway.push("cdr", call.as_bytes(), None).err_code(), 0);
        gateway.until_delivered();
    }
    let data = folder.path().join("data");
    let files = paths(&data, "");
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let folders = file.ancestors().take_while(|folder| folder.starts_with(&data));
        for path in folders {
            let mode = path.metadata().unwrap().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        }
    }
}
