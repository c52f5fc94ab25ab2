//! `sinks:`, read in two steps: first which kind each is, then that kind's own settings.
//!
//! The kind is a key (`archive: { s3: … }`) and beside it stands only what every sink may have; so an unknown
//! setting is an error on each level, and has its own place.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use cdr_core::{
    SettingFault, SinkName, Sinks,
    registry::AnySink,
    setting::{self, Step},
};
use cdr_dispatch::{LanePlan, Mask, MaskSettings, Masked, Rate, RetryPolicy, RetrySettings};
use cdr_spool::Start;
use jiff::{Timestamp, civil, tz::TimeZone};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::faults::{Faults, at};

/// A sink as it is meant.
#[derive(Clone)]
pub struct PlannedSink {
    /// Its kind.
    pub kind: String,
    /// What it does not get to see.
    pub mask: Option<Mask>,
    /// The sink behind its mask, built but not started, and how its lane shall drive it.
    pub lane: LanePlan,
}

impl fmt::Debug for PlannedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mask, lane: LanePlan { name, retry, concurrency, rate_limit, start, .. } } = self;
        let rate = rate_limit.map(|rate| format!(", at most {rate}")).unwrap_or_default();
        let mask = mask.as_ref().map(|mask| format!(", {mask:?}")).unwrap_or_default();
        write!(f, "{name} ({kind}, {retry:?}, {concurrency} at once{rate}, from {start:?}{mask})")
    }
}

/// What every sink may have, whatever its kind.
const COMMON: [&str; 5] = ["retry", "rate_limit", "concurrency", "start_at", "mask"];

/// Enough that a receiver in another country keeps up, few enough that a small CRM survives.
const CONCURRENCY: usize = 8;

/// A delivery to an archive is never given up. A call is of no use to a CRM after a week, or on call after a day.
fn give_up_after(kind: &str) -> Option<Duration> {
    const HOUR: Duration = Duration::from_secs(3600);
    match kind {
        "http" => Some(7 * 24 * HOUR),
        "email" => Some(24 * HOUR),
        _ => None,
    }
}

/// Whether people take what lies there for what came: masking it by mistake would lose the original for good.
fn is_archive(kind: &str) -> bool {
    matches!(kind, "file" | "s3")
}

/// What all sinks are planned with.
pub(super) struct Ground<'a> {
    pub kinds: &'a Sinks,
    pub retry: RetryPolicy,
    pub timezone: TimeZone,
}

impl Ground<'_> {
    /// Plans a sink from what stands under its name, all faults at once.
    pub fn plan(&self, name: &str, settings: Value) -> Result<PlannedSink, Vec<SettingFault>> {
        let Value::Object(mut settings) = settings else {
            let message = "expected a kind and its settings, such as { file: { path: data } }";
            return Err(vec![SettingFault::at("", message)]);
        };
        let mut faults = Faults::default();
        let retry: RetrySettings = take_part(&mut settings, "retry", &mut faults);
        let rate_limit: Option<Rate> = take_part(&mut settings, "rate_limit", &mut faults);
        let concurrency: Option<NonZeroUsize> = take_part(&mut settings, "concurrency", &mut faults);
        let start: Option<String> = take_part(&mut settings, "start_at", &mut faults);
        let mask: Option<MaskSettings> = take_part(&mut settings, "mask", &mut faults);
        let name: Option<SinkName> = faults.take(name.parse().map_err(|error| at("", error)));
        let start = faults.take(start_at(start.as_deref(), &self.timezone));
        let Some(kind) = self.kind(&settings, &mut faults) else { return Err(faults.0) };
        let base = RetryPolicy { give_up_after: give_up_after(&kind), ..self.retry };
        let retry =
            faults.take(retry.over(base).map_err(|(setting, why)| at(&format!("retry.{setting}"), why)));
        let mask = faults.take(mask.map(|mask| built_mask(&kind, &mask)).transpose());
        let sink = faults.take(self.build(&kind, name.as_ref(), settings));
        let concurrency = concurrency.map_or(CONCURRENCY, NonZeroUsize::get);
        match (name, sink, mask, retry, start) {
            (Some(name), Some(sink), Some(mask), Some(retry), Some(start)) if faults.0.is_empty() => {
                let sink = Arc::new(Masked::new(sink, mask.clone()));
                let lane = LanePlan { name, sink, retry, concurrency, rate_limit, start };
                Ok(PlannedSink { kind, mask, lane })
            }
            _ => Err(faults.0),
        }
    }

    /// The one kind among the names that are left.
    fn kind(&self, settings: &Map<String, Value>, faults: &mut Faults) -> Option<String> {
        let (kinds, others): (Vec<&str>, Vec<&str>) = settings
            .keys()
            .map(String::as_str)
            .partition(|name| self.kinds.kinds().any(|kind| kind == *name));
        let fault =
            |name: &str, message: String| SettingFault { path: vec![Step::Key(name.to_owned())], message };
        for other in &others {
            let message = match kinds.is_empty() {
                true => setting::unknown(
                    "kind of sink",
                    other,
                    self.kinds.kinds().collect::<Vec<_>>().into_iter(),
                ),
                false => setting::unknown("setting", other, COMMON.into_iter()),
            };
            faults.0.push(fault(other, message));
        }
        match kinds[..] {
            [kind] => return Some(kind.to_owned()),
            [first, ref more @ ..] => {
                let message =
                    |more| format!("a sink has one kind, and this one has \"{first}\" and \"{more}\"");
                faults.0.extend(more.iter().map(|more| fault(more, message(more))));
            }
            [] if others.is_empty() => {
                let kinds: Vec<_> = self.kinds.kinds().collect();
                faults.0.push(SettingFault::at(
                    "",
                    format!("the sink has no kind; there are: {}", kinds.join(", ")),
                ));
            }
            [] => {}
        }
        None
    }

    /// The settings of a sink with a bad name are still worth reading, under another one.
    fn build(
        &self,
        kind: &str,
        name: Option<&SinkName>,
        mut settings: Map<String, Value>,
    ) -> Result<Arc<dyn AnySink>, Vec<SettingFault>> {
        let own =
            settings.remove(kind).filter(|own| !own.is_null()).unwrap_or_else(|| Value::Object(Map::new()));
        let name =
            name.cloned().map_or_else(|| "unnamed".parse().map_err(|error| vec![at("", error)]), Ok)?;
        let unknown = || vec![at("", format!("unknown kind of sink \"{kind}\""))];
        let built = self.kinds.build(kind, &name, own).ok_or_else(unknown)?;
        built.map_err(|faults| below(faults, kind))
    }
}

fn built_mask(kind: &str, settings: &MaskSettings) -> Result<Mask, Vec<SettingFault>> {
    let built = Mask::build(settings).map_err(|faults| below(faults, "mask"));
    if is_archive(kind) && !settings.archive {
        let why = "an archive holds what came, byte for byte, and a masked one never will again; mask: { archive: true } if you mean it";
        return Err([built.err().unwrap_or_default(), vec![at("mask", why)]].concat());
    }
    built
}

/// Takes out and reads one of the settings that every sink may have; its default when it is absent or faulty.
fn take_part<T: DeserializeOwned + Default>(
    settings: &mut Map<String, Value>,
    name: &str,
    faults: &mut Faults,
) -> T {
    let Some(value) = settings.remove(name) else { return T::default() };
    faults.take(setting::read(value).map_err(|faults| below(faults, name))).unwrap_or_default()
}

fn below(faults: Vec<SettingFault>, name: &str) -> Vec<SettingFault> {
    let step = [Step::Key(name.to_owned())];
    faults.into_iter().map(|fault| fault.below(&step)).collect()
}

fn start_at(text: Option<&str>, timezone: &TimeZone) -> Result<Start, SettingFault> {
    let day = |text: &str| text.parse::<civil::Date>().ok()?.to_zoned(timezone.clone()).ok();
    match text {
        None | Some("now") => Ok(Start::Now),
        Some("beginning") => Ok(Start::Beginning),
        Some(text) => match (text.parse::<Timestamp>(), day(text)) {
            (Ok(time), _) => Ok(Start::At(time.as_millisecond())),
            (_, Some(day)) => Ok(Start::At(day.timestamp().as_millisecond())),
            _ => Err(at(
                "start_at",
                "expected now, beginning, a day such as 2026-11-22, or a time such as 2026-11-22T08:00:00+08:00",
            )),
        },
    }
}
