//! What a mask leaves of a body, and what not.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn mask(settings: Value) -> Mask {
    Mask::build(&serde_json::from_value(settings).unwrap()).unwrap()
}

fn hash() -> Mask {
    mask(json!({ "numbers": "hash", "names": "hash", "key": "0123456789abcdef" }))
}

fn masked(settings: Value, body: &str) -> String {
    edited(&mask(settings), body)
}

fn edited(mask: &Mask, body: &str) -> String {
    let edited = mask.edited(body.as_bytes());
    edited.map_or_else(|| body.to_owned(), |edited| String::from_utf8(edited).unwrap())
}

#[test]
fn the_last_four_digits_stay_and_every_other_byte_too() {
    let body = "\u{feff}{ \"Caller\" : \"008613800138000\",\n\t\"Callee\":\"+86 (755) 8001-2345\",\"Duration\":1e2 ,\"X\":\"13800138000\"}";
    assert_eq!(
        masked(json!({}), body),
        "\u{feff}{ \"Caller\" : \"***********8000\",\n\t\"Callee\":\"+** (***) ****-2345\",\"Duration\":1e2 ,\"X\":\"13800138000\"}"
    );
}

#[test]
fn of_a_short_number_at_most_half_stays() {
    let body = r#"{"SeatUser":{"ExtensionNumber":"1001"},"Caller":"12345","Callee":"7"}"#;
    assert_eq!(
        masked(json!({}), body),
        r#"{"SeatUser":{"ExtensionNumber":"**01"},"Caller":"***45","Callee":"*"}"#
    );
}

#[test]
fn every_known_field_is_found_wherever_it_stands() {
    let body = r#"{"a":[{"TelLocation":{"telnumber":13800138000}}],"Caller":["13800138000",{"x":13800138000}],
        "ServeParticipants":[{"Phone":"13800138000","TransferTo":"13800138000","Mail":"a@b.c"}],"EndpointUser":13800138000}"#;
    let seen = masked(json!({ "numbers": "remove" }), body);
    assert!(!seen.contains("138"), "{seen}");
    assert!(seen.contains(r#""Mail":"a@b.c""#) && seen.contains(r#""EndpointUser":null"#), "{seen}");
}

#[test]
fn repeated_escaped_and_differently_written_names_are_all_masked() {
    let body = r#"{"Caller":"13800138000","\u0043aller":"\u00313800138000","CALLER":"13800138000"}"#;
    assert_eq!(
        masked(json!({}), body),
        r#"{"Caller":"*******8000","\u0043aller":"*******8000","CALLER":"*******8000"}"#
    );
}

#[test]
fn nothing_stays_nothing() {
    let body = r#"{"Caller":"","Callee":null,"Phone":0,"Name":" ","Nick":true,"TelNumber":[]}"#;
    assert_eq!(masked(json!({ "numbers": "remove", "names": "remove" }), body), body);
}

#[test]
fn an_agents_address_is_a_name_and_a_customers_number_a_number() {
    let names = json!({ "numbers": "keep", "names": "remove" });
    let both = r#"{"EndpointUser":"agent1@example.com","UserId":"13800138000","SeatUser":{"Name":"王","UserId":"a@b"}}"#;
    assert_eq!(
        masked(names, both),
        r#"{"EndpointUser":null,"UserId":"13800138000","SeatUser":{"Name":null,"UserId":null}}"#
    );
    assert_eq!(masked(json!({ "numbers": "remove" }), both), both.replace("\"13800138000\"", "null"));
}

#[test]
fn free_text_loses_its_digits_on_request_alone() {
    let body = r#"{"UserRemark":"call ١٣٨ or 138 😀","Uui":42,"PostIVRKeyPressed":[{"Key":"5","Label":"good","Timestamp":1608130639000}]}"#;
    assert_eq!(masked(json!({}), body), body);
    assert_eq!(
        masked(json!({ "free_text": true }), body),
        r#"{"UserRemark":"call *** or *** 😀","Uui":"**","PostIVRKeyPressed":[{"Key":"*","Label":"good","Timestamp":1608130639000}]}"#
    );
}

#[test]
fn the_same_number_gives_the_same_token_however_it_is_written() {
    let token = |body: &str| {
        let seen: Value = serde_json::from_str(&edited(&hash(), body)).unwrap();
        seen["Caller"].as_str().unwrap().to_owned()
    };
    let one = token(r#"{"Caller":"008613800138000"}"#);
    assert_eq!(one.len(), 16);
    assert!(one.bytes().all(|letter| letter.is_ascii_lowercase()), "{one}");
    for other in [r#""13800138000""#, "13800138000", r#""+86 138-0013-8000""#] {
        assert_eq!(token(&format!("{{\"Caller\":{other}}}")), one, "{other}");
    }
    assert_ne!(token(r#"{"Caller":"13800138001"}"#), one);
    let other_key = mask(json!({ "numbers": "hash", "key": "another key of 16 bytes" }));
    assert!(!edited(&other_key, r#"{"Caller":"13800138000"}"#).contains(&one));
}

#[test]
fn a_mask_that_would_not_hold_is_refused() {
    let fault =
        |settings: Value| Mask::build(&serde_json::from_value(settings).unwrap()).unwrap_err()[0].to_string();
    assert!(fault(json!({ "numbers": "hash" })).starts_with("key: hash needs a key"));
    assert!(fault(json!({ "names": "hash", "key": "short" })).starts_with("key: must have at least 16"));
    assert!(fault(json!({ "key": "0123456789abcdef" })).starts_with("key: is for hash alone"));
    assert!(fault(json!({ "numbers": "keep" })).starts_with("masks nothing"));
}

/// Any JSON value; its texts hold the number now and then.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!("008613800138000")),
        Just(json!(13_800_138_000_i64)),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        "[\\\\\"{}\\[\\],:]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z\"\\\\]{0,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const COVERED: [&str; 8] =
    ["Caller", "callee", "Phone", "TelNumber", "ProtectedCaller", "EndpointUser", "UserRemark", "Uui"];

fn rules() -> impl Strategy<Value = Mask> {
    let hashed = |numbers| json!({ "numbers": numbers, "free_text": true, "key": "0123456789abcdef" });
    prop_oneof![
        Just(mask(json!({ "free_text": true }))),
        Just(mask(json!({ "numbers": "remove", "free_text": true }))),
        Just(mask(hashed("hash"))),
    ]
}

proptest! {
    #[test]
    fn no_number_is_left_of_a_covered_field_and_nothing_else_changes(
        mask in rules(), field in 0..COVERED.len(), secret in any_value(), before in any_value(), after in any_value(),
        pretty in any::<bool>(),
    ) {
        let write = |value: &Value| match pretty {
            true => serde_json::to_string_pretty(value).unwrap(),
            false => value.to_string(),
        };
        let (head, tail) = (format!("{{\"o\": {},", write(&before)), format!(",\"p\":{} }}", write(&after)));
        let body = format!("{head}\"{}\":{}{tail}", COVERED[field], write(&secret));
        let seen = edited(&mask, &body);
        prop_assert!(serde_json::from_str::<Value>(&seen).is_ok(), "{}", seen);
        prop_assert!(seen.starts_with(&head) && seen.ends_with(&tail), "{}", seen);
        let inside = &seen[head.len()..seen.len() - tail.len()];
        prop_assert!(!inside.contains("1380013"), "{}", seen);
    }

    #[test]
    fn whatever_is_no_json_makes_nothing_panic(body in r#"[\{\}\[\]":,0-9a-eu\\ é]{0,60}"#) {
        let _ = edited(&hash(), &body);
        let _ = edited(&mask(json!({ "free_text": true })), &format!("{{\"Uui\":{body}"));
    }
}
