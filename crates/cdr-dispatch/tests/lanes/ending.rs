//! What a person decides is answered in time, however long the disk takes: here it is moved away, or hangs.

use std::{fs, path::PathBuf, sync::mpsc as blocking};

use cdr_dispatch::{ErrandState, ReloadError, RenameError, ReplayError, RetireError, Wish};

use super::*;

const GRACE: Duration = Duration::from_secs(60);

/// A spool that can be taken away.
struct Disk {
    _folder: tempfile::TempDir,
    here: PathBuf,
    elsewhere: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (here, elsewhere) = (folder.path().join("spool"), folder.path().join("elsewhere"));
        fs::create_dir(&here).unwrap();
        Self { _folder: folder, here, elsewhere }
    }

    fn is_gone(&self) {
        fs::rename(&self.here, &self.elsewhere).unwrap();
        tokio::time::pause();
    }

    fn is_back(&self) {
        tokio::time::resume();
        fs::rename(&self.elsewhere, &self.here).unwrap();
    }
}

/// Bytes of which the spool's writer cannot let go, as if it hung in a write to its disk.
struct Hanging {
    bytes: Vec<u8>,
    hangs: mpsc::UnboundedSender<()>,
    goes_on: blocking::Receiver<()>,
}

impl AsRef<[u8]> for Hanging {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = self.hangs.send(());
        let _ = self.goes_on.recv();
    }
}

/// Lets the spool's writer hang until what is given is dropped. The push must be there already: as a repeat it is dropped by
/// the writer.
async fn hang(dispatcher: &Dispatcher, session: &str) -> blocking::Sender<()> {
    let (go_on, goes_on) = blocking::channel();
    let (hangs, mut hung) = mpsc::unbounded_channel();
    let Incoming { facts, body, .. } = incoming(session);
    let body = Bytes::from_owner(Hanging { bytes: body.to_vec(), hangs, goes_on });
    drop(dispatcher.store(Incoming::read(facts, body).unwrap()));
    hung.recv().await.unwrap();
    tokio::time::pause();
    go_on
}

fn let_go(hanging: blocking::Sender<()>) {
    tokio::time::resume();
    drop(hanging);
}

fn said(error: impl std::error::Error) -> String {
    error.to_string()
}

/// Takes a push when it is let go.
struct Slowly(Arc<Semaphore>);

impl Sink for Slowly {
    async fn deliver(&self, batch: &Batch) -> Report {
        self.0.acquire().await.unwrap().forget();
        good(batch)
    }
}

fn slowly(gate: &Arc<Semaphore>) -> LanePlan {
    LanePlan { sink: Arc::new(Slowly(Arc::clone(gate))), ..lane("sink", &Told::new()) }
}

#[tokio::test]
async fn nothing_is_decided_about_a_lane_whose_last_outcome_the_disk_does_not_take() {
    let disk = Disk::new();
    let gate = Arc::new(Semaphore::new(0));
    let other = || lane("other", &Told::new());
    let (dispatcher, _events) = open(&disk.here, plan(vec![slowly(&gate), other()]));
    push(&dispatcher, "s").await;
    until("it is under way", || snapshot(&dispatcher, "sink").now.trying == 1).await;
    until("the other has it", || snapshot(&dispatcher, "other").delivered == 1).await;
    dispatcher.reload(plan(vec![other()]), GRACE).await.unwrap();
    disk.is_gone();
    gate.add_permits(1);

    let said = dispatcher.retire("sink").await.unwrap_err();
    assert!(matches!(&said, RetireError::Ending(still) if still.lane == "sink"), "{said:?}");
    assert!(said.to_string().contains("nothing was decided"), "{said}");
    assert!(matches!(dispatcher.rename("sink", "new").await, Err(RenameError::Ending(_))));
    let back = dispatcher.reload(plan(vec![slowly(&gate), other()]), GRACE).await;
    assert!(matches!(back, Err(ReloadError::Ending(_))), "{back:?}");
    assert_eq!(dispatcher.lanes().len(), 1, "it is not driven twice");

    disk.is_back();
    dispatcher.reload(plan(vec![slowly(&gate), other()]), GRACE).await.unwrap();
    until_idle(&dispatcher).await;
    assert_eq!(gate.available_permits(), 0, "what it took is not sent again");
    dispatcher.reload(plan(vec![other()]), GRACE).await.unwrap();
    dispatcher.retire("sink").await.unwrap();
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_replay_whose_last_outcome_the_disk_does_not_take_is_cancelled_when_it_does() {
    let disk = Disk::new();
    let gate = Arc::new(Semaphore::new(2));
    let (dispatcher, _events) = open(&disk.here, plan(vec![slowly(&gate)]));
    push(&dispatcher, "s0").await;
    push(&dispatcher, "s1").await;
    until_idle(&dispatcher).await;
    let number = dispatcher.begin_replay("sink", Wish::default()).await.unwrap();
    let is_under_way = || dispatcher.errands()[0].did.as_ref().is_some_and(|did| did.now.trying == 1);
    until("it is under way", is_under_way).await;
    disk.is_gone();
    gate.add_permits(1);
    let said = dispatcher.cancel_replay(number).await.unwrap_err();
    assert!(matches!(said, ReplayError::Ending(told) if told == number), "{said:?}");

    disk.is_back();
    until("it is cancelled", || dispatcher.errands()[0].state == ErrandState::Cancelled).await;
    until("its lane is gone", || dispatcher.pushes().spool().lanes().len() == 1).await;
    assert!(matches!(dispatcher.cancel_replay(number).await, Err(ReplayError::Unknown(_))));
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_rename_that_the_disk_takes_late_is_driven_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Told::new(), Told::new());
    old.answers(away);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("old", &old)]));
    push(&dispatcher, "owed").await;
    let now = LanePlan { start: cdr_spool::Start::Now, ..lane("new", &new) };
    dispatcher.reload(plan(vec![now]), GRACE).await.unwrap();
    push(&dispatcher, "fresh").await;
    until_idle(&dispatcher).await;

    let hanging = hang(&dispatcher, "fresh").await;
    let late = said(dispatcher.rename("old", "new").await.unwrap_err());
    assert!(late.contains("happens as soon as it does"), "{late}");
    let beside = said(dispatcher.retire("old").await.unwrap_err());
    assert!(beside.contains("nothing was decided"), "{beside}");
    assert_eq!(dispatcher.parked().len(), 1);

    let_go(hanging);
    until("what was owed is delivered", || new.attempts_on("owed") == 1).await;
    until("the errand is over", || dispatcher.pushes().spool().lanes().len() == 1).await;
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_replay_that_the_disk_takes_late_runs() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    push(&dispatcher, "s").await;
    until_idle(&dispatcher).await;
    let hanging = hang(&dispatcher, "s").await;
    let late = said(dispatcher.begin_replay("sink", Wish::default()).await.unwrap_err());
    assert!(late.contains("happens as soon as it does"), "{late}");
    let_go(hanging);
    until("it is over", || {
        dispatcher.errands().first().is_some_and(|errand| errand.state == ErrandState::Ended)
    })
    .await;
    assert_eq!(sink.attempts_on("s"), 2);
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_reload_that_the_disk_does_not_take_in_time_leaves_no_lane_behind() {
    let folder = tempfile::tempdir().unwrap();
    let old = || lane("old", &Told::new());
    let (dispatcher, _events) = open(folder.path(), plan(vec![old()]));
    push(&dispatcher, "s").await;
    until_idle(&dispatcher).await;
    let hanging = hang(&dispatcher, "s").await;
    let late =
        said(dispatcher.reload(plan(vec![old(), lane("new", &Told::new())]), GRACE).await.unwrap_err());
    assert!(late.contains("nothing changed"), "{late}");
    let_go(hanging);
    dispatcher.reload(plan(vec![old()]), GRACE).await.unwrap();
    let lanes: Vec<String> = dispatcher.pushes().spool().lanes().into_iter().map(|(lane, _)| lane).collect();
    assert_eq!(lanes, ["old"]);
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_replay_that_is_cancelled_while_the_disk_hangs_does_not_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    push(&dispatcher, "s").await;
    until_idle(&dispatcher).await;
    sink.answers(away);
    let number = dispatcher.begin_replay("sink", Wish::default()).await.unwrap();
    let is_away = || dispatcher.errands()[0].did.as_ref().is_some_and(|did| did.now.paused.is_some());
    until("its sink is away", is_away).await;
    let hanging = hang(&dispatcher, "s").await;
    for _ in 0..2 {
        let late = dispatcher.cancel_replay(number).await.unwrap_err();
        assert!(matches!(late, ReplayError::Ending(told) if told == number), "{late:?}");
    }
    assert_eq!(dispatcher.errands()[0].state, ErrandState::Ending, "the disk has not taken it");
    let_go(hanging);
    until("it is cancelled", || dispatcher.errands()[0].state == ErrandState::Cancelled).await;
    assert_eq!(dispatcher.pushes().spool().lanes().len(), 1, "its lane is gone");
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_stop_tells_the_lanes_before_it_waits_for_who_holds_them() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![slowly(&gate), lane("other", &sink)]));
    push(&dispatcher, "s").await;
    until("it is under way", || snapshot(&dispatcher, "sink").now.trying == 1).await;
    dispatcher.reload(plan(vec![lane("other", &sink)]), GRACE).await.unwrap();
    let (held, stopped) = (Arc::clone(&dispatcher), Arc::clone(&dispatcher));
    let retiring = tokio::spawn(async move { held.retire("sink").await });
    tokio::task::yield_now().await;
    let stopping = tokio::spawn(async move { stopped.stop(GRACE).await });
    // A lane that has ended has let go of its sink.
    until("the other lane has ended", || Arc::strong_count(&sink) == 1).await;
    assert!(!retiring.is_finished() && !stopping.is_finished());
    gate.add_permits(1);
    retiring.await.unwrap().unwrap();
    stopping.await.unwrap();
}
