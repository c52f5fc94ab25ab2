//! The `http` sink against real receivers: what they get, and what their answers mean.

mod batches;
mod connections;
mod hostile;
mod login;
mod mapping;
mod network;
mod outcomes;
mod presets;
mod redirects;
mod requests;
mod settings;
mod steps;
mod tls;

use std::sync::Arc;

use cdr_core::{Failure, Outcome, Push, Report, Unavailable, registry::AnySink};
use cdr_simulator::crm::Crm;
use cdr_sink_http::HttpSettings;
use cdr_tests::{batch, build, push};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

async fn crm() -> Crm {
    Crm::start("127.0.0.1:0").await.unwrap()
}

/// A sink with these settings beside its `url`.
fn sink(url: &str, mut settings: Value) -> Arc<dyn AnySink> {
    settings["url"] = json!(url);
    build::<HttpSettings>(settings).unwrap_or_else(|faults| panic!("{faults:?}"))
}

async fn send(sink: &Arc<dyn AnySink>, push: &Arc<Push>) -> Report {
    sink.deliver(&batch([Arc::clone(push)])).await
}

/// One attempt on a small push.
async fn attempt(sink: &Arc<dyn AnySink>) -> Report {
    send(sink, &push("cdr", r#"{"SessionId":"s"}"#)).await
}

fn receipt(report: &Report) -> &str {
    match (report.outcomes(), report.why_unavailable()) {
        ([Outcome::Delivered(receipt)], None) => &receipt.0,
        other => panic!("not delivered: {other:?}"),
    }
}

fn retry(report: &Report) -> &Failure {
    match (report.outcomes(), report.why_unavailable()) {
        ([Outcome::Retry(failure)], None) => failure,
        other => panic!("no retry: {other:?}"),
    }
}

fn reject(report: &Report) -> &Failure {
    match (report.outcomes(), report.why_unavailable()) {
        ([Outcome::Reject(failure)], None) => failure,
        other => panic!("not rejected: {other:?}"),
    }
}

fn away(report: &Report) -> &Unavailable {
    match (report.outcomes(), report.why_unavailable()) {
        ([Outcome::Untried], Some(why)) => why,
        other => panic!("not away: {other:?}"),
    }
}

/// A receiver that says `answer` to whoever connects, as soon as a first byte has come, and hangs up.
async fn crude(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1]).await;
            let _ = stream.write_all(answer).await;
        }
    });
    url
}
