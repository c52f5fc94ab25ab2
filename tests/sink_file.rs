//! The `file` sink: what lies on the disk, and what happens when the disk says no.

mod ndjson_layout;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use cdr_core::{Outcome, Report, registry::AnySink};
use cdr_sink_file::FileSettings;
use cdr_tests::{batch, build, facts, push, push_at, sample};
use serde_json::json;
use tempfile::TempDir;

fn sink(path: &Path) -> Arc<dyn AnySink> {
    build::<FileSettings>(json!({ "path": path, "layout": "raw" }))
        .unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn archive() -> (TempDir, PathBuf, Arc<dyn AnySink>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    let sink = sink(&path);
    (folder, path, sink)
}

/// Where each push went; all of them must have been delivered.
fn receipts(report: &Report) -> Vec<&str> {
    assert_eq!(report.why_unavailable(), None);
    let mut receipts = Vec::new();
    for outcome in report.outcomes() {
        let Outcome::Delivered(receipt) = outcome else { panic!("not delivered: {outcome:?}") };
        receipts.push(&*receipt.0);
    }
    receipts
}

fn away(report: &Report) -> &str {
    assert!(report.outcomes().iter().all(|outcome| *outcome == Outcome::Untried), "{report:?}");
    &report.why_unavailable().expect("the sink is away").reason
}

/// All files below a folder, with their paths from there.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => found.push(entry.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_file_holds_the_very_bytes_under_the_name_of_its_push() {
    let (_folder, path, sink) = archive();
    let samples = [
        ("cdr", "cdr/cdr-02-outbound-error-duplicate-duration.json"),
        ("cdr", "cdr/cdr-11-emoji-4-byte-utf8.json"),
        ("videoCdr", "other-actions/videocdr-01-error.json"),
    ];
    let pushes = (41..).zip(samples).map(|(position, (action, name))| {
        let body = sample(name);
        push_at(position, facts(action, &body), body)
    });
    let report = sink.deliver(&batch(pushes)).await;
    let names = [
        "cdr/dt=2026-03-31/c0ffee0000000001-00000000000000000041.json",
        "cdr/dt=2026-03-31/c0ffee0000000001-00000000000000000042.json",
        "videoCdr/dt=2026-03-31/c0ffee0000000001-00000000000000000043.json",
    ];
    assert_eq!(receipts(&report), names);
    assert_eq!(files(&path), names);
    for (name, (_, sample_name)) in names.iter().zip(samples) {
        assert!(fs::read(path.join(name)).unwrap() == sample(sample_name), "{name}");
    }
}

#[tokio::test]
async fn a_repeat_finds_its_file_and_leaves_it_alone() {
    let (_folder, path, sink) = archive();
    let push = push("cdr", r#"{"SessionId":"s"}"#);
    let first = sink.deliver(&batch([Arc::clone(&push)])).await;
    let file = path.join(receipts(&first)[0]);
    let before = fs::metadata(&file).unwrap();
    let again = sink.deliver(&batch([push])).await;
    assert_eq!(first, again);
    let after = fs::metadata(&file).unwrap();
    assert_eq!((before.modified().unwrap(), inode(&before)), (after.modified().unwrap(), inode(&after)));
    assert_eq!(files(&path).len(), 1);
}

fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[tokio::test]
async fn a_file_with_other_bytes_is_named_and_never_overwritten() {
    let (_folder, path, sink) = archive();
    let body = r#"{"SessionId":"s"}"#;
    let taken = push_at(7, facts("cdr", body.as_bytes()), body);
    let report = sink.deliver(&batch([Arc::clone(&taken)])).await;
    let file = path.join(receipts(&report)[0]);
    // The same length, other bytes; shorter; the same and more.
    for other in [r#"{"SessionId":"t"}"#, "{}", "", "{\"SessionId\":\"s\"}\n"] {
        fs::write(&file, other).unwrap();
        let report = sink.deliver(&batch([Arc::clone(&taken), push("cdr", body)])).await;
        let [Outcome::Reject(failure), Outcome::Delivered(_)] = report.outcomes() else {
            panic!("{report:?}")
        };
        assert!(failure.reason.starts_with(&*file.to_string_lossy()), "{}", failure.reason);
        assert_eq!(fs::read_to_string(&file).unwrap(), other);
    }
}

#[tokio::test]
async fn what_a_crash_left_under_a_temporary_name_is_replaced() {
    let (_folder, path, sink) = archive();
    let body = r#"{"SessionId":"s"}"#;
    let folder = path.join("cdr/dt=2026-03-31");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(".c0ffee0000000001-00000000000000000007.json.under-test.tmp"), "x".repeat(100))
        .unwrap();
    let report = sink.deliver(&batch([push_at(7, facts("cdr", body.as_bytes()), body)])).await;
    assert_eq!(files(&path), receipts(&report));
    assert_eq!(fs::read_to_string(path.join(receipts(&report)[0])).unwrap(), body);
}

#[tokio::test]
async fn only_the_owner_can_read() {
    let (_folder, path, sink) = archive();
    let report = sink.deliver(&batch([push("cdr", r#"{"SessionId":"s"}"#)])).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = path.join(receipts(&report)[0]);
    assert_eq!(mode(&file), 0o600);
    for folder in file.ancestors().skip(1).take(3) {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
}

#[tokio::test]
async fn a_missing_folder_above_is_taken_for_a_missing_mount() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("mount");
    let sink = sink(&mount.join("archive"));
    let push = push("cdr", r#"{"SessionId":"s"}"#);
    let report = sink.deliver(&batch([Arc::clone(&push)])).await;
    assert!(away(&report).contains("is a mount missing?"), "{report:?}");
    assert!(sink.probe().await.unwrap_err().contains("is a mount missing?"));
    fs::create_dir(&mount).unwrap();
    assert_eq!(sink.probe().await, Ok(()));
    receipts(&sink.deliver(&batch([push])).await);
    assert_eq!(files(&mount).len(), 1);
}

#[tokio::test]
async fn a_path_that_is_a_file_is_away_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    fs::write(&path, "").unwrap();
    let report = sink(&path).deliver(&batch([push("cdr", r#"{"SessionId":"s"}"#)])).await;
    assert!(away(&report).contains(&*path.to_string_lossy()), "{report:?}");
    assert!(away(&report).ends_with("correct path"), "{report:?}");
}

#[tokio::test]
async fn a_folder_that_goes_away_meanwhile_is_made_again() {
    let (_folder, path, sink) = archive();
    receipts(&sink.deliver(&batch([push("cdr", r#"{"SessionId":"a"}"#)])).await);
    fs::remove_dir_all(&path).unwrap();
    receipts(&sink.deliver(&batch([push("cdr", r#"{"SessionId":"b"}"#)])).await);
    assert_eq!(files(&path).len(), 1);
}

#[tokio::test]
async fn a_disk_without_room_makes_the_whole_batch_wait_and_leaves_nothing_behind() {
    let (_folder, path, sink) = archive();
    let blocked = push("cdr", r#"{"SessionId":"s"}"#);
    let day = path.join("cdr/dt=2026-03-31");
    // A folder under the second push's temporary name stands in for whatever makes the disk say no.
    fs::create_dir_all(
        day.join(format!(".c0ffee0000000001-{:020}.json.under-test.tmp", blocked.position().0)),
    )
    .unwrap();
    let report = sink.deliver(&batch([push("cdr", r#"{"SessionId":"t"}"#), blocked])).await;
    assert!(away(&report).starts_with("cannot write "), "{report:?}");
    assert_eq!(files(&path), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_on_the_same_push_at_the_same_time_make_one_file() {
    let (_folder, path, sink) = archive();
    let push = push("cdr", sample("cdr/cdr-12-huge-uui-64k.json"));
    let attempts: Vec<_> = (0..16)
        .map(|_| {
            let (sink, batch) = (Arc::clone(&sink), batch([Arc::clone(&push)]));
            tokio::spawn(async move { sink.deliver(&batch).await })
        })
        .collect();
    for attempt in attempts {
        receipts(&attempt.await.unwrap());
    }
    let [name] = <[_; 1]>::try_from(files(&path)).unwrap();
    assert!(fs::read(path.join(name)).unwrap() == *push.body());
}

#[test]
fn every_fault_of_the_settings_is_told() {
    let faults = |settings| -> Vec<String> {
        build::<FileSettings>(settings).err().unwrap().iter().map(ToString::to_string).collect()
    };
    assert_eq!(faults(json!({ "path": "" })), ["path: the path is empty"]);
    assert_eq!(
        faults(json!({ "path": "archive", "layout": "batch" })),
        [r#"layout: unknown value "batch"; there are: ndjson, parquet, raw"#]
    );
    assert_eq!(
        faults(
            json!({ "path": "archive", "layout": "ndjson", "batch": { "pushes": 0, "size": "9MiB", "age": "2h" } })
        ),
        [
            "batch.pushes: must be 1 to 4000",
            "batch.size: must be 1B to 8.0 MiB",
            "batch.age: must be at most 1h"
        ]
    );
    assert_eq!(
        faults(json!({
            "path": "archive", "layout": "raw", "batch": { "pushes": 9 }, "compression": "gzip",
            "timezone": "Asia/Peking", "key": "{action}/{first}.{ext}",
        })),
        [
            "timezone: no time zone has this name; they look like Asia/Shanghai",
            "compression: belongs to objects of many pushes; `layout: raw` keeps the very bytes",
            "batch: belongs to `layout: ndjson` and parquet; with raw each push is by itself",
            "key: a key needs {spool}: a fresh spool counts from 1 again, and would meet the objects of the old one",
        ]
    );
}
