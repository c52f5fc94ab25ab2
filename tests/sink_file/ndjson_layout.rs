//! `layout: ndjson`: many pushes in a file, every byte of them back, and the same file again after any crash.

use std::io;

use cdr_core::{Batch, Seal};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;

fn sink(path: &Path) -> Arc<dyn AnySink> {
    build::<FileSettings>(json!({ "path": path, "layout": "ndjson" }))
        .unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn archive() -> (TempDir, PathBuf, Arc<dyn AnySink>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    let sink = sink(&path);
    (folder, path, sink)
}

/// As the lane does it: sealed, and then the attempt.
fn sealed(sink: &Arc<dyn AnySink>, batch: Batch) -> Batch {
    let seal = sink.seal(&batch).expect("it is sealed");
    batch.sealed(seal)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbered(position: u64) -> Arc<cdr_core::Push> {
    let body = format!(r#"{{"SessionId":"s-{position}"}}"#);
    push_at(position, facts("cdr", body.as_bytes()), body)
}

#[tokio::test]
async fn a_file_holds_a_line_for_each_push_in_order() {
    let (_folder, path, sink) = archive();
    let body = r#"{"SessionId":"s-7"}"#;
    let with_uuid = cdr_core::Facts { uuid: Some("u".into()), ..facts("cdr", body.as_bytes()) };
    let batch = sealed(&sink, batch([push_at(7, with_uuid, body), numbered(9)]));
    let report = sink.deliver(&batch).await;

    let key = &batch.seal().unwrap().key;
    assert_eq!(receipts(&report), [key, key]);
    assert_eq!(files(&path), [key.as_str()]);
    let named = "cdr/dt=2026-03-31/c0ffee0000000001-00000000000000000007-00000000000000000009-";
    let digest = key.strip_prefix(named).and_then(|rest| rest.strip_suffix(".ndjson"));
    assert!(digest.is_some_and(|digest| digest.len() == 16), "{key}");
    let held = lines(&path.join(key));
    assert_eq!(
        held[0],
        json!({
            "spool": "c0ffee0000000001", "position": 7, "action": "cdr", "version": "1", "uuid": "u", "received_at": "2026-03-31T23:30:00.000Z",
            "sha256": hex::encode(Sha256::digest(body)), "body": body,
        })
    );
    assert_eq!((&held[1]["position"], &held[1]["uuid"]), (&json!(9), &Value::Null));
    assert_eq!(held.len(), 2);
}

#[tokio::test]
async fn every_byte_of_every_sample_comes_back() {
    let (_folder, path, sink) = archive();
    let mut bodies: Vec<Vec<u8>> = fs::read_dir(cdr_tests::samples().join("cdr"))
        .unwrap()
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    bodies.push(b"\xEF\xBB\xBF{\"SessionId\":\"with a BOM\"}\r\n".to_vec());
    bodies.push(br#"{"SessionId":"lone \ud800 surrogate, \u0000 and \/"}"#.to_vec());
    bodies.push("{\"SessionId\":\"line separators \u{2028}\u{2029}\u{7f}\"}".into());
    assert!(bodies.len() > 20);
    let pushes = bodies.iter().map(|body| push("cdr", body.clone())).collect::<Vec<_>>();
    let batch = sealed(&sink, batch(pushes.clone()));
    receipts(&sink.deliver(&batch).await);

    let held = lines(&path.join(&batch.seal().unwrap().key));
    assert_eq!(held.len(), bodies.len());
    for ((line, push), body) in held.iter().zip(&pushes).zip(&bodies) {
        assert!(line["body"].as_str().unwrap().as_bytes() == body, "{line}");
        assert_eq!(line["position"], push.position().0);
        assert_eq!(line["sha256"], hex::encode(Sha256::digest(body)));
    }
}

#[tokio::test]
async fn a_repeat_makes_the_same_bytes_from_what_the_spool_gives_back() {
    let (_folder, path, sink) = archive();
    let body = r#"{"SessionId":"s"}"#;
    let arrived =
        |at: &str| cdr_core::Facts { received_at: at.parse().unwrap(), ..facts("cdr", body.as_bytes()) };
    // The door's clock is finer than the spool, which keeps milliseconds.
    let live = batch([push_at(5, arrived("2026-03-31T23:30:00.123987654Z"), body)]);
    let stored = batch([push_at(5, arrived("2026-03-31T23:30:00.123Z"), body)]);
    let live = sealed(&sink, live);
    assert_eq!(sink.seal(&stored).as_ref(), live.seal());
    receipts(&sink.deliver(&live).await);
    let first = fs::read(path.join(&live.seal().unwrap().key)).unwrap();

    let again = stored.sealed(live.seal().unwrap().clone());
    receipts(&sink.deliver(&again).await);
    assert_eq!(files(&path).len(), 1);
    assert!(fs::read(path.join(&live.seal().unwrap().key)).unwrap() == first);
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_replaced() {
    let (_folder, path, sink) = archive();
    let batch = sealed(&sink, batch([numbered(1), numbered(2)]));
    let file = path.join(&batch.seal().unwrap().key);
    let name = file.file_name().unwrap().to_string_lossy();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file.with_file_name(format!(".{name}.under-test.tmp")), "{\"posi").unwrap();
    receipts(&sink.deliver(&batch).await);
    assert_eq!(files(&path), [batch.seal().unwrap().key.as_str()]);
    assert_eq!(lines(&file).len(), 2);
}

#[tokio::test]
async fn a_name_taken_by_other_bytes_rejects_all_and_names_the_file() {
    let (_folder, path, sink) = archive();
    let batch = sealed(&sink, batch([numbered(1), numbered(2)]));
    let file = path.join(&batch.seal().unwrap().key);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "not ours").unwrap();
    let report = sink.deliver(&batch).await;
    assert_eq!(report.outcomes().len(), 2);
    for outcome in report.outcomes() {
        let Outcome::Reject(failure) = outcome else { panic!("{outcome:?}") };
        assert!(failure.reason.starts_with(&*file.to_string_lossy()), "{failure:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "not ours");
}

#[tokio::test]
async fn actions_and_days_have_files_of_their_own_and_other_pushes_other_names() {
    let (_folder, _path, sink) = archive();
    let of = |action: &str, at: &str| {
        let facts = cdr_core::Facts { received_at: at.parse().unwrap(), ..facts(action, b"{}") };
        push_at(1, facts, "{}")
    };
    let partition = |push: Arc<cdr_core::Push>| sink.partition(&push).0.into_owned();
    assert_eq!(
        partition(of("cdr", "2026-03-31T23:59:59.999Z")),
        "cdr/dt=2026-03-31/c0ffee0000000001-*-*-*.*"
    );
    assert_eq!(
        partition(of("record", "2026-04-01T00:00:00Z")),
        "record/dt=2026-04-01/c0ffee0000000001-*-*-*.*"
    );

    let key = |positions: [u64; 3]| sink.seal(&batch(positions.map(numbered))).unwrap().key;
    // The same first and last.
    assert_ne!(key([1, 2, 4]), key([1, 3, 4]));
    // What was gathered before a reload, and cannot share a file.
    assert_eq!(
        sink.seal(&batch([of("cdr", "2026-03-31T00:00:00Z"), of("record", "2026-03-31T00:00:00Z")])),
        None
    );
}

#[tokio::test]
async fn what_is_sealed_is_finished_so_in_the_raw_layout_too() {
    let (_folder, path, sink) = archive();
    let batch = sealed(&sink, batch([numbered(1), numbered(2)]));
    let raw = super::sink(&path);
    assert_eq!(raw.seal(&batch), None);
    receipts(&raw.deliver(&batch).await);
    assert_eq!(files(&path), [batch.seal().unwrap().key.as_str()]);
}

#[tokio::test]
async fn a_seal_of_another_kind_of_sink_cannot_leave_the_folder() {
    let (_folder, path, sink) = archive();
    for (key, format) in [("../out.ndjson", "ndjson-1"), ("/out.ndjson", "ndjson-1"), ("a/b", "arrow-1")] {
        let facts = json!({ "format": format, "compression": "none", "level": 0 });
        let seal = Seal { key: key.into(), facts };
        receipts(&sink.deliver(&batch([numbered(1), numbered(2)]).sealed(seal)).await);
    }
    let raw = [1, 2].map(|position| format!("cdr/dt=2026-03-31/c0ffee0000000001-{position:020}.json"));
    assert_eq!(files(&path), raw);
    assert_eq!(files(path.parent().unwrap()).len(), 2);
}

#[tokio::test]
async fn a_file_that_another_version_compressed_otherwise_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    let sink = build::<FileSettings>(json!({ "path": path, "compression": "gzip" })).unwrap();
    let sealed = sealed(&sink, batch([numbered(1), numbered(2)]));
    let file = path.join(&sealed.seal().unwrap().key);
    receipts(&sink.deliver(&sealed).await);
    let ours = fs::read(&file).unwrap();

    let mut lines = Vec::new();
    io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*ours), &mut lines).unwrap();
    let packed = |lines: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        io::Write::write_all(&mut packed, lines).unwrap();
        packed.finish().unwrap()
    };
    fs::write(&file, packed(&lines)).unwrap();
    assert_ne!(fs::read(&file).unwrap(), ours);
    receipts(&sink.deliver(&sealed).await);

    let other = String::from_utf8(lines).unwrap().replace("s-2", "s-3");
    fs::write(&file, packed(other.as_bytes())).unwrap();
    let report = sink.deliver(&sealed).await;
    assert!(report.outcomes().iter().all(|outcome| matches!(outcome, Outcome::Reject(_))), "{report:?}");
}
