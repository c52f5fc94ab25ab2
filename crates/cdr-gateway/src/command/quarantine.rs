//! `cdr-gateway quarantine`: authentic requests that were no pushes.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use cdr_dispatch::stored::suspect_facts;
use cdr_spool::{Position, Search, StoredQuarantine};
use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Common, Ended, Said,
    kept::{Kept, moment},
    running,
};

/// So many are decided at once: reading and storing them again takes the gateway a moment.
const SLICE: usize = 500;

/// So many bodies are in memory at once; each may be as long as `limits.body`.
const BODIES: usize = 16;

/// Authentic requests that were no pushes.
#[derive(Subcommand)]
pub enum Quarantine {
    /// Lists them, oldest first: number, arrival, bytes, and what is wrong.
    ///
    /// Example: cdr-gateway quarantine list
    List,
    /// Shows one: what is known about it, and its bytes.
    ///
    /// Example: cdr-gateway quarantine show 17 --raw > body.bin
    Show {
        /// The number from the list, or from the answer to the sender.
        number: u64,
        /// Nothing but the bytes, exactly.
        #[arg(long)]
        raw: bool,
    },
    /// Reads requests again as the gateway reads them today; the gateway must run.
    ///
    /// One that is a push now is stored, routed and delivered like any other, and leaves the quarantine; one that still is
    /// none stays, and is told with its reason. Example: cdr-gateway quarantine retry --all
    Retry(Chosen),
    /// Takes requests out of quarantine for good; the gateway must run.
    ///
    /// Example: cdr-gateway quarantine discard 17 18
    Discard(Chosen),
}

/// Which requests are decided about.
#[derive(Args)]
pub struct Chosen {
    /// The numbers from the list.
    #[arg(required_unless_present = "all")]
    numbers: Vec<u64>,
    /// Everything in quarantine.
    #[arg(long, conflicts_with = "numbers")]
    all: bool,
}

impl Quarantine {
    /// Lists, shows, retries or discards.
    pub async fn run(&self, common: &Common) -> Ended {
        match self {
            Self::List => list(&Kept::find(common)?, common.wants_json()),
            Self::Show { number, raw } => {
                show(&Kept::find(common)?, Position(*number), *raw, common.wants_json())
            }
            Self::Retry(chosen) => retry(common, &chosen.numbers(common)?).await,
            Self::Discard(chosen) => discard(common, &chosen.numbers(common)?).await,
        }
    }
}

impl Chosen {
    fn numbers(&self, common: &Common) -> anyhow::Result<Vec<u64>> {
        if !self.all {
            return Ok(self.numbers.clone());
        }
        let kept = Kept::find(common)?;
        let mut numbers = Vec::new();
        each(&kept, |entry| numbers.push(entry.position.0))?;
        Ok(numbers)
    }
}

/// Fails when something stays in quarantine, so that a script hears of it.
async fn retry(common: &Common, numbers: &[u64]) -> Ended {
    let admin = common.admin()?;
    let (mut stored, mut others) = (0, 0);
    for numbers in numbers.chunks(SLICE) {
        let asked = json!({ "positions": numbers });
        let path = "/api/v1/quarantine/retry";
        let (status, answer) = running::ask(&admin, Method::POST, path, Some(asked)).await?;
        for retried in answer["retried"].as_array().into_iter().flatten() {
            let is_stored = !retried["push"].is_null();
            if is_stored {
                stored += 1
            } else {
                others += 1
            }
            match common.wants_json() {
                true => say!("{retried}"),
                false => say!("{}", in_words(retried)),
            }
        }
        if status != StatusCode::OK {
            return Err(running::message(status, &answer));
        }
    }
    if !common.wants_json() {
        eprintln!("{stored} stored as pushes, {others} not");
    }
    if others == 0 { Ok(()) } else { Err(Said.into()) }
}

fn in_words(retried: &Value) -> String {
    let number = &retried["number"];
    match (&retried["push"], retried["still"].as_str()) {
        (Value::Null, Some(reason)) => format!("{number} still is no push: {reason}"),
        (Value::Null, None) => format!("nothing lies in quarantine under {number}"),
        (push, _) if retried["repeat"] == true => format!("{number} was there already as push {push}"),
        (push, _) => format!("{number} is push {push} now"),
    }
}

async fn discard(common: &Common, numbers: &[u64]) -> Ended {
    let admin = common.admin()?;
    let mut discarded = 0;
    for numbers in numbers.chunks(SLICE) {
        let asked = json!({ "positions": numbers });
        let answer =
            running::ask_for(&admin, Method::POST, "/api/v1/quarantine/discard", Some(asked)).await?;
        discarded += answer["positions"].as_array().map_or(0, Vec::len);
    }
    say!("{discarded} discarded");
    Ok(())
}

/// Goes through what lies in quarantine, oldest first.
fn each(kept: &Kept, mut told: impl FnMut(&StoredQuarantine)) -> anyhow::Result<()> {
    let mut search = kept.search()?;
    let mut after = Some(Position(0));
    while let Some(position) = after {
        let page = next(&mut search, position, BODIES)?;
        page.entries.iter().for_each(&mut told);
        after = page.last;
    }
    Ok(())
}

/// Some of what lies in quarantine.
struct Page {
    entries: Vec<StoredQuarantine>,
    /// Behind which to go on; none at the end.
    last: Option<Position>,
}

/// What lies behind this position, at most so many. What is damaged is told to stderr and passed over.
fn next(search: &mut Search, after: Position, max: usize) -> anyhow::Result<Page> {
    let entries = search.quarantined(after, max).context("the spool cannot be read")?;
    let damaged = search.take_damaged();
    damaged.iter().for_each(|number| eprintln!("passed over: {number} in quarantine is damaged on disk"));
    let last = entries.iter().map(|entry| entry.position).chain(damaged).max();
    Ok(Page { entries, last })
}

fn list(kept: &Kept, wants_json: bool) -> Ended {
    let mut count = 0_u64;
    each(kept, |entry| {
        count += 1;
        match wants_json {
            true => say!("{}", as_json(entry)),
            false => say!(
                "{:>8}  {}  {:>7} bytes  {}",
                entry.position,
                kept.local(moment(entry.received_at_ms)),
                entry.body.len(),
                entry.reason
            ),
        }
    })?;
    if !wants_json {
        eprintln!("{count} in quarantine");
    }
    Ok(())
}

fn show(kept: &Kept, number: Position, raw: bool, wants_json: bool) -> Ended {
    let mut search = kept.search()?;
    let next = next(&mut search, Position(number.0.saturating_sub(1)), 1)?;
    let entry = next.entries.into_iter().find(|entry| entry.position == number).with_context(|| {
        format!("nothing lies in quarantine under {number}; cdr-gateway quarantine list tells what does")
    })?;
    if raw {
        std::io::stdout().lock().write_all(&entry.body)?;
        return Ok(());
    }
    if wants_json {
        say!("{}", as_json(&entry));
        return Ok(());
    }
    let Some(facts) = suspect_facts(&entry) else {
        bail!("what is known about number {number} cannot be read; its bytes can, with --raw");
    };
    say!("number    {number}");
    say!("arrived   {}", kept.local(facts.received_at));
    say!("sender    {}", facts.sender.map_or_else(|| "unknown".to_owned(), |sender| sender.to_string()));
    say!("action    {}", facts.action);
    say!("uuid      {}", facts.uuid.as_deref().unwrap_or("none"));
    say!("sha256    {}", hex(&entry.sha256));
    say!("why       {}\n", entry.reason);
    say!("{}", String::from_utf8_lossy(&entry.body));
    Ok(())
}

fn as_json(entry: &StoredQuarantine) -> Value {
    let facts = suspect_facts(entry);
    let facts = facts.as_ref();
    json!({
        "number": entry.position.0, "received_at": moment(entry.received_at_ms), "bytes": entry.body.len(),
        "sha256": hex(&entry.sha256), "reason": entry.reason,
        "action": facts.map(|facts| facts.action.as_str()), "uuid": facts.and_then(|facts| facts.uuid.as_ref()),
        "sender": facts.and_then(|facts| facts.sender),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
