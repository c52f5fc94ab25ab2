//! The e-mail sink against a real SMTP conversation, and into its outbox.

mod connections;
mod letters;
mod outbox;
mod recipients;
mod server;
mod settings;
mod slow;

use std::sync::Arc;

use cdr_core::{Batch, Delivery, Failure, Outcome, Push, Receipt, Report, registry::AnySink};
use cdr_simulator::smtp::{Privacy, SmtpOptions, SmtpReceiver};
use cdr_sink_email::EmailSettings;
use cdr_tests::{build, push, sample};
use serde_json::{Value, json};

/// Settings that reach this server without TLS, with more or others on top.
fn settings(server: &SmtpReceiver, more: Value) -> Value {
    let url = format!("smtp://127.0.0.1:{}", server.port());
    let mut settings = json!({
        "smtp": { "url": url, "tls": "none" },
        "from": "CDR gateway <cdr@example.com>",
        "to": ["on-call@example.com"],
    });
    merge(&mut settings, more);
    settings
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn email(settings: Value) -> Arc<dyn AnySink> {
    build::<EmailSettings>(settings).expect("good settings")
}

async fn plain_server() -> SmtpReceiver {
    server(Privacy::None, None).await
}

async fn server(privacy: Privacy, login: Option<(&str, &str)>) -> SmtpReceiver {
    let login = login.map(|(username, password)| (username.to_owned(), password.to_owned()));
    SmtpReceiver::start(0, SmtpOptions { privacy, login, ..SmtpOptions::default() }).await.unwrap()
}

/// The published kind of push that alerts: nobody was there.
fn no_seat() -> Arc<Push> {
    push("cdr", sample("cdr/cdr-03-inbound-no-seat-online.json"))
}

/// The only receipt of a report that says delivered for all.
fn delivered(report: &Report) -> &Receipt {
    match report.outcomes() {
        [Outcome::Delivered(receipt), ..] if report.why_unavailable().is_none() => receipt,
        _ => panic!("not delivered: {report:?}"),
    }
}

/// The same pushes, sent again by an operator.
fn replayed(batch: &Batch) -> Batch {
    each(batch, |delivery| Delivery { replay: true, ..delivery })
}

fn each(batch: &Batch, change: impl Fn(Delivery) -> Delivery) -> Batch {
    Batch::new(batch.deliveries().iter().cloned().map(change).collect()).unwrap()
}

/// Why all of a batch is tried again, though the sink is there.
fn retry(report: &Report) -> &Failure {
    match (report.outcomes(), report.why_unavailable()) {
        ([Outcome::Retry(failure), ..], None) => failure,
        other => panic!("not a retry: {other:?}"),
    }
}
