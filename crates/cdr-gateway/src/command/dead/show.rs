//! `dead show`: all that is known about some dead letters.

use std::{collections::BTreeSet, io::Write as _, sync::Arc};

use anyhow::{Context as _, bail};
use cdr_core::{Push, SpoolId};
use cdr_dispatch::stored;
use cdr_spool::{DeadLetter, Outcome, Position, Search, Told};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Common, Kept, on_disk};
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

/// A dead letter with all that is known of it.
struct Shown {
    position: Position,
    sink: String,
    story: Story,
    /// None: its bytes are gone.
    push: Option<Arc<Push>>,
}

impl Show {
    /// Finds them on disk and shows them.
    pub fn run(&self, common: &Common) -> Ended {
        let kept = Kept::find(common)?;
        let shown = self.find(&mut kept.search()?)?;
        if shown.is_empty() {
            bail!("there is no such dead letter; cdr-gateway dead list tells which there are");
        }
        if self.raw {
            return raw(&shown);
        }
        for letter in &shown {
            match common.wants_json() {
                true => say!("{}", as_json(letter)),
                false => say!("{}", in_words(&kept, letter)),
            }
        }
        Ok(())
    }

    /// By number, and then by sink.
    fn find(&self, search: &mut Search) -> anyhow::Result<Vec<Shown>> {
        let mut sinks = on_disk::sinks(search);
        sinks.retain(|sink, _| self.sink.as_ref().is_none_or(|wanted| is_of(sink, wanted)));
        let numbers: BTreeSet<Position> = self.numbers.iter().copied().map(Position).collect();
        let mut shown = Vec::new();
        for position in numbers {
            let mut push = None;
            for (sink, lanes) in &sinks {
                for lane in lanes {
                    let Some(dead) = dead_letter(search, lane, position)? else { continue };
                    if push.is_none() {
                        let stored = search.get(position).context("the spool cannot be read")?;
                        push = stored.map(|push| stored::from_spool(SpoolId([0; 8]), push));
                    }
                    let story = story(search, lane, dead)?;
                    shown.push(Shown { position, sink: sink.clone(), story, push: push.clone() });
                }
            }
        }
        for position in search.take_damaged() {
            eprintln!("passed over: push {position} is damaged on disk");
        }
        Ok(shown)
    }
}

/// With the replays to it: their lanes are named after their sink.
fn is_of(lane: &str, sink: &str) -> bool {
    lane == sink || lane.split('~').next() == Some(sink)
}

fn dead_letter(search: &mut Search, lane: &str, position: Position) -> anyhow::Result<Option<DeadLetter>> {
    let before = Position(position.0.saturating_sub(1));
    let next =
        search.dead_letters(Some(lane), Some((lane, before)), 1).context("the spool cannot be read")?;
    Ok(next.into_iter().find(|dead| dead.position == position))
}

/// It ends with the death, even where the log does not tell of it any more.
fn story(search: &mut Search, lane: &str, dead: DeadLetter) -> anyhow::Result<Story> {
    let told = search.story(lane, dead.position).context("the spool cannot be read")?;
    let happened = |told: Told| match told {
        Told::Outcome(at_ms, outcome) => Some((moment(at_ms), Happened::Became(outcome))),
        Told::Reopened(at_ms) => Some((moment(at_ms), Happened::Reopened)),
        Told::Waiting(_) | Told::Before | Told::Forgotten => None,
    };
    let mut story: Story = told.into_iter().filter_map(happened).collect();
    if !matches!(story.last(), Some((_, Happened::Became(Outcome::Dead { .. })))) {
        let DeadLetter { died_at_ms, reason, attempts, excerpt, .. } = dead;
        story.push((moment(died_at_ms), Happened::Became(Outcome::Dead { reason, attempts, excerpt })));
    }
    Ok(story)
}

fn raw(shown: &[Shown]) -> Ended {
    let [Shown { position, push, .. }, others @ ..] = shown else { return Ok(()) };
    if others.iter().any(|other| other.position != *position) {
        bail!("--raw shows one push; name one number");
    }
    let push = push.as_ref().with_context(|| format!("the bytes of push {position} are gone"))?;
    std::io::stdout().lock().write_all(push.body())?;
    Ok(())
}

fn in_words(kept: &Kept, letter: &Shown) -> String {
    let Shown { position, sink, story, push } = letter;
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
        row("to do", remedy(*position, sink, reason, push.is_some()));
    }
    let body = push.as_ref().map(|push| String::from_utf8_lossy(push.body()));
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

fn as_json(letter: &Shown) -> Value {
    let Shown { position, sink, story, push } = letter;
    let push = push.as_deref();
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
