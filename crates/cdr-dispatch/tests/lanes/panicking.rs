//! Sinks that panic wherever they are asked something.

use std::sync::atomic::AtomicBool;

use cdr_core::{Partition, Push};

use super::*;

/// A sink that panics when asked for the partition of a poison push, or when asked anything else.
struct Panicking {
    told: Arc<Told>,
    in_partition: bool,
    in_the_rest: bool,
}

impl Sink for Panicking {
    fn partition(&self, push: &Push) -> Partition {
        let is_poison = push.session_id().is_some_and(|id| id.starts_with("poison"));
        assert!(!(self.in_partition && is_poison), "on purpose");
        Partition::ONE
    }

    fn quiet(&self) -> Option<Duration> {
        assert!(!self.in_the_rest, "on purpose");
        None
    }

    fn most_an_hour(&self, _partition: &Partition) -> Option<usize> {
        assert!(!self.in_the_rest, "on purpose");
        None
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        self.told.batches.lock().unwrap().push(batch.deliveries().iter().map(session).collect());
        good(batch).with_memo("noted")
    }
}

fn panicking(told: &Arc<Told>, in_partition: bool, in_the_rest: bool) -> LanePlan {
    let sink = Arc::new(Panicking { told: Arc::clone(told), in_partition, in_the_rest });
    LanePlan { sink, ..lane("sink", told) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_partition_panics_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let told = Told::new();
    let mut planned = panicking(&told, true, false);
    planned.retry.give_up_after = Some(Duration::from_millis(300));
    let (dispatcher, _events) = open(folder.path(), plan(vec![planned]));
    for session in ["a", "poison", "b", "c"] {
        push(&dispatcher, session).await;
    }
    until("it is given up", || snapshot(&dispatcher, "sink").died == 1).await;
    until_idle(&dispatcher).await;
    assert_eq!(snapshot(&dispatcher, "sink").delivered, 3);
    let dead = dispatcher.dead_letters("sink", Position(0), 10).await.unwrap();
    assert!(dead[0].attempts > 1 && dead[0].reason.contains("on purpose"), "{dead:?}");
    assert!(!snapshot(&dispatcher, "sink").now.last_failure.contains("lane panicked"));
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_can_look_at_no_push_waits_paused_for_its_repair() {
    let folder = tempfile::tempdir().unwrap();
    let told = Told::new();
    let mut planned = panicking(&told, true, false);
    planned.retry.give_up_after = Some(Duration::from_millis(300));
    let (dispatcher, _events) = open(folder.path(), plan(vec![planned]));
    for number in 0..8 {
        push(&dispatcher, &format!("poison-{number}")).await;
    }
    until("it is paused", || snapshot(&dispatcher, "sink").now.paused.is_some()).await;
    dispatcher.reload(plan(vec![panicking(&told, false, false)]), Duration::from_secs(5)).await.unwrap();
    until_idle(&dispatcher).await;
    let lane = snapshot(&dispatcher, "sink");
    assert_eq!((lane.delivered, lane.died), (8, 0));
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_whose_partition_panics_keep_no_lane_paused() {
    let folder = tempfile::tempdir().unwrap();
    let told = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![panicking(&told, true, false)]));
    for number in 0..8 {
        push(&dispatcher, &format!("poison-{number}")).await;
    }
    until("it is paused", || snapshot(&dispatcher, "sink").now.paused.is_some()).await;
    push(&dispatcher, "a").await;
    until("a probe goes out", || snapshot(&dispatcher, "sink").delivered == 1).await;
    until("it runs again", || snapshot(&dispatcher, "sink").now.paused.is_none()).await;
    until("nothing else is owed", || snapshot(&dispatcher, "sink").now.open == 8).await;
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_panics_when_asked_about_partitions_gets_its_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let told = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![panicking(&told, false, true)]));
    for number in 0..5 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    dispatcher.reload(plan(vec![panicking(&told, false, true)]), Duration::from_secs(5)).await.unwrap();
    push(&dispatcher, "s5").await;
    until_idle(&dispatcher).await;
    assert_eq!(told.batches().len(), 6, "each once");
    assert_eq!(snapshot(&dispatcher, "sink").now.last_failure, "");
    dispatcher.stop(Duration::from_secs(5)).await;
}

/// Hangs, and panics when it is cut off.
struct Clings(AtomicBool);

struct Grip;

impl Drop for Grip {
    fn drop(&mut self) {
        panic!("will not let go, on purpose");
    }
}

impl Sink for Clings {
    async fn deliver(&self, batch: &Batch) -> Report {
        if self.0.swap(false, Ordering::SeqCst) {
            let _grip = Grip;
            std::future::pending::<()>().await;
        }
        good(batch)
    }
}

#[tokio::test]
async fn a_sink_that_panics_when_it_is_cut_off_costs_a_retry() {
    let folder = tempfile::tempdir().unwrap();
    let clings = LanePlan { sink: Arc::new(Clings(true.into())), ..lane("sink", &Told::new()) };
    let (dispatcher, _events) = open(folder.path(), plan(vec![clings]));
    push(&dispatcher, "s").await;
    until("it is under way", || snapshot(&dispatcher, "sink").now.trying == 1).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(121)).await;
    tokio::time::resume();
    until("it is delivered", || snapshot(&dispatcher, "sink").delivered == 1).await;
    let last_failure = snapshot(&dispatcher, "sink").now.last_failure;
    assert!(last_failure.starts_with("the sink panicked: will not let go"), "{last_failure}");
    dispatcher.stop(Duration::from_secs(5)).await;
}

/// Panics when a reload drops it.
struct Leaves(Arc<Told>);

impl Drop for Leaves {
    fn drop(&mut self) {
        panic!("will not leave, on purpose");
    }
}

impl Sink for Leaves {
    async fn deliver(&self, batch: &Batch) -> Report {
        let answer = self.0.answer.lock().unwrap();
        answer(batch)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_panics_when_it_is_replaced_does_not_end_its_lane() {
    let folder = tempfile::tempdir().unwrap();
    let told = Told::new();
    told.answers(away);
    let leaves = LanePlan { sink: Arc::new(Leaves(Arc::clone(&told))), ..lane("sink", &told) };
    let (dispatcher, _events) = open(folder.path(), plan(vec![leaves]));
    for number in 0..5 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until("it is away", || snapshot(&dispatcher, "sink").now.paused.is_some()).await;
    told.answers(good);
    dispatcher.reload(plan(vec![lane("sink", &told)]), Duration::from_secs(5)).await.unwrap();
    until_idle(&dispatcher).await;
    push(&dispatcher, "s5").await;
    until_idle(&dispatcher).await;
    assert_eq!(snapshot(&dispatcher, "sink").delivered, 6);
    dispatcher.stop(Duration::from_secs(5)).await;
}
