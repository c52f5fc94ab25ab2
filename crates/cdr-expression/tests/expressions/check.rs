//! What is told of an expression before there is a push.

use cdr_core::{CallResult, end_status};
use cdr_expression::Expression;

use crate::push::cdr;

#[track_caller]
fn fault(text: &str) -> String {
    let faults = Expression::compile(text).expect_err(text);
    assert_eq!(faults.len(), 1, "{text}: {faults:?}");
    faults[0].to_string()
}

#[track_caller]
fn warnings(text: &str) -> Vec<String> {
    let expression = Expression::compile(text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    expression.warnings().iter().map(ToString::to_string).collect()
}

#[test]
fn a_name_that_is_no_field_is_a_fault_with_the_nearest_one() {
    for (text, expected) in [
        (
            r#"EndStatusSting == "ok""#,
            r#"there is no field "EndStatusSting", did you mean "EndStatusString"? (column 1)"#,
        ),
        ("duration == 1", r#"there is no field "duration", did you mean "Duration"? (column 1)"#),
        (
            r#"Flavour == "x""#,
            r#"there is no field "Flavour"; an unpublished one is written cdr.Flavour (column 1)"#,
        ),
        ("result == answered", r#"answered is a text and needs quotes: "answered" (column 11)"#),
        (
            r#"SeatUser.Mial == "a@b""#,
            r#"unknown member of SeatUser "Mial", did you mean "Mail"? (column 10)"#,
        ),
        (
            r#"ServeParticipants.exists(p, p.Mial == "")"#,
            r#"unknown member of p "Mial", did you mean "Mail"? (column 31)"#,
        ),
        (
            r#"ServeParticipants.exists(part, prat.Mail == "")"#,
            r#"there is no field "prat", did you mean "part"? (column 32)"#,
        ),
        ("Duration.Seconds == 1", "Duration is a number and has no members (column 10)"),
        (r#"RecordUrl == "x""#, r#"there is no field "RecordUrl", did you mean "RecordURL"? (column 1)"#),
        (
            r#"Satisfaction.Id == "104""#,
            r#"unknown member of Satisfaction "Id", did you mean "id"? (column 14)"#,
        ),
        (
            r#"SeatUser["Mial"] == "a@b""#,
            r#"unknown member of SeatUser "Mial", did you mean "Mail"? (column 9)"#,
        ),
    ] {
        assert_eq!(fault(text), expected);
    }
}

#[test]
fn unknown_and_misused_functions_are_faults() {
    for (text, expected) in [
        (
            r#"Caller.startswith("0086")"#,
            r#"unknown function "startswith", did you mean "startsWith"? (column 8)"#,
        ),
        (r#"startsWith(Caller, "0086")"#, r#"startsWith is used so: Caller.startsWith("0086") (column 1)"#),
        (r#"lowercase(Caller) == "x""#, "unknown function \"lowercase\"; there are: startsWith"),
        ("IVRKeyPressed.exists(key)", "exists is used so: IVRKeyPressed.exists(key, "),
        ("Duration.startsWith(\"1\")", "Duration is a number; startsWith is used so"),
        ("has(Duration)", "write Duration != null"),
        ("cdr.?X == 1", "null already"),
        ("Foo{} == 1", "there are no messages"),
        (r#""86" in Caller"#, r#"Caller is a text: write Caller.contains("86")"#),
        (r#"Caller.matches("(")"#, "the pattern of matches is no regular expression: unclosed group"),
        ("Duration.exists(x, true)", "Duration is a number; this goes over the elements of a list"),
        ("size(cdr) == 1", "cdr is the whole body"),
        (r#""X" in cdr"#, "cdr is the whole body; in needs a list"),
    ] {
        let fault = fault(text);
        assert!(fault.contains(expected), "{text}: {fault}");
    }
}

#[test]
fn what_is_no_condition_is_a_fault() {
    for (text, expected) in [
        ("1 + 1", "this is a number, not a condition that is true or false (column 3)"),
        (r#""ok""#, "\"ok\" is a text, not a condition"),
        ("result", "result is a text, not a condition"),
        (r#"action == "cdr" && Duration"#, "Duration is a number, not a condition"),
        ("!Duration", "Duration is a number, not a condition"),
        ("null", "null is null, not a condition"),
        ("cdr", "cdr is the whole body, not a condition"),
        ("IVRKeyPressed.exists(key, key)", "key is a text, not a condition"),
        ("Duration ? true : false", "Duration is a number, not a condition"),
    ] {
        let fault = fault(text);
        assert!(fault.contains(expected), "{text}: {fault}");
    }
}

#[test]
fn comparisons_that_never_hold_are_faults() {
    for (text, expected) in [
        (r#"Duration == "30""#, r#"Duration is a number and "30" a text: never equal (column 10)"#),
        (
            r#"Duration > "30""#,
            r#"Duration is a number and "30" a text: neither greater nor less (column 10)"#,
        ),
        ("SessionId == 1", "SessionId is a text and 1 a number: never equal"),
        ("RecordId in [1]", "RecordId is a text and 1 a number: never equal"),
        ("1 in IVRKeyPressed", "never equal"),
        ("Duration > null", "null is null; only numbers and texts are greater or less"),
        ("Duration + Caller == 1", "+ has no meaning for a number and a text"),
        ("-Caller == 1", "Caller is a text and has no minus"),
    ] {
        let fault = fault(text);
        assert!(fault.contains(expected), "{text}: {fault}");
    }
}

#[test]
fn a_value_outside_a_closed_set_is_a_fault() {
    assert_eq!(
        fault(r#"result == "anwered""#),
        r#""anwered" never occurs, did you mean "answered"? (column 11)"#
    );
    let results = "answered, abandoned, unreached, closed, fault, no_seat, other";
    assert_eq!(
        fault(r#"result in ["answered", "lost"]"#),
        format!("\"lost\" never occurs; there are: {results} (column 24)")
    );
    assert!(fault(r#""lost" != result"#).starts_with("\"lost\" never occurs"));
    assert!(fault("Direction == 2").starts_with("2 never occurs; there are: 0, 1"));
    assert!(fault(r#"origin == "pull""#).contains("did you mean \"push\"?"));
    for result in CallResult::ALL {
        assert!(warnings(&format!("result == \"{result}\"")).is_empty());
    }
}

#[test]
fn an_unpublished_status_is_a_warning_and_a_wrong_case_a_fault() {
    assert_eq!(
        warnings(r#"EndStatusString == "noSeatOnlin""#),
        [r#""noSeatOnlin" is no published value, did you mean "noSeatOnline"? (column 20)"#]
    );
    assert_eq!(warnings(r#"EndStatusString == "brandNewStatus""#).len(), 1);
    assert_eq!(warnings(r#"ServeParticipants.exists(p, p.EndStatusString == "okay")"#).len(), 1);
    assert_eq!(warnings(r#"HungUpSide == "agent""#).len(), 1);
    assert_eq!(warnings(r#"action == "recrod""#).len(), 1);
    assert!(warnings(r#"action == "queueStatistics""#).is_empty());
    assert_eq!(
        warnings("cdr.Duratoin == 1"),
        ["cdr.Duratoin is no published field, did you mean Duration? (column 5)"]
    );
    assert!(fault(r#"EndStatusString == "OK""#).contains(r#"it is always spelled "ok""#));
    assert!(fault(r#"action == "CDR""#).contains(r#"it is always spelled "cdr""#));
    for status in end_status::PUBLISHED {
        assert!(warnings(&format!("EndStatusString == \"{}\"", status.name)).is_empty());
    }
}

#[test]
fn all_faults_come_at_once_in_order() {
    let faults = Expression::compile("Duraton > 1 &&\n  result == \"x\" && Caler == \"\"").unwrap_err();
    let places: Vec<_> = faults.iter().map(|fault| fault.place.unwrap()).collect();
    assert_eq!(places, [(1, 1), (2, 13), (2, 20)]);
    assert!(faults[1].to_string().ends_with("(line 2, column 13)"));
}

#[test]
fn syntax_faults_say_what_was_meant() {
    for (text, expected) in [
        ("", "the expression is empty"),
        ("  ", "the expression is empty"),
        ("Duration = 1", "write == instead of = (column 10)"),
        ("Duration === 1", "write == or != instead of ==="),
        ("Duration == 1 and Direction == 0", "write && instead of and (column 15)"),
        ("Duration == 1 OR Direction == 0", "write || instead of OR"),
        ("not Duration == 1", "write ! instead of not"),
        ("Duration is null", "write == instead of is"),
        ("Duration <> 1", "write != instead of <>"),
        ("Duration == 1 & Direction == 0", "write && instead of &"),
        ("Duration == 1 | Direction == 0", "write || instead of |"),
        ("Duration == ", "it ends in the middle (column 13)"),
        ("(Duration == 1", "it ends in the middle"),
        ("Duration == 1)", "unexpected )"),
        ("Caller == \"x", "this text has no end"),
        (r#"Caller == "\d""#, "a \\ in it that stands for nothing"),
        ("Caller == ‘ok’", "straight quotes"),
        ("Caller in ['a' 'b']", "a comma is missing here (column 16)"),
        ("CallerLocation == 广东", "unexpected 广东; a text needs quotes"),
        ("CallerLocation == '广东' && Duration = 1", "(column 36)"),
        ("Duration == 99999999999999999999", "invalid int literal"),
        ("Duration ? true", "it ends in the middle"),
    ] {
        let fault = fault(text);
        assert!(fault.contains(expected), "{text}: {fault}");
    }
}

/// How expressions get deep: a beginning, links of a chain, an end.
const CHAINS: [(&str, &str, &str); 13] = [
    ("1", "+1", ""),
    ("cdr", ".b", ""),
    ("cdr", "[\"a\"]", ""),
    ("cdr.X", ".size()", ""),
    ("true", "==true", ""),
    ("", "-(", "1"),
    ("", "!(", "true"),
    ("", "[", "1"),
    ("", "{1:", "1"),
    ("true", "?true:true", ""),
    ("", "string(", "1"),
    ("", "ServeParticipants.exists(p, ", "p.Mail == \"\""),
    ("", "ServeParticipants.map(p, ", "1"),
];

fn chain((start, link, end): (&str, &str, &str), links: usize) -> String {
    let close = match link.chars().last() {
        Some('(') | Some(' ') => ")",
        Some('[') => "]",
        Some(':') => "}",
        _ => "",
    };
    format!("{start}{}{end}{} != null", link.repeat(links), close.repeat(links))
}

#[test]
fn what_is_too_long_or_too_deep_is_refused_and_overflows_nothing() {
    assert!(fault(&" ".repeat(8193)).contains("longer than 8192 bytes"));
    assert_eq!(fault(&chain(CHAINS[0], 40)), "nested deeper than 32 levels; split it into several routes");
    for parts in CHAINS {
        let longest = chain(parts, 8000 / (parts.1.len() + 1));
        assert!(longest.len() <= 8192);
        assert!(Expression::compile(&longest).is_err(), "{parts:?}");
    }
}

#[test]
fn the_deepest_expressions_fit_the_stack_of_a_worker() {
    let deepest = CHAINS.map(|parts| {
        let compiled = (1..40).rev().find_map(|links| Expression::compile(&chain(parts, links)).ok());
        compiled.unwrap_or_else(|| panic!("{parts:?}"))
    });
    let evaluate = move || {
        let push = cdr(r#""ServeParticipants":[{"Mail":"x"},{"Mail":"y"}]"#);
        deepest.iter().for_each(|expression| drop(expression.eval(&push)));
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(evaluate).unwrap().join().unwrap();
}

#[test]
fn long_lists_and_long_chains_of_alternatives_are_fine() {
    let alternatives = vec![r#"Caller == "x""#; 400].join(" || ");
    let numbers = (0..400).map(|number| format!("\"1380013{number}\"")).collect::<Vec<_>>().join(",");
    for text in [alternatives, format!("Caller in [{numbers}]")] {
        assert_eq!(Expression::compile(&text).unwrap().eval(&cdr("")), Ok(false));
    }
}
