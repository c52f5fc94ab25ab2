//! What becomes of a mail that the server takes for some of its recipients.

use std::sync::Arc;

use cdr_core::{Batch, Delivery, Outcome, Report, registry::AnySink};
use cdr_simulator::smtp::{Mishap, SmtpReceiver, Step};
use cdr_tests::{batch, push};
use serde_json::json;

use super::{delivered, each, email, no_seat, plain_server, retry, settings};

/// A sink with three recipients.
fn three(server: &SmtpReceiver) -> Arc<dyn AnySink> {
    let to = ["ann@example.com", "bob@example.com", "Čeněk <cenek@example.org>"];
    email(settings(server, json!({ "to": to })))
}

/// The same batch as the lane brings it again.
fn again(batch: &Batch) -> Batch {
    each(batch, |delivery| Delivery { attempt: delivery.attempt + 1, ..delivery })
}

/// These batches as one.
fn together(batches: &[&Batch]) -> Batch {
    Batch::new(batches.iter().flat_map(|batch| batch.deliveries().iter().cloned()).collect()).unwrap()
}

fn told(server: &SmtpReceiver) -> Vec<Vec<String>> {
    server.mails().into_iter().map(|mail| mail.to).collect()
}

/// Two calls, of which ann is not told yet.
async fn put_off(server: &SmtpReceiver, sink: &Arc<dyn AnySink>) -> (Batch, Report) {
    let calls = batch([no_seat(), push("cdr", r#"{"SessionId":"x","EndStatusString":"noSeatOnline"}"#)]);
    server.misbehave(Mishap::reply(Step::Rcpt, "450 4.2.0 greylisted").about("ann@").times(1));
    let report = sink.deliver(&calls).await;
    (calls, report)
}

#[tokio::test]
async fn those_who_are_not_refused_get_the_mail() {
    let server = plain_server().await;
    let sink = three(&server);
    server.misbehave(Mishap::reply(Step::Rcpt, "550 5.1.1 <bob@example.com>: no such user").about("bob@"));
    let report = sink.deliver(&batch([no_seat()])).await;
    let receipt = delivered(&report);
    assert!(receipt.0.ends_with("; refused: to.1 b…@example.com (550)"), "{receipt:?}");
    assert!(!receipt.0.contains("bob"));
    assert_eq!(told(&server), [["ann@example.com", "cenek@example.org"]]);
}

#[tokio::test]
async fn a_mail_that_nobody_takes_pauses_the_sink_or_waits() {
    let server = plain_server().await;
    let sink = three(&server);
    server.misbehave(Mishap::reply(Step::Rcpt, "450 4.2.0 later").about("ann@"));
    server.misbehave(Mishap::reply(Step::Rcpt, "550 5.1.1 no such user"));
    let report = sink.deliver(&batch([no_seat()])).await;
    assert!(
        retry(&report).reason.contains("refused every recipient: to.0 a…@example.com (450)"),
        "{report:?}"
    );
    server.behave_well();
    server.misbehave(Mishap::reply(Step::Rcpt, "550 5.1.1 no such user"));
    let report = sink.deliver(&batch([no_seat()])).await;
    assert_eq!(report.outcomes(), [Outcome::Untried]);
    let away = report.why_unavailable().unwrap();
    assert!(away.reason.ends_with("; check `to`"), "{away:?}");
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn who_is_put_off_is_told_later_alone_and_by_the_same_mail() {
    let server = plain_server().await;
    let sink = three(&server);
    let (calls, report) = put_off(&server, &sink).await;
    let failure = retry(&report);
    assert!(
        failure.reason.ends_with("put off to.0 a…@example.com (450); the others have the mail"),
        "{failure:?}"
    );
    assert!(failure.is_alone, "the sink is there");
    assert!(report.memo().is_some(), "it left, so the next mail is one of the same incident");

    // However long she is put off, and whatever comes meanwhile.
    let (fresh, calls) = (batch([no_seat()]), again(&calls));
    server.misbehave(Mishap::reply(Step::Rcpt, "450 4.2.0 greylisted").about("ann@").times(2));
    let report = sink.deliver(&together(&[&calls, &fresh])).await;
    let is_alone = |outcome: &Outcome| matches!(outcome, Outcome::Retry(failure) if failure.is_alone);
    assert!(report.outcomes().iter().all(is_alone), "{report:?}");
    let last = batch([no_seat()]);
    let report = sink.deliver(&together(&[&again(&calls), &again(&fresh), &last])).await;
    assert!(matches!(report.outcomes(), [.., Outcome::Delivered(_)]), "{report:?}");
    delivered(&report);
    let others = ["bob@example.com", "cenek@example.org"];
    let all = ["ann@example.com", "bob@example.com", "cenek@example.org"];
    let ann = ["ann@example.com"];
    assert_eq!(
        told(&server),
        [&others[..], &others[..], &all[..], &ann[..], &ann[..]],
        "what is new comes first"
    );
    let mails = server.mails();
    assert!(mails[0].raw == mails[3].raw && mails[1].raw == mails[4].raw);
}

#[tokio::test]
async fn calls_of_a_mail_that_come_again_one_by_one_are_told_once() {
    let server = plain_server().await;
    let sink = three(&server);
    let (calls, _) = put_off(&server, &sink).await;
    for delivery in again(&calls).deliveries() {
        delivered(&sink.deliver(&Batch::new(vec![delivery.clone()]).unwrap()).await);
    }
    assert_eq!(told(&server).len(), 2);
}

#[tokio::test]
async fn who_is_put_off_and_then_refused_holds_up_nothing() {
    let server = plain_server().await;
    let sink = three(&server);
    let (calls, _) = put_off(&server, &sink).await;
    server.misbehave(Mishap::reply(Step::Rcpt, "550 5.1.1 no such user").about("ann@"));
    let report = sink.deliver(&again(&calls)).await;
    assert!(
        delivered(&report).0.contains("refused every recipient: to.0 a…@example.com (550)"),
        "{report:?}"
    );
    assert_eq!(told(&server).len(), 1);
}

#[tokio::test]
async fn after_a_restart_and_when_a_person_sends_it_again_it_goes_to_all() {
    let server = plain_server().await;
    let sink = three(&server);
    let (calls, _) = put_off(&server, &sink).await;
    delivered(&three(&server).deliver(&again(&calls)).await);
    delivered(&sink.deliver(&calls).await);
    let everybody: Vec<usize> = told(&server).iter().map(Vec::len).collect();
    assert_eq!(everybody, [2, 3, 3]);
    let ids: Vec<String> = server.mails().into_iter().map(|mail| mail.message_id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "a repeat can be told by its id: {ids:?}");
}

#[tokio::test]
async fn an_end_is_told_later_to_those_who_were_put_off() {
    let server = plain_server().await;
    let sink = three(&server);
    let calls = batch([no_seat(), no_seat()]);
    let report = sink.deliver(&calls).await;
    let (memo, partition) = (report.memo().unwrap(), sink.partition(&calls.first().push));
    server.misbehave(Mishap::reply(Step::Rcpt, "450 4.2.0 greylisted").about("ann@").times(2));
    for _ in 0..2 {
        let outcome = sink.close(&partition, memo).await;
        assert!(matches!(&outcome, Outcome::Retry(failure) if failure.is_alone), "{outcome:?}");
    }
    let outcome = sink.close(&partition, memo).await;
    assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
    assert_eq!(told(&server).iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 1]);
}

#[tokio::test]
async fn recipients_of_one_route_who_do_not_exist_hold_up_no_others() {
    let server = plain_server().await;
    let sink = email(settings(&server, json!({ "to_by_route": { "sales": ["nobody@example.com"] } })));
    server.misbehave(Mishap::reply(Step::Rcpt, "550 5.1.1 no such user").about("nobody@"));
    let of_sales =
        each(&batch([no_seat()]), |delivery| Delivery { routes: Arc::new(["sales".to_owned()]), ..delivery });
    let report = sink.deliver(&together(&[&of_sales, &batch([no_seat()])])).await;
    let [Outcome::Retry(failure), Outcome::Delivered(_)] = report.outcomes() else { panic!("{report:?}") };
    assert!(
        failure.is_alone && failure.reason.contains("to_by_route.sales.0 n…@example.com (550)"),
        "{failure:?}"
    );
    assert!(report.why_unavailable().is_none());
    assert_eq!(told(&server), [["on-call@example.com"]]);
}
