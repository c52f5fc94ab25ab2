//! HTTP/2, spoken by hyper's client over TLS.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use cdr_ingress::Verdict;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use crate::{
    certificates::{Authority, Speaks, tls},
    client::CDR,
    store::{House, eventually},
};

/// A sender that keeps one connection, and the task that runs it.
pub struct Sender {
    sends: SendRequest<Full<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Sender {
    async fn connect(house: &House, authority: &Authority) -> Self {
        Self::speaking(Speaks::knowing(authority), house).await
    }

    pub async fn speaking(speaks: Speaks, house: &House) -> Self {
        let stream = speaks.offering(&["h2", "http/1.1"]).to(house.door.address()).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (sends, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        Self { sends, connection: tokio::spawn(connection) }
    }

    /// What becomes of this request.
    async fn send(&self, method: Method, target: &str, body: &str) -> (StatusCode, String) {
        self.try_to_send(method, target, body).await.expect("an answer")
    }

    /// What becomes of this request, if the connection still takes it.
    async fn try_to_send(
        &self,
        method: Method,
        target: &str,
        body: &str,
    ) -> hyper::Result<(StatusCode, String)> {
        self.try_to_send_with(&[], method, target, body).await
    }

    async fn try_to_send_with(
        &self,
        headers: &[(&str, &str)],
        method: Method,
        target: &str,
        body: &str,
    ) -> hyper::Result<(StatusCode, String)> {
        let request = Request::builder().method(method).uri(format!("https://gateway{target}"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let answer: Response<_> = self.sends.clone().send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        Ok((status, String::from_utf8(body.to_vec()).unwrap()))
    }

    /// The status that a push gets.
    pub async fn push(&self) -> StatusCode {
        self.send(Method::POST, "/?action=cdr&version=1", CDR).await.0
    }

    /// Waits until the door has told the connection to go, and it went in good order.
    pub async fn goes(self) {
        let gone = tokio::time::timeout(Duration::from_secs(10), self.connection).await;
        gone.expect("it is told to go").unwrap().expect("nothing is cut off");
    }

    async fn pushes(&self, session: &str) {
        let body = json!({ "SessionId": session }).to_string();
        let said = self.send(Method::POST, "/?action=cdr&version=1", &body).await;
        assert_eq!(said, (StatusCode::OK, r#"{"ErrCode":0,"ErrMsg":"ok"}"#.to_owned()));
    }
}

async fn open(folder: &Path, limits: serde_json::Value) -> (House, Authority) {
    let authority = Authority::new();
    authority.door().lie_in(folder);
    (House::open(json!({ "tls": tls(folder), "limits": limits })).await, authority)
}

#[tokio::test]
async fn many_pushes_share_a_connection_and_wait_for_the_disk_together() {
    let folder = tempfile::tempdir().unwrap();
    let (house, authority) = open(folder.path(), json!({})).await;
    let sender = Sender::connect(&house, &authority).await;
    let disk = house.store.hold_disk().await;
    let sessions: Vec<String> = (0..40).map(|number| format!("s-{number}")).collect();
    let all = futures_util::future::join_all(sessions.iter().map(|session| sender.pushes(session)));
    let then = async {
        house.store.was_handed(40).await;
        drop(disk);
    };
    tokio::join!(all, then);
    assert_eq!(house.store.bodies().len(), 40);
    assert_eq!(house.door.counters().snapshot().open_connections, 1);
}

#[tokio::test]
async fn a_refusal_is_the_same_answer_and_leaves_the_connection_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let (house, authority) = open(folder.path(), json!({ "body": "1KiB" })).await;
    let sender = Sender::connect(&house, &authority).await;
    let large = "x".repeat(200_000);
    for (method, target, body, status, words) in [
        (Method::GET, "/?action=cdr", "", 405, "by POST"),
        (Method::POST, "/nowhere?action=cdr", CDR, 404, "nothing is here"),
        (Method::POST, "/?action=cdr", "[]", 400, "kept in quarantine"),
        (Method::POST, "/?action=cdr", large.as_str(), 413, "larger than 1.0 KiB"),
    ] {
        let (code, said) = sender.send(method, target, body).await;
        assert!(code == status && said.contains(words), "{code} {said}");
        sender.pushes("s").await;
    }
    assert_eq!(house.door.counters().snapshot().open_connections, 1);
}

#[tokio::test]
async fn a_head_has_16_kib_and_more_gets_a_bare_answer_that_leaves_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (house, authority) = open(folder.path(), json!({})).await;
    let sender = Sender::connect(&house, &authority).await;
    let push_with = async |bytes: usize| {
        let name = "x".repeat(bytes);
        sender.try_to_send_with(&[("x-name", &name)], Method::POST, "/?action=cdr", CDR).await.unwrap()
    };
    assert_eq!(push_with(15 << 10).await.0, StatusCode::OK);
    assert_eq!(push_with(16 << 10).await, (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, String::new()));
    assert_eq!(push_with(0).await.0, StatusCode::OK);
    assert_eq!(house.count(Verdict::LargeHead), 0, "the library answers it before there is a request");
}

#[tokio::test]
async fn a_sender_that_expects_to_be_asked_for_its_body_may_send_it_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let (house, authority) = open(folder.path(), json!({})).await;
    let sender = Sender::connect(&house, &authority).await;
    let expects = [("expect", "100-continue")];
    let said = sender.try_to_send_with(&expects, Method::POST, "/?action=cdr", CDR).await.unwrap();
    assert_eq!(said.0, StatusCode::OK);
}

/// As HTTP/1 does after one. A request now and then would keep a connection for ever.
#[tokio::test]
async fn a_sender_that_is_refused_again_and_again_is_sent_away_and_what_it_has_under_way_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (house, authority) = open(folder.path(), json!({})).await;
    let sender = Sender::connect(&house, &authority).await;
    let disk = house.store.hold_disk().await;
    let refused = async {
        house.store.was_handed(1).await;
        let mut refused = 0;
        while let Ok((status, _)) = sender.try_to_send(Method::POST, "/nowhere", CDR).await {
            assert_eq!(status, 404);
            refused += 1;
            assert!(refused < 100, "it is never sent away");
        }
        drop(disk);
        refused
    };
    let ((), refused) = tokio::join!(sender.pushes("s"), refused);
    assert!(refused >= 20, "{refused}");
    sender.goes().await;
    assert_eq!(house.count(Verdict::Stored), 1);
    Sender::connect(&house, &authority).await.pushes("t").await;
}

/// It answers no PING, so that nothing but patience ends the connection.
#[tokio::test(start_paused = true)]
async fn a_sender_that_goes_on_after_it_was_told_to_go_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (house, authority) = open(folder.path(), json!({})).await;
    let stream = Speaks::knowing(&authority).offering(&["h2"]).to(house.door.address()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    writer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let begun = tokio::time::Instant::now();
    let goes_on = async {
        for number in 0..1000_u32 {
            // POST, https, / without an action (RFC 7541, static table).
            let number = (2 * number + 1).to_be_bytes();
            let request = [b"\0\0\x03\x01\x05".as_slice(), &number, b"\x83\x87\x84"].concat();
            if writer.write_all(&request).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let mut said = Vec::new();
    tokio::select! {
        () = goes_on => {}
        _ = reader.read_to_end(&mut said) => {}
    }
    // 20 refusals; then what a slow body and a slow disk may take.
    let lasted = begun.elapsed().as_secs();
    assert!((20..40).contains(&lasted), "{lasted} s");
    assert!(house.count(Verdict::Action) >= 20);
}

/// As over HTTP/1: the seats of strangers are few.
#[tokio::test]
async fn a_stranger_is_sent_away_with_the_first_refusal() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.door().lie_in(folder.path());
    let allow = json!({ "networks": ["203.0.113.0/24"] });
    let house = House::open(json!({ "tls": tls(folder.path()), "allow": allow })).await;
    let sender = Sender::connect(&house, &authority).await;
    assert_eq!(sender.push().await, StatusCode::FORBIDDEN);
    sender.goes().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_closed_and_one_with_a_slow_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (house, authority) = open(folder.path(), json!({ "header_timeout": "2s" })).await;
    let sender = Sender::connect(&house, &authority).await;
    let disk = house.store.hold_disk().await;
    let slow = async {
        house.store.was_handed(1).await;
        tokio::time::sleep(Duration::from_millis(3500)).await;
        drop(disk);
    };
    tokio::join!(sender.pushes("s"), slow);
    let begun = tokio::time::Instant::now();
    let closed = tokio::time::timeout(Duration::from_secs(30), sender.connection).await;
    closed.expect("it is closed").unwrap().unwrap();
    let idle = begun.elapsed();
    assert!(idle >= Duration::from_secs(2) && idle < Duration::from_secs(4), "{idle:?}");
}

/// Says that it speaks HTTP/2, and then nothing more.
#[tokio::test(start_paused = true)]
async fn a_sender_that_never_begins_is_closed_too() {
    let folder = tempfile::tempdir().unwrap();
    let (house, authority) = open(folder.path(), json!({ "header_timeout": "2s" })).await;
    let mut stream = Speaks::knowing(&authority).offering(&["h2"]).to(house.door.address()).await.unwrap();
    let mut ignored = Vec::new();
    let begun = tokio::time::Instant::now();
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut ignored)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    eventually("it is closed", || house.door.counters().snapshot().open_connections == 0).await;
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let (mut house, authority) = open(folder.path(), json!({})).await;
    let sender = Sender::connect(&house, &authority).await;
    let store = std::sync::Arc::clone(&house.store);
    let disk = store.hold_disk().await;
    let then = async {
        store.was_handed(1).await;
        house.shut();
        tokio::task::yield_now().await;
        drop(disk);
    };
    tokio::join!(sender.pushes("s"), then);
    sender.connection.await.unwrap().unwrap();
    house.shut_wholly().await;
    assert_eq!(house.count(Verdict::Stored), 1);
}

/// As in CVE-2023-44487: requests that are broken off as soon as they are made.
#[tokio::test]
async fn a_sender_that_breaks_off_request_after_request_is_sent_away() {
    let folder = tempfile::tempdir().unwrap();
    let (house, authority) = open(folder.path(), json!({})).await;
    let mut stream = Speaks::knowing(&authority).offering(&["h2"]).to(house.door.address()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // POST, https, /, without the end of the request (RFC 7541, static table); then RST_STREAM with CANCEL.
    let broken_off = (0..10_000_u32).flat_map(|number| {
        let stream = (2 * number + 1).to_be_bytes();
        let request = [b"\0\0\x03\x01\x04".as_slice(), &stream, b"\x83\x87\x84"].concat();
        [request, [b"\0\0\x04\x03\0".as_slice(), &stream, b"\0\0\0\x08"].concat()].concat()
    });
    let attack: Vec<u8> = broken_off.collect();
    // It hangs up before the end of this.
    let _ = stream.write_all(&attack).await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    eventually("it is closed", || house.door.counters().snapshot().open_connections == 0).await;
    let requests: u64 = house.door.counters().snapshot().verdicts.iter().map(|(_, count)| count).sum();
    assert!(requests < 2_000, "{requests} of 10000 requests were looked at");
}

/// The types of frames that come, up to one of this type, that end included.
async fn frames_until(stream: &mut (impl tokio::io::AsyncRead + Unpin), last: u8) -> Vec<u8> {
    let mut types = Vec::new();
    while types.last() != Some(&last) {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.expect("what is in the frame");
        types.push(head[3]);
    }
    types
}

/// curl 7.88 forgets the answer when its request is reset while it still sends.
#[tokio::test]
async fn a_request_that_is_refused_before_its_body_is_there_is_heard_out_and_not_reset() {
    const DATA: u8 = 0;
    const RESET: u8 = 3;
    const PING: u8 = 6;
    let ping = [b"\0\0\x08\x06\0\0\0\0\0".as_slice(), b"are you?"].concat();
    let folder = tempfile::tempdir().unwrap();
    let (house, authority) = open(folder.path(), json!({})).await;
    let mut stream = Speaks::knowing(&authority).offering(&["h2"]).to(house.door.address()).await.unwrap();
    // POST, https, / without an action, whose body is still to come (RFC 7541, static table).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.write_all(b"\0\0\x03\x01\x04\0\0\0\x01\x83\x87\x84").await.unwrap();
    let mut frames = frames_until(&mut stream, DATA).await;
    stream.write_all(&ping).await.unwrap();
    frames.extend(frames_until(&mut stream, PING).await);
    stream.write_all(b"\0\0\x01\0\x01\0\0\0\x01x").await.unwrap();
    stream.write_all(&ping).await.unwrap();
    frames.extend(frames_until(&mut stream, PING).await);
    assert!(!frames.contains(&RESET), "{frames:?}");
    assert_eq!(house.count(Verdict::Action), 1);
}
