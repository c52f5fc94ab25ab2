//! The life of a push, as `trace` tells it: for each sink what became of it, and why.

use std::{collections::BTreeMap, sync::Arc};

use cdr_core::{Push, SinkName};
use cdr_dispatch::{
    route::{Missed, Routes},
    stored,
};
use cdr_spool::{LaneLife, Life, Outcome, Position, SpoolId, Told};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value, json};

/// A push and what became of it, by sink.
pub struct Traced {
    push: Arc<Push>,
    sinks: BTreeMap<String, Became>,
}

/// What became of a push at a sink.
enum Became {
    Told(Told),
    /// By the routes of today: none if one of them would take it, or they cannot be read.
    NotRouted(Option<Vec<Missed>>),
}

impl Traced {
    /// What the spool tells, with the sinks that it does not know and the values that decided where the push goes.
    pub fn new(spool: SpoolId, life: Life, sinks: &[String], routes: Option<&Routes>) -> Self {
        let Life { push, lanes } = life;
        let push = stored::from_spool(stored::spool_id(spool), push);
        let became = |LaneLife { lane, told }: LaneLife| {
            let became = match told {
                Told::Outcome(_, Outcome::Passed) => Became::NotRouted(missed(routes, &push, &lane)),
                told => Became::Told(told),
            };
            (lane, became)
        };
        let mut by_sink: BTreeMap<String, Became> = lanes.into_iter().map(became).collect();
        let has_errand =
            |sink: &String| by_sink.keys().any(|lane| lane.split('~').next() == Some(sink.as_str()));
        let silent: Vec<&String> = sinks.iter().filter(|sink| !has_errand(sink)).collect();
        for sink in silent {
            by_sink.entry(sink.clone()).or_insert(Became::Told(Told::Before));
        }
        Self { push, sinks: by_sink }
    }

    /// Where the push lies.
    pub fn position(&self) -> Position {
        stored::spool_position(self.push.position())
    }

    /// For people: a line about the push, and one for each sink.
    pub fn text(&self, timezone: &TimeZone) -> String {
        let facts = self.push.facts();
        let status =
            self.push.cdr().and_then(|cdr| cdr.end_status.as_ref()).map_or("", |status| status.as_str());
        let mut text = format!(
            "push {}: {} {status}, arrived {} from {}, {} bytes, uuid {}",
            self.push.position(),
            facts.action,
            local(facts.received_at, timezone),
            facts.sender.map_or_else(|| "unknown".to_owned(), |sender| sender.to_string()),
            self.push.body().len(),
            facts.uuid.as_deref().unwrap_or("none"),
        );
        for (sink, became) in &self.sinks {
            let sentence = match became {
                Became::Told(told) => self.told_in_words(sink, told, timezone),
                Became::NotRouted(missed) => not_routed(sink, missed.as_deref()),
            };
            text.push_str(&format!("\n  {sink}: {sentence}"));
        }
        text
    }

    fn told_in_words(&self, sink: &str, told: &Told, timezone: &TimeZone) -> String {
        let when = |ms: i64| local(moment(ms), timezone);
        match told {
            Told::Outcome(at, outcome) => self.outcome_in_words(sink, &when(*at), outcome, timezone),
            Told::Reopened(at) => format!("waiting: sent again by an operator {}", when(*at)),
            Told::Waiting(open) if open.attempts == 0 => "waiting for its first attempt".to_owned(),
            Told::Waiting(open) => {
                format!("waiting: {} attempts: {}; next at {}", open.attempts, open.answer, when(open.due_ms))
            }
            Told::Before => "came before this sink".to_owned(),
            Told::Forgotten => {
                "closed, or came before this sink; the spool does not tell any more".to_owned()
            }
        }
    }

    fn outcome_in_words(&self, sink: &str, when: &str, outcome: &Outcome, timezone: &TimeZone) -> String {
        match outcome {
            Outcome::Delivered { receipt } => {
                format!("delivered {when}: {}", receipt.as_deref().unwrap_or("confirmed"))
            }
            Outcome::Passed => not_routed(sink, None),
            Outcome::Discarded => format!("discarded {when} by an operator"),
            Outcome::Dead { reason, attempts, .. } => format!(
                "dead letter since {when} after {attempts} attempts: {reason}; when that is mended, \
                 cdr-gateway dead retry {} --sink {sink} sends it again",
                self.push.position()
            ),
            Outcome::Retry { attempts, due_ms, answer, .. } => format!(
                "waiting: {attempts} attempts, the last at {when}: {answer}; next at {}",
                local(moment(*due_ms), timezone)
            ),
        }
    }

    /// For programs: one object.
    pub fn json(&self) -> Value {
        let facts = self.push.facts();
        let sinks: Map<String, Value> =
            self.sinks.iter().map(|(sink, became)| (sink.clone(), state(became))).collect();
        json!({
            "number": self.push.position().0, "action": facts.action.as_str(), "session_id": self.push.session_id(),
            "received_at": facts.received_at, "uuid": facts.uuid, "sha256": self.push.sha256_hex(), "sinks": sinks,
        })
    }
}

fn missed(routes: Option<&Routes>, push: &Push, lane: &str) -> Option<Vec<Missed>> {
    let sink: SinkName = lane.parse().ok()?;
    routes?.missed(push, &sink)
}

fn not_routed(sink: &str, missed: Option<&[Missed]>) -> String {
    match missed {
        None => {
            "not routed when it came; cdr-gateway explain tells what the routes of today would do".to_owned()
        }
        Some([]) => format!("not routed: no route leads to {sink}"),
        Some(missed) => {
            let routes: Vec<String> = missed.iter().map(ToString::to_string).collect();
            format!("not routed: no route to {sink} matches ({})", routes.join("; "))
        }
    }
}

fn state(became: &Became) -> Value {
    let told = match became {
        Became::Told(told) => told,
        Became::NotRouted(missed) => {
            let route = |missed: &Missed| {
                let values: Map<String, Value> =
                    missed.values.iter().cloned().map(|(name, value)| (name, value.into())).collect();
                json!({ "route": missed.route, "values": values, "failed": missed.error.as_ref().map(ToString::to_string) })
            };
            let routes = missed.as_ref().map(|missed| missed.iter().map(route).collect::<Vec<_>>());
            return json!({ "state": "not routed", "routes": routes });
        }
    };
    match told {
        Told::Outcome(at, outcome) => outcome_state(moment(*at), outcome),
        Told::Reopened(at) => json!({ "state": "waiting", "at": moment(*at), "attempts": 0 }),
        Told::Waiting(open) if open.attempts == 0 => json!({ "state": "waiting", "attempts": 0 }),
        Told::Waiting(open) => {
            json!({ "state": "waiting", "attempts": open.attempts, "next": moment(open.due_ms), "answer": open.answer })
        }
        Told::Before => json!({ "state": "before this sink" }),
        Told::Forgotten => json!({ "state": "not told any more" }),
    }
}

fn outcome_state(at: Timestamp, outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Delivered { receipt } => json!({ "state": "delivered", "at": at, "receipt": receipt }),
        Outcome::Passed => json!({ "state": "not routed", "at": at }),
        Outcome::Discarded => json!({ "state": "discarded", "at": at }),
        Outcome::Dead { reason, attempts, excerpt } => {
            json!({ "state": "dead", "at": at, "reason": reason, "attempts": attempts, "answer": excerpt })
        }
        Outcome::Retry { attempts, due_ms, answer, .. } => {
            json!({ "state": "waiting", "at": at, "attempts": attempts, "next": moment(*due_ms), "answer": answer })
        }
    }
}

/// Milliseconds since 1970 as a moment; what no calendar holds is 1970.
pub fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_default()
}

/// A moment in a time zone, for people.
pub fn local(at: Timestamp, timezone: &TimeZone) -> String {
    at.to_zoned(timezone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}
