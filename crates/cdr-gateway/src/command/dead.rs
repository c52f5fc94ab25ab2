//! `cdr-gateway dead`: deliveries that were given up.

mod decide;
mod letters;
mod on_disk;
mod show;
mod summary;

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use self::letters::Letters;
use super::{Common, Ended, condition::Condition, kept::Kept};
use crate::dead::{About, Letter, Which};

/// Deliveries that were given up.
#[derive(Subcommand)]
pub enum Dead {
    /// Lists them by sink, oldest push first: sink, number, when and why given up, session.
    ///
    /// Example: cdr-gateway dead list --sink crm --newer-than 2h
    ///
    /// Example: cdr-gateway dead list --summary
    List(List),
    /// Shows some with all that is known: the push, each attempt, the receiver's answer, what to do.
    ///
    /// Reads the disk, so it works with the gateway stopped. Example: cdr-gateway dead show 1207 --sink crm
    Show(show::Show),
    /// Sends them again; the gateway must run. Goes no faster than the sink takes them.
    ///
    /// Example: cdr-gateway dead retry --sink crm --reason 'answered 503'
    Retry(Chosen),
    /// Decides that they are not to be delivered; the gateway must run.
    ///
    /// Example: cdr-gateway dead discard --sink crm --older-than 30d
    Discard(Chosen),
}

/// Which dead letters are listed.
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    filter: Filter,
    /// Counts them by sink and reason instead.
    #[arg(long)]
    summary: bool,
}

/// Which dead letters are decided about. Without any word about it none are: it might be millions.
#[derive(Args)]
#[command(group = ArgGroup::new("chosen").required(true).multiple(true)
    .args(["numbers", "sink", "reason", "older_than", "newer_than", "condition", "all"]))]
pub struct Chosen {
    #[command(flatten)]
    filter: Filter,
    /// Every dead letter of every sink.
    #[arg(long, conflicts_with_all = ["numbers", "sink", "reason", "older_than", "newer_than", "condition"])]
    all: bool,
}

/// Which dead letters: those for which everything holds that is given.
#[derive(Args)]
pub struct Filter {
    /// Numbers of pushes.
    numbers: Vec<u64>,
    /// Those of this sink only.
    #[arg(long)]
    sink: Option<String>,
    /// Those whose reason contains this, in whatever case.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Those that were given up longer ago than this, such as 2d.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Those that were given up less long ago than this, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,
    /// Those of pushes for which this holds; the language of routes.
    #[arg(long = "where", value_name = "EXPR", value_parser = Condition::read)]
    condition: Option<Condition>,
}

impl Filter {
    fn which(&self) -> Which {
        let ago = |time: Duration| Timestamp::now().checked_sub(time).unwrap_or(Timestamp::MIN);
        Which {
            numbers: self.numbers.iter().copied().map(cdr_core::Position).collect(),
            reason: self.reason.clone(),
            died_after: self.newer_than.map(ago),
            died_before: self.older_than.map(ago),
            condition: self.condition.as_ref().map(|condition| condition.text().to_owned()),
        }
    }
}

impl Dead {
    /// Lists, shows, retries or discards.
    pub async fn run(self, common: &Common) -> Ended {
        match self {
            Self::List(List { filter, summary: false }) => list(common, &filter).await,
            Self::List(List { filter, summary: true }) => summary::tell(common, &filter).await,
            Self::Show(show) => show.run(common),
            Self::Retry(Chosen { filter, .. }) => decide::retry(common, &filter).await,
            Self::Discard(Chosen { filter, .. }) => decide::discard(common, &filter).await,
        }
    }
}

async fn list(common: &Common, filter: &Filter) -> Ended {
    let kept = Kept::find(common)?;
    let mut letters = Letters::anywhere(common, &kept, filter).await?;
    let mut count = 0_u64;
    while let Some(page) = letters.next().await? {
        for letter in &page {
            match common.wants_json() {
                true => say!("{}", json!(letter)),
                false => say!("{}", line(&kept, letter)),
            }
        }
        count += page.len() as u64;
    }
    if !common.wants_json() {
        eprintln!("{count} dead letters");
    }
    Ok(())
}

fn line(kept: &Kept, letter: &Letter) -> String {
    let Letter { sink, number, attempts, reason, about, .. } = letter;
    let session = match about {
        Some(About { session_id: Some(id), .. }) => id,
        Some(_) => "no session",
        None => "its bytes are gone",
    };
    let died = kept.local(letter.died_at);
    let session = session.escape_debug();
    format!("{sink:<12} {number:>8}  {died}  {session}  {attempts} attempts: {reason}")
}
