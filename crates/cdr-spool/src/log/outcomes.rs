//! What lanes did, as the log keeps it: one entry per lane and commit, neighbours with the same plain outcome as one run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::log::codec::{Put, Take};
use crate::{Open, Outcome, Position};

/// What one delivery became. [`Outcome`] is what the outside says; this is what is written, with what only the log knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Delivered(Option<String>),
    Passed,
    Discarded,
    /// A dead letter that a person wants tried again.
    Reopened,
    Dead(Dead),
    Retry(Open),
}

/// Why a delivery was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) reason: String,
    pub(crate) excerpt: String,
    pub(crate) attempts: u32,
    /// In the entry and not taken from the frame, because a dead letter that is carried keeps its time.
    pub(crate) died_at_ms: i64,
}

const DELIVERED: u8 = 0;
const PASSED: u8 = 1;
const DISCARDED: u8 = 2;
const REOPENED: u8 = 3;
const RECEIPT: u8 = 4;
const DEAD: u8 = 5;
const RETRY: u8 = 6;

impl Item {
    pub(crate) fn new(outcome: Outcome, now_ms: i64) -> Item {
        match outcome {
            Outcome::Delivered { receipt } => Item::Delivered(receipt),
            Outcome::Passed => Item::Passed,
            Outcome::Discarded => Item::Discarded,
            Outcome::Dead { reason, excerpt, attempts } => {
                Item::Dead(Dead { reason, excerpt, attempts, died_at_ms: now_ms })
            }
            Outcome::Retry { attempts, spent, due_ms, answer } => {
                Item::Retry(Open { attempts, spent, due_ms, answer })
            }
        }
    }

    /// As the outside knows it; none for a dead letter that was woken, which is no outcome.
    pub(crate) fn into_outcome(self) -> Option<Outcome> {
        Some(match self {
            Item::Delivered(receipt) => Outcome::Delivered { receipt },
            Item::Passed => Outcome::Passed,
            Item::Discarded => Outcome::Discarded,
            Item::Reopened => return None,
            Item::Dead(Dead { reason, excerpt, attempts, .. }) => Outcome::Dead { reason, excerpt, attempts },
            Item::Retry(Open { attempts, spent, due_ms, answer }) => {
                Outcome::Retry { attempts, spent, due_ms, answer }
            }
        })
    }

    fn tag(&self) -> u8 {
        match self {
            Item::Delivered(None) => DELIVERED,
            Item::Passed => PASSED,
            Item::Discarded => DISCARDED,
            Item::Reopened => REOPENED,
            Item::Delivered(Some(_)) => RECEIPT,
            Item::Dead(_) => DEAD,
            Item::Retry(_) => RETRY,
        }
    }
}

/// Items of one lane, the last word for each position.
pub(crate) type Items = BTreeMap<Position, Item>;

/// `count` neighbours from `first` on that became the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Position,
    pub(crate) count: u64,
    pub(crate) item: Item,
}

impl Run {
    pub(crate) fn positions(&self) -> impl Iterator<Item = Position> + use<> {
        (self.first.0..self.first.0.saturating_add(self.count)).map(Position)
    }
}

/// Writes the items as runs, each with its distance from the end of the run before.
pub(crate) fn encode(items: &Items, out: &mut Vec<u8>) {
    let mut after = 0;
    let mut rest = items.iter().peekable();
    while let Some((first, item)) = rest.next() {
        let tag = item.tag();
        let mut count = 1;
        while tag <= REOPENED && rest.next_if(|(p, i)| p.0 == first.0 + count && i.tag() == tag).is_some() {
            count += 1;
        }
        out.push(tag);
        out.put_varint(first.0 - after);
        after = first.0 + count;
        match item {
            Item::Delivered(None) | Item::Passed | Item::Discarded | Item::Reopened => out.put_varint(count),
            Item::Delivered(Some(receipt)) => out.put_bytes(receipt.as_bytes()),
            Item::Dead(dead) => encode_dead(dead, out),
            Item::Retry(open) => encode_open(open, out),
        }
    }
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(take: &mut Take) -> Option<Vec<Run>> {
    let mut runs = Vec::new();
    let mut after = 0u64;
    while !take.is_empty() {
        let tag = take.byte()?;
        let first = Position(after.checked_add(take.varint()?)?);
        let mut count = 1;
        let item = match tag {
            DELIVERED | PASSED | DISCARDED | REOPENED => {
                count = take.varint()?;
                match tag {
                    DELIVERED => Item::Delivered(None),
                    PASSED => Item::Passed,
                    DISCARDED => Item::Discarded,
                    _ => Item::Reopened,
                }
            }
            RECEIPT => Item::Delivered(Some(take.text()?.to_owned())),
            DEAD => Item::Dead(decode_dead(take)?),
            RETRY => Item::Retry(decode_open(take)?),
            _ => return None,
        };
        after = first.0.checked_add(count)?;
        runs.push(Run { first, count, item });
    }
    Some(runs)
}

fn encode_dead(dead: &Dead, out: &mut Vec<u8>) {
    out.put_varint(dead.attempts.into());
    out.put_signed(dead.died_at_ms);
    out.put_bytes(dead.reason.as_bytes());
    out.put_bytes(dead.excerpt.as_bytes());
}

fn decode_dead(take: &mut Take) -> Option<Dead> {
    Some(Dead {
        attempts: take.varint32()?,
        died_at_ms: take.signed()?,
        reason: take.text()?.to_owned(),
        excerpt: take.text()?.to_owned(),
    })
}

pub(crate) fn encode_open(open: &Open, out: &mut Vec<u8>) {
    out.put_varint(open.attempts.into());
    out.put_varint(open.spent.as_millis() as u64);
    out.put_signed(open.due_ms);
    out.put_bytes(open.answer.as_bytes());
}

pub(crate) fn decode_open(take: &mut Take) -> Option<Open> {
    Some(Open {
        attempts: take.varint32()?,
        spent: Duration::from_millis(take.varint()?),
        due_ms: take.signed()?,
        answer: take.text()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item() -> impl Strategy<Value = Item> {
        prop_oneof![
            4 => Just(Item::Delivered(None)),
            2 => Just(Item::Passed),
            1 => Just(Item::Discarded),
            1 => Just(Item::Reopened),
            1 => ".{0,9}".prop_map(|r| Item::Delivered(Some(r))),
            1 => (".{0,9}", ".{0,9}", any::<u32>(), any::<i64>())
                .prop_map(|(reason, excerpt, attempts, died_at_ms)| Item::Dead(Dead { reason, excerpt, attempts, died_at_ms })),
            1 => (any::<u32>(), 0..u64::MAX / 2, any::<i64>(), ".{0,9}").prop_map(|(attempts, spent, due_ms, answer)| {
                Item::Retry(Open { attempts, spent: Duration::from_millis(spent), due_ms, answer })
            }),
        ]
    }

    proptest! {
        #[test]
        fn runs_say_what_the_items_said(items in prop::collection::btree_map((1u64..60).prop_map(Position), item(), 0..40)) {
            let mut bytes = Vec::new();
            encode(&items, &mut bytes);
            let runs = decode(&mut Take(&bytes)).expect("what was encoded can be decoded");
            let said: Items = runs.iter().flat_map(|r| r.positions().map(|p| (p, r.item.clone()))).collect();
            prop_assert_eq!(said, items);
        }

        #[test]
        fn any_bytes_can_be_read_without_a_panic(bytes: Vec<u8>) {
            decode(&mut Take(&bytes));
        }
    }

    #[test]
    fn a_million_deliveries_in_order_cost_a_few_bytes() {
        let items: Items = (1..=1_000_000).map(|p| (Position(p), Item::Delivered(None))).collect();
        let mut bytes = Vec::new();
        encode(&items, &mut bytes);
        assert!(bytes.len() < 8, "{} bytes", bytes.len());
    }
}
