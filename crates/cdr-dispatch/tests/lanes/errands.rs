//! Replays, and sinks that get another name.

use std::sync::atomic::{AtomicUsize, Ordering};

use cdr_core::{Delivery, Partition, Push, Seal};
use cdr_dispatch::{ErrandNow, ErrandState, RenameError, ReplayError, Wish};

use super::*;

const GRACE: Duration = Duration::from_secs(5);

fn where_(condition: &str) -> Wish {
    Wish { condition: Some(condition.to_owned()), ..Wish::default() }
}

fn the_errand(dispatcher: &Dispatcher) -> ErrandNow {
    let mut errands = dispatcher.errands();
    assert_eq!(errands.len(), 1, "{errands:?}");
    errands.remove(0)
}

async fn until_ended(dispatcher: &Dispatcher) {
    until("it is over", || the_errand(dispatcher).state == ErrandState::Ended).await;
}

fn sorted(batches: Vec<Vec<String>>) -> Vec<String> {
    let mut sessions: Vec<String> = batches.into_iter().flatten().collect();
    sessions.sort();
    sessions
}

fn sessions(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    let mut sessions: Vec<String> = numbers.into_iter().map(|number| format!("s{number}")).collect();
    sessions.sort();
    sessions
}

/// Takes only what is no replay, and leaves the rest for later.
fn refuses_replays(batch: &Batch) -> Report {
    if batch.first().replay { away(batch) } else { good(batch) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_what_its_condition_holds_for_again_and_marks_it() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, other) = (Told::new(), Told::new());
    let replays = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&replays);
    sink.answers(move |batch| {
        let is_replay = |delivery: &&Delivery| {
            assert!(!delivery.replay || delivery.routes[0].starts_with("replay "), "{:?}", delivery.routes);
            delivery.replay
        };
        counted.fetch_add(batch.deliveries().iter().filter(is_replay).count(), Ordering::SeqCst);
        good(batch)
    });
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink), lane("other", &other)]));
    for number in 0..100 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    let number = dispatcher.begin_replay("sink", where_(r#"SessionId.endsWith("7")"#)).await.unwrap();
    until_ended(&dispatcher).await;
    let over = the_errand(&dispatcher);
    assert_eq!((over.id(), over.unread(), over.did.unwrap().delivered), (Some(number), 0, 10));
    assert_eq!(replays.load(Ordering::SeqCst), 10);
    let twice = sessions((0..100).chain((0..100).filter(|number| number % 10 == 7)));
    assert_eq!(sorted(sink.batches()), twice);
    assert_eq!(sorted(other.batches()), sessions(0..100));
    assert!(dispatcher.parked().is_empty(), "nothing is left of it");
    until("its lane is gone", || dispatcher.pushes().spool().lanes().len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_takes_what_no_route_names_and_what_arrived_in_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let routes =
        vec![RouteSettings { name: "none".into(), when: Some("false".into()), to: vec!["sink".into()] }];
    let routes = Routes::build(routes, &["sink".into()]).unwrap();
    let plan = Plan { routes, ..plan(vec![lane("sink", &sink)]) };
    let (dispatcher, _events) = open(folder.path(), plan);
    push(&dispatcher, "s0").await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    let between = jiff::Timestamp::now();
    tokio::time::sleep(Duration::from_millis(2)).await;
    push(&dispatcher, "s1").await;
    until_idle(&dispatcher).await;
    for (wish, sent) in [
        (Wish { from: Some(between), ..Wish::default() }, sessions([1])),
        (Wish { to: Some(between), ..Wish::default() }, sessions([0, 1])),
    ] {
        let number = dispatcher.begin_replay("sink", wish).await.unwrap();
        let is_over = |errand: ErrandNow| errand.id() == Some(number) && errand.state == ErrandState::Ended;
        until("over", || dispatcher.errands().into_iter().any(is_over)).await;
        assert_eq!(sorted(sink.batches()), sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replayed_is_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    let said = |result: Result<u32, ReplayError>| result.unwrap_err().to_string();
    let unknown = said(dispatcher.begin_replay("crm", Wish::default()).await);
    assert_eq!(unknown, r#"there is no sink "crm"; there are: sink"#);
    let wrong = said(dispatcher.begin_replay("sink", where_("Duratio > 3")).await);
    assert!(wrong.contains("Duratio") && wrong.contains("Duration"), "{wrong}");
    let now = jiff::Timestamp::now();
    let no_time = Wish { from: Some(now), to: Some(now), ..Wish::default() };
    assert!(said(dispatcher.begin_replay("sink", no_time).await).contains("no time lies between"));
    assert!(dispatcher.errands().is_empty());
}

/// A sink that seals each batch.
struct Sealed(Arc<Told>);

impl Sink for Sealed {
    fn seal(&self, batch: &Batch) -> Option<Seal> {
        let key = batch.first().push.position().to_string();
        Some(Seal { key, facts: serde_json::Value::Null })
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        Sink::deliver(&Shared(Arc::clone(&self.0)), batch).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_replayed_into_sealed_batches_not_even_when_a_reload_brings_them() {
    let folder = tempfile::tempdir().unwrap();
    let (single, sealed) = (Told::new(), Told::new());
    let sealing = || LanePlan { sink: Arc::new(Sealed(Arc::clone(&sealed))), ..lane("archive", &sealed) };
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("archive", &single)]));
    push(&dispatcher, "s0").await;
    until_idle(&dispatcher).await;
    single.answers(refuses_replays);
    dispatcher.begin_replay("archive", Wish::default()).await.unwrap();
    dispatcher.reload(plan(vec![sealing()]), GRACE).await.unwrap();
    let why = |errand: &ErrandNow| Some(errand.did.as_ref()?.now.paused.as_ref()?.reason.clone());
    until("it waits", || why(&the_errand(&dispatcher)).is_some_and(|why| why.contains("sealed"))).await;
    assert!(matches!(dispatcher.begin_replay("archive", Wish::default()).await, Err(ReplayError::Seals)));
    assert!(sealed.batches().is_empty());
    dispatcher.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_where_it_was_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let before = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &before)]));
    for number in 0..60 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    let left = Arc::new(AtomicUsize::new(25));
    before.answers(move |batch| {
        let go = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if go { good(batch) } else { away(batch) }
    });
    let number = dispatcher.begin_replay("sink", Wish::default()).await.unwrap();
    let is_paused = || the_errand(&dispatcher).did.is_some_and(|lane| lane.now.paused.is_some());
    until("25 are sent", is_paused).await;
    dispatcher.stop(GRACE).await;
    drop(dispatcher);
    let after = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &after)]));
    until_ended(&dispatcher).await;
    assert_eq!(the_errand(&dispatcher).id(), Some(number));
    assert_eq!(sorted(after.batches()), sessions(25..60));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replay_meets_is_its_own_and_the_live_lane_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, mut events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    push(&dispatcher, "s0").await;
    until_idle(&dispatcher).await;
    sink.answers(refuses_replays);
    dispatcher.begin_replay("sink", Wish::default()).await.unwrap();
    until("it waits", || the_errand(&dispatcher).did.is_some_and(|lane| lane.now.paused.is_some())).await;
    for number in 1..30 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    let live = snapshot(&dispatcher, "sink");
    assert!(live.now.paused.is_none() && live.now.oldest_received_at_ms.is_none() && live.delivered == 30);
    assert!(events.try_recv().is_err(), "the sink's own lane tells how the sink is");
    let cancelled = dispatcher.cancel_replay(the_errand(&dispatcher).id().unwrap()).await.unwrap();
    assert_eq!(cancelled.state, ErrandState::Cancelled);
    assert_eq!(the_errand(&dispatcher).state, ErrandState::Cancelled);
    let again = dispatcher.cancel_replay(cancelled.id().unwrap()).await;
    assert!(matches!(again, Err(ReplayError::Unknown(_))), "{again:?}");
    assert_eq!(dispatcher.pushes().spool().lanes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_a_replay_wait_under_its_lane_until_a_person_decides() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    for number in 0..3 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    sink.answers(|batch| match session(batch.first()).as_str() {
        "s2" => good(batch),
        _ => Report::all(batch, &Outcome::Reject(Failure::new("it answered 422"))),
    });
    dispatcher.begin_replay("sink", Wish::default()).await.unwrap();
    until("it rests", || the_errand(&dispatcher).state == ErrandState::Rests).await;
    let errand = the_errand(&dispatcher);
    assert_eq!((errand.dead, errand.open, errand.unread()), (2, 0, 0));
    let dead = dispatcher.dead_letters(&errand.lane, Position(0), 10).await.unwrap();
    let dead: Vec<Position> = dead.iter().map(|letter| Position(letter.position.0)).collect();
    sink.answers(good);
    assert_eq!(dispatcher.retry_dead(&errand.lane, &dead[..1]).await.unwrap(), dead[..1]);
    until("sent", || sink.attempts_on("s0") == 3).await;
    until("one is left", || the_errand(&dispatcher).dead == 1 && the_errand(&dispatcher).open == 0).await;
    assert_eq!(dispatcher.discard_dead(&errand.lane, &dead[1..]).await.unwrap(), dead[1..]);
    until_ended(&dispatcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_whose_sink_leaves_the_file_is_parked_and_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, other) = (Told::new(), Told::new());
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink), lane("other", &other)]));
    for number in 0..20 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    sink.answers(refuses_replays);
    dispatcher.begin_replay("sink", Wish::default()).await.unwrap();
    dispatcher.reload(plan(vec![lane("other", &other)]), GRACE).await.unwrap();
    let why = "the configuration names no sink sink".to_owned();
    assert_eq!(the_errand(&dispatcher).state, ErrandState::Parked(why));
    assert_eq!(dispatcher.parked().len(), 2);
    sink.answers(good);
    dispatcher.reload(plan(vec![lane("sink", &sink), lane("other", &other)]), GRACE).await.unwrap();
    until_ended(&dispatcher).await;
    assert_eq!(sorted(other.batches()), sessions(0..20));
    let twice = sorted(sink.batches());
    assert!(
        sessions(0..20).iter().all(|id| twice.iter().filter(|sent| *sent == id).count() >= 2),
        "{twice:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_renamed_sink_left_is_delivered_under_its_new_name_and_the_rest_not_again() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Told::new(), Told::new());
    old.answers(|batch| match session(batch.first()).as_str() {
        "dead" => Report::all(batch, &Outcome::Reject(Failure::new("it answered 422"))),
        _ => away(batch),
    });
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("old", &old)]));
    let died = push(&dispatcher, "dead").await;
    until("it died", || snapshot(&dispatcher, "old").died == 1).await;
    for number in 0..300 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    let early = dispatcher.rename("old", "new").await;
    assert!(matches!(early, Err(RenameError::Configured(_))), "{early:?}");
    let now = LanePlan { start: cdr_spool::Start::Now, ..lane("new", &new) };
    dispatcher.reload(plan(vec![now]), GRACE).await.unwrap();
    for number in 300..320 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    assert_eq!(dispatcher.parked().len(), 1);
    assert_eq!(sorted(new.batches()), sessions(300..320));

    let lanes = dispatcher.rename("old", "new").await.unwrap();
    assert_eq!(lanes, ["new~0"]);
    until("it rests", || the_errand(&dispatcher).state == ErrandState::Rests).await;
    assert_eq!(sorted(new.batches()), sessions(0..320));
    assert!(dispatcher.parked().is_empty());
    assert_eq!(dispatcher.retry_dead("new~0", &[died]).await.unwrap(), [died]);
    until_ended(&dispatcher).await;
    assert_eq!(new.attempts_on("dead"), 1);
    assert!(matches!(dispatcher.rename("old", "new").await, Err(RenameError::Spool(_))));
    assert!(matches!(dispatcher.rename("x", "No Name").await, Err(RenameError::NoName { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_retried_while_the_last_other_is_discarded_is_not_forgotten_with_its_errand() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    push(&dispatcher, "s0").await;
    push(&dispatcher, "s1").await;
    until_idle(&dispatcher).await;
    sink.answers(|batch| match batch.first().replay {
        true => Report::all(batch, &Outcome::Reject(Failure::new("it answered 422"))),
        false => good(batch),
    });
    dispatcher.begin_replay("sink", Wish::default()).await.unwrap();
    until("it rests", || the_errand(&dispatcher).state == ErrandState::Rests).await;
    let errand = the_errand(&dispatcher).lane;
    let dead = dispatcher.dead_letters(&errand, Position(0), 10).await.unwrap();
    // Half of a retry: it is durable, and the lane has not heard of it yet.
    let reopened = dispatcher.pushes().spool().reopen(&errand, &[dead[1].position]).await.unwrap();
    assert_eq!(reopened, [dead[1].position]);
    dispatcher.discard_dead(&errand, &[Position(dead[0].position.0)]).await.unwrap();
    for number in 2..10 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    until_idle(&dispatcher).await;
    dispatcher.stop(GRACE).await;
    drop(dispatcher);
    let after = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &after)]));
    until("it is sent", || after.attempts_on("s1") == 1).await;
    until_ended(&dispatcher).await;
}

/// A sink that panics where it tells what keeps the first push apart, as soon as it shall.
struct Fragile(Arc<Told>, Arc<AtomicUsize>);

impl Sink for Fragile {
    fn partition(&self, push: &Push) -> Partition {
        let is_sound = self.1.load(Ordering::SeqCst) == 0 || push.session_id() != Some("s0");
        assert!(is_sound, "a fault in a plugin");
        Partition::ONE
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        Sink::deliver(&Shared(Arc::clone(&self.0)), batch).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_errand_that_broke_off_is_not_over() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, broken) = (Told::new(), Arc::new(AtomicUsize::new(0)));
    let fragile =
        LanePlan { sink: Arc::new(Fragile(Arc::clone(&sink), Arc::clone(&broken))), ..lane("sink", &sink) };
    let (dispatcher, _events) = open(folder.path(), plan(vec![fragile]));
    push(&dispatcher, "s0").await;
    until_idle(&dispatcher).await;
    broken.store(1, Ordering::SeqCst);
    dispatcher.begin_replay("sink", Wish::default()).await.unwrap();
    push(&dispatcher, "s1").await;
    until_idle(&dispatcher).await;
    dispatcher.stop(GRACE).await;
    drop(dispatcher);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    until("it is sent again", || sink.attempts_on("s0") == 2).await;
    until_ended(&dispatcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_is_not_handed_over_to_one_that_was_beside_it_which_would_lose_what_it_owes() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Told::new(), Told::new());
    old.answers(away);
    let to = |sink: &str| vec![RouteSettings { name: "all".into(), when: None, to: vec![sink.into()] }];
    let sinks = ["old".into(), "new".into()];
    let both = Plan {
        routes: Routes::build(to("old"), &sinks).unwrap(),
        ..plan(vec![lane("old", &old), lane("new", &new)])
    };
    let (dispatcher, _events) = open(folder.path(), both);
    for number in 0..300 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    dispatcher.reload(plan(vec![lane("new", &new)]), GRACE).await.unwrap();
    let refused = dispatcher.rename("old", "new").await.unwrap_err().to_string();
    assert!(refused.contains("a name in the configuration that no lane has yet"), "{refused}");
    assert_eq!(dispatcher.parked().len(), 1, "it waits as before");

    // As the refusal says.
    let now = LanePlan { start: cdr_spool::Start::Now, ..lane("fresh", &new) };
    dispatcher.reload(plan(vec![now]), GRACE).await.unwrap();
    dispatcher.rename("old", "fresh").await.unwrap();
    until_ended(&dispatcher).await;
    assert_eq!(sorted(new.batches()), sessions(0..300));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_was_owed_while_its_successor_stood_beside_it_is_handed_over_too() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Told::new(), Told::new());
    old.answers(away);
    let sinks = ["old".into(), "new".into()];
    let to_old = vec![RouteSettings { name: "all".into(), when: None, to: vec!["old".into()] }];
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("old", &old)]));
    push(&dispatcher, "s0").await;
    let late = LanePlan { start: cdr_spool::Start::Now, ..lane("new", &new) };
    let both = Plan {
        routes: Routes::build(to_old, &sinks).unwrap(),
        ..plan(vec![lane("old", &old), late.clone()])
    };
    dispatcher.reload(both, GRACE).await.unwrap();
    for number in 1..300 {
        push(&dispatcher, &format!("s{number}")).await;
    }
    dispatcher.reload(plan(vec![late]), GRACE).await.unwrap();
    push(&dispatcher, "s300").await;
    dispatcher.rename("old", "new").await.unwrap();
    until_ended(&dispatcher).await;
    until_idle(&dispatcher).await;
    assert_eq!(sorted(new.batches()), sessions(0..301));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_cancel_that_waits_for_a_sink_that_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    push(&dispatcher, "s0").await;
    until_idle(&dispatcher).await;
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    sink.answers(move |batch| {
        let _ = released.lock().unwrap().recv();
        good(batch)
    });
    let dispatcher = Arc::new(dispatcher);
    let number = dispatcher.begin_replay("sink", Wish::default()).await.unwrap();
    until("it blocks", || sink.attempts_on("s0") == 2).await;
    let cancels = Arc::clone(&dispatcher);
    let cancel = tokio::spawn(async move { cancels.cancel_replay(number).await });
    until("the cancel waits", || the_errand(&dispatcher).did.is_none()).await;
    tokio::time::timeout(Duration::from_secs(60), dispatcher.stop(Duration::ZERO)).await.unwrap();
    drop(release);
    assert!(cancel.await.unwrap().is_err(), "the spool is closed");
}
