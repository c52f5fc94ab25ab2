//! Who has brought pushes: what bounds strangers does not hold them up.
//!
//! A door without `allow` knows nobody by the settings. Whoever brought a push that was kept knew the path and the proof.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::rates::Party;

/// So many are remembered; of more the one that brought nothing for longest is forgotten. TCCC has some dozens.
const REMEMBERED: usize = 1024;

/// Those who brought a push since the start, and when the last one came.
#[derive(Default)]
pub(crate) struct Regulars(Mutex<HashMap<Party, Instant>>);

impl Regulars {
    /// Notes that a push of this client is kept.
    pub fn brought(&self, client: IpAddr) {
        let party = Party::of(client);
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED && !remembered.contains_key(&party) {
            let longest_ago = remembered.iter().min_by_key(|(_, last)| **last).map(|(party, _)| *party);
            longest_ago.and_then(|party| remembered.remove(&party));
        }
        remembered.insert(party, Instant::now());
    }

    /// Whether this client has brought a push.
    pub fn know(&self, client: IpAddr) -> bool {
        self.remembered().contains_key(&Party::of(client))
    }

    /// What is remembered stays right when somebody panics beside it.
    fn remembered(&self) -> MutexGuard<'_, HashMap<Party, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_brings_pushes_is_known_however_many_others_come_once() {
        let regulars = Regulars::default();
        let (tccc, once) = ([203, 0, 113, 7].into(), [203, 0, 113, 8].into());
        regulars.brought(once);
        for number in 0..2 * u32::try_from(REMEMBERED).unwrap() {
            regulars.brought(Ipv4Addr::from_bits(number).into());
            tokio::time::advance(Duration::from_millis(1)).await;
            regulars.brought(tccc);
        }
        assert!(regulars.know(tccc) && !regulars.know(once));
        assert!(!regulars.know([203, 0, 113, 9].into()));
        assert_eq!(regulars.remembered().len(), REMEMBERED);
    }
}
