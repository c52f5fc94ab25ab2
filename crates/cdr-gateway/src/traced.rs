//! The life of a push, as `trace` tells it: for each sink what became of it, and why.

use std::{collections::BTreeMap, fmt, sync::Arc};

use cdr_core::{Push, SinkName};
use cdr_dispatch::{
    Errand,
    route::{Missed, Routes},
    stored,
};
use cdr_spool::{LaneLife, Life, Outcome, Position, SpoolId, Told};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value, json};

/// A push and what became of it, by lane: each sink's own, and the temporary ones of replays and renamed sinks.
pub struct Traced {
    push: Arc<Push>,
    sinks: BTreeMap<String, At>,
}

/// Which lanes are away, and why, as the gateway that runs has it; empty where none runs.
pub type Away = BTreeMap<String, String>;

/// What became of a push in a lane.
struct At {
    /// What the lane is for, if it is temporary.
    errand: Option<For>,
    became: Became,
    /// Why its lane does not try now.
    away: Option<String>,
}

/// What a temporary lane is for.
enum For {
    Replay {
        to: String,
    },
    HandedOver {
        by: String,
        to: String,
    },
    SetAside {
        to: String,
    },
    /// Its errand is of another version, or ended: then its name alone is left.
    Other {
        to: String,
    },
}

/// What became of a push at a sink.
enum Became {
    Told(Told),
    /// By the routes of today: none if one of them would take it, or they cannot be read.
    NotRouted(Option<Vec<Missed>>),
}

impl Traced {
    /// What the spool tells, with the sinks that it does not know and the values that decided where the push goes.
    pub fn new(spool: SpoolId, life: Life, sinks: &[String], routes: Option<&Routes>, away: &Away) -> Self {
        let Life { push, lanes } = life;
        let push = stored::from_spool(stored::spool_id(spool), push);
        let became = |LaneLife { lane, errand, told }: LaneLife| {
            let errand = For::of(&lane, errand);
            let became = match (told, &errand) {
                (Told::Outcome(_, Outcome::Passed), None) => Became::NotRouted(missed(routes, &push, &lane)),
                (
                    Told::Outcome(_, Outcome::Passed),
                    Some(For::HandedOver { to, .. } | For::SetAside { to }),
                ) => Became::NotRouted(missed(routes, &push, to)),
                (told, _) => Became::Told(told),
            };
            let is_waiting = matches!(became, Became::Told(Told::Waiting(_) | Told::Reopened(_)));
            let away = away.get(&lane).filter(|_| is_waiting).cloned();
            (lane, At { errand, became, away })
        };
        let mut by_sink: BTreeMap<String, At> = told_by_sink(lanes).into_iter().map(became).collect();
        for sink in sinks {
            let before = At { errand: None, became: Became::Told(Told::Before), away: None };
            by_sink.entry(sink.clone()).or_insert(before);
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
        let session = self.push.session_id().map_or("none", cdr_core::push::short);
        let mut text = format!(
            "push {}: {} {}, session {}, arrived {} from {}, {} bytes, uuid {}",
            self.push.position(),
            facts.action,
            // A line of its own would pass for one of ours.
            status.escape_debug(),
            session.escape_debug(),
            local(facts.received_at, timezone),
            facts.sender.map_or_else(|| "unknown".to_owned(), |sender| sender.to_string()),
            self.push.body().len(),
            facts.uuid.as_deref().unwrap_or("none"),
        );
        for (lane, At { errand, became, away }) in &self.sinks {
            let sentence = match (became, errand) {
                (Became::Told(Told::Outcome(_, Outcome::Passed)), Some(_)) => {
                    "not sent: the replay is not for this push".to_owned()
                }
                (Became::Told(told), _) => self.told_in_words(lane, told, timezone),
                (Became::NotRouted(missed), errand) => {
                    not_routed(errand.as_ref().map_or(lane, For::to), missed.as_deref())
                }
            };
            let what_for = errand.as_ref().map(|errand| format!(" ({errand})")).unwrap_or_default();
            text.push_str(&format!("\n  {lane}{what_for}: {sentence}"));
            if let Some(reason) = away {
                text.push_str(&format!("; {lane} is away: {reason}"));
            }
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
            self.sinks.iter().map(|(lane, at)| (lane.clone(), at.json())).collect();
        json!({
            "number": self.push.position().0, "action": facts.action.as_str(), "session_id": self.push.session_id(),
            "received_at": facts.received_at, "uuid": facts.uuid, "sha256": self.push.sha256_hex(), "sinks": sinks,
        })
    }
}

impl At {
    fn json(&self) -> Value {
        let mut told = state(&self.became);
        if let Some(errand) = &self.errand {
            told["for"] = errand.json();
        }
        if let Some(reason) = &self.away {
            told["away"] = reason.as_str().into();
        }
        told
    }
}

impl For {
    /// None for a sink's own lane.
    fn of(lane: &str, errand: Option<cdr_spool::Errand>) -> Option<Self> {
        let (to, _) = lane.split_once('~')?;
        let to = to.to_owned();
        let known = errand.and_then(|errand| Errand::from_spool(lane, &errand).ok());
        Some(match known {
            Some(Errand::Replay(_)) => Self::Replay { to },
            Some(Errand::HandedOver { by }) => Self::HandedOver { by, to },
            Some(Errand::SetAside) => Self::SetAside { to },
            None => Self::Other { to },
        })
    }

    /// The sink that it delivers to.
    fn to(&self) -> &str {
        let (Self::Replay { to } | Self::HandedOver { to, .. } | Self::SetAside { to } | Self::Other { to }) =
            self;
        to
    }

    fn json(&self) -> Value {
        match self {
            Self::Replay { to } => json!({ "sink": to, "what": "replay" }),
            Self::HandedOver { by, to } => json!({ "sink": to, "what": "handed over", "by": by }),
            Self::SetAside { to } => json!({ "sink": to, "what": "set aside" }),
            Self::Other { to } => json!({ "sink": to }),
        }
    }
}

impl fmt::Display for For {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replay { to } => write!(f, "a replay to {to}"),
            Self::HandedOver { by, to } => write!(f, "what {by} left to {to} when it was renamed"),
            Self::SetAside { to } => write!(f, "what was set aside for {to} while it was away"),
            Self::Other { to } => {
                write!(f, "a replay to {to}, or what a renamed sink or an outage left to it")
            }
        }
    }
}

/// What was set aside is told of as its sink's, of which it is the backlog: where the sink's own lane has nothing to say. The name
/// alone, when the errand is over, tells it from a replay no more; then it is one that the own lane passed over.
fn told_by_sink(lanes: Vec<LaneLife>) -> Vec<LaneLife> {
    let (errands, mut told): (Vec<_>, Vec<_>) = lanes.into_iter().partition(|life| life.lane.contains('~'));
    for errand in errands {
        let what_for = For::of(&errand.lane, errand.errand.clone());
        let own =
            what_for.as_ref().and_then(|what_for| told.iter_mut().find(|own| own.lane == what_for.to()));
        match (what_for, own) {
            (Some(For::SetAside { .. }), Some(own)) if is_silent(&own.told) => own.told = errand.told,
            (Some(For::Other { .. }), Some(own)) if own.told == Told::Forgotten => own.told = errand.told,
            _ => told.push(errand),
        }
    }
    told
}

fn is_silent(told: &Told) -> bool {
    matches!(told, Told::Before | Told::Forgotten)
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
