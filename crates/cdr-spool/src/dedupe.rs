//! Which push came before: a table that says *maybe*, in 11 to 24 bytes a push.
//!
//! The table maps 32 bits of a hash to a position. Whoever asks reads the stored push and compares before it believes, so
//! a wrong guess (one in two thousand at 2 million pushes) costs one read and nothing else. A push lies under the hash of its
//! UUID, which finds a reuse of the UUID as well; one without UUID, or whose UUID is in the table already, lies under the hash
//! of its whole key. A sender that gives every push the same UUID so makes no chain of equal hashes.

use crate::{Key, Position};

/// The hashes under which a push may lie: of its UUID, and of its whole key. Written into index files: never change them
/// without changing the index's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prints {
    /// 0: no UUID.
    uuid: u32,
    /// 0: no push.
    whole: u32,
}

impl Prints {
    /// Of a position that holds no push.
    pub(crate) const NONE: Prints = Prints { uuid: 0, whole: 0 };

    pub(crate) fn of(action: &str, uuid: Option<&str>, sha256: &[u8; 32]) -> Prints {
        let mut whole = crc32fast::Hasher::new();
        whole.update(sha256);
        whole.update(action.as_bytes());
        whole.update(&[0, u8::from(uuid.is_some())]);
        whole.update(uuid.unwrap_or_default().as_bytes());
        Prints {
            uuid: uuid.map_or(0, |u| spread(crc32fast::hash(u.as_bytes()))),
            whole: spread(whole.finalize()),
        }
    }

    pub(crate) fn of_key(key: &Key) -> Prints {
        Prints::of(&key.action, key.uuid.as_deref(), &key.sha256)
    }

    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.uuid) << 32 | u64::from(self.whole)
    }

    pub(crate) fn from_bits(bits: u64) -> Prints {
        Prints { uuid: (bits >> 32) as u32, whole: bits as u32 }
    }
}

/// A CRC as a hash that is never 0 and whose upper bits differ for neighbours.
fn spread(crc: u32) -> u32 {
    crc.wrapping_mul(0x9E37_79B1).max(1)
}

/// The first bytes of a SHA-256, to look quarantined bodies up by.
pub(crate) fn short_digest(sha256: &[u8; 32]) -> u64 {
    sha256[..8].iter().fold(0, |digest, byte| digest << 8 | u64::from(*byte))
}

const SMALLEST: usize = 1024;
const EMPTY: u64 = 0;

/// The table: open addressing with linear probing; a slot holds a print and a position relative to `base`, plus one.
pub(crate) struct Dedupe {
    slots: Vec<u64>,
    used: usize,
    /// Positions before it are forgotten.
    base: u64,
}

impl Dedupe {
    pub(crate) fn new() -> Dedupe {
        Dedupe { slots: vec![EMPTY; SMALLEST], used: 0, base: 0 }
    }

    /// Positions that may hold a push with the same UUID or the same key.
    pub(crate) fn suspects(&self, prints: Prints) -> Vec<Position> {
        let mut found = Vec::new();
        if prints.uuid != 0 {
            found.extend(self.under(prints.uuid));
        }
        found.extend(self.under(prints.whole));
        found
    }

    /// Remembers a push; `floor` is the first position still of interest.
    pub(crate) fn insert(&mut self, prints: Prints, position: Position, floor: impl FnOnce() -> Position) {
        if prints == Prints::NONE || position.0 < self.base {
            return;
        }
        if (self.used + 1) * 4 > self.slots.len() * 3 || position.0 - self.base >= u64::from(u32::MAX) {
            self.rebuild(floor());
        }
        let Ok(relative) = u32::try_from(position.0.saturating_sub(self.base) + 1) else { return };
        let print = if prints.uuid != 0 && self.under(prints.uuid).next().is_none() {
            prints.uuid
        } else {
            prints.whole
        };
        self.place(u64::from(print) << 32 | u64::from(relative));
    }

    /// Forgets positions from `from` on that were inserted a moment ago: their commit failed.
    ///
    /// Rebuilds the table: rare, and linear probing without it would need tombstones for this case alone.
    pub(crate) fn forget_from(&mut self, from: Position) {
        let base = self.base;
        self.rehash(base, |position| position < from.0);
    }

    fn under(&self, print: u32) -> impl Iterator<Item = Position> {
        let mask = self.slots.len() - 1;
        let start = self.home(print);
        (0..self.slots.len())
            .map(move |step| self.slots[(start + step) & mask])
            .take_while(|slot| *slot != EMPTY)
            .filter(move |slot| (slot >> 32) as u32 == print)
            .map(|slot| Position(self.base + (slot & 0xffff_ffff) - 1))
    }

    fn home(&self, print: u32) -> usize {
        // The upper bits, so that a table of any size uses bits that differ.
        (u64::from(print) << 32 >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    fn place(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = self.home((slot >> 32) as u32);
        while self.slots[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
        self.used += 1;
    }

    fn rebuild(&mut self, floor: Position) {
        let base = floor.0.max(self.base);
        self.rehash(base, |position| position >= base);
    }

    fn rehash(&mut self, base: u64, keep: impl Fn(u64) -> bool) {
        let old_base = self.base;
        let old = std::mem::take(&mut self.slots);
        let kept = || {
            let filled = old.iter().filter(|slot| **slot != EMPTY);
            let known = filled.map(|slot| (slot >> 32, old_base + (slot & 0xffff_ffff) - 1));
            known.filter(|(_, position)| keep(*position))
        };
        // Between a third and two thirds full: at most 24 bytes a push.
        let size = (kept().count() * 3 / 2 + 1).next_power_of_two().max(SMALLEST);
        self.slots = vec![EMPTY; size];
        self.used = 0;
        self.base = base;
        for (print, position) in kept() {
            if let Ok(relative) = u32::try_from(position - base + 1) {
                self.place(print << 32 | u64::from(relative));
            }
        }
    }

    /// Bytes of the table.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.slots.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints(n: u64, with_uuid: bool) -> Prints {
        let mut sha256 = [0; 32];
        sha256[..8].copy_from_slice(&n.to_le_bytes());
        let uuid = format!("0000-{n}");
        Prints::of("cdr", with_uuid.then_some(uuid.as_str()), &sha256)
    }

    #[test]
    fn every_push_of_the_window_is_suspected_again() {
        let mut dedupe = Dedupe::new();
        for n in 1..=50_000 {
            dedupe.insert(prints(n, n % 3 != 0), Position(n), || Position(1));
        }
        for n in 1..=50_000 {
            assert!(dedupe.suspects(prints(n, n % 3 != 0)).contains(&Position(n)), "push {n} is not found");
        }
        let strangers = (60_000..70_000).filter(|n| !dedupe.suspects(prints(*n, true)).is_empty()).count();
        assert!(strangers < 20, "{strangers} of 10000 strangers are suspected");
        assert!(dedupe.bytes() <= 50_000 * 24, "{} bytes", dedupe.bytes());
    }

    #[test]
    fn one_uuid_for_all_makes_no_chain() {
        let mut dedupe = Dedupe::new();
        let same = |n: u64| {
            let mut sha256 = [0; 32];
            sha256[..8].copy_from_slice(&n.to_le_bytes());
            Prints::of("cdr", Some("always"), &sha256)
        };
        for n in 1..=10_000 {
            dedupe.insert(same(n), Position(n), || Position(1));
        }
        for n in 1..=10_000 {
            let suspects = dedupe.suspects(same(n));
            assert!(suspects.contains(&Position(n)) && suspects.len() < 4, "{suspects:?} for {n}");
        }
    }

    #[test]
    fn a_failed_commit_is_forgotten_and_the_rest_is_not() {
        let mut dedupe = Dedupe::new();
        for n in 1..=100 {
            dedupe.insert(prints(n, true), Position(n), || Position(1));
        }
        dedupe.forget_from(Position(51));
        assert!((1..=50).all(|n| dedupe.suspects(prints(n, true)) == [Position(n)]));
        assert!((51..=100).all(|n| dedupe.suspects(prints(n, true)).is_empty()));
    }

    #[test]
    fn what_left_the_window_makes_room() {
        let mut dedupe = Dedupe::new();
        for n in 1..=200_000u64 {
            dedupe.insert(prints(n, true), Position(n), || Position(n.saturating_sub(1000)));
        }
        assert!(dedupe.bytes() <= 64 * 1024, "{} bytes", dedupe.bytes());
        assert!((199_001..=200_000).all(|n| dedupe.suspects(prints(n, true)).contains(&Position(n))));
    }
}
