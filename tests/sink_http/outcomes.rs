//! What an answer means.

use std::time::{Duration, SystemTime};

use super::*;
use cdr_simulator::crm::Behaviour;

#[tokio::test]
async fn every_status_goes_where_the_table_says() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    let outcome = async |status: u16| {
        crm.behave(Behaviour::status(status).body("why").times(1));
        let report = attempt(&sink).await;
        match (&report.outcomes()[0], report.why_unavailable()) {
            (Outcome::Delivered(_), None) => "delivered",
            (Outcome::Retry(failure), None) if failure.excerpt == "why" => "retry",
            (Outcome::Reject(failure), None) if failure.excerpt == "why" => "reject",
            (Outcome::Untried, Some(_)) => "away",
            other => panic!("{status}: {other:?}"),
        }
    };
    for status in [200, 201, 202, 299] {
        assert_eq!(outcome(status).await, "delivered", "{status}");
    }
    for status in [302, 303, 404, 405, 408, 409, 425, 500, 502, 503, 504, 599] {
        assert_eq!(outcome(status).await, "retry", "{status}");
    }
    for status in [400, 413, 414, 415, 422, 431] {
        assert_eq!(outcome(status).await, "reject", "{status}");
    }
    for status in [300, 301, 307, 308, 401, 403, 407, 429] {
        assert_eq!(outcome(status).await, "away", "{status}");
    }
}

#[tokio::test]
async fn a_204_without_a_body_is_delivered() {
    let crm = crm().await;
    crm.behave(Behaviour::status(204));
    assert_eq!(receipt(&attempt(&sink(&crm.url(), json!({}))).await), "HTTP 204");
}

#[tokio::test]
async fn the_reason_names_the_status_and_what_to_do() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    crm.behave(Behaviour::status(500).times(1));
    assert_eq!(retry(&attempt(&sink).await).reason, "the receiver answered 500 Internal Server Error");
    crm.behave(Behaviour::status(401).times(1));
    assert_eq!(away(&attempt(&sink).await).reason, "the receiver answered 401 Unauthorized; check auth");
}

#[tokio::test]
async fn retry_after_is_obeyed_in_both_forms() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    let answer = async |status: u16, value: &str| {
        crm.behave(Behaviour::status(status).header("retry-after", value).times(1));
        attempt(&sink).await
    };
    for status in [429, 503] {
        let wait = away(&answer(status, "120").await).retry_after;
        assert_eq!(wait, Some(Duration::from_secs(120)), "{status}");
        let in_an_hour = http_date(SystemTime::now() + Duration::from_secs(3600));
        let wait = away(&answer(status, &in_an_hour).await).retry_after.unwrap();
        assert!(wait > Duration::from_secs(3000) && wait <= Duration::from_secs(3600), "{status}: {wait:?}");
        assert_eq!(away(&answer(status, "soon").await).retry_after, None, "{status}");
    }
    assert_eq!(retry(&answer(500, "7").await).retry_after, Some(Duration::from_secs(7)));
}

fn http_date(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[tokio::test]
async fn a_non_zero_err_code_in_a_200_is_a_retry() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    crm.behave(Behaviour::err_code().times(1));
    let report = attempt(&sink).await;
    assert_eq!(retry(&report).reason, "the receiver answered 200 OK with ErrCode 1");
    assert_eq!(retry(&report).excerpt, r#"{"ErrCode":1,"ErrMsg":"busy"}"#);
    for refused in
        [r#"{"ErrCode":"-3"}"#, r#"{"ErrCode":0,"ErrCode":5}"#, r#"{"ErrCode":"no +8613800138000"}"#]
    {
        crm.behave(Behaviour::status(200).body(refused).times(1));
        let report = attempt(&sink).await;
        assert!(!retry(&report).reason.contains("138"), "{refused}");
    }
    for taken in
        [r#"{"ErrCode":"0"}"#, r#"{"ErrCode":null}"#, r#"{"errcode":1}"#, r#"[{"ErrCode":1}]"#, "ErrCode: 1"]
    {
        crm.behave(Behaviour::status(200).body(taken).times(1));
        assert_eq!(receipt(&attempt(&sink).await), "HTTP 200", "{taken}");
    }
}

#[tokio::test]
async fn err_codes_can_be_left_unread() {
    let crm = crm().await;
    crm.behave(Behaviour::err_code());
    let sink = sink(&crm.url(), json!({ "success": { "err_code": false } }));
    assert_eq!(receipt(&attempt(&sink).await), "HTTP 200");
}

#[tokio::test]
async fn of_a_long_answer_the_beginning_is_kept() {
    let crm = crm().await;
    crm.behave(Behaviour::status(500).body("x".repeat(4 << 20)));
    let sink = sink(&crm.url(), json!({}));
    assert_eq!(retry(&attempt(&sink).await).excerpt, "x".repeat(Failure::EXCERPT));
    crm.behave(Behaviour::status(200).body("x".repeat(4 << 20)));
    assert_eq!(receipt(&attempt(&sink).await), "HTTP 200");
}

#[tokio::test]
async fn a_behaviour_for_some_bodies_leaves_the_others_alone() {
    let crm = crm().await;
    crm.behave(Behaviour::status(422).only_for("poison"));
    let sink = sink(&crm.url(), json!({}));
    reject(&send(&sink, &push("cdr", r#"{"SessionId":"poison"}"#)).await);
    receipt(&send(&sink, &push("cdr", r#"{"SessionId":"fine"}"#)).await);
    assert_eq!((crm.kept(), crm.received().len()), (1, 2));
}

#[tokio::test]
async fn a_crm_that_loses_is_found_out_by_what_it_kept() {
    let crm = crm().await;
    crm.behave(Behaviour::loses().times(1));
    let sink = sink(&crm.url(), json!({}));
    receipt(&attempt(&sink).await);
    receipt(&attempt(&sink).await);
    assert_eq!((crm.kept(), crm.received().len()), (1, 2));
}
