//! Telling of refusals without filling the log: each reason once a minute for each network, with a count of
//! those that were not told.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Network,
    answer::{Rejection, Verdict},
};

const QUIET: Duration = Duration::from_secs(60);

/// A scanner with many addresses must not fill the memory either: beyond so many, all others share one entry
/// for each reason, or are not told.
const REMEMBERED: usize = 1024;

/// When each reason was last told, for each network; none for those beyond [`REMEMBERED`].
#[derive(Default)]
pub(crate) struct RefusalLog(Mutex<HashMap<(Verdict, Option<Network>), Told>>);

struct Told {
    at: Instant,
    untold: u64,
}

impl RefusalLog {
    /// Tells of a refusal, or counts it as untold.
    pub fn refused(&self, rejection: &Rejection, client: IpAddr) {
        let verdict = rejection.verdict();
        if let Some(untold) = self.is_due(verdict, client) {
            let text = rejection.logged();
            tracing::warn!(reason = verdict.name(), sender = %client, untold, "refused a request: {text}");
        }
    }

    /// Tells of what was not told and will not be soon; to be called now and then.
    pub fn tell_untold(&self) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(verdict, network), told| {
            let is_recent = told.at.elapsed() < QUIET;
            if !is_recent && told.untold > 0 {
                let network = network.map_or("many".to_owned(), |network| network.to_string());
                tracing::warn!(reason = verdict.name(), %network, untold = told.untold, "refused more requests");
            }
            is_recent
        });
    }

    /// How many were not told since the last one, when it is time to tell again.
    fn is_due(&self, verdict: Verdict, client: IpAddr) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = (verdict, Some(Network::around(client)));
        let is_remembered = told.len() < REMEMBERED || told.contains_key(&own);
        let key = if is_remembered { own } else { (verdict, None) };
        let now = Instant::now();
        let Some(last) = told.get_mut(&key) else {
            told.insert(key, Told { at: now, untold: 0 });
            return Some(0);
        };
        if now.duration_since(last.at) < QUIET {
            last.untold += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_told_once_a_minute_for_each_network_with_the_count_of_the_rest() {
        let log = RefusalLog::default();
        let due = |last: u8| log.is_due(Verdict::Path, [203, 0, 113, last].into());
        assert_eq!((due(1), due(2), due(3)), (Some(0), None, None));
        assert_eq!(log.is_due(Verdict::Method, [203, 0, 113, 1].into()), Some(0));
        assert_eq!(log.is_due(Verdict::Path, [198, 51, 100, 1].into()), Some(0));
        tokio::time::advance(QUIET).await;
        assert_eq!((due(1), due(1)), (Some(2), None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_forgotten() {
        let log = RefusalLog::default();
        log.is_due(Verdict::Path, [203, 0, 113, 1].into());
        tokio::time::advance(QUIET).await;
        log.tell_untold();
        assert!(log.0.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_scanner_with_many_addresses_does_not_fill_the_memory() {
        let log = RefusalLog::default();
        let told = (0..=255).flat_map(|a| (0..20).map(move |b| [198, a, b, 1]));
        let told = told.filter(|&address| log.is_due(Verdict::Path, address.into()).is_some()).count();
        assert_eq!(told, REMEMBERED + 1);
        assert!(log.0.lock().unwrap().len() <= REMEMBERED + 1);
    }
}
