//! What goes wrong before, during and instead of an answer.

use super::*;
use cdr_simulator::crm::Behaviour;

#[tokio::test]
async fn nobody_listening_is_said_in_these_words() {
    let mut crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    crm.go_away().await;
    let reason = format!("nobody listens at {}", crm.addr());
    assert_eq!(away(&attempt(&sink).await).reason, reason);
    assert_eq!(sink.probe().await, Err(reason));
    crm.come_back().await.unwrap();
    assert_eq!(sink.probe().await, Ok(()));
    receipt(&attempt(&sink).await);
}

#[tokio::test]
async fn a_receiver_that_restarts_between_two_pushes_costs_nothing() {
    let mut crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    receipt(&attempt(&sink).await);
    crm.go_away().await;
    away(&attempt(&sink).await);
    crm.come_back().await.unwrap();
    receipt(&attempt(&sink).await);
    assert_eq!((crm.kept(), crm.repeats()), (2, 0));
}

#[tokio::test]
async fn pushes_in_a_row_share_a_connection() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    // A refusal is read to its end, so that its connection is as good as before.
    crm.behave(Behaviour::status(500).body("x".repeat(60_000)).times(1));
    retry(&attempt(&sink).await);
    receipt(&attempt(&sink).await);
    receipt(&attempt(&sink).await);
    let mut from: Vec<_> = crm.received().iter().map(|received| received.from).collect();
    from.dedup();
    assert_eq!(from.len(), 1);
}

#[tokio::test]
async fn an_unknown_host_is_away() {
    let sink = sink("http://crm.invalid/calls", json!({}));
    let report = attempt(&sink).await;
    assert!(away(&report).reason.contains("crm.invalid:80"), "{report:?}");
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_a_retry() {
    let crm = crm().await;
    crm.behave(Behaviour::hang());
    let sink = sink(&crm.url(), json!({ "timeout": "100ms" }));
    let reason = format!("no whole answer from http://{} within 100ms", crm.addr());
    assert_eq!(retry(&attempt(&sink).await).reason, reason);
    assert_eq!(crm.received().len(), 1);
}

#[tokio::test]
async fn a_host_that_swallows_connections_is_away() {
    // Nothing accepts, and the queue of those that wait is full: the next one's SYN is dropped.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(tokio::spawn(tokio::net::TcpStream::connect(addr)));
        tokio::task::yield_now().await;
    }
    let sink = sink(&format!("http://{addr}/"), json!({ "connect_timeout": "200ms", "timeout": "30s" }));
    let report = attempt(&sink).await;
    assert!(away(&report).reason.starts_with(&format!("no connection to {addr} within 200ms")), "{report:?}");
}

#[tokio::test]
async fn a_connection_cut_before_the_answer_is_a_retry() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    let reason = format!("the connection to {} broke before an answer: it was closed", crm.addr());
    crm.behave(Behaviour::cut_before_reading().times(1));
    assert_eq!(retry(&attempt(&sink).await).reason, reason);
    crm.behave(Behaviour::cut_after_reading().times(1));
    assert_eq!(retry(&attempt(&sink).await).reason, reason);
    assert_eq!(crm.kept(), 1);
}

#[tokio::test]
async fn a_200_that_breaks_off_counts_only_where_its_text_does_not() {
    let crm = crm().await;
    crm.behave(Behaviour::break_off(200, r#"{"ErrCo"#));
    let report = attempt(&sink(&crm.url(), json!({}))).await;
    assert!(retry(&report).reason.contains("broke off"), "{report:?}");
    let sink = sink(&crm.url(), json!({ "success": { "err_code": false } }));
    receipt(&attempt(&sink).await);
}

#[tokio::test]
async fn a_refusal_that_breaks_off_is_still_a_refusal() {
    let crm = crm().await;
    crm.behave(Behaviour::break_off(422, "no such f"));
    assert_eq!(reject(&attempt(&sink(&crm.url(), json!({}))).await).excerpt, "no such f");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_retry() {
    let url = crude(b"SSH-2.0-OpenSSH_9.9\r\n").await;
    let report = attempt(&sink(&url, json!({}))).await;
    assert!(retry(&report).reason.contains("what came cannot be read as HTTP/1.1"), "{report:?}");
}

#[tokio::test]
async fn a_413_that_does_not_wait_for_the_body_is_heard() {
    let url =
        crude(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let body = format!(r#"{{"SessionId":"s","Uui":"{}"}}"#, "x".repeat(1 << 20));
    let report = send(&sink(&url, json!({})), &push("cdr", body)).await;
    assert_eq!(reject(&report).reason, "the receiver answered 413 Payload Too Large");
}

#[tokio::test]
async fn an_answer_is_read_to_its_64_kib_and_no_further() {
    // Both promise more than they send before they hang up.
    let answer = |length| format!("HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n{}", "x".repeat(length));
    let (short, long) =
        (crude(answer(60_000).leak().as_bytes()).await, crude(answer(90_000).leak().as_bytes()).await);
    retry(&attempt(&sink(&short, json!({}))).await);
    receipt(&attempt(&sink(&long, json!({}))).await);
}
