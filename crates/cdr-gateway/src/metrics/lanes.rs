//! What lanes owe and do, by sink. What renamed sinks left to one is owed like everything else; replays to it are told apart.

use std::fmt;

use cdr_core::SinkName;
use cdr_dispatch::{Dispatcher, Errand, ErrandNow, LaneSnapshot};
use jiff::Timestamp;

use super::{Page, Row, seconds_since};

/// The lanes at the moment of a scrape.
struct Lanes {
    of_sinks: Vec<(SinkName, LaneSnapshot)>,
    /// Replays, and what renamed sinks left, as far as it is under way.
    errands: Vec<ErrandNow>,
}

pub(super) fn tell(page: &mut Page, dispatcher: &Dispatcher) -> fmt::Result {
    let mut lanes = Lanes { of_sinks: dispatcher.lanes(), errands: dispatcher.errands() };
    lanes.errands.retain(ErrandNow::is_under_way);
    lanes.ages(page)?;
    lanes.owed(page, dispatcher.pushes().end().0)?;
    lanes.attempts(page)?;
    page.gauge(
        "lanes_parked",
        "Lanes that the spool knows and nobody drives; their pushes wait for a decision",
        vec![(vec![], dispatcher.parked().len() as f64)],
    )?;
    lanes.replays(page)
}

impl Lanes {
    fn ages(&self, page: &mut Page) -> fmt::Result {
        let now = Timestamp::now();
        let age = |received_at_ms: Option<i64>| received_at_ms.map_or(0.0, |ms| seconds_since(now, ms));
        page.gauge(
            "lane_oldest_undelivered_seconds",
            "Age of the oldest push that is still owed to this sink; 0 when none is. Replays do not count",
            self.rows(|sink, lane| age(self.oldest_ms(sink, lane))),
        )?;
        let oldest = self.of_sinks.iter().filter_map(|(sink, lane)| self.oldest_ms(sink, lane)).min();
        page.gauge(
            "watermark_timestamp_seconds",
            "All pushes that arrived before this time are delivered everywhere, but for parked lanes and dead letters",
            vec![(vec![], oldest.unwrap_or(now.as_millisecond()) as f64 / 1e3)],
        )?;
        page.gauge(
            "lane_paused",
            "1 while the sink is away and its lane waits",
            self.rows(|_, lane| f64::from(u8::from(lane.now.paused.is_some()))),
        )
    }

    /// `end`: the first position of the spool that is free.
    fn owed(&self, page: &mut Page, end: u64) -> fmt::Result {
        page.gauge(
            "lane_unread_positions",
            "Positions of the spool that the lane has not read",
            self.with_left(|lane| end.saturating_sub(lane.now.next), ErrandNow::unread),
        )?;
        page.gauge(
            "lane_open_deliveries",
            "Deliveries read and not closed",
            self.with_left(|lane| lane.now.open as u64, |errand| errand.open as u64),
        )?;
        let waiting = |lane: &LaneSnapshot| lane.now.waiting as u64;
        page.gauge(
            "lane_waiting_deliveries",
            "Deliveries that failed and wait for their next attempt",
            self.with_left(waiting, |errand| errand.did.as_ref().map_or(0, waiting)),
        )?;
        page.gauge(
            "lane_unreadable_deliveries",
            "Deliveries whose push the disk does not give at present; they are looked for again",
            self.rows(|_, lane| {
                lane.now.unreadable.as_ref().map_or(0.0, |unreadable| unreadable.pushes as f64)
            }),
        )?;
        let unmended =
            |lane: &LaneSnapshot| lane.now.unmended.as_ref().map_or(0, |unmended| unmended.pushes as u64);
        page.gauge(
            "lane_unmended_deliveries",
            "Deliveries that wait until a person has mended something, such as a lost key; the others go on",
            self.with_left(unmended, |errand| errand.did.as_ref().map_or(0, unmended)),
        )
    }

    fn attempts(&self, page: &mut Page) -> fmt::Result {
        page.counter(
            "lane_rate_limited_seconds",
            "Time for which pushes waited for nothing but the sink's rate_limit",
            self.rows(|_, lane| lane.now.held_back.total().as_secs_f64()),
        )?;
        page.counter("lane_attempts", "Calls of the sink", self.rows(|_, lane| lane.attempts as f64))?;
        let outcomes = self.of_sinks.iter().flat_map(|(sink, lane)| {
            let counted = [("delivered", lane.delivered), ("failed", lane.failed), ("dead", lane.died)];
            counted.map(|(outcome, count)| {
                (vec![("sink", sink.to_string()), ("outcome", outcome.to_owned())], count as f64)
            })
        });
        page.counter(
            "deliveries",
            "Outcomes of attempts: delivered, failed (will be tried again), dead (given up)",
            outcomes.collect(),
        )
    }

    fn replays(&self, page: &mut Page) -> fmt::Result {
        let sum = |sink: &SinkName, value: fn(&ErrandNow) -> u64| {
            let is_to = |errand: &&ErrandNow| errand.replay().is_some() && errand.sink == sink.as_str();
            self.errands.iter().filter(is_to).map(value).sum::<u64>() as f64
        };
        page.gauge(
            "replays",
            "Replays under way, those that wait with dead letters included",
            self.rows(|sink, _| sum(sink, |_| 1)),
        )?;
        page.gauge(
            "replay_unread_positions",
            "Positions that replays to this sink have yet to read",
            self.rows(|sink, _| sum(sink, ErrandNow::unread)),
        )
    }

    fn rows(&self, value: impl Fn(&SinkName, &LaneSnapshot) -> f64) -> Vec<Row> {
        let row =
            |(sink, lane): &(SinkName, LaneSnapshot)| (vec![("sink", sink.to_string())], value(sink, lane));
        self.of_sinks.iter().map(row).collect()
    }

    fn with_left(
        &self,
        value: impl Fn(&LaneSnapshot) -> u64,
        of_left: impl Fn(&ErrandNow) -> u64,
    ) -> Vec<Row> {
        self.rows(|sink, lane| (value(lane) + self.left_to(sink).map(&of_left).sum::<u64>()) as f64)
    }

    /// When the oldest push arrived that is still owed, in milliseconds since 1970.
    fn oldest_ms(&self, sink: &SinkName, lane: &LaneSnapshot) -> Option<i64> {
        let left = self.left_to(sink).filter_map(|errand| errand.did.as_ref()?.now.oldest_received_at_ms);
        left.chain(lane.now.oldest_received_at_ms).min()
    }

    /// What renamed sinks left to this one.
    fn left_to(&self, sink: &SinkName) -> impl Iterator<Item = &ErrandNow> {
        let is_left = |errand: &&ErrandNow| errand.errand.as_deref().is_some_and(Errand::is_owed);
        self.errands.iter().filter(move |errand| errand.sink == sink.as_str()).filter(is_left)
    }
}
