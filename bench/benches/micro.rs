//! `cargo bench -p cdr-bench --bench micro`: the parts of a push's way that cost processor time, one by one.

use std::{hint::black_box, sync::Arc, time::Duration};

use bytes::Bytes;
use cdr_core::{Action, Facts, Incoming, Origin, Position, Push, SpoolId};
use cdr_gateway::config::{self, Source};
use cdr_spool::{Key, NewPush, Settings, Spool};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

/// Pushes that wait for the same commit.
const WAITERS: u64 = 64;

fn body() -> Bytes {
    cdr_bench::bodies(1).find(|body| (1380..1420).contains(&body.len())).expect("1.4 KB is their average")
}

fn facts(body: &[u8]) -> Facts {
    Facts {
        action: "cdr".parse().expect("three letters are an action"),
        version: Some("1".to_owned()),
        uuid: Some("7f1e0c2a-3f0f-4b5e-9a53-0d6a4a6d1a11".to_owned()),
        received_at: "2026-11-22T03:00:00Z".parse().expect("a time"),
        sender: None,
        origin: Origin::Push,
        sha256: Sha256::digest(body).into(),
    }
}

fn reading(criterion: &mut Criterion) {
    let (body, action): (_, Action) = (body(), "cdr".parse().expect("three letters are an action"));
    let mut group = criterion.benchmark_group("a body");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("validated and read as a CDR", |bencher| {
        bencher.iter(|| cdr_core::cdr::read(&action, black_box(&body)));
    });
    group.bench_function("SHA-256", |bencher| bencher.iter(|| Sha256::digest(black_box(&body))));
    group.finish();
}

fn routing(criterion: &mut Criterion) {
    let loaded = config::load(&Source::Shipped, &cdr_gateway::builtin_sinks(), []);
    let (plan, _) = loaded.unwrap_or_else(|faults| panic!("the shipped gateway.yaml: {faults:?}"));
    let body = body();
    let incoming = Incoming::read(facts(&body), body).expect("a CDR");
    let push = Push::stored(SpoolId([7; 8]), Position(1), incoming);
    criterion.bench_function("the shipped routes on a push", |bencher| {
        bencher.iter(|| plan.routes.decide(black_box(&push)));
    });
}

fn appending(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("threads");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on the disk of target");
    let (spool, _) = Spool::open(Settings::new(folder.path()), &[], Box::new(|_| {})).expect("a fresh spool");
    let (spool, body) = (Arc::new(spool), body());
    let sha256 = Sha256::digest(&body).into();
    let mut number = 0_u64;
    let mut push = || {
        number += 1;
        let key = Key { action: "cdr".to_owned(), uuid: Some(number.to_string()), sha256 };
        NewPush {
            key,
            received_at_ms: Timestamp::now().as_millisecond(),
            facts: Bytes::new(),
            body: body.clone(),
            live: (),
        }
    };
    let mut group = criterion.benchmark_group("the spool");
    group.throughput(Throughput::Elements(WAITERS)).sample_size(20).measurement_time(Duration::from_secs(10));
    group.bench_function("64 appended by 64 who wait", |bencher| {
        bencher.iter(|| {
            let appends = (0..WAITERS).map(|_| {
                let (spool, push) = (Arc::clone(&spool), push());
                runtime.spawn(async move { spool.append(push).await })
            });
            for append in appends.collect::<Vec<_>>() {
                runtime.block_on(append).expect("no panic").expect("a disk that writes");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, reading, routing, appending);
criterion_main!(benches);
