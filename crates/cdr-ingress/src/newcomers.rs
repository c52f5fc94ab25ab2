//! Who passes only because of `allow: { mode: log }`, so that the list can be written from what came: TCCC publishes no
//! list of its addresses.
//!
//! A sender belongs on the list when it brought a push, for then it knew the path and the proof. Who only knocked is
//! noted too, apart, and gives way when there are too many: a scanner must not get onto the list, nor push anybody off it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::Network;

/// So many are noted; TCCC has some dozens.
const NOTED: usize = 1024;

/// The list is told so often at most, and when the gateway stops.
const TELL: Duration = Duration::from_secs(3600);

/// Somebody whom `mode: enforce` would refuse.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Newcomer {
    /// Its address; of an IPv6 address the /64, within which a machine changes its own.
    pub network: Network,
    /// Requests that `allow` let pass.
    pub requests: u64,
    /// Pushes of these that were kept, repeats included.
    pub pushes: u64,
    /// When the last request came.
    pub last: Timestamp,
}

/// All newcomers since the start.
#[derive(Default)]
pub(crate) struct Newcomers(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    newcomers: HashMap<Network, Newcomer>,
    /// Somebody brought a first push since the list was told.
    has_news: bool,
    told_at: Option<Instant>,
}

impl Newcomers {
    /// Notes that somebody passed.
    pub fn passed(&self, client: IpAddr) {
        self.note(client, |newcomer| newcomer.requests += 1);
    }

    /// Notes that a push of somebody who passed is kept; the first one is told.
    pub fn brought(&self, client: IpAddr) {
        self.note(client, |newcomer| newcomer.pushes += 1);
    }

    /// Those noted, in the order of their addresses.
    pub fn list(&self) -> Vec<Newcomer> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = noted.newcomers.values().cloned().collect();
        list.sort_unstable_by_key(|newcomer| newcomer.network);
        list
    }

    /// True when the list has changed and was not told for an hour, or is told for the last time.
    pub fn is_to_be_told(&self, is_last: bool) -> bool {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = is_last || noted.told_at.is_none_or(|at| at.elapsed() >= TELL);
        if !noted.has_news || !is_time {
            return false;
        }
        noted.has_news = false;
        noted.told_at = Some(Instant::now());
        true
    }

    fn note(&self, client: IpAddr, count: impl FnOnce(&mut Newcomer)) {
        let network = Network::of(client);
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.newcomers.len() >= NOTED && !noted.newcomers.contains_key(&network) {
            // Nobody who brought a push gives way: such a list is full.
            let Some(oldest) = noted.oldest_who_only_knocked() else { return };
            noted.newcomers.remove(&oldest);
        }
        let now = Timestamp::now();
        let unknown = || Newcomer { network, requests: 0, pushes: 0, last: now };
        let newcomer = noted.newcomers.entry(network).or_insert_with(unknown);
        let before = newcomer.pushes;
        count(newcomer);
        newcomer.last = now;
        if before == 0 && newcomer.pushes == 1 {
            noted.has_news = true;
            tracing::info!(%network, sender = %client, "a sender that ingress.allow.networks does not hold brought its first push; mode: enforce would refuse it");
        }
    }
}

impl Noted {
    fn oldest_who_only_knocked(&self) -> Option<Network> {
        let knocked = self.newcomers.values().filter(|newcomer| newcomer.pushes == 0);
        knocked.min_by_key(|newcomer| newcomer.last).map(|newcomer| newcomer.network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u16) -> IpAddr {
        let [a, b] = number.to_be_bytes();
        [198, 51, a, b].into()
    }

    #[test]
    fn each_sender_is_counted_and_the_list_is_in_order() {
        let newcomers = Newcomers::default();
        for client in ["203.0.113.9", "2001:db8::7", "203.0.113.9", "2001:db8::8", "::ffff:198.51.100.7"] {
            newcomers.passed(client.parse().unwrap());
        }
        newcomers.brought("203.0.113.9".parse().unwrap());
        let list = newcomers.list();
        let told: Vec<_> = list.iter().map(|n| (n.network.to_string(), n.requests, n.pushes)).collect();
        let expected = [("198.51.100.7/32", 1, 0), ("203.0.113.9/32", 2, 1), ("2001:db8::/64", 2, 0)];
        assert_eq!(told, expected.map(|(network, requests, pushes)| (network.to_owned(), requests, pushes)));
    }

    #[test]
    fn a_scanner_with_many_addresses_fills_no_memory_and_pushes_nobody_off_the_list() {
        let newcomers = Newcomers::default();
        let ours = address(65_000);
        newcomers.passed(ours);
        newcomers.brought(ours);
        (0..5000).for_each(|number| newcomers.passed(address(number)));
        let list = newcomers.list();
        assert_eq!(list.len(), NOTED);
        assert!(list.iter().any(|newcomer| newcomer.pushes == 1 && newcomer.network.contains(ours)));
        // The latest are kept of those who only knocked.
        assert!(list.iter().any(|newcomer| newcomer.network.contains(address(4999))));
        // Nor does a sender of pushes with many addresses.
        (0..5000).for_each(|number| newcomers.brought(address(number)));
        assert_eq!(newcomers.list().len(), NOTED);
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_is_told_when_it_grew_once_an_hour_and_at_the_end() {
        let newcomers = Newcomers::default();
        newcomers.passed(address(1));
        assert!(!newcomers.is_to_be_told(true), "who only knocked is no news");
        newcomers.brought(address(1));
        assert!(newcomers.is_to_be_told(false) && !newcomers.is_to_be_told(true));
        newcomers.brought(address(1));
        assert!(!newcomers.is_to_be_told(true), "a second push is no news");
        newcomers.brought(address(2));
        assert!(!newcomers.is_to_be_told(false));
        tokio::time::advance(TELL).await;
        assert!(newcomers.is_to_be_told(false));
        newcomers.brought(address(3));
        assert!(newcomers.is_to_be_told(true));
    }
}
