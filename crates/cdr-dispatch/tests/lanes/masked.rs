//! A sink behind a mask sees nothing else, whatever it is asked, and seals keep the mask that they were made under.

use cdr_core::{Partition, Push, Seal};
use cdr_dispatch::{Mask, Masked};
use serde_json::json;

use super::*;

/// Says what it got to see, and by which question.
struct Witness {
    seals: bool,
    /// Whether it takes what comes.
    takes: bool,
    saw: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl Witness {
    fn note(&self, question: &'static str, push: &Push) {
        let sha256: [u8; 32] = Sha256::digest(push.body()).into();
        assert_eq!(push.facts().sha256, sha256, "the checksum is of what the sink gets");
        let body = String::from_utf8(push.body().to_vec()).unwrap();
        let typed = push.cdr().and_then(|cdr| cdr.uui.as_deref()).unwrap_or_default();
        assert!(body.contains(typed), "the typed view is of what the sink gets");
        self.saw.lock().unwrap().push((question, body));
    }
}

impl Sink for Witness {
    fn partition(&self, push: &Push) -> Partition {
        self.note("partition", push);
        Partition::ONE
    }

    fn seal(&self, batch: &Batch) -> Option<Seal> {
        batch.pushes().for_each(|push| self.note("seal", push));
        let key = batch.first().push.position().to_string();
        self.seals.then(|| Seal { key, facts: json!({ "own": true }) })
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        batch.pushes().for_each(|push| self.note("deliver", push));
        assert_eq!(batch.seal().map(|seal| &seal.facts), self.seals.then_some(&json!({ "own": true })));
        if self.takes { good(batch) } else { fails(batch) }
    }
}

type Saw = Arc<Mutex<Vec<(&'static str, String)>>>;

fn masked(settings: serde_json::Value, seals: bool, takes: bool) -> (LanePlan, Saw) {
    let saw = Saw::default();
    let sink = Arc::new(Witness { seals, takes, saw: Arc::clone(&saw) });
    let settings: Option<_> = serde_json::from_value(settings).unwrap();
    let mask = settings.map(|settings| Mask::build(&settings).unwrap());
    let plan = LanePlan { sink: Arc::new(Masked::new(sink, mask)), ..lane("archive", &Told::new()) };
    (plan, saw)
}

fn delivered(saw: &Saw) -> Vec<String> {
    let saw = saw.lock().unwrap();
    saw.iter().filter(|(question, _)| *question == "deliver").map(|(_, body)| body.clone()).collect()
}

async fn push_with(dispatcher: &Dispatcher, uui: &str) {
    dispatcher.store(incoming_with("s", uui)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_to_a_sink_shows_it_masked_pushes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (plan_of, saw) = masked(json!({ "free_text": true }), true, true);
    let (dispatcher, _events) = open(folder.path(), plan(vec![plan_of]));
    push_with(&dispatcher, "13800138000").await;
    until_idle(&dispatcher).await;
    let saw = saw.lock().unwrap();
    for question in ["partition", "seal", "deliver"] {
        assert!(saw.iter().any(|(asked, _)| *asked == question), "{question}");
    }
    assert!(saw.iter().all(|(_, body)| body.contains("***********") && !body.contains("138")), "{saw:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_goes_out_as_it_was_masked_then() {
    let unmasked = serde_json::Value::Null;
    let (free_text, numbers) = (json!({ "free_text": true }), json!({}));
    for (then, now) in [(&free_text, &numbers), (&free_text, &unmasked), (&unmasked, &free_text)] {
        let folder = tempfile::tempdir().unwrap();
        let (before, saw_before) = masked(then.clone(), true, false);
        let (after, saw_after) = masked(now.clone(), true, true);
        let (dispatcher, _events) = open(folder.path(), plan(vec![before]));
        push_with(&dispatcher, "13800138000").await;
        until("it failed", || !delivered(&saw_before).is_empty()).await;
        dispatcher.reload(plan(vec![after]), Duration::from_secs(5)).await.unwrap();
        until_idle(&dispatcher).await;
        assert_eq!(delivered(&saw_after).last(), delivered(&saw_before).first(), "{then} {now}");
        push_with(&dispatcher, "13800138001").await;
        until_idle(&dispatcher).await;
        let fresh = delivered(&saw_after).pop().unwrap();
        assert_eq!(fresh.contains("13800138001"), now != &free_text, "{fresh}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_under_another_key_waits_for_that_key() {
    let hash = |key: &str| json!({ "numbers": "hash", "key": key });
    let folder = tempfile::tempdir().unwrap();
    let (before, saw) = masked(hash("the first key of 16 bytes"), true, false);
    let (other, saw_other) = masked(hash("the other key of 16 bytes"), true, true);
    let (back, saw_back) = masked(hash("the first key of 16 bytes"), true, true);
    let (dispatcher, _events) = open(folder.path(), plan(vec![before]));
    push_with(&dispatcher, "x").await;
    until("it failed", || !delivered(&saw).is_empty()).await;
    dispatcher.reload(plan(vec![other]), Duration::from_secs(5)).await.unwrap();
    let waits = || snapshot(&dispatcher, "archive").now.unmended;
    until("it waits", || waits().is_some_and(|now| now.reason.contains("another mask.key"))).await;
    assert!(delivered(&saw_other).is_empty() && waits().is_some_and(|now| now.pushes == 1));
    dispatcher.reload(plan(vec![back]), Duration::from_secs(5)).await.unwrap();
    until_idle(&dispatcher).await;
    assert_eq!(delivered(&saw_back).len(), 1);
    until("nothing waits for a person", || waits().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_under_a_lost_key_is_never_given_up_and_holds_up_nobody() {
    let hash = json!({ "numbers": "hash", "key": "the first key of 16 bytes" });
    let folder = tempfile::tempdir().unwrap();
    let (mut before, saw) = masked(hash.clone(), true, false);
    // The next attempt is that of another sink.
    (before.retry.initial, before.retry.max) = (Duration::from_secs(1), Duration::from_secs(1));
    let impatient = |now: &serde_json::Value| {
        let (mut plan, saw) = masked(now.clone(), true, true);
        plan.retry.give_up_after = Some(Duration::from_millis(50));
        (plan, saw)
    };
    let (dispatcher, mut events) = open(folder.path(), plan(vec![before]));
    push_with(&dispatcher, "x").await;
    until("it failed", || !delivered(&saw).is_empty()).await;
    let other = json!({ "numbers": "hash", "key": "the other key of 16 bytes" });
    for (round, now) in [other, serde_json::Value::Null].into_iter().enumerate() {
        let (lost, _) = impatient(&now);
        dispatcher.reload(plan(vec![lost]), Duration::from_secs(5)).await.unwrap();
        until("it waits", || snapshot(&dispatcher, "archive").now.unmended.is_some()).await;
        let attempts = || snapshot(&dispatcher, "archive").attempts;
        for number in 0..3 {
            push_with(&dispatcher, &format!("fresh-{round}-{number}")).await;
            // The sink of before may take it: a lane hears of a reload when it comes to it.
            let passed = (3 * round + number + 1) as u64;
            until("a fresh one passes", || snapshot(&dispatcher, "archive").delivered == passed).await;
        }
        let tried = attempts();
        // Many times longer than it would take to give up.
        until("it is looked at again and again", || attempts() > tried + 6).await;
        let lane = snapshot(&dispatcher, "archive");
        assert_eq!((lane.died, lane.now.open), (0, 1));
        assert!(lane.now.paused.is_none() && lane.now.last_failure.contains("another mask.key"), "{lane:?}");
    }
    let (back, saw_back) = impatient(&hash);
    dispatcher.reload(plan(vec![back]), Duration::from_secs(5)).await.unwrap();
    until_idle(&dispatcher).await;
    assert_eq!((delivered(&saw_back).len(), snapshot(&dispatcher, "archive").died), (1, 0));
    assert!(events.try_recv().is_err(), "nobody hears that the archive is away");
    dispatcher.stop(Duration::from_secs(5)).await;
}

/// A sink that cannot say how it wants its batches.
struct Speechless(Arc<Told>);

impl Sink for Speechless {
    fn batching(&self) -> Batching {
        panic!("on purpose")
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        self.0.batches.lock().unwrap().push(batch.deliveries().iter().map(session).collect());
        good(batch)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_panics_when_asked_for_its_batches_gets_single_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let told = Told::new();
    let speechless = || LanePlan { sink: Arc::new(Speechless(Arc::clone(&told))), ..lane("sink", &told) };
    let (dispatcher, _events) = open(folder.path(), plan(vec![speechless()]));
    push(&dispatcher, "a").await;
    until_idle(&dispatcher).await;
    dispatcher.reload(plan(vec![speechless()]), Duration::from_secs(5)).await.unwrap();
    push(&dispatcher, "b").await;
    until_idle(&dispatcher).await;
    assert_eq!(*told.batches.lock().unwrap(), [["a"], ["b"]]);
}
