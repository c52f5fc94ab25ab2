//! How many requests a second: `limits.requests_per_second` and `limits.requests_per_second_per_client`. And how many TLS
//! handshakes of those of whom nothing is known.
//!
//! A client is counted before it proves anything, which is what slows down somebody who guesses passwords. All are
//! counted together only behind the proof: nobody unknown can use up what honest senders need. There is no
//! stricter limit for wrong proofs. It would have to refuse the right password too, or the guess that hits would
//! pass; and a sender whose password was just corrected would lose calls.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::Clock,
    nanos::Nanos,
    state::{
        InMemoryState, NotKeyed, StateStore,
        keyed::{HashMapStateStore, ShrinkableKeyedStateStore},
    },
};

use crate::{answer::Rejection, settings::Limits};

/// Clients that are counted one by one, about 1 MiB of them. Others pass: a limit of each says nothing against a
/// crowd, and an honest sender who comes late must not share a budget with it.
const CLIENTS: usize = 16 * 1024;

/// TLS handshakes a second of all clients of whom nothing is known, and so many at once after a rest. One takes up to 1 ms of a
/// core, most of it with an RSA key, so that all together take a fifth of one at most.
const HANDSHAKES: NonZeroU32 = NonZeroU32::new(200).unwrap();

/// Of these, those of one client: enough for a sender that opens a connection for each push, until its first one is kept.
const HANDSHAKES_PER_CLIENT: NonZeroU32 = NonZeroU32::new(50).unwrap();

/// What surely belongs to one party: an IPv4 address, or the /64 around an IPv6 address (RFC 6177 §2: no site
/// gets less).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Party(IpAddr);

impl Party {
    pub fn of(client: IpAddr) -> Self {
        match client.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                Self(Ipv6Addr::from_bits(network).into())
            }
            address => Self(address),
        }
    }
}

/// What was used of the limits since the settings came into force.
pub(crate) struct Rates {
    all: Option<Rate<OfAll>>,
    each: Option<Rate<OfEach>>,
    handshakes_of_all: Rate<OfAll>,
    handshakes_of_each: Rate<OfEach>,
}

type OfAll = RateLimiter<NotKeyed, InMemoryState, Monotonic>;
type OfEach = RateLimiter<Party, Clients, Monotonic>;

struct Rate<L> {
    limit: u32,
    limiter: L,
}

impl Rate<OfAll> {
    fn of_all(limit: NonZeroU32) -> Self {
        let limiter = RateLimiter::new(Quota::per_second(limit), InMemoryState::default(), Monotonic);
        Self { limit: limit.get(), limiter }
    }
}

impl Rate<OfEach> {
    fn of_each(limit: NonZeroU32) -> Self {
        let limiter = RateLimiter::new(Quota::per_second(limit), Clients::default(), Monotonic);
        Self { limit: limit.get(), limiter }
    }

    fn forget_the_rested(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

impl Rates {
    pub fn new(limits: &Limits) -> Self {
        Self {
            all: limits.requests_per_second.and_then(NonZeroU32::new).map(Rate::of_all),
            each: limits.requests_per_second_per_client.and_then(NonZeroU32::new).map(Rate::of_each),
            handshakes_of_all: Rate::of_all(HANDSHAKES),
            handshakes_of_each: Rate::of_each(HANDSHAKES_PER_CLIENT),
        }
    }

    /// Counts a request of this client.
    pub fn admit_client(&self, client: IpAddr, is_for_us: bool) -> Result<(), Rejection> {
        let Some(Rate { limit, limiter }) = &self.each else { return Ok(()) };
        let counted = limiter.check_key(&Party::of(client));
        counted.map_err(|until| Rejection::ClientRequests { limit: *limit, wait: wait(&until), is_for_us })
    }

    /// Counts a TLS handshake with this client, of whom nothing is known. Its own ones first: what it asks for in vain is
    /// taken from nobody else.
    pub fn admit_handshake(&self, client: IpAddr) -> Result<(), Rejection> {
        let (each, all) = (&self.handshakes_of_each, &self.handshakes_of_all);
        let is_admitted = each.limiter.check_key(&Party::of(client)).is_ok() && all.limiter.check().is_ok();
        match is_admitted {
            true => Ok(()),
            false => Err(Rejection::Handshakes { limit: all.limit, per_client: each.limit }),
        }
    }

    /// Counts a request of somebody who has proven who he is.
    pub fn admit(&self) -> Result<(), Rejection> {
        let Some(Rate { limit, limiter }) = &self.all else { return Ok(()) };
        limiter.check().map_err(|until| Rejection::Requests { limit: *limit, wait: wait(&until) })
    }

    /// Forgets clients that have their whole budget again; to be called now and then.
    pub fn forget_the_rested(&self) {
        self.each.iter().for_each(Rate::forget_the_rested);
        self.handshakes_of_each.forget_the_rested();
    }
}

fn wait(until: &NotUntil<Instant>) -> Duration {
    until.wait_time_from(Monotonic.now())
}

/// The clock that tests can stop.
#[derive(Clone)]
struct Monotonic;

impl Clock for Monotonic {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// governor's table, with an end.
#[derive(Default)]
struct Clients(HashMapStateStore<Party>);

impl Clients {
    fn has_room_for(&self, client: &Party) -> bool {
        let known = self.0.lock();
        known.len() < CLIENTS || known.contains_key(client)
    }
}

impl StateStore for Clients {
    type Key = Party;

    fn measure_and_replace<T, F, E>(&self, client: &Party, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        match self.has_room_for(client) {
            true => self.0.measure_and_replace(client, measure),
            false => measure(None).map(|(passed, _)| passed),
        }
    }
}

impl ShrinkableKeyedStateStore<Party> for Clients {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.retain_recent(drop_below);
    }

    fn shrink_to_fit(&self) {
        self.0.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(all: Option<u32>, each: Option<u32>) -> Rates {
        let limits =
            Limits { requests_per_second: all, requests_per_second_per_client: each, ..Limits::default() };
        Rates::new(&limits)
    }

    fn passed(rates: &Rates, client: &str) -> bool {
        rates.admit_client(client.parse().unwrap(), true).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_gets_its_second_at_once_and_then_the_pace() {
        let rates = rates(None, Some(4));
        let at_once = (0..10).filter(|_| passed(&rates, "203.0.113.7")).count();
        assert_eq!(at_once, 4);
        let fifth = rates.admit_client([203, 0, 113, 7].into(), true);
        let Err(Rejection::ClientRequests { limit: 4, wait, .. }) = fifth else { panic!("a fifth passes") };
        assert_eq!(wait, Duration::from_millis(250));
        tokio::time::advance(wait).await;
        assert!(passed(&rates, "203.0.113.7") && !passed(&rates, "203.0.113.7"));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_have_a_budget_each_and_a_home_network_has_one() {
        let rates = rates(None, Some(1));
        assert!(passed(&rates, "203.0.113.7") && passed(&rates, "203.0.113.8"));
        assert!(!passed(&rates, "::ffff:203.0.113.7"), "the same client in another notation");
        assert!(passed(&rates, "2001:db8:1:2::1") && passed(&rates, "2001:db8:1:3::1"));
        assert!(!passed(&rates, "2001:db8:1:2:ffff::2"));
    }

    #[tokio::test(start_paused = true)]
    async fn all_share_one_budget() {
        let rates = rates(Some(3), None);
        assert_eq!((0..10).filter(|_| rates.admit().is_ok()).count(), 3);
        assert!(passed(&rates, "203.0.113.7"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_neither_fills_the_memory_nor_shuts_out_who_comes_late() {
        let rates = rates(None, Some(1));
        for number in 0..2 * u32::try_from(CLIENTS).unwrap() {
            assert!(rates.admit_client(std::net::Ipv4Addr::from_bits(number).into(), true).is_ok());
        }
        let known = || rates.each.as_ref().unwrap().limiter.len();
        assert_eq!(known(), CLIENTS);
        assert!(!passed(&rates, "0.0.0.1"), "who is known stays so");
        tokio::time::advance(Duration::from_secs(2)).await;
        rates.forget_the_rested();
        assert_eq!(known(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_uses_up_no_more_than_its_own_handshakes_and_all_together_have_an_end() {
        let rates = rates(None, None);
        let shaken = |last: u8| {
            (0..1000).filter(|_| rates.admit_handshake([203, 0, 113, last].into()).is_ok()).count()
        };
        assert_eq!([1, 2, 3, 4, 5, 6].map(shaken), [50, 50, 50, 50, 0, 0]);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!([1, 7, 8].map(shaken), [5, 15, 0]);
        tokio::time::advance(Duration::from_secs(10)).await;
        rates.forget_the_rested();
        assert!(rates.handshakes_of_each.limiter.is_empty());
    }

    #[test]
    fn nothing_is_counted_without_a_limit() {
        let rates = rates(None, None);
        assert!((0..100_000).all(|_| rates.admit().is_ok() && passed(&rates, "203.0.113.7")));
    }
}
