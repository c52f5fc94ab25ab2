//! What the words promise to those who use them.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use bytes::Bytes;
use cdr_core::{
    Action, CallResult, Cdr, EndStatus, Facts, Incoming, Origin, Secret, SettingPath,
    cdr::{self, Shape, Value},
    end_status::PUBLISHED,
    push,
    setting::{self, SecretPlace, Surroundings},
};
use proptest::prelude::*;
use serde::Deserialize;

fn read(body: &str) -> Cdr {
    *cdr::read(&"cdr".parse().unwrap(), body.as_bytes()).unwrap().unwrap()
}

fn refused(body: &str) -> String {
    cdr::read(&"cdr".parse().unwrap(), body.as_bytes()).unwrap_err().to_string()
}

#[test]
fn the_last_of_repeated_keys_counts() {
    assert_eq!(read(r#"{"SessionId":"s","Duration":15,"Duration":0}"#).duration, Some(0));
    let odd_last = read(r#"{"SessionId":"s","Duration":15,"Duration":[]}"#);
    assert_eq!((odd_last.duration, odd_last.odd), (None, vec!["Duration"]));
}

#[test]
fn numbers_as_text_and_text_as_numbers_are_read() {
    let cdr =
        read(r#"{"SessionId":123456789012345678901234567890,"Duration":" 75 ","EndpointUser":13800138000}"#);
    assert_eq!(cdr.session_id.as_deref(), Some("123456789012345678901234567890"));
    assert_eq!(cdr.duration, Some(75));
    assert_eq!(cdr.endpoint_user.as_deref(), Some("13800138000"));
    assert!(cdr.odd.is_empty());
}

#[test]
fn a_field_of_a_wrong_type_is_missing_and_named() {
    let cdr = read(
        r#"{"SessionId":"s","Duration":{},"IVRDuration":1.5,"SeatUser":"x",
            "ServeParticipants":[{"Sequence":"a"},null],"TelLocation":[]}"#,
    );
    assert_eq!(cdr.duration, None);
    assert_eq!(cdr.participants().len(), 1);
    let odd: Vec<_> = cdr.odd_fields().collect();
    assert_eq!(odd, ["Duration", "IVRDuration", "SeatUser", "TelLocation", "Sequence"]);
}

#[test]
fn keys_of_ivr_entries_are_read_in_both_spellings() {
    let cdr =
        read(r#"{"SessionId":"s","PostIVRKeyPressed":[{"key":"1","label":"a"},{"Key":"2","Label":"b"}]}"#);
    let keys = cdr.post_ivr_key_pressed.unwrap();
    assert_eq!((keys[0].key.as_deref(), keys[1].label.as_deref()), (Some("1"), Some("b")));
}

#[test]
fn a_field_is_found_by_its_published_name_with_the_shape_it_says() {
    let cdr = read(
        r#"{"SessionId":"s","Duration":"75","EndStatusString":"OK","IVRKeyPressed":["1",null],
            "SeatUser":{"Mail":"a@b"},"ServeParticipants":[{"Sequence":0}]}"#,
    );
    assert_eq!(cdr.value("Duration"), Some(Value::Integer(75)));
    assert_eq!(cdr.value("EndStatusString"), Some(Value::Text("ok")));
    assert_eq!(cdr.value("IVRKeyPressed"), Some(Value::List(vec![Value::Text("1")])));
    assert_eq!(cdr.value("Caller"), Some(Value::Null));
    assert_eq!(cdr.value("caller"), None);
    let shapes: HashMap<_, _> = Cdr::SHAPES.iter().copied().collect();
    assert_eq!(shapes.len(), Cdr::FIELDS.len());
    let Some(Value::Object(seat)) = cdr.value("SeatUser") else { panic!("an object") };
    let Shape::Object(members) = shapes["SeatUser"] else { panic!("an object") };
    assert_eq!(seat[0], ("Mail", Value::Text("a@b")));
    assert!(seat.iter().map(|(name, _)| name).eq(members.iter().map(|(name, _)| name)));
    assert!(matches!(shapes["ServeParticipants"], Shape::List(Shape::Object(_))));
    assert_eq!((shapes["Duration"], shapes["EndStatusString"]), (Shape::Integer, Shape::Status));
}

#[test]
fn a_cdr_needs_a_session() {
    for body in [r#"{}"#, r#"{"SessionId":""}"#, r#"{"SessionId":null}"#, r#"{"SessionId":{}}"#] {
        assert!(refused(body).contains("SessionId"), "{body}");
    }
    let voicemail: Action = "voicemail".parse().unwrap();
    assert!(cdr::read(&voicemail, b"{}").unwrap().is_some());
    let unknown: Action = "asr".parse().unwrap();
    assert!(cdr::read(&unknown, b"{}").unwrap().is_none());
    assert!(cdr::read(&unknown, b"[]").is_err());
}

#[test]
fn the_samples_of_the_other_pushes_read_without_an_odd_field() {
    for (action, file, endpoint, is_session) in [
        ("record", "record-01-agent-side", Some("agent1@example.com"), false),
        ("record", "record-02-user-side-custom-cos", Some("008613800138000"), false),
        ("voicemail", "voicemail-01-numeric-endpoint-user", Some("13800138000"), false),
        ("imcdr", "imcdr-01-ok", None, true),
        ("videoCdr", "videocdr-01-error", None, true),
    ] {
        let path = format!("../../examples/samples/other-actions/{file}.json");
        let body = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let action: Action = action.parse().unwrap();
        let cdr = cdr::read(&action, &body).unwrap().unwrap();
        assert_eq!(cdr.odd_fields().collect::<Vec<_>>(), [""; 0], "{file}");
        assert_eq!(cdr.endpoint_user.as_deref(), endpoint, "{file}");
        assert_eq!(action.tells_of_a_session(), is_session, "{file}");
        assert!(cdr.session_id.is_some(), "{file}");
    }
}

#[test]
fn times_of_zero_give_none() {
    let cdr = read(
        r#"{"SessionId":"s","StartTimestamp":1608130636,"RingTimestamp":1608130639,"AcceptTimestamp":0,
            "EndedTimestamp":1608130651,"QueuedTimestamp":0}"#,
    );
    assert_eq!((cdr.wait(), cdr.ring(), cdr.talk(), cdr.transfers()), (None, Some(12), None, 0));
    assert_eq!(read(r#"{"SessionId":"s","StartTimestamp":0}"#).started_at(), None);
    assert_eq!(read(r#"{"SessionId":"s","StartTimestamp":9223372036854775807}"#).started_at(), None);
}

#[test]
fn a_status_bears_its_published_spelling() {
    let status = EndStatus::new("NOSEATONLINE");
    assert_eq!((status.as_str(), status.result()), ("noSeatOnline", CallResult::NoSeat));
    let strange = EndStatus::new("somethingNew");
    assert_eq!((strange.as_str(), strange.result()), ("somethingNew", CallResult::Other));
}

#[test]
fn no_status_is_published_twice() {
    let mut names: Vec<_> = PUBLISHED.iter().map(|status| status.name.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), PUBLISHED.len());
}

#[test]
fn actions_are_short_words_and_known_ones_bear_their_spelling() {
    assert_eq!("VIDEOCDR".parse::<Action>().unwrap().as_str(), "videoCdr");
    assert_eq!("asr_2".parse::<Action>().unwrap().as_str(), "asr_2");
    for bad in ["", "a b", "cdr&x", &"a".repeat(33)] {
        assert!(bad.parse::<Action>().is_err(), "{bad}");
    }
    assert!("specifiedseat".parse::<Action>().unwrap().is_question());
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Settings {
    bucket: String,
    #[serde(default)]
    networks: Vec<std::net::IpAddr>,
    key: Secret,
    path: Option<SettingPath>,
    inner: Option<Inner>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Inner {
    tls: Mode,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Required,
    None,
}

fn surroundings() -> Surroundings {
    let secret = |place: &SecretPlace| match place {
        SecretPlace::Env(name) if name == "KEY" => Ok("hunter2".to_owned()),
        other => Err(format!("nothing at {other:?}")),
    };
    Surroundings { base: PathBuf::from("/etc/cdr"), timezone: "Asia/Shanghai".into(), secret }
}

#[test]
fn all_faults_of_settings_come_at_once() {
    let settings = serde_json::json!({
        "bukcet": "b", "networks": ["10.0.0.1", "10.0.0.300"], "key": { "env": "NO_KEY" }, "inner": { "tls": "requird" },
    });
    let faults =
        setting::with_surroundings(surroundings(), || setting::read::<Settings>(settings)).unwrap_err();
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let has =
        |text: &str| assert!(faults.iter().any(|fault| fault.contains(text)), "{text} not in {faults:#?}");
    has(r#"bukcet: unknown setting "bukcet", did you mean "bucket"?"#);
    has("networks.1: invalid IP address syntax");
    has("key: nothing at Env(\"NO_KEY\")");
    has(r#"inner.tls: unknown value "requird", did you mean "required"?"#);
    assert_eq!(faults.len(), 4, "{faults:#?}");
}

#[test]
fn every_faulty_entry_of_a_list_is_told_by_its_own_number() {
    let settings = serde_json::json!({ "bucket": "b", "key": "k", "networks": ["x", "10.0.0.1", "y", "z"] });
    let faults = setting::read::<Settings>(settings).unwrap_err();
    let places: Vec<_> = faults.iter().map(setting::SettingFault::dotted).collect();
    assert_eq!(places, ["networks.0", "networks.2", "networks.3"]);
}

#[test]
fn a_setting_that_was_never_there_is_missing() {
    let faults = setting::read::<Settings>(serde_json::json!({ "networks": ["x"], "key": "k" })).unwrap_err();
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["networks.0: invalid IP address syntax", r#"missing setting "bucket""#]);
}

#[test]
fn secrets_are_fetched_and_never_printed() {
    let settings = serde_json::json!({ "bucket": "b", "key": { "env": "KEY" }, "path": "data" });
    let settings: Settings = setting::with_surroundings(surroundings(), || setting::read(settings)).unwrap();
    assert_eq!(settings.key.expose(), "hunter2");
    assert_eq!(settings.path, Some(SettingPath("/etc/cdr/data".into())));
    assert!(!format!("{settings:?}").contains("hunter2"));
    for wrong in [serde_json::json!(1234), serde_json::json!({ "enf": "KEY" }), serde_json::json!("")] {
        let settings = serde_json::json!({ "bucket": "b", "key": wrong });
        let fault = setting::read::<Settings>(settings).unwrap_err()[0].to_string();
        assert!(fault.starts_with("key: ") && !fault.contains("1234") && !fault.contains("KEY"), "{fault}");
    }
}

fn facts() -> Facts {
    Facts {
        action: "cdr".parse().unwrap(),
        version: Some("1".into()),
        uuid: None,
        received_at: jiff::Timestamp::UNIX_EPOCH,
        sender: None,
        origin: Origin::Push,
        sha256: [0; 32],
    }
}

proptest! {
    #[test]
    fn no_body_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Incoming::read(facts(), Bytes::from(body));
    }

    #[test]
    fn no_json_like_body_makes_the_reader_panic(body in r#"[\{\}\[\]":,0-9a-eux\\ SesionId]{0,80}"#) {
        let _ = Incoming::read(facts(), Bytes::from(body));
    }

    #[test]
    fn any_value_in_any_field_leaves_the_others_readable(index in 0..Cdr::FIELDS.len(), value in json_value()) {
        let field = Cdr::FIELDS[index];
        prop_assume!(field != "SessionId");
        let body = serde_json::json!({ field: value, "SessionId": "s" }).to_string();
        let cdr = read(&body);
        prop_assert_eq!(cdr.session_id.as_deref(), Some("s"));
    }

    #[test]
    fn a_short_text_is_the_beginning_of_the_whole_and_loses_nothing_that_fits(text in ".{0,200}") {
        let short = push::short(&text);
        prop_assert!(text.starts_with(short) && short.len() <= 128);
        prop_assert!(short.len() > 124 || short == text);
    }

    #[test]
    fn retry_after_never_panics(text in ".{0,40}") {
        let _ = cdr_core::http_status::retry_after(&text, std::time::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(|number| serde_json::json!(number)),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::hash_map(".{0,8}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}
