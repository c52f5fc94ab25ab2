//! Dead letters read from disk, a page at a time, while no gateway runs: from the catalog, and the pushes from the log.

use std::collections::BTreeMap;

use anyhow::Context as _;
use cdr_core::SpoolId;
use cdr_dispatch::{Errand, stored};
use cdr_spool::{DeadLetter, Position, Search};

use super::{Condition, Filter, Kept};
use crate::dead::{About, Letter, Which};

/// So many are looked at for one page.
const PAGE: usize = 1000;

/// The dead letters of a spool.
pub struct OnDisk {
    search: Box<Search>,
    /// As [`sinks`] tells them.
    sinks: Vec<(String, Vec<String>)>,
    after: Position,
    which: Which,
    condition: Option<Condition>,
}

impl OnDisk {
    /// Of all sinks, or of the one that is named.
    pub fn open(kept: &Kept, filter: &Filter) -> anyhow::Result<Self> {
        let search = Box::new(kept.search()?);
        let mut sinks = sinks(&search);
        if let Some(wanted) = &filter.sink {
            let lanes = sinks.remove(wanted).unwrap_or_else(|| vec![wanted.clone()]);
            sinks = [(wanted.clone(), lanes)].into();
        }
        let sinks = sinks.into_iter().rev().collect();
        let (which, condition) = (filter.which(), filter.condition.clone());
        Ok(Self { search, sinks, after: Position(0), which, condition })
    }

    /// Some more, all of one sink; none at the end.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn next(&mut self) -> anyhow::Result<Option<Vec<Letter>>> {
        while let Some((sink, lanes)) = self.sinks.last() {
            let mut dead = Vec::new();
            for lane in lanes {
                dead.extend(self.search.dead_letters(Some(lane), Some((lane, self.after)), PAGE)?);
            }
            dead.sort_by_key(|letter| letter.position);
            dead.truncate(PAGE);
            let sink = sink.clone();
            match dead.last().filter(|_| dead.len() == PAGE) {
                Some(last) => self.after = last.position,
                None => {
                    self.after = Position(0);
                    self.sinks.pop();
                }
            }
            let letters = self.meant(&sink, dead)?;
            if !letters.is_empty() {
                return Ok(Some(letters));
            }
        }
        Ok(None)
    }

    fn meant(&mut self, sink: &str, dead: Vec<DeadLetter>) -> anyhow::Result<Vec<Letter>> {
        let mut letters = Vec::new();
        for dead in dead {
            let position = dead.position;
            let mut letter = Letter::new(DeadLetter { lane: sink.to_owned(), ..dead });
            if !self.which.may_take(letter.number, &letter.reason, letter.died_at) {
                continue;
            }
            let push = self.search.get(position).context("the spool cannot be read")?;
            let push = push.map(|push| stored::from_spool(SpoolId([0; 8]), push));
            let holds = |condition: &Condition| push.as_ref().is_some_and(|push| condition.holds(push));
            if self.condition.as_ref().is_none_or(holds) {
                letter.about = push.as_deref().map(About::of);
                letters.push(letter);
            }
        }
        for position in self.search.take_damaged() {
            eprintln!("passed over: push {position} is damaged on disk");
        }
        Ok(letters)
    }
}

/// Sinks and, as far as these are told of by themselves, temporary lanes; each with its lanes.
pub fn sinks(search: &Search) -> BTreeMap<String, Vec<String>> {
    let mut sinks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (lane, errand) in search.lanes() {
        let errand = errand.map(|kept| (kept, Errand::from_spool(lane, kept)));
        let sink = match &errand {
            // As the gateway tells it: what was set aside is its sink's.
            Some((kept, Ok(Errand::SetAside))) => kept.sink.as_str(),
            _ => lane,
        };
        sinks.entry(sink.to_owned()).or_default().push(lane.to_owned());
    }
    sinks
}
