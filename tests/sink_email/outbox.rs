//! Mails as files.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use cdr_core::registry::AnySink;
use cdr_tests::batch;
use mail_parser::MessageParser;
use serde_json::json;

use super::{delivered, email, no_seat, replayed};

fn outbox(folder: &Path) -> Arc<dyn AnySink> {
    email(json!({ "outbox": folder, "from": "cdr@example.com", "to": ["a@example.com", "b@example.com"] }))
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_mail_becomes_a_file_of_its_owner_alone_and_a_repeat_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data/outbox");
    let sink = outbox(&folder);
    let batch = batch([no_seat()]);

    let receipt = delivered(&sink.deliver(&batch).await).clone();
    assert_eq!(files(&folder), [receipt.0.as_str()]);
    assert!(receipt.0.starts_with("20260331T233000Z-") && receipt.0.ends_with(".eml"), "{receipt:?}");
    let file = folder.join(&receipt.0);
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = fs::read(&file).unwrap();
    let mail = MessageParser::default().parse(&bytes).unwrap();
    assert!(mail.subject().unwrap().starts_with("[CDR] noSeatOnline"));
    assert_eq!(mail.to().unwrap().iter().count(), 2);

    assert_eq!(*delivered(&sink.deliver(&batch).await), receipt);
    assert_eq!(files(&folder).len(), 1);
    delivered(&sink.deliver(&replayed(&batch)).await);
    assert_eq!(files(&folder).len(), 2);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_pauses_the_sink() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("a file");
    fs::write(&blocked, "").unwrap();
    let sink = outbox(&blocked.join("outbox"));
    let report = sink.deliver(&batch([no_seat()])).await;
    let why = report.why_unavailable().unwrap();
    assert!(why.reason.contains("a file/outbox"), "{why:?}");
    assert!(sink.probe().await.is_err());
}

#[tokio::test]
async fn it_says_loudly_that_nobody_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let sink = outbox(dir.path());
    let place = dir.path().display();
    assert_eq!(
        sink.describe(),
        format!("writes mails as files to {place}: NOBODY IS TOLD until smtp is set")
    );
    sink.probe().await.unwrap();
    assert!(files(dir.path()).is_empty());
}
