//! How many connections each client has open: `limits.connections_per_client`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::rates::Party;

/// The clients that are here, with how often; never more of them than connections.
#[derive(Default)]
pub(crate) struct Crowd(Mutex<HashMap<Party, usize>>);

/// A place of one client; given back when dropped.
pub(crate) struct Seat {
    crowd: Arc<Crowd>,
    party: Party,
}

impl Crowd {
    /// A place, when this client has fewer than `limit`.
    pub fn seat(self: &Arc<Self>, client: IpAddr, limit: usize) -> Option<Seat> {
        let party = Party::of(client);
        let mut here = self.here();
        let taken = here.entry(party).or_default();
        if *taken >= limit {
            return None;
        }
        *taken += 1;
        Some(Seat { crowd: Arc::clone(self), party })
    }

    /// Counts stay right when somebody panics beside them.
    fn here(&self) -> MutexGuard<'_, HashMap<Party, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut here = self.crowd.here();
        if let Some(taken) = here.get_mut(&self.party) {
            *taken -= 1;
            if *taken == 0 {
                here.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_places_and_leaves_nothing_behind() {
        let crowd = Arc::new(Crowd::default());
        let seat = |last: u8| crowd.seat([203, 0, 113, last].into(), 2);
        let (first, second) = (seat(1), seat(1));
        assert!(first.is_some() && second.is_some() && seat(1).is_none());
        let other = seat(2);
        assert!(other.is_some());
        drop(first);
        let again = seat(1);
        assert!(again.is_some() && seat(1).is_none());
        drop((second, other, again));
        assert!(crowd.here().is_empty());
    }
}
