//! Lanes over a disk that does not give everything. A segment that cannot be read is a real one: a folder has taken its name, so
//! that each read of it fails with EISDIR. Time is the test's own: hours pass in a moment.

use std::{collections::HashSet, fs, path::PathBuf};

use super::*;

/// Several segments full.
const PUSHES: usize = 4000;

/// A spool with a backlog of [`PUSHES`], none of it in memory, for a lane `sink` that does not run yet.
struct Backlog {
    dispatcher: Dispatcher,
    sink: Arc<Told>,
    folder: tempfile::TempDir,
}

fn nobody() -> Plan {
    Plan { lanes: Vec::new(), routes: Routes::build(Vec::new(), &[]).unwrap(), alerts_to: Vec::new() }
}

impl Backlog {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (dispatcher, _events) = open(folder.path(), nobody());
        let filler = "x".repeat(4000);
        for chunk in 0..PUSHES / 100 {
            let (dispatcher, filler) = (&dispatcher, &filler);
            let pushes = (0..100).map(|number| async move {
                let session = format!("s{chunk}-{number}");
                dispatcher.store(incoming_with(&session, filler)).await.unwrap();
            });
            futures_util::future::join_all(pushes).await;
        }
        dispatcher.stop(Duration::from_secs(5)).await;
        drop(dispatcher);
        let (dispatcher, _events) = open(folder.path(), nobody());
        tokio::time::pause();
        Self { dispatcher, sink: Told::new(), folder }
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.folder.path().join(format!("{number:010}.log"))
    }

    fn spoil(&self, number: u64) {
        fs::rename(self.segment(number), self.folder.path().join("aside")).unwrap();
        fs::create_dir(self.segment(number)).unwrap();
    }

    fn mend(&self, number: u64) {
        fs::remove_dir(self.segment(number)).unwrap();
        fs::rename(self.folder.path().join("aside"), self.segment(number)).unwrap();
    }

    async fn start(&self) {
        let plan = plan(vec![lane("sink", &self.sink)]);
        self.dispatcher.reload(plan, Duration::from_secs(5)).await.unwrap();
    }

    fn lane(&self) -> LaneSnapshot {
        snapshot(&self.dispatcher, "sink")
    }

    fn delivered(&self) -> HashSet<String> {
        self.sink.batches().into_iter().flatten().collect()
    }
}

/// Waits until it is so, in seconds of the test's own time.
async fn until_later(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn what_can_be_read_goes_on_and_the_rest_comes_when_the_disk_gives_it() {
    let backlog = Backlog::new().await;
    // Too little of it passes here for anything to be given up.
    tokio::time::resume();
    backlog.spoil(2);
    backlog.start().await;
    until("the lane has come to the end", || {
        let lane = backlog.lane();
        lane.now.next == backlog.dispatcher.pushes().end().0 && lane.now.trying == 0
    })
    .await;
    let unreadable = backlog.lane().now.unreadable.expect("it says so");
    assert!(unreadable.reason.contains("0000000002.log"), "{}", unreadable.reason);
    assert!(unreadable.pushes > 500, "{}", unreadable.pushes);
    until("the others are delivered", || backlog.delivered().len() + unreadable.pushes == PUSHES).await;
    push(&backlog.dispatcher, "fresh").await;
    until("fresh ones come through", || backlog.sink.attempts_on("fresh") == 1).await;

    backlog.mend(2);
    until("it is given again", || backlog.lane().now.unreadable.is_none()).await;
    until_idle(&backlog.dispatcher).await;
    let lane = backlog.lane();
    assert_eq!((lane.delivered, lane.died, backlog.delivered().len()), (PUSHES as u64 + 1, 0, PUSHES + 1));
}

#[tokio::test]
async fn what_stays_unreadable_is_a_dead_letter_that_can_be_retried() {
    let backlog = Backlog::new().await;
    backlog.spoil(2);
    let began = tokio::time::Instant::now();
    backlog.start().await;
    until_later("the first is given up", || backlog.lane().died > 0).await;
    assert!(began.elapsed() >= Duration::from_secs(600), "{:?}", began.elapsed());
    until_later("all of them are", || backlog.lane().now.unreadable.is_none()).await;
    until_idle(&backlog.dispatcher).await;
    let lane = backlog.lane();
    assert_eq!(lane.delivered + lane.died, PUSHES as u64);
    let dead = backlog.dispatcher.dead_letters("sink", Position(0), PUSHES).await.unwrap();
    assert!(dead[0].reason.starts_with("unreadable on disk: "), "{}", dead[0].reason);

    backlog.mend(2);
    let positions: Vec<Position> = dead.iter().map(|letter| Position(letter.position.0)).collect();
    backlog.dispatcher.retry_dead("sink", &positions).await.unwrap();
    until_later("they are delivered", || backlog.delivered().len() == PUSHES).await;
}

#[tokio::test]
async fn while_the_whole_spool_is_away_the_lane_waits_and_gives_nothing_up() {
    let backlog = Backlog::new().await;
    backlog.sink.answers(away);
    backlog.start().await;
    until_later("it has begun to read", || backlog.lane().now.paused.is_some()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().join("spool");
    fs::rename(backlog.folder.path(), &elsewhere).unwrap();
    assert!(backlog.dispatcher.store(incoming("refused")).await.is_err());
    backlog.sink.answers(good);
    until_later("it says so", || backlog.lane().now.unreadable.is_some()).await;
    tokio::time::sleep(Duration::from_secs(7200)).await;
    assert!(backlog.lane().now.unreadable.is_some());

    fs::rename(&elsewhere, backlog.folder.path()).unwrap();
    until_idle(&backlog.dispatcher).await;
    let lane = backlog.lane();
    assert_eq!((lane.delivered, lane.died, backlog.delivered().len()), (PUSHES as u64, 0, PUSHES));
}
