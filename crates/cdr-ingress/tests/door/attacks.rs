//! Requests as attackers and broken senders write them, byte by byte: the files of `tests/attacks`, and what becomes
//! of each as its `index.txt` has it.

use std::{fs, path::Path, time::Duration};

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    client::{Client, push, send},
    store::House,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks");

/// A line of the index.
struct Attack {
    file: String,
    outcome: Outcome,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Outcome {
    /// The statuses of all answers, in order.
    answers: Vec<u16>,
    stored: usize,
    quarantined: usize,
}

fn index() -> Vec<Attack> {
    let index = fs::read_to_string(Path::new(FOLDER).join("index.txt")).unwrap();
    let lines = index.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| attack(line).unwrap_or_else(|| panic!("no line of the index: {line}"))).collect()
}

fn attack(line: &str) -> Option<Attack> {
    let mut columns = line.split_whitespace();
    let file = columns.next()?.to_owned();
    let answers = match columns.next()? {
        "closed" => Vec::new(),
        statuses => statuses.split(',').map(|status| status.parse().ok()).collect::<Option<_>>()?,
    };
    let mut number = || columns.next()?.parse().ok();
    Some(Attack { outcome: Outcome { answers, stored: number()?, quarantined: number()? }, file })
}

/// The statuses in what a connection said; a body that looks like an answer is skipped by its length.
fn statuses(mut said: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Some(end) = said.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
        let head = String::from_utf8(said[..end].to_vec()).unwrap().to_ascii_lowercase();
        statuses.push(head.split(' ').nth(1).unwrap().parse().unwrap());
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        said = &said[end + 4 + length.map_or(0, |length| length.parse().unwrap())..];
    }
    assert_eq!(said, b"", "half an answer");
    statuses
}

async fn replay(file: &str) -> Outcome {
    let timeout = "1s";
    let limits =
        json!({ "body": "16KiB", "in_flight": "32KiB", "header_timeout": timeout, "body_timeout": timeout });
    let house = House::open(json!({ "path": "/push", "limits": limits })).await;
    let mut client = Client::connect(house.door.address()).await;
    client.write_if_heard(&fs::read(Path::new(FOLDER).join(file)).unwrap()).await;
    let answers = statuses(&client.all().await);

    let bodies = house.store.bodies();
    assert!(!bodies.iter().any(|body| body.contains("smuggled")), "{file}");
    let outcome =
        Outcome { answers, stored: bodies.len(), quarantined: house.store.quarantine.lock().unwrap().len() };
    let honest = push("/push?action=cdr", &[], r#"{"SessionId":"honest"}"#);
    send(house.door.address(), honest).await.is_ok();
    outcome
}

#[tokio::test]
async fn each_attack_ends_as_the_index_says_and_honest_senders_go_on() {
    let mut replays = JoinSet::new();
    for Attack { file, outcome } in index() {
        replays.spawn(async move {
            let replayed = tokio::time::timeout(Duration::from_secs(20), replay(&file)).await;
            (replayed.unwrap_or_else(|_| panic!("{file} hangs")), outcome, file)
        });
    }
    let mut wrong = Vec::new();
    for (found, expected, file) in replays.join_all().await {
        if found != expected {
            wrong.push(format!("{file}: {found:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_index_names_every_file() {
    let mut listed: Vec<_> = index().into_iter().map(|attack| attack.file).collect();
    listed.push("index.txt".to_owned());
    let mut there: Vec<_> = fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    listed.sort_unstable();
    there.sort_unstable();
    assert_eq!(listed, there);
}
