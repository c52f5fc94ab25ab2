//! Receivers that are broken or mean ill: no call is taken for delivered that was not, and none keeps the sink for ever.

use std::time::Duration;

use super::network::Authority;
use super::*;
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What comes after all that was said.
#[derive(Clone, Copy)]
enum Then {
    HangUp,
    Wait,
    /// It goes on saying this.
    Flood(&'static [u8]),
}

/// A receiver that answers the requests of each connection so, one after the other, and counts them.
async fn saying<A: AsRef<[u8]>>(
    answers: impl IntoIterator<Item = A>,
    then: Then,
) -> (String, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let answers: Arc<[Vec<u8>]> = answers.into_iter().map(|answer| answer.as_ref().to_vec()).collect();
    let (count, requests) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(say(stream, Arc::clone(&answers), then, count.clone()));
        }
    });
    (url, requests)
}

async fn say(mut stream: TcpStream, answers: Arc<[Vec<u8>]>, then: Then, count: watch::Sender<usize>) {
    for answer in &*answers {
        if !read_request(&mut stream).await {
            return;
        }
        count.send_modify(|count| *count += 1);
        let _ = stream.write_all(answer).await;
    }
    match then {
        Then::HangUp => {}
        Then::Flood(more) => while stream.write_all(more).await.is_ok() {},
        Then::Wait => {
            while read_request(&mut stream).await {
                count.send_modify(|count| *count += 1);
            }
        }
    }
}

/// Whether one came; all of them are small.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    while !read.ends_with(br#"{"SessionId":"s"}"#) {
        if stream.read_buf(&mut read).await.is_ok_and(|length| length > 0) {
            continue;
        }
        return false;
    }
    true
}

/// One attempt with little time.
async fn soon(url: &str, mut settings: Value) -> Report {
    settings["timeout"] = json!("500ms");
    attempt(&sink(url, settings)).await
}

#[tokio::test]
async fn headers_without_end_are_a_retry() {
    let (url, _) = saying([b"HTTP/1.1 200 OK\r\n"], Then::Flood(b"x-more: and more\r\n")).await;
    let report = attempt(&sink(&url, json!({}))).await;
    assert!(retry(&report).reason.contains("message head is too large"), "{report:?}");
}

#[tokio::test]
async fn early_hints_without_end_are_a_retry_and_a_thousand_are_none() {
    let hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let (url, _) = saying([b""], Then::Flood(hint)).await;
    retry(&soon(&url, json!({})).await);
    let mut answer = hint.repeat(1000);
    answer.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let (url, _) = saying([answer], Then::Wait).await;
    receipt(&attempt(&sink(&url, json!({}))).await);
}

#[tokio::test]
async fn a_switch_of_protocols_is_a_retry_on_another_connection() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";
    let (url, requests) =
        saying([&switch[..], b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], Then::Wait).await;
    let sink = sink(&url, json!({}));
    for _ in 0..2 {
        retry(&attempt(&sink).await);
    }
    assert_eq!(*requests.borrow(), 2, "each on a connection of its own");
}

#[tokio::test]
async fn the_status_counts_where_the_rest_never_comes() {
    let hanging = async |head: &str, settings: Value| {
        let answer = format!("HTTP/1.1 {head}\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n");
        let (url, _) = saying([answer], Then::Wait).await;
        soon(&url, settings).await
    };
    let report = hanging("200 OK", json!({})).await;
    let expected = "the receiver answered 200 OK, but the answer did not come to its end in time";
    assert_eq!(retry(&report).reason, expected);
    receipt(&hanging("200 OK", json!({ "success": { "err_code": false } })).await);
    retry(&hanging("200 OK", json!({ "success": { "err_code": false, "when": "status == 200" } })).await);
    let report = hanging("503 Service Unavailable\r\nretry-after: 7", json!({})).await;
    assert_eq!(away(&report).retry_after, Some(Duration::from_secs(7)));
    reject(&hanging("422 Unprocessable Entity", json!({})).await);
    away(&hanging("401 Unauthorized", json!({})).await);
}

#[tokio::test]
async fn an_err_code_counts_however_the_rest_looks() {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let start = b"10\r\n{\"ErrCode\":1,\"x\"\r\n4\r\n:\"xx\r\n";
    let (url, _) = saying([[&chunked[..], start].concat()], Then::Flood(b"8\r\nxxxxxxxx\r\n")).await;
    let report = attempt(&sink(&url, json!({}))).await;
    assert_eq!(retry(&report).reason, "the receiver answered 200 OK with ErrCode 1");
    // In GBK, as old receivers have it.
    let (url, _) = saying(
        &[b"HTTP/1.1 200 OK\r\ncontent-length: 29\r\n\r\n{\"ErrCode\":1,\"ErrMsg\":\"\xca\xa7\xb0\xdc\"}"],
        Then::Wait,
    )
    .await;
    let report = attempt(&sink(&url, json!({}))).await;
    assert_eq!(retry(&report).reason, "the receiver answered 200 OK with ErrCode 1");
}

#[tokio::test]
async fn an_answer_whose_end_is_missing_proves_nothing() {
    for (answer, why) in [
        (&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n20\r\n{\"ErrCo"[..], "broke off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{\"ErrCo\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{", "broke off"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"ErrCode\":0}", "broke off"),
        // Without a length nothing breaks off.
        (b"HTTP/1.0 200 OK\r\n\r\n{\"ErrCo", "ends in the middle of its JSON"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"ErrCo", "ends in the middle of its JSON"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}", "cannot be read"),
    ] {
        let (url, _) = saying([answer], Then::HangUp).await;
        let report = attempt(&sink(&url, json!({}))).await;
        assert!(retry(&report).reason.contains(why), "{report:?}");
    }
    let (url, _) = saying([b"HTTP/1.0 200 OK\r\n\r\n{\"ErrCode\":0}"], Then::HangUp).await;
    receipt(&attempt(&sink(&url, json!({}))).await);
}

#[tokio::test]
async fn no_coding_is_asked_for_and_what_comes_in_one_proves_nothing() {
    let crm = crm().await;
    receipt(&attempt(&sink(&crm.url(), json!({}))).await);
    assert_eq!(crm.received()[0].header("accept-encoding"), Some("identity"));
    let coded = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00";
    let (url, _) = saying([coded], Then::Wait).await;
    let report = attempt(&sink(&url, json!({}))).await;
    assert!(retry(&report).reason.contains("a Content-Encoding that was not asked for"), "{report:?}");
    receipt(&attempt(&sink(&url, json!({ "success": { "err_code": false } }))).await);
    // Some name a charset there.
    let charset = b"HTTP/1.1 200 OK\r\ncontent-encoding: UTF-8\r\ncontent-length: 13\r\n\r\n{\"ErrCode\":0}";
    let (url, _) = saying([charset], Then::Wait).await;
    receipt(&attempt(&sink(&url, json!({}))).await);
    let nothing = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n";
    let (url, _) = saying([nothing], Then::Wait).await;
    receipt(&attempt(&sink(&url, json!({}))).await);
}

#[tokio::test]
async fn what_comes_unasked_is_no_answer_to_the_next_push() {
    let two = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (url, _) = saying([two], Then::Wait).await;
    let sink = sink(&url, json!({ "timeout": "500ms" }));
    receipt(&attempt(&sink).await);
    // The next connection says the same to its first request: that one's answer, and one too many.
    receipt(&attempt(&sink).await);
    let quiet = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n";
    let (url, requests) = saying([quiet], Then::Wait).await;
    let sink = super::sink(&url, json!({ "timeout": "500ms" }));
    receipt(&attempt(&sink).await);
    receipt(&attempt(&sink).await);
    assert_eq!(*requests.borrow(), 2);
}

#[tokio::test]
async fn a_kept_connection_that_ends_after_a_request_is_an_attempt_and_no_second_request() {
    let (url, requests) =
        saying([&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..], b""], Then::HangUp).await;
    let sink = sink(&url, json!({}));
    receipt(&attempt(&sink).await);
    let report = attempt(&sink).await;
    assert!(retry(&report).reason.ends_with("broke before an answer: it was closed"), "{report:?}");
    assert_eq!(*requests.borrow(), 2, "it may have been taken: `find` is asked first");
}

#[tokio::test]
async fn times_that_no_clock_knows_are_read_as_far_as_they_make_sense() {
    for (value, expected) in [
        ("-5", None),
        ("99999999999999999999999999", Some(Duration::from_secs(u64::MAX))),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(Duration::ZERO)),
        ("Fri, 99 Foo 9999 99:99:99 GMT", None),
    ] {
        let answer =
            format!("HTTP/1.1 429 Too Many Requests\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        let report = attempt(&sink(&crude(answer.leak().as_bytes()).await, json!({}))).await;
        assert_eq!(away(&report).retry_after, expected, "{value}");
    }
}

#[tokio::test]
async fn a_secret_that_is_repeated_in_any_form_is_not_quoted() {
    let crm = crm().await;
    let secret = r#"s3cret"/key"#;
    let settings = json!({ "auth": { "api_key": { "query": "key", "value": secret } } });
    let sink = sink(&crm.url(), settings);
    for repeated in [r#"{"key":"s3cret\"/key"}"#, "?key=s3cret%22%2Fkey", secret] {
        crm.behave(cdr_simulator::crm::Behaviour::status(500).body(repeated).times(1));
        let report = attempt(&sink).await;
        assert!(
            retry(&report).excerpt.contains('…') && !retry(&report).excerpt.contains("s3cret"),
            "{report:?}"
        );
    }
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Reads frames until the end of a request; its stream.
async fn read_stream(connection: &mut TlsStream<TcpStream>) -> std::io::Result<u32> {
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        connection.read_exact(&mut vec![0; length as usize]).await?;
        let is_message = matches!(head[3], 0 | 1);
        if is_message && head[4] & 1 == 1 {
            return Ok(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}

/// A receiver by HTTP/2 that answers the first request with this frame, which is told its stream, and every other with 200.
async fn by_http_2(authority: &Authority, first: fn(u32) -> Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let acceptor = TlsAcceptor::from(authority.server(&["h2"], false));
    tokio::spawn(async move {
        let mut is_first = true;
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut connection) = acceptor.accept(stream).await else { continue };
            let mut preface = [0; 24];
            connection.read_exact(&mut preface).await.unwrap();
            connection.write_all(&frame(4, 0, 0, &[])).await.unwrap();
            while let Ok(stream) = read_stream(&mut connection).await {
                // `:status: 200`, the end of its headers and of its message.
                let fine = frame(1, 5, stream, &[0x88]);
                let answer = if std::mem::take(&mut is_first) { first(stream) } else { fine };
                connection.write_all(&answer).await.unwrap();
                connection.flush().await.unwrap();
            }
        }
    });
    url
}

#[tokio::test]
async fn whatever_http_2_says_instead_of_an_answer_is_a_retry_and_the_next_attempt_is_made() {
    let authority = Authority::new();
    let refused: fn(u32) -> Vec<u8> = |stream| frame(3, 0, stream, &7_u32.to_be_bytes());
    let reset: fn(u32) -> Vec<u8> = |stream| frame(3, 0, stream, &2_u32.to_be_bytes());
    let go_away: fn(u32) -> Vec<u8> = |_| frame(7, 0, 0, &[0; 8]);
    let go_away_in_anger: fn(u32) -> Vec<u8> =
        |stream| frame(7, 0, 0, &[stream.to_be_bytes(), 11_u32.to_be_bytes()].concat());
    let nonsense: fn(u32) -> Vec<u8> = |stream| frame(1, 5, stream, &[0xff; 9]);
    for first in [refused, reset, go_away, go_away_in_anger, nonsense] {
        let url = by_http_2(&authority, first).await;
        let sink = sink(&url, json!({ "tls": { "ca": authority.path("ca.pem") }, "timeout": "2s" }));
        retry(&attempt(&sink).await);
        receipt(&attempt(&sink).await);
    }
}
