//! `dead retry` and `dead discard`: in slices, each of them durable before the next one is asked for.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use cdr_core::Position;
use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{
    super::{has_people_at_stderr, running},
    Common, Filter, Letters,
};
use crate::{admin::BODY_LIMIT, command::Ended, config::Admin, dead::Letter};

/// So many are decided at once.
const SLICE: usize = 1000;
const _: () = assert!(SLICE * "18446744073709551615,".len() < BODY_LIMIT / 2);

/// A lane that has so much open gets no more from here: what it has read and not closed it holds in memory.
const FULL: u64 = 3000;

/// How often it looks whether a full lane has got on.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Sends dead letters again.
pub async fn retry(common: &Common, filter: &Filter) -> Ended {
    let admin = common.admin()?;
    let mut letters = Letters::of_gateway(admin.clone(), filter).await?;
    let mut done = Done::new("sent again");
    while let Some(page) = letters.next().await? {
        for (sink, slice) in slices(&page) {
            let is_parked = done.or_so_far(has_room(&admin, sink).await)?;
            done.or_so_far(decide(&admin, "retry", sink, &slice).await).map(|count| done.add(sink, count))?;
            done.parked.insert(sink.to_owned(), is_parked);
        }
    }
    done.tell(|sink, count, is_parked| match is_parked {
        false => say!("{sink}: {count} dead letters are being sent again"),
        true => say!(
            "{sink}: {count} dead letters wait; they are sent when the configuration has a sink of this name again"
        ),
    });
    Ok(())
}

/// Discards dead letters.
pub async fn discard(common: &Common, filter: &Filter) -> Ended {
    let admin = common.admin()?;
    let mut letters = Letters::of_gateway(admin.clone(), filter).await?;
    let mut done = Done::new("discarded");
    while let Some(page) = letters.next().await? {
        for (sink, slice) in slices(&page) {
            done.or_so_far(decide(&admin, "discard", sink, &slice).await)
                .map(|count| done.add(sink, count))?;
        }
    }
    done.tell(|sink, count, _| say!("{sink}: {count} dead letters discarded"));
    Ok(())
}

/// A page in slices; all of it is of one sink.
fn slices(page: &[Letter]) -> impl Iterator<Item = (&str, Vec<Position>)> {
    page.chunks(SLICE)
        .map(|slice| (slice[0].sink.as_str(), slice.iter().map(|letter| letter.number).collect()))
}

/// Decides about a slice; how many of them were dead letters still.
async fn decide(admin: &Admin, verb: &str, sink: &str, positions: &[Position]) -> anyhow::Result<u64> {
    let path = format!("/api/v1/dead/{sink}/{verb}");
    let asked = json!({ "positions": positions });
    let answer = running::ask_for(admin, Method::POST, &path, Some(asked)).await?;
    Ok(answer["positions"].as_array().map_or(0, |decided| decided.len() as u64))
}

/// Waits until a lane can hold a slice more; true when its sink is parked.
///
/// # Errors
/// Its sink is away or parked, so that waiting would have no end.
async fn has_room(admin: &Admin, sink: &str) -> anyhow::Result<bool> {
    loop {
        let lanes = running::ask_for(admin, Method::GET, "/api/v1/lanes", None).await?;
        let find = |list: &str, name: &str| -> Option<Value> {
            lanes[list].as_array()?.iter().find(|lane| lane[name] == sink).cloned()
        };
        // What was set aside of it has a part of them.
        let is_part = |lane: &&Value| lane["set_aside_of"] == sink;
        let parts = ["lanes", "parked"].into_iter().flat_map(|list| lanes[list].as_array()).flatten();
        let open_beside = parts.filter(is_part).filter_map(|lane| lane["open"].as_u64()).max().unwrap_or(0);
        let runs = find("lanes", "sink").or_else(|| find("replays", "sink"));
        let (lane, is_parked) = match (runs, find("parked", "name")) {
            (Some(lane), _) => (lane, false),
            (None, Some(lane)) => (lane, true),
            (None, None) => bail!("{sink} is no sink any more"),
        };
        if lane["open"].as_u64().unwrap_or(0).max(open_beside) <= FULL {
            return Ok(is_parked);
        }
        match lane["paused"]["reason"].as_str() {
            Some(reason) => bail!(
                "{sink} is away ({reason}); the others stay dead letters until it is back and you retry them"
            ),
            None if is_parked => {
                bail!("{sink} is parked; the others stay dead letters until it is back and you retry them")
            }
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// What was decided so far.
struct Done {
    what: &'static str,
    by_sink: BTreeMap<String, u64>,
    parked: BTreeMap<String, bool>,
    bar: ProgressBar,
}

impl Done {
    fn new(what: &'static str) -> Self {
        let bar = match has_people_at_stderr() {
            true => ProgressBar::no_length(),
            false => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template("{spinner} {pos} {msg}  {per_sec}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what);
        Self { what, by_sink: BTreeMap::new(), parked: BTreeMap::new(), bar }
    }

    fn add(&mut self, sink: &str, count: u64) {
        *self.by_sink.entry(sink.to_owned()).or_default() += count;
        self.bar.inc(count);
    }

    /// An error that says what was done before it: that stays done.
    fn or_so_far<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        let done: u64 = self.by_sink.values().sum();
        match done {
            0 => result,
            _ => result.with_context(|| format!("{done} dead letters were {} before this", self.what)),
        }
    }

    fn tell(self, line: impl Fn(&str, u64, bool)) {
        self.bar.finish_and_clear();
        if self.by_sink.is_empty() {
            say!("there is no such dead letter");
        }
        for (sink, count) in &self.by_sink {
            line(sink, *count, self.parked.get(sink).copied().unwrap_or(false));
        }
    }
}
