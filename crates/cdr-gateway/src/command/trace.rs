//! `cdr-gateway trace`: the life of a session's pushes.

use std::collections::BTreeMap;

use anyhow::bail;
use cdr_core::{Push, Sinks};
use cdr_dispatch::stored;
use cdr_spool::{Logged, Outcome, Position};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{
    Common, Ended,
    kept::{Kept, moment},
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
    push: std::sync::Arc<Push>,
    sinks: BTreeMap<String, (Timestamp, Outcome)>,
}

impl Trace {
    /// Tells every push and, for each sink, a sentence.
    pub fn run(&self, common: &Common, sinks: &Sinks) -> Ended {
        if self.session_id.is_none() && self.uuid.is_none() {
            bail!("name a session, or a push with --uuid");
        }
        let kept = Kept::find(common, sinks)?;
        let lives = self.lives(&kept)?;
        if lives.is_empty() {
            bail!(
                "the spool keeps no such push; it may have come before spool.keep ({:?}), or never",
                kept.plan.spool.keep
            );
        }
        for (position, life) in &lives {
            match common.wants_json() {
                true => println!("{}", as_json(*position, life)),
                false => tell(&kept, *position, life),
            }
        }
        Ok(())
    }

    fn lives(&self, kept: &Kept) -> anyhow::Result<BTreeMap<Position, Life>> {
        let mut lives: BTreeMap<Position, Life> = BTreeMap::new();
        kept.each(|at, entry| match entry {
            Logged::Push { push, .. } => {
                let position = push.position;
                // The identity of the spool plays no part here.
                let push = stored::from_spool(cdr_core::SpoolId([0; 8]), push);
                if self.is_about(&push) {
                    lives.entry(position).or_insert(Life { push, sinks: BTreeMap::new() });
                }
            }
            Logged::Outcome { lane, position, outcome } => {
                if let Some(life) = lives.get_mut(&position) {
                    life.sinks.insert(lane, (at, outcome));
                }
            }
            Logged::Reopened { lane, position } => {
                if let Some(life) = lives.get_mut(&position) {
                    life.sinks.remove(&lane);
                }
            }
            _ => {}
        })?;
        Ok(lives)
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
    println!(
        "push {position}: {} {status}, arrived {} from {}, {} bytes, uuid {}",
        facts.action,
        kept.local(facts.received_at),
        facts.sender.map_or_else(|| "unknown".to_owned(), |sender| sender.to_string()),
        life.push.body().len(),
        facts.uuid.as_deref().unwrap_or("none"),
    );
    for sink in kept.plan.sinks.iter().map(|sink| sink.lane.name.as_str()) {
        if !life.sinks.contains_key(sink) {
            println!("  {sink}: waiting for its first attempt");
        }
    }
    for (sink, (at, outcome)) in &life.sinks {
        println!("  {sink}: {}", sentence(kept, *at, outcome));
    }
}

fn sentence(kept: &Kept, at: Timestamp, outcome: &Outcome) -> String {
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
    let sinks: serde_json::Map<String, serde_json::Value> = life
        .sinks
        .iter()
        .map(|(sink, (at, outcome))| {
            let told = match outcome {
                Outcome::Delivered { receipt } => json!({ "state": "delivered", "at": at, "receipt": receipt }),
                Outcome::Passed => json!({ "state": "not routed", "at": at }),
                Outcome::Discarded => json!({ "state": "discarded", "at": at }),
                Outcome::Dead { reason, attempts, excerpt } => {
                    json!({ "state": "dead", "at": at, "reason": reason, "attempts": attempts, "answer": excerpt })
                }
                Outcome::Retry { attempts, due_ms, answer, .. } => {
                    json!({ "state": "waiting", "at": at, "attempts": attempts, "next": moment(*due_ms), "answer": answer })
                }
            };
            (sink.clone(), told)
        })
        .collect();
    json!({
        "number": position.0, "action": facts.action.as_str(), "received_at": facts.received_at, "uuid": facts.uuid,
        "sha256": life.push.sha256_hex(), "sinks": sinks,
    })
}
