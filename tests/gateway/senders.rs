//! Who may push: what `check --client` says of an address, and how the allowlist is learned.

use cdr_tests::{Cli, Process, cli};
use serde_json::{Value, json};

use super::{ask, configuration};

fn door(mode: &str) -> Value {
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["ingress"]["allow"] = json!({ "networks": ["203.0.113.0/24"], "mode": mode });
    settings["ingress"]["trusted_proxies"] = json!(["10.0.0.0/8"]);
    // Nobody who looks has the gateway's secrets.
    let password = json!({ "env": "NO_SUCH_VARIABLE_HERE" });
    settings["ingress"]["verify"] = json!([{ "basic": { "username": "tccc", "password": password } }]);
    settings
}

/// What `check` says of a client with these headers.
fn check(settings: &Value, client: &str, headers: &[&str]) -> Cli {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    let headers = headers.iter().flat_map(|header| ["--header", header]);
    let arguments: Vec<&str> = ["check", "--client", client].into_iter().chain(headers).collect();
    cli(folder.path(), &arguments, &[])
}

#[test]
fn check_says_which_address_counts_and_why() {
    let settings = door("enforce");
    let spoofed = "X-Forwarded-For: 203.0.113.5, 198.51.100.9";
    let told = check(&settings, "10.0.0.1", &[spoofed, "X-Forwarded-For: 203.0.113.9:4711, 10.2.2.2"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "10.0.0.1 connects: it is a trusted proxy (ingress.trusted_proxies has 10.0.0.0/8), so X-Forwarded-For counts, read from the right",
            "  10.2.2.2: a trusted proxy (10.0.0.0/8), passed over",
            "  203.0.113.9: no trusted proxy, so it is the sender",
            "  \"198.51.100.9\": never read, for the sender may have written it",
            "  \"203.0.113.5\": never read, for the sender may have written it",
            "203.0.113.9 may push: ingress.allow.networks has 203.0.113.0/24",
        ]
    );
    let claimed = check(&settings, "198.51.100.9", &["X-Forwarded-For: 203.0.113.9"]);
    assert_eq!(claimed.code, Some(1));
    assert!(claimed.stdout.contains("198.51.100.9 connects: it is no trusted proxy"), "{}", claimed.stdout);
    assert!(
        claimed
            .stdout
            .ends_with("198.51.100.9 is refused with 403: ingress.allow.networks does not hold it\n")
    );
    let garbage = check(&settings, "10.0.0.1", &["Forwarded: for=203.0.113.9, for=_x\u{202e}"]);
    assert_eq!(garbage.code, Some(1), "{}", garbage.stdout);
    assert!(
        garbage.stdout.contains(r#"  "for=_x\u{202e}": no address, so the search ends and 10.0.0.1 counts"#),
        "{}",
        garbage.stdout
    );
}

#[test]
fn check_of_a_client_knows_the_mode_and_what_is_no_header() {
    let learning = check(&door("log"), "198.51.100.9", &[]);
    assert_eq!(learning.code, Some(0));
    assert!(learning.stdout.contains("passes because of mode: log alone"), "{}", learning.stdout);
    let mut open = door("log");
    open["ingress"].as_object_mut().unwrap().remove("allow");
    assert!(check(&open, "198.51.100.9", &[]).stdout.contains("ingress.allow is not set"));
    assert_eq!(check(&open, "198.51.100.9", &["no header"]).code, Some(2));
    assert_eq!(check(&open, "example.com", &[]).code, Some(2));
}

#[test]
fn what_was_learned_is_printed_as_a_list_that_check_finds_good() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["ingress"]["allow"] = json!({ "networks": ["203.0.113.0/24", "2001:db8::/32"], "mode": "log" });
    let gateway = Process::start(folder.path(), &settings.to_string());
    assert_eq!(gateway.push("cdr", br#"{"SessionId":"s"}"#, None).err_code(), 0);
    let told = ask(&gateway, &["check", "--senders"], &[]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.stdout.contains("- 127.0.0.1/32         # 1 pushes, the last 20"), "{}", told.stdout);
    let api = gateway.ask("GET", "/api/v1/senders").json();
    assert_eq!((&api["senders"][0]["pushes"], &api["allow"]["mode"]), (&json!(1), &json!("log")), "{api}");

    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("gateway.yaml"), &told.stdout).unwrap();
    let checked = cli(elsewhere.path(), &["check"], &[]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, told.stdout);
    for (client, code) in [("127.0.0.1", 0), ("2001:db8::7", 0), ("127.0.0.2", 1)] {
        assert_eq!(cli(elsewhere.path(), &["check", "--client", client], &[]).code, Some(code), "{client}");
    }
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn a_list_that_nobody_learns_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    let told = ask(&gateway, &["check", "--senders"], &[]);
    assert_eq!(told.code, Some(1));
    assert!(told.stderr.contains("set allow: { mode: log }"), "{}", told.stderr);
}
