//! Pushes that wait until a person mends something: told once for each lane, and again while it lasts.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cdr_dispatch::lane::UnmendedNow;

/// The lanes of which that was told, and when.
#[derive(Default)]
pub(super) struct Mending(BTreeMap<String, Instant>);

/// A lane, and what of it waits; none when nothing does any more.
pub(super) type News = (String, Option<UnmendedNow>);

impl Mending {
    /// What is to be told now, given what waits in each lane. `repeat` is `alerts.repeat`.
    pub fn look(
        &mut self,
        unmended: &BTreeMap<String, UnmendedNow>,
        repeat: Option<Duration>,
        now: Instant,
    ) -> Vec<News> {
        let over = self.0.extract_if(.., |lane, _| !unmended.contains_key(lane));
        let mut news: Vec<News> = over.map(|(lane, _)| (lane, None)).collect();
        for (lane, waits) in unmended {
            let is_due = |&told_at: &Instant| {
                repeat.is_some_and(|repeat| now.saturating_duration_since(told_at) >= repeat)
            };
            if self.0.get(lane).is_none_or(is_due) {
                self.0.insert(lane.clone(), now);
                news.push((lane.clone(), Some(waits.clone())));
            }
        }
        news
    }
}

/// Subject and text of an alert about it.
pub(super) fn letter((lane, waits): &News) -> (String, String) {
    let Some(UnmendedNow { pushes, reason, .. }) = waits else {
        let text = "What waited was delivered, or is waited for no longer.";
        return (format!("nothing of {lane} waits for a person any more"), text.to_owned());
    };
    let text = format!(
        "{pushes} push(es) wait in {lane} until a person mends this: {reason}\n\n\
         The others go on. These are kept, looked at again within a minute, and never given up; no time heals it.\n\n\
         Look:    cdr-gateway sink list"
    );
    (format!("pushes of {lane} wait for a person"), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn waiting(pushes: usize) -> BTreeMap<String, UnmendedNow> {
        let now =
            UnmendedNow { since: jiff::Timestamp::UNIX_EPOCH, pushes, reason: "set that key again".into() };
        BTreeMap::from([("archive".to_owned(), now)])
    }

    #[test]
    fn what_waits_for_a_person_is_told_once_again_after_repeat_and_when_it_is_over() {
        let (mut mending, began) = (Mending::default(), Instant::now());
        let mut told = |waiting: &BTreeMap<_, _>, after| mending.look(waiting, Some(HOUR), began + after);
        let first = told(&waiting(300), Duration::ZERO);
        let (subject, text) = letter(&first[0]);
        assert_eq!((first.len(), subject.as_str()), (1, "pushes of archive wait for a person"));
        assert!(text.contains("300 push(es)") && text.contains("set that key again"), "{text}");
        assert!(told(&waiting(301), HOUR / 2).is_empty());
        assert_eq!(told(&waiting(301), HOUR).len(), 1);
        let over = told(&BTreeMap::new(), HOUR);
        assert!(over.len() == 1 && over[0].1.is_none(), "{over:?}");
        assert!(told(&BTreeMap::new(), HOUR).is_empty());
    }

    #[test]
    fn without_repeat_it_is_told_once() {
        let (mut mending, began) = (Mending::default(), Instant::now());
        assert_eq!(mending.look(&waiting(1), None, began).len(), 1);
        assert!(mending.look(&waiting(1), None, began + 1000 * HOUR).is_empty());
    }
}
