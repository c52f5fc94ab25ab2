//! Taking turns: pushes about the same customer go through the steps of a sink one after the other.
//!
//! Two calls of an unknown number would otherwise both look for the contact, both find none, and make two. The turns of a
//! process are kept in one place, by the sink's name: a reload has the old sink finish while the new one begins, and a replay
//! runs beside the live lane.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use cdr_core::SinkName;

type Key = (SinkName, String);

static TURNS: LazyLock<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>> = LazyLock::new(Mutex::default);

/// Whose turn it is keeps this; the next one's comes when it is dropped.
pub(crate) struct Turn {
    // Dropped first: whoever waits has it before the place is looked at.
    _guard: tokio::sync::OwnedMutexGuard<()>,
    _place: Place,
}

/// Waits for the turn of this key, in the order of asking.
pub(crate) async fn turn(sink: &SinkName, key: String) -> Turn {
    let place = Place::of((sink.clone(), key));
    Turn { _guard: Arc::clone(&place.turn).lock_owned().await, _place: place }
}

/// A place in a queue, also of who does not wait to the end; the last one to leave takes the queue away.
struct Place {
    key: Key,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Place {
    fn of(key: Key) -> Self {
        let turn = Arc::clone(turns().entry(key.clone()).or_default());
        Self { key, turn }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut turns = turns();
        // The table's own and this one; nobody gets another while the table is held.
        if Arc::strong_count(&self.turn) <= 2 {
            turns.remove(&self.key);
        }
    }
}

fn turns() -> MutexGuard<'static, HashMap<Key, Arc<tokio::sync::Mutex<()>>>> {
    // Nothing in here panics half-way.
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_of_one_key_follow_each_other_and_leave_nothing_behind() {
        let name = |name: &str| name.parse::<SinkName>().unwrap();
        let crm = name("turns-test");
        let first = turn(&crm, "+86138".to_owned()).await;
        drop(turn(&crm, "+86139".to_owned()).await);
        drop(turn(&name("turns-test-2"), "+86138".to_owned()).await);
        let second = tokio::spawn({
            let crm = crm.clone();
            async move { drop(turn(&crm, "+86138".to_owned()).await) }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        let impatient = tokio::time::timeout(std::time::Duration::ZERO, turn(&crm, "+86138".to_owned()));
        assert!(impatient.await.is_err());
        drop(first);
        second.await.unwrap();
        assert!(turns().keys().all(|(sink, _)| !sink.as_str().starts_with("turns-test")));
    }
}
