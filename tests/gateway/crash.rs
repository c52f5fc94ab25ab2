//! `kill -9`, and the promise: what was answered with ErrCode 0 reaches its sinks, the archive once.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cdr_simulator::{
    calls::CallCentre,
    crm::{Crm, CrmOptions, Memory},
};
use cdr_tests::{Process, until};

use super::{configuration, files, paths, sha256};

#[tokio::test(flavor = "multi_thread")]
async fn a_crm_that_is_away_gets_everything_although_the_gateway_is_killed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let mut crm = Crm::start("127.0.0.1:0").await.unwrap();
    let configuration = configuration(&crm.url()).to_string();
    crm.go_away().await;
    let gateway = Process::start(folder.path(), &configuration);
    let push = |gateway: &Process, from: usize, to: usize| {
        for number in from..to {
            let body = format!(r#"{{"SessionId":"s-{number}","EndStatusString":"ok"}}"#);
            assert_eq!(gateway.push("cdr", body.as_bytes(), None).err_code(), 0);
        }
    };
    push(&gateway, 0, 30);
    until("the lane pauses", || (!gateway.lane("crm")["paused"].is_null()).then_some(()));
    assert_eq!(gateway.ask("GET", "/readyz").status, 200);
    gateway.kill();
    let gateway = Process::start_again(folder.path());
    push(&gateway, 30, 60);
    assert_eq!(gateway.ask("GET", "/readyz").status, 200);
    gateway.kill();
    crm.come_back().await.unwrap();
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();
    assert_eq!(crm.digests().len(), 60);
    assert_eq!(files(&folder.path().join("data/archive"), ".json").len(), 60);
}

/// A file per push. The long run is the test below.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_per_push_is_neither_lost_nor_doubled_by_kill_9_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let mut configuration = configuration(&crm.url());
    configuration["routes"] = serde_json::json!([{ "name": "all", "to": ["archive", "crm"] }]);
    std::fs::write(folder.path().join("gateway.yaml"), configuration.to_string()).unwrap();
    let acknowledged = killed_under_load(folder.path(), 10, 4);
    Process::start_again(folder.path()).until_delivered();
    let mut archived: HashMap<[u8; 32], usize> = HashMap::new();
    for body in files(&folder.path().join("data/archive"), ".json") {
        *archived.entry(sha256(&body)).or_default() += 1;
    }
    assert!(archived.values().all(|&copies| copies == 1), "something was archived twice");
    let at_crm = crm.digests();
    assert!(
        acknowledged.iter().all(|sha| archived.contains_key(sha) && at_crm.contains_key(sha)),
        "something was lost"
    );
}

/// Ten rounds, or as many as `CDR_CRASH_ROUNDS` says (`just crash`), which then push over 64 connections.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_kill_9_under_load() {
    let long = std::env::var("CDR_CRASH_ROUNDS").ok();
    let rounds = long.as_ref().map_or(10, |rounds| rounds.parse().expect("a number of rounds"));
    let connections = if long.is_some() { 64 } else { 4 };
    let folder = tempfile::tempdir().unwrap();
    let options = CrmOptions { memory: Memory::Digests, ..CrmOptions::default() };
    let crm = Crm::start_with("127.0.0.1:0", options).await.unwrap();
    let mut configuration = configuration(&crm.url());
    configuration["spool"]["max_size"] = "8GiB".into();
    configuration["sinks"]["archive"] = serde_json::json!({
        "file": { "path": "data/archive", "layout": "ndjson", "batch": { "pushes": 10 * connections, "age": "30ms" } },
    });
    configuration["routes"] = serde_json::json!([{ "name": "all", "to": ["archive", "crm"] }]);
    std::fs::write(folder.path().join("gateway.yaml"), configuration.to_string()).unwrap();
    let acknowledged = killed_under_load(folder.path(), rounds, connections);
    Process::start_again(folder.path()).until_delivered();

    let (archived, lines, files) = archived(&folder.path().join("data/archive"));
    let at_crm = crm.digests();
    let lost =
        acknowledged.iter().filter(|sha| !archived.contains(*sha) || !at_crm.contains_key(*sha)).count();
    let (in_archive, repeats) = (lines - archived.len(), crm.repeats());
    println!(
        "{rounds} rounds of load and kill -9: {} acknowledged, {lost} lost, {in_archive} archived twice ({lines} lines in \
         {files} files), {repeats} repeats at the CRM",
        acknowledged.len()
    );
    assert_eq!((lost, in_archive), (0, 0));
    assert!(files < lines / 2, "pushes do share files");
    // Eight attempts under way, and what was answered while the last commit was synced: 8 to 10 in all when nobody else uses
    // the disk, and more the longer a sync takes.
    let in_flight = 16 * connections;
    assert!(repeats <= rounds * in_flight, "a kill repeats what was in flight, and no more");
}

/// The digests of all bodies in files of many pushes, the lines, the files. No position is there twice.
fn archived(folder: &Path) -> (HashSet<[u8; 32]>, usize, usize) {
    let (mut bodies, mut positions) = (HashSet::new(), HashSet::new());
    let files = paths(folder, ".ndjson");
    for file in &files {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let sha = sha256(line["body"].as_str().unwrap().as_bytes());
            assert_eq!(line["sha256"], hex::encode(sha), "byte for byte");
            let position = line["position"].as_u64().unwrap();
            assert!(positions.insert(position), "position {position} is there twice");
            bodies.insert(sha);
        }
    }
    (bodies, positions.len(), files.len())
}

/// Rounds of load over so many connections, each ended by `kill -9` at a moment that differs from run to run; before every
/// third it is killed while it starts, too. Gives the digests of what was acknowledged.
pub(super) fn killed_under_load(folder: &Path, rounds: usize, connections: usize) -> HashSet<[u8; 32]> {
    let centre = CallCentre::new(9);
    let calls = Arc::new(AtomicU64::new(0));
    let mut acknowledged = HashSet::new();
    for round in 0..rounds {
        if round % 3 == 2 {
            Process::kill_while_starting(folder, Duration::from_millis(by_chance(40)));
        }
        let gateway = Process::start_again(folder);
        let workers: Vec<_> = (0..connections)
            .map(|_| {
                let (centre, calls, line) = (centre.clone(), Arc::clone(&calls), Line::new(gateway.door));
                thread::spawn(move || push_until_it_dies(line, &centre, &calls))
            })
            .collect();
        thread::sleep(Duration::from_millis(100 + by_chance(10 * connections as u64 + 200)));
        gateway.kill();
        workers.into_iter().for_each(|worker| acknowledged.extend(worker.join().unwrap()));
    }
    assert!(acknowledged.len() > 200, "only {} were acknowledged", acknowledged.len());
    acknowledged
}

fn push_until_it_dies(mut line: Line, centre: &CallCentre, calls: &AtomicU64) -> Vec<[u8; 32]> {
    let mut acknowledged = Vec::new();
    loop {
        let call = centre.call(calls.fetch_add(1, Ordering::Relaxed));
        match line.push(&call.body) {
            Some(true) => acknowledged.push(sha256(&call.body)),
            Some(false) => panic!("refused under load"),
            None => return acknowledged,
        }
    }
}

/// Less than `most`; what the clock says in microseconds is chance enough.
fn by_chance(most: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::from(now.subsec_micros()) % most
}

/// A kept connection that pushes one body after the other.
struct Line(Option<std::net::TcpStream>);

impl Line {
    fn new(door: std::net::SocketAddr) -> Self {
        Self(std::net::TcpStream::connect(door).ok())
    }

    /// Whether the push was taken; none when the other side is gone.
    fn push(&mut self, body: &[u8]) -> Option<bool> {
        use std::io::{Read as _, Write as _};
        let stream = self.0.as_mut()?;
        let head = format!(
            "POST /?action=cdr&version=1 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
        let mut answer = Vec::new();
        let mut part = [0; 1024];
        loop {
            match stream.read(&mut part) {
                Ok(0) | Err(_) => return None,
                Ok(length) => answer.extend_from_slice(&part[..length]),
            }
            if answer.ends_with(b"}") {
                let text = String::from_utf8_lossy(&answer).into_owned();
                return Some(text.contains(r#""ErrCode":0"#));
            }
        }
    }
}
