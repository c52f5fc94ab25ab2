//! What the lanes promise, on a real spool, with sinks that do as they are told.

mod aside;
mod doubt;
mod ending;
mod errands;
mod masked;
mod memos;
mod panicking;
mod quarantine;
mod rate_limit;
mod sealed;
mod together;
mod unreadable;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cdr_core::{
    Alert, AlertKind, Batch, Batching, Facts, Failure, Incoming, Intake as _, Origin, Outcome, Position,
    Receipt, Report, Sink, SinkName, Unavailable, registry::AnySink,
};
use cdr_dispatch::{
    Dispatcher, Event, LanePlan, LaneSnapshot, Plan, RetryPolicy,
    route::{RouteSettings, Routes},
};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc};

type Answer = Box<dyn Fn(&Batch) -> Report + Send + Sync>;

/// A sink that does as it is told, and remembers what it was given.
struct Told {
    answer: Mutex<Answer>,
    batching: Batching,
    batches: Mutex<Vec<Vec<String>>>,
}

impl Told {
    fn new() -> Arc<Self> {
        Self::batching(Batching::single())
    }

    fn batching(batching: Batching) -> Arc<Self> {
        Arc::new(Self { answer: Mutex::new(Box::new(good)), batching, batches: Mutex::default() })
    }

    fn answers(&self, answer: impl Fn(&Batch) -> Report + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn batches(&self) -> Vec<Vec<String>> {
        self.batches.lock().unwrap().clone()
    }

    fn attempts_on(&self, session: &str) -> usize {
        self.batches().iter().flatten().filter(|id| *id == session).count()
    }
}

fn good(batch: &Batch) -> Report {
    Report::delivered(batch, |delivery| Receipt::new(format!("got {}", delivery.push.position())))
}

fn away(batch: &Batch) -> Report {
    Report::unavailable(batch, Unavailable::new("nobody listens"))
}

fn fails(batch: &Batch) -> Report {
    Report::all(batch, &Outcome::Retry(Failure::new("it answered 500")))
}

fn session(delivery: &cdr_core::Delivery) -> String {
    delivery.push.session_id().unwrap_or("none").to_owned()
}

/// The sink itself is shared with the test.
struct Shared(Arc<Told>);

impl Sink for Shared {
    fn batching(&self) -> Batching {
        self.0.batching
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        self.0.batches.lock().unwrap().push(batch.deliveries().iter().map(session).collect());
        let answer = self.0.answer.lock().unwrap();
        answer(batch)
    }
}

fn name(name: &str) -> SinkName {
    name.parse().unwrap()
}

const QUICK: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(20),
    factor: 2,
    max: Duration::from_millis(100),
    give_up_after: None,
};

fn lane(sink_name: &str, sink: &Arc<Told>) -> LanePlan {
    let sink: Arc<dyn AnySink> = Arc::new(Shared(Arc::clone(sink)));
    LanePlan {
        name: name(sink_name),
        sink,
        retry: QUICK,
        concurrency: 4,
        rate_limit: None,
        start: cdr_spool::Start::Beginning,
    }
}

fn plan(lanes: Vec<LanePlan>) -> Plan {
    let names: Vec<String> = lanes.iter().map(|lane| lane.name.to_string()).collect();
    let route = RouteSettings { name: "all".into(), when: None, to: names.clone() };
    let routes = Routes::build(vec![route], &names).unwrap();
    Plan { lanes, routes, alerts_to: Vec::new() }
}

fn open(path: &Path, plan: Plan) -> (Arc<Dispatcher>, mpsc::UnboundedReceiver<Event>) {
    let (events, heard) = mpsc::unbounded_channel();
    let settings = cdr_spool::Settings { max_size: 64 << 20, ..cdr_spool::Settings::new(path) };
    (Dispatcher::open(settings, plan, events).unwrap().0, heard)
}

fn incoming(session: &str) -> Incoming {
    incoming_with(session, "")
}

fn incoming_with(session: &str, uui: &str) -> Incoming {
    let body = Bytes::from(format!(r#"{{"SessionId":"{session}","EndStatusString":"ok","Uui":"{uui}"}}"#));
    let facts = Facts {
        action: "cdr".parse().unwrap(),
        version: Some("1".into()),
        uuid: Some(format!("uuid-{session}")),
        received_at: jiff::Timestamp::now(),
        sender: Some([127, 0, 0, 1].into()),
        origin: Origin::Push,
        sha256: Sha256::digest(&body).into(),
    };
    Incoming::read(facts, body).unwrap()
}

async fn push(dispatcher: &Dispatcher, session: &str) -> Position {
    dispatcher.store(incoming(session)).await.unwrap().position
}

/// Waits until it is so; far longer than it ever takes.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn snapshot(dispatcher: &Dispatcher, sink: &str) -> LaneSnapshot {
    dispatcher.lanes().into_iter().find(|(lane, _)| lane.as_str() == sink).unwrap().1
}

async fn until_idle(dispatcher: &Dispatcher) {
    let end = dispatcher.pushes().end().0;
    let idle = |lane: &LaneSnapshot| lane.now.open == 0 && lane.now.next >= end;
    until("all lanes idle", || dispatcher.lanes().iter().all(|(_, lane)| idle(lane))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_push_reaches_every_sink_once() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Told::new(), Told::new());
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("one", &one), lane("two", &two)]));
    for number in 0..300 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    for sink in [&one, &two] {
        let mut seen: HashMap<String, usize> = HashMap::new();
        sink.batches().into_iter().flatten().for_each(|id| *seen.entry(id).or_default() += 1);
        assert_eq!(seen.len(), 300);
        assert!(seen.values().all(|&count| count == 1));
    }
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_kept_and_delivered_once() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    let first = dispatcher.store(incoming("again")).await.unwrap();
    let second = dispatcher.store(incoming("again")).await.unwrap();
    assert_eq!((first.repeat, second.repeat, first.position), (false, true, second.position));
    until_idle(&dispatcher).await;
    assert_eq!(sink.attempts_on("again"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_before_a_restart_is_not_delivered_again() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (Told::new(), Told::new());
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &before)]));
    for number in 0..50 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    before.answers(away);
    for number in 50..60 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until("paused", || snapshot(&dispatcher, "sink").now.paused.is_some()).await;
    dispatcher.stop(Duration::from_secs(5)).await;
    drop(dispatcher);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &after)]));
    until_idle(&dispatcher).await;
    let mut again: Vec<String> = after.batches().into_iter().flatten().collect();
    again.sort();
    assert_eq!(again, (50..60).map(|number| format!("s{number}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_away_is_probed_not_stormed_and_leaves_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (sick, well) = (Told::new(), Told::new());
    sick.answers(away);
    let (dispatcher, mut events) = open(folder.path(), plan(vec![lane("sick", &sick), lane("well", &well)]));
    for number in 0..100 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until("the other sink has all", || well.batches().len() == 100).await;
    assert!(matches!(events.recv().await, Some(Event::Paused { .. })));
    let until_now = sick.batches().len();
    assert!(until_now < 30, "{until_now} attempts on a sink that is away");
    sick.answers(good);
    until_idle(&dispatcher).await;
    assert!(matches!(events.recv().await, Some(Event::Resumed { .. })));
    let sessions: std::collections::HashSet<_> = sick.batches().into_iter().flatten().collect();
    assert_eq!(sessions.len(), 100);
    // Nobody was tried by the sink's own word, so nothing counts as a failed attempt.
    assert_eq!(snapshot(&dispatcher, "sick").failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_fails_alone_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(|batch| if session(batch.first()) == "poison" { fails(batch) } else { good(batch) });
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    push(&dispatcher, "poison").await;
    for number in 0..50 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until("the others passed", || snapshot(&dispatcher, "sink").delivered == 50).await;
    assert!(snapshot(&dispatcher, "sink").now.paused.is_none());
    until("it is retried", || sink.attempts_on("poison") >= 4).await;
    sink.answers(good);
    until_idle(&dispatcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_different_pushes_failing_in_a_row_pause_the_lane() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(fails);
    let (dispatcher, mut events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    for number in 0..20 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    match events.recv().await {
        Some(Event::Paused { reason, .. }) => assert!(reason.contains("500"), "{reason}"),
        other => panic!("{other:?}"),
    }
    sink.answers(good);
    until_idle(&dispatcher).await;
    assert_eq!(snapshot(&dispatcher, "sink").delivered, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_push_is_a_dead_letter_that_a_person_can_send_again() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let reject = |batch: &Batch| {
        Report::all(
            batch,
            &Outcome::Reject(Failure::new("it answered 422").quoting(b"{\"error\":\"no owner\"}")),
        )
    };
    sink.answers(reject);
    let (dispatcher, mut events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    let position = push(&dispatcher, "unwanted").await;
    assert!(matches!(events.recv().await, Some(Event::Died { position: died, .. }) if died == position));
    until_idle(&dispatcher).await;
    let dead = dispatcher.dead_letters("sink", Position(0), 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts), (1, 1));
    assert_eq!(
        (dead[0].reason.as_str(), dead[0].excerpt.as_str()),
        ("it answered 422", "{\"error\":\"no owner\"}")
    );
    sink.answers(good);
    assert_eq!(dispatcher.retry_dead("sink", &[position]).await.unwrap(), [position]);
    until("delivered", || snapshot(&dispatcher, "sink").delivered == 1).await;
    assert!(dispatcher.dead_letters("sink", Position(0), 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_given_up_while_its_lane_is_paused() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(away);
    let mut impatient = lane("sink", &sink);
    impatient.retry.give_up_after = Some(Duration::from_millis(50));
    let (dispatcher, _events) = open(folder.path(), plan(vec![impatient]));
    for number in 0..10 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    // Many times longer than it would take to give up.
    until("probed for a while", || sink.batches().len() >= 8).await;
    sink.answers(good);
    until_idle(&dispatcher).await;
    let lane = snapshot(&dispatcher, "sink");
    assert_eq!((lane.delivered, lane.died), (10, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_keeps_failing_is_given_up_after_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(|batch| if session(batch.first()) == "poison" { fails(batch) } else { good(batch) });
    let mut impatient = lane("sink", &sink);
    impatient.retry.give_up_after = Some(Duration::from_millis(200));
    let (dispatcher, _events) = open(folder.path(), plan(vec![impatient]));
    push(&dispatcher, "poison").await;
    until("given up", || snapshot(&dispatcher, "sink").died == 1).await;
    until_idle(&dispatcher).await;
    assert!(sink.attempts_on("poison") >= 3);
    let dead = dispatcher.dead_letters("sink", Position(0), 10).await.unwrap();
    assert!(dead[0].reason.contains("given up") && dead[0].reason.contains("500"), "{}", dead[0].reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_panics_costs_a_retry() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(|_| panic!("on purpose"));
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    push(&dispatcher, "first").await;
    until("tried", || snapshot(&dispatcher, "sink").failed >= 1).await;
    assert!(snapshot(&dispatcher, "sink").now.last_failure.contains("on purpose"));
    // The panic happened while the answer was held; what is told from now on must be heard all the same.
    sink.answer.clear_poison();
    sink.answers(good);
    until_idle(&dispatcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaced_batches_send_the_first_at_once_and_gather_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let batching =
        Batching { pushes: 1000, bytes: usize::MAX, wait: Duration::ZERO, spacing: Duration::from_secs(1) };
    let sink = Told::batching(batching);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    push(&dispatcher, "first").await;
    until("the first went at once", || sink.batches().len() == 1).await;
    for number in 0..30 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    let sizes: Vec<usize> = sink.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 30]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_hands_lanes_over_and_parks_what_disappeared() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, other) = (Told::new(), Told::new(), Told::new());
    old.answers(away);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &old)]));
    for number in 0..10 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until("paused", || snapshot(&dispatcher, "sink").now.paused.is_some()).await;
    dispatcher.reload(plan(vec![lane("sink", &new)]), Duration::from_secs(5)).await.unwrap();
    until("the new sink has all", || new.batches().len() == 10).await;

    new.answers(away);
    for number in 10..15 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    dispatcher.reload(plan(vec![lane("other", &other)]), Duration::from_secs(5)).await.unwrap();
    until("parked", || dispatcher.parked().iter().any(|parked| parked.name == "sink")).await;
    new.answers(good);
    dispatcher
        .reload(plan(vec![lane("sink", &new), lane("other", &other)]), Duration::from_secs(5))
        .await
        .unwrap();
    until_idle(&dispatcher).await;
    let sessions: std::collections::HashSet<_> = new.batches().into_iter().flatten().collect();
    assert_eq!(sessions.len(), 15);
    assert!(dispatcher.parked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_goes_to_the_sinks_for_alerts_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let (mail, archive) = (Told::new(), Told::new());
    let plan =
        Plan { alerts_to: vec![name("mail")], ..plan(vec![lane("mail", &mail), lane("archive", &archive)]) };
    let (dispatcher, _events) = open(folder.path(), plan);
    let alert = Alert {
        kind: AlertKind::Paused,
        about: "crm".into(),
        subject: "sink crm is away".into(),
        text: "nobody listens".into(),
        resolved: false,
        at: jiff::Timestamp::now(),
    };
    dispatcher.raise(&alert).await;
    push(&dispatcher, "call").await;
    until_idle(&dispatcher).await;
    assert_eq!(mail.batches().len(), 2);
    assert_eq!(archive.batches(), [["call"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_far_behind_reads_from_disk_and_gets_everything() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(away);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    let filler = "x".repeat(4000);
    // More than the live window holds.
    for chunk in 0..40 {
        let dispatcher = &dispatcher;
        let filler = &filler;
        let pushes = (0..100).map(|number| async move {
            let session = format!("s{chunk}-{number}");
            dispatcher.store(incoming_with(&session, filler)).await.unwrap();
        });
        futures_util::future::join_all(pushes).await;
    }
    sink.answers(good);
    until_idle(&dispatcher).await;
    let sessions: std::collections::HashSet<_> = sink.batches().into_iter().flatten().collect();
    assert_eq!(sessions.len(), 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_gone_for_a_while_gets_what_came_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, other) = (Told::new(), Told::new());
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink), lane("other", &other)]));
    push(&dispatcher, "before").await;
    until_idle(&dispatcher).await;
    dispatcher.reload(plan(vec![lane("other", &other)]), Duration::from_secs(5)).await.unwrap();
    for number in 0..20 {
        push(&dispatcher, &format!("meanwhile-{number}")).await;
    }
    until_idle(&dispatcher).await;
    dispatcher
        .reload(plan(vec![lane("sink", &sink), lane("other", &other)]), Duration::from_secs(5))
        .await
        .unwrap();
    until_idle(&dispatcher).await;
    assert_eq!(sink.batches().len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_sink_closes_none_of_its_backlog() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, other) = (Told::new(), Told::new());
    sink.answers(away);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink), lane("other", &other)]));
    for number in 0..2000 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    // Busy with its backlog at the moment of the edit.
    sink.answers(good);
    dispatcher.reload(plan(vec![lane("other", &other)]), Duration::from_secs(5)).await.unwrap();
    dispatcher
        .reload(plan(vec![lane("sink", &sink), lane("other", &other)]), Duration::from_secs(5))
        .await
        .unwrap();
    until_idle(&dispatcher).await;
    let mut counted: HashMap<String, usize> = HashMap::new();
    let delivered = snapshot(&dispatcher, "other").delivered;
    sink.batches().into_iter().flatten().for_each(|id| *counted.entry(id).or_default() += 1);
    assert_eq!((counted.len(), delivered), (2000, 2000));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_push_that_makes_the_sink_seem_away_does_not_stall_the_lane() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(|batch| if session(batch.first()) == "poison" { away(batch) } else { good(batch) });
    let mut impatient = lane("sink", &sink);
    impatient.retry.give_up_after = Some(Duration::from_millis(300));
    let (dispatcher, _events) = open(folder.path(), plan(vec![impatient]));
    push(&dispatcher, "poison").await;
    for number in 0..30 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until("the others passed", || snapshot(&dispatcher, "sink").delivered == 30).await;
    until("it is given up by itself", || snapshot(&dispatcher, "sink").died == 1).await;
    assert!(snapshot(&dispatcher, "sink").now.paused.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_retried_at_once_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(|batch| Report::all(batch, &Outcome::Reject(Failure::new("it answered 422"))));
    let (dispatcher, mut events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    let mut positions = Vec::new();
    for number in 0..100 {
        positions.push(push(&dispatcher, &format!("s{number}")).await);
    }
    let mut reopened = 0;
    sink.answers(good);
    // As soon as each death is told, long before the lane is idle.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(500), events.recv()).await {
        if let Event::Died { position, .. } = event {
            reopened += dispatcher.retry_dead("sink", &[position]).await.unwrap().len();
        }
    }
    until_idle(&dispatcher).await;
    let dead = dispatcher.dead_letters("sink", Position(0), 1000).await.unwrap();
    let left: Vec<_> = dead.iter().map(|letter| Position(letter.position.0)).collect();
    reopened += dispatcher.retry_dead("sink", &left).await.unwrap().len();
    until("all that was reopened is delivered", || {
        let lane = snapshot(&dispatcher, "sink");
        lane.delivered == 100 && lane.now.open == 0
    })
    .await;
    assert!(reopened > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_that_block_their_threads_hold_up_neither_the_others_nor_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let quick = Told::new();
    let mut lanes = vec![lane("quick", &quick)];
    let mut let_go = Vec::new();
    for number in 0..4 {
        let (go, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let sink = Told::new();
        sink.answers(move |batch| {
            let _ = held.lock().unwrap().recv();
            good(batch)
        });
        lanes.push(lane(&format!("blocks-{number}"), &sink));
        let_go.push(go);
    }
    let (dispatcher, _events) = open(folder.path(), plan(lanes));
    for number in 0..50 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until("the quick one has all", || snapshot(&dispatcher, "quick").delivered == 50).await;
    drop(let_go);
    until_idle(&dispatcher).await;
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_what_waits_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(|batch| if session(batch.first()) == "late" { fails(batch) } else { good(batch) });
    let mut patient = lane("sink", &sink);
    patient.retry = RetryPolicy { initial: Duration::from_secs(300), max: Duration::from_secs(300), ..QUICK };
    let (dispatcher, _events) = open(folder.path(), plan(vec![patient.clone()]));
    push(&dispatcher, "late").await;
    until("it failed", || snapshot(&dispatcher, "sink").failed == 1).await;
    let known = snapshot(&dispatcher, "sink").now.oldest_received_at_ms;
    dispatcher.stop(Duration::from_secs(5)).await;
    drop(dispatcher);
    let (dispatcher, _events) = open(folder.path(), plan(vec![patient]));
    until("the age is known", || snapshot(&dispatcher, "sink").now.oldest_received_at_ms.is_some()).await;
    assert_eq!(snapshot(&dispatcher, "sink").now.oldest_received_at_ms, known);
}

/// A sink that comes back when it is let go, and knows how many of its attempts were under way at once.
struct Slow {
    gate: Semaphore,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

/// The sink itself is shared with the test.
struct SharedSlow(Arc<Slow>);

impl Sink for SharedSlow {
    fn batching(&self) -> Batching {
        Batching { pushes: 4, bytes: 8 << 20, wait: Duration::from_secs(60), spacing: Duration::ZERO }
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        let Slow { gate, under_way, most } = &*self.0;
        most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _let_go = gate.acquire().await.unwrap();
        under_way.fetch_sub(1, Ordering::SeqCst);
        assert_eq!(batch.deliveries().len(), 4, "it waits for company while others are under way");
        good(batch)
    }
}

#[tokio::test]
async fn a_lane_with_a_backlog_of_large_batches_has_few_of_them_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let slow = Arc::new(Slow { gate: Semaphore::new(0), under_way: 0.into(), most: 0.into() });
    let sink: Arc<dyn AnySink> = Arc::new(SharedSlow(Arc::clone(&slow)));
    let slow_lane = LanePlan { sink, concurrency: 8, ..lane("slow", &Told::new()) };
    let (dispatcher, _) = open(folder.path(), plan(vec![slow_lane]));
    let half_a_mib = "x".repeat(512 << 10);
    for n in 0..40 {
        dispatcher.store(incoming_with(&format!("s{n}"), &half_a_mib)).await.unwrap();
    }
    until("two batches under way", || slow.under_way.load(Ordering::SeqCst) >= 2).await;
    slow.gate.add_permits(8);
    until_idle(&dispatcher).await;
    assert_eq!(snapshot(&dispatcher, "slow").delivered, 40);
    // A batch has 2 MiB, and none begins while 3 MiB are under way.
    assert_eq!(slow.most.load(Ordering::SeqCst), 2);
}
