//! `cdr-gateway dead`: deliveries that were given up.

use std::collections::BTreeMap;

use anyhow::bail;
use cdr_core::cdr;
use cdr_spool::{Logged, Outcome, Position, StoredPush};
use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Common, Ended, kept::Kept, running};
use crate::{admin::BODY_LIMIT, config::Admin};

/// So many are decided at once: their numbers fit into one request, and a lane is not flooded.
const AT_ONCE: usize = 10_000;
const _: () = assert!(AT_ONCE * "18446744073709551615,".len() < BODY_LIMIT / 2);

/// Deliveries that were given up.
#[derive(Subcommand)]
pub enum Dead {
    /// Lists them, oldest first: sink, number, session, when and why.
    ///
    /// Example: cdr-gateway dead list --sink crm
    List(Which),
    /// Shows one with the beginning of the receiver's answer and the body of the push.
    ///
    /// Example: cdr-gateway dead show 1207 --sink crm
    Show(Which),
    /// Sends them again; the gateway must run.
    ///
    /// Example: cdr-gateway dead retry --sink crm
    Retry(Which),
    /// Decides that they are not to be delivered; the gateway must run.
    ///
    /// Example: cdr-gateway dead discard 1207 --sink crm
    Discard(Which),
}

/// Which dead letters.
#[derive(Args)]
pub struct Which {
    /// Numbers of pushes; without any all of them.
    numbers: Vec<u64>,
    /// Those of this sink only.
    #[arg(long)]
    sink: Option<String>,
}

impl Which {
    fn takes(&self, letter: &Letter) -> bool {
        let sink = self.sink.as_ref().is_none_or(|sink| *sink == letter.sink);
        sink && (self.numbers.is_empty() || self.numbers.contains(&letter.position.0))
    }
}

/// A dead letter.
struct Letter {
    sink: String,
    position: Position,
    died_at: Timestamp,
    reason: String,
    excerpt: String,
    attempts: u32,
}

impl Dead {
    /// Lists, shows, retries or discards.
    pub async fn run(self, common: &Common) -> Ended {
        let kept = Kept::find(common)?;
        match self {
            Self::List(which) => list(&kept, &letters(&kept, &which)?, common.wants_json()),
            Self::Show(which) => show(&kept, &letters(&kept, &which)?, common.wants_json()),
            Self::Retry(which) => decide(&kept, &common.admin()?, &which, "retry").await,
            Self::Discard(which) if which.numbers.is_empty() && which.sink.is_none() => {
                bail!("name a sink with --sink, or numbers: this would discard every dead letter there is")
            }
            Self::Discard(which) => decide(&kept, &common.admin()?, &which, "discard").await,
        }
    }
}

fn letters(kept: &Kept, which: &Which) -> anyhow::Result<Vec<Letter>> {
    let mut dead: BTreeMap<(String, Position), Letter> = BTreeMap::new();
    kept.each(|at, entry| match entry {
        Logged::Outcome { lane, position, outcome: Outcome::Dead { reason, excerpt, attempts } } => {
            let letter = Letter { sink: lane.clone(), position, died_at: at, reason, excerpt, attempts };
            dead.insert((lane, position), letter);
        }
        Logged::Outcome { lane, position, outcome } if outcome.is_final() => {
            drop(dead.remove(&(lane, position)))
        }
        Logged::Reopened { lane, position } => drop(dead.remove(&(lane, position))),
        _ => {}
    })?;
    Ok(dead.into_values().filter(|letter| which.takes(letter)).collect())
}

fn list(kept: &Kept, letters: &[Letter], wants_json: bool) -> Ended {
    let sessions = bodies(kept, letters, |push| session(&push))?;
    for letter in letters {
        let Letter { sink, position, attempts, reason, .. } = letter;
        let session = sessions.get(position).and_then(Option::as_deref);
        match wants_json {
            true => say!("{}", as_json(letter, session)),
            false => say!(
                "{sink:<12} {position:>8}  {}  {}  {attempts} attempts: {reason}",
                kept.local(letter.died_at),
                session.unwrap_or("no session")
            ),
        }
    }
    if !wants_json {
        eprintln!("{} dead letters", letters.len());
    }
    Ok(())
}

fn show(kept: &Kept, letters: &[Letter], wants_json: bool) -> Ended {
    let bodies = bodies(kept, letters, |push| String::from_utf8_lossy(&push.body).into_owned())?;
    if letters.is_empty() {
        bail!("there is no such dead letter; cdr-gateway dead list tells which there are");
    }
    for letter in letters {
        let body = bodies.get(&letter.position);
        if wants_json {
            let mut shown = as_json(letter, None);
            shown["body"] = json!(body);
            say!("{shown}");
            continue;
        }
        say!(
            "sink      {}\nnumber    {}\ndied      {}",
            letter.sink,
            letter.position,
            kept.local(letter.died_at)
        );
        say!("attempts  {}\nwhy       {}", letter.attempts, letter.reason);
        say!("answer    {}\n", if letter.excerpt.is_empty() { "none" } else { &letter.excerpt });
        say!("{}\n", body.map_or("the body is gone", String::as_str));
    }
    Ok(())
}

async fn decide(kept: &Kept, admin: &Admin, which: &Which, verb: &str) -> Ended {
    let mut by_sink: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for letter in letters(kept, which)? {
        by_sink.entry(letter.sink).or_default().push(letter.position.0);
    }
    if by_sink.is_empty() {
        say!("there is no such dead letter");
    }
    for (sink, positions) in by_sink {
        let (mut decided, mut is_parked) = (0, false);
        for positions in positions.chunks(AT_ONCE) {
            let path = format!("/api/v1/dead/{sink}/{verb}");
            let body = json!({ "positions": positions });
            let (status, answer) = running::ask(admin, Method::POST, &path, Some(body)).await?;
            if status != StatusCode::OK {
                return Err(running::message(status, &answer));
            }
            decided += answer["positions"].as_array().map_or(0, Vec::len);
            is_parked = answer["parked"] == true;
        }
        match (verb, is_parked) {
            ("retry", false) => say!("{sink}: {decided} dead letters are being sent again"),
            ("retry", true) => say!(
                "{sink}: {decided} dead letters wait; they are sent when the configuration has a sink of this name again"
            ),
            _ => say!("{sink}: {decided} dead letters discarded"),
        }
    }
    Ok(())
}

/// What `of` makes of the pushes of these letters; those whose bytes are gone are not there.
fn bodies<T>(
    kept: &Kept,
    letters: &[Letter],
    of: impl Fn(StoredPush) -> T,
) -> anyhow::Result<BTreeMap<Position, T>> {
    let wanted: std::collections::BTreeSet<Position> = letters.iter().map(|letter| letter.position).collect();
    let mut found = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    kept.each(|_, entry| {
        if let Logged::Push { push, .. } = entry
            && wanted.contains(&push.position)
        {
            found.insert(push.position, of(push));
        }
    })?;
    Ok(found)
}

fn session(push: &StoredPush) -> Option<String> {
    let action = push.key.action.parse().ok()?;
    cdr::read(&action, &push.body).ok()??.session_id.map(Into::into)
}

fn as_json(letter: &Letter, session: Option<&str>) -> Value {
    json!({
        "sink": letter.sink, "number": letter.position.0, "session_id": session, "died_at": letter.died_at,
        "attempts": letter.attempts, "reason": letter.reason, "answer": letter.excerpt,
    })
}
