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
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    party: Party,
}

impl Crowd {
    /// A place, when this client has fewer than `limit`.
    pub fn place(self: &Arc<Self>, client: IpAddr, limit: usize) -> Option<Place> {
        let party = Party::of(client);
        let mut here = self.here();
        let taken = here.entry(party).or_default();
        if *taken >= limit {
            return None;
        }
        *taken += 1;
        Some(Place { crowd: Arc::clone(self), party })
    }

    /// Counts stay right when somebody panics beside them.
    fn here(&self) -> MutexGuard<'_, HashMap<Party, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
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
        let place = |last: u8| crowd.place([203, 0, 113, last].into(), 2);
        let (first, second) = (place(1), place(1));
        assert!(first.is_some() && second.is_some() && place(1).is_none());
        let other = place(2);
        assert!(other.is_some());
        drop(first);
        let again = place(1);
        assert!(again.is_some() && place(1).is_none());
        drop((second, other, again));
        assert!(crowd.here().is_empty());
    }
}
