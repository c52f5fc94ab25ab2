//! What an expression says of a push.

use cdr_core::{Cdr, Push};
use cdr_expression::Expression;

use crate::push::{self, cdr};

#[track_caller]
fn compile(text: &str) -> Expression {
    Expression::compile(text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

#[track_caller]
fn holds(text: &str, push: &Push) -> bool {
    compile(text).eval(push).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn fails(text: &str, push: &Push) -> String {
    match compile(text).eval(push) {
        Err(error) => error.to_string(),
        Ok(held) => panic!("{text}: {held}"),
    }
}

#[test]
fn the_conditions_of_the_sample_configuration_hold_where_they_should() {
    let unattended = cdr(r#""EndStatusString":"noSeatOnline""#);
    let answered = cdr(r#""EndStatusString":"ok","Duration":75"#);
    assert!(holds(r#"EndStatusString in ["error", "noSeatOnline"]"#, &unattended));
    assert!(!holds(r#"EndStatusString in ["error", "noSeatOnline"]"#, &answered));
    assert!(holds(r#"action == "cdr" && result == "answered""#, &answered));
    assert!(holds(r#"result in ["no_seat", "fault"] || Duration > 60"#, &answered));
}

#[test]
fn every_name_is_bound_for_every_push() {
    let ours = "action version received_at sender origin result wait ring talk transfers customer";
    let strange = push::of("strange", r#"{"Duration":1}"#);
    for push in [cdr(""), push::of("record", "{}")] {
        for name in Cdr::FIELDS.iter().copied().chain(ours.split(' ')) {
            let null = compile(&format!("{name} == null")).eval(&push);
            assert!(null.is_ok(), "{name}: {null:?}");
        }
    }
    for name in Cdr::FIELDS.iter().chain(&["result", "wait", "ring", "talk", "transfers"]) {
        assert!(holds(&format!("{name} == null"), &strange), "{name}");
    }
}

#[test]
fn what_a_recording_tells_of_itself_can_be_asked_and_what_only_a_session_has_is_null() {
    let voicemail = push::of("voicemail", r#"{"SessionId":"s","EndpointUser":13800138000,"Timestamp":"7"}"#);
    assert!(holds(r#"action == "voicemail" && EndpointUser == "13800138000" && Timestamp == 7"#, &voicemail));
    let record = push::of("RECORD", r#"{"SessionId":"s","RecordId":7,"RecordURL":"https://x/a.mp3"}"#);
    assert!(holds(r#"action == "record" && RecordId == "7" && RecordURL.startsWith("https://x/")"#, &record));
    for name in ["EndStatusString", "Caller", "result", "wait", "talk", "transfers"] {
        assert!(holds(&format!("{name} == null"), &record), "{name}");
    }
    // A cdr without a status is a session all the same.
    assert!(holds(r#"result == "other""#, &cdr("")));
}

#[test]
fn text_and_video_sessions_have_a_result_and_durations() {
    let text = push::of(
        "imcdr",
        r#"{"SessionId":"s","EndStatusString":"AutoFinished","UserId":42,"ClientData":"e30=",
            "AcceptTimestamp":10,"EndedTimestamp":300,"Satisfaction":{"id":104,"content":"ok"}}"#,
    );
    assert!(holds(r#"result == "answered" && talk == 290 && transfers == 0"#, &text));
    assert!(holds(r#"UserId == "42" && ClientData == "e30=" && Satisfaction.id == "104""#, &text));
    let video = push::of("videocdr", r#"{"SessionId":"s","EndStatusString":"error","UserNickName":"x"}"#);
    assert!(holds(r#"action == "videoCdr" && result == "fault" && UserNickName == "x""#, &video));
}

#[test]
fn our_own_names_tell_of_the_push() {
    let push =
        cdr(r#""EndStatusString":"OK","QueuedTimestamp":100,"RingTimestamp":130,"AcceptTimestamp":135,
            "EndedTimestamp":200,"ServeParticipants":[{"TransferTo":"x"},{}]"#);
    for text in [
        r#"action == "cdr""#,
        r#"version == "1.0""#,
        r#"received_at == "2026-03-01T08:30:00.123Z""#,
        r#"received_at > "2026-03-01" && received_at < "2026-03-02""#,
        r#"sender.startsWith("203.0.113.")"#,
        r#"origin == "push""#,
        r#"result == "answered""#,
        "wait == 30 && ring == 5 && talk == 65 && transfers == 1",
        r#"EndStatusString == "ok""#,
    ] {
        assert!(holds(text, &push), "{text}");
    }
}

#[test]
fn numbers_and_texts_are_read_as_tolerantly_as_everywhere() {
    let push = cdr(r#""Duration":" 75 ","EndpointUser":13800138000,"CallType":[]"#);
    assert!(holds(r#"Duration == 75 && EndpointUser == "13800138000" && CallType == null"#, &push));
}

#[test]
fn null_equals_only_null() {
    let push = cdr("");
    assert!(!holds("Duration == 0", &push));
    assert!(holds("Duration != 0", &push));
    assert!(!holds(r#"EndStatusString == "ok""#, &push));
    assert!(!holds(r#"EndStatusString in ["ok", "busy"]"#, &push));
    assert!(holds(r#"EndStatusString in ["ok", null]"#, &push));
    assert!(holds("Duration == null && null == Duration && Duration == RingTimestamp", &push));
}

#[test]
fn what_has_no_answer_for_null_fails_and_names_the_field() {
    let push = cdr("");
    for (text, field) in [
        ("Duration > 30", "Duration"),
        ("30 < Duration", "Duration"),
        ("Duration + 1 > 30", "Duration"),
        ("-Duration > 30", "Duration"),
        (r#"Caller.startsWith("0086")"#, "Caller"),
        (r#"Caller.matches("^0086")"#, "Caller"),
        ("size(Caller) > 0", "Caller"),
        ("IVRKeyPressed.size() > 0", "IVRKeyPressed"),
        (r#""1" in IVRKeyPressed"#, "IVRKeyPressed"),
        (r#"IVRKeyPressed.exists(key, key == "1")"#, "IVRKeyPressed"),
        (r#"Duration > 30 && action == "cdr""#, "Duration"),
        ("!(Duration > 30)", "Duration"),
        ("bool(Uui)", "Uui"),
    ] {
        let error = fails(text, &push);
        assert!(error.ends_with(&format!("; null in this push: {field}")), "{text}: {error}");
    }
    let expected = "> has no meaning for null and a number; null in this push: Duration";
    assert_eq!(fails("Duration > 30", &push), expected);
}

#[test]
fn a_side_that_fails_does_not_matter_when_the_other_decides() {
    let push = cdr("");
    assert!(!holds(r#"Duration > 30 && action == "record""#, &push));
    assert!(!holds(r#"action == "record" && Duration > 30"#, &push));
    assert!(holds(r#"Duration > 30 || action == "cdr""#, &push));
    assert!(!holds("Duration != null && Duration > 30", &push));
}

#[test]
fn a_member_that_is_not_there_is_null() {
    let push = cdr(r#""SeatUser":null,"Extra":{"A":{"B":1}},"ServeParticipants":[{"Mail":"a@b"}]"#);
    for text in [
        "SeatUser.Mail == null",
        "cdr.Missing == null",
        "cdr.Missing.Deep.Deeper == null",
        "cdr.Extra.A.B == 1",
        r#"cdr["Extra"]["A"]["C"] == null"#,
        r#"ServeParticipants[0].Mail == "a@b" && ServeParticipants[1].Mail == null"#,
        "ServeParticipants[0].Phone == null",
        "!has(SeatUser.Mail) && has(cdr.Extra.A) && !has(cdr.Missing) && !has(cdr.SeatUser)",
    ] {
        assert!(holds(text, &push), "{text}");
    }
    assert_eq!(fails("cdr.Extra.A.B.C == 1", &push), "[] has no meaning for a number and a text");
}

#[test]
fn unpublished_fields_come_as_they_are() {
    let push = cdr(r#""T":"x","I":-1,"U":18446744073709551615,"F":1.5,"B":true,"L":[1,"a"],"T":"y",
            "Half":"\ud83d","N":"1""#);
    for text in [
        r#"cdr.T == "y""#,
        "cdr.I == -1 && cdr.F > 1.4 && cdr.B",
        "cdr.U == 18446744073709551615u",
        r#"size(cdr.L) == 2 && "a" in cdr.L && cdr.L.exists(x, x == 1)"#,
        "cdr.Half == null",
        r#"cdr.SessionId == "s1""#,
        "cdr.N != 1 && int(cdr.N) == 1",
    ] {
        assert!(holds(text, &push), "{text}");
    }
    let strange = push::of("strange", "\u{feff}{\"Duration\":75}");
    assert!(holds("Duration == null && cdr.Duration == 75", &strange));
    assert_eq!(fails("cdr.N > 1", &push), "> has no meaning for a text and a number");
}

#[test]
fn lists_and_objects_are_walked() {
    let push = cdr(r#""IVRKeyPressed":["1","3"],"PostIVRKeyPressed":[{"Key":"5","Label":"good"}],
            "ServeParticipants":[{"Mail":"a@b","EndStatusString":"SEATGIVEUP"},{"Mail":"c@d"}]"#);
    for text in [
        r#""3" in IVRKeyPressed && size(IVRKeyPressed) == 2"#,
        r#"IVRKeyPressed.all(key, key in ["1", "2", "3"])"#,
        "PostIVRKeyPressed.exists(key, int(key.Key) >= 5)",
        r#"ServeParticipants.exists_one(part, part.EndStatusString == "seatGiveUp")"#,
        r#"ServeParticipants.map(part, part.Mail) == ["a@b", "c@d"]"#,
        r#"ServeParticipants.filter(part, part.Mail != "a@b")[0].Mail == "c@d""#,
        r#"size(IVRKeyPressed.map(key, "x")) == 2"#,
        r#"["ok", "busy"].exists(status, status == EndStatusString) == false"#,
        r#"IVRKeyPressed.exists(Duration, Duration == "3") && Duration == null"#,
        r#"(Direction == 1 ? "out" : "in") == "in""#,
        r#"{"a": 1}.a == 1 && {"a": 1}["b"] == null"#,
    ] {
        assert!(holds(text, &push), "{text}");
    }
}

#[test]
fn patterns_match_as_regular_expressions() {
    let push = cdr(r#""Caller":"008613800138000""#);
    assert!(holds(r#"Caller.matches("^0086\\d{11}$")"#, &push));
    assert!(holds(r#"matches(Caller, "138")"#, &push));
    assert!(!holds(r#"Caller.matches("^138")"#, &push));
    assert!(holds(r#"Caller.matches("^" + "0086")"#, &push));
}

#[test]
fn every_function_of_the_language_is_there() {
    let push = cdr(r#""Caller":"x","Uui":"1","B":"true""#);
    for text in [
        r#"Caller.startsWith("x") && Caller.endsWith("x") && Caller.contains("x") && Caller.matches("x")"#,
        "size(Caller) == 1 && Caller.size() == 1",
        r#"int(Uui) == 1 && uint(Uui) == 1u && double(Uui) == 1.0 && string(1) == "1""#,
        r#"bool(cdr.B) && bytes(Uui) == b"1" && type(Uui) == string && dyn(Uui) == "1""#,
    ] {
        assert!(holds(text, &push), "{text}");
    }
}

#[test]
fn an_error_never_tells_a_value() {
    let push = cdr(r#""Caller":"008613800138000","Uui":"138-0013-8000","RecordId":"(138""#);
    for text in [
        "int(Uui) > 1",
        "bool(Caller)",
        "cdr.Caller > 1",
        "cdr.Caller + 1 == 2",
        "cdr.Caller.Uui",
        "Caller.matches(RecordId)",
        "{Caller: 1, Caller: 2}.x == 1",
        "-cdr.Caller == 1",
        "cdr.Caller",
        "cdr.Caller ? true : false",
    ] {
        let error = fails(text, &push);
        assert!(!error.contains("138"), "{text}: {error}");
    }
}

#[test]
fn what_turns_out_to_be_no_condition_fails() {
    let push = cdr(r#""X":1"#);
    assert_eq!(fails("cdr.X", &push), "it gives a number, not true or false");
    assert_eq!(fails("cdr.Y", &push), "it gives null, not true or false");
    assert!(holds("true", &push) && !holds("false", &push));
}
