//! Finding pushes: `trace` with the gateway running, stopped and killed, with its catalog, behind it and without it.

use std::{fs, path::Path};

use cdr_tests::{Process, cli, until};
use serde_json::{Value, json};

use super::configuration;

fn call(session: &str, status: &str, caller: &str) -> String {
    json!({ "SessionId": session, "EndStatusString": status, "Caller": caller }).to_string()
}

fn push(gateway: &Process, body: &str) {
    assert_eq!(gateway.push("cdr", body.as_bytes(), None).err_code(), 0);
}

/// What `trace` finds, and what it says beside it.
fn find(folder: &Path, arguments: &[&str]) -> (Vec<Value>, String) {
    let arguments = [&["trace", "--format", "json"], arguments].concat();
    let told = cli(folder, &arguments, &[]);
    assert!(told.code == Some(0) || told.stdout.is_empty(), "{}", told.stderr);
    (told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), told.stderr)
}

fn sessions(found: &[Value]) -> Vec<&str> {
    found.iter().map(|push| push["session_id"].as_str().unwrap()).collect()
}

/// A metric without labels.
fn metric(gateway: &Process, name: &str) -> f64 {
    let page = gateway.ask("GET", "/metrics").body;
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {page}"))
}

fn until_the_catalog_knows_all(gateway: &Process) {
    until("the catalog knows all", || {
        (metric(gateway, "cdr_gateway_catalog_behind_pushes") == 0.0).then_some(())
    });
}

#[test]
fn a_number_is_found_in_every_spelling_whatever_became_of_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    push(&gateway, &call("one", "ok", "008613800138000"));
    push(&gateway, &call("other", "ok", "008613900139000"));
    until_the_catalog_knows_all(&gateway);
    push(&gateway, &call("two", "busy", "+86 138 0013 8000"));
    gateway.until_delivered_but("crm");
    let spellings = ["13800138000", "+8613800138000", "0086-138-0013-8000"];
    let check = |folder: &Path, with_catalog: bool| {
        for spelling in spellings {
            let (found, said) = find(folder, &["--number", spelling]);
            assert_eq!(sessions(&found), ["one", "two"], "{spelling}");
            assert_eq!(said.contains("the catalog is not used"), !with_catalog, "{said}");
            assert_eq!(found[0]["sinks"]["archive"]["state"], "delivered");
            assert_eq!(found[0]["sinks"]["crm"]["state"], "waiting");
            assert_eq!(found[1]["sinks"]["crm"]["state"], "not routed");
        }
    };
    check(folder.path(), true);
    gateway.kill();
    check(folder.path(), true);
    gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    check(folder.path(), true);
    assert_eq!(gateway.terminate(), Some(0));
    check(folder.path(), true);
    fs::remove_file(folder.path().join("data/spool/catalog.sqlite")).unwrap();
    check(folder.path(), false);
}

#[test]
fn trace_says_which_values_kept_a_push_from_a_sink() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    push(&gateway, &call("s", "busy", "13800138000"));
    gateway.until_delivered_but("crm");
    let told = cli(folder.path(), &["trace", "s"], &[]).stdout;
    let crm = r#"  crm: not routed: no route to crm matches ("answered calls reach the CRM": action = "cdr", result = "unreached")"#;
    assert!(told.lines().any(|line| line == crm), "{told}");
    let on_call = r#"  on-call: not routed: no route to on-call matches ("failed sessions alert": EndStatusString = "busy")"#;
    assert!(told.lines().any(|line| line == on_call), "{told}");
    let (found, _) = find(folder.path(), &["s"]);
    assert_eq!(found[0]["sinks"]["crm"]["routes"][0]["values"]["result"], r#""unreached""#);
    let asked = gateway.ask("GET", "/api/v1/trace?session=s").json();
    assert_eq!(asked["pushes"].as_array().unwrap(), &found);
    assert_eq!(gateway.ask("GET", "/api/v1/trace?sesion=s").status, 400);
}

#[test]
fn a_long_answer_comes_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    let names: Vec<String> = (0..7).map(|n| format!("s{n}")).collect();
    names.iter().for_each(|name| push(&gateway, &call(name, "busy", "13800138000")));
    let (first, said) = find(folder.path(), &["--since", "1h", "--limit", "3"]);
    assert_eq!(sessions(&first), ["s0", "s1", "s2"]);
    let after = first[2]["number"].to_string();
    assert_eq!(said.trim(), format!("there are more: go on with --after {after}"));
    let (rest, said) = find(folder.path(), &["--since", "1h", "--after", &after]);
    assert_eq!((sessions(&rest), said.as_str()), (vec!["s3", "s4", "s5", "s6"], ""));
    assert_eq!(find(folder.path(), &["--number", "13800138000", "--until", "1h"]).0, [] as [Value; 0]);
    let page = gateway.ask("GET", "/api/v1/trace?number=13800138000&limit=3").json();
    assert_eq!((page["pushes"].as_array().unwrap().len(), page["after"].to_string()), (3, after));
}

#[test]
fn a_catalog_deleted_under_load_is_built_again_and_tells_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    let catalog = folder.path().join("data/spool/catalog.sqlite");
    let mut number = 0;
    let mut load = |pushes: usize| {
        for _ in 0..pushes {
            number += 1;
            push(&gateway, &call(&format!("s{number}"), "busy", &format!("1380013{:04}", number % 10)));
        }
        number
    };
    load(50);
    until_the_catalog_knows_all(&gateway);
    fs::remove_file(&catalog).unwrap();
    until("it is built again", || {
        load(10);
        (metric(&gateway, "cdr_gateway_catalog_rebuilds_total") == 1.0).then_some(())
    });
    let pushes = load(10);
    gateway.until_logged("the catalog is built");
    until_the_catalog_knows_all(&gateway);
    gateway.until_delivered();

    let all = |with_catalog: bool| {
        let (found, said) = find(folder.path(), &["--since", "1h"]);
        assert_eq!(said.contains("the catalog is not used"), !with_catalog, "{said}");
        found
    };
    let with = all(true);
    assert_eq!(with.len(), pushes);
    let by_number = find(folder.path(), &["--number", "13800130003"]).0;
    gateway.kill();
    fs::remove_file(&catalog).unwrap();
    assert_eq!(all(false), with);
    assert_eq!(find(folder.path(), &["--number", "13800130003"]).0, by_number);
}

#[test]
fn a_damaged_catalog_is_told_and_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = configuration("http://127.0.0.1:1/").to_string();
    let gateway = Process::start(folder.path(), &settings);
    (0..40).for_each(|n| push(&gateway, &call(&format!("s{n}"), "busy", "13800138000")));
    until_the_catalog_knows_all(&gateway);
    gateway.kill();
    let catalog = folder.path().join("data/spool/catalog.sqlite");
    let mut bytes = fs::read(&catalog).unwrap();
    bytes[4096..].fill(0x55);
    fs::write(&catalog, bytes).unwrap();
    let (found, said) = find(folder.path(), &["--number", "13800138000"]);
    assert_eq!(found.len(), 40);
    assert!(said.contains("the catalog is not used"), "{said}");

    let gateway = Process::start(folder.path(), &settings);
    gateway.until_logged("the catalog is built from the log");
    until_the_catalog_knows_all(&gateway);
    let (found, said) = find(folder.path(), &["--number", "13800138000"]);
    assert_eq!((found.len(), said.as_str()), (40, ""));
}
