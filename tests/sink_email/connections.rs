//! One connection for the mails of a burst, and never a mail twice because of that.

use cdr_core::Outcome;
use cdr_simulator::smtp::{Mishap, Privacy, SmtpReceiver, Step};
use cdr_tests::batch;
use serde_json::json;

use super::{delivered, email, no_seat, plain_server, retry, server, settings};

fn commands(server: &SmtpReceiver, verb: &str) -> usize {
    server.lines().iter().filter(|line| line.starts_with(verb)).count()
}

#[tokio::test]
async fn the_mails_of_a_burst_share_a_connection_and_a_login() {
    let server = server(Privacy::None, Some(("cdr", "secret"))).await;
    let sink = email(settings(&server, json!({ "smtp": { "username": "cdr", "password": "secret" } })));
    for _ in 0..3 {
        delivered(&sink.deliver(&batch([no_seat()])).await);
    }
    assert_eq!((server.mails().len(), server.connections(), commands(&server, "AUTH")), (3, 1, 1));
    assert_eq!(
        (commands(&server, "RSET"), commands(&server, "QUIT")),
        (2, 0),
        "it is asked before it is used"
    );
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let mut server = plain_server().await;
    let sink = email(settings(&server, json!({})));
    delivered(&sink.deliver(&batch([no_seat()])).await);
    server.go_away().await;
    server.come_back().await.unwrap();
    delivered(&sink.deliver(&batch([no_seat()])).await);
    assert_eq!((server.mails().len(), server.connections()), (2, 2));
}

#[tokio::test]
async fn a_server_that_has_enough_of_a_connection_is_given_another() {
    let server = plain_server().await;
    let sink = email(settings(&server, json!({})));
    for (number, mishap) in [
        Mishap::reply(Step::Mail, "421 4.7.0 too many mails on this connection"),
        Mishap::cut(Step::Rcpt),
        Mishap::cut(Step::Data),
    ]
    .into_iter()
    .enumerate()
    {
        delivered(&sink.deliver(&batch([no_seat()])).await);
        server.misbehave(mishap.times(1));
        delivered(&sink.deliver(&batch([no_seat()])).await);
        assert_eq!((server.mails().len(), server.connections()), (2 * number + 2, number + 2));
    }
}

#[tokio::test]
async fn once_its_text_is_on_the_way_a_mail_is_not_sent_again() {
    let server = plain_server().await;
    let sink = email(settings(&server, json!({})));
    for step in [Step::Content, Step::End, Step::Kept] {
        delivered(&sink.deliver(&batch([no_seat()])).await);
        let (mails, connections) = (server.mails().len(), server.connections());
        server.misbehave(Mishap::cut(step).times(1));
        let report = sink.deliver(&batch([no_seat()])).await;
        assert!(retry(&report).reason.contains("broke in the middle of the mail"), "{step:?}: {report:?}");
        let kept = usize::from(step == Step::Kept);
        assert_eq!((server.mails().len(), server.connections()), (mails + kept, connections), "{step:?}");
    }
}

#[tokio::test]
async fn a_mail_that_is_refused_leaves_nothing_behind_for_the_next() {
    let server = plain_server().await;
    let sink = email(settings(&server, json!({})));
    delivered(&sink.deliver(&batch([no_seat()])).await);
    server.misbehave(Mishap::reply(Step::Data, "554 5.7.1 looks like spam").times(1));
    assert!(matches!(sink.deliver(&batch([no_seat()])).await.outcomes(), [Outcome::Reject(_)]));
    delivered(&sink.deliver(&batch([no_seat()])).await);
    assert_eq!(server.mails().iter().map(|mail| mail.to.len()).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(server.connections(), 1);
}
