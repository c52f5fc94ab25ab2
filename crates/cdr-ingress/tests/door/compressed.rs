//! Bodies with a `Content-Encoding`.

use std::io::Write as _;

use cdr_ingress::Verdict;
use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use crate::{
    client::{CDR, cdr, push, push_bytes, send},
    store::House,
};

const GZIP: &str = "Content-Encoding: gzip";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_compressed_push_is_the_same_push_as_the_plain_one() {
    let house = House::open(json!({})).await;
    for line in [GZIP, "content-encoding: X-Gzip", "Content-Encoding: identity, gzip"] {
        send(house.door.address(), push_bytes("/?action=cdr", &[line], &gzip(CDR.as_bytes()))).await.is_ok();
    }
    send(house.door.address(), cdr()).await.is_ok();
    send(house.door.address(), push("/?action=cdr", &["Content-Encoding: identity"], CDR)).await.is_ok();
    assert_eq!(house.store.only().body, CDR);
    assert_eq!((house.count(Verdict::Stored), house.count(Verdict::Repeat)), (1, 4));
}

#[tokio::test]
async fn other_encodings_are_refused_with_what_is_taken() {
    let house = House::open(json!({})).await;
    for line in ["deflate", "br", "zstd", "gzip, gzip", "gzip, deflate"] {
        let line = format!("Content-Encoding: {line}");
        let answer = send(house.door.address(), push("/?action=cdr", &[&line], CDR)).await;
        answer.is(415, "gzip");
        assert_eq!(answer.headers["accept-encoding"], "gzip");
    }
    assert_eq!(house.count(Verdict::Encoding), 5);
}

#[tokio::test]
async fn what_unfolds_beyond_the_limit_is_refused_like_what_was_sent_so() {
    let house = House::open(json!({ "limits": { "body": "64KiB" } })).await;
    let bomb = push_bytes("/?action=cdr", &[GZIP], &gzip(&vec![b' '; 32 << 20]));
    send(house.door.address(), bomb).await.is(413, "larger than 64.0 KiB");
    assert!(house.store.bodies().is_empty() && house.store.quarantine.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_decoded_is_kept_as_it_came() {
    let house = House::open(json!({})).await;
    let whole = gzip(CDR.as_bytes());
    let torn = &whole[..whole.len() - 5];
    for sent in [torn, CDR.as_bytes(), b""] {
        let answer = send(house.door.address(), push_bytes("/?action=cdr", &[GZIP], sent)).await;
        answer.is(400, "not the gzip that its Content-Encoding promises");
        answer.is(400, "kept in quarantine");
        let quarantine = house.store.quarantine.lock().unwrap();
        assert!(quarantine.values().any(|suspect| suspect.body == sent), "{sent:?}");
    }
    let empty = send(house.door.address(), push_bytes("/?action=cdr", &[GZIP], &gzip(b"[]"))).await;
    empty.is(400, "the body is a JSON array");
    assert!(house.store.quarantine.lock().unwrap().values().any(|suspect| suspect.body == "[]"));
    assert_eq!(house.count(Verdict::Quarantined), 4);
}

#[tokio::test]
async fn the_decoded_size_counts_against_the_shared_room() {
    let house = House::open(json!({ "limits": { "body": "1KiB", "in_flight": "1KiB" } })).await;
    let large = |session: &str| {
        let body = format!(r#"{{"SessionId":"{session}"{}}}"#, " ".repeat(600));
        push_bytes("/?action=cdr", &[GZIP], &gzip(body.as_bytes()))
    };
    let disk = house.store.hold_disk().await;
    let mut first = crate::client::Client::connect(house.door.address()).await;
    first.write(large("a")).await;
    house.store.was_handed(1).await;
    send(house.door.address(), large("b")).await.is(503, "push it again later");
    assert_eq!(house.count(Verdict::Busy), 1);
    drop(disk);
    first.answer().await.is_ok();
    send(house.door.address(), large("b")).await.is_ok();
}
