//! What a sink notes about a partition comes back, is closed once, and bounds what leaves in an hour.

use std::borrow::Cow;

use cdr_core::Partition;
use futures_util::future::join_all;

use super::*;

/// A sink that counts in its memo how many pushes of a partition it was given, and notes what it is asked to close.
struct Counting {
    spacing: Duration,
    quiet: Duration,
    most_an_hour: Option<usize>,
    /// The count before each batch, and what was in it.
    batches: Mutex<Vec<(u64, Vec<String>, bool)>>,
    closed: Mutex<Vec<(String, u64)>>,
    closing_fails: AtomicUsize,
}

impl Counting {
    fn new(spacing_ms: u64, quiet_ms: u64) -> Self {
        Self {
            spacing: Duration::from_millis(spacing_ms),
            quiet: Duration::from_millis(quiet_ms),
            most_an_hour: None,
            batches: Mutex::default(),
            closed: Mutex::default(),
            closing_fails: AtomicUsize::new(0),
        }
    }

    fn batches(&self) -> Vec<(u64, Vec<String>, bool)> {
        self.batches.lock().unwrap().clone()
    }

    fn closed(&self) -> Vec<(String, u64)> {
        self.closed.lock().unwrap().clone()
    }
}

const LONG: u64 = 3_600_000;

struct Counts(Arc<Counting>);

impl Sink for Counts {
    fn batching(&self) -> Batching {
        Batching { pushes: 1000, bytes: usize::MAX, wait: Duration::ZERO, spacing: self.0.spacing }
    }

    /// By the first letter of the session.
    fn partition(&self, push: &cdr_core::Push) -> Partition {
        Partition(Cow::Owned(push.session_id().unwrap_or_default()[..1].to_owned()))
    }

    fn quiet(&self) -> Option<Duration> {
        Some(self.0.quiet)
    }

    /// What begins with `z` is told whatever the hour.
    fn most_an_hour(&self, partition: &Partition) -> Option<usize> {
        self.0.most_an_hour.filter(|_| partition.0 != "z")
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        let before = batch.memo().map_or(0, count);
        let sessions: Vec<String> = batch.deliveries().iter().map(session).collect();
        let now = before + sessions.len() as u64;
        self.0.batches.lock().unwrap().push((before, sessions, batch.was_held()));
        good(batch).with_memo(now.to_le_bytes().to_vec())
    }

    async fn close(&self, partition: &Partition, memo: &[u8]) -> Outcome {
        if self
            .0
            .closing_fails
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
        {
            return Outcome::Retry(Failure::new("not now"));
        }
        self.0.closed.lock().unwrap().push((partition.0.to_string(), count(memo)));
        Outcome::Delivered(Receipt::new("closed"))
    }
}

fn count(memo: &[u8]) -> u64 {
    u64::from_le_bytes(memo.try_into().unwrap())
}

fn counting(path: &Path, sink: Counting) -> (Arc<Counting>, Arc<Dispatcher>) {
    let sink = Arc::new(sink);
    (Arc::clone(&sink), open(path, plan_of(sink)).0)
}

fn plan_of(sink: Arc<Counting>) -> Plan {
    plan(vec![LanePlan { sink: Arc::new(Counts(sink)), ..lane("sink", &Told::new()) }])
}

async fn stop(dispatcher: Arc<Dispatcher>) {
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memo_comes_back_with_the_next_batch_of_its_partition_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, dispatcher) = counting(folder.path(), Counting::new(0, LONG));
    for session in ["a1", "b1", "a2"] {
        push(&dispatcher, session).await;
        until_idle(&dispatcher).await;
    }
    let before: Vec<u64> = sink.batches().iter().map(|(before, ..)| *before).collect();
    assert_eq!(before, [0, 0, 1]);
    stop(dispatcher).await;
    let (sink, dispatcher) = counting(folder.path(), Counting::new(0, LONG));
    push(&dispatcher, "a3").await;
    until_idle(&dispatcher).await;
    assert_eq!(sink.batches(), [(2, vec!["a3".to_owned()], false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_time_between_two_batches_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (_, dispatcher) = counting(folder.path(), Counting::new(LONG, LONG));
    push(&dispatcher, "a1").await;
    until_idle(&dispatcher).await;
    stop(dispatcher).await;
    let (sink, dispatcher) = counting(folder.path(), Counting::new(LONG, LONG));
    push(&dispatcher, "a2").await;
    push(&dispatcher, "b1").await;
    until("the other partition is told at once", || !sink.batches().is_empty()).await;
    assert_eq!(sink.batches(), [(0, vec!["b1".to_owned()], false)], "a2 gathers");
    until("one waits", || snapshot(&dispatcher, "sink").now.open == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_quiet_for_long_enough_is_closed_once_and_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, dispatcher) = counting(folder.path(), Counting::new(0, 100));
    sink.closing_fails.store(2, Ordering::Relaxed);
    push(&dispatcher, "a1").await;
    until("it is closed", || sink.closed() == [("a".to_owned(), 1)]).await;
    push(&dispatcher, "a2").await;
    until("it is closed again", || sink.closed().len() == 2).await;
    assert_eq!(sink.batches()[1].0, 0, "what was closed is forgotten");
    stop(dispatcher).await;
    let (sink, dispatcher) = counting(folder.path(), Counting::new(0, 1));
    push(&dispatcher, "b1").await;
    until("the other is closed", || !sink.closed().is_empty()).await;
    assert_eq!(sink.closed(), [("b".to_owned(), 1)], "what was closed stays closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restart_finds_quiet_is_closed_then() {
    let folder = tempfile::tempdir().unwrap();
    let (_, dispatcher) = counting(folder.path(), Counting::new(0, LONG));
    push(&dispatcher, "a1").await;
    until_idle(&dispatcher).await;
    stop(dispatcher).await;
    let (sink, _dispatcher) = counting(folder.path(), Counting::new(0, 1));
    until("it is closed", || sink.closed() == [("a".to_owned(), 1)]).await;
    assert!(sink.batches().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_leave_in_an_hour_than_the_sink_wants_whatever_is_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let limited = || Counting { most_an_hour: Some(2), ..Counting::new(0, LONG) };
    let (sink, dispatcher) = counting(folder.path(), limited());
    for (before, session) in ["a1", "b1", "c1", "a2"].into_iter().enumerate() {
        push(&dispatcher, session).await;
        until("it left, or the hour is full", || sink.batches().len() == (before + 1).min(2)).await;
    }
    until("two gather", || snapshot(&dispatcher, "sink").now.open == 2).await;
    assert_eq!(sink.batches().len(), 2);
    stop(dispatcher).await;
    let (sink, dispatcher) = counting(folder.path(), limited());
    until("they gather again", || snapshot(&dispatcher, "sink").now.open == 2).await;
    assert!(sink.batches().is_empty(), "{:?}", sink.batches());
    stop(dispatcher).await;
    let (sink, dispatcher) = counting(folder.path(), Counting { most_an_hour: Some(100), ..limited() });
    until_idle(&dispatcher).await;
    assert_eq!(sink.batches().iter().map(|(_, sessions, _)| sessions.len()).sum::<usize>(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hour_holds_back_holds_up_nothing_else_however_much_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let limited = Counting { most_an_hour: Some(1), ..Counting::new(0, LONG) };
    let (sink, dispatcher) = counting(folder.path(), limited);
    push(&dispatcher, "a").await;
    until_idle(&dispatcher).await;
    // More than a lane holds in memory.
    let large = "x".repeat(80_000);
    let sessions: Vec<String> = (100..220).map(|n| format!("a{n}")).collect();
    for session in &sessions {
        dispatcher.store(incoming_with(session, &large)).await.unwrap();
    }
    push(&dispatcher, "z").await;
    until("what is not counted is told", || sink.batches().len() == 2).await;
    assert_eq!(sink.batches()[1], (0, vec!["z".to_owned()], false));
    until("the others wait", || snapshot(&dispatcher, "sink").now.open == sessions.len()).await;

    let freed = Arc::new(Counting { most_an_hour: Some(100), ..Counting::new(0, LONG) });
    dispatcher.reload(plan_of(Arc::clone(&freed)), Duration::from_secs(5)).await.unwrap();
    until_idle(&dispatcher).await;
    let batches = freed.batches();
    let mut told: Vec<&String> = batches.iter().flat_map(|(_, sessions, _)| sessions).collect();
    told.sort();
    assert_eq!(told, sessions.iter().collect::<Vec<_>>());
    assert!(batches[0].2 && batches[0].1.len() > 64, "held back, and no batch leaves half full: {batches:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_not_set_aside_past_what_may_leave_in_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let gone = Told::new();
    gone.answers(away);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &gone)]));
    let sessions: Vec<String> = (0..6000).map(|number| format!("a{number}")).collect();
    let storing = sessions.iter().map(|session| dispatcher.store(incoming(session)));
    join_all(storing).await.into_iter().for_each(|stored| assert!(stored.is_ok()));
    stop(dispatcher).await;
    let limited = Counting { most_an_hour: Some(1), ..Counting::new(0, LONG) };
    let (sink, dispatcher) = counting(folder.path(), limited);
    until("all is read", || snapshot(&dispatcher, "sink").now.next >= dispatcher.pushes().end().0).await;
    until("the rest waits", || snapshot(&dispatcher, "sink").now.trying == 0).await;
    assert_eq!((sink.batches().len(), dispatcher.errands().len()), (1, 0));
    stop(dispatcher).await;
}

/// A sink that passes nothing on, but each time notes that the batch left in part.
struct LeftInPart(Arc<Mutex<Vec<usize>>>);

impl Sink for LeftInPart {
    fn batching(&self) -> Batching {
        let hour = Duration::from_secs(3600);
        Batching { pushes: 20, bytes: usize::MAX, wait: hour, spacing: hour }
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        self.0.lock().unwrap().push(batch.deliveries().len());
        Report::all(batch, &Outcome::Retry(Failure::new("one is put off").alone())).with_memo("told")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_left_in_part_pauses_no_lane_and_the_next_one_is_spaced() {
    let folder = tempfile::tempdir().unwrap();
    let batches = Arc::new(Mutex::new(Vec::new()));
    let plan_of = LanePlan { sink: Arc::new(LeftInPart(Arc::clone(&batches))), ..lane("sink", &Told::new()) };
    let (dispatcher, mut events) = open(folder.path(), plan(vec![plan_of]));
    for number in 0..20 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until("all were tried", || batches.lock().unwrap().iter().sum::<usize>() == 20).await;
    let now = || snapshot(&dispatcher, "sink").now;
    until("their waits are over", || now().waiting == 0 && now().trying == 0).await;
    assert!(now().paused.is_none() && now().open == 20);
    assert!(events.try_recv().is_err(), "nobody is told that the sink is away");
    assert_eq!(batches.lock().unwrap().len(), 1);
}
