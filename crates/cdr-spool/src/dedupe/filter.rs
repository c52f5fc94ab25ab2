//! What is kept in memory of a closed segment: whether it *may* hold a push, in 18 to 20 bits a push.

use xorf::{BinaryFuse16, Filter as _};

use super::Prints;

/// Never says no for what it was built of, and yes for one in 65,536 of everything else.
///
/// It holds one key for a push, of its UUID, which finds a reuse of the UUID as well; for one without UUID, of its whole key.
/// Pushes that share a UUID within the segment are a crowd, and told apart: it holds their whole keys too, and that they are
/// one. So a sender that gives every push the same UUID does not have the index read for each of them.
pub(crate) struct Filter(BinaryFuse16);

impl Filter {
    /// None if it cannot be built, which takes bad luck a thousand times over.
    pub(super) fn of(mut prints: Vec<Prints>) -> Option<Filter> {
        prints.retain(|prints| *prints != Prints::NONE);
        prints.sort_unstable();
        prints.dedup();
        let mut keys = Vec::with_capacity(prints.len());
        for same_uuid in prints.chunk_by(|a, b| a.uuid == b.uuid) {
            let first = same_uuid[0];
            let has_uuid = first.uuid != 0;
            let is_crowd = has_uuid && same_uuid.len() > 1;
            keys.extend(has_uuid.then(|| uuid(first)));
            keys.extend(is_crowd.then(|| crowd(first)));
            keys.extend(same_uuid.iter().filter(|_| is_crowd || !has_uuid).map(|prints| whole(*prints)));
        }
        // The same hash can come of two keys.
        keys.sort_unstable();
        keys.dedup();
        BinaryFuse16::try_from(&keys).ok().map(Filter)
    }

    /// Whether the segment may hold the same push, or, if that is not known yet, another one with its UUID.
    pub(super) fn may_hold(&self, prints: Prints, uuid_is_reused: bool) -> bool {
        let holds = |key: u64| self.0.contains(&key);
        match prints.uuid {
            0 => holds(whole(prints)),
            _ => holds(uuid(prints)) && !(uuid_is_reused && holds(crowd(prints)) && !holds(whole(prints))),
        }
    }
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
        let filter = Filter::of((0..40_000).map(|n| prints(n, n % 3 != 0)).collect()).unwrap();
        let strangers = (100_000..300_000).filter(|n| filter.may_hold(prints(*n, n % 2 == 0), false)).count();
        assert!(strangers < 20, "{strangers} of 200000 strangers are suspected");
        let bits = filter.0.fingerprints.len() * 16;
        assert!(bits < 40_000 * 20, "{bits} bits");
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
            let filter = Filter::of(held.iter().copied().map(prints).collect()).unwrap();
            for one in held {
                prop_assert!(filter.may_hold(prints(one), uuid_is_reused));
                let same_uuid = Prints { whole: 1000, ..prints(one) };
                prop_assert!(one.0 == 0 || filter.may_hold(same_uuid, false), "a reuse is missed");
            }
        }
    }
}
