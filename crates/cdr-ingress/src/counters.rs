//! What the door counts, for metrics and for `alerts`.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::answer::Verdict;

/// So many different unpublished values are told apart; a sender who invents more must not fill the memory.
const STATUSES: usize = 64;

/// Values beyond [`STATUSES`], and values that are not a word, are counted as this.
const OTHER_STATUSES: &str = "(other)";

/// What the door has counted since the start of the program; nothing is ever reset.
#[derive(Default)]
pub struct DoorCounters {
    verdicts: Verdicts,
    body_bytes: AtomicU64,
    odd_uuids: AtomicU64,
    open_connections: AtomicUsize,
    odd_fields: Mutex<BTreeMap<&'static str, u64>>,
    unpublished_statuses: Mutex<BTreeMap<String, u64>>,
}

/// One for each verdict, in their order.
struct Verdicts([AtomicU64; Verdict::ALL.len()]);

/// By hand: of arrays, only those of up to 32 have a default.
impl Default for Verdicts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Verdicts {
    fn of(&self, verdict: Verdict) -> &AtomicU64 {
        &self.0[verdict as usize]
    }
}

/// The counters at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DoorSnapshot {
    /// Requests by what became of them, every verdict once.
    pub verdicts: Vec<(Verdict, u64)>,
    /// Bytes of bodies of the pushes that were kept, repeats included.
    pub body_bytes: u64,
    /// Requests whose `X-TCCC-PUSH-UUID` was empty, too long, repeated or not visible ASCII, and did not count.
    pub odd_uuids: u64,
    /// Connections that are open now.
    pub open_connections: usize,
    /// Fields that came with a value of a wrong type, by their published name.
    pub odd_fields: BTreeMap<&'static str, u64>,
    /// Values of `EndStatusString` that are not published, sessions' and participants'; at most 64 of them,
    /// the others as `(other)`.
    pub unpublished_statuses: BTreeMap<String, u64>,
}

impl DoorSnapshot {
    /// How many requests got this verdict.
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.verdicts.iter().find(|(other, _)| *other == verdict).map_or(0, |(_, count)| *count)
    }
}

impl DoorCounters {
    /// The counters at this moment.
    pub fn snapshot(&self) -> DoorSnapshot {
        let verdict = |&verdict: &Verdict| (verdict, self.verdicts.of(verdict).load(Ordering::Relaxed));
        DoorSnapshot {
            verdicts: Verdict::ALL.iter().map(verdict).collect(),
            body_bytes: self.body_bytes.load(Ordering::Relaxed),
            odd_uuids: self.odd_uuids.load(Ordering::Relaxed),
            open_connections: self.open_connections(),
            odd_fields: locked(&self.odd_fields).clone(),
            unpublished_statuses: locked(&self.unpublished_statuses).clone(),
        }
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.open_connections.load(Ordering::Relaxed)
    }

    pub(crate) fn connection_opened(&self) {
        self.open_connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.open_connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, verdict: Verdict) {
        self.verdicts.of(verdict).fetch_add(1, Ordering::Relaxed);
    }

    /// True the first time.
    pub(crate) fn kept(&self, bytes: usize) -> bool {
        self.body_bytes.fetch_add(bytes as u64, Ordering::Relaxed) == 0
    }

    /// True the first time.
    pub(crate) fn odd_uuid(&self) -> bool {
        self.odd_uuids.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// True the first time that this field was odd.
    pub(crate) fn odd_field(&self, name: &'static str) -> bool {
        let mut fields = locked(&self.odd_fields);
        let count = fields.entry(name).or_default();
        *count += 1;
        *count == 1
    }

    /// The name it is counted by, the first time that this value came.
    pub(crate) fn unpublished_status<'a>(&self, value: &'a str) -> Option<&'a str> {
        let mut statuses = locked(&self.unpublished_statuses);
        let is_told_apart = statuses.contains_key(value) || statuses.len() < STATUSES;
        let name = if is_told_apart && is_word(value) { value } else { OTHER_STATUSES };
        let count = statuses.entry(name.to_owned()).or_default();
        *count += 1;
        (*count == 1).then_some(name)
    }
}

/// A status is a word. What is not must not become a label or a line in a log: it may be a phone number.
fn is_word(value: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    value.len() <= 64
        && digits < 6
        && value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value.bytes().all(is_part)
}

/// Counts stay right when somebody panics beside them.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_who_invents_statuses_does_not_fill_the_memory() {
        let counters = DoorCounters::default();
        for number in 0..200 {
            counters.unpublished_status(&format!("s{number}"));
        }
        let statuses = counters.snapshot().unpublished_statuses;
        assert_eq!(statuses.len(), STATUSES + 1);
        assert_eq!(statuses[OTHER_STATUSES], 200 - STATUSES as u64);
    }

    #[test]
    fn what_may_be_a_phone_number_is_no_label() {
        let counters = DoorCounters::default();
        for value in ["008613800138000", "x13800138000", "ok; +86", "", "电话"] {
            counters.unpublished_status(value);
        }
        assert_eq!(counters.snapshot().unpublished_statuses, BTreeMap::from([("(other)".to_owned(), 5)]));
    }

    #[test]
    fn each_value_is_news_once() {
        let counters = DoorCounters::default();
        assert_eq!(counters.unpublished_status("newOne"), Some("newOne"));
        assert_eq!(counters.unpublished_status("newOne"), None);
        assert!(counters.odd_field("Duration"));
        assert!(!counters.odd_field("Duration"));
    }

    #[test]
    fn every_verdict_has_its_own_counter_and_name() {
        let names: std::collections::HashSet<_> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
        assert_eq!(names.len(), Verdict::ALL.len());
        for (index, &verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(index, verdict as usize);
        }
    }
}
