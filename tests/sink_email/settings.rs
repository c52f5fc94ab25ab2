//! What settings say when they are wrong, and what they build.

use std::time::Duration;

use cdr_core::{SettingFault, setting};
use cdr_sink_email::EmailSettings;
use cdr_tests::build;
use serde_json::{Value, json};

use super::{email, no_seat};

fn faults(settings: Value) -> Vec<String> {
    let faults: Vec<SettingFault> = build::<EmailSettings>(settings).err().expect("faulty settings");
    faults.iter().map(ToString::to_string).collect()
}

fn places(settings: Value) -> Vec<String> {
    let place = |fault: String| fault.split(": ").next().unwrap_or_default().to_owned();
    faults(settings).into_iter().map(place).collect()
}

fn with(smtp: Value) -> Value {
    json!({ "smtp": smtp, "from": "a@example.com", "to": ["b@example.com"] })
}

#[test]
fn every_fault_of_the_settings_is_told_at_once() {
    let settings = json!({
        "smtp": { "url": "http://example.com", "username": "cdr", "ca": "ca.pem" },
        "outbox": "out",
        "from": "nobody",
        "to": [
            "good@example.com",
            "bad",
            "x@example.com, y@example.com",
            "a@example.com\r\nBcc: b@example.com",
            "客服@例子.cn",
        ],
        "timeout": "0s",
        "timezone": "Asia/Shangri-La",
    });
    let expected = [
        "timeout",
        "from",
        "to.1",
        "to.2",
        "to.3",
        "to.4",
        "timezone",
        "smtp.url",
        "smtp.password",
        "outbox",
    ];
    assert_eq!(places(settings), expected);
}

#[test]
fn a_timeout_that_leaves_no_time_for_the_answer_is_a_fault() {
    let with_timeout = |timeout: &str| {
        let mut settings = with(json!({ "url": "smtps://h" }));
        settings["timeout"] = json!(timeout);
        settings
    };
    email(with_timeout("60s"));
    let faults = faults(with_timeout("61s"));
    assert!(faults.len() == 1 && faults[0].starts_with("timeout: is longer than 60s"), "{faults:?}");
}

#[test]
fn misspelled_settings_are_named_with_what_was_meant() {
    let settings =
        json!({ "smtp": { "url": "smtp://x", "user_name": "u" }, "form": "a@x.org", "to": ["b@x.org"] });
    let faults = faults(settings);
    assert!(faults.iter().any(|fault| fault.contains("did you mean \"username\"?")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("did you mean \"from\"?")), "{faults:?}");
}

#[test]
fn exactly_one_of_smtp_and_outbox_is_wanted() {
    let none = faults(json!({ "from": "a@example.com", "to": ["b@example.com"] }));
    assert_eq!(none, ["needs smtp, or outbox to try it without a mail server"]);
    let mut both = with(json!({ "url": "smtps://example.com" }));
    both["outbox"] = json!("out");
    assert_eq!(places(both), ["outbox"]);
    assert_eq!(places(json!({ "outbox": "o", "from": "a@example.com", "to": [] })), ["to"]);
}

#[test]
fn the_scheme_says_how_tls_begins_and_a_contradiction_is_a_fault() {
    for (url, tls) in
        [("smtps://h", json!("none")), ("smtps://h", json!("starttls")), ("smtp://h", json!("required"))]
    {
        assert_eq!(places(with(json!({ "url": url, "tls": tls }))), ["smtp.tls"], "{url} {tls}");
    }
    for (url, described) in [
        ("smtps://mail.example.com", "mail.example.com:465 (without login, TLS)"),
        ("smtp://mail.example.com", "mail.example.com:587 (without login, STARTTLS)"),
        ("smtps://[::1]:2465/", "[::1]:2465 (without login, TLS)"),
    ] {
        let sink = email(with(json!({ "url": url })));
        assert_eq!(sink.describe(), format!("mails to b…@example.com through {described}"));
    }
    let open = email(with(json!({ "url": "smtp://mail.example.com:25", "tls": "none" }))).describe();
    assert!(open.contains("WITHOUT TLS"), "{open}");
}

#[test]
fn a_login_in_the_url_is_refused_and_never_quoted() {
    for url in [
        "smtps://cdr:hunter2@example.com",
        "smtps://cdr:hunter2@exa mple.com",
        "smtp://cdr:hunter2@:99999999",
    ] {
        let faults = faults(with(json!({ "url": url })));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(!faults[0].contains("hunter2"), "{faults:?}");
    }
}

#[test]
fn half_a_login_is_a_fault_and_so_is_an_authority_without_tls() {
    assert_eq!(places(with(json!({ "url": "smtps://h", "username": "cdr" }))), ["smtp.password"]);
    assert_eq!(places(with(json!({ "url": "smtps://h", "password": "p" }))), ["smtp.username"]);
    assert_eq!(places(with(json!({ "url": "smtp://h", "tls": "none", "ca": "x.pem" }))), ["smtp.ca"]);
    for (login, place) in [
        (json!({ "username": "u", "password": "p", "token_file": "t" }), "smtp"),
        (json!({ "username": "u", "password": "p", "mechanism": "xoauth2" }), "smtp.mechanism"),
        (json!({ "username": "u", "token_file": "t", "mechanism": "plain" }), "smtp.mechanism"),
        (json!({ "token_file": "t" }), "smtp.username"),
        (
            json!({ "username": "u", "oauth2": { "token_url": "https://h/t", "client_id": "c" } }),
            "smtp.oauth2",
        ),
        (
            json!({ "username": "u", "oauth2": { "token_url": "http://h/t", "client_id": "c", "refresh_token": "r" } }),
            "smtp.oauth2.token_url",
        ),
    ] {
        let mut smtp = json!({ "url": "smtps://h" });
        super::merge(&mut smtp, login);
        assert_eq!(places(with(smtp)), [place]);
    }
}

#[test]
fn a_sink_is_built_and_dropped_without_a_runtime_and_says_how_it_groups() {
    let sink = email(with(json!({ "url": "smtps://example.com" })));
    let batching = sink.batching();
    assert_eq!((batching.wait, batching.spacing), (Duration::ZERO, Duration::from_secs(300)));
    assert!(batching.pushes >= 100);
    assert_eq!(sink.partition(&no_seat()), sink.partition(&no_seat()));
    let mut settings = with(json!({ "url": "smtps://example.com" }));
    settings["group_wait"] = json!("10s");
    settings["group_interval"] = json!("1m");
    let batching = email(settings).batching();
    assert_eq!((batching.wait, batching.spacing), (Duration::from_secs(10), Duration::from_secs(60)));
}

#[test]
fn a_template_that_cannot_be_is_a_fault_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("broken.txt"), "one\n{{ calls[ }}").unwrap();
    std::fs::write(dir.path().join("unknown.html"), "\n\n{{ calls[0].sesion.id }}").unwrap();
    std::fs::write(
        dir.path().join("endless.txt"),
        "{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}",
    )
    .unwrap();
    let mut settings = with(json!({ "url": "smtps://h" }));
    settings["templates"] = json!({ "subject": "endless.txt", "text": "broken.txt", "html": "unknown.html" });
    let told = setting::with_surroundings(super::letters::around(dir.path()), || faults(settings));
    let [subject, text, html] = &told[..] else { panic!("{told:?}") };
    assert!(
        subject.starts_with("templates.subject: endless.txt:1: ") && subject.contains("fuel"),
        "{subject}"
    );
    assert!(text.starts_with("templates.text: broken.txt:2: "), "{text}");
    assert!(html.starts_with("templates.html: unknown.html:3: "), "{html}");
    let mut missing = with(json!({ "url": "smtps://h" }));
    missing["templates"] = json!({ "text": "nowhere.txt" });
    let told = setting::with_surroundings(super::letters::around(dir.path()), || faults(missing));
    assert!(
        told.len() == 1 && told[0].starts_with("templates.text: ") && told[0].contains("nowhere.txt"),
        "{told:?}"
    );
}

#[test]
fn a_link_and_recipients_by_route_are_checked_like_the_rest() {
    let mut settings = with(json!({ "url": "smtps://h" }));
    settings["link"] = json!("https://{session}.example.com/");
    settings["to_by_route"] = json!({ "sales. and more": ["x@example.com", "nobody"], "none": [] });
    settings["language"] = json!("fr");
    let told = faults(settings.clone());
    assert!(told.iter().any(|fault| fault.contains("language") && fault.contains("fr")), "{told:?}");
    settings["language"] = json!("zh");
    assert_eq!(places(settings), ["to_by_route.none", "to_by_route.sales. and more.1", "link"]);
}
