//! What only a person can mend waits beside everything else, in sight.

use super::{
    sealed::{Sealing, numbered, push_all, sealing},
    *,
};

/// More than a lane holds open of what does not wait for a person.
const STUCK: usize = 4500;

/// Longer than any test: a second look, or a second probe, would come too late.
const SLOW: RetryPolicy = RetryPolicy { initial: Duration::from_secs(60), ..QUICK };

fn lacks_a_key(batch: &Batch) -> Report {
    Report::unavailable(batch, Unavailable::new("the key of it is lost").until_mended())
}

fn without_a_key(batch: &Batch) -> Report {
    if session(batch.first()).starts_with("lost") { lacks_a_key(batch) } else { good(batch) }
}

fn archive() -> (Arc<Sealing>, Plan) {
    let batching =
        Batching { pushes: 100, bytes: 1 << 20, wait: Duration::from_millis(20), spacing: Duration::ZERO };
    let sink = Sealing::batching("a", batching, without_a_key);
    let lane = LanePlan { retry: RetryPolicy { max: SLOW.initial, ..SLOW }, ..sealing(&sink) };
    (sink, plan(vec![lane]))
}

fn stuck(dispatcher: &Dispatcher) -> usize {
    snapshot(dispatcher, "archive").now.unmended.map_or(0, |unmended| unmended.pushes)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_person_stops_no_lane_however_much_it_is_and_whatever_is_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let (_, planned) = archive();
    let (dispatcher, mut events) = open(folder.path(), planned);
    push_all(&dispatcher, (0..STUCK).map(|number| format!("lost/{number}"))).await;
    push_all(&dispatcher, numbered(0..50)).await;
    until("the others pass", || snapshot(&dispatcher, "archive").delivered == 50).await;
    until("all of it is in sight", || stuck(&dispatcher) == STUCK).await;
    let unmended = snapshot(&dispatcher, "archive").now.unmended.unwrap();
    assert_eq!(unmended.reason, "the key of it is lost");
    assert!(events.try_recv().is_err(), "nobody hears that the archive is away");
    dispatcher.stop(Duration::from_secs(5)).await;
    drop(dispatcher);

    let (_, planned) = archive();
    let (dispatcher, mut events) = open(folder.path(), planned);
    push_all(&dispatcher, numbered(50..100)).await;
    until("the others pass again", || snapshot(&dispatcher, "archive").delivered == 50).await;
    until("it is in sight again", || stuck(&dispatcher) == STUCK).await;
    assert!(events.try_recv().is_err(), "nobody hears that the archive is away");
    dispatcher.stop(Duration::from_secs(5)).await;
    drop(dispatcher);

    let (mended, planned) = archive();
    mended.answers(good);
    let (dispatcher, _events) = open(folder.path(), planned);
    until_idle(&dispatcher).await;
    let lane = snapshot(&dispatcher, "archive");
    assert_eq!((lane.delivered as usize, lane.died, stuck(&dispatcher)), (STUCK, 0, 0));
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_what_waits_for_a_person_is_none_and_the_next_goes_out_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, planned) = archive();
    sink.answers(away);
    let (dispatcher, _events) = open(folder.path(), planned);
    for number in 0..6 {
        push(&dispatcher, &format!("lost{number}/")).await;
    }
    until("it is away", || snapshot(&dispatcher, "archive").now.paused.is_some()).await;
    until("the others are gathered", || snapshot(&dispatcher, "archive").now.open == 6).await;
    sink.answers(without_a_key);
    // A reload lets the lane probe at once, and only then.
    dispatcher.reload(archive().1, Duration::from_secs(5)).await.unwrap();
    until("each is met", || stuck(&dispatcher) >= 6).await;
    let paused = snapshot(&dispatcher, "archive").now.paused.unwrap();
    assert_eq!(paused.reason, "nobody listens");
    push(&dispatcher, "fresh").await;
    until("the fresh one is a probe", || snapshot(&dispatcher, "archive").delivered == 1).await;
    until("it runs again", || snapshot(&dispatcher, "archive").now.paused.is_none()).await;
    dispatcher.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_tries_nothing_leaves_the_reason_of_the_pause() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(away);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    push(&dispatcher, "a").await;
    let paused = || snapshot(&dispatcher, "sink").now.paused;
    until("it is away", || paused().is_some()).await;
    sink.answers(|batch| Report::all(batch, &Outcome::Untried));
    let tried = sink.batches().len();
    until("probes try nothing", || sink.batches().len() > tried + 3).await;
    assert_eq!(paused().unwrap().reason, "nobody listens");
    dispatcher.stop(Duration::from_secs(5)).await;
}
