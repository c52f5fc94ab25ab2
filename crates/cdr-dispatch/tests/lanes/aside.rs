//! A long backlog goes beside the fresh pushes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cdr_dispatch::{Errand, ErrandState};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::{
    sealed::{Sealing, sealing},
    *,
};

const GRACE: Duration = Duration::from_secs(5);

/// More than a lane works off in order, and than memory holds.
const BACKLOG: usize = 6000;

/// Beyond what a lane reads before it knows that its sink is back.
const GATED: usize = 2000;

/// Away until it is told, and then passes what is gated only with a permit.
struct Gated {
    is_back: AtomicBool,
    gate: Semaphore,
    passed: Mutex<Vec<usize>>,
    /// The push that it refuses, while there is one.
    refused: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl Gated {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            is_back: AtomicBool::new(false),
            gate: Semaphore::new(0),
            passed: Mutex::default(),
            refused: AtomicUsize::new(usize::MAX),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        })
    }

    fn passed(&self) -> Vec<usize> {
        self.passed.lock().unwrap().clone()
    }

    fn has_passed(&self, number: usize) -> bool {
        self.passed().contains(&number)
    }
}

struct Gate(Arc<Gated>);

impl Sink for Gate {
    async fn deliver(&self, batch: &Batch) -> Report {
        if !self.0.is_back.load(Ordering::SeqCst) {
            return away(batch);
        }
        let number: usize = session(batch.first())[1..].parse().unwrap();
        let under_way = 1 + self.0.under_way.fetch_add(1, Ordering::SeqCst);
        self.0.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        if (GATED..BACKLOG).contains(&number) {
            self.0.gate.acquire().await.unwrap().forget();
        } else {
            tokio::task::yield_now().await;
        }
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        if number == self.0.refused.load(Ordering::SeqCst) {
            return Report::all(batch, &Outcome::Reject(Failure::new("it answered 422")));
        }
        self.0.passed.lock().unwrap().push(number);
        good(batch)
    }
}

fn gated(sink: &Arc<Gated>, concurrency: usize) -> Plan {
    let told = Told::new();
    plan(vec![LanePlan { sink: Arc::new(Gate(Arc::clone(sink))), concurrency, ..lane("sink", &told) }])
}

async fn push_all(dispatcher: &Dispatcher, numbers: std::ops::Range<usize>) {
    let storing = numbers.map(|number| dispatcher.store(incoming(&format!("s{number}"))));
    join_all(storing).await.into_iter().for_each(|stored| assert!(stored.is_ok()));
}

fn under_way(dispatcher: &Dispatcher) -> usize {
    let is_it = |errand: &&cdr_dispatch::ErrandNow| {
        errand.is_under_way() && matches!(errand.errand.as_deref(), Some(Errand::SetAside))
    };
    dispatcher.errands().iter().filter(is_it).count()
}

/// A spool whose sink is back after a long outage, with a fresh push behind the backlog.
async fn back_after_an_outage(folder: &Path, sink: &Arc<Gated>) -> Arc<Dispatcher> {
    let (dispatcher, _events) = open(folder, gated(sink, 2));
    push_all(&dispatcher, 0..BACKLOG).await;
    until("it is away", || snapshot(&dispatcher, "sink").now.paused.is_some()).await;
    sink.is_back.store(true, Ordering::SeqCst);
    until("the backlog is set aside", || under_way(&dispatcher) == 1).await;
    push_all(&dispatcher, BACKLOG..BACKLOG + 1).await;
    dispatcher
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_back_gets_fresh_pushes_before_its_backlog_and_the_backlog_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Gated::new();
    let dispatcher = back_after_an_outage(folder.path(), &sink).await;
    until("the fresh push is there", || sink.has_passed(BACKLOG)).await;
    assert!(!sink.has_passed(GATED), "nothing behind the gate has passed");
    let owed = || dispatcher.errands().iter().map(|errand| errand.unread() + errand.open as u64).sum::<u64>();
    assert!(owed() as usize >= BACKLOG - GATED, "what waits is told: {}", owed());

    sink.gate.add_permits(BACKLOG);
    until("all is delivered", || sink.passed().len() > BACKLOG).await;
    until("the errand is over", || dispatcher.errands()[0].state == ErrandState::Ended).await;
    let passed = sink.passed();
    let behind: Vec<usize> = passed.iter().copied().filter(|n| (GATED..BACKLOG).contains(n)).collect();
    assert!(behind.is_sorted(), "the backlog kept its order");
    assert_eq!(sink.most_under_way.load(Ordering::SeqCst), 2, "both kept to the concurrency together");
    let mut all = passed;
    all.sort();
    assert_eq!(all, (0..=BACKLOG).collect::<Vec<_>>(), "each once");
    assert_eq!(snapshot(&dispatcher, "sink").delivered as usize, BACKLOG + 1, "and counted as the sink's");
    until("its lane is gone", || dispatcher.pushes().spool().lanes().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_goes_on_after_a_restart_and_nothing_is_lost_or_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Gated::new();
    let dispatcher = back_after_an_outage(folder.path(), &sink).await;
    sink.gate.add_permits(500);
    until("some of it is delivered", || sink.has_passed(GATED + 400)).await;
    dispatcher.stop(Duration::from_millis(200)).await;
    drop(dispatcher);

    let (dispatcher, _events) = open(folder.path(), gated(&sink, 2));
    sink.gate.add_permits(BACKLOG);
    until("all is delivered", || sink.passed().len() > BACKLOG).await;
    until("nothing is set aside", || under_way(&dispatcher) == 0).await;
    let mut all = sink.passed();
    all.sort();
    assert_eq!(all, (0..=BACKLOG).collect::<Vec<_>>());
    dispatcher.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_outage_sets_nothing_aside_while_the_first_backlog_is_not_through() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Gated::new();
    let dispatcher = back_after_an_outage(folder.path(), &sink).await;
    until("the fresh push is there", || sink.has_passed(BACKLOG)).await;
    sink.is_back.store(false, Ordering::SeqCst);
    let end = BACKLOG + 1 + BACKLOG;
    push_all(&dispatcher, BACKLOG + 1..end).await;
    until("it is away again", || snapshot(&dispatcher, "sink").now.paused.is_some()).await;
    sink.is_back.store(true, Ordering::SeqCst);
    until("what came meanwhile is there", || sink.has_passed(end - 1)).await;
    assert_eq!(under_way(&dispatcher), 1);
    sink.gate.add_permits(BACKLOG);
    until("all is delivered", || sink.passed().len() >= end).await;
    let mut all = sink.passed();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), end);
    dispatcher.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_takes_one_push_at_a_time_gets_all_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Gated::new();
    sink.gate.add_permits(BACKLOG);
    let (dispatcher, _events) = open(folder.path(), gated(&sink, 1));
    push_all(&dispatcher, 0..BACKLOG).await;
    until("it is away", || snapshot(&dispatcher, "sink").now.paused.is_some()).await;
    sink.is_back.store(true, Ordering::SeqCst);
    until_idle(&dispatcher).await;
    assert!(dispatcher.errands().is_empty());
    assert_eq!(sink.passed().len(), BACKLOG);
    assert!(sink.passed()[GATED..].is_sorted());
    dispatcher.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fresh_and_what_is_set_aside_take_turns_when_one_attempt_is_left_to_both() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Gated::new();
    let dispatcher = back_after_an_outage(folder.path(), &sink).await;
    until("the fresh push is there", || sink.has_passed(BACKLOG)).await;
    dispatcher.reload(gated(&sink, 1), GRACE).await.unwrap();
    push_all(&dispatcher, BACKLOG + 1..BACKLOG + 200).await;
    let before = sink.passed().len();
    sink.gate.add_permits(BACKLOG);
    until("all is delivered", || sink.passed().len() >= BACKLOG + 200).await;
    let is_fresh: Vec<bool> = sink.passed()[before..].iter().map(|number| *number >= BACKLOG).collect();
    let last_fresh = is_fresh.iter().rposition(|is_fresh| *is_fresh).unwrap();
    let aside = is_fresh[..last_fresh].iter().filter(|is_fresh| !**is_fresh).count();
    assert!((150..1000).contains(&aside), "{aside} of what was set aside went beside 199 fresh ones");
    dispatcher.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_long_backlog_keeps_to_the_concurrency_while_it_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Gated::new();
    let (dispatcher, _events) = open(folder.path(), gated(&sink, 5));
    push_all(&dispatcher, 0..BACKLOG).await;
    dispatcher.stop(GRACE).await;
    drop(dispatcher);

    sink.is_back.store(true, Ordering::SeqCst);
    sink.gate.add_permits(BACKLOG);
    let (dispatcher, _events) = open(folder.path(), gated(&sink, 5));
    until("the backlog is set aside", || under_way(&dispatcher) == 1).await;
    push_all(&dispatcher, BACKLOG..BACKLOG + 300).await;
    until("all is delivered", || sink.passed().len() >= BACKLOG + 300).await;
    assert_eq!(sink.most_under_way.load(Ordering::SeqCst), 5);
    dispatcher.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_what_was_set_aside_are_the_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Gated::new();
    sink.refused.store(GATED + 1000, Ordering::SeqCst);
    let dispatcher = back_after_an_outage(folder.path(), &sink).await;
    sink.gate.add_permits(BACKLOG);
    until("all else is delivered", || sink.passed().len() == BACKLOG).await;
    until("it rests", || dispatcher.errands()[0].state == ErrandState::Rests).await;
    let letters = dispatcher.dead_letters("sink", Position(0), 9).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].lane.as_str(), letters[0].reason.as_str()), ("sink", "it answered 422"));

    sink.refused.store(usize::MAX, Ordering::SeqCst);
    let number = Position(letters[0].position.0);
    assert_eq!(dispatcher.retry_dead("sink", &[number]).await.unwrap(), [number]);
    until("it is delivered", || sink.has_passed(GATED + 1000)).await;
    until("the errand is over", || dispatcher.errands()[0].state == ErrandState::Ended).await;
    assert!(dispatcher.dead_letters("sink", Position(0), 9).await.unwrap().is_empty());
    assert!(dispatcher.discard_dead("sink", &[number]).await.unwrap().is_empty());
    dispatcher.stop(GRACE).await;
}

fn renamed(sink: &Arc<Gated>) -> Plan {
    let told = Told::new();
    let (sink, start) = (Arc::new(Gate(Arc::clone(sink))), cdr_spool::Start::Now);
    plan(vec![LanePlan { sink, concurrency: 2, start, ..lane("new", &told) }])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_follows_its_sink_to_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Gated::new();
    let dispatcher = back_after_an_outage(folder.path(), &sink).await;
    until("the fresh push is there", || sink.has_passed(BACKLOG)).await;
    dispatcher.reload(renamed(&sink), Duration::from_millis(100)).await.unwrap();
    let parked = dispatcher.parked();
    assert_eq!(parked.len(), 2, "{parked:?}");
    assert_eq!(parked[1].set_aside_of.as_deref(), Some("sink"));
    let lanes = dispatcher.rename("sink", "new").await.unwrap();
    assert_eq!(lanes, ["new~0", "new~1"]);
    sink.gate.add_permits(BACKLOG);
    until("all is delivered", || sink.passed().len() > BACKLOG).await;
    until("nothing is left of it", || dispatcher.pushes().spool().lanes().len() == 1).await;
    let mut all = sink.passed();
    all.sort();
    all.dedup();
    assert_eq!(all, (0..=BACKLOG).collect::<Vec<_>>());
    dispatcher.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_retired_takes_along_what_was_set_aside_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Gated::new();
    let dispatcher = back_after_an_outage(folder.path(), &sink).await;
    assert!(dispatcher.retire("sink").await.is_err(), "it is configured");
    dispatcher.reload(renamed(&sink), Duration::from_millis(100)).await.unwrap();
    dispatcher.retire("sink").await.unwrap();
    assert!(dispatcher.parked().is_empty());
    let left: Vec<String> = dispatcher.pushes().spool().lanes().into_iter().map(|(lane, _)| lane).collect();
    assert_eq!(left, ["new"]);
    dispatcher.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_seals_gets_all_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sealing::new("a", away);
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&sink)]));
    push_all(&dispatcher, 0..BACKLOG).await;
    until("it is away", || snapshot(&dispatcher, "archive").now.paused.is_some()).await;
    sink.answers(good);
    until_idle(&dispatcher).await;
    assert!(dispatcher.errands().is_empty());
    assert_eq!(sink.objects().values().map(Vec::len).sum::<usize>(), BACKLOG);
    dispatcher.stop(GRACE).await;
}
