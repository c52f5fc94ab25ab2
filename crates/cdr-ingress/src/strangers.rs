//! Who was refused and may have been the sender that the operator waits for: without a proof, with a wrong one, from a
//! network that is not allowed, or faster than the limits let in. Each such push is lost after three retries, so this is what alerts are made of.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{Network, Verdict};

/// So many are remembered for each reason and network; of more the one that was refused longest ago is forgotten.
const REMEMBERED: usize = 256;

/// Who was not refused for so long has given up, or was set right.
const QUIET: Duration = Duration::from_secs(600);

/// Who brings pushes that are kept, and was not refused for so long, was set right.
const SETTLED: Duration = Duration::from_secs(5);

/// A network whose requests were refused, for one reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stranger {
    /// The reason.
    pub verdict: Verdict,
    /// The /24 or /64 that they came from.
    pub network: Network,
    /// The address of the last one.
    pub sender: IpAddr,
    /// How many requests were refused since `since`.
    pub requests: u64,
    /// When the first of them came.
    pub since: Timestamp,
    /// When the last of them came.
    pub last: Timestamp,
    /// How long ago that is.
    pub quiet_for: Duration,
    /// Whether a push from there was kept since the last refusal.
    pub arrives: bool,
}

impl Stranger {
    /// Whether this is over: pushes arrive again, or nothing came for ten minutes.
    pub fn is_over(&self) -> bool {
        self.quiet_for >= QUIET || (self.arrives && self.quiet_for >= SETTLED)
    }
}

/// Those who were refused.
#[derive(Default)]
pub(crate) struct Strangers {
    remembered: Mutex<HashMap<(Verdict, Network), Refused>>,
    /// So that pushes that are kept cost nothing as long as nobody was refused.
    has_some: AtomicBool,
}

struct Refused {
    stranger: Stranger,
    at: Instant,
}

impl Refused {
    fn as_of_now(&self) -> Stranger {
        Stranger { quiet_for: self.at.elapsed(), ..self.stranger.clone() }
    }
}

impl Strangers {
    /// Remembers a refusal.
    pub fn refused(&self, verdict: Verdict, sender: IpAddr) {
        let network = Network::around(sender);
        let now = Timestamp::now();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (verdict, network);
        if remembered.len() >= REMEMBERED && !remembered.contains_key(&key) {
            let oldest = remembered.iter().min_by_key(|(_, refused)| refused.at).map(|(key, _)| *key);
            oldest.and_then(|oldest| remembered.remove(&oldest));
        }
        let before = remembered.get(&key).map(Refused::as_of_now).filter(|before| !before.is_over());
        let (requests, since) = before.map_or((0, now), |before| (before.requests, before.since));
        let (quiet_for, requests) = (Duration::ZERO, requests + 1);
        let stranger =
            Stranger { verdict, network, sender, requests, since, last: now, quiet_for, arrives: false };
        remembered.insert(key, Refused { stranger, at: Instant::now() });
        self.has_some.store(true, Ordering::Relaxed);
    }

    /// Notes that a push from there is kept.
    pub fn arrived(&self, sender: IpAddr) {
        if !self.has_some.load(Ordering::Relaxed) {
            return;
        }
        let network = Network::around(sender);
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let of_there = remembered.values_mut().filter(|refused| refused.stranger.network == network);
        of_there.for_each(|refused| refused.stranger.arrives = true);
    }

    /// Forgets those for whom it was over long ago; to be called now and then.
    pub fn forget(&self) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        // Twice as long as it takes to be over: whoever looks every second has seen that.
        remembered.retain(|_, refused| refused.at.elapsed() < 2 * QUIET);
        self.has_some.store(!remembered.is_empty(), Ordering::Relaxed);
    }

    /// Those who are remembered, in the order of their networks.
    pub fn list(&self) -> Vec<Stranger> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = remembered.values().map(Refused::as_of_now).collect();
        list.sort_unstable_by_key(|stranger| (stranger.network, stranger.verdict.name()));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    fn only(strangers: &Strangers) -> Stranger {
        let list = strangers.list();
        assert_eq!(list.len(), 1, "{list:?}");
        list.into_iter().next().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_add_up_until_pushes_arrive_again() {
        let strangers = Strangers::default();
        (0..3).for_each(|_| strangers.refused(Verdict::WrongProof, PROXY));
        let refused = only(&strangers);
        assert_eq!((refused.requests, refused.is_over()), (3, false));
        strangers.arrived([203, 0, 113, 8].into());
        assert!(only(&strangers).arrives && !only(&strangers).is_over(), "one more may be refused");
        tokio::time::advance(SETTLED).await;
        assert!(only(&strangers).is_over());
        strangers.refused(Verdict::WrongProof, PROXY);
        let again = only(&strangers);
        assert_eq!((again.requests, again.arrives, again.is_over()), (1, false, false));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_is_over_and_then_forgotten() {
        let strangers = Strangers::default();
        strangers.refused(Verdict::Network, PROXY);
        strangers.arrived([198, 51, 100, 1].into());
        tokio::time::advance(QUIET).await;
        let over = only(&strangers);
        assert!(over.is_over() && !over.arrives);
        strangers.forget();
        only(&strangers);
        tokio::time::advance(QUIET).await;
        strangers.forget();
        assert_eq!(strangers.list(), []);
        assert!(!strangers.has_some.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_scanner_with_many_addresses_does_not_fill_the_memory_nor_hide_who_comes_again() {
        let strangers = Strangers::default();
        for number in 0..1000_u16 {
            let [a, b] = number.to_be_bytes();
            strangers.refused(Verdict::NoProof, [198, a, b, 1].into());
            tokio::time::advance(Duration::from_millis(1)).await;
            if number % 100 == 0 {
                strangers.refused(Verdict::WrongProof, PROXY);
            }
        }
        let list = strangers.list();
        assert_eq!(list.len(), REMEMBERED);
        assert!(
            list.iter().any(|stranger| (stranger.verdict, stranger.requests) == (Verdict::WrongProof, 10))
        );
    }
}
