//! `/metrics`: what Prometheus reads.
//!
//! Every number is a counter or a snapshot that its owner keeps anyway; a scrape reads them and touches no
//! disk. No phone number and no session ever becomes a label. First comes what an operator should watch: the
//! age of the oldest undelivered push per lane, and the watermark before which everything is delivered.

mod lanes;

use std::{collections::BTreeMap, fmt, sync::Arc};

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
        lanes::tell(&mut page, &self.0.dispatcher)?;
        self.archives(&mut page)?;
        self.door(&mut page)?;
        self.routes(&mut page)?;
        self.spool(&mut page)?;
        self.process(&mut page)
    }
}

impl Scrape {
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

fn seconds_since(now: Timestamp, ms: i64) -> f64 {
    (now.as_millisecond().saturating_sub(ms)).max(0) as f64 / 1e3
}
