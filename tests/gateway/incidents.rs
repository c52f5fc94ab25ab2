//! Calls about the same thing are one incident: told at once, counted, named, and closed, whatever is killed meanwhile.

use std::{collections::HashMap, time::Instant};

use cdr_tests::{Process, until};
use serde_json::{Value, json};

use super::{call, configuration, files, outbox};

/// Incidents that go by in seconds.
fn quick(interval_s: u64, resolve_after_s: u64) -> Value {
    let mut settings = configuration("http://127.0.0.1:1/");
    let email = &mut settings["sinks"]["on-call"]["email"];
    email["group_interval"] = json!(format!("{interval_s}s"));
    email["resolve_after"] = json!(format!("{resolve_after_s}s"));
    settings
}

fn fails(gateway: &Process, sessions: std::ops::Range<usize>) {
    for n in sessions {
        let answer = gateway.push("cdr", call(&format!("failed-{n}-"), "noSeatOnline").as_bytes(), None);
        assert_eq!(answer.err_code(), 0);
    }
}

/// How many mails name each session.
fn named(mails: &[String], sessions: usize) -> HashMap<usize, usize> {
    let times = |n: usize| mails.iter().filter(|mail| mail.contains(&format!("failed-{n}-"))).count();
    (0..sessions).map(|n| (n, times(n))).collect()
}

fn until_over(gateway: &Process) -> String {
    until("it is over", || outbox(gateway.folder()).into_iter().find(|mail| mail.starts_with("[CDR] over: ")))
}

#[test]
fn a_thousand_failed_calls_are_a_few_mails_that_name_every_session() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &quick(4, 5).to_string());
    let began = Instant::now();
    fails(&gateway, 0..1000);
    let took = began.elapsed().as_secs();
    let over = until_over(&gateway);
    let mails = outbox(folder.path());
    // The first at once, one for each interval, what came last, and the end.
    assert!(mails.len() as u64 <= 1 + took / 4 + 1 + 1, "{} mails in {took} s", mails.len());
    assert!(named(&mails, 1000).values().all(|&times| times == 1));
    assert!(over.starts_with("[CDR] over: 1000 × noSeatOnline: no agent was online"), "{over}");
}

#[test]
fn an_incident_goes_on_after_kill_9_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &quick(4, 6).to_string());
    fails(&gateway, 0..1);
    gateway.until_delivered();
    fails(&gateway, 1..5);
    gateway.kill();
    let gateway = Process::start_again(folder.path());
    fails(&gateway, 5..7);
    assert_eq!(outbox(folder.path()).len(), 1, "what came after the first mail gathers, restart or not");
    let digest = until("the digest", || outbox(folder.path()).into_iter().find(|mail| mail.contains("6 × ")));
    assert!(digest.contains("; 7 in all"), "{digest}");
    gateway.until_delivered();
    gateway.kill();
    let gateway = Process::start_again(folder.path());
    let over = until_over(&gateway);
    assert!(over.starts_with("[CDR] over: 7 × "), "{over}");
    let mails = outbox(folder.path());
    assert_eq!(mails.len(), 3, "{mails:?}");
    assert!(named(&mails, 7).values().all(|&times| times == 1));

    // Mail programs show them together: the later ones answer the first.
    let raw: Vec<String> = files(&folder.path().join("data/outbox"), ".eml")
        .into_iter()
        .map(|mail| String::from_utf8(mail).unwrap().replace("\r\n ", " "))
        .collect();
    let header = |mail: &str, name: &str| {
        mail.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let answered: Vec<_> = raw.iter().filter_map(|mail| header(mail, "In-Reply-To:")).collect();
    let first = raw.iter().find(|mail| header(mail, "In-Reply-To:").is_none()).unwrap();
    assert_eq!(answered, vec![header(first, "Message-ID:").unwrap(); 2]);
}

#[test]
fn one_call_needs_no_end_and_the_next_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = quick(1, 1);
    settings["log"] = json!({ "level": "debug" });
    let gateway = Process::start(folder.path(), &settings.to_string());
    fails(&gateway, 0..1);
    assert_eq!(gateway.until_logged("closed")["receipt"], "needs no mail");
    fails(&gateway, 1..2);
    let second =
        until("the second", || outbox(folder.path()).into_iter().find(|mail| mail.contains("failed-1-")));
    assert!(!second.contains("in all"), "{second}");
    assert_eq!(outbox(folder.path()).len(), 2);
}

#[test]
fn more_mails_than_an_hour_may_have_gather_and_nothing_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = quick(1, 3600);
    // Nothing tells when `group_interval` is over, but a sink without a cap whose own is over later.
    let mut uncapped = settings["sinks"]["on-call"].clone();
    uncapped["email"]["outbox"] = json!("data/uncapped");
    uncapped["email"]["group_interval"] = json!("1s");
    settings["sinks"]["uncapped"] = uncapped;
    settings["routes"][1]["to"] = json!(["on-call", "uncapped"]);
    settings["sinks"]["on-call"]["email"]["group_interval"] = json!("500ms");
    settings["sinks"]["on-call"]["email"]["max_per_hour"] = json!(2);
    let gateway = Process::start(folder.path(), &settings.to_string());
    fails(&gateway, 0..1);
    gateway.until_delivered();
    fails(&gateway, 1..2);
    gateway.until_delivered();
    fails(&gateway, 2..9);
    until("they gather", || (gateway.lane("on-call")["open"] == 7).then_some(()));
    gateway.until_delivered_but("on-call");
    assert_eq!(outbox(folder.path()).len(), 2, "the cap holds them back");
    settings["sinks"]["on-call"]["email"]["max_per_hour"] = json!(3);
    std::fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    gateway.hang_up();
    fails(&gateway, 9..10);
    let third =
        until("the third", || outbox(folder.path()).into_iter().find(|mail| mail.contains("failed-9-")));
    assert!(third.contains("8 × noSeatOnline") && third.contains("held back"), "{third}");
    assert!(named(&outbox(folder.path()), 10).values().all(|&times| times == 1));
}
