//! A mail server that takes its time: waited for as long as an attempt may last, and nobody is told twice because of it.

use std::{sync::Arc, time::Duration};

use cdr_core::{ATTEMPT_DEADLINE, Batch, Delivery, Outcome, Report};
use cdr_simulator::smtp::{Mishap, SmtpReceiver, Step};
use cdr_tests::batch;
use serde_json::json;
use tokio::{task::JoinHandle, time::Instant};

use super::{delivered, each, email, no_seat, plain_server, retry, server::Log, settings};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Until the server has so many mails and owes the answer to the last of them; then this time goes by at once.
async fn let_pass(server: &SmtpReceiver, mails: usize, time: Duration) {
    let has_them = async {
        while server.mails().len() < mails {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(seconds(10), has_them).await.expect("the server has the mails");
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// An attempt that goes on beside the test.
fn attempt(settings: serde_json::Value, batch: Batch) -> JoinHandle<Report> {
    let sink = email(settings);
    tokio::spawn(async move { sink.deliver(&batch).await })
}

#[tokio::test]
async fn a_server_that_looks_long_at_a_text_is_waited_for() {
    let server = plain_server().await;
    server.misbehave(Mishap::late(Step::Kept, seconds(100)));
    let attempt = attempt(settings(&server, json!({})), batch([no_seat()]));
    let_pass(&server, 1, seconds(101)).await;
    delivered(&attempt.await.unwrap());
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_text_that_is_never_answered_is_told_before_the_lane_ends_the_attempt() {
    let server = plain_server().await;
    server.misbehave(Mishap::stall(Step::Kept));
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(log.clone());
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let began = Instant::now();
    let attempt = attempt(settings(&server, json!({})), batch([no_seat()]));
    let_pass(&server, 1, ATTEMPT_DEADLINE - seconds(4)).await;
    let report = attempt.await.unwrap();
    assert!(began.elapsed() < ATTEMPT_DEADLINE, "the lane had cut it off");
    assert!(retry(&report).reason.contains("had the mail's text and did not say within 1"), "{report:?}");
    assert!(log.text().contains("people may have it twice"), "{}", log.text());
}

/// A call for each of three groups of recipients.
fn three_groups() -> Batch {
    let of = |route: &str| {
        let routes: Arc<[String]> = Arc::new([route.to_owned()]);
        each(&batch([no_seat()]), |delivery| Delivery { routes: Arc::clone(&routes), ..delivery })
    };
    Batch::new(["a", "b", "c"].iter().flat_map(|route| of(route).deliveries().to_vec()).collect()).unwrap()
}

#[tokio::test]
async fn groups_for_whom_no_time_is_left_are_not_begun() {
    let server = plain_server().await;
    let to = json!({ "a": ["a@example.com"], "b": ["b@example.com"], "c": ["c@example.com"] });
    server.misbehave(Mishap::late(Step::Kept, seconds(50)));
    let began = Instant::now();
    let attempt = attempt(settings(&server, json!({ "to_by_route": to })), three_groups());
    let_pass(&server, 1, seconds(50)).await;
    let_pass(&server, 2, seconds(50)).await;
    let report = attempt.await.unwrap();
    assert!(began.elapsed() < ATTEMPT_DEADLINE);
    let [Outcome::Delivered(_), Outcome::Delivered(_), Outcome::Untried] = report.outcomes() else {
        panic!("{report:?}")
    };
    assert!(report.why_unavailable().is_none() && report.memo().is_some());
    assert_eq!(server.mails().len(), 2, "and nobody of them is told in vain");
}

#[tokio::test]
async fn after_a_mail_that_took_most_of_the_time_no_other_is_begun() {
    let server = plain_server().await;
    let to = json!({ "a": ["a@example.com"], "b": ["b@example.com"], "c": ["c@example.com"] });
    server.misbehave(Mishap::late(Step::Kept, seconds(60)));
    // More than a timeout is left, and yet another answer would come too late.
    let attempt = attempt(settings(&server, json!({ "to_by_route": to })), three_groups());
    let_pass(&server, 1, seconds(60)).await;
    let report = attempt.await.unwrap();
    let [Outcome::Delivered(_), Outcome::Untried, Outcome::Untried] = report.outcomes() else {
        panic!("{report:?}")
    };
}
