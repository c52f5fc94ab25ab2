//! Lanes over a disk that does not give everything. A segment that cannot be read is a real one: a folder has taken its name, so
//! that each read of it fails with EISDIR. What becomes of it in hours is told in `lane/unreadable/tests.rs`.

use std::{collections::HashSet, fs, path::PathBuf};

use super::{
    sealed::{Sealing, each_once, sealing},
    *,
};

/// Several segments full.
const PUSHES: usize = 4000;

/// A spool with a backlog of [`PUSHES`], none of it in memory, for a lane `sink` that does not run yet.
struct Backlog {
    dispatcher: Arc<Dispatcher>,
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

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_goes_on_and_the_rest_comes_when_the_disk_gives_it() {
    let backlog = Backlog::new().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_batch_that_cannot_be_read_waits_for_its_disk_and_is_made_again_the_same() {
    let mut backlog = Backlog::new().await;
    let sink = Sealing::new("a", fails);
    backlog.dispatcher.reload(plan(vec![sealing(&sink)]), Duration::ZERO).await.unwrap();
    until("some batches are sealed", || sink.objects().len() > 5).await;
    backlog.dispatcher.stop(Duration::from_secs(5)).await;
    let sealed = sink.objects();
    backlog.dispatcher = open(backlog.folder.path(), nobody()).0;
    backlog.spoil(1);
    sink.answers(good);
    backlog.dispatcher.reload(plan(vec![sealing(&sink)]), Duration::ZERO).await.unwrap();
    let lane = || snapshot(&backlog.dispatcher, "archive");
    until("later ones are delivered", || lane().delivered > 2000).await;
    assert!(lane().now.unreadable.is_some());

    backlog.mend(1);
    until_idle(&backlog.dispatcher).await;
    assert_eq!((lane().delivered, lane().died), (PUSHES as u64, 0));
    let objects = sink.objects();
    each_once(&objects, PUSHES);
    assert!(sealed.iter().all(|(key, sessions)| objects[key] == *sessions));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_back_at_a_time_has_a_bound_in_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &Told::new())]));
    let mut positions = Vec::new();
    for session in ["a", "b", "c"] {
        positions.push(push(&dispatcher, session).await);
    }
    let pushes = dispatcher.pushes();
    assert_eq!(pushes.get(positions.clone(), 1).await.len(), 1, "one at least");
    assert_eq!(pushes.get(positions, usize::MAX).await.len(), 3);
}
