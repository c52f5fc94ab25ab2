//! `dead list --summary`: how many there are, by sink and reason.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::{Common, Filter, Kept, Letters};
use crate::{command::Ended, dead::Letter};

/// So many reasons are told apart; what a receiver puts into its answers must not fill the memory.
const REASONS: usize = 1000;

/// What stands for all further reasons.
const OTHERS: &str = "other reasons";

#[derive(Clone, Copy)]
struct Tally {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

/// Counts the dead letters that are meant.
pub async fn tell(common: &Common, filter: &Filter) -> Ended {
    let kept = Kept::find(common)?;
    let mut letters = Letters::anywhere(common, &kept, filter).await?;
    let mut tallies: BTreeMap<(String, String), Tally> = BTreeMap::new();
    while let Some(page) = letters.next().await? {
        page.iter().for_each(|letter| add(&mut tallies, letter));
    }
    let mut tallies: Vec<_> = tallies.into_iter().collect();
    tallies.sort_by(|((one, _), a), ((two, _), b)| one.cmp(two).then(b.count.cmp(&a.count)));
    for ((sink, reason), Tally { count, first, last }) in &tallies {
        match common.wants_json() {
            true => {
                say!(
                    "{}",
                    json!({ "sink": sink, "reason": reason, "count": count, "first": first, "last": last })
                );
            }
            false => {
                let (first, last) = (kept.local(*first), kept.local(*last));
                say!("{sink:<12} {count:>8}  {first} … {last}  {reason}");
            }
        }
    }
    if !common.wants_json() {
        let count: u64 = tallies.iter().map(|(_, tally)| tally.count).sum();
        eprintln!("{count} dead letters");
    }
    Ok(())
}

fn add(tallies: &mut BTreeMap<(String, String), Tally>, letter: &Letter) {
    let died = letter.died_at;
    let mut key = (letter.sink.clone(), cause(&letter.reason).to_owned());
    if tallies.len() >= REASONS && !tallies.contains_key(&key) {
        OTHERS.clone_into(&mut key.1);
    }
    let tally = tallies.entry(key).or_insert(Tally { count: 0, first: died, last: died });
    tally.count += 1;
    tally.first = tally.first.min(died);
    tally.last = tally.last.max(died);
}

/// Of a delivery that was given up after many attempts, the last failure: how many there were does not matter here.
fn cause(reason: &str) -> &str {
    match reason.split_once("; the last: ") {
        Some((given_up, last)) if given_up.starts_with("given up after") => last,
        _ => reason,
    }
}
