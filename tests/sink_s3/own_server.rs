//! The same against a server of one's own, when `CDR_S3` names one: `just s3 ENDPOINT BUCKET ID SECRET`.
//!
//! The bucket must be there. What is put lies below a prefix of this run's own.

use std::time::{SystemTime, UNIX_EPOCH};

use cdr_core::Batch;

use super::*;

pub(super) fn server() -> Option<Value> {
    let named = std::env::var("CDR_S3").ok()?;
    let [endpoint, bucket, id, secret] = named.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("CDR_S3 is not ENDPOINT BUCKET ID SECRET");
    };
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    Some(json!({
        "bucket": bucket, "endpoint": endpoint, "path_style": true, "prefix": format!("cdr-test-{run}/"),
        "access_key_id": id, "secret_access_key": secret, "part_size": "5MiB",
    }))
}

fn filled(position: u64, bytes: usize) -> Arc<Push> {
    let body = json!({ "SessionId": format!("s-{position}"), "Uui": "x".repeat(bytes) }).to_string();
    push_at(position, facts("cdr", body.as_bytes()), body)
}

fn ready(sink: &Arc<dyn AnySink>, pushes: impl IntoIterator<Item = Arc<Push>>) -> Batch {
    let batch = batch(pushes);
    match sink.seal(&batch) {
        Some(seal) => batch.sealed(seal),
        None => batch,
    }
}

fn all_delivered(report: &Report) -> bool {
    report.outcomes().iter().all(|outcome| matches!(outcome, Outcome::Delivered(_)))
}

#[tokio::test]
async fn a_server_of_ones_own_takes_every_layout_and_gives_it_back() {
    let Some(settings) = server() else { return };
    let forms =
        [("raw", "none"), ("ndjson", "none"), ("ndjson", "gzip"), ("ndjson", "zstd"), ("parquet", "zstd")];
    for (index, (layout, compression)) in forms.into_iter().enumerate() {
        let settings = with(settings.clone(), json!({ "layout": layout, "compression": compression }));
        let sink = sink(settings.clone());
        // Small ones, and what goes in parts when it is not compressed.
        for bytes in [10, 1_400_000] {
            let first = 100 * index as u64 + u64::from(bytes > 10) * 10;
            let batch = ready(&sink, (first..first + 4).map(|position| filled(position, bytes)));
            // After a crash it is done again.
            for _ in 0..2 {
                let report = sink.deliver(&batch).await;
                assert!(all_delivered(&report), "{layout} {compression}: {report:?}");
            }
        }
        let settings: S3Settings = serde_json::from_value(settings).unwrap();
        let sink = cdr_core::SinkConfig::build(settings, &"under-test".parse().unwrap()).unwrap();
        let mut audit = cdr_archive::Audit::new(cdr_archive::Holding::filing(&sink));
        for key in cdr_archive::Holding::keys(&sink).await.unwrap() {
            audit.take(&key, &cdr_archive::Holding::read(&sink, &key).await.unwrap());
        }
        let findings = audit.end();
        assert!(findings.is_good(), "{layout} {compression}: {findings:?}");
        assert_eq!(findings.pushes, 8 * (index + 1));
    }
}

#[tokio::test]
async fn a_server_of_ones_own_tells_what_is_wrong() {
    let Some(settings) = server() else { return };
    for (wrong, words) in [
        (json!({ "secret_access_key": "wrong" }), "correct secret_access_key"),
        (json!({ "bucket": "no-such-bucket-here" }), "there is no bucket"),
    ] {
        let sink = sink(with(settings.clone(), wrong));
        let report = sink.deliver(&ready(&sink, [filled(1, 10)])).await;
        let why = report.why_unavailable().unwrap_or_else(|| panic!("{report:?}"));
        assert!(why.reason.contains(words), "{why:?}");
    }
}
