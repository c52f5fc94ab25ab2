//! What the tests open spools with.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cdr_spool::clock::Clock;
use cdr_spool::{
    Ground, Key, NewLane, NewPush, NewQuarantine, OpenError, Position, Recovery, Settings, Spool, Start,
};

use crate::disk::Disk;

pub const DAY_MS: i64 = 24 * 3600 * 1000;
pub const SEGMENT: u64 = 8 * 1024;

/// A wall clock that tests set, and a running clock that they may hurry.
pub struct TestClock {
    wall_ms: AtomicI64,
    started: Instant,
    skipped_ms: AtomicU64,
    frozen: AtomicBool,
}

impl TestClock {
    pub fn start() -> Arc<TestClock> {
        Arc::new(TestClock {
            wall_ms: AtomicI64::new(1_800_000_000_000),
            started: Instant::now(),
            skipped_ms: AtomicU64::new(0),
            frozen: AtomicBool::new(false),
        })
    }

    /// From here on time passes only when the test says so: nothing is tried again by itself.
    pub fn freeze(&self) {
        self.skipped_ms.fetch_add(self.started.elapsed().as_millis() as u64, Ordering::SeqCst);
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// Time passes, on both clocks.
    pub fn pass(&self, time: Duration) {
        self.jump(time.as_millis() as i64);
        self.skipped_ms.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }

    /// The wall clock jumps.
    pub fn jump(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn running(&self) -> Duration {
        let skipped = Duration::from_millis(self.skipped_ms.load(Ordering::SeqCst));
        if self.frozen.load(Ordering::SeqCst) { skipped } else { self.started.elapsed() + skipped }
    }
}

pub type Heard = Arc<Mutex<Vec<(Position, u64)>>>;

/// A disk, a clock, and what was committed through them.
pub struct World {
    pub disk: Disk,
    pub clock: Arc<TestClock>,
    pub settings: Settings,
    pub committed: Heard,
}

impl World {
    pub fn new() -> World {
        let mut settings = Settings::new("/simulated");
        settings.max_size = 16 * SEGMENT;
        settings.body_limit = SEGMENT / 4;
        settings.in_flight = 1024 * 1024;
        World { disk: Disk::default(), clock: TestClock::start(), settings, committed: Heard::default() }
    }

    pub fn open_with(&self, lanes: &[NewLane]) -> Result<(Spool<u64>, Recovery), OpenError> {
        let ground = Ground {
            directory: self.disk.directory(),
            clock: self.clock.clone(),
            segment_size: Some(SEGMENT),
        };
        let committed = self.committed.clone();
        Spool::open_on(
            ground,
            self.settings.clone(),
            lanes,
            Box::new(move |batch| committed.lock().unwrap().extend(batch.pushes)),
        )
    }

    pub fn open(&self, lanes: &[&str]) -> (Spool<u64>, Recovery) {
        let lanes: Vec<NewLane> =
            lanes.iter().map(|name| NewLane { name: (*name).into(), start: Start::Beginning }).collect();
        self.open_with(&lanes).unwrap()
    }
}

/// A runtime for one test.
pub fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A body of some length, different for each number, and its digest: not SHA-256, the spool does not care.
pub fn body(n: u64) -> Bytes {
    let mut text = format!("{{\"n\":{n}}}").into_bytes();
    text.resize(40 + (n as usize * 37) % 500, b' ');
    text.into()
}

pub fn digest(n: u64) -> [u8; 32] {
    let mut digest = [0; 32];
    for (i, chunk) in digest.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(
            &(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(i as u32 * 7)).to_le_bytes(),
        );
    }
    digest
}

pub fn key(n: u64) -> Key {
    Key { action: "cdr".into(), uuid: (!n.is_multiple_of(3)).then(|| format!("uuid-{n}")), sha256: digest(n) }
}

pub fn push(n: u64) -> NewPush<u64> {
    push_at(n, 1_800_000_000_000)
}

pub fn push_at(n: u64, received_at_ms: i64) -> NewPush<u64> {
    NewPush { key: key(n), received_at_ms, facts: Bytes::from(format!("facts {n}")), body: body(n), live: n }
}

pub fn found(n: u64) -> NewQuarantine {
    NewQuarantine {
        sha256: digest(n),
        received_at_ms: 1,
        facts: Bytes::new(),
        body: body(n),
        reason: format!("no JSON {n}"),
    }
}

/// Makes the writer wake, see to what is due by time, and sync outcomes; back when that is done.
pub fn poke(spool: &Spool<u64>) {
    // Two rounds: what is due is seen to after the first request is answered.
    for _ in 0..2 {
        wait(spool.register_lanes(&[])).ok();
    }
}

/// Waits until something holds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Appends pushes at once and returns their positions.
pub fn append(spool: &Spool<u64>, numbers: impl IntoIterator<Item = u64>) -> Vec<Position> {
    numbers.into_iter().map(|n| wait(spool.append(push(n))).unwrap().position()).collect()
}
