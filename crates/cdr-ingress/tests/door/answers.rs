//! The table of answers, row by row.

use std::time::Duration;

use base64::Engine;
use cdr_core::NotStored;
use cdr_ingress::Verdict;
use serde_json::json;

use crate::{
    client::{CDR, Client, cdr, push, send},
    store::{House, eventually},
};

fn basic(credentials: &str) -> String {
    format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials))
}

#[tokio::test]
async fn a_push_is_kept_with_all_its_facts() {
    let house = House::open(json!({})).await;
    let lines = ["X-TCCC-PUSH-UUID: 7b1c-1"];
    send(house.door.address(), push("/?action=CDR&version=1", &lines, CDR)).await.is_ok();
    let push = house.store.only();
    assert_eq!(push.body, CDR);
    assert_eq!((push.facts.action.as_str(), push.facts.version.as_deref()), ("cdr", Some("1")));
    assert_eq!(push.facts.uuid.as_deref(), Some("7b1c-1"));
    assert_eq!(push.facts.sender, Some([127, 0, 0, 1].into()));
    assert_eq!(push.facts.sha256[..4], [0x1a, 0x1a, 0xf7, 0x66]);
    assert_eq!(push.cdr.unwrap().session_id.as_deref(), Some("s-1"));
    assert_eq!(house.count(Verdict::Stored), 1);
    assert_eq!(house.door.counters().snapshot().body_bytes, CDR.len() as u64);
}

#[tokio::test]
async fn a_repeat_is_a_success_and_so_is_a_reused_uuid() {
    let house = House::open(json!({})).await;
    let uuid = ["X-TCCC-PUSH-UUID: u"];
    for body in [CDR, CDR, r#"{"SessionId":"s-2"}"#] {
        send(house.door.address(), push("/?action=cdr", &uuid, body)).await.is_ok();
    }
    let counts = [Verdict::Stored, Verdict::Repeat, Verdict::UuidReused].map(|verdict| house.count(verdict));
    assert_eq!(counts, [1, 1, 1]);
}

#[tokio::test]
async fn an_unknown_action_with_an_object_is_kept() {
    let house = House::open(json!({})).await;
    send(house.door.address(), push("/?action=asr_2", &[], "{}")).await.is_ok();
    assert_eq!(house.store.only().facts.action.as_str(), "asr_2");
}

#[tokio::test]
async fn a_body_that_is_no_push_goes_to_quarantine_and_the_answer_says_where_its_fault_is() {
    let house = House::open(json!({})).await;
    let masked = "{\n    \"SdkAppId\":1400xxx214,\n    \"SessionId\":\"x\"}";
    let answer = send(house.door.address(), push("/?action=cdr", &[], masked)).await;
    answer.is(400, "at byte 21 (line 2, column 20), near 1400xxx214");
    answer.is(400, "kept in quarantine as number 701");
    let suspect = house.store.quarantine.lock().unwrap().values().next().unwrap().clone();
    assert_eq!(suspect.body, masked);
    assert!(suspect.reason.contains("at byte 21") && !suspect.reason.contains("1400"), "{}", suspect.reason);

    for (body, words) in [("", "empty"), ("[{}]", "array"), ("{}", "SessionId"), ("a=1", "not JSON")] {
        send(house.door.address(), push("/?action=cdr", &[], body)).await.is(400, words);
    }
    assert_eq!(house.count(Verdict::Quarantined), 5);
    assert!(house.store.bodies().is_empty());
}

#[tokio::test]
async fn a_full_quarantine_is_said_and_a_full_or_failing_spool_is_a_503() {
    let house = House::open(json!({})).await;
    *house.store.refuse_quarantine.lock().unwrap() = Some(NotStored::QuarantineFull);
    send(house.door.address(), push("/?action=cdr", &[], "[]")).await.is(400, "not kept");
    *house.store.refuse_quarantine.lock().unwrap() = Some(NotStored::Full);
    send(house.door.address(), push("/?action=cdr", &[], "[]")).await.is(503, "push it again later");
    *house.store.refuse_quarantine.lock().unwrap() = Some(NotStored::Failing("EIO".into()));
    send(house.door.address(), push("/?action=cdr", &[], "[]")).await.is(503, "push it again later");
    let verdicts = [Verdict::QuarantineFull, Verdict::SpoolFull, Verdict::SpoolFailing];
    assert_eq!(verdicts.map(|verdict| house.count(verdict)), [1, 1, 1]);
}

#[tokio::test]
async fn what_is_not_stored_is_a_503_that_tells_nothing_of_us() {
    let house = House::open(json!({})).await;
    for (why, verdict) in [
        (NotStored::Full, Verdict::SpoolFull),
        (NotStored::Failing("/var/spool: EIO".into()), Verdict::SpoolFailing),
        (NotStored::Busy, Verdict::Busy),
        (NotStored::Slow(Duration::from_secs(4)), Verdict::SlowCommit),
        (NotStored::Stopping, Verdict::Stopping),
    ] {
        *house.store.refuse.lock().unwrap() = Some(why.clone());
        let answer = send(house.door.address(), cdr()).await;
        answer.is(503, "push it again later");
        assert!(answer.headers.contains_key("retry-after") && !answer.body.contains("spool"), "{answer:?}");
        assert_eq!(house.count(verdict), 1, "{why}");
    }
}

#[tokio::test]
async fn only_those_who_prove_who_they_are_come_in() {
    let verify = json!([{ "basic": { "username": "tccc", "password": "new", "previous": "old" } }]);
    let house = House::open(json!({ "verify": verify })).await;
    let target = "/?action=cdr&version=1";
    for right in ["tccc:new", "tccc:old"] {
        send(house.door.address(), push(target, &[&basic(right)], CDR)).await.is_ok();
    }
    let missing = send(house.door.address(), push(target, &[], CDR)).await;
    missing.is(401, "basicAuth is expected");
    assert!(missing.headers["www-authenticate"].starts_with("Basic realm="));
    let (wrong, right) = (basic("tccc:older"), basic("tccc:new"));
    for lines in
        [vec![wrong.as_str()], vec![&right, &right], vec![&wrong, &right], vec!["Authorization: Bearer x"]]
    {
        send(house.door.address(), push(target, &lines, CDR)).await.is(401, "wrong user name or password");
    }
    assert_eq!((house.count(Verdict::NoProof), house.count(Verdict::WrongProof)), (1, 4));
    assert_eq!((house.count(Verdict::Stored), house.count(Verdict::Repeat)), (1, 1));
}

#[tokio::test]
async fn nothing_else_is_served_than_pushes_by_post_at_the_path() {
    let house = House::open(json!({ "path": "/secret" })).await;
    let address = house.door.address();
    send(address, push("/secret/?action=cdr", &[], CDR)).await.is_ok();
    send(address, push("/?action=cdr", &[], CDR)).await.is(404, "nothing is here");
    send(address, push("/secret", &[], CDR)).await.is(404, "?action=cdr&version=1");
    send(address, push("/secret?action=a-b", &[], CDR)).await.is(404, "letters, digits or underscores");
    send(address, push("/secret?action=specifiedSeat&version=1", &[], "{}"))
        .await
        .is(404, "which agent takes a live call");
    let answer = send(address, "GET /secret?action=cdr HTTP/1.1\r\nHost: x\r\n\r\n").await;
    answer.is(405, "POST");
    assert_eq!(answer.headers["allow"], "POST");
    let counts = [Verdict::Path, Verdict::Action, Verdict::Question, Verdict::Method];
    assert_eq!(counts.map(|verdict| house.count(verdict)), [1, 2, 1, 1]);
    assert_eq!(house.store.bodies().len(), 1);
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_whether_announced_or_not() {
    let house = House::open(json!({ "limits": { "body": "100B" } })).await;
    let address = house.door.address();
    // More than the system takes in before we read: closing at once would reset the connection.
    let large = format!(r#"{{"SessionId":"{}"}}"#, "x".repeat(8 << 20));
    send(address, push("/?action=cdr", &[], &large)).await.is(413, "larger than 100 B");
    let announced = push("/?action=cdr", &[], &large);
    send(address, &announced[..announced.len() - large.len()]).await.is(413, "larger than 100 B");
    let chunk = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let chunked = "POST /?action=cdr HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    send(address, format!("{chunked}{chunk}")).await.is(413, "larger than 100 B");
    send(address, format!("{chunked}{:x}\r\n{CDR}\r\n0\r\n\r\n", CDR.len())).await.is_ok();
    let mut just = CDR.to_owned();
    just.insert_str(1, &" ".repeat(100 - CDR.len()));
    send(address, push("/?action=cdr", &[], &just)).await.is_ok();
    send(address, push("/?action=cdr", &[], &(just + " "))).await.is(413, "larger");
    assert_eq!(house.count(Verdict::TooLarge), 4);
}

#[tokio::test]
async fn a_slow_head_and_a_slow_body_are_told_so() {
    let limits = json!({ "header_timeout": "50ms", "body_timeout": "50ms" });
    let house = House::open(json!({ "limits": limits })).await;
    let mut client = Client::connect(house.door.address()).await;
    client.write("POST /?action=cdr HT").await;
    client.answer().await.is(408, "head of the request did not arrive within 50ms");
    client.is_closed().await;

    let mut client = Client::connect(house.door.address()).await;
    let request = cdr();
    client.write(&request[..request.len() - 1]).await;
    let answer = client.answer().await;
    answer.is(408, "body did not arrive within 50ms");
    assert!(answer.closes());
    client.is_closed().await;
    assert_eq!((house.count(Verdict::SlowHead), house.count(Verdict::SlowBody)), (1, 1));

    let mut idle = Client::connect(house.door.address()).await;
    idle.write(&request).await;
    idle.answer().await.is_ok();
    idle.is_closed().await;
    assert_eq!(house.count(Verdict::SlowHead), 1);
}

#[tokio::test]
async fn what_does_not_fit_into_the_shared_room_is_told_to_come_again() {
    let house = House::open(json!({ "limits": { "body": "100B", "in_flight": "100B" } })).await;
    let disk = house.store.hold_disk().await;
    let mut first = Client::connect(house.door.address()).await;
    first.write(cdr()).await;
    house.store.was_handed(1).await;
    send(house.door.address(), cdr()).await.is(503, "push it again later");
    assert_eq!(house.count(Verdict::Busy), 1);
    drop(disk);
    first.answer().await.is_ok();
    send(house.door.address(), cdr()).await.is_ok();
}

#[tokio::test]
async fn above_the_limit_of_connections_the_answer_is_429_at_once() {
    let house = House::open(json!({ "limits": { "connections": 2 } })).await;
    let mut inside = Client::connect(house.door.address()).await;
    inside.write(cdr()).await;
    inside.answer().await.is_ok();
    let mut also_inside = Client::connect(house.door.address()).await;
    also_inside.write(cdr()).await;
    also_inside.answer().await.is_ok();

    let mut outside = Client::connect(house.door.address()).await;
    outside.write(cdr()).await;
    let answer = outside.answer().await;
    answer.is(429, "too many connections");
    assert!(answer.closes() && answer.headers.contains_key("retry-after"));
    drop(outside);
    assert_eq!(house.count(Verdict::Connections), 1);

    inside.write(cdr()).await;
    inside.answer().await.is_ok();
    drop((inside, also_inside));
    eventually("there is room again", || house.door.counters().snapshot().open_connections == 0).await;
    send(house.door.address(), cdr()).await.is_ok();
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_counted() {
    let house = House::open(json!({})).await;
    for strange in
        ["\x16\x03\x01\x02\x00\x01\x00", "SSH-2.0-OpenSSH\r\n\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"]
    {
        let mut client = Client::connect(house.door.address()).await;
        client.write(strange).await;
        assert_eq!(client.answer().await.status, 400, "{strange:?}");
        client.is_closed().await;
    }
    assert_eq!(house.count(Verdict::NotHttp), 3);
}
