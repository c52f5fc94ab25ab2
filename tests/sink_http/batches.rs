//! Many pushes in one request.

use super::*;
use cdr_simulator::crm::Behaviour;

fn pushes(sessions: &[&str]) -> Vec<Arc<Push>> {
    sessions.iter().map(|session| push("cdr", format!("{{\n\"SessionId\":\"{session}\"}}"))).collect()
}

fn with_batch(crm: &Crm, mut settings: Value) -> Arc<dyn AnySink> {
    let format = settings.get("format").cloned().unwrap_or(json!("array"));
    settings.as_object_mut().unwrap().remove("format");
    settings["batch"] = json!({ "pushes": 3, "age": "1s", "format": format });
    sink(&crm.url(), settings)
}

fn outcomes(report: &Report) -> Vec<&'static str> {
    let told = |outcome: &Outcome| match outcome {
        Outcome::Delivered(_) => "delivered",
        Outcome::Retry(_) => "retry",
        Outcome::Reject(_) => "reject",
        Outcome::Untried => "untried",
    };
    report.outcomes().iter().map(told).collect()
}

#[tokio::test]
async fn a_batch_is_an_array_or_lines_in_the_order_of_its_pushes() {
    let crm = crm().await;
    let array = with_batch(&crm, json!({ "body": { "id": "{{SessionId}}" } }));
    assert_eq!((array.batching().pushes, array.batching().wait), (3, std::time::Duration::from_secs(1)));
    let report = array.deliver(&batch(pushes(&["1", "2", "3"]))).await;
    assert_eq!(outcomes(&report), ["delivered"; 3]);
    let lines = with_batch(&crm, json!({ "format": "ndjson" }));
    let report = lines.deliver(&batch(pushes(&["4", "5"]))).await;
    assert_eq!(outcomes(&report), ["delivered"; 2]);
    let [first, second] = <[_; 2]>::try_from(crm.received()).unwrap();
    assert_eq!(first.body, r#"[{"id":"1"},{"id":"2"},{"id":"3"}]"#);
    assert_eq!(second.body, "{ \"SessionId\":\"4\"}\n{ \"SessionId\":\"5\"}\n");
    assert_eq!(first.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(second.header("content-type"), Some("application/x-ndjson"));
}

#[tokio::test]
async fn a_repeat_bears_the_same_key_and_no_other_batch_does() {
    let crm = crm().await;
    let sink = with_batch(&crm, json!({}));
    let all = pushes(&["1", "2", "3", "4"]);
    let of = |numbers: [usize; 3]| batch(numbers.map(|number| Arc::clone(&all[number])));
    for numbers in [[0, 1, 3], [0, 1, 3], [0, 2, 3]] {
        assert_eq!(outcomes(&sink.deliver(&of(numbers)).await), ["delivered"; 3]);
    }
    let repeats: Vec<_> = crm.received().iter().map(|received| received.repeat).collect();
    assert_eq!(repeats, [false, true, false]);
}

#[tokio::test]
async fn one_that_is_never_taken_costs_the_others_nothing() {
    let crm = crm().await;
    crm.behave(Behaviour::status(422).body("poison?").only_for("poison"));
    let report = with_batch(&crm, json!({})).deliver(&batch(pushes(&["1", "poison", "3"]))).await;
    assert_eq!(outcomes(&report), ["delivered", "reject", "delivered"]);
    assert_eq!((crm.received().len(), crm.kept()), (4, 2));
}

#[tokio::test]
async fn an_answer_is_one_for_all() {
    let crm = crm().await;
    let sink = with_batch(&crm, json!({}));
    crm.behave(Behaviour::status(500).times(1));
    assert_eq!(outcomes(&sink.deliver(&batch(pushes(&["1", "2"]))).await), ["retry"; 2]);
    crm.behave(Behaviour::status(429).times(1));
    let report = sink.deliver(&batch(pushes(&["1", "2"]))).await;
    assert_eq!(outcomes(&report), ["untried"; 2]);
    assert!(report.why_unavailable().is_some());
}

#[tokio::test]
async fn a_push_that_nothing_can_be_made_of_stays_out() {
    let crm = crm().await;
    let sink = with_batch(&crm, json!({ "body": { "seconds": "{{Duration + 1}}" } }));
    let good = push("cdr", r#"{"SessionId":"2","Duration":1}"#);
    let report = sink.deliver(&batch([pushes(&["1"]).remove(0), good])).await;
    assert_eq!(outcomes(&report), ["reject", "delivered"]);
    assert_eq!(crm.received()[0].body, r#"[{"seconds":2}]"#);
}
