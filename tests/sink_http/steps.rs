//! Several requests for a push: find or make the contact, then the call.

use std::time::Duration;

use super::*;
use cdr_core::{Batch, Delivery};
use cdr_simulator::crm::{Behaviour, Book, CrmOptions};

async fn crm_with_book() -> Crm {
    let options = CrmOptions { has_book: true, ..CrmOptions::default() };
    Crm::start_with("127.0.0.1:0", options).await.unwrap()
}

/// As docs/crm.md shows them.
fn steps() -> Value {
    json!([
        {
            "name": "look", "path": "/contacts", "query": { "phone": "{{phones(customer)}}" },
            "take": { "contact": "body.items[0].id" },
        },
        {
            "name": "contact", "when": "contact == null", "path": "/contacts",
            "body": { "phone": "{{e164(customer)}}" },
            "take": { "contact": "body.id" },
        },
        {
            "name": "call", "path": "/calls", "needs": ["contact"],
            "body": { "contact": "{{contact}}", "session": "{{SessionId}}", "seconds": "{{Duration}}" },
            "find": { "path": "/calls", "query": { "session": "{{SessionId}}" }, "found": "size(body.items) > 0" },
        },
    ])
}

fn with_steps(crm: &Crm, steps: Value) -> Arc<dyn AnySink> {
    sink(&crm.origin(), json!({ "steps": steps, "timeout": "2s" }))
}

/// A call that came in now: nobody can have sent it before.
fn call(session: &str, caller: &str) -> Arc<Push> {
    let body = json!({ "SessionId": session, "Direction": 0, "Caller": caller, "Duration": 7 }).to_string();
    let received_at = jiff::Timestamp::now() + Duration::from_secs(60);
    let facts = cdr_core::Facts { received_at, ..cdr_tests::facts("cdr", body.as_bytes()) };
    cdr_tests::push_of(facts, body)
}

async fn again(sink: &Arc<dyn AnySink>, push: &Arc<Push>) -> Report {
    let delivery = Delivery { attempt: 2, may_be_there: true, ..batch([Arc::clone(push)]).first().clone() };
    sink.deliver(&Batch::new(vec![delivery]).unwrap()).await
}

fn book(crm: &Crm) -> Book {
    crm.book().unwrap()
}

fn asked(crm: &Crm) -> Vec<String> {
    crm.received().iter().map(|asked| format!("{} {}", asked.method, asked.uri.path())).collect()
}

#[tokio::test]
async fn a_contact_is_made_once_and_found_afterwards() {
    let crm = crm_with_book().await;
    let sink = with_steps(&crm, steps());
    let report = send(&sink, &call("s1", "008613800138000")).await;
    assert_eq!(receipt(&report), "call: HTTP 201");
    receipt(&send(&sink, &call("s2", "+8613800138000")).await);
    receipt(&send(&sink, &call("s3", "008613900139000")).await);
    let book = book(&crm);
    assert_eq!(book.contacts.len(), 2, "{book:?}");
    let linked: Vec<_> = book.calls.iter().map(|call| (&call["session"], &call["contact"])).collect();
    assert_eq!(linked, [(&json!("s1"), &json!(1)), (&json!("s2"), &json!(1)), (&json!("s3"), &json!(2))]);
    let get_call = ["GET /contacts", "POST /calls"];
    let all = ["GET /contacts", "POST /contacts", "POST /calls"];
    assert_eq!(asked(&crm), [&all[..], &get_call, &all].concat());
}

#[tokio::test]
async fn two_calls_of_one_unknown_number_at_once_make_one_contact() {
    let crm = crm_with_book().await;
    let sink = with_steps(&crm, steps());
    let calls: Vec<_> = (0..4).map(|n| call(&n.to_string(), "008613800138000")).collect();
    let reports = futures_util::future::join_all(calls.iter().map(|call| send(&sink, call))).await;
    for report in &reports {
        receipt(report);
    }
    assert_eq!((book(&crm).contacts.len(), book(&crm).calls.len()), (1, 4));
}

#[tokio::test]
async fn the_sink_after_a_reload_waits_for_its_turn_too() {
    let crm = crm_with_book().await;
    let (old, new) = (with_steps(&crm, steps()), with_steps(&crm, steps()));
    let (one, other) = (call("1", "008613800138000"), call("2", "008613800138000"));
    let (one, other) = futures_util::join!(send(&old, &one), send(&new, &other));
    assert_eq!((receipt(&one), receipt(&other)), ("call: HTTP 201", "call: HTTP 201"));
    assert_eq!(book(&crm).contacts.len(), 1);
}

#[tokio::test]
async fn calls_of_different_numbers_do_not_wait_for_each_other() {
    let crm = crm_with_book().await;
    crm.behave(Behaviour::hang().only_at("GET /contacts").times(1));
    let sink = with_steps(&crm, steps());
    let hanging = call("1", "008613800138000");
    let slow = tokio::spawn({
        let sink = Arc::clone(&sink);
        async move { send(&sink, &hanging).await }
    });
    while crm.received().is_empty() {
        tokio::task::yield_now().await;
    }
    receipt(&send(&sink, &call("2", "008613900139000")).await);
    assert!(!slow.is_finished());
    slow.abort();
}

#[tokio::test]
async fn an_answer_cut_off_after_storing_makes_no_second_call() {
    let crm = crm_with_book().await;
    let sink = with_steps(&crm, steps());
    crm.behave(Behaviour::cut_after_reading().only_at("POST /calls").times(1));
    let push = call("s1", "008613800138000");
    let report = send(&sink, &push).await;
    assert!(retry(&report).reason.starts_with("call: the connection to "), "{report:?}");
    assert_eq!(receipt(&again(&sink, &push).await), "call: stored by an earlier attempt");
    // A 500 after storing, as real CRMs give it.
    crm.behave(Behaviour::status(500).keeping().only_at("POST /calls").times(1));
    let push = call("s2", "008613800138000");
    assert_eq!(
        retry(&send(&sink, &push).await).reason,
        "call: the receiver answered 500 Internal Server Error"
    );
    receipt(&again(&sink, &push).await);
    // One that stored nothing is sent again.
    crm.behave(Behaviour::status(500).only_at("POST /calls").times(1));
    let push = call("s3", "008613800138000");
    retry(&send(&sink, &push).await);
    assert_eq!(receipt(&again(&sink, &push).await), "call: HTTP 201");
    assert_eq!((book(&crm).contacts.len(), book(&crm).calls.len()), (1, 3));
}

#[tokio::test]
async fn what_was_stored_and_answered_away_is_there_once() {
    let crm = crm_with_book().await;
    let sink = with_steps(&crm, steps());
    let busy = Behaviour::status(503).header("retry-after", "1");
    crm.behave(busy.keeping().only_at("POST /calls").times(1));
    let push = call("s1", "008613800138000");
    away(&send(&sink, &push).await);
    // No attempt counts, and the lane knows.
    let delivery = Delivery { may_be_there: true, ..batch([push]).first().clone() };
    let report = sink.deliver(&Batch::new(vec![delivery]).unwrap()).await;
    assert_eq!(receipt(&report), "call: stored by an earlier attempt");
    assert_eq!(book(&crm).calls.len(), 1);
}

#[tokio::test]
async fn a_push_of_before_the_start_and_a_replay_are_looked_for_first() {
    let crm = crm_with_book().await;
    let push = call("s1", "008613800138000");
    receipt(&send(&with_steps(&crm, steps()), &push).await);
    // Another process: nobody knows what became of it.
    let body = push.body().clone();
    let old = cdr_tests::push_of(cdr_tests::facts("cdr", &body), body);
    let sink = with_steps(&crm, steps());
    assert_eq!(receipt(&send(&sink, &old).await), "call: stored by an earlier attempt");
    let replay = Delivery { replay: true, may_be_there: true, ..batch([push]).first().clone() };
    let report = sink.deliver(&Batch::new(vec![replay]).unwrap()).await;
    assert_eq!(receipt(&report), "call: stored by an earlier attempt");
    assert_eq!(book(&crm).calls.len(), 1);
}

#[tokio::test]
async fn a_find_that_fails_is_no_no() {
    let crm = crm_with_book().await;
    let sink = with_steps(&crm, steps());
    let push = call("s1", "008613800138000");
    receipt(&send(&sink, &push).await);
    for (behaviour, reason) in [
        (Behaviour::status(500), "call: find: the receiver answered 500 Internal Server Error"),
        (Behaviour::break_off(200, "{"), "call: find: the answer did not come to its end"),
    ] {
        crm.behave(behaviour.only_at("GET /calls").times(1));
        assert_eq!(retry(&again(&sink, &push).await).reason, reason);
    }
    crm.behave(Behaviour::status(429).only_at("GET /calls").times(1));
    away(&again(&sink, &push).await);
    assert_eq!(book(&crm).calls.len(), 1);
    crm.behave(Behaviour::status(404).only_at("GET /calls").times(1));
    receipt(&again(&sink, &push).await);
    assert_eq!(book(&crm).calls.len(), 2, "a 404 says that it is not there");
}

#[tokio::test]
async fn an_error_page_does_not_say_that_a_call_is_stored() {
    let crm = crm_with_book().await;
    let mut wide = steps();
    let last = wide.as_array_mut().unwrap().last_mut().unwrap();
    last["find"]["found"] = "size(body) > 0".into();
    let sink = with_steps(&crm, wide);
    let push = call("s1", "008613800138000");
    for page in [Behaviour::status(504).body("<html>"), Behaviour::break_off(200, "[{")] {
        crm.behave(page.only_at("GET /calls").times(1));
        retry(&again(&sink, &push).await);
    }
    assert_eq!(book(&crm).calls.len(), 0, "nothing was stored, and nothing counts as delivered");
}

#[tokio::test]
async fn a_step_that_fails_ends_the_attempt_and_is_named() {
    let crm = crm_with_book().await;
    let sink = with_steps(&crm, steps());
    let push = call("s1", "008613800138000");
    crm.behave(Behaviour::status(400).body("phone?").only_at("POST /contacts").times(1));
    let report = send(&sink, &push).await;
    assert_eq!(reject(&report).reason, "contact: the receiver answered 400 Bad Request");
    assert_eq!(reject(&report).excerpt, "phone?");
    crm.behave(Behaviour::status(401).only_at("GET /contacts").times(1));
    assert_eq!(
        away(&send(&sink, &push).await).reason,
        "look: the receiver answered 401 Unauthorized; check auth"
    );
    crm.behave(Behaviour::status(200).body("{}").only_at("POST /contacts").times(1));
    assert_eq!(retry(&send(&sink, &push).await).reason, "call: no earlier step took contact");
    assert_eq!(book(&crm).calls.len(), 0);
}

#[tokio::test]
async fn steps_of_a_push_are_told_apart_by_their_keys() {
    let crm = crm_with_book().await;
    receipt(&send(&with_steps(&crm, steps()), &call("s1", "008613800138000")).await);
    let received = crm.received();
    let keys: Vec<_> = received.iter().map(|asked| asked.header("idempotency-key").unwrap()).collect();
    assert!(keys[0].ends_with("-look") && keys[1].ends_with("-contact"), "{keys:?}");
    assert_eq!(keys[2].split('-').count(), 2, "the delivery bears the key of the push");
}

#[tokio::test]
async fn an_answer_means_what_classify_says() {
    let crm = crm().await;
    let settings = json!({
        "classify": [
            { "when": r#"body.code == "DUPLICATE""#, "as": "delivered" },
            { "when": r#"status == 400 && body.code == "LOCKED""#, "as": "retry" },
            { "when": r#"headers["x-quota"] == "0""#, "as": "away" },
            { "when": r#"body.text.contains("never")"#, "as": "reject" },
        ],
        "already_there": "status == 409",
        "success": { "when": "body.ok == true" },
    });
    let sink = sink(&crm.url(), settings);
    let answer = async |behaviour: Behaviour| {
        crm.behave(behaviour.times(1));
        attempt(&sink).await
    };
    let of = |status: u16, body: &'static str| Behaviour::status(status).body(body);
    assert_eq!(receipt(&answer(of(400, r#"{"code":"DUPLICATE"}"#)).await), "HTTP 400");
    assert_eq!(receipt(&answer(of(409, "taken")).await), "HTTP 409, already there");
    assert_eq!(receipt(&answer(of(200, r#"{"ok":true}"#)).await), "HTTP 200");
    let report = answer(of(400, r#"{"code":"LOCKED"}"#)).await;
    let reason = r#"the receiver answered 400 Bad Request, which classify makes retry: status == 400 && body.code == "LOCKED""#;
    assert_eq!(retry(&report).reason, reason);
    away(&answer(of(200, "{}").header("x-quota", "0")).await);
    reject(&answer(of(200, r#"{"text":"never"}"#)).await);
    assert_eq!(
        retry(&answer(of(200, r#"{"ok":false}"#)).await).reason,
        "the receiver answered 200 OK, and success.when does not hold"
    );
    retry(&answer(of(200, "<html>")).await);
    reject(&answer(of(400, "<html>")).await);
    let report = answer(Behaviour::break_off(200, r#"{"ok":true"#)).await;
    assert!(retry(&report).reason.contains("broke off"), "{report:?}");
    let report = answer(of(200, r#"{"ok":true}"#).body("x".repeat(2 << 20))).await;
    assert!(retry(&report).reason.contains("more than 1024 KiB"), "{report:?}");
}

#[tokio::test]
async fn a_step_whose_when_does_not_hold_is_no_failure() {
    let crm = crm_with_book().await;
    let mut steps = steps();
    steps[2]["when"] = json!("Duration > 10");
    let report = send(&with_steps(&crm, steps), &call("s1", "008613800138000")).await;
    assert_eq!(receipt(&report), "call: not sent, its when does not hold");
    assert_eq!(book(&crm).calls.len(), 0);
}

#[tokio::test]
async fn a_find_that_is_answered_with_a_page_for_people_is_asked_again() {
    let crm = crm_with_book().await;
    let sink = with_steps(&crm, steps());
    let push = call("s1", "008613800138000");
    receipt(&send(&sink, &push).await);
    crm.behave(Behaviour::status(200).body("<html>please log in</html>").only_at("GET /calls").times(1));
    let report = again(&sink, &push).await;
    assert_eq!(retry(&report).reason, "call: find: the receiver answered 200 OK with what is no JSON");
    assert_eq!(receipt(&again(&sink, &push).await), "call: stored by an earlier attempt");
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_an_answer() {
    let crm = crm().await;
    crm.behave(Behaviour::status(200).body("\u{feff}{\"ok\":true}"));
    let sink = sink(&crm.url(), json!({ "success": { "when": "body.ok" } }));
    receipt(&attempt(&sink).await);
}

#[tokio::test]
async fn a_preview_shows_each_request_and_neither_address_nor_headers() {
    let settings =
        json!({ "steps": steps(), "auth": { "bearer": "s3cret-token" }, "headers": { "X-Key": "s3cret" } });
    let sink = sink("http://127.0.0.1:9/s3cret-hook?key=s3cret", settings);
    let shown = |push: Arc<Push>| sink.preview(&batch([push])).0;
    let parts = shown(call("s1", "008613800138000"));
    let expected = r#"look: GET …/contacts?phone=%2B8613800138000&phone=008613800138000&phone=13800138000
contact: if contact == null: POST …/contacts
{
  "phone": "+8613800138000"
}
call: POST …/calls
{
  "contact": "{{contact}}",
  "seconds": 7,
  "session": "s1"
}"#;
    assert_eq!((parts.len(), parts[0].name, parts[0].text.as_str()), (1, "requests", expected));
    let none = super::sink("http://127.0.0.1:9/", json!({ "path": "/calls/{{Caller}}" }));
    let none = none.preview(&batch([push("cdr", r#"{"SessionId":"s"}"#)])).0;
    assert_eq!(none[0].text, "no request: path: a part of it is null or empty");
    let plain = super::sink("http://127.0.0.1:9/", json!({}));
    assert_eq!(plain.preview(&batch([call("s1", "1")])).0, []);
}

#[tokio::test]
async fn a_preview_tells_which_request_is_not_sent() {
    let sink = sink("http://127.0.0.1:9/", json!({ "preset": "odoo" }));
    let shown = sink.preview(&batch([push("record", r#"{"SessionId":"s"}"#)])).0;
    assert!(shown[0].text.ends_with("call: not sent, its when does not hold"), "{}", shown[0].text);
}
