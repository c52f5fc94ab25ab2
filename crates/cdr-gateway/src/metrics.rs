//! `/metrics`: what Prometheus reads.
//!
//! Every number is a counter or a snapshot that its owner keeps anyway; a scrape reads them and touches no
//! disk. No phone number and no session ever becomes a label. First comes what an operator should watch: the
//! age of the oldest undelivered push per lane, and the watermark before which everything is delivered.

use std::{collections::BTreeMap, fmt, sync::Arc};

use cdr_core::SinkName;
use cdr_dispatch::{Errand, ErrandNow, LaneSnapshot};
use cdr_spool::Health;
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use crate::engine::Engine;

/// All metrics of a gateway, in OpenMetrics' text form.
pub fn text(engine: &Arc<Engine>) -> String {
    let mut registry = Registry::with_prefix("cdr_gateway");
    registry.register_collector(Box::new(Scrape(Arc::clone(engine))));
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = text::encode(&mut text, &registry);
    text
}

/// One scrape.
struct Scrape(Arc<Engine>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        self.lanes(&mut page)?;
        self.archives(&mut page)?;
        self.door(&mut page)?;
        self.routes(&mut page)?;
        self.spool(&mut page)?;
        self.process(&mut page)
    }
}

impl Scrape {
    fn lanes(&self, page: &mut Page) -> fmt::Result {
        let now = Timestamp::now();
        let lanes = self.0.dispatcher.lanes();
        let errands: Vec<ErrandNow> =
            self.0.dispatcher.errands().into_iter().filter(ErrandNow::is_under_way).collect();
        let oldest_of = |sink: &SinkName, lane: &LaneSnapshot| {
            let of_left =
                left_to(sink, &errands).filter_map(|errand| errand.did.as_ref()?.now.oldest_received_at_ms);
            of_left.chain(lane.now.oldest_received_at_ms).min()
        };
        let end = self.0.dispatcher.pushes().end().0;
        let age = |received_at_ms: Option<i64>| received_at_ms.map_or(0.0, |ms| seconds_since(now, ms));
        let by_sink = |value: &dyn Fn(&LaneSnapshot) -> f64| -> Vec<Row> {
            lanes.iter().map(|(sink, lane)| (vec![("sink", sink.to_string())], value(lane))).collect()
        };
        let with_left = |value: &dyn Fn(&LaneSnapshot) -> u64,
                         of_left: &dyn Fn(&ErrandNow) -> u64|
         -> Vec<Row> {
            let sum = |sink: &SinkName, lane| value(lane) + left_to(sink, &errands).map(of_left).sum::<u64>();
            lanes
                .iter()
                .map(|(sink, lane)| (vec![("sink", sink.to_string())], sum(sink, lane) as f64))
                .collect()
        };
        let ages =
            lanes.iter().map(|(sink, lane)| (vec![("sink", sink.to_string())], age(oldest_of(sink, lane))));
        page.gauge(
            "lane_oldest_undelivered_seconds",
            "Age of the oldest push that is still owed to this sink; 0 when none is. Replays do not count",
            ages.collect(),
        )?;
        let oldest = lanes.iter().filter_map(|(sink, lane)| oldest_of(sink, lane)).min();
        page.gauge("watermark_timestamp_seconds", "All pushes that arrived before this time are delivered everywhere, but for parked lanes and dead letters",
            vec![(vec![], oldest.unwrap_or(now.as_millisecond()) as f64 / 1e3)])?;
        page.gauge(
            "lane_paused",
            "1 while the sink is away and its lane waits",
            by_sink(&|lane| f64::from(u8::from(lane.now.paused.is_some()))),
        )?;
        page.gauge(
            "lane_unread_positions",
            "Positions of the spool that the lane has not read",
            with_left(&|lane| end.saturating_sub(lane.now.next), &ErrandNow::unread),
        )?;
        page.gauge(
            "lane_open_deliveries",
            "Deliveries read and not closed",
            with_left(&|lane| lane.now.open as u64, &|errand| errand.open as u64),
        )?;
        page.gauge(
            "lane_waiting_deliveries",
            "Deliveries that failed and wait for their next attempt",
            with_left(&|lane| lane.now.waiting as u64, &|errand| {
                errand.did.as_ref().map_or(0, |lane| lane.now.waiting as u64)
            }),
        )?;
        page.gauge(
            "lane_unreadable_deliveries",
            "Deliveries whose push the disk does not give at present; they are looked for again",
            by_sink(&|lane| lane.now.unreadable.as_ref().map_or(0.0, |unreadable| unreadable.pushes as f64)),
        )?;
        page.counter(
            "lane_rate_limited_seconds",
            "Time for which pushes waited for nothing but the sink's rate_limit",
            by_sink(&|lane| lane.now.held_back.total().as_secs_f64()),
        )?;
        page.counter("lane_attempts", "Calls of the sink", by_sink(&|lane| lane.attempts as f64))?;
        let outcomes = lanes.iter().flat_map(|(sink, lane)| {
            let counted = [("delivered", lane.delivered), ("failed", lane.failed), ("dead", lane.died)];
            counted.map(|(outcome, count)| {
                (vec![("sink", sink.to_string()), ("outcome", outcome.to_owned())], count as f64)
            })
        });
        page.counter(
            "deliveries",
            "Outcomes of attempts: delivered, failed (will be tried again), dead (given up)",
            outcomes.collect(),
        )?;
        page.gauge(
            "lanes_parked",
            "Lanes that the spool knows and nobody drives; their pushes wait for a decision",
            vec![(vec![], self.0.dispatcher.parked().len() as f64)],
        )?;
        let replays = |value: &dyn Fn(&ErrandNow) -> u64| -> Vec<Row> {
            let of_sink = |sink: &SinkName| {
                let is_of = |errand: &&ErrandNow| errand.replay().is_some() && errand.sink == sink.as_str();
                errands.iter().filter(is_of).map(value).sum::<u64>()
            };
            lanes.iter().map(|(sink, _)| (vec![("sink", sink.to_string())], of_sink(sink) as f64)).collect()
        };
        page.gauge(
            "replays",
            "Replays under way, those that wait with dead letters included",
            replays(&|_| 1),
        )?;
        page.gauge(
            "replay_unread_positions",
            "Positions that replays to this sink have yet to read",
            replays(&ErrandNow::unread),
        )
    }

    fn archives(&self, page: &mut Page) -> fmt::Result {
        let until = self.0.manifests_until().into_iter();
        page.gauge(
            "archive_manifests_until_timestamp_seconds",
            "Every day of this archive that ended before this time has its manifest, or held nothing; 0 while that cannot be seen, no value before the first look",
            until.map(|(sink, until)| (vec![("sink", sink)], until.as_second() as f64)).collect(),
        )
    }

    fn door(&self, page: &mut Page) -> fmt::Result {
        let door = self.0.door_counters();
        let verdicts = door.verdicts.iter();
        page.counter(
            "requests",
            "Requests at the door by what became of them",
            verdicts
                .map(|(verdict, count)| (vec![("verdict", verdict.name().to_owned())], *count as f64))
                .collect(),
        )?;
        page.counter(
            "received_bytes",
            "Bytes of bodies that were taken, repeats included",
            vec![(vec![], door.body_bytes as f64)],
        )?;
        page.gauge("connections", "Open connections", vec![(vec![], door.open_connections as f64)])?;
        let expires_at = self.0.certificate_expires_at().into_iter();
        page.gauge(
            "certificate_expiry_timestamp_seconds",
            "When the certificate of the door ends; no value without TLS",
            expires_at.map(|end| (vec![], end.as_second() as f64)).collect(),
        )?;
        let odd =
            door.odd_fields.iter().map(|(field, count)| (vec![("field", field.to_string())], *count as f64));
        page.counter(
            "odd_fields",
            "Fields of stored pushes that had a value of a wrong type",
            odd.collect(),
        )?;
        let unpublished = door.unpublished_statuses.iter();
        page.counter(
            "unpublished_statuses",
            "Stored pushes whose EndStatusString is not published",
            unpublished.map(|(status, count)| (vec![("status", status.clone())], *count as f64)).collect(),
        )
    }

    fn routes(&self, page: &mut Page) -> fmt::Result {
        let routing = self.0.dispatcher.pushes().routing();
        let counts = routing.routes.counts();
        let by_route = |value: &dyn Fn(&cdr_dispatch::route::RouteCount) -> u64| -> Vec<Row> {
            counts
                .routes
                .iter()
                .map(|count| (vec![("route", count.name.clone())], value(count) as f64))
                .collect()
        };
        page.counter(
            "route_matched",
            "Pushes that a route took, since the last reload",
            by_route(&|count| count.matched),
        )?;
        page.counter(
            "route_failed",
            "Pushes on which a route's expression failed, so that it did not match",
            by_route(&|count| count.failed),
        )?;
        page.counter(
            "unrouted",
            "Pushes that no route took; they are kept",
            vec![(vec![], counts.unrouted as f64)],
        )
    }

    fn spool(&self, page: &mut Page) -> fmt::Result {
        let stats = self.0.dispatcher.pushes().spool().stats();
        let one = |value: f64| vec![(vec![], value)];
        let oldest = stats.oldest_kept_ms.map_or(0.0, |ms| seconds_since(Timestamp::now(), ms));
        page.gauge(
            "spool_ok",
            "1 while a push can be stored",
            one(f64::from(u8::from(stats.health == Health::Ok))),
        )?;
        page.gauge("spool_bytes", "Bytes of the spool on disk", one(stats.bytes as f64))?;
        page.gauge("spool_max_bytes", "spool.max_size", one(self.0.started_with.spool.max_size as f64))?;
        page.gauge(
            "spool_owed_bytes",
            "Bytes, about, that some sink has not taken, dead letters included",
            one(stats.owed_bytes as f64),
        )?;
        page.gauge("spool_oldest_kept_seconds", "Age of the oldest push that is kept", one(oldest))?;
        page.gauge("spool_quarantine_bytes", "Bytes in quarantine", one(stats.quarantine_bytes as f64))?;
        page.gauge("spool_in_flight_bytes", "Bytes that wait for their commit", one(stats.in_flight as f64))?;
        page.counter("spool_commits", "Commits", one(stats.commits as f64))?;
        page.counter("spool_syncs", "Calls of fdatasync", one(stats.syncs as f64))?;
        page.counter("spool_sync_seconds", "Time spent in fdatasync", one(stats.sync_time.as_secs_f64()))?;
        page.counter("spool_failures", "Writes and syncs that failed", one(stats.failures as f64))?;
        page.gauge(
            "catalog_behind_pushes",
            "Positions of the spool that the catalog does not know yet; searches read them from the log",
            one(stats.catalog_behind as f64),
        )?;
        page.counter(
            "catalog_rebuilds",
            "How often the catalog was built anew from the log",
            one(stats.catalog_rebuilds as f64),
        )?;
        let mut dead: BTreeMap<&str, u64> = BTreeMap::new();
        for (lane, count) in &stats.dead_letters {
            // Errands would be a label each.
            *dead.entry(lane.split('~').next().unwrap_or(lane)).or_default() += count;
        }
        let dead = dead.into_iter().map(|(sink, count)| (vec![("sink", sink.to_owned())], count as f64));
        page.gauge("dead_letters", "Deliveries that were given up and wait for a decision", dead.collect())
    }

    fn process(&self, page: &mut Page) -> fmt::Result {
        let reload = self.0.last_reload();
        let one = |value: f64| vec![(vec![], value)];
        page.gauge(
            "config_last_reload_successful",
            "1 when the last configuration was taken",
            one(f64::from(u8::from(!reload.failed))),
        )?;
        page.gauge(
            "config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken",
            one(reload.taken_at.as_second() as f64),
        )?;
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        page.gauge("build_info", "The gateway's version", vec![(version, 1.0)])?;
        page.gauge(
            "start_timestamp_seconds",
            "When the process started",
            one(self.0.started_at.as_second() as f64),
        )
    }
}

type Row = (Vec<(&'static str, String)>, f64);

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, rows: Vec<Row>) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        rows.iter().try_for_each(|(labels, value)| match labels.is_empty() {
            true => metric.encode_gauge(value),
            false => metric.encode_family(labels)?.encode_gauge(value),
        })
    }

    /// The name without `_total`, which the encoder adds.
    fn counter(&mut self, name: &str, help: &str, rows: Vec<Row>) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        rows.iter().try_for_each(|(labels, value)| match labels.is_empty() {
            true => metric.encode_counter::<NoLabelSet, _, f64>(value, None),
            false => metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(value, None),
        })
    }
}

/// What renamed sinks left to this one: it is owed like everything else, and a replay is not.
fn left_to<'a>(sink: &'a SinkName, errands: &'a [ErrandNow]) -> impl Iterator<Item = &'a ErrandNow> {
    let is_left = |errand: &&ErrandNow| errand.errand.as_deref().is_some_and(Errand::is_owed);
    errands.iter().filter(move |errand| errand.sink == sink.as_str()).filter(is_left)
}

fn seconds_since(now: Timestamp, ms: i64) -> f64 {
    (now.as_millisecond().saturating_sub(ms)).max(0) as f64 / 1e3
}
