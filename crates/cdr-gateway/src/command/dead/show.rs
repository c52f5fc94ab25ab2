//! `dead show`: all that is known about some dead letters.

use std::{collections::BTreeMap, io::Write as _, sync::Arc};

use anyhow::{Context as _, bail};
use cdr_core::{Push, SpoolId};
use cdr_dispatch::stored;
use cdr_spool::{Logged, Outcome, Position};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Common, Kept};
use crate::command::{Ended, kept::moment};

/// Which dead letters are shown.
#[derive(Args)]
pub struct Show {
    /// Numbers from the list.
    #[arg(required = true)]
    numbers: Vec<u64>,
    /// The dead letter of this sink only.
    #[arg(long)]
    sink: Option<String>,
    /// Nothing but the bytes of the push, exactly.
    #[arg(long)]
    raw: bool,
}

/// What happened to a delivery, oldest first.
type Story = Vec<(Timestamp, Happened)>;

enum Happened {
    Became(Outcome),
    Reopened,
}

/// What the log tells about the pushes that were asked for.
#[derive(Default)]
struct Told {
    pushes: BTreeMap<Position, Arc<Push>>,
    stories: BTreeMap<(Position, String), Story>,
}

impl Show {
    /// Reads the log and shows them.
    pub fn run(&self, common: &Common) -> Ended {
        let kept = Kept::find(common)?;
        let mut told = self.read(&kept)?;
        told.stories
            .retain(|_, story| matches!(story.last(), Some((_, Happened::Became(Outcome::Dead { .. })))));
        if told.stories.is_empty() {
            bail!("there is no such dead letter; cdr-gateway dead list tells which there are");
        }
        if self.raw {
            return raw(&told);
        }
        for ((position, sink), story) in &told.stories {
            let push = told.pushes.get(position);
            match common.wants_json() {
                true => say!("{}", as_json(*position, sink, story, push)),
                false => say!("{}", in_words(&kept, *position, sink, story, push)),
            }
        }
        Ok(())
    }

    /// One pass: what is told of a push may stand before it, when it was carried into a newer segment.
    fn read(&self, kept: &Kept) -> anyhow::Result<Told> {
        let mut told = Told::default();
        let wanted = |position: &Position| self.numbers.contains(&position.0);
        // With the temporary lanes of the sink: what was set aside of it lies there.
        let is_of = |lane: &str, sink: &String| lane == sink || lane.split('~').next() == Some(sink.as_str());
        let at_sink = |lane: &String| self.sink.as_ref().is_none_or(|sink| is_of(lane, sink));
        kept.each(|at, entry| {
            let (lane, position, happened) = match entry {
                Logged::Push { push, .. } if wanted(&push.position) => {
                    let position = push.position;
                    told.pushes.insert(position, stored::from_spool(SpoolId([0; 8]), push));
                    return;
                }
                Logged::Outcome { lane, position, outcome } => (lane, position, Happened::Became(outcome)),
                Logged::Reopened { lane, position } => (lane, position, Happened::Reopened),
                _ => return,
            };
            if wanted(&position) && at_sink(&lane) {
                told.stories.entry((position, lane)).or_default().push((at, happened));
            }
        })?;
        Ok(told)
    }
}

fn raw(told: &Told) -> Ended {
    let mut pushes = told.stories.keys().map(|(position, _)| position).collect::<Vec<_>>();
    pushes.dedup();
    let [position] = pushes[..] else { bail!("--raw shows one push; name one number") };
    let push = told.pushes.get(position).with_context(|| format!("the bytes of push {position} are gone"))?;
    std::io::stdout().lock().write_all(push.body())?;
    Ok(())
}

fn in_words(kept: &Kept, position: Position, sink: &str, story: &Story, push: Option<&Arc<Push>>) -> String {
    let mut text = format!("dead letter {position} of {sink}\n");
    let mut row = |name: &str, value: String| text.push_str(&format!("{name:<9} {value}\n"));
    if let Some(push) = push {
        let facts = push.facts();
        row("action", facts.action.to_string());
        row("session", push.session_id().unwrap_or("none").escape_debug().to_string());
        row("arrived", kept.local(facts.received_at));
        row("sender", facts.sender.map_or_else(|| "unknown".to_owned(), |sender| sender.to_string()));
        row("uuid", facts.uuid.clone().unwrap_or_else(|| "none".to_owned()));
        row("sha256", push.sha256_hex());
    }
    for (at, happened) in story {
        row("", format!("{}  {}", kept.local(*at), sentence(kept, happened)));
    }
    if let Some((_, Happened::Became(Outcome::Dead { reason, excerpt, .. }))) = story.last() {
        row("answer", if excerpt.is_empty() { "none".to_owned() } else { excerpt.clone() });
        row("to do", remedy(position, sink, reason, push.is_some()));
    }
    let body = push.map(|push| String::from_utf8_lossy(push.body()));
    text.push('\n');
    text.push_str(body.as_deref().unwrap_or("its bytes are gone"));
    text.push('\n');
    text
}

fn sentence(kept: &Kept, happened: &Happened) -> String {
    match happened {
        Happened::Reopened => "sent again by an operator".to_owned(),
        Happened::Became(Outcome::Dead { reason, attempts, .. }) => {
            format!("given up with attempt {attempts}: {reason}")
        }
        Happened::Became(Outcome::Retry { attempts, due_ms, answer, .. }) => {
            format!("attempt {attempts} failed, the next one at {}: {answer}", kept.local(moment(*due_ms)))
        }
        Happened::Became(Outcome::Delivered { receipt }) => {
            format!("delivered: {}", receipt.as_deref().unwrap_or("confirmed"))
        }
        Happened::Became(Outcome::Passed) => "not routed".to_owned(),
        Happened::Became(Outcome::Discarded) => "discarded by an operator".to_owned(),
    }
}

/// What a person can do about it.
fn remedy(position: Position, sink: &str, reason: &str, has_bytes: bool) -> String {
    let discard = format!("cdr-gateway dead discard {position} --sink {sink}");
    if !has_bytes {
        return format!("nothing is left to be sent; {discard}");
    }
    let retry = format!("cdr-gateway dead retry {position} --sink {sink}");
    match reason.starts_with("given up after") {
        true => format!("see whether {sink} is well again, then {retry}; or {discard}"),
        false => format!(
            "{sink} will refuse it again as it is: mend what the answer names, then {retry}; or {discard}"
        ),
    }
}

fn as_json(position: Position, sink: &str, story: &Story, push: Option<&Arc<Push>>) -> Value {
    let happened = |(at, happened): &(Timestamp, Happened)| match happened {
        Happened::Reopened => json!({ "at": at, "event": "sent again" }),
        Happened::Became(Outcome::Dead { reason, attempts, excerpt }) => {
            json!({ "at": at, "event": "dead", "attempts": attempts, "reason": reason, "answer": excerpt })
        }
        Happened::Became(Outcome::Retry { attempts, due_ms, answer, .. }) => {
            json!({ "at": at, "event": "failed", "attempts": attempts, "next": moment(*due_ms), "answer": answer })
        }
        Happened::Became(Outcome::Delivered { receipt }) => {
            json!({ "at": at, "event": "delivered", "receipt": receipt })
        }
        Happened::Became(Outcome::Passed) => json!({ "at": at, "event": "not routed" }),
        Happened::Became(Outcome::Discarded) => json!({ "at": at, "event": "discarded" }),
    };
    let facts = push.map(|push| push.facts());
    json!({
        "sink": sink, "number": position.0, "story": story.iter().map(happened).collect::<Vec<_>>(),
        "action": facts.map(|facts| facts.action.as_str()), "received_at": facts.map(|facts| facts.received_at),
        "uuid": facts.and_then(|facts| facts.uuid.as_ref()), "sender": facts.and_then(|facts| facts.sender),
        "session_id": push.and_then(|push| push.session_id()), "sha256": push.map(|push| push.sha256_hex()),
        "body": push.map(|push| String::from_utf8_lossy(push.body())),
    })
}
