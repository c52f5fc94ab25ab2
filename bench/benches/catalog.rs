//! `cargo bench -p cdr-bench --bench catalog`: what the catalog costs for each push, with three lanes: processor time and
//! bytes to the device of its thread, and how long a search takes.

use std::{fs, time::Instant};

use anyhow::Context as _;
use bytes::Bytes;
use cdr_dispatch::terms;
use cdr_spool::{Key, NewLane, NewPush, Outcome, Position, Query, Search, Settings, Spool, Start};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

/// Pushes in all, and how many wait for the same commit.
const PUSHES: u64 = 100_000;
const WAITERS: u64 = 64;
const LANES: [&str; 3] = ["archive", "crm", "on-call"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let lanes = LANES.map(|name| NewLane { name: name.to_owned(), start: Start::Beginning });
    let (spool, _) = Spool::open(Settings::new(folder.path()), &lanes, Box::new(|_| {}))?;
    spool.keep_catalog(terms::of)?;
    let bodies: Vec<Bytes> = cdr_bench::bodies(1).take(1000).collect();
    let began = Instant::now();
    for batch in 0..PUSHES / WAITERS {
        let mut appends = JoinSet::new();
        for number in batch * WAITERS..(batch + 1) * WAITERS {
            let (spool, push) = (spool.clone(), push(number, &bodies[number as usize % bodies.len()]));
            appends.spawn(async move { spool.append(push).await });
        }
        let mut positions: Vec<Position> = Vec::new();
        for appended in appends.join_all().await {
            positions.push(appended?.position());
        }
        record(&spool, positions);
    }
    spool.catalog_caught_up().await;
    let took = began.elapsed().as_secs_f64();
    let thread = thread_of("spool-catalog")?;
    let (cpu, bytes) = (cpu_seconds(&thread)?, written(&thread)?);
    let size = fs::metadata(folder.path().join("catalog.sqlite"))?.len();
    let each = |number: u64| number as f64 / PUSHES as f64;
    println!("{PUSHES} pushes in {took:.1} s, three lanes");
    println!("processor time     {:.3} s per 10,000 pushes", cpu / PUSHES as f64 * 1e4);
    println!("to the device      {:.0} bytes a push", each(bytes));
    println!("size               {:.0} bytes a push", each(size));
    search(folder.path(), &bodies)
}

fn push(number: u64, body: &Bytes) -> NewPush<()> {
    let key = Key {
        action: "cdr".to_owned(),
        uuid: Some(format!("{number:032x}")),
        sha256: Sha256::digest(body).into(),
    };
    let received_at_ms = Timestamp::now().as_millisecond();
    NewPush { key, received_at_ms, facts: Bytes::new(), body: body.clone(), live: () }
}

/// The archive takes everything in order, the CRM every other push with a status, the mailbox next to nothing.
fn record(spool: &Spool<()>, mut positions: Vec<Position>) {
    positions.sort_unstable();
    let status = || Outcome::Delivered { receipt: Some("200 OK".to_owned()) };
    for lane in LANES {
        let outcome = |position: &Position| match (lane, position.0 % 2, position.0 % 50) {
            ("archive", ..) => Outcome::Delivered { receipt: None },
            ("crm", 0, _) => status(),
            ("on-call", _, 0) => status(),
            _ => Outcome::Passed,
        };
        let outcomes = positions.iter().map(|position| (*position, outcome(position))).collect();
        drop(spool.record(lane, outcomes));
    }
}

fn search(folder: &std::path::Path, bodies: &[Bytes]) -> anyhow::Result<()> {
    let session: serde_json::Value = serde_json::from_slice(&bodies[7])?;
    let session = session["SessionId"].as_str().context("a session")?;
    let began = Instant::now();
    let mut search = Search::open(folder, terms::of)?;
    let opened = began.elapsed();
    let query = Query { term: Some((terms::SESSION, session)), ..Query::default() };
    let found = search.find(&query, usize::MAX)?.len();
    println!("a session          {found} pushes found in {:?}, of that {opened:?} to open", began.elapsed());
    Ok(())
}

/// The folder of a thread of this process in `/proc`.
fn thread_of(name: &str) -> anyhow::Result<std::path::PathBuf> {
    for thread in fs::read_dir("/proc/self/task")? {
        let path = thread?.path();
        if fs::read_to_string(path.join("comm"))?.trim() == name {
            return Ok(path);
        }
    }
    anyhow::bail!("there is no thread {name}")
}

fn cpu_seconds(thread: &std::path::Path) -> anyhow::Result<f64> {
    let text = fs::read_to_string(thread.join("schedstat"))?;
    let nanoseconds: u64 = text.split(' ').next().context("a number")?.parse()?;
    Ok(nanoseconds as f64 / 1e9)
}

fn written(thread: &std::path::Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(thread.join("io"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.context("write_bytes")?.parse()?)
}
