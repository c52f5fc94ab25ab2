//! `cdr-gateway dead`: deliveries that were given up.

use std::collections::BTreeMap;

use anyhow::bail;
use cdr_core::cdr;
use cdr_spool::{DeadLetter, Position, StoredPush};
use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Common, Ended, kept::Kept, running};
use crate::{admin::BODY_LIMIT, config::Admin, traced::moment};

/// So many are read at once.
const PAGE: usize = 500;
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
    /// Shows them to `see`, by sink and number.
    fn each(&self, kept: &mut Kept, mut see: impl FnMut(&mut Kept, DeadLetter) -> Ended) -> Ended {
        let mut last: Option<(String, Position)> = None;
        loop {
            let after = last.as_ref().map(|(sink, position)| (sink.as_str(), *position));
            let page = kept.search.dead_letters(self.sink.as_deref(), after, PAGE)?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some((end.lane.clone(), end.position));
            for letter in page {
                if self.numbers.is_empty() || self.numbers.contains(&letter.position.0) {
                    see(kept, letter)?;
                }
            }
        }
    }
}

impl Dead {
    /// Lists, shows, retries or discards.
    pub async fn run(self, common: &Common) -> Ended {
        let mut kept = Kept::find(common)?;
        match self {
            Self::List(which) => list(&mut kept, &which, common.wants_json()),
            Self::Show(which) => show(&mut kept, &which, common.wants_json()),
            Self::Retry(which) => decide(&mut kept, &common.admin()?, &which, "retry").await,
            Self::Discard(which) if which.numbers.is_empty() && which.sink.is_none() => {
                bail!("name a sink with --sink, or numbers: this would discard every dead letter there is")
            }
            Self::Discard(which) => decide(&mut kept, &common.admin()?, &which, "discard").await,
        }
    }
}

fn list(kept: &mut Kept, which: &Which, wants_json: bool) -> Ended {
    let mut count = 0;
    which.each(kept, |kept, letter| {
        count += 1;
        let session = kept.search.get(letter.position)?.and_then(|push| session(&push));
        let DeadLetter { lane, position, attempts, reason, .. } = &letter;
        match wants_json {
            true => say!("{}", as_json(&letter, session.as_deref())),
            false => say!(
                "{lane:<12} {position:>8}  {}  {}  {attempts} attempts: {reason}",
                kept.local(moment(letter.died_at_ms)),
                session.as_deref().unwrap_or("no session")
            ),
        }
        Ok(())
    })?;
    kept.tell_damaged();
    if !wants_json {
        eprintln!("{count} dead letters");
    }
    Ok(())
}

fn show(kept: &mut Kept, which: &Which, wants_json: bool) -> Ended {
    let mut is_there = false;
    which.each(kept, |kept, letter| {
        is_there = true;
        let push = kept.search.get(letter.position)?;
        let body = push.map(|push| String::from_utf8_lossy(&push.body).into_owned());
        if wants_json {
            let mut shown = as_json(&letter, None);
            shown["body"] = json!(body);
            say!("{shown}");
            return Ok(());
        }
        let died = kept.local(moment(letter.died_at_ms));
        say!("sink      {}\nnumber    {}\ndied      {died}", letter.lane, letter.position);
        say!("attempts  {}\nwhy       {}", letter.attempts, letter.reason);
        say!("answer    {}\n", if letter.excerpt.is_empty() { "none" } else { &letter.excerpt });
        say!("{}\n", body.as_deref().unwrap_or("the body is gone"));
        Ok(())
    })?;
    match is_there {
        true => Ok(()),
        false => bail!("there is no such dead letter; cdr-gateway dead list tells which there are"),
    }
}

async fn decide(kept: &mut Kept, admin: &Admin, which: &Which, verb: &str) -> Ended {
    let mut by_sink: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    which.each(kept, |_, letter| {
        by_sink.entry(letter.lane).or_default().push(letter.position.0);
        Ok(())
    })?;
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

fn session(push: &StoredPush) -> Option<String> {
    let action = push.key.action.parse().ok()?;
    cdr::read(&action, &push.body).ok()??.session_id
}

fn as_json(letter: &DeadLetter, session: Option<&str>) -> Value {
    json!({
        "sink": letter.lane, "number": letter.position.0, "session_id": session, "died_at": moment(letter.died_at_ms),
        "attempts": letter.attempts, "reason": letter.reason, "answer": letter.excerpt,
    })
}
