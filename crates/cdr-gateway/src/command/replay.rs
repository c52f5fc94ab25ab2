//! `cdr-gateway replay`: sends pushes that are kept to a sink again.

use std::{collections::HashSet, time::Duration};

use anyhow::{anyhow, bail};
use cdr_dispatch::{Rate, Replay as Wanted, Wish, stored};
use cdr_spool::Logged;
use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Common, Ended, has_people_at_stderr, kept::Kept, running, when};
use crate::config::Admin;

/// How often a replay is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Without a terminal a line comes as often as this.
const LINES: u32 = 20;

/// So many pushes a dry run shows.
const SHOWN: usize = 5;

/// Sends pushes that the spool keeps to a sink again.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Replay {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    begin: Begin,
}

#[derive(Subcommand)]
enum What {
    /// Lists the replays under way, and those that were over since the gateway started.
    ///
    /// Example: cdr-gateway replay list
    List,
    /// Follows a replay to its end; Ctrl-C leaves it alone.
    ///
    /// Example: cdr-gateway replay follow 7
    Follow {
        /// Its number.
        number: u32,
    },
    /// Ends a replay where it is, and forgets its dead letters. What it sent is sent.
    ///
    /// Example: cdr-gateway replay cancel 7
    Cancel {
        /// Its number.
        number: u32,
    },
}

#[derive(Args)]
struct Begin {
    /// The sink that gets them.
    #[arg(long, required = true)]
    sink: Option<String>,
    /// Those that arrived then or later: 2h for two hours ago, a day, or a time. Without it from the oldest on.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Those that arrived before. Without it up to now.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Those for which this holds; the language of routes.
    #[arg(long = "where", value_name = "EXPR")]
    condition: Option<String>,
    /// Most pushes in a time, such as 10/s. Without it one after the other.
    #[arg(long)]
    rate: Option<Rate>,
    /// Count them and show the first, and send nothing. Works with the gateway stopped, too.
    #[arg(long)]
    dry_run: bool,
    /// Begin, and do not follow.
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
}

impl Replay {
    /// Begins, looks, follows or cancels.
    pub async fn run(self, common: &Common) -> Ended {
        match self.what {
            None if self.begin.dry_run => self.begin.count(common),
            None => self.begin.run(common).await,
            Some(What::List) => list(&common.admin()?, common.wants_json()).await,
            Some(What::Follow { number }) => follow(&common.admin()?, number, common.wants_json()).await,
            Some(What::Cancel { number }) => cancel(&common.admin()?, number, common.wants_json()).await,
        }
    }
}

impl Begin {
    fn sink(&self) -> &str {
        // Required unless there is a subcommand.
        self.sink.as_deref().unwrap_or_default()
    }

    fn wish(&self, kept: &Kept) -> anyhow::Result<Wish> {
        let now = Timestamp::now();
        let moment = |option: &str, text: &Option<String>| -> anyhow::Result<Option<Timestamp>> {
            let Some(text) = text else { return Ok(None) };
            when::moment(text, now, &kept.at.timezone).map(Some).map_err(|error| anyhow!("{option}: {error}"))
        };
        let (from, to) = (moment("--from", &self.from)?, moment("--to", &self.to)?);
        Ok(Wish { from, to, condition: self.condition.clone(), rate: self.rate })
    }

    async fn run(&self, common: &Common) -> Ended {
        let kept = Kept::find(common)?;
        let admin = common.admin()?;
        let mut body = json!(self.wish(&kept)?);
        body["sink"] = json!(self.sink());
        let (status, answer) = running::ask(&admin, Method::POST, "/api/v1/replays", Some(body)).await?;
        let number = answer["replay"].as_u64().and_then(|number| u32::try_from(number).ok());
        let (StatusCode::OK, Some(number)) = (status, number) else {
            return Err(running::message(status, &answer));
        };
        if self.detach {
            match common.wants_json() {
                true => say!("{answer}"),
                false => say!(
                    "replay {number} is under way: cdr-gateway replay follow {number}, or cancel {number}"
                ),
            }
            return Ok(());
        }
        follow(&admin, number, common.wants_json()).await
    }

    /// Looks through the log itself: what a replay that began now would send.
    fn count(&self, common: &Common) -> Ended {
        let kept = Kept::find(common)?;
        if !kept.at.sinks.iter().any(|sink| sink == self.sink()) {
            bail!("there is no sink {:?}; there are: {}", self.sink(), kept.at.sinks.join(", "));
        }
        let wanted = Wanted::of(self.wish(&kept)?, "").map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            anyhow!("--where: {}", faults.join("; "))
        })?;
        let (mut seen, mut shown, mut failed) = (HashSet::new(), Vec::new(), 0_u64);
        kept.each(|_, entry| {
            let Logged::Push { push, .. } = entry else { return };
            // The identity of the spool plays no part here.
            let push = stored::from_spool(cdr_core::SpoolId([0; 8]), push);
            match wanted.wants(&push) {
                // One that is being carried stands there twice.
                Ok(true) if seen.insert(push.position().0) && shown.len() < SHOWN => shown.push(push),
                Ok(_) => {}
                Err(_) => failed += 1,
            }
        })?;
        if common.wants_json() {
            let first: Vec<u64> = shown.iter().map(|push| push.position().0).collect();
            say!(
                "{}",
                json!({ "sink": self.sink(), "would_send": seen.len(), "first": first, "condition_failed": failed })
            );
            return Ok(());
        }
        say!("{} pushes would be sent to {}", seen.len(), self.sink());
        for push in &shown {
            let facts = push.facts();
            let status =
                push.cdr().and_then(|cdr| cdr.end_status.as_ref()).map_or("", |status| status.as_str());
            say!(
                "  push {}: {} {}, arrived {}, session {}",
                push.position(),
                facts.action,
                status.escape_debug(),
                kept.local(facts.received_at),
                push.session_id().unwrap_or("none").escape_debug()
            );
        }
        if seen.len() > shown.len() {
            say!("  and {} more", seen.len() - shown.len());
        }
        if failed > 0 {
            eprintln!(
                "--where had no answer for {failed} pushes, mostly because of a field that is null; they would not be sent"
            );
        }
        Ok(())
    }
}

async fn all(admin: &Admin) -> anyhow::Result<Vec<Value>> {
    let (status, answer) = running::ask(admin, Method::GET, "/api/v1/replays", None).await?;
    if status != StatusCode::OK {
        return Err(running::message(status, &answer));
    }
    Ok(answer["replays"].as_array().cloned().unwrap_or_default())
}

async fn list(admin: &Admin, wants_json: bool) -> Ended {
    let replays = all(admin).await?;
    for replay in &replays {
        match wants_json {
            true => say!("{replay}"),
            false => say!("{}", line(replay)),
        }
    }
    if replays.is_empty() && !wants_json {
        say!("no replay is under way");
    }
    Ok(())
}

async fn cancel(admin: &Admin, number: u32, wants_json: bool) -> Ended {
    let path = format!("/api/v1/replays/{number}/cancel");
    let (status, answer) = running::ask(admin, Method::POST, &path, None).await?;
    match status {
        StatusCode::OK if wants_json => say!("{answer}"),
        StatusCode::OK => say!("{}", line(&answer)),
        status => return Err(running::message(status, &answer)),
    }
    Ok(())
}

/// Shows how it goes until it is over. Ctrl-C ends the showing, not the replay.
async fn follow(admin: &Admin, number: u32, wants_json: bool) -> Ended {
    let bar = has_people_at_stderr().then(bar);
    let following = watch(admin, number, bar.as_ref());
    let over = tokio::select! {
        over = following => over,
        _ = tokio::signal::ctrl_c() => {
            if let Some(bar) = bar {
                bar.abandon();
            }
            eprintln!("replay {number} goes on: cdr-gateway replay follow {number}, or cancel {number}");
            return Ok(());
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let over = over?;
    match wants_json {
        true => say!("{over}"),
        false => say!("{}", line(&over)),
    }
    if over["state"] == "rests" && !wants_json {
        let lane = over["lane"].as_str().unwrap_or_default();
        eprintln!(
            "its dead letters wait: cdr-gateway dead list --sink {lane}, then dead retry or discard; replay cancel {number} forgets them"
        );
    }
    Ok(())
}

/// Looks at a replay until it is over, or everything is sent and dead letters wait.
async fn watch(admin: &Admin, number: u32, bar: Option<&ProgressBar>) -> anyhow::Result<Value> {
    let mut tick = tokio::time::interval(LOOK);
    for look in 0_u32.. {
        tick.tick().await;
        let found = all(admin).await?.into_iter().find(|replay| replay["replay"] == number);
        let Some(replay) = found else {
            bail!(
                "there is no replay {number}, or the gateway was restarted since it was over; cdr-gateway replay list tells which there are"
            );
        };
        match replay["state"].as_str() {
            Some("over" | "rests" | "cancelled") => return Ok(replay),
            Some("parked") => bail!("{}", line(&replay)),
            _ => {}
        }
        match bar {
            Some(bar) => {
                bar.set_length(replay["of"].as_u64().unwrap_or_default());
                bar.set_position(replay["read"].as_u64().unwrap_or_default());
                bar.set_message(told(&replay));
            }
            None if look.is_multiple_of(LINES) => eprintln!("{}", line(&replay)),
            None => {}
        }
    }
    bail!("replay {number} has been followed for longer than anyone waits")
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} read  {msg}  {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn line(replay: &Value) -> String {
    let text = |name: &str| replay[name].as_str().unwrap_or_default();
    let why = match text("why") {
        "" => String::new(),
        why => format!(" ({why})"),
    };
    let condition =
        replay["wish"]["where"].as_str().map(|text| format!(", where {text}")).unwrap_or_default();
    format!(
        "replay {} to {}: {}{why}, {} of {} read, {}{condition}",
        replay["replay"],
        text("sink"),
        text("state"),
        replay["read"],
        replay["of"],
        told(replay)
    )
}

fn told(replay: &Value) -> String {
    let count = |name: &str| replay[name].as_u64().unwrap_or_default();
    format!("{} sent, {} open, {} dead", count("delivered"), count("open"), count("dead"))
}
