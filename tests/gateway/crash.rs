//! `kill -9`, and the promise: what was answered with ErrCode 0 reaches its sinks, the archive once.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use cdr_simulator::{calls::CallCentre, crm::Crm};
use cdr_tests::{Process, until};

use super::{configuration, files, sha256};

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

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_kill_9_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let mut configuration = configuration(&crm.url());
    configuration["routes"] = serde_json::json!([{ "name": "all", "to": ["archive", "crm"] }]);
    std::fs::write(folder.path().join("gateway.yaml"), configuration.to_string()).unwrap();
    let acknowledged = killed_under_load(folder.path());
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();
    let archived = files(&folder.path().join("data/archive"), ".json");
    let mut copies: HashMap<[u8; 32], usize> = HashMap::new();
    archived.iter().for_each(|body| *copies.entry(sha256(body)).or_default() += 1);
    let at_crm = crm.digests();
    let lost =
        acknowledged.iter().filter(|sha| !copies.contains_key(*sha) || !at_crm.contains_key(*sha)).count();
    let twice = copies.values().filter(|&&count| count > 1).count();
    println!(
        "{} acknowledged, {lost} lost, {twice} archived twice, {} repeats at the CRM",
        acknowledged.len(),
        crm.repeats()
    );
    assert_eq!((lost, twice), (0, 0));
}

/// The same for files of many pushes: sealed, cut off, made again.
#[test]
fn files_of_many_pushes_hold_each_once_after_kill_9_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let mut configuration = configuration("http://127.0.0.1:9/");
    configuration["sinks"]["archive"] = serde_json::json!({
        "file": { "path": "data/archive", "layout": "batch", "batch": { "pushes": 40, "age": "30ms" } },
    });
    configuration["routes"] = serde_json::json!([{ "name": "all", "to": ["archive"] }]);
    std::fs::write(folder.path().join("gateway.yaml"), configuration.to_string()).unwrap();
    let acknowledged = killed_under_load(folder.path());
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();
    let archived = files(&folder.path().join("data/archive"), ".ndjson");
    let mut positions = HashSet::new();
    let mut bodies = HashSet::new();
    for line in archived.iter().flat_map(|file| file.trim_ascii_end().split(|&byte| byte == b'\n')) {
        let line: serde_json::Value = serde_json::from_slice(line).unwrap();
        let sha = sha256(line["body"].as_str().unwrap().as_bytes());
        assert_eq!(line["sha256"], hex::encode(sha), "byte for byte");
        let position = line["position"].as_u64().unwrap();
        assert!(positions.insert(position), "position {position} is there twice");
        assert!(bodies.insert(sha), "the body of {position} is there twice");
    }
    let lost = acknowledged.difference(&bodies).count();
    println!(
        "{} acknowledged, {lost} lost, {} lines in {} files",
        acknowledged.len(),
        bodies.len(),
        archived.len()
    );
    assert_eq!(lost, 0);
    assert!(archived.len() < bodies.len() / 2, "they do share files");
    assert_eq!(files(&folder.path().join("data/archive"), ".json"), [b""; 0]);
}

/// Rounds of load and `kill -9` at moments that differ from run to run: ten, or as many as `CDR_CRASH_ROUNDS` says. Gives
/// the digests of what was acknowledged.
fn killed_under_load(folder: &Path) -> HashSet<[u8; 32]> {
    let acknowledged = Arc::new(Mutex::new(HashSet::new()));
    let centre = CallCentre::new(9);
    let rounds: u64 =
        std::env::var("CDR_CRASH_ROUNDS").map_or(10, |rounds| rounds.parse().expect("a number of rounds"));
    for round in 0..rounds {
        let gateway = Process::start_again(folder);
        let door = gateway.door;
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..4_u64)
            .map(|worker| {
                let (stop, acknowledged, centre) =
                    (Arc::clone(&stop), Arc::clone(&acknowledged), centre.clone());
                thread::spawn(move || {
                    let mut line = Line::new(door);
                    for number in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let call = centre.call(round * 1_000_000 + worker * 100_000 + number);
                        match line.push(&call.body) {
                            Some(true) => drop(acknowledged.lock().unwrap().insert(sha256(&call.body))),
                            Some(false) => panic!("refused under load"),
                            None => return,
                        }
                    }
                })
            })
            .collect();
        let moment = u64::from(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_micros(),
        );
        thread::sleep(Duration::from_millis(100 + moment % 300));
        gateway.kill();
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    assert!(acknowledged.len() > 200, "only {} were acknowledged", acknowledged.len());
    acknowledged
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
