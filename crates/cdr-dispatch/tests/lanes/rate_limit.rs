//! `rate_limit`: a lane is held to it, and to nothing else.

use std::{sync::Mutex, time::Duration};

use super::*;

/// When something was tried.
#[derive(Default)]
struct Tries(Mutex<Vec<Instant>>);

impl Tries {
    fn note(&self) {
        self.0.lock().unwrap().push(Instant::now());
    }

    /// From the first try to the last. The first may be noted late on a busy machine, so tests ask for half of what
    /// the rate means; without it there would be next to nothing. The arithmetic has tests of its own.
    fn span(&self) -> Duration {
        let tries = self.0.lock().unwrap();
        *tries.last().unwrap() - *tries.first().unwrap()
    }
}

fn limited(sink: &Arc<Told>, rate: &str) -> LanePlan {
    LanePlan { rate_limit: Some(rate.parse().unwrap()), ..lane("sink", sink) }
}

fn noting(sink: &Told, answer: impl Fn(&Batch) -> Report + Send + Sync + 'static) -> Arc<Tries> {
    let tries = Arc::new(Tries::default());
    let noted = Arc::clone(&tries);
    sink.answers(move |batch| {
        noted.note();
        answer(batch)
    });
    tries
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_is_not_faster_than_its_rate_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let tries = noting(&sink, good);
    let (dispatcher, _events) = open(folder.path(), plan(vec![limited(&sink, "50/s")]));
    for number in 0..30 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until("it is held back", || snapshot(&dispatcher, "sink").now.held_back.since.is_some()).await;
    until_idle(&dispatcher).await;
    assert_eq!(sink.batches().len(), 30);
    // Five of them (a tenth of a second's) may go at once; each of the others 20 ms after the one before.
    assert!(tries.span() >= Duration::from_millis(25 * 20 / 2), "{:?}", tries.span());
    let held = snapshot(&dispatcher, "sink").now.held_back;
    assert!(held.since.is_none() && held.total() > Duration::ZERO, "{held:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_count_too() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let tries =
        noting(&sink, |batch| if session(batch.first()) == "poison" { fails(batch) } else { good(batch) });
    let mut hasty = limited(&sink, "10/s");
    hasty.retry = RetryPolicy { initial: Duration::from_millis(1), max: Duration::from_millis(1), ..QUICK };
    let (dispatcher, _events) = open(folder.path(), plan(vec![hasty]));
    push(&dispatcher, "poison").await;
    until("it is retried", || sink.attempts_on("poison") >= 5).await;
    assert!(tries.span() >= Duration::from_millis(4 * 100 / 2), "{:?}", tries.span());
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_count_too() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let tries = noting(&sink, away);
    let mut hasty = limited(&sink, "10/s");
    hasty.retry = RetryPolicy { initial: Duration::from_millis(1), max: Duration::from_millis(1), ..QUICK };
    let (dispatcher, _events) = open(folder.path(), plan(vec![hasty]));
    push(&dispatcher, "one").await;
    until("it is probed", || sink.attempts_on("one") >= 5).await;
    assert!(tries.span() >= Duration::from_millis(4 * 100 / 2), "{:?}", tries.span());
    sink.answers(good);
    until_idle(&dispatcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_counts_by_its_pushes_and_passes_though_it_is_larger_than_the_rate() {
    let folder = tempfile::tempdir().unwrap();
    let batching = Batching { pushes: 20, wait: Duration::from_secs(60), ..Batching::single() };
    let sink = Told::batching(batching);
    let tries = noting(&sink, good);
    let (dispatcher, _events) = open(folder.path(), plan(vec![limited(&sink, "50/s")]));
    for number in 0..40 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    assert_eq!(sink.batches().iter().map(Vec::len).collect::<Vec<_>>(), [20, 20]);
    // 400 ms for the first batch, less the tenth of a second that may come early.
    assert!(tries.span() >= Duration::from_millis(300 / 2), "{:?}", tries.span());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_lane_hears_a_reload_at_once_and_goes_by_the_new_rate() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![limited(&sink, "1/h")]));
    for number in 0..10 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until("the first passed", || snapshot(&dispatcher, "sink").delivered == 1).await;
    until("the others wait", || snapshot(&dispatcher, "sink").now.held_back.since.is_some()).await;
    dispatcher.reload(plan(vec![limited(&sink, "1000/s")]), Duration::from_secs(5)).await.unwrap();
    until_idle(&dispatcher).await;
    assert_eq!(snapshot(&dispatcher, "sink").delivered, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_keeps_the_rate_is_no_way_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![limited(&sink, "1/h")]));
    push(&dispatcher, "first").await;
    push(&dispatcher, "second").await;
    until("the second waits", || snapshot(&dispatcher, "sink").now.held_back.since.is_some()).await;
    let mut other = limited(&sink, "1/h");
    other.concurrency = 2;
    dispatcher.reload(plan(vec![other]), Duration::from_secs(5)).await.unwrap();
    push(&dispatcher, "third").await;
    until("the third is read", || snapshot(&dispatcher, "sink").now.open == 2).await;
    assert_eq!(sink.batches().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_without_pushes_holds_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![limited(&sink, "1/h")]));
    push(&dispatcher, "only").await;
    until_idle(&dispatcher).await;
    let held = snapshot(&dispatcher, "sink").now.held_back;
    assert_eq!((held.since, held.total()), (None, Duration::ZERO));
}
