//! Hours of a disk that does not give everything, in a moment: the lane runs here on the test's runtime, whose time jumps to
//! whatever is due next.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use cdr_core::{Batch, Facts, Incoming, Origin, Receipt, Report, Sink, SinkName};
use cdr_spool::{NewLane, Settings, Start};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::*;
use crate::{
    lane::{Control, LanePlan, LaneSnapshot, LaneStatus, supervise},
    retry::RetryPolicy,
    route::{RouteSettings, Routes},
    routing::Routing,
    stored,
};

/// More than two segments full.
const PUSHES: usize = 2500;

/// Takes everything.
#[derive(Clone, Default)]
struct Takes(Arc<Mutex<Vec<Position>>>);

impl Sink for Takes {
    async fn deliver(&self, batch: &Batch) -> Report {
        self.0.lock().unwrap().extend(batch.pushes().map(|push| push.position()));
        Report::delivered(batch, |_| Receipt::new("taken"))
    }
}

/// A lane with a backlog on disk.
struct World {
    folder: PathBuf,
    store: Arc<Store>,
    status: Arc<LaneStatus>,
    control: mpsc::Sender<Control>,
    takes: Takes,
    _outer: tempfile::TempDir,
}

fn name() -> SinkName {
    "sink".parse().unwrap()
}

fn open(folder: &Path) -> Store {
    let names = ["sink".to_owned()];
    let route = RouteSettings { name: "all".into(), when: None, to: names.to_vec() };
    let routing = Routing::new(Routes::build(vec![route], &names).unwrap(), Vec::new(), vec![name()]);
    let lane = NewLane { name: "sink".into(), start: Start::Beginning };
    let settings = Settings { max_size: 64 << 20, ..Settings::new(folder) };
    Store::open(settings, &[lane], routing).unwrap().0
}

async fn push(store: &Store, session: &str) -> bool {
    let body = Bytes::from(format!(r#"{{"SessionId":"{session}","Uui":"{}"}}"#, "x".repeat(4000)));
    let facts = Facts {
        action: "cdr".parse().unwrap(),
        version: None,
        uuid: None,
        received_at: Timestamp::now(),
        sender: None,
        origin: Origin::Push,
        sha256: Sha256::digest(&body).into(),
    };
    let incoming = Incoming::read(facts, body).unwrap();
    store.spool().append(stored::to_spool(Box::new(incoming))).await.is_ok()
}

impl World {
    /// Lets `trouble` happen to the folder, and then the lane begin.
    async fn begin(trouble: impl FnOnce(&Path)) -> Self {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("spool");
        let store = open(&folder);
        let pushes: Vec<_> = (0..PUSHES).map(|number| format!("s{number}")).collect();
        for some in pushes.chunks(100) {
            let stored =
                futures_util::future::join_all(some.iter().map(|session| push(&store, session))).await;
            assert!(stored.into_iter().all(|stored| stored));
        }
        store.spool().close().await;
        drop(store);
        let store = Arc::new(open(&folder));
        trouble(&folder);
        tokio::time::pause();
        let retry = RetryPolicy::default();
        let takes = Takes::default();
        let plan = LanePlan {
            name: name(),
            sink: Arc::new(takes.clone()),
            retry,
            concurrency: 4,
            rate_limit: None,
            start: Start::Beginning,
        };
        let (events, _) = mpsc::unbounded_channel();
        let (control, orders) = mpsc::channel(16);
        let status = Arc::new(LaneStatus::default());
        tokio::spawn(supervise(plan, Arc::clone(&store), events, Arc::clone(&status), orders));
        Self { folder, store, status, control, takes, _outer: outer }
    }

    fn lane(&self) -> LaneSnapshot {
        self.status.snapshot()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&LaneSnapshot) -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !is_so(&self.lane()) {
            assert!(std::time::Instant::now() < deadline, "never happened: {what}: {:?}", self.lane());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn taken(&self) -> usize {
        self.takes.0.lock().unwrap().iter().collect::<HashSet<_>>().len()
    }
}

fn first_segment(folder: &Path) -> PathBuf {
    folder.join("0000000001.log")
}

/// A folder takes the name of the first segment: each read of it fails with EISDIR.
fn spoil(folder: &Path) {
    fs::rename(first_segment(folder), folder.join("aside")).unwrap();
    fs::create_dir(first_segment(folder)).unwrap();
}

fn mend(folder: &Path) {
    fs::remove_dir(first_segment(folder)).unwrap();
    fs::rename(folder.join("aside"), first_segment(folder)).unwrap();
}

#[test]
fn looks_come_less_and_less_often() {
    let waits: Vec<_> = (1..=9).map(|looks| wait_after(looks).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
}

#[tokio::test]
async fn what_stays_unreadable_is_a_dead_letter_that_can_be_retried() {
    let world = World::begin(spoil).await;
    let began = Instant::now();
    world.until("the first is given up", |lane| lane.died > 0).await;
    assert!(began.elapsed() >= LOSE_AFTER, "{:?}", began.elapsed());
    world.until("all of them are", |lane| lane.now.unreadable.is_none() && lane.now.open == 0).await;
    let lane = world.lane();
    assert_eq!((lane.delivered + lane.died, world.taken() as u64), (PUSHES as u64, lane.delivered));
    let dead = world.store.spool().dead_letters("sink", cdr_spool::Position(0), PUSHES).unwrap();
    assert!(
        dead[0].reason.starts_with("unreadable on disk: cannot read 0000000001.log"),
        "{}",
        dead[0].reason
    );

    mend(&world.folder);
    let positions: Vec<_> = dead.iter().map(|letter| letter.position).collect();
    let reopened = world.store.spool().reopen("sink", &positions).await.unwrap();
    let reopened = reopened.into_iter().map(stored::position).collect();
    assert!(world.control.send(Control::Reopened(reopened)).await.is_ok());
    world.until("they are delivered", |lane| lane.delivered == PUSHES as u64).await;
    assert_eq!(world.taken(), PUSHES);
}

#[tokio::test]
async fn while_the_spool_is_away_the_lane_waits_and_gives_nothing_up() {
    let world = World::begin(|folder| fs::rename(folder, folder.with_file_name("elsewhere")).unwrap()).await;
    assert!(!push(&world.store, "refused").await, "the spool knows that it is away");
    world.until("it says so", |lane| lane.now.unreadable.is_some()).await;
    tokio::time::sleep(LOSE_AFTER * 20).await;
    assert!(world.lane().now.unreadable.is_some() && world.lane().died == 0, "{:?}", world.lane());

    fs::rename(world.folder.with_file_name("elsewhere"), &world.folder).unwrap();
    world.until("all is delivered", |lane| lane.delivered == PUSHES as u64).await;
    assert_eq!((world.taken(), world.lane().died), (PUSHES, 0));
}
