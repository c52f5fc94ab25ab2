//! What is kept in memory of closed segments: whether they *may* hold a push, in 18 to 20 bits a push.

use xorf::{BinaryFuse16, Filter as _};

use super::Prints;

/// Never says no for what it was built of, and yes for one in 65,536 of everything else.
///
/// It holds one key for a push, of its UUID, which finds a reuse of the UUID as well; for one without UUID, of its whole key.
/// Pushes that share a UUID are a crowd, and told apart: it holds their whole keys too, and that they are one. So a sender
/// that gives every push the same UUID does not have the index read for each of them.
pub(super) struct Filter {
    /// A power of two of them; pushes that share a UUID are in the same one.
    shards: Vec<BinaryFuse16>,
}

impl Filter {
    /// None if it cannot be built, which takes bad luck a thousand times over.
    pub(super) fn of(prints: Vec<Prints>) -> Option<Filter> {
        Some(Filter { shards: vec![build(prints)?] })
    }

    /// Of several parts. Building takes 35 bytes a push, so there are as many shards as parts, built one after the other, and
    /// each part is read for each of them. None if a part cannot be read.
    pub(super) fn joined(parts: usize, read: impl Fn(usize) -> Option<Vec<Prints>>) -> Option<Filter> {
        let count = parts.next_power_of_two();
        let build = |shard| {
            let mut prints = Vec::new();
            for part in 0..parts {
                prints.extend(read(part)?.into_iter().filter(|prints| shard_of(*prints, count) == shard));
            }
            build(prints)
        };
        let shards: Option<Vec<BinaryFuse16>> = (0..count).map(build).collect();
        Some(Filter { shards: shards? })
    }

    /// Whether there may be the same push in it, or, if that is not known yet, another one with its UUID.
    pub(super) fn may_hold(&self, prints: Prints, uuid_is_reused: bool) -> bool {
        let shard = &self.shards[shard_of(prints, self.shards.len())];
        let holds = |key: u64| shard.contains(&key);
        match prints.uuid {
            0 => holds(whole(prints)),
            _ => holds(uuid(prints)) && !(uuid_is_reused && holds(crowd(prints)) && !holds(whole(prints))),
        }
    }
}

fn shard_of(prints: Prints, shards: usize) -> usize {
    let print = if prints.uuid == 0 { prints.whole } else { prints.uuid };
    print as usize & (shards - 1)
}

fn build(mut prints: Vec<Prints>) -> Option<BinaryFuse16> {
    prints.retain(|prints| *prints != Prints::NONE);
    prints.sort_unstable();
    prints.dedup();
    let mut keys: Vec<u64> = keys(&prints).collect();
    // The same hash can come of two keys.
    keys.sort_unstable();
    keys.dedup();
    BinaryFuse16::try_from(&keys).ok()
}

/// The keys of sorted prints.
fn keys(prints: &[Prints]) -> impl Iterator<Item = u64> {
    prints.chunk_by(|a, b| a.uuid == b.uuid).flat_map(|same_uuid| {
        let first = same_uuid[0];
        let has_uuid = first.uuid != 0;
        let is_crowd = has_uuid && same_uuid.len() > 1;
        let wholes = same_uuid.iter().filter(move |_| is_crowd || !has_uuid).map(|prints| whole(*prints));
        let shared = has_uuid.then(|| uuid(first)).into_iter().chain(is_crowd.then(|| crowd(first)));
        shared.chain(wholes)
    })
}

// The keys of a filter, of which none equals one of another kind.

fn uuid(prints: Prints) -> u64 {
    1 << 32 | u64::from(prints.uuid)
}

fn whole(prints: Prints) -> u64 {
    2 << 32 | u64::from(prints.whole)
}

/// More than one push has this UUID.
fn crowd(prints: Prints) -> u64 {
    3 << 32 | u64::from(prints.uuid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::prints;
    use super::*;

    #[test]
    fn strangers_are_seldom_suspected_and_a_push_costs_20_bits() {
        let all: Vec<Prints> = (0..88_000).map(|n| prints(n, n % 3 != 0)).collect();
        let parts: Vec<&[Prints]> = all.chunks(44_000).collect();
        let filter = Filter::joined(2, |part| Some(parts[part].to_vec())).unwrap();
        assert!((0..88_000).all(|n| filter.may_hold(prints(n, n % 3 != 0), false)));
        let strangers =
            (1_000_000..1_200_000).filter(|n| filter.may_hold(prints(*n, n % 2 == 0), false)).count();
        assert!(strangers < 20, "{strangers} of 200000 strangers are suspected");
        let bits: usize = filter.shards.iter().map(|shard| shard.fingerprints.len() * 16).sum();
        assert!(bits < 88_000 * 20, "{bits} bits");
    }

    #[test]
    fn of_one_uuid_for_all_only_the_same_push_is_suspected() {
        let same = |n: u32| Prints { uuid: 7, whole: n + 1 };
        let filter = Filter::of((0..10_000).map(same).collect()).unwrap();
        assert!((0..10_000).all(|n| filter.may_hold(same(n), true)));
        assert!((10_000..20_000).all(|n| filter.may_hold(same(n), false)), "the reuse is to be found");
        let strangers = (10_000..20_000).filter(|n| filter.may_hold(same(*n), true)).count();
        assert!(strangers < 5, "{strangers} of 10000 others are suspected");
    }

    proptest! {
        // Few different values, so that UUIDs and keys meet.
        #[test]
        fn what_is_in_it_is_always_suspected(
            held in prop::collection::vec((0..20u32, 1..40u32), 0..300),
            uuid_is_reused: bool,
        ) {
            let prints = |(uuid, whole): (u32, u32)| Prints { uuid, whole };
            let all: Vec<Prints> = held.iter().copied().map(prints).collect();
            let parts: Vec<&[Prints]> = all.chunks(60).collect();
            let joined = Filter::joined(parts.len(), |part| Some(parts[part].to_vec())).unwrap();
            for filter in [Filter::of(all.clone()).unwrap(), joined] {
                for one in &all {
                    prop_assert!(filter.may_hold(*one, uuid_is_reused));
                    let same_uuid = Prints { whole: 1000, ..*one };
                    prop_assert!(one.uuid == 0 || filter.may_hold(same_uuid, false), "a reuse is missed");
                }
            }
        }
    }
}
