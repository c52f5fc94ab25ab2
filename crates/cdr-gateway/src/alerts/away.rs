//! Sinks that are away: which of them to tell of, and when that is over.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cdr_core::SinkName;

/// A sink that is back sooner was a hiccup; nobody is woken for it.
const PAUSED_FOR: Duration = Duration::from_secs(60);

/// The word that a lane pauses comes before its status shows it; so long the word counts alone.
const WORD_COUNTS: Duration = Duration::from_secs(2);

/// The sinks that are away.
#[derive(Default)]
pub(super) struct Absences(BTreeMap<SinkName, Away>);

struct Away {
    since: Instant,
    reason: String,
    told_at: Option<Instant>,
}

/// What is worth telling of a sink.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is away, or still away.
    Away {
        /// Why, in the words of its lane.
        reason: String,
    },
    /// It is back, and its absence was told.
    Back {
        /// For how long it was away.
        after: Duration,
    },
    /// A reload took it out of the configuration, and its absence was told.
    Removed,
}

impl Absences {
    /// A lane said that it pauses.
    pub fn paused(&mut self, sink: SinkName, reason: String, now: Instant) {
        self.0.entry(sink).or_insert(Away { since: now, reason, told_at: None });
    }

    /// A lane said that it runs again.
    pub fn resumed(&mut self, sink: &SinkName, now: Instant) -> Option<News> {
        let away = self.0.remove(sink)?;
        away.told_at.map(|_| News::Back { after: now.duration_since(away.since) })
    }

    /// What is to be told now. `lanes` are those there are, and whether each is paused: a lane that a reload ended
    /// or repaired says no word of its own. `repeat` is `alerts.repeat`.
    pub fn look(
        &mut self,
        lanes: &BTreeMap<SinkName, bool>,
        repeat: Option<Duration>,
        now: Instant,
    ) -> Vec<(SinkName, News)> {
        let mut news = self.over(lanes, now);
        let is_due = |away: &Away| match away.told_at {
            None => now.duration_since(away.since) >= PAUSED_FOR,
            Some(told_at) => repeat.is_some_and(|repeat| now.duration_since(told_at) >= repeat),
        };
        for (sink, away) in self.0.iter_mut().filter(|(_, away)| is_due(away)) {
            away.told_at = Some(now);
            news.push((sink.clone(), News::Away { reason: away.reason.clone() }));
        }
        news
    }

    /// Forgets the sinks that are gone or not paused, and gives those whose absence was told.
    fn over(&mut self, lanes: &BTreeMap<SinkName, bool>, now: Instant) -> Vec<(SinkName, News)> {
        let is_over = |sink: &SinkName, away: &mut Away| {
            lanes.get(sink) != Some(&true) && now.duration_since(away.since) >= WORD_COUNTS
        };
        let over = self.0.extract_if(.., is_over).filter(|(_, away)| away.told_at.is_some());
        let news = |(sink, away): (SinkName, Away)| match lanes.contains_key(&sink) {
            true => (sink, News::Back { after: now.duration_since(away.since) }),
            false => (sink, News::Removed),
        };
        over.map(news).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crm() -> SinkName {
        "crm".parse().unwrap()
    }

    /// The sinks as the dispatcher shows them: one of them, paused or not, or none.
    fn lanes(paused: Option<bool>) -> BTreeMap<SinkName, bool> {
        paused.map(|paused| (crm(), paused)).into_iter().collect()
    }

    /// Absences of which `crm` is one, and when it began.
    fn away() -> (Absences, Instant) {
        let (mut absences, start) = (Absences::default(), Instant::now());
        absences.paused(crm(), "nobody listens".to_owned(), start);
        (absences, start)
    }

    const MINUTE: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_absence_is_told_after_a_minute_once_and_again_as_alerts_repeat_says() {
        let (mut absences, start) = away();
        let told = vec![(crm(), News::Away { reason: "nobody listens".to_owned() })];
        let mut look = |after, repeat| absences.look(&lanes(Some(true)), repeat, start + after);
        assert_eq!(look(MINUTE - SECOND, None), []);
        assert_eq!(look(MINUTE, None), told);
        assert_eq!(look(60 * MINUTE, None), []);
        assert_eq!(look(60 * MINUTE, Some(60 * MINUTE)), []);
        assert_eq!(look(61 * MINUTE, Some(60 * MINUTE)), told);
    }

    #[test]
    fn a_hiccup_is_not_told_and_neither_is_its_end() {
        let (mut absences, start) = away();
        assert_eq!(absences.resumed(&crm(), start + SECOND), None);
        assert_eq!(absences.look(&lanes(Some(false)), None, start + 2 * MINUTE), []);
    }

    #[test]
    fn a_sink_that_a_reload_takes_away_is_not_away_any_more() {
        let (mut absences, start) = away();
        assert_eq!(absences.look(&lanes(None), None, start + 3 * SECOND), []);
        assert_eq!(absences.look(&lanes(None), Some(MINUTE), start + 2 * MINUTE), []);

        let (mut absences, start) = away();
        absences.look(&lanes(Some(true)), None, start + MINUTE);
        let removed = absences.look(&lanes(None), Some(MINUTE), start + 3 * MINUTE);
        assert_eq!(removed, [(crm(), News::Removed)]);
        assert_eq!(absences.look(&lanes(None), Some(MINUTE), start + 9 * MINUTE), []);
    }

    #[test]
    fn a_sink_that_a_reload_repaired_is_back_without_a_word_of_its_lane() {
        let (mut absences, start) = away();
        absences.look(&lanes(Some(true)), None, start + MINUTE);
        let back = absences.look(&lanes(Some(false)), None, start + 2 * MINUTE);
        assert_eq!(back, [(crm(), News::Back { after: 2 * MINUTE })]);
        assert_eq!(absences.resumed(&crm(), start + 2 * MINUTE), None);
    }

    #[test]
    fn the_word_of_a_lane_counts_before_its_status_shows_it() {
        let (mut absences, start) = away();
        absences.look(&lanes(Some(false)), None, start + SECOND);
        let told = absences.look(&lanes(Some(true)), None, start + MINUTE);
        assert_eq!(told.len(), 1, "{told:?}");
    }
}
