//! Objects of many pushes: sealed, in parts when they are large, and the same again after whatever went wrong.

use cdr_core::Batch;
use cdr_simulator::s3::Object;
use jiff::{Timestamp, ToSpan as _};
use sha2::{Digest, Sha256};

use super::*;

/// Four of them make an object of two parts.
const LARGE: usize = 1_400_000;

pub(super) fn lines(server: &S3Receiver) -> Value {
    with(settings(server), json!({ "layout": "ndjson", "part_size": "5MiB" }))
}

fn numbered(position: u64) -> Arc<Push> {
    let body = format!(r#"{{"SessionId":"s-{position}"}}"#);
    push_at(position, facts("cdr", body.as_bytes()), body)
}

pub(super) fn large(position: u64) -> Arc<Push> {
    let body = format!(r#"{{"SessionId":"s-{position}","Uui":"{}"}}"#, "x".repeat(LARGE));
    push_at(position, facts("cdr", body.as_bytes()), body)
}

pub(super) fn sealed(sink: &Arc<dyn AnySink>, pushes: impl IntoIterator<Item = Arc<Push>>) -> Batch {
    let batch = batch(pushes);
    let seal = sink.seal(&batch).expect("it is sealed");
    batch.sealed(seal)
}

/// The key of a batch; it must have been delivered as a whole.
fn delivered(batch: &Batch, report: &Report) -> String {
    let key = &batch.seal().unwrap().key;
    assert_eq!(report.outcomes().len(), batch.deliveries().len());
    for outcome in report.outcomes() {
        assert!(matches!(outcome, Outcome::Delivered(receipt) if receipt.0 == *key), "{report:?}");
    }
    key.clone()
}

fn only(server: &S3Receiver) -> Object {
    let [object] = <[_; 1]>::try_from(server.objects(BUCKET)).unwrap();
    assert_eq!((object.puts, object.overwritten), (1, false));
    object
}

/// The positions that an object holds; every byte of every body must be the one that arrived.
fn positions(object: &Object) -> Vec<u64> {
    let records = cdr_archive::record::read(&object.key, &object.bytes).unwrap().unwrap();
    assert!(records.iter().all(|record| record.is_intact()));
    records.iter().map(|record| record.position.0).collect()
}

#[tokio::test]
async fn many_pushes_are_one_object_in_every_form() {
    for (layout, compression, content_type) in [
        ("ndjson", "none", "application/x-ndjson"),
        ("ndjson", "gzip", "application/gzip"),
        ("ndjson", "zstd", "application/zstd"),
        ("parquet", "zstd", "application/vnd.apache.parquet"),
    ] {
        let server = server().await;
        let sink = sink(with(settings(&server), json!({ "layout": layout, "compression": compression })));
        let batch = sealed(&sink, [3, 4, 9].map(numbered));
        let key = delivered(&batch, &sink.deliver(&batch).await);
        assert!(key.starts_with("calls/cdr/dt=2026-03-31/c0ffee0000000001-00000000000000000003-"), "{key}");

        let object = only(&server);
        assert_eq!((&object.key, object.content_type.as_deref()), (&key, Some(content_type)));
        assert_eq!(positions(&object), [3, 4, 9]);
        let sha256 = hex::encode(Sha256::digest(&object.bytes));
        let metadata = [("sha256", &*sha256), ("pushes", "3"), ("first", "3"), ("last", "9")];
        assert_eq!(object.metadata, metadata.map(|(name, value)| (name.into(), value.into())).into());
        assert_eq!(server.requests(), 1, "one request for all of them");
    }
}

#[tokio::test]
async fn a_repeat_finds_the_object_and_leaves_it_alone() {
    for pushes in [[1, 2].map(numbered).to_vec(), (1..=4).map(large).collect()] {
        let server = server().await;
        let (first, second) = (sink(lines(&server)), sink(lines(&server)));
        let batch = sealed(&first, pushes);
        delivered(&batch, &first.deliver(&batch).await);
        delivered(&batch, &second.deliver(&batch).await);
        only(&server);
        assert_eq!(server.unfinished(), 0);
    }
}

#[tokio::test]
async fn an_object_whose_answer_was_lost_is_found_again() {
    let server = server().await;
    let sink = sink(lines(&server));
    let batch = sealed(&sink, [1, 2].map(numbered));
    server.next(1, Mishap::LoseAnswer);
    let report = sink.deliver(&batch).await;
    assert!(report.outcomes().iter().all(|outcome| matches!(outcome, Outcome::Retry(_))), "{report:?}");
    delivered(&batch, &sink.deliver(&batch).await);
    only(&server);
}

#[tokio::test]
async fn what_is_sealed_is_finished_so_whatever_the_settings_of_today() {
    let server = server().await;
    let batch = sealed(&sink(lines(&server)), [1, 2].map(numbered));
    let today =
        with(lines(&server), json!({ "layout": "raw", "prefix": "elsewhere/", "timezone": "Asia/Shanghai" }));
    delivered(&batch, &sink(today).deliver(&batch).await);
    assert_eq!(positions(&only(&server)), [1, 2]);
}

#[tokio::test]
async fn an_object_of_somebody_else_rejects_all_and_stays() {
    let server = server().await;
    let sink = sink(lines(&server));
    let batch = sealed(&sink, [1, 2].map(numbered));
    server.plant(BUCKET, &batch.seal().unwrap().key, b"not ours");
    let report = sink.deliver(&batch).await;
    for outcome in report.outcomes() {
        let Outcome::Reject(failure) = outcome else { panic!("{outcome:?}") };
        assert!(failure.reason.contains(&batch.seal().unwrap().key), "{failure:?}");
    }
    assert_eq!(server.objects(BUCKET)[0].bytes, "not ours");
}

#[tokio::test]
async fn an_object_that_another_version_compressed_otherwise_is_ours() {
    let server = server().await;
    let packing = |compression: &str| sink(with(lines(&server), json!({ "compression": compression })));
    let batch = sealed(&packing("gzip"), [1, 2].map(numbered));
    let sealed_plain = sealed(&packing("none"), [1, 2].map(numbered));
    let plain = {
        let elsewhere = self::server().await;
        let sink = sink(lines(&elsewhere));
        delivered(&sealed_plain, &sink.deliver(&sealed_plain).await);
        only(&elsewhere).bytes
    };
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    io::Write::write_all(&mut packed, &plain).unwrap();
    server.plant(BUCKET, &batch.seal().unwrap().key, &packed.finish().unwrap());
    delivered(&batch, &packing("gzip").deliver(&batch).await);
    only(&server);
}

#[tokio::test]
async fn a_large_object_goes_in_parts_and_comes_as_one() {
    let server = server().await;
    let sink = sink(lines(&server));
    let batch = sealed(&sink, (1..=4).map(large));
    delivered(&batch, &sink.deliver(&batch).await);
    let object = only(&server);
    assert!(object.kept.in_parts);
    assert_eq!(positions(&object), [1, 2, 3, 4]);
    assert_eq!(object.metadata["sha256"], hex::encode(Sha256::digest(&object.bytes)));
    // Begun, two parts, joined.
    assert_eq!((server.requests(), server.unfinished()), (4, 0));
}

#[tokio::test]
async fn an_upload_in_parts_that_fails_leaves_nothing_and_is_done_again() {
    let throttled = |report: &Report| report.why_unavailable().is_some();
    let failed = |report: &Report| {
        report.outcomes().iter().all(|outcome| matches!(outcome, Outcome::Retry(_)))
            && report.why_unavailable().is_none()
    };
    type Expected<'a> = &'a dyn Fn(&Report) -> bool;
    let mishaps: [(usize, Mishap, Expected); 6] = [
        (0, Mishap::slow_down(), &throttled),
        (1, Mishap::slow_down(), &throttled),
        (2, Mishap::Cut, &failed),
        (3, Mishap::answer(500, "InternalError"), &failed),
        (3, Mishap::LoseAnswer, &failed),
        (2, Mishap::Hang, &failed),
    ];
    for (served, mishap, is_expected) in mishaps {
        let server = server().await;
        let sink = sink(lines(&server));
        let impatient = self::sink(with(lines(&server), json!({ "timeout": "6s" })));
        let batch = sealed(&sink, (1..=4).map(large));
        server.after(served, mishap);
        let attempting = if mishap == Mishap::Hang { &impatient } else { &sink };
        let report = attempting.deliver(&batch).await;
        assert!(is_expected(&report), "{served} {mishap:?}: {report:?}");
        assert_eq!(server.unfinished(), 0, "{served} {mishap:?}");
        delivered(&batch, &sink.deliver(&batch).await);
        assert_eq!(positions(&only(&server)).len(), 4);
        assert_eq!(server.unfinished(), 0);
    }
}

#[tokio::test]
async fn servers_that_ignore_conditions_get_the_same_bytes_again() {
    for pushes in [[1, 2].map(numbered).to_vec(), (1..=4).map(large).collect()] {
        let server = server().await;
        server.ignore_conditions(true);
        let sink = sink(lines(&server));
        let batch = sealed(&sink, pushes);
        delivered(&batch, &sink.deliver(&batch).await);
        delivered(&batch, &sink.deliver(&batch).await);
        let objects = server.objects(BUCKET);
        assert_eq!((objects.len(), objects[0].puts, objects[0].overwritten), (1, 2, false));
    }
}

#[tokio::test]
async fn the_server_hears_how_to_keep_an_object() {
    let keeping = json!({
        "storage_class": "STANDARD_IA", "sse": "aws:kms", "sse_kms_key": "key-1",
        "object_lock": { "mode": "governance", "retain": "36500d" },
    });
    for pushes in [[1, 2].map(numbered).to_vec(), (1..=4).map(large).collect()] {
        let server = server().await;
        let sink = sink(with(lines(&server), keeping.clone()));
        let batch = sealed(&sink, pushes);
        delivered(&batch, &sink.deliver(&batch).await);
        let kept = only(&server).kept;
        assert_eq!(kept.storage_class.as_deref(), Some("STANDARD_IA"));
        assert_eq!((kept.encryption.as_deref(), kept.kms_key.as_deref()), (Some("aws:kms"), Some("key-1")));
        let (mode, until) = kept.locked.unwrap();
        // From the arrival on, so that a repeat asks for the same.
        assert!(mode == "GOVERNANCE" && until.starts_with("2126-03-07T23:30:00"), "{until}");
    }
}

#[tokio::test]
async fn a_push_that_waited_longer_than_its_lock_was_to_last_arrives_without_one() {
    let now = Timestamp::now();
    let day = 24.hours();
    for (arrival, locked_for_minutes) in [
        (now - day - 1.minute(), None),
        (now - day + 10.minutes(), Some(59..=61)),
        (now - 20.hours(), Some(239..=241)),
    ] {
        for body in ["{}".to_owned(), format!(r#"{{"Uui":"{}"}}"#, "x".repeat(6 << 20))] {
            let server = server().await;
            let lock = json!({ "object_lock": { "mode": "compliance", "retain": "1d" } });
            let sink = sink(with(lines(&server), lock));
            let facts = Facts { received_at: arrival, ..facts("cdr", body.as_bytes()) };
            let batch = sealed(&sink, [push_at(7, facts, body)]);
            // As after a crash: another time, another lock, the same object.
            for _ in 0..2 {
                delivered(&batch, &sink.deliver(&batch).await);
            }
            let until = only(&server).kept.locked.map(|(_, until)| until.parse::<Timestamp>().unwrap());
            match (until, &locked_for_minutes) {
                (None, None) => {}
                (Some(until), Some(minutes)) => {
                    let left = (until.as_second() - now.as_second() + 30) / 60;
                    assert!(minutes.contains(&left), "{left}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_object_much_larger_than_ours_is_not_fetched() {
    let server = server().await;
    let sink = sink(lines(&server));
    let batch = sealed(&sink, [1, 2].map(numbered));
    server.plant(BUCKET, &batch.seal().unwrap().key, &vec![b'x'; 3 << 20]);
    let report = sink.deliver(&batch).await;
    assert!(report.outcomes().iter().all(|outcome| matches!(outcome, Outcome::Reject(_))), "{report:?}");
    assert_eq!(server.requests(), 2, "a put and a look at its head");
}

#[tokio::test]
async fn what_keeps_all_from_passing_is_told_once_for_the_object() {
    let server = server().await;
    let wrong = sink(with(lines(&server), json!({ "secret_access_key": "wrong" })));
    let batch = sealed(&wrong, [1, 2].map(numbered));
    let report = wrong.deliver(&batch).await;
    assert!(report.outcomes().iter().all(|outcome| *outcome == Outcome::Untried));
    assert!(report.why_unavailable().unwrap().reason.contains("correct secret_access_key"), "{report:?}");
    server.delete_bucket(BUCKET);
    let sink = sink(lines(&server));
    let large = sealed(&sink, (1..=4).map(large));
    for batch in [&batch, &large] {
        let report = sink.deliver(batch).await;
        assert!(report.why_unavailable().unwrap().reason.contains("there is no bucket"), "{report:?}");
    }
}
