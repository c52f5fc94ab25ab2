//! What may be with the receiver already is said to the sink, so that it can ask before it sends.

use super::*;

/// How a push came each time, of which the sink made this report.
type Came = Arc<Mutex<Vec<(String, u32, bool)>>>;

fn notes(sink: &Told, answer: impl Fn(&Batch) -> Report + Send + Sync + 'static) -> Came {
    let came = Came::default();
    let noted = Arc::clone(&came);
    sink.answers(move |batch| {
        let delivery = batch.first();
        noted.lock().unwrap().push((session(delivery), delivery.attempt, delivery.may_be_there));
        answer(batch)
    });
    came
}

fn of(came: &Came, session: &str) -> Vec<(u32, bool)> {
    let came = came.lock().unwrap();
    came.iter()
        .filter(|(id, ..)| id == session)
        .map(|&(_, attempt, may_be_there)| (attempt, may_be_there))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_away_may_be_there_though_no_attempt_counts() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let came = notes(&sink, move |batch| match is_first.swap(false, Ordering::Relaxed) {
        true => away(batch),
        false => good(batch),
    });
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    push(&dispatcher, "stored").await;
    until_idle(&dispatcher).await;
    push(&dispatcher, "fresh").await;
    until_idle(&dispatcher).await;
    assert_eq!((of(&came, "stored"), of(&came, "fresh")), (vec![(1, false), (1, true)], vec![(1, false)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_sent_again_may_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    let came = notes(&sink, fails);
    let mut brief = lane("sink", &sink);
    brief.retry.give_up_after = Some(Duration::ZERO);
    let (dispatcher, _events) = open(folder.path(), plan(vec![brief]));
    let position = push(&dispatcher, "s").await;
    until("it is given up", || snapshot(&dispatcher, "sink").died == 1).await;
    until_idle(&dispatcher).await;
    assert_eq!(of(&came, "s"), [(1, false)]);
    let came = notes(&sink, good);
    dispatcher.retry_dead("sink", &[position]).await.unwrap();
    until("delivered", || snapshot(&dispatcher, "sink").delivered == 1).await;
    assert_eq!(of(&came, "s"), [(1, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_left_open_may_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Told::new();
    sink.answers(|batch| if session(batch.first()) == "open" { away(batch) } else { good(batch) });
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    for session in ["open", "closed"] {
        push(&dispatcher, session).await;
    }
    until("the other passed", || snapshot(&dispatcher, "sink").delivered == 1).await;
    dispatcher.stop(Duration::from_secs(5)).await;
    drop(dispatcher);
    let came = notes(&sink, good);
    let (dispatcher, _events) = open(folder.path(), plan(vec![lane("sink", &sink)]));
    until_idle(&dispatcher).await;
    let attempts = of(&came, "open");
    assert_eq!(attempts.iter().map(|&(_, may_be_there)| may_be_there).collect::<Vec<_>>(), [true]);
}
