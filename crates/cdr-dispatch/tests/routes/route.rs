//! Routes.

use cdr_core::{SettingFault, SinkName};
use cdr_dispatch::route::{RouteSettings, Routes};

use crate::push::{self, cdr};

fn route(name: &str, when: &str, to: &[&str]) -> RouteSettings {
    RouteSettings {
        name: name.to_owned(),
        when: (!when.is_empty()).then(|| when.to_owned()),
        to: to.iter().map(ToString::to_string).collect(),
    }
}

fn sinks() -> Vec<String> {
    ["archive", "on-call", "crm"].map(str::to_owned).to_vec()
}

fn build(settings: Vec<RouteSettings>) -> Routes {
    Routes::build(settings, &sinks()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn faults(settings: Vec<RouteSettings>) -> Vec<String> {
    Routes::build(settings, &sinks()).unwrap_err().iter().map(SettingFault::to_string).collect()
}

fn sink(name: &str) -> SinkName {
    name.parse().unwrap()
}

#[test]
fn every_route_that_matches_applies_and_a_sink_named_twice_is_named_once() {
    let routes = build(vec![
        route("all", "", &["archive"]),
        route("failed", r#"result == "no_seat""#, &["on-call", "archive"]),
        route("long", "Duration > 60", &["crm"]),
    ]);
    let decision = routes.decide(&cdr(r#""EndStatusString":"noSeatOnline","Duration":0"#));
    let named: Vec<_> =
        decision.destinations().iter().map(|to| (to.sink.as_str(), to.routes.to_vec())).collect();
    assert_eq!(
        named,
        [("archive", vec!["all".to_owned(), "failed".to_owned()]), ("on-call", vec!["failed".to_owned()])]
    );
    assert_eq!(decision.routes_to(&sink("on-call")).unwrap().as_ref(), ["failed"]);
    assert_eq!(decision.routes_to(&sink("crm")), None);
    assert!(!decision.unrouted() && decision.failures().is_empty());
}

#[test]
fn what_kept_a_push_from_a_sink_is_told_with_its_values() {
    let routes = build(vec![
        route("all", "", &["archive"]),
        route("answered", r#"action == "cdr" && result == "answered""#, &["crm"]),
        route("long", "Duration > 60", &["crm", "archive"]),
        route("vip", r#"cdr.Level == "gold""#, &["crm"]),
    ]);
    let push = cdr(r#""EndStatusString":"busy""#);
    let missed = routes.missed(&push, &sink("crm")).unwrap();
    let told: Vec<String> = missed.iter().map(ToString::to_string).collect();
    assert_eq!(told[0], r#""answered": action = "cdr", result = "unreached""#);
    assert!(told[1].starts_with(r#""long" failed: "#) && told[1].contains("Duration"), "{}", told[1]);
    assert_eq!(told[2], r#""vip" does not match"#);
    assert_eq!(routes.missed(&push, &sink("archive")), None);
    assert_eq!(routes.missed(&push, &sink("on-call")), Some(Vec::new()));
    assert_eq!(routes.missed(&cdr(r#""Duration":61"#), &sink("crm")), None);
}

#[test]
fn a_push_that_no_route_takes_is_unrouted_and_counted() {
    let routes = build(vec![route("cdrs", r#"action == "cdr""#, &["archive"])]);
    assert!(routes.decide(&push::of("record", "{}")).unrouted());
    assert!(!routes.decide(&cdr("")).unrouted());
    let counts = routes.counts();
    assert_eq!((counts.unrouted, counts.routes[0].matched, counts.routes[0].failed), (1, 1, 0));
    assert!(build(vec![]).decide(&cdr("")).unrouted());
}

#[test]
fn a_condition_that_fails_does_not_match_and_is_counted_for_each_of_its_routes() {
    let routes = build(vec![
        route("long", "Duration > 60", &["crm"]),
        route("all", "", &["archive"]),
        route("long too", " Duration > 60 ", &["on-call"]),
    ]);
    let decision = routes.decide(&cdr(""));
    assert_eq!(decision.destinations().len(), 1);
    let failed: Vec<_> = decision.failures().iter().map(|failure| failure.route.as_str()).collect();
    assert_eq!(failed, ["long", "long too"]);
    assert!(decision.failures()[0].error.to_string().contains("null in this push: Duration"));
    let counted: Vec<_> = routes.counts().routes.iter().map(|count| (count.matched, count.failed)).collect();
    assert_eq!(counted, [(0, 1), (1, 0), (0, 1)]);
    let long = routes.decide(&cdr(r#""Duration":61"#));
    assert_eq!(long.destinations().len(), 3);
}

#[test]
fn considering_again_decides_the_same_and_counts_nothing() {
    let routes = build(vec![route("long", "Duration > 60", &["crm"])]);
    for push in [cdr(""), cdr(r#""Duration":61"#), cdr(r#""Duration":1"#)] {
        let before = routes.counts();
        let considered = routes.consider(&push);
        assert_eq!(routes.counts(), before);
        assert_eq!(routes.decide(&push), considered);
    }
}

#[test]
fn the_same_combination_of_routes_shares_its_names() {
    let routes = build(vec![route("all", "", &["archive"]), route("long", "Duration > 60", &["archive"])]);
    let names = |fields: &str| routes.decide(&cdr(fields)).routes_to(&sink("archive")).unwrap();
    assert!(std::sync::Arc::ptr_eq(&names(""), &names(r#""Duration":1"#)));
    assert_eq!(names(r#""Duration":61"#).as_ref(), ["all", "long"]);
}

#[test]
fn all_faults_of_all_routes_come_at_once_with_their_paths() {
    assert_eq!(
        faults(vec![
            route("a", "Duraton > 1 && result == answered", &["archiv"]),
            route("a", "", &[]),
            route(" ", "1 +", &["crm", "nowhere"]),
        ]),
        [
            r#"0.when: there is no field "Duraton", did you mean "Duration"? (column 1)"#,
            r#"0.when: answered is a text and needs quotes: "answered" (column 26)"#,
            r#"0.to.0: unknown sink "archiv", did you mean "archive"?"#,
            r#"1.name: there is another route "a"; name each once"#,
            "1.to: names no sink; a route goes somewhere",
            "2.name: the name is empty; logs and mails tell routes by their name",
            "2.when: it ends in the middle (column 4)",
            r#"2.to.1: unknown sink "nowhere"; there are: archive, on-call, crm"#,
        ]
    );
}

#[test]
fn what_is_probably_not_meant_is_a_warning_with_its_path() {
    let routes = build(vec![route("a", r#"EndStatusString == "okay""#, &["crm", "crm"])]);
    let warnings: Vec<_> = routes.warnings().iter().map(SettingFault::to_string).collect();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("0.when: \"okay\" is no published value"));
    assert!(warnings[1].starts_with("0.to.1: \"crm\" stands here twice"));
}

#[test]
fn two_hundred_and_fifty_six_routes_are_kept_apart_and_more_are_refused() {
    let settings = |count: i32| -> Vec<RouteSettings> {
        (0..count)
            .map(|n| route(&format!("r{n}"), &format!("Duration == {n} || Duration == 1000"), &["crm"]))
            .collect()
    };
    let routes = build(settings(256));
    for number in [0, 63, 64, 255] {
        let decision = routes.decide(&cdr(&format!(r#""Duration":{number}"#)));
        assert_eq!(decision.routes_to(&sink("crm")).unwrap().as_ref(), [format!("r{number}")]);
    }
    let all = routes.decide(&cdr(r#""Duration":1000"#));
    assert_eq!(all.routes_to(&sink("crm")).unwrap().len(), 256);
    assert_eq!(faults(settings(257)), ["257 routes; at most 256"]);
}

#[test]
fn settings_are_read_strictly() {
    let read = |json: &str| serde_json::from_str::<RouteSettings>(json);
    assert_eq!(read(r#"{"name":"a","to":["crm"]}"#).unwrap(), route("a", "", &["crm"]));
    assert!(read(r#"{"name":"a","to":["crm"],"if":"x"}"#).is_err());
    assert!(read(r#"{"to":["crm"]}"#).is_err());
}
