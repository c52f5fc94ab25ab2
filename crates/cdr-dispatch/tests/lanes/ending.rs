//! What a person decides is answered in time, however long the disk takes: here it is moved away.

use std::{fs, path::PathBuf};

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
