//! `cdr-gateway trace`: the life of a session's pushes.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::bail;
use cdr_core::Push;
use cdr_dispatch::stored;
use cdr_spool::{Logged, Outcome, Position};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{
    Common, Ended,
    kept::{Kept, moment},
    lanes::{Lanes, Untold},
};

/// The life of a session's pushes.
#[derive(Args)]
pub struct Trace {
    /// The SessionId.
    session_id: Option<String>,
    /// The X-TCCC-PUSH-UUID, instead of a session.
    #[arg(long, conflicts_with = "session_id")]
    uuid: Option<String>,
}

/// A push and what became of it, by sink.
struct Life {
    push: Arc<Push>,
    sinks: BTreeMap<String, Became>,
}

/// What became of a push at a sink, as far as the log tells.
enum Became {
    Outcome(Timestamp, Outcome),
    Reopened(Timestamp),
    Untold(Untold),
}

impl Trace {
    /// Tells every push and, for each sink, a sentence.
    pub fn run(&self, common: &Common) -> Ended {
        if self.session_id.is_none() && self.uuid.is_none() {
            bail!("name a session, or a push with --uuid");
        }
        let kept = Kept::find(common)?;
        let lives = self.lives(&kept)?;
        if lives.is_empty() {
            bail!(
                "the spool keeps no such push; it may have come before spool.keep ({}), or never",
                humantime::format_duration(kept.at.keep)
            );
        }
        for (position, life) in &lives {
            match common.wants_json() {
                true => say!("{}", as_json(*position, life)),
                false => tell(&kept, *position, life),
            }
        }
        Ok(())
    }

    /// Goes through the log twice: a push that was carried into a newer segment stands behind its own outcomes.
    fn lives(&self, kept: &Kept) -> anyhow::Result<BTreeMap<Position, Life>> {
        let (mut lives, lanes) = self.pushes(kept)?;
        if lives.is_empty() {
            return Ok(lives);
        }
        kept.each(|at, entry| {
            let (lane, position, became) = match entry {
                Logged::Outcome { lane, position, outcome } => (lane, position, Became::Outcome(at, outcome)),
                Logged::Reopened { lane, position } => (lane, position, Became::Reopened(at)),
                _ => return,
            };
            if let Some(life) = lives.get_mut(&position) {
                life.sinks.insert(lane, became);
            }
        })?;
        for (position, life) in &mut lives {
            for sink in &kept.at.sinks {
                let untold = || Became::Untold(lanes.untold(sink, *position));
                life.sinks.entry(sink.clone()).or_insert_with(untold);
            }
        }
        Ok(lives)
    }

    fn pushes(&self, kept: &Kept) -> anyhow::Result<(BTreeMap<Position, Life>, Lanes)> {
        let (mut lives, mut lanes) = (BTreeMap::new(), Lanes::default());
        kept.each(|_, entry| {
            lanes.note(&entry);
            let Logged::Push { push, .. } = entry else { return };
            let position = push.position;
            // The identity of the spool plays no part here.
            let push = stored::from_spool(cdr_core::SpoolId([0; 8]), push);
            if self.is_about(&push) {
                lives.entry(position).or_insert(Life { push, sinks: BTreeMap::new() });
            }
        })?;
        Ok((lives, lanes))
    }

    fn is_about(&self, push: &Push) -> bool {
        match (&self.session_id, &self.uuid) {
            (Some(session), _) => push.session_id() == Some(session),
            (None, uuid) => push.facts().uuid == *uuid,
        }
    }
}

fn tell(kept: &Kept, position: Position, life: &Life) {
    let facts = life.push.facts();
    let status = life.push.cdr().and_then(|cdr| cdr.end_status.as_ref()).map_or("", |status| status.as_str());
    say!(
        "push {position}: {} {status}, arrived {} from {}, {} bytes, uuid {}",
        facts.action,
        kept.local(facts.received_at),
        facts.sender.map_or_else(|| "unknown".to_owned(), |sender| sender.to_string()),
        life.push.body().len(),
        facts.uuid.as_deref().unwrap_or("none"),
    );
    for (sink, became) in &life.sinks {
        say!("  {sink}: {}", sentence(kept, became));
    }
}

fn sentence(kept: &Kept, became: &Became) -> String {
    match became {
        Became::Outcome(at, outcome) => outcome_in_words(kept, *at, outcome),
        Became::Reopened(at) => format!("waiting: sent again by an operator {}", kept.local(*at)),
        Became::Untold(Untold::Waiting) => "waiting for its first attempt".to_owned(),
        Became::Untold(Untold::Before) => "came before this sink".to_owned(),
        Became::Untold(Untold::Forgotten) => {
            "closed, or came before this sink; the spool does not tell any more".to_owned()
        }
    }
}

fn outcome_in_words(kept: &Kept, at: Timestamp, outcome: &Outcome) -> String {
    let when = kept.local(at);
    match outcome {
        Outcome::Delivered { receipt } => {
            format!("delivered {when}: {}", receipt.as_deref().unwrap_or("confirmed"))
        }
        Outcome::Passed => "not routed: no route sends this push there".to_owned(),
        Outcome::Discarded => format!("discarded {when} by an operator"),
        Outcome::Dead { reason, attempts, .. } => {
            format!(
                "dead letter since {when} after {attempts} attempts: {reason}; cdr-gateway dead retry sends it again"
            )
        }
        Outcome::Retry { attempts, due_ms, answer, .. } => {
            format!(
                "waiting: {attempts} attempts, the last at {when}: {answer}; next at {}",
                kept.local(moment(*due_ms))
            )
        }
    }
}

fn as_json(position: Position, life: &Life) -> serde_json::Value {
    let facts = life.push.facts();
    let sink = |(sink, became): (&String, &Became)| (sink.clone(), state(became));
    let sinks: serde_json::Map<String, serde_json::Value> = life.sinks.iter().map(sink).collect();
    json!({
        "number": position.0, "action": facts.action.as_str(), "received_at": facts.received_at, "uuid": facts.uuid,
        "sha256": life.push.sha256_hex(), "sinks": sinks,
    })
}

fn state(became: &Became) -> serde_json::Value {
    match became {
        Became::Outcome(at, outcome) => match outcome {
            Outcome::Delivered { receipt } => json!({ "state": "delivered", "at": at, "receipt": receipt }),
            Outcome::Passed => json!({ "state": "not routed", "at": at }),
            Outcome::Discarded => json!({ "state": "discarded", "at": at }),
            Outcome::Dead { reason, attempts, excerpt } => {
                json!({ "state": "dead", "at": at, "reason": reason, "attempts": attempts, "answer": excerpt })
            }
            Outcome::Retry { attempts, due_ms, answer, .. } => {
                json!({ "state": "waiting", "at": at, "attempts": attempts, "next": moment(*due_ms), "answer": answer })
            }
        },
        Became::Reopened(at) => json!({ "state": "waiting", "at": at, "attempts": 0 }),
        Became::Untold(Untold::Waiting) => json!({ "state": "waiting", "attempts": 0 }),
        Became::Untold(Untold::Before) => json!({ "state": "before this sink" }),
        Became::Untold(Untold::Forgotten) => json!({ "state": "not told any more" }),
    }
}
