//! Many pushes in one request, for receivers that take an array or a line for each.
//!
//! The answer is one for all. When the receiver does not want the whole, each push is sent alone at once, so that one that it
//! never takes costs the others nothing but a request.

use bytes::Bytes;
use cdr_core::{Batch, Batching, Delivery, Failure, Outcome, Report, Unavailable};
use cdr_expression::Variables;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::{request::Unmade, sink::HttpSink, wire::Unanswered};

/// How the pushes of a request stand in its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON array.
    #[default]
    Array,
    /// A line for each (<https://github.com/ndjson/ndjson-spec>).
    Ndjson,
}

/// How pushes are bundled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bundling {
    pub format: Format,
    pub batching: Batching,
}

/// Delivers a batch as one request.
pub(crate) async fn deliver(sink: &HttpSink, format: Format, batch: &Batch) -> Report {
    let deadline = Instant::now() + sink.timeout;
    let mut report = Report::untried(batch);
    let mut bundle: Vec<(usize, &Delivery, Bytes)> = Vec::new();
    for (index, delivery) in batch.deliveries().iter().enumerate() {
        match body(sink, delivery) {
            Ok(body) => bundle.push((index, delivery, body)),
            Err(outcome) => report.set(index, outcome),
        }
    }
    if bundle.is_empty() {
        return report;
    }
    let whole = timeout_at(deadline, attempt(sink, format, &bundle, deadline)).await;
    match whole.unwrap_or_else(|_| Ok(late(sink))) {
        Err(away) => return report.and_unavailable(away),
        Ok(Outcome::Reject(_)) if bundle.len() > 1 => {}
        Ok(outcome) => {
            bundle.iter().for_each(|(index, ..)| report.set(*index, outcome.clone()));
            return report;
        }
    }
    for one in bundle.chunks(1) {
        match timeout_at(deadline, attempt(sink, format, one, deadline)).await {
            // Those behind it are opened again: nothing was tried on them. It was tried, or it would be the first again for ever.
            Err(_) => {
                report.set(one[0].0, late(sink));
                break;
            }
            Ok(Err(away)) => return report.and_unavailable(away),
            Ok(Ok(outcome)) => report.set(one[0].0, outcome),
        }
    }
    report
}

/// What stands for a push in the body; an outcome when nothing can.
fn body(sink: &HttpSink, delivery: &Delivery) -> Result<Bytes, Outcome> {
    let variables = sink.variables(delivery);
    sink.last().request.body(&delivery.push, &variables).map_err(|unmade| match unmade {
        Unmade::Never(reason) => Outcome::Reject(Failure::new(reason)),
        Unmade::NotNow(reason) => Outcome::Retry(Failure::new(reason)),
    })
}

/// `Err` when the receiver takes nothing at present, whatever the pushes.
async fn attempt(
    sink: &HttpSink,
    format: Format,
    bundle: &[(usize, &Delivery, Bytes)],
    deadline: Instant,
) -> Result<Outcome, Unavailable> {
    let step = sink.last();
    let deliveries: Vec<&Delivery> = bundle.iter().map(|(_, delivery, _)| *delivery).collect();
    let body = join(format, bundle.iter().map(|(.., body)| body));
    let mut variables: Variables<'_> = sink.variables(deliveries[0]);
    let request = match step.request.fill_bundle(&deliveries, body, &variables) {
        Ok(request) => request,
        Err(Unmade::Never(reason) | Unmade::NotNow(reason)) => {
            return Ok(Outcome::Reject(Failure::new(reason)));
        }
    };
    match sink.wire.ask(request, step.rules.look(), deadline).await {
        Ok(answer) => step.rules.judge(&answer, &mut variables),
        Err(Unanswered::Broken(reason)) => Ok(Outcome::Retry(Failure::new(reason))),
        Err(Unanswered::Away(away)) => Err(away),
    }
}

fn late(sink: &HttpSink) -> Outcome {
    let origin = sink.wire.receiver.origin();
    Outcome::Retry(Failure::new(format!("no whole answer from {origin} within {:?}", sink.timeout)))
}

/// One body of many. Each is one JSON object: that is what the door takes, and what a mapping gives.
fn join<'b>(format: Format, bodies: impl Iterator<Item = &'b Bytes>) -> Bytes {
    let mut joined = Vec::new();
    for body in bodies {
        // RFC 8259 §8.1 lets the mark be ignored in front of a text, and nowhere else.
        let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
        match format {
            Format::Array => {
                joined.push(if joined.is_empty() { b'[' } else { b',' });
                joined.extend_from_slice(body);
            }
            Format::Ndjson => {
                // A line break in JSON stands between its parts; in a text it is escaped.
                joined.extend(body.iter().map(|byte| match byte {
                    b'\n' | b'\r' => b' ',
                    other => *other,
                }));
                joined.push(b'\n');
            }
        }
    }
    if format == Format::Array {
        joined.push(b']');
    }
    joined.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_as_many_values_as_before() {
        let bodies = ["{\"a\":1}", "\u{feff}{\n \"b\": \"x\\ny\"\r\n}", "{}"].map(Bytes::from);
        let array: serde_json::Value = serde_json::from_slice(&join(Format::Array, bodies.iter())).unwrap();
        let expected = serde_json::json!([{ "a": 1 }, { "b": "x\ny" }, {}]);
        assert_eq!(array, expected);
        let lines = join(Format::Ndjson, bodies.iter());
        let lines: Vec<serde_json::Value> = lines
            .split_inclusive(|&byte| byte == b'\n')
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(serde_json::Value::from(lines), expected);
    }
}
