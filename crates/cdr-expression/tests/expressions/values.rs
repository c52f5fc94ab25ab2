//! Expressions that give a value, functions of ours, and names beside those of a push.

use cdr_expression::{Expression, Kind, Names, Variables};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::push::cdr;

fn value(text: &str, fields: &str) -> Value {
    let expression = Expression::value(text, &Names::default()).unwrap_or_else(|faults| panic!("{faults:?}"));
    expression.give(&Variables::of(&cdr(fields))).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn faults(text: &str) -> String {
    let faults = Expression::value(text, &Names::default()).expect_err(text);
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_value_keeps_its_type() {
    let fields = r#""Duration":7,"Caller":"a\"b","IVRKeyPressed":["1","2"],"X":1.5,"Y":[true,null]"#;
    assert_eq!(value("Duration", fields), json!(7));
    assert_eq!(value("Duration > 3", fields), json!(true));
    assert_eq!(value("Caller", fields), json!("a\"b"));
    assert_eq!(value("IVRKeyPressed", fields), json!(["1", "2"]));
    assert_eq!(value("Callee", fields), json!(null));
    assert_eq!(value("{'x': cdr.X, 'y': cdr.Y}", fields), json!({ "x": 1.5, "y": [true, null] }));
    assert_eq!(value("cdr", r#""X":1"#), json!({ "SessionId": "s1", "X": 1 }));
    assert_eq!(value("[cdr][0]", r#""X":1"#)["X"], json!(1));
}

#[test]
fn what_json_has_not_is_told() {
    let error = |text: &str| {
        let expression = Expression::value(text, &Names::default()).unwrap();
        expression.give(&Variables::of(&cdr(""))).unwrap_err().to_string()
    };
    assert_eq!(error("bytes('x')"), "it gives bytes, which JSON has not");
    assert!(error("Duration + 1").contains("null in this push: Duration"));
}

#[test]
fn the_customer_is_who_called_or_was_called() {
    let numbers = r#""Caller":"1","Callee":"2""#;
    assert_eq!(value("customer", &format!(r#"{numbers},"Direction":0"#)), json!("1"));
    assert_eq!(value("customer", &format!(r#"{numbers},"Direction":1"#)), json!("2"));
    assert_eq!(value("customer", numbers), json!(null));
    assert_eq!(value("customer", r#""Caller":"","Direction":0"#), json!(null));
}

#[test]
fn a_number_is_given_in_the_forms_that_receivers_know() {
    for (sent, e164, local) in [
        ("008613800138000", "+8613800138000", "13800138000"),
        ("+86 138-0013-8000", "+8613800138000", "13800138000"),
        ("13800138000", "+8613800138000", "13800138000"),
        ("00862151234567", "+862151234567", "02151234567"),
        ("008602151234567", "+862151234567", "02151234567"),
        ("02151234567", "+862151234567", "02151234567"),
        ("4001234567", "+864001234567", "4001234567"),
        ("0085223456789", "+85223456789", "+85223456789"),
        ("+442071234567", "+442071234567", "+442071234567"),
        ("8001", "8001", "8001"),
        ("anonymous", "anonymous", "anonymous"),
    ] {
        let field = format!(r#""Caller":"{sent}""#);
        assert_eq!(value("e164(Caller)", &field), json!(e164), "{sent}");
        assert_eq!(value("local(Caller)", &field), json!(local), "{sent}");
    }
    let forms = |sent: &str| value("phones(Callee)", &format!(r#""Callee":"{sent}""#));
    assert_eq!(forms("008613800138000"), json!(["+8613800138000", "008613800138000", "13800138000"]));
    assert_eq!(forms("8001"), json!(["8001"]));
    assert_eq!(forms("1' OR 1=1"), json!([]));
    assert_eq!(forms(""), json!([]));
    assert_eq!(value("phones(Callee)", ""), json!(null));
}

#[test]
fn a_time_is_told_in_any_zone_and_form_and_0_is_none() {
    let start = r#""StartTimestamp":1772353800,"AcceptTimestamp":0"#;
    let told = |text: &str| value(text, start);
    assert_eq!(told("time(StartTimestamp)"), json!("2026-03-01T08:30:00Z"));
    assert_eq!(told("time(StartTimestamp, 'Asia/Shanghai')"), json!("2026-03-01T16:30:00+08:00"));
    assert_eq!(told("time(StartTimestamp, 'Asia/Shanghai', '%d.%m. %H:%M')"), json!("01.03. 16:30"));
    assert_eq!(told("time(received_at)"), json!("2026-03-01T08:30:00Z"));
    assert_eq!(told("time(AcceptTimestamp)"), json!(null));
    assert_eq!(told("time(EndedTimestamp, 'Asia/Shanghai')"), json!(null));
    assert!(faults("time(StartTimestamp, 'Asia/Shangai')").contains("no time zone"));
    assert!(faults("time(StartTimestamp, 'UTC', '%!')").contains("no format"));
    assert!(faults("time()").starts_with("time is used so:"));
}

#[test]
fn statuses_and_lists_become_texts() {
    assert_eq!(value("words(EndStatusString)", r#""EndStatusString":"BUSY""#), json!("the line was busy"));
    assert_eq!(value("words(EndStatusString)", r#""EndStatusString":"new""#), json!("new"));
    assert_eq!(value("words(EndStatusString)", ""), json!(null));
    let keys = r#""IVRKeyPressed":["1","2"],"Callee":"008613800138000""#;
    assert_eq!(value("join(IVRKeyPressed, ', ')", keys), json!("1, 2"));
    let query = "join(phones(Callee).map(phone, 'tel=' + phone), ' or ')";
    assert_eq!(value(query, keys), json!("tel=+8613800138000 or tel=008613800138000 or tel=13800138000"));
}

#[test]
fn a_status_is_told_in_the_language_that_is_named() {
    let busy = r#""EndStatusString":"busy""#;
    assert_eq!(value("words(EndStatusString, 'zh')", busy), json!("对方忙"));
    assert_eq!(value("words(EndStatusString, 'en')", busy), value("words(EndStatusString)", busy));
    assert_eq!(value("words(EndStatusString, 'zh')", r#""EndStatusString":"new""#), json!("new"));
    assert_eq!(value("words(EndStatusString, 'zh')", ""), json!(null));
    assert_eq!(value("words(EndStatusString, cdr.Language)", busy), json!(null));
    assert!(faults("words(EndStatusString, 'cn')").contains(r#""cn" is no language; expected en or zh"#));
    assert!(faults("words(EndStatusString, 'zh', 'en')").starts_with("words is used so:"));
    let by_push = Expression::value("words(EndStatusString, cdr.X)", &Names::default()).unwrap();
    for wrong in [r#""cn""#, "1"] {
        let push = cdr(&format!(r#"{busy},"X":{wrong}"#));
        assert!(by_push.give(&Variables::of(&push)).is_err(), "{wrong}");
    }
}

#[test]
fn names_beside_those_of_a_push_are_checked_and_evaluated() {
    let names = Names::default().and("status", Kind::Number).and("body", Kind::Any).and("headers", Kind::Map);
    let expression = Expression::condition(
        r#"status == 409 && body.code == "DUPLICATE" && headers["x-a"] == SessionId"#,
        &names,
    );
    let push = cdr("");
    let mut variables = Variables::of(&push);
    variables.set("status", json!(200));
    variables.set("status", json!(409));
    variables.set("body", json!({ "code": "DUPLICATE" }));
    variables.set("headers", json!({ "x-a": "s1" }));
    assert_eq!(expression.unwrap().holds(&variables), Ok(true));
    let fault = |text: &str| Expression::condition(text, &names).unwrap_err()[0].to_string();
    assert!(fault("statuss == 409").contains(r#"did you mean "status"?"#));
    assert!(fault(r#"status == "409""#).contains("never equal"));
    assert!(Expression::compile("status == 409").is_err(), "a route knows no answer");
    assert!(names.is_taken("Caller") && names.is_taken("body") && !names.is_taken("contact_id"));
}

proptest! {
    #[test]
    fn forms_of_a_number_are_digits_whatever_was_sent(sent in "[0-9+() a-z'\"-]{0,24}") {
        let push = cdr(&format!(r#""Callee":{}"#, json!(sent)));
        let expression = Expression::value("phones(Callee)", &Names::default()).unwrap();
        let forms = expression.give(&Variables::of(&push)).unwrap();
        for form in forms.as_array().unwrap() {
            let form = form.as_str().unwrap();
            let digits = form.strip_prefix('+').unwrap_or(form);
            prop_assert!(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()), "{form}");
        }
        prop_assert!(forms.as_array().unwrap().len() <= 4);
    }
}
