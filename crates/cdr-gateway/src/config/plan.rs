//! The configuration as meant: every section read, checked on its own and against the others.

use std::path::Path;

use cdr_core::{
    SettingFault, Sinks,
    setting::{self, Step},
};
use cdr_dispatch::{
    RetryPolicy, RetrySettings,
    route::{RouteSettings, Routes},
};
use cdr_ingress::IngressSettings;
use jiff::tz::{self, TimeZone};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Archive, archives, checks,
    faults::{Faults, at, path},
    layers::Layers,
    sections::{Admin, AlertSettings, Alerts, Log, SECTIONS, SpoolSettings},
    sinks::{Ground, PlannedSink},
};

/// Everything that the gateway is meant to do.
#[derive(Debug)]
pub struct Plan {
    /// In which days begin and times are told to people; logs and the API stay UTC.
    pub timezone: TimeZone,
    /// The door.
    pub ingress: IngressSettings,
    /// The store.
    pub spool: cdr_spool::Settings,
    /// The sinks, in the order of their names.
    pub sinks: Vec<PlannedSink>,
    /// Those of them that archive, to be read back.
    pub archives: Vec<Archive>,
    /// Which pushes go where.
    pub routes: Routes,
    /// Who hears from the gateway itself.
    pub alerts: Alerts,
    /// The listener for operators.
    pub admin: Admin,
    /// How it logs, unless the command line says otherwise.
    pub log: Log,
    /// The first 16 hexadecimal digits of the SHA-256 of all settings without their secrets: two gateways with the
    /// same digest were told the same.
    pub digest: String,
}

/// What the sections say, before they are seen together.
pub(super) struct Sections {
    pub ingress: Option<IngressSettings>,
    pub spool: Option<cdr_spool::Settings>,
    pub admin: Option<Admin>,
    pub alerts: Option<Alerts>,
    pub sinks: Vec<PlannedSink>,
    /// The readable routes, each with its number in the file.
    pub routes: Vec<(usize, RouteSettings)>,
}

/// Makes the plan. Relative paths begin at `base`.
///
/// # Errors
/// Every fault of every section, with paths from the top.
pub(super) fn plan(
    layers: &Layers,
    kinds: &Sinks,
    base: &Path,
) -> Result<(Plan, Vec<SettingFault>), Vec<SettingFault>> {
    let mut faults = Faults::default();
    faults.0.extend(unknown_sections(layers));
    let timezone = faults.take(timezone(layers));
    let retry = faults.take(layers.part(&path(["retry"]), retry));
    let log: Option<Log> = faults.take(layers.part(&path(["log"]), setting::read));
    let ground = Ground {
        kinds,
        retry: retry.unwrap_or_default(),
        timezone: timezone.clone().unwrap_or(TimeZone::UTC),
    };
    let names = sink_names(layers, &mut faults);
    let sinks = names.iter().filter_map(|name| faults.take(sink(layers, &ground, name))).collect();
    let written = routes(layers, &mut faults);
    let routes = faults.take(build_routes(&written, &names));
    let ingress = faults.take(layers.part(&path(["ingress"]), ingress));
    let spool = faults.take(
        layers.part(&path(["spool"]), setting::read).map(|settings| spool(settings, ingress.as_ref(), base)),
    );
    let alerts = faults.take(layers.part(&path(["alerts"]), |value| alerts(value, &names)));
    let admin = faults.take(layers.part(&path(["admin"]), admin));
    let sections = Sections { ingress, spool, admin, alerts, sinks, routes: written };
    faults.0.extend(checks::contradictions(&sections));
    let mut warnings = checks::warnings(layers, &sections);
    let doubts = routes.iter().flat_map(Routes::warnings).cloned();
    warnings.extend(doubts.map(|doubt| numbered(doubt, &sections.routes).below(&path(["routes"]))));
    let Sections {
        ingress: Some(ingress),
        spool: Some(spool),
        admin: Some(admin),
        alerts: Some(alerts),
        sinks,
        ..
    } = sections
    else {
        return Err(faults.0);
    };
    match (timezone, log, routes) {
        (Some(timezone), Some(log), Some(routes)) if faults.0.is_empty() => {
            let digest = digest(&layers.public());
            // Their settings are those of their sinks, which have no fault.
            let archives = archives::all(layers)?;
            let plan = Plan { timezone, ingress, spool, sinks, archives, routes, alerts, admin, log, digest };
            Ok((plan, warnings))
        }
        _ => Err(faults.0),
    }
}

fn unknown_sections(layers: &Layers) -> Vec<SettingFault> {
    let unknown = layers.names(&[]).into_iter().filter(|name| !SECTIONS.contains(&name.as_str()));
    unknown
        .map(|name| {
            let message = setting::unknown("setting", &name, SECTIONS.into_iter());
            SettingFault { path: path([&name]), message }
        })
        .collect()
}

/// TCCC's home, unless the configuration says otherwise.
const TIMEZONE: &str = "Asia/Shanghai";

/// The name of the time zone that sinks inherit. A wrong one is told where it stands, not once more by each of them.
pub(super) fn inherited_timezone(layers: &Layers) -> String {
    let named = timezone(layers).ok().and_then(|zone| zone.iana_name().map(str::to_owned));
    named.unwrap_or_else(|| TIMEZONE.to_owned())
}

pub(super) fn timezone(layers: &Layers) -> Result<TimeZone, SettingFault> {
    let name = match layers.get(&path(["timezone"])) {
        None => TIMEZONE,
        Some(Value::String(name)) => name,
        Some(_) => return Err(at("timezone", "expected a name such as Asia/Shanghai")),
    };
    tz::db().get(name).map_err(|_| {
        let known: Vec<String> = tz::db().available().map(|name| name.as_str().to_owned()).collect();
        let advice = match setting::nearest(name, known.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => "a name such as Asia/Shanghai is expected".to_owned(),
        };
        at("timezone", format!("unknown time zone \"{name}\", {advice}"))
    })
}

fn retry(settings: Value) -> Result<RetryPolicy, Vec<SettingFault>> {
    let settings: RetrySettings = setting::read(settings)?;
    if settings.give_up_after.is_some() {
        let why = "belongs to a sink (sinks.NAME.retry): what is right for a mailbox would lose pushes in an archive";
        return Err(vec![at("give_up_after", why)]);
    }
    settings.over(RetryPolicy::default()).map_err(|(setting, why)| vec![at(setting, why)])
}

pub(super) fn ingress(settings: Value) -> Result<IngressSettings, Vec<SettingFault>> {
    let settings: IngressSettings = setting::read(settings)?;
    let faults = settings.faults();
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

pub(super) fn spool(
    settings: SpoolSettings,
    ingress: Option<&IngressSettings>,
    base: &Path,
) -> cdr_spool::Settings {
    let path = settings.path.map_or_else(|| base.join("data/spool"), |path| path.0);
    let limits = ingress.map(|ingress| ingress.limits.clone()).unwrap_or_default();
    cdr_spool::Settings {
        path,
        keep: settings.keep,
        max_size: settings.max_size.as_u64(),
        in_flight: limits.in_flight.as_u64(),
        body_limit: limits.body.as_u64(),
        dedupe_window: settings.dedupe_window,
    }
}

/// The names of all sinks, also of those with faults: a route to one of them is no further fault.
fn sink_names(layers: &Layers, faults: &mut Faults) -> Vec<String> {
    match layers.get(&path(["sinks"])) {
        None | Some(Value::Null | Value::Object(_)) => {}
        Some(_) => faults
            .0
            .push(at("sinks", "expected sinks by their names, such as archive: { file: { path: data } }")),
    }
    layers.names(&path(["sinks"]))
}

fn sink(layers: &Layers, ground: &Ground<'_>, name: &str) -> Result<PlannedSink, Vec<SettingFault>> {
    layers.part(&path(["sinks", name]), |settings| ground.plan(name, settings))
}

/// The routes that can be read, each with its number: a fault in one must not hide those of the others.
fn routes(layers: &Layers, faults: &mut Faults) -> Vec<(usize, RouteSettings)> {
    let count = match layers.get(&path(["routes"])) {
        None | Some(Value::Null) => 0,
        Some(Value::Array(routes)) => routes.len(),
        Some(_) => {
            faults.0.push(at("routes", "expected a list, such as - { name: every push, to: [archive] }"));
            0
        }
    };
    let at_number = |number| [Step::Key("routes".to_owned()), Step::Index(number)];
    let read = |number| Some((number, faults.take(layers.part(&at_number(number), setting::read))?));
    (0..count).filter_map(read).collect()
}

/// The routes without the rest of the plan; none if they have faults, which are not told here.
pub(super) fn routes_alone(layers: &Layers, sinks: &[String]) -> Option<Routes> {
    let mut faults = Faults::default();
    let written = routes(layers, &mut faults);
    build_routes(&written, sinks).ok().filter(|_| faults.0.is_empty())
}

fn build_routes(written: &[(usize, RouteSettings)], sinks: &[String]) -> Result<Routes, Vec<SettingFault>> {
    let settings: Vec<RouteSettings> = written.iter().map(|(_, route)| route.clone()).collect();
    Routes::build(settings, sinks).map_err(|faults| {
        faults.into_iter().map(|fault| numbered(fault, written).below(&path(["routes"]))).collect()
    })
}

/// A fault with the number that its route has in the file.
fn numbered(mut fault: SettingFault, written: &[(usize, RouteSettings)]) -> SettingFault {
    if let Some(Step::Index(index)) = fault.path.first_mut()
        && let Some((number, _)) = written.get(*index)
    {
        *index = *number;
    }
    fault
}

fn alerts(settings: Value, sinks: &[String]) -> Result<Alerts, Vec<SettingFault>> {
    let settings: AlertSettings = setting::read(settings)?;
    let mut faults = Faults::default();
    let mut to = Vec::new();
    for (number, name) in settings.to.iter().enumerate() {
        match name.parse() {
            Ok(sink) if sinks.contains(name) => to.push(sink),
            _ => {
                let message = setting::unknown("sink", name, sinks.iter().map(String::as_str));
                faults.0.push(at(&format!("to.{number}"), message));
            }
        }
    }
    for (name, time) in [("silence", settings.silence), ("repeat", settings.repeat)] {
        if time.is_some_and(|time| time.is_zero()) {
            faults.0.push(at(name, "must be longer than 0; leave it out for never"));
        }
    }
    let alerts = Alerts { to, silence: settings.silence, repeat: settings.repeat };
    if faults.0.is_empty() { Ok(alerts) } else { Err(faults.0) }
}

pub(super) fn admin(settings: Value) -> Result<Admin, Vec<SettingFault>> {
    let admin: Admin = setting::read(settings)?;
    if admin.token.is_none() && !admin.listen.ip().to_canonical().is_loopback() {
        let why = "everybody who reaches it could read pushes: set admin.token, or listen on 127.0.0.1";
        return Err(vec![at("listen", why)]);
    }
    Ok(admin)
}

fn digest(settings: &Value) -> String {
    let digest = Sha256::digest(settings.to_string());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
