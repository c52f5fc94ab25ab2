//! The prints of one segment with their positions: exact, for the segment that is being written and until the filter of a
//! closed one is built. 22 to 43 bytes a push, a megabyte for a full segment of CDRs.

use super::Prints;
use crate::Position;

const SMALLEST: usize = 1024;
const EMPTY: Slot = Slot { prints: Prints::NONE, position: Position(0) };

/// A table with open addressing and linear probing. A push lies under the hash of its UUID, which finds a reuse of the UUID as
/// well; one without UUID, or whose UUID is in the table already, lies under the hash of its whole key. A sender that gives
/// every push the same UUID so makes no chain of equal hashes.
pub(super) struct Recent {
    slots: Vec<Slot>,
    used: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    prints: Prints,
    position: Position,
}

impl Recent {
    pub(super) fn new() -> Recent {
        Recent { slots: vec![EMPTY; SMALLEST], used: 0 }
    }

    /// Positions that may hold a push with the same key, and one, if there is any, that may have the same UUID.
    pub(super) fn suspects(&self, prints: Prints) -> Vec<Position> {
        let same_uuid = self.under(prints.uuid).find(|slot| slot.prints.has_uuid_of(prints));
        let same_key = self.under(prints.whole).filter(|slot| slot.prints == prints);
        same_uuid.into_iter().chain(same_key).map(|slot| slot.position).collect()
    }

    pub(super) fn insert(&mut self, prints: Prints, position: Position) {
        if prints == Prints::NONE {
            return;
        }
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.rehash(|_| true);
        }
        self.place(Slot { prints, position });
    }

    /// Forgets positions from `from` on.
    ///
    /// Makes the table anew: rare, and linear probing without it would need tombstones for this case alone.
    pub(super) fn forget_from(&mut self, from: Position) {
        self.rehash(|position| position < from);
    }

    /// What it holds from `from` on.
    pub(super) fn since(&self, from: Position) -> Recent {
        let mut since = Recent::new();
        let slots = self.slots.iter().filter(|slot| **slot != EMPTY && slot.position >= from);
        slots.for_each(|slot| since.insert(slot.prints, slot.position));
        since
    }

    /// The slots from the one on where a print is at home, up to the next that is free.
    fn under(&self, print: u32) -> impl Iterator<Item = &Slot> {
        let (behind, from) = self.slots.split_at(self.home(print));
        let has_any = print != 0;
        from.iter().chain(behind).take_while(move |slot| has_any && **slot != EMPTY)
    }

    fn home(&self, print: u32) -> usize {
        // The upper bits, so that a table of any size uses bits that differ.
        (u64::from(print) << 32 >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    fn place(&mut self, slot: Slot) {
        let Prints { uuid, whole } = slot.prints;
        let is_taken = self.under(uuid).any(|other| other.prints.has_uuid_of(slot.prints));
        let mask = self.slots.len() - 1;
        let mut at = self.home(if uuid == 0 || is_taken { whole } else { uuid });
        while self.slots[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
        self.used += 1;
    }

    fn rehash(&mut self, keep: impl Fn(Position) -> bool) {
        let old = std::mem::take(&mut self.slots);
        let kept = || old.iter().filter(|slot| **slot != EMPTY && keep(slot.position));
        // Between a third and two thirds full.
        let size = (kept().count() * 3 / 2 + 1).next_power_of_two().max(SMALLEST);
        self.slots = vec![EMPTY; size];
        self.used = 0;
        kept().for_each(|slot| self.place(*slot));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::prints;
    use super::*;

    #[test]
    fn every_push_is_suspected_again_and_few_strangers_are() {
        let mut recent = Recent::new();
        for n in 1..=50_000 {
            recent.insert(prints(n, n % 3 != 0), Position(n));
        }
        for n in 1..=50_000 {
            assert!(recent.suspects(prints(n, n % 3 != 0)).contains(&Position(n)), "push {n} is not found");
        }
        let strangers = (60_000..70_000).filter(|n| !recent.suspects(prints(*n, true)).is_empty()).count();
        assert!(strangers < 20, "{strangers} of 10000 strangers are suspected");
        let bytes = recent.slots.len() * size_of::<Slot>();
        assert!(bytes <= 50_000 * 43, "{bytes} bytes");
    }

    #[test]
    fn one_uuid_for_all_makes_no_chain() {
        let mut recent = Recent::new();
        let same = |n: u64| {
            let mut sha256 = [0; 32];
            sha256[..8].copy_from_slice(&n.to_le_bytes());
            Prints::of("cdr", Some("always"), &sha256)
        };
        for n in 1..=10_000 {
            recent.insert(same(n), Position(n));
        }
        for n in 1..=10_000 {
            let suspects = recent.suspects(same(n));
            assert!(suspects.contains(&Position(n)) && suspects.len() < 4, "{suspects:?} for {n}");
        }
    }

    #[test]
    fn a_failed_commit_is_forgotten_and_the_rest_is_not() {
        let mut recent = Recent::new();
        (1..=100).for_each(|n| recent.insert(prints(n, true), Position(n)));
        recent.forget_from(Position(51));
        assert!((1..=50).all(|n| recent.suspects(prints(n, true)) == [Position(n)]));
        assert!((51..=100).all(|n| recent.suspects(prints(n, true)).is_empty()));
    }
}
