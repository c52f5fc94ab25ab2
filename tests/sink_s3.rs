//! The S3 sink against a server that checks signatures and misbehaves on request.

mod many;
mod on_the_way;
mod own_server;
mod places;
mod sources;

use std::{collections::BTreeMap, io, sync::Arc};

use cdr_core::{
    Facts, Outcome, Position, Push, Report, SettingFault, SpoolId, Unavailable, registry::AnySink,
};
use cdr_simulator::s3::{Keys, Mishap, S3Receiver};
use cdr_sink_s3::S3Settings;
use cdr_tests::{batch, build, facts, push, push_at, push_of, sample};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const BUCKET: &str = "cdr-1250000000";
const ID: &str = "AKTEST";
const SECRET: &str = "a-secret-that-no-log-may-hold";

async fn server() -> S3Receiver {
    S3Receiver::start(0, &[BUCKET], Keys::new(ID, SECRET)).await.unwrap()
}

fn settings(server: &S3Receiver) -> Value {
    json!({
        "bucket": BUCKET, "endpoint": server.endpoint(), "path_style": true, "prefix": "calls/",
        "access_key_id": ID, "secret_access_key": SECRET, "layout": "raw",
    })
}

fn with(mut settings: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        settings[name] = value.clone();
    }
    settings
}

fn sink(settings: Value) -> Arc<dyn AnySink> {
    build::<S3Settings>(settings).unwrap()
}

async fn deliver(sink: &Arc<dyn AnySink>, push: &Arc<Push>) -> Report {
    sink.deliver(&batch([push.clone()])).await
}

fn receipt(report: &Report) -> &str {
    match report.outcomes() {
        [Outcome::Delivered(receipt)] => &receipt.0,
        _ => panic!("not delivered: {report:?}"),
    }
}

/// Why the sink is away; its push must be untried then.
fn away(report: &Report) -> &Unavailable {
    assert_eq!(report.outcomes(), [Outcome::Untried]);
    report.why_unavailable().unwrap_or_else(|| panic!("not away: {report:?}"))
}

fn retry(report: &Report) -> &str {
    match (report.outcomes(), report.why_unavailable()) {
        ([Outcome::Retry(failure)], None) => &failure.reason,
        _ => panic!("no retry: {report:?}"),
    }
}

fn reject(report: &Report) -> &str {
    match (report.outcomes(), report.why_unavailable()) {
        ([Outcome::Reject(failure)], None) => &failure.reason,
        _ => panic!("not rejected: {report:?}"),
    }
}

/// The key that the documentation promises.
fn key_of(push: &Push) -> String {
    format!("calls/{}/dt=2026-03-31/{}-{:020}.json", push.action(), push.spool(), push.position().0)
}

#[tokio::test]
async fn a_push_becomes_an_object_of_its_exact_bytes() {
    let server = server().await;
    let sink = sink(settings(&server));
    let body = sample("cdr/cdr-26-minimal.json");
    let push = push_of(Facts { uuid: Some("d9c1 “x”%".into()), ..facts("cdr", &body) }, body.clone());

    let report = deliver(&sink, &push).await;
    assert_eq!(receipt(&report), format!("s3://{BUCKET}/{}", key_of(&push)));

    let objects = server.objects(BUCKET);
    assert_eq!(objects.len(), 1);
    let object = &objects[0];
    assert_eq!((object.key.clone(), object.bytes.clone(), object.puts), (key_of(&push), body, 1));
    assert_eq!(object.content_type.as_deref(), Some("application/json"));
    let expected = [
        ("sha256", push.sha256_hex()),
        ("action", "cdr".into()),
        ("received-at", "2026-03-31T23:30:00Z".into()),
        ("uuid", "d9c1%20%E2%80%9Cx%E2%80%9D%25".into()),
    ];
    assert_eq!(object.metadata, BTreeMap::from(expected.map(|(name, value)| (name.to_owned(), value))));
}

#[tokio::test]
async fn a_repeat_is_delivered_without_a_second_version() {
    let server = server().await;
    let push = push("cdr", "{}");
    // After a crash it is another sink that does it again.
    let first = deliver(&sink(settings(&server)), &push).await;
    let second = deliver(&sink(settings(&server)), &push).await;
    assert_eq!(receipt(&first), receipt(&second));
    assert_eq!(server.objects(BUCKET).iter().map(|object| object.puts).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_push_whose_answer_was_lost_is_found_again() {
    let server = server().await;
    let sink = sink(settings(&server));
    let push = push("cdr", "{}");
    server.next(1, Mishap::LoseAnswer);
    assert!(retry(&deliver(&sink, &push).await).contains("broke"));
    receipt(&deliver(&sink, &push).await);
    assert_eq!(server.objects(BUCKET)[0].puts, 1);
}

#[tokio::test]
async fn a_fresh_spool_overwrites_nothing() {
    let server = server().await;
    let sink = sink(settings(&server));
    for spool in [1, 2] {
        let in_spool = |position| {
            let body = format!("{{\"spool\":{spool},\"position\":{position}}}");
            let facts = facts("cdr", body.as_bytes());
            Arc::new(Push::from_spool(SpoolId([spool; 8]), Position(position), facts, body.into()))
        };
        let report = sink.deliver(&batch((1..=10).map(in_spool))).await;
        assert!(
            report.outcomes().iter().all(|outcome| matches!(outcome, Outcome::Delivered(_))),
            "{report:?}"
        );
    }
    let objects = server.objects(BUCKET);
    assert_eq!(objects.len(), 20);
    assert!(objects.iter().all(|object| object.puts == 1 && !object.overwritten));
}

#[tokio::test]
async fn an_object_of_somebody_else_is_neither_overwritten_nor_taken_for_ours() {
    let server = server().await;
    let sink = sink(settings(&server));
    for theirs in ["{}", "{\"b\":1}", "{\"a\":1,\"b\":2}"] {
        let push = push("cdr", "{\"a\":1}");
        server.plant(BUCKET, &key_of(&push), theirs.as_bytes());
        let report = deliver(&sink, &push).await;
        assert!(reject(&report).contains(&key_of(&push)), "{report:?}");
        let there = server.objects(BUCKET).into_iter().find(|object| object.key == key_of(&push)).unwrap();
        assert_eq!(there.bytes, theirs);
    }
}

/// It cannot happen while positions are never reused; if it did, both must survive.
#[tokio::test]
async fn two_pushes_of_one_key_are_never_one_object() {
    let server = server().await;
    let sink = sink(settings(&server));
    let [first, second] =
        ["{\"a\":1}", "{\"a\":2}"].map(|body| push_at(7, facts("cdr", body.as_bytes()), body));
    receipt(&deliver(&sink, &first).await);
    assert!(reject(&deliver(&sink, &second).await).contains(&key_of(&second)));
    assert_eq!(server.objects(BUCKET)[0].bytes, *first.body());
}

#[tokio::test]
async fn an_object_without_our_metadata_is_ours_when_its_bytes_are() {
    let server = server().await;
    let push = push("cdr", "{\"a\":1}");
    server.plant(BUCKET, &key_of(&push), push.body());
    receipt(&deliver(&sink(settings(&server)), &push).await);
    assert_eq!(server.objects(BUCKET)[0].puts, 1);
}

#[tokio::test]
async fn each_push_of_a_batch_has_an_outcome_of_its_own() {
    let server = server().await;
    let sink = sink(settings(&server));
    let pushes: Vec<_> = (0..sink.batching().pushes).map(|n| push("cdr", format!("{{\"n\":{n}}}"))).collect();
    server.plant(BUCKET, &key_of(&pushes[3]), b"theirs");
    let report = sink.deliver(&batch(pushes.clone())).await;
    assert!(report.why_unavailable().is_none());
    for (index, outcome) in report.outcomes().iter().enumerate() {
        match outcome {
            Outcome::Delivered(receipt) => assert!(receipt.0.ends_with(&key_of(&pushes[index]))),
            Outcome::Reject(_) => assert_eq!(index, 3),
            other => panic!("{index}: {other:?}"),
        }
    }
    assert_eq!(server.objects(BUCKET).len(), pushes.len());
}

#[tokio::test]
async fn throttling_pauses_and_loses_nothing() {
    let server = server().await;
    let sink = sink(settings(&server));
    let push = push("cdr", "{}");
    let asks_to_wait = Mishap::Answer { status: 503, code: "SlowDown", retry_after: Some(7) };
    for mishap in [Mishap::slow_down(), Mishap::answer(429, "TooManyRequests"), asks_to_wait] {
        server.next(1, mishap);
        let report = deliver(&sink, &push).await;
        assert!(away(&report).reason.contains("asks to slow down"), "{report:?}");
        let waits = (mishap == asks_to_wait).then_some(std::time::Duration::from_secs(7));
        assert_eq!(away(&report).retry_after, waits);
    }
    assert_eq!(server.requests(), 3, "one attempt is one request: the lane owns the retries");
    receipt(&deliver(&sink, &push).await);
}

/// Where an answer goes.
#[derive(PartialEq, Debug)]
enum Fate {
    Away,
    Retry,
    Reject,
}

#[tokio::test]
async fn every_answer_has_its_fate_and_its_words() {
    let server = server().await;
    let sink = sink(settings(&server));
    let answers = [
        (403, "AccessDenied", Fate::Away, "s3:PutObject"),
        (403, "RequestTimeTooSkewed", Fate::Away, "clock"),
        (403, "SignatureDoesNotMatch", Fate::Away, "secret_access_key"),
        (403, "InvalidAccessKeyId", Fate::Away, "access_key_id"),
        (400, "ExpiredToken", Fate::Away, "session_token"),
        (400, "AuthorizationHeaderMalformed", Fate::Away, "region"),
        (301, "PermanentRedirect", Fate::Away, "another region"),
        (400, "InvalidRequest", Fate::Away, "checksums"),
        (501, "NotImplemented", Fate::Away, "conditional: false"),
        (404, "NoSuchBucket", Fate::Away, "there is no bucket cdr-1250000000"),
        (451, "UnavailableForLegalReasons", Fate::Away, "suspended"),
        (507, "XMinioStorageFull", Fate::Away, "is full"),
        (200, "InternalError", Fate::Retry, "HTTP 200, InternalError"),
        (500, "InternalError", Fate::Retry, "HTTP 500, InternalError"),
        (502, "", Fate::Retry, "HTTP 502"),
        (409, "ConditionalRequestConflict", Fate::Retry, "ConditionalRequestConflict"),
        (400, "RequestTimeout", Fate::Retry, "RequestTimeout"),
        (400, "IncompleteBody", Fate::Retry, "IncompleteBody"),
        (400, "EntityTooLarge", Fate::Reject, "EntityTooLarge"),
        (400, "InvalidPart", Fate::Retry, "InvalidPart"),
        (400, "KeyTooLongError", Fate::Reject, "KeyTooLongError"),
        (400, "MetadataTooLarge", Fate::Reject, "MetadataTooLarge"),
        (413, "", Fate::Reject, "HTTP 413"),
        // What is not known to be about this object is not held against it.
        (400, "KMS.DisabledException", Fate::Away, "see that the KMS key"),
        (400, "SomethingElse", Fate::Away, "SomethingElse"),
        (405, "MethodNotAllowed", Fate::Away, "MethodNotAllowed"),
        (411, "MissingContentLength", Fate::Away, "MissingContentLength"),
        (422, "", Fate::Away, "HTTP 422"),
        (431, "", Fate::Away, "HTTP 431"),
    ];
    for (status, code, fate, words) in answers {
        server.next(1, Mishap::answer(status, code));
        let report = deliver(&sink, &push("cdr", "{}")).await;
        let (seen, reason) = match (report.outcomes(), report.why_unavailable()) {
            ([Outcome::Untried], Some(why)) => (Fate::Away, &why.reason),
            ([Outcome::Retry(failure)], None) => (Fate::Retry, &failure.reason),
            ([Outcome::Reject(failure)], None) => (Fate::Reject, &failure.reason),
            _ => panic!("{status} {code}: {report:?}"),
        };
        assert_eq!(seen, fate, "{status} {code}: {reason}");
        assert!(reason.contains(words), "{status} {code}: {reason}");
    }
    assert!(server.objects(BUCKET).is_empty());
}

/// A captive portal, a reverse proxy's welcome, the wrong port: a 200 from there would be a lost record.
#[tokio::test]
async fn a_web_server_is_no_archive() {
    for (status, words) in [
        ("200 OK", "not S3's way"),
        ("400 Bad Request", "does not answer as S3"),
        ("405 No", "does not answer as S3"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 19\r\n\r\n<html>Hello!</html>");
        let web = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let settings = json!({
            "bucket": BUCKET, "endpoint": endpoint, "layout": "raw", "access_key_id": ID, "secret_access_key": SECRET,
        });
        let report = deliver(&sink(settings), &push("cdr", "{}")).await;
        assert!(away(&report).reason.contains(words), "{report:?}");
        web.await.unwrap();
    }
}

#[tokio::test]
async fn wrong_keys_are_told_apart() {
    let server = server().await;
    let wrong_secret = sink(with(settings(&server), json!({ "secret_access_key": "wrong" })));
    let report = deliver(&wrong_secret, &push("cdr", "{}")).await;
    assert!(away(&report).reason.contains("correct secret_access_key"), "{report:?}");
    assert!(wrong_secret.probe().await.unwrap_err().contains("denies access"));
    let wrong_id = sink(with(settings(&server), json!({ "access_key_id": "AKOTHER" })));
    let report = deliver(&wrong_id, &push("cdr", "{}")).await;
    assert!(away(&report).reason.contains("correct access_key_id"), "{report:?}");
    assert!(server.objects(BUCKET).is_empty());
}

#[tokio::test]
async fn a_missing_bucket_is_waited_for() {
    let server = server().await;
    let sink = sink(settings(&server));
    let push = push("cdr", "{}");
    server.delete_bucket(BUCKET);
    assert!(sink.probe().await.unwrap_err().contains("there is no bucket cdr-1250000000"));
    assert!(away(&deliver(&sink, &push).await).reason.contains("create it"));
    server.create_bucket(BUCKET);
    assert_eq!(sink.probe().await, Ok(()));
    receipt(&deliver(&sink, &push).await);
}

#[tokio::test]
async fn a_server_that_goes_away_gets_everything_when_it_is_back() {
    let server = server().await;
    let sink = sink(settings(&server));
    let (before, during) = (push("cdr", "{\"n\":1}"), push("cdr", "{\"n\":2}"));
    receipt(&deliver(&sink, &before).await);
    server.go_away().await;
    let report = deliver(&sink, &during).await;
    assert!(away(&report).reason.contains(&format!("no connection to {}", server.endpoint())), "{report:?}");
    assert!(sink.probe().await.unwrap_err().contains("Connection refused"));
    server.come_back().await.unwrap();
    receipt(&deliver(&sink, &during).await);
    assert_eq!(server.objects(BUCKET).len(), 2);
}

#[tokio::test]
async fn tls_with_a_server_that_has_none_is_no_connection() {
    let server = server().await;
    let endpoint = server.endpoint().replace("http://", "https://");
    let sink = sink(with(settings(&server), json!({ "endpoint": endpoint })));
    let report = deliver(&sink, &push("cdr", "{}")).await;
    assert!(away(&report).reason.starts_with("no connection to https://127.0.0.1"), "{report:?}");
}

#[tokio::test]
async fn an_upload_that_is_cut_is_done_again() {
    let server = server().await;
    let sink = sink(settings(&server));
    let large = push("cdr", format!("{{\"a\":\"{}\"}}", "x".repeat(4 << 20)));
    server.next(1, Mishap::Cut);
    assert!(retry(&deliver(&sink, &large).await).contains("broke"));
    assert!(server.objects(BUCKET).is_empty());
    receipt(&deliver(&sink, &large).await);
    assert_eq!(server.objects(BUCKET)[0].bytes, *large.body());
}

#[tokio::test]
async fn a_server_that_hangs_costs_one_timeout() {
    let server = server().await;
    let sink = sink(with(settings(&server), json!({ "timeout": "1s" })));
    server.next(1, Mishap::Hang);
    let report = deliver(&sink, &push("cdr", "{}")).await;
    assert!(retry(&report).ends_with("within 1 s"), "{report:?}");
}

#[tokio::test]
async fn servers_that_ignore_conditions_change_nothing() {
    let server = server().await;
    server.ignore_conditions(true);
    let sink = sink(settings(&server));
    let push = push("cdr", "{\"a\":1}");
    for _ in 0..2 {
        receipt(&deliver(&sink, &push).await);
    }
    let objects = server.objects(BUCKET);
    assert_eq!((objects.len(), objects[0].puts, objects[0].overwritten), (1, 2, false));
}

#[tokio::test]
async fn conditions_can_be_left_out() {
    let server = server().await;
    let sink = sink(with(settings(&server), json!({ "conditional": false })));
    let push = push("cdr", "{\"a\":1}");
    for _ in 0..2 {
        receipt(&deliver(&sink, &push).await);
    }
    assert_eq!(server.objects(BUCKET)[0].puts, 2);
}

#[tokio::test]
async fn both_checksum_modes_upload_the_same_bytes() {
    let server = server().await;
    let push = push("cdr", "{\"a\":1}");
    for mode in ["required", "supported"] {
        let changes = json!({ "checksums": mode, "prefix": format!("{mode}/") });
        receipt(&deliver(&sink(with(settings(&server), changes)), &push).await);
    }
    let objects = server.objects(BUCKET);
    assert_eq!(objects.len(), 2);
    assert!(objects.iter().all(|object| object.bytes == push.body()));
}

fn faults(settings: Value) -> Vec<String> {
    let faults = build::<S3Settings>(settings).err().unwrap_or_default();
    faults.iter().map(SettingFault::to_string).collect()
}

#[test]
fn settings_are_judged_without_a_runtime_and_all_faults_come_at_once() {
    assert_eq!(faults(json!({ "bucket": BUCKET })), [""; 0]);
    let told = faults(json!({
        "bucket": "Calls_2026", "region": "AP Shanghai", "endpoint": "ftp://me:pw@host/?x", "prefix": "/a/../b",
        "access_key_id": ID, "timeout": "1h",
    }));
    let places: Vec<_> = told.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    let expected =
        ["bucket", "region", "endpoint", "endpoint", "endpoint", "secret_access_key", "prefix", "timeout"];
    assert_eq!(places, expected, "{told:#?}");
    assert!(!told.concat().contains("pw"), "{told:#?}");
}

#[test]
fn what_people_get_wrong_is_told_with_the_remedy() {
    let told = |changes| faults(with(json!({ "bucket": BUCKET }), changes)).join("\n");
    let has = |changes: Value, words: &str| {
        let told = told(changes.clone());
        assert!(told.contains(words), "{changes}: {told}");
    };
    has(
        json!({ "endpoint": format!("https://{BUCKET}.cos.ap-shanghai.myqcloud.com") }),
        "https://cos.ap-shanghai.myqcloud.com",
    );
    has(json!({ "bukcet": "x" }), "did you mean \"bucket\"?");
    has(json!({ "layout": "zip" }), "unknown value \"zip\"; there are: ndjson, parquet, raw");
    has(json!({ "key": "{action}/{first}-{sha}.{ext}" }), "needs {spool}");
    has(json!({ "part_size": "1MiB" }), "5MiB to 64MiB");
    has(json!({ "storage_class": "standard" }), "upper-case");
    has(json!({ "sse": "AES256", "sse_kms_key": "k" }), "belongs to `sse: aws:kms`");
    has(json!({ "object_lock": { "mode": "governance", "retain": "1h" } }), "at least 1d");
    has(json!({ "checksums": "require" }), "did you mean \"required\"?");
    has(json!({ "endpoint": "cos.ap-shanghai.myqcloud.com" }), "endpoint: ");
    has(json!({ "session_token": "t" }), "needs its access_key_id");
    has(json!({ "prefix": "a//b" }), "no empty part");
    has(json!({ "bucket": "cdr/calls" }), "that is \"prefix\"");
}

#[tokio::test]
async fn no_secret_is_in_any_error_or_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(tracing::Level::INFO)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::info!("the log is captured");

    let server = server().await;
    let token = "a-token-that-no-log-may-hold";
    let sink =
        sink(with(settings(&server), json!({ "session_token": token, "secret_access_key": "wrong-secret" })));
    let push = push("cdr", "{}");
    let mut told = format!("{} {:?}", sink.describe(), sink.probe().await);
    for mishap in
        [None, Some(Mishap::answer(403, "AccessDenied")), Some(Mishap::Cut), Some(Mishap::LoseAnswer)]
    {
        server.next(mishap.is_some().into(), mishap.unwrap_or(Mishap::Hang));
        told += &format!("{:?}", deliver(&sink, &push).await);
    }
    server.go_away().await;
    told += &format!("{:?}", deliver(&sink, &push).await);
    told += &String::from_utf8_lossy(&log.0.lock().unwrap());
    assert!(told.contains("the log is captured") && told.contains("SignatureDoesNotMatch"), "{told}");
    for secret in [token, "wrong-secret", SECRET] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn keys_sort_as_pushes_came_and_never_leave_the_prefix() {
    let server = server().await;
    let sink = sink(settings(&server));
    let positions = [9, 10, 99, 100, u64::MAX];
    for position in positions {
        receipt(&deliver(&sink, &push_at(position, facts("voicemail", b"{}"), "{}")).await);
    }
    let keys: Vec<_> = server.objects(BUCKET).into_iter().map(|object| object.key).collect();
    let expected = positions.map(|position| key_of(&push_at(position, facts("voicemail", b"{}"), "{}")));
    assert_eq!(keys, expected);
    assert!(keys.iter().all(|key| key.starts_with("calls/voicemail/dt=")));
}
