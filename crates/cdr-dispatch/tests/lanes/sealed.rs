//! Sealed batches: all or nothing, never regrouped, finished under their seal whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use cdr_core::{Partition, Push, Seal};
use futures_util::future::join_all;

use super::*;

/// What a sealing sink was given: the key, and the sessions under it.
type Attempt = (Option<String>, Vec<String>);

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Return,
    /// As if the process were killed before the outcome is known.
    Hang,
}

/// A sink that seals its batches under `{prefix}{first}-{last}`.
pub(super) struct Sealing {
    prefix: &'static str,
    batching: Batching,
    answer: Mutex<Answer>,
    then: Mutex<Then>,
    attempts: Mutex<Vec<Attempt>>,
    panics: AtomicUsize,
}

const FIVE: Batching =
    Batching { pushes: 5, bytes: 1 << 20, wait: Duration::from_millis(50), spacing: Duration::ZERO };

impl Sealing {
    pub(super) fn new(
        prefix: &'static str,
        answer: impl Fn(&Batch) -> Report + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::batching(prefix, FIVE, answer)
    }

    fn batching(
        prefix: &'static str,
        batching: Batching,
        answer: impl Fn(&Batch) -> Report + Send + Sync + 'static,
    ) -> Arc<Self> {
        let answer: Answer = Box::new(answer);
        Arc::new(Self {
            prefix,
            batching,
            answer: Mutex::new(answer),
            then: Mutex::new(Then::Return),
            attempts: Mutex::default(),
            panics: AtomicUsize::new(0),
        })
    }

    pub(super) fn answers(&self, answer: impl Fn(&Batch) -> Report + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().unwrap().clone()
    }

    fn keys(&self) -> BTreeSet<String> {
        self.attempts().into_iter().filter_map(|(key, _)| key).collect()
    }

    /// What lies under each key; a key under which different things were put is a fault.
    pub(super) fn objects(&self) -> BTreeMap<String, Vec<String>> {
        let mut objects: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, sessions) in self.attempts() {
            let key = key.expect("every batch is sealed");
            let first = objects.entry(key.clone()).or_insert_with(|| sessions.clone());
            assert_eq!(*first, sessions, "two things under {key}");
        }
        objects
    }
}

struct Given(Arc<Sealing>);

impl Sink for Given {
    fn batching(&self) -> Batching {
        self.0.batching
    }

    fn partition(&self, push: &Push) -> Partition {
        let session = push.session_id().unwrap_or_default().to_owned();
        Partition(session.split_once('/').map_or(String::new(), |(part, _)| part.to_owned()).into())
    }

    fn seal(&self, batch: &Batch) -> Option<Seal> {
        assert!(
            self.0
                .panics
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_err(),
            "on purpose"
        );
        let position = |push: &Arc<Push>| push.position();
        let (first, last) = (batch.first().push.position(), batch.pushes().map(position).last()?);
        Some(Seal {
            key: format!("{}{first}-{last}", self.0.prefix),
            facts: serde_json::json!({ "by": self.0.prefix }),
        })
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        let key = batch.seal().map(|seal| seal.key.clone());
        self.0.attempts.lock().unwrap().push((key, batch.deliveries().iter().map(session).collect()));
        let hangs = *self.0.then.lock().unwrap() == Then::Hang;
        if hangs {
            std::future::pending::<()>().await;
        }
        let answer = self.0.answer.lock().unwrap();
        answer(batch)
    }
}

pub(super) fn sealing(sink: &Arc<Sealing>) -> LanePlan {
    let sink: Arc<dyn AnySink> = Arc::new(Given(Arc::clone(sink)));
    LanePlan {
        name: name("archive"),
        sink,
        retry: QUICK,
        concurrency: 2,
        rate_limit: None,
        start: cdr_spool::Start::Beginning,
    }
}

async fn push_all(dispatcher: &Dispatcher, sessions: impl IntoIterator<Item = String>) {
    let pushes = sessions.into_iter().map(|session| async move { push(dispatcher, &session).await });
    join_all(pushes).await;
}

fn numbered(numbers: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("s{number}"))
}

pub(super) fn each_once(objects: &BTreeMap<String, Vec<String>>, count: usize) {
    let mut sessions: Vec<&String> = objects.values().flatten().collect();
    sessions.sort();
    let distinct: BTreeSet<_> = sessions.iter().collect();
    assert_eq!((sessions.len(), distinct.len()), (count, count), "{objects:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_batch_is_tried_again_as_a_whole_under_its_seal() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sealing::new("a", fails);
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&sink)]));
    push_all(&dispatcher, numbered(0..3)).await;
    until("it failed twice", || sink.attempts().len() >= 2).await;
    push_all(&dispatcher, numbered(3..20)).await;
    until("others failed, too", || sink.keys().len() >= 3).await;
    sink.answers(good);
    until_idle(&dispatcher).await;
    each_once(&sink.objects(), 20);
    assert_eq!(snapshot(&dispatcher, "archive").delivered, 20);
}

/// The crash point between the seal and the attempt's end, and settings that changed before the restart.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_and_not_delivered_is_finished_under_its_seal_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let before = Sealing::new("old", good);
    *before.then.lock().unwrap() = Then::Hang;
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&before)]));
    push_all(&dispatcher, numbered(0..10)).await;
    until("both attempts hang", || before.attempts().len() == 2).await;
    dispatcher.stop(Duration::ZERO).await;
    drop(dispatcher);

    let after = Sealing::batching("new", Batching { pushes: 1, ..FIVE }, good);
    let mut nobody = plan(vec![sealing(&after)]);
    nobody.routes = Routes::build(Vec::new(), &["archive".to_owned()]).unwrap();
    let (dispatcher, _events) = open(folder.path(), nobody);
    until("the old ones are delivered", || snapshot(&dispatcher, "archive").delivered == 10).await;
    assert_eq!(after.objects(), before.objects());
    each_once(&after.objects(), 10);
    dispatcher.stop(Duration::from_secs(5)).await;
}

/// The crash point between the delivery and its outcome.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_and_not_recorded_is_made_again_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let before = Sealing::new("a", good);
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&before)]));
    push_all(&dispatcher, numbered(0..5)).await;
    until_idle(&dispatcher).await;
    *before.then.lock().unwrap() = Then::Hang;
    push_all(&dispatcher, numbered(5..9)).await;
    until("it is delivered, and nobody hears of it", || before.objects().len() == 2).await;
    // Others come before the end, and must not join what lies there.
    push_all(&dispatcher, numbered(9..12)).await;
    until("the others are sealed", || before.objects().len() == 3).await;
    dispatcher.stop(Duration::ZERO).await;
    drop(dispatcher);

    let after = Sealing::new("a", good);
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&after)]));
    until_idle(&dispatcher).await;
    let mut all = before.objects();
    for (key, sessions) in after.objects() {
        assert_eq!(all.insert(key.clone(), sessions.clone()), Some(sessions), "{key}");
    }
    each_once(&all, 12);
    assert_eq!(after.objects().len(), 2, "what was recorded is not made again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_finishes_what_is_sealed_with_the_new_sink() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (Sealing::new("old", fails), Sealing::new("new", good));
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&before)]));
    push_all(&dispatcher, numbered(0..5)).await;
    until("it failed", || !before.attempts().is_empty()).await;
    dispatcher.reload(plan(vec![sealing(&after)]), Duration::from_secs(5)).await.unwrap();
    until_idle(&dispatcher).await;
    assert_eq!(after.objects(), before.objects());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_delivers_a_part_of_a_sealed_batch_is_a_retry_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sealing::new("a", |batch| {
        let mut report = good(batch);
        report.set(1, Outcome::Retry(Failure::new("it answered 500")));
        report
    });
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&sink)]));
    push_all(&dispatcher, numbered(0..5)).await;
    until("tried again", || sink.attempts().len() >= 3).await;
    assert_eq!(snapshot(&dispatcher, "archive").delivered, 0);
    sink.answers(good);
    until_idle(&dispatcher).await;
    each_once(&sink.objects(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_sealed_batch_is_dead_as_a_whole_and_can_be_woken() {
    let folder = tempfile::tempdir().unwrap();
    let sink =
        Sealing::new("a", |batch| Report::all(batch, &Outcome::Reject(Failure::new("the name is taken"))));
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&sink)]));
    push_all(&dispatcher, numbered(0..5)).await;
    until("all are dead", || snapshot(&dispatcher, "archive").died == 5).await;
    until_idle(&dispatcher).await;
    let dead = dispatcher.dead_letters("archive", Position(0), 10).await.unwrap();
    assert_eq!(dead.iter().map(|letter| &*letter.reason).collect::<Vec<_>>(), ["the name is taken"; 5]);
    assert!(dispatcher.pushes().lane("archive").seals.is_empty());
    sink.answers(good);
    let positions: Vec<Position> = dead.iter().map(|letter| Position(letter.position.0)).collect();
    dispatcher.retry_dead("archive", &positions).await.unwrap();
    until("delivered", || snapshot(&dispatcher, "archive").delivered == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_batch_is_given_up_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sealing::new("a", |batch| {
        if session(batch.first()).starts_with("poison") { fails(batch) } else { good(batch) }
    });
    let mut impatient = sealing(&sink);
    impatient.retry.give_up_after = Some(Duration::from_millis(200));
    let (dispatcher, _events) = open(folder.path(), plan(vec![impatient]));
    push_all(&dispatcher, (0..5).map(|number| format!("poison/{number}"))).await;
    push_all(&dispatcher, numbered(0..5)).await;
    until("given up", || snapshot(&dispatcher, "archive").died == 5).await;
    until_idle(&dispatcher).await;
    assert_eq!(snapshot(&dispatcher, "archive").delivered, 5);
    assert!(sink.attempts().len() >= 4);
    let dead = dispatcher.dead_letters("archive", Position(0), 10).await.unwrap();
    assert!(dead.iter().all(|letter| letter.reason.contains("given up")), "{dead:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_away_is_probed_with_what_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sealing::new("a", away);
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&sink)]));
    push_all(&dispatcher, numbered(0..40)).await;
    until("probed for a while", || sink.attempts().len() >= 12).await;
    assert!(snapshot(&dispatcher, "archive").now.paused.is_some());
    // Each seal more would be an object more: only batches that are full anyway are probed with.
    assert!(sink.objects().values().all(|sessions| sessions.len() == 5), "{:?}", sink.objects());
    sink.answers(good);
    until_idle(&dispatcher).await;
    each_once(&sink.objects(), 40);
    assert_eq!(snapshot(&dispatcher, "archive").failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_batch_that_alone_is_refused_does_not_keep_the_lane_paused() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sealing::new("a", |batch| {
        if session(batch.first()).starts_with("poison") { away(batch) } else { good(batch) }
    });
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&sink)]));
    push_all(&dispatcher, (0..5).map(|number| format!("poison/{number}"))).await;
    until("paused", || snapshot(&dispatcher, "archive").now.paused.is_some()).await;
    push_all(&dispatcher, numbered(0..20)).await;
    until("the others passed", || snapshot(&dispatcher, "archive").delivered == 20).await;
    sink.answers(good);
    until_idle(&dispatcher).await;
    each_once(&sink.objects(), 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_panics_while_it_seals_costs_a_retry() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sealing::new("a", good);
    sink.panics.store(2, Ordering::SeqCst);
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&sink)]));
    push_all(&dispatcher, numbered(0..5)).await;
    until_idle(&dispatcher).await;
    each_once(&sink.objects(), 5);
    assert!(snapshot(&dispatcher, "archive").failed > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_do_not_wait_for_company_that_the_lane_has_no_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let patient = Batching { pushes: 4000, wait: Duration::from_secs(3600), ..FIVE };
    let sink = Sealing::batching("a", patient, good);
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&sink)]));
    push_all(&dispatcher, (0..4200).map(|number| format!("{}/{number}", number % 3))).await;
    until("they go", || snapshot(&dispatcher, "archive").delivered >= 104).await;
    dispatcher.stop(Duration::from_secs(5)).await;
    let objects = sink.objects();
    each_once(&objects, objects.values().map(Vec::len).sum());
}

/// What was tried raw and not confirmed lies there, as far as anybody knows.
fn raw_then_sealed(raw: &Told, sealing: &Sealing) -> BTreeMap<String, Vec<String>> {
    let mut there: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for session in raw.batches().into_iter().flatten() {
        there.insert(format!("raw {session}"), vec![session]);
    }
    for (key, sessions) in sealing.attempts() {
        let key = key.unwrap_or_else(|| format!("raw {}", sessions.join(" ")));
        there.insert(key, sessions);
    }
    there
}

/// A lane whose sink got some pushes raw and confirmed none of them, before others wait.
async fn left_raw(folder: &Path, answer: fn(&Batch) -> Report) -> (Arc<Dispatcher>, Arc<Told>) {
    let raw = Told::batching(Batching { wait: Duration::ZERO, ..FIVE });
    raw.answers(answer);
    let slow = RetryPolicy { initial: Duration::from_secs(1), max: Duration::from_secs(1), ..QUICK };
    let lane = LanePlan { retry: slow, ..lane("archive", &raw) };
    let (dispatcher, _events) = open(folder, plan(vec![lane]));
    push_all(&dispatcher, numbered(0..7)).await;
    until("they were tried, and not confirmed", || {
        let lane = snapshot(&dispatcher, "archive").now;
        raw.batches().iter().flatten().collect::<BTreeSet<_>>().len() >= 5 && lane.trying == 0
    })
    .await;
    (dispatcher, raw)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_there_by_itself_goes_into_no_object_after_a_reload() {
    for answer in [fails, away] {
        let folder = tempfile::tempdir().unwrap();
        let (dispatcher, raw) = left_raw(folder.path(), answer).await;
        let after = Sealing::new("a", good);
        dispatcher.reload(plan(vec![sealing(&after)]), Duration::from_secs(5)).await.unwrap();
        push_all(&dispatcher, numbered(7..30)).await;
        until_idle(&dispatcher).await;
        each_once(&raw_then_sealed(&raw, &after), 30);
        assert!(after.keys().len() >= 4, "what is new is sealed: {:?}", after.keys());
        dispatcher.stop(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_there_by_itself_goes_into_no_object_after_a_restart() {
    for answer in [fails, away] {
        let folder = tempfile::tempdir().unwrap();
        let (dispatcher, raw) = left_raw(folder.path(), answer).await;
        dispatcher.stop(Duration::from_secs(5)).await;
        drop(dispatcher);
        let after = Sealing::new("a", good);
        let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&after)]));
        push_all(&dispatcher, numbered(7..30)).await;
        until_idle(&dispatcher).await;
        each_once(&raw_then_sealed(&raw, &after), 30);
        dispatcher.stop(Duration::from_secs(5)).await;
    }
}

/// Remembers what it is given, and never says how that went.
struct Silent(Arc<Told>);

impl Sink for Silent {
    async fn deliver(&self, batch: &Batch) -> Report {
        self.0.batches.lock().unwrap().push(batch.deliveries().iter().map(session).collect());
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stop_cuts_off_goes_into_no_object_and_is_no_nearer_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let raw = Told::new();
    let silent = LanePlan { sink: Arc::new(Silent(Arc::clone(&raw))), ..lane("archive", &raw) };
    let (dispatcher, _events) = open(folder.path(), plan(vec![silent]));
    push_all(&dispatcher, numbered(0..7)).await;
    until("four are under way", || raw.batches().len() == 4).await;
    dispatcher.stop(Duration::ZERO).await;
    let tried: Vec<_> = dispatcher.pushes().lane("archive").open.into_values().collect();
    assert!(tried.iter().all(|open| (open.attempts, open.spent) == (1, Duration::ZERO)), "{tried:?}");
    assert_eq!(tried.len(), 4, "the others were not tried");
    drop(dispatcher);

    let after = Sealing::new("a", good);
    let (dispatcher, _events) = open(folder.path(), plan(vec![sealing(&after)]));
    push_all(&dispatcher, numbered(7..30)).await;
    until_idle(&dispatcher).await;
    each_once(&raw_then_sealed(&raw, &after), 30);
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_gathered_before_a_reload_is_gathered_anew_for_the_new_sink() {
    let folder = tempfile::tempdir().unwrap();
    let patient = Batching { pushes: 100, wait: Duration::from_secs(3600), ..FIVE };
    let before = Told::batching(patient);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("archive", &before)]));
    push_all(&dispatcher, (0..12).map(|number| format!("{}/{number}", number % 3))).await;
    until("they wait for company", || snapshot(&dispatcher, "archive").now.open == 12).await;
    let after = Sealing::new("a", good);
    dispatcher.reload(plan(vec![sealing(&after)]), Duration::from_secs(5)).await.unwrap();
    until_idle(&dispatcher).await;
    assert!(before.batches().is_empty());
    each_once(&after.objects(), 12);
    let part = |session: &String| session.split_once('/').unwrap().0.to_owned();
    for sessions in after.objects().values() {
        assert_eq!(sessions.iter().map(part).collect::<BTreeSet<_>>().len(), 1, "{sessions:?}");
    }
    dispatcher.stop(Duration::from_secs(5)).await;
}
