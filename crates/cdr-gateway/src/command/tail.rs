//! `cdr-gateway tail`: what arrives, and what becomes of it, as it happens.
//!
//! It follows the log on disk, so it costs the gateway nothing, sees what is durable and goes on over a restart. No line
//! holds a phone number: terminals are shared and recorded.

use std::{collections::BTreeMap, fmt, time::Duration};

use cdr_core::{CallResult, Push, SpoolId, push::short, setting};
use cdr_dispatch::stored;
use cdr_spool::{Logged, Outcome, Position, StoredQuarantine};
use clap::Args;
use jiff::{Timestamp, civil::Date};
use serde_json::{Value, json};

use super::{
    Common, Ended,
    condition::Condition,
    kept::{Kept, moment},
};

/// How often it looks whether the log has grown.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Of so many pushes, the latest, it is known what they are: a line about an older one has nothing but its number.
const REMEMBERED: usize = 65_536;

/// What arrives, and what becomes of it.
#[derive(Args)]
pub struct Tail {
    /// Only pushes for which this holds; the language of routes.
    #[arg(long = "where", value_name = "EXPR", value_parser = Condition::read)]
    condition: Option<Condition>,
    /// Only what becomes of pushes at this sink.
    #[arg(long)]
    sink: Option<String>,
    /// Begins so long ago instead of now, such as 10m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

/// What is remembered of a push.
struct Known {
    action: String,
    result: Option<CallResult>,
    session_id: Option<String>,
    received_at: Timestamp,
}

/// Something that happened to a push.
enum Event {
    Arrived,
    Became(String, Outcome),
    Reopened(String),
    Quarantined(String),
    Released,
}

impl Tail {
    /// Tells until somebody stops it.
    pub async fn run(self, common: &Common) -> Ended {
        let kept = Kept::find(common)?;
        if let Some(sink) = self.sink.as_ref().filter(|sink| !kept.at.sinks.contains(sink)) {
            anyhow::bail!(setting::unknown("sink", sink, kept.at.sinks.iter().map(String::as_str)));
        }
        let since = Timestamp::now().checked_sub(self.since.unwrap_or_default()).unwrap_or(Timestamp::MIN);
        let mut log = kept.log_since(since)?;
        let mut view = View { tail: self, since, known: BTreeMap::new(), day: None, kept: &kept };
        let wants_json = common.wants_json();
        loop {
            kept.rest(&mut log, |at, entry| view.take(at, entry, wants_json))?;
            while !log.catch_up()? {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// What is told, and what must be known for it.
struct View<'a> {
    tail: Tail,
    since: Timestamp,
    known: BTreeMap<Position, Known>,
    /// The day of the last line.
    day: Option<Date>,
    kept: &'a Kept,
}

impl View<'_> {
    fn take(&mut self, at: Timestamp, entry: Logged, wants_json: bool) {
        let Some((position, event)) = self.read(entry) else { return };
        if at < self.since || !self.wants(position, &event) {
            return;
        }
        let known = self.known.get(&position);
        if wants_json {
            return say!("{}", as_json(at, position, known, &event));
        }
        let local = at.to_zoned(self.kept.at.timezone.clone());
        if self.day.replace(local.date()) != Some(local.date()) {
            say!("{}", local.strftime("%Y-%m-%d (%:z)"));
        }
        say!("{} {}", local.strftime("%H:%M:%S"), Line { at, position, known, event: &event });
    }

    /// What an entry tells; pushes are remembered. What was only carried into a newer segment is no news.
    fn read(&mut self, entry: Logged) -> Option<(Position, Event)> {
        match entry {
            Logged::Push { push, carried } => {
                let position = push.position;
                self.remember(&stored::from_spool(SpoolId([0; 8]), push), position);
                (!carried).then_some((position, Event::Arrived))
            }
            Logged::Outcome { lane, position, outcome, .. } => Some((position, Event::Became(lane, outcome))),
            Logged::Reopened { lane, position, .. } => Some((position, Event::Reopened(lane))),
            Logged::Quarantine { quarantine: StoredQuarantine { position, reason, .. }, carried: false } => {
                Some((position, Event::Quarantined(reason)))
            }
            Logged::QuarantineDiscarded { position } => Some((position, Event::Released)),
            _ => None,
        }
    }

    fn remember(&mut self, push: &Push, position: Position) {
        if self.tail.condition.as_ref().is_some_and(|condition| !condition.holds(push)) {
            return;
        }
        let facts = push.facts();
        let known = Known {
            action: facts.action.to_string(),
            result: push.session().map(cdr_core::Cdr::result),
            session_id: push.session_id().map(|id| short(id).to_owned()),
            received_at: facts.received_at,
        };
        self.known.insert(position, known);
        if self.known.len() > REMEMBERED {
            self.known.pop_first();
        }
    }

    fn wants(&self, position: Position, event: &Event) -> bool {
        let holds = self.tail.condition.is_none() || self.known.contains_key(&position);
        let wanted = self.tail.sink.as_ref();
        holds
            && match event {
                // That a sink was passed by is news only to somebody who looks at this sink.
                Event::Became(sink, Outcome::Passed) => wanted == Some(sink),
                Event::Became(sink, _) | Event::Reopened(sink) => wanted.is_none_or(|wanted| wanted == sink),
                Event::Arrived => wanted.is_none(),
                Event::Quarantined(_) | Event::Released => wanted.is_none() && self.tail.condition.is_none(),
            }
    }
}

/// A line for people, without its time.
struct Line<'a> {
    at: Timestamp,
    position: Position,
    known: Option<&'a Known>,
    event: &'a Event,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, event, .. } = self;
        match event {
            Event::Quarantined(reason) => return write!(f, "quarantine {position}: {reason}"),
            Event::Released => return write!(f, "quarantine {position} taken out"),
            Event::Arrived | Event::Became(..) | Event::Reopened(_) => write!(f, "push {position}")?,
        }
        if let Some(known) = self.known {
            write!(f, " {}", known.action)?;
            known.result.map_or(Ok(()), |result| write!(f, " {result}"))?;
            known.session_id.as_ref().map_or(Ok(()), |id| write!(f, " session {}", id.escape_debug()))?;
        }
        match event {
            Event::Became(sink, outcome) => {
                write!(f, " → {sink} ")?;
                self.became(f, outcome)
            }
            Event::Reopened(sink) => write!(f, " → {sink} is sent again, an operator said so"),
            Event::Arrived | Event::Quarantined(_) | Event::Released => Ok(()),
        }
    }
}

impl Line<'_> {
    fn became(&self, f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
        match outcome {
            Outcome::Delivered { receipt } => {
                let took = self.known.map(|known| in_words(since(known.received_at, self.at)));
                let about = [receipt.clone(), took].into_iter().flatten().collect::<Vec<_>>().join(", ");
                write!(f, "delivered ({about})")
            }
            Outcome::Passed => f.write_str("not routed"),
            Outcome::Discarded => f.write_str("discarded by an operator"),
            Outcome::Dead { reason, attempts, .. } => {
                write!(f, "dead letter (attempt {attempts}): {reason}")
            }
            Outcome::Retry { attempts, due_ms, answer, .. } => {
                let again = in_words(since(self.at, moment(*due_ms)));
                write!(f, "failed (attempt {attempts}, again in {again}): {answer}")
            }
        }
    }
}

fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// To the millisecond below ten seconds, to the second above.
fn in_words(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..10_000 => format!("{millis} ms"),
        _ => humantime::format_duration(Duration::from_secs(time.as_secs())).to_string(),
    }
}

fn as_json(at: Timestamp, position: Position, known: Option<&Known>, event: &Event) -> Value {
    let mut line = match event {
        Event::Arrived => json!({ "event": "arrived" }),
        Event::Quarantined(reason) => json!({ "event": "quarantined", "reason": reason }),
        Event::Released => json!({ "event": "quarantine discarded" }),
        Event::Reopened(sink) => json!({ "event": "sent again", "sink": sink }),
        Event::Became(sink, outcome) => {
            let mut line = match outcome {
                Outcome::Delivered { receipt } => {
                    let took = known.map(|known| since(known.received_at, at).as_secs_f64());
                    json!({ "event": "delivered", "receipt": receipt, "after_s": took })
                }
                Outcome::Passed => json!({ "event": "not routed" }),
                Outcome::Discarded => json!({ "event": "discarded" }),
                Outcome::Dead { reason, attempts, .. } => {
                    json!({ "event": "dead", "reason": reason, "attempts": attempts })
                }
                Outcome::Retry { attempts, due_ms, answer, .. } => {
                    json!({ "event": "failed", "attempts": attempts, "next": moment(*due_ms), "answer": answer })
                }
            };
            line["sink"] = json!(sink);
            line
        }
    };
    line["at"] = json!(at);
    line["number"] = json!(position.0);
    if let Some(known) = known {
        line["action"] = json!(known.action);
        line["result"] = json!(known.result.map(|result| result.to_string()));
        line["session_id"] = json!(known.session_id);
    }
    line
}
