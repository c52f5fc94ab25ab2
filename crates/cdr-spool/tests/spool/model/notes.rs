//! What a driver noted on a lane: what must be there, and what may be, after a crash or after damage.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cdr_spool::{LaneState, Memo, Position};

type Memos = BTreeMap<String, Bytes>;

/// What is noted at once.
#[derive(Clone, Copy, Debug)]
pub enum Noting {
    /// So many notes under keys from the first on, new ones or others in the place of what was there.
    Write { first: u8, many: u8 },
    /// So many of those that are there, from the rank on, are forgotten.
    Forget { rank: u8, many: u8 },
    /// As many as a lane may have, and one more.
    Fill,
    /// The last ones are forgotten and as many others noted: a lane that is full has room for them.
    Replace { many: u8 },
    /// A key or a note that is as long as it may be, or longer by one.
    Large { is_key: bool, is_too_large: bool },
}

impl Noting {
    /// The memos, on a lane that has these; no text is used twice. All are short, so that a full lane and what comes behind it
    /// fit into one segment.
    fn memos(self, there: &Memos, text: &mut impl FnMut() -> String) -> Vec<Memo> {
        let key = |n: usize| format!("k{n:03}");
        let mut write = |key: String| Memo { key, bytes: text().into() };
        let forget = |key: &String| Memo { key: key.clone(), bytes: Bytes::new() };
        match self {
            Noting::Write { first, many } => {
                (0..usize::from(many)).map(|n| write(key(usize::from(first) + n))).collect()
            }
            Noting::Forget { rank, many } => {
                there.keys().skip(rank.into()).take(many.into()).map(forget).collect()
            }
            Noting::Fill => (0..=Memo::MOST).map(|n| write(key(n))).collect(),
            Noting::Replace { many } => {
                let last = there.keys().rev().take(many.into()).map(forget);
                // They come first in the order of keys, in which a frame has them.
                let another = |n: u32| format!("a{n:03}");
                let others = (0..).map(another).filter(|key| !there.contains_key(key)).take(many.into());
                last.chain(others.map(write)).collect()
            }
            Noting::Large { is_key, is_too_large } => {
                let more = usize::from(is_too_large);
                let mut memo = write(key(usize::from(is_key)));
                match is_key {
                    true => memo.key = format!("{:<1$}", memo.key, Memo::KEY + more),
                    false => {
                        let text = String::from_utf8_lossy(&memo.bytes).into_owned();
                        memo.bytes = format!("{text:<0$}", Memo::BYTES + more).into();
                    }
                }
                vec![memo]
            }
        }
    }
}

/// What a lane has when these came, one after the other.
fn with(mut memos: Memos, more: &[Memo]) -> Memos {
    for Memo { key, bytes } in more.iter().cloned() {
        let has_room = memos.len() < Memo::MOST || memos.contains_key(&key);
        if bytes.is_empty() {
            memos.remove(&key);
        } else if key.len() <= Memo::KEY && bytes.len() <= Memo::BYTES && has_room {
            memos.insert(key, bytes);
        }
    }
    memos
}

/// The notes of one lane of the spool.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// What somebody was told to be durable.
    sure: Memos,
    /// What came since, in order. A crash may leave the first few of it, each with its outcomes, and nothing of the others.
    unsure: Vec<Noted>,
    /// Everything that was ever noted, by key.
    ever: BTreeMap<String, BTreeSet<Bytes>>,
    /// Keys of which damaged frames said something: an older note may come back, or none.
    doubted: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Noted {
    /// What the lane has with it.
    after: Memos,
    /// What it closes.
    closed: Vec<Position>,
}

/// Key, what is expected and what is there instead.
fn differences(expected: &Memos, found: &Memos) -> String {
    let keys: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let told = |key: &String| format!("{key} is {:?} and not {:?}", found.get(key), expected.get(key));
    let differ = |key: &&String| expected.get(*key) != found.get(*key);
    keys.into_iter().filter(differ).map(told).collect::<Vec<_>>().join(", ")
}

impl Notes {
    fn newest(&self) -> &Memos {
        self.unsure.last().map_or(&self.sure, |noted| &noted.after)
    }

    /// Takes in what is about to be recorded with outcomes that close these positions.
    pub fn add(
        &mut self,
        noting: Noting,
        closed: Vec<Position>,
        text: &mut impl FnMut() -> String,
    ) -> Vec<Memo> {
        let memos = noting.memos(self.newest(), text);
        for Memo { key, bytes } in &memos {
            self.ever.entry(key.clone()).or_default().insert(bytes.clone());
        }
        self.unsure.push(Noted { after: with(self.newest().clone(), &memos), closed });
        memos
    }

    /// Everything that was recorded is durable.
    pub fn settle(&mut self) {
        self.sure = self.newest().clone();
        self.unsure.clear();
    }

    /// Damaged frames said something of these keys.
    pub fn doubt(&mut self, keys: &BTreeSet<String>) {
        self.doubted.extend(keys.iter().cloned());
    }

    /// What the lane may have: what is sure, then with each of what came since.
    fn possible(&self) -> impl Iterator<Item = &Memos> {
        std::iter::once(&self.sure).chain(self.unsure.iter().map(|noted| &noted.after))
    }

    fn is_like(&self, expected: &Memos, found: &Memos) -> bool {
        let keys: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        keys.into_iter().all(|key| match (expected.get(key), found.get(key)) {
            (expected, found) if expected == found => true,
            (_, None) => self.doubted.contains(key),
            (_, Some(found)) => {
                self.doubted.contains(key) && self.ever.get(key).is_some_and(|ever| ever.contains(found))
            }
        })
    }

    /// Whether a lane that works may say this.
    pub fn check(&self, name: &str, found: &Memos) {
        let is_known = self.possible().any(|memos| self.is_like(memos, found));
        assert!(is_known, "{name}: instead of the newest notes: {:?}", differences(self.newest(), found));
        // What was forgotten may be there again.
        let most = Memo::MOST + self.doubted.len();
        assert!(found.len() <= most, "{name} has {} memos", found.len());
        let is_small = |(key, bytes): (&String, &Bytes)| key.len() <= Memo::KEY && bytes.len() <= Memo::BYTES;
        assert!(found.iter().all(is_small), "{name}: {found:?}");
    }

    /// What a start found counts from now on: notes and outcomes that came together are both there, or neither.
    pub fn learn(&mut self, name: &str, state: &LaneState, is_lost: impl Fn(&Position) -> bool) {
        self.check(name, &state.memos);
        let is_closed = |p: &Position| *p < state.next && !state.open.contains_key(p);
        let agree = |so_many: usize| {
            let as_recorded = |(nth, noted): (usize, &Noted)| {
                let is_there = nth < so_many;
                noted.closed.iter().filter(|p| !is_lost(p)).all(|p| is_closed(p) == is_there)
            };
            self.unsure.iter().enumerate().all(as_recorded)
        };
        let fits = self
            .possible()
            .enumerate()
            .any(|(so_many, memos)| self.is_like(memos, &state.memos) && agree(so_many));
        let apart = || differences(self.newest(), &state.memos);
        assert!(fits, "{name}: notes and outcomes that came together are apart: {:?}", apart());
        self.sure = state.memos.clone();
        self.unsure.clear();
    }
}
