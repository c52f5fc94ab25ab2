//! Pushes that share a batch: one that is refused does not take the others along.

use super::*;

const TEN: Batching =
    Batching { pushes: 10, bytes: 1 << 20, wait: Duration::from_millis(20), spacing: Duration::ZERO };

fn holds_poison(batch: &Batch) -> bool {
    batch.deliveries().iter().any(|delivery| session(delivery).starts_with("poison"))
}

/// A lane that gives up soon, whose sink answers so to every batch with a poison push in it.
async fn with_poison(folder: &Path, batching: Batching, answer: fn(&Batch) -> Report) -> Arc<Told> {
    let sink = Told::batching(batching);
    sink.answers(move |batch| if holds_poison(batch) { answer(batch) } else { good(batch) });
    let mut impatient = lane("sink", &sink);
    impatient.retry.give_up_after = Some(Duration::from_millis(1500));
    let (dispatcher, _events) = open(folder, plan(vec![impatient]));
    let sessions = (0..60).map(|n| if n % 30 == 7 { format!("poison-{n}") } else { format!("s{n}") });
    let pushes: Vec<_> = sessions.collect();
    let storing = pushes.iter().map(|session| push(&dispatcher, session));
    futures_util::future::join_all(storing).await;
    until("the others passed", || snapshot(&dispatcher, "sink").delivered == 58).await;
    until("the poison is given up by itself", || snapshot(&dispatcher, "sink").died == 2).await;
    until_idle(&dispatcher).await;
    let dead = dispatcher.dead_letters("sink", Position(0), 100).await.unwrap();
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert!(snapshot(&dispatcher, "sink").now.paused.is_none());
    dispatcher.stop(Duration::from_secs(5)).await;
    sink
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_for_which_a_batch_is_called_away_ends_alone() {
    let folder = tempfile::tempdir().unwrap();
    let sink = with_poison(folder.path(), TEN, away).await;
    let with_others = sink.batches().into_iter().filter(|batch| batch.len() > 1);
    let with_poison = with_others.filter(|batch| batch.iter().any(|id| id.starts_with("poison"))).count();
    assert!(with_poison <= 4, "twice in company each, then alone: {with_poison}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_for_which_a_batch_fails_ends_alone() {
    let folder = tempfile::tempdir().unwrap();
    with_poison(folder.path(), TEN, fails).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_does_not_part_what_it_met() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::batching(TEN);
    sink.answers(away);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    let sessions: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
    futures_util::future::join_all(sessions.iter().map(|session| push(&dispatcher, session))).await;
    until("probed for a while", || sink.batches().len() >= 10).await;
    let before = sink.batches().len();
    sink.answers(good);
    until_idle(&dispatcher).await;
    // A probe may have begun before it was told to be good.
    let after = sink.batches().len() - before;
    assert!(after < 20, "{after} attempts for 100 pushes in tens");
}

#[tokio::test(flavor = "multi_thread")]
async fn spaced_batches_stay_whole_when_they_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let spaced = Batching { spacing: Duration::from_millis(30), pushes: 100, ..TEN };
    let sink = Told::batching(spaced);
    sink.answers(|batch| if holds_poison(batch) { away(batch) } else { good(batch) });
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    for session in ["poison", "s1", "s2"] {
        push(&dispatcher, session).await;
    }
    until("it is refused, the others pass as probes", || sink.attempts_on("poison") > 3).await;
    sink.answers(good);
    until_idle(&dispatcher).await;
    assert_eq!(snapshot(&dispatcher, "sink").delivered, 3);
}
