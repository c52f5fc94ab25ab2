//! `cdr-gateway quarantine`: authentic requests that were no pushes.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use cdr_spool::{Position, StoredQuarantine};
use clap::Subcommand;
use hyper::{Method, StatusCode};
use serde_json::json;

use super::{Common, Ended, kept::Kept, running};
use crate::traced::moment;

/// So many are read at once.
const PAGE: usize = 100;

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
    /// Takes requests out of quarantine for good; the gateway must run.
    ///
    /// Example: cdr-gateway quarantine discard 17 18
    Discard {
        /// The numbers from the list.
        #[arg(required = true)]
        numbers: Vec<u64>,
    },
}

impl Quarantine {
    /// Lists, shows or discards.
    pub async fn run(&self, common: &Common) -> Ended {
        match self {
            Self::Discard { numbers } => discard(common, numbers).await,
            Self::List => list(&mut Kept::find(common)?, common.wants_json()),
            Self::Show { number, raw } => {
                let mut kept = Kept::find(common)?;
                let held = kept.search.quarantined(Position(number.saturating_sub(1)), 1)?;
                kept.tell_damaged();
                let entry = held.iter().find(|entry| entry.position.0 == *number).with_context(|| {
                    format!("nothing lies in quarantine under {number}; cdr-gateway quarantine list tells what does")
                })?;
                show(&kept, entry, *raw, common.wants_json())
            }
        }
    }
}

async fn discard(common: &Common, numbers: &[u64]) -> Ended {
    let body = json!({ "positions": numbers });
    let (status, answer) =
        running::ask(&common.admin()?, Method::POST, "/api/v1/quarantine/discard", Some(body)).await?;
    if status != StatusCode::OK {
        return Err(running::message(status, &answer));
    }
    say!("{} discarded", answer["positions"].as_array().map_or(0, Vec::len));
    Ok(())
}

fn list(kept: &mut Kept, wants_json: bool) -> Ended {
    let (mut count, mut after) = (0, Position(0));
    loop {
        let page = kept.search.quarantined(after, PAGE)?;
        kept.tell_damaged();
        let Some(last) = page.last() else { break };
        after = last.position;
        count += page.len();
        for entry in &page {
            let (number, bytes) = (entry.position, entry.body.len());
            match wants_json {
                true => say!("{}", as_json(entry)),
                false => say!(
                    "{number:>8}  {}  {bytes:>7} bytes  {}",
                    kept.local(moment(entry.received_at_ms)),
                    entry.reason
                ),
            }
        }
    }
    if !wants_json {
        eprintln!("{count} in quarantine");
    }
    Ok(())
}

fn show(kept: &Kept, entry: &StoredQuarantine, raw: bool, wants_json: bool) -> Ended {
    let mut stdout = std::io::stdout().lock();
    if raw {
        stdout.write_all(&entry.body)?;
        return Ok(());
    }
    if wants_json {
        writeln!(stdout, "{}", as_json(entry))?;
        return Ok(());
    }
    let Some(facts) = cdr_dispatch::stored::suspect_facts(entry) else {
        bail!("what is known about number {} cannot be read; its bytes can, with --raw", entry.position);
    };
    writeln!(stdout, "number    {}", entry.position)?;
    writeln!(stdout, "arrived   {}", kept.local(facts.received_at))?;
    writeln!(
        stdout,
        "sender    {}",
        facts.sender.map_or_else(|| "unknown".to_owned(), |sender| sender.to_string())
    )?;
    writeln!(stdout, "action    {}", facts.action)?;
    writeln!(stdout, "uuid      {}", facts.uuid.as_deref().unwrap_or("none"))?;
    writeln!(stdout, "sha256    {}", hex(&entry.sha256))?;
    writeln!(stdout, "why       {}\n", entry.reason)?;
    writeln!(stdout, "{}", String::from_utf8_lossy(&entry.body))?;
    Ok(())
}

fn as_json(entry: &StoredQuarantine) -> serde_json::Value {
    let facts = cdr_dispatch::stored::suspect_facts(entry);
    json!({
        "number": entry.position.0, "received_at": moment(entry.received_at_ms), "bytes": entry.body.len(),
        "sha256": hex(&entry.sha256), "reason": entry.reason,
        "action": facts.as_ref().map(|facts| facts.action.to_string()),
        "uuid": facts.as_ref().and_then(|facts| facts.uuid.clone()),
        "sender": facts.and_then(|facts| facts.sender),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
