//! What real senders do, and what must not be mistaken for it.

use cdr_ingress::Verdict;
use serde_json::json;

use crate::{
    client::{CDR, Client, cdr, expecting, push, send},
    store::{House, eventually},
};

#[tokio::test]
async fn a_query_joined_to_another_is_understood() {
    let house = House::open(json!({})).await;
    for target in
        ["/?token=X?action=cdr&version=1", "/?token=X&action=cdr&version=1", "/?action=record&action=%63dr"]
    {
        send(house.door.address(), push(target, &[], CDR)).await.is_ok();
    }
    assert_eq!(house.store.only().facts.action.as_str(), "cdr");
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    let house = House::open(json!({})).await;
    for line in [
        "Content-Type: application/json;charset=utf8",
        "Content-Type: text/plain",
        "Content-Type: %%",
        "X: y",
    ] {
        send(house.door.address(), push("/?action=cdr", &[line], CDR)).await.is_ok();
    }
}

#[tokio::test]
async fn a_strange_uuid_counts_as_none() {
    let house = House::open(json!({})).await;
    let long = format!("X-TCCC-PUSH-UUID: {}", "x".repeat(129));
    let strange: [&[&str]; 5] = [
        &["X-TCCC-PUSH-UUID: "],
        &["X-TCCC-PUSH-UUID: a b"],
        &["X-TCCC-PUSH-UUID: 号"],
        &[&long],
        &["X-TCCC-PUSH-UUID: a", "X-TCCC-PUSH-UUID: b"],
    ];
    for lines in strange {
        send(house.door.address(), push("/?action=cdr", lines, CDR)).await.is_ok();
        assert_eq!(house.store.only().facts.uuid, None, "{lines:?}");
    }
    assert_eq!(house.door.counters().snapshot().odd_uuids, 5);
}

#[tokio::test]
async fn odd_fields_and_unpublished_statuses_are_kept_and_counted_once_a_push() {
    let house = House::open(json!({})).await;
    let body = r#"{"SessionId":"s","Duration":{},"EndStatusString":"brandNew",
                   "ServeParticipants":[{"EndStatusString":"ok"},{"EndStatusString":"brandNew"}]}"#;
    for _ in 0..3 {
        send(house.door.address(), push("/?action=cdr", &[], body)).await.is_ok();
    }
    let counters = house.door.counters().snapshot();
    assert_eq!(counters.odd_fields.into_iter().collect::<Vec<_>>(), [("Duration", 1)]);
    assert_eq!(counters.unpublished_statuses.into_iter().collect::<Vec<_>>(), [("brandNew".to_owned(), 2)]);
}

#[tokio::test]
async fn who_expects_to_be_asked_for_the_body_is_asked_once_it_is_welcome() {
    let house = House::open(json!({ "path": "/x" })).await;
    let mut client = Client::connect(house.door.address()).await;
    let head = expecting("/x?action=cdr");
    client.write(&head).await;
    assert_eq!(client.answer().await.status, 100);
    client.write(CDR).await;
    client.answer().await.is_ok();

    let mut client = Client::connect(house.door.address()).await;
    client.write(head.replace("/x?", "/y?")).await;
    client.answer().await.is(404, "nothing is here");
    client.is_closed().await;
}

#[tokio::test]
async fn who_proves_nothing_is_never_asked_for_its_body() {
    let verify = json!([{ "basic": { "username": "tccc", "password": "right" } }]);
    let house = House::open(json!({ "verify": verify })).await;
    let mut client = Client::connect(house.door.address()).await;
    client.write(expecting("/?action=cdr")).await;
    client.answer().await.is(401, "basicAuth");
    client.is_closed().await;
}

#[tokio::test]
async fn a_byte_order_mark_is_kept_and_not_read() {
    let house = House::open(json!({})).await;
    let body = format!("\u{feff}{CDR}");
    send(house.door.address(), push("/?action=cdr", &[], &body)).await.is_ok();
    let push = house.store.only();
    assert_eq!(push.body, body);
    assert_eq!(push.cdr.unwrap().session_id.as_deref(), Some("s-1"));
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let house = House::open(json!({})).await;
    let mut client = Client::connect(house.door.address()).await;
    client.write(cdr().replace("HTTP/1.1", "HTTP/1.0")).await;
    client.answer().await.is_ok();
    client.is_closed().await;
}

#[tokio::test]
async fn who_closes_one_direction_after_sending_still_hears_the_answer() {
    let house = House::open(json!({})).await;
    let disk = house.store.hold_disk().await;
    let mut client = Client::connect(house.door.address()).await;
    client.write(cdr()).await;
    client.half_close().await;
    house.store.was_handed(1).await;
    drop(disk);
    client.answer().await.is_ok();
    client.is_closed().await;
}

#[tokio::test]
async fn pipelined_pushes_are_answered_in_order() {
    let house = House::open(json!({})).await;
    let mut client = Client::connect(house.door.address()).await;
    let bodies: Vec<_> = (0..20).map(|number| format!(r#"{{"SessionId":"{number}"}}"#)).collect();
    let requests: String = bodies.iter().map(|body| push("/?action=cdr", &[], body)).collect();
    client.write(requests).await;
    for _ in &bodies {
        client.answer().await.is_ok();
    }
    assert_eq!(house.store.bodies(), bodies);
}

#[tokio::test]
async fn two_lengths_are_no_length() {
    let house = House::open(json!({})).await;
    let mut client = Client::connect(house.door.address()).await;
    client.write(push("/?action=cdr", &["Content-Length: 3"], CDR)).await;
    assert_eq!(client.answer().await.status, 400);
    client.is_closed().await;
    assert!(house.store.bodies().is_empty());
}

/// hyper reads such a request by its chunks and closes (RFC 9112 §6.1): what follows is never a request.
#[tokio::test]
async fn a_request_cannot_be_smuggled_behind_a_length_that_contradicts_the_chunks() {
    let house = House::open(json!({})).await;
    for lengths in [
        ["Content-Length: 4", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 4"],
    ] {
        let mut client = Client::connect(house.door.address()).await;
        let head =
            format!("POST /?action=cdr HTTP/1.1\r\nHost: x\r\n{}\r\n{}\r\n\r\n", lengths[0], lengths[1]);
        let smuggled = push("/?action=cdr", &[], r#"{"SessionId":"smuggled"}"#);
        client.write(format!("{head}{:x}\r\n{CDR}\r\n0\r\n\r\n{smuggled}", CDR.len())).await;
        client.answer().await.is_ok();
        client.is_closed().await;
    }
    assert_eq!(house.store.bodies(), [CDR]);

    let mut client = Client::connect(house.door.address()).await;
    client
        .write("POST /?action=cdr HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 400);
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_push() {
    let house = House::open(json!({})).await;
    let mut client = Client::connect(house.door.address()).await;
    let request = cdr();
    client.write(&request[..request.len() - 1]).await;
    client.half_close().await;
    eventually("it is noticed", || house.count(Verdict::BrokenBody) == 1).await;
    assert!(house.store.bodies().is_empty() && house.store.quarantine.lock().unwrap().is_empty());
}
