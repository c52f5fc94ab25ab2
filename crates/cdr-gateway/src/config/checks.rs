//! What only shows when sections are seen together: contradictions, which are faults, and what an operator should
//! know before the first call, which are warnings.

use std::{collections::BTreeSet, net::SocketAddr};

use bytesize::ByteSize;
use cdr_core::{SettingFault, setting::Step};
use cdr_ingress::{AllowMode, IngressSettings};

use super::{faults::at, layers::Layers, plan::Sections};

const MIB: u64 = 1024 * 1024;

/// A body takes at most a quarter of a segment, and a spool has at least four segments of at least this size.
const SMALLEST_SEGMENT: u64 = 4 * MIB;
const LARGEST_SEGMENT: u64 = 64 * MIB;

/// A path of so many characters is a secret that nobody guesses.
const SECRET_PATH: usize = 20;

/// Settings that cannot all be meant; paths from the top.
pub(super) fn contradictions(sections: &Sections) -> Vec<SettingFault> {
    let mut faults = Vec::new();
    if let Some(spool) = &sections.spool {
        let segment = (spool.max_size / 16).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
        if spool.max_size < 4 * segment {
            faults.push(at(
                "spool.max_size",
                format!("must be at least {}", ByteSize(4 * SMALLEST_SEGMENT).display()),
            ));
        } else if spool.body_limit > segment / 4 {
            let (most, needed) = (ByteSize(segment / 4), ByteSize(64 * spool.body_limit));
            let advice = match spool.body_limit > LARGEST_SEGMENT / 4 {
                true => "no spool takes larger ones".to_owned(),
                false => format!("make spool.max_size at least {}", needed.display()),
            };
            let message =
                format!("a spool of this max_size takes bodies of at most {}; {advice}", most.display());
            faults.push(at("ingress.limits.body", message));
        }
    }
    if let (Some(ingress), Some(admin)) = (&sections.ingress, &sections.admin)
        && collide(ingress.listen, admin.listen)
    {
        faults.push(at(
            "admin.listen",
            format!("ingress.listen has {} already; take another port", ingress.listen),
        ));
    }
    faults
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same
}

/// What works and is probably not wanted; paths from the top.
pub(super) fn warnings(layers: &Layers, sections: &Sections) -> Vec<SettingFault> {
    let mut warnings: Vec<_> = layers.literal_secrets().map(literal_secret).collect();
    warnings.extend(sections.ingress.iter().flat_map(ingress_warnings));
    if !sections.routes.iter().any(|(_, route)| route.when.is_none()) {
        let message =
            "no route takes every push; one that none takes is kept for spool.keep and goes nowhere";
        warnings.push(at("routes", message));
    }
    let alerts_to = sections.alerts.iter().flat_map(|alerts| &alerts.to).map(|sink| sink.as_str());
    let routed = sections.routes.iter().flat_map(|(_, route)| route.to.iter().map(String::as_str));
    let used: BTreeSet<&str> = routed.chain(alerts_to).collect();
    for sink in sections.sinks.iter().map(|sink| sink.lane.name.as_str()).filter(|name| !used.contains(name))
    {
        warnings.push(at(&format!("sinks.{sink}"), "no route names this sink, so it gets nothing"));
    }
    if sections.alerts.as_ref().is_some_and(|alerts| alerts.to.is_empty()) {
        warnings.push(at("alerts", "names no sink; what goes wrong is told to the log alone"));
    }
    warnings
}

fn literal_secret(path: &[Step]) -> SettingFault {
    let message =
        "this secret stands in the file; { env: NAME } or { file: PATH } keeps it out of backups and tickets";
    SettingFault { path: path.to_vec(), message: message.to_owned() }
}

fn ingress_warnings(ingress: &IngressSettings) -> Vec<SettingFault> {
    let below_ingress = [Step::Key("ingress".to_owned())];
    let mut warnings: Vec<_> =
        ingress.warnings().into_iter().map(|warning| warning.below(&below_ingress)).collect();
    if ingress.listen.ip().to_canonical().is_loopback() {
        return warnings;
    }
    if is_open(ingress) {
        let message =
            "anybody who reaches it can push: set ingress.verify or ingress.allow, or a long random path";
        warnings.push(at("ingress.listen", message));
    }
    if is_readable(ingress) {
        let message = "phone numbers and passwords come over the network for all to read: set ingress.tls, or put a proxy \
                       that speaks HTTPS in front and name it in ingress.trusted_proxies";
        warnings.push(at("ingress.listen", message));
    }
    warnings
}

fn is_open(ingress: &IngressSettings) -> bool {
    let proven = ingress.verify.is_some() || ingress.path.len() >= SECRET_PATH;
    let fenced = ingress.allow.as_ref().is_some_and(|allow| allow.mode == AllowMode::Enforce);
    !proven && !fenced
}

/// Whoever names proxies has one in front, and it ends TLS.
fn is_readable(ingress: &IngressSettings) -> bool {
    ingress.tls.is_none() && ingress.trusted_proxies.is_empty()
}
