//! `check --client`: which address counts as the sender, and whether it may push. From the file alone.

use std::{net::IpAddr, str::FromStr};

use cdr_ingress::{AllowMode, IngressSettings, Trail, TrailEnd};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::super::{Common, Ended, Said};

/// A header as curl takes it: `X-Forwarded-For: 203.0.113.9`.
#[derive(Clone)]
pub struct Line(HeaderName, HeaderValue);

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected a header such as 'X-Forwarded-For: 203.0.113.9'";
        let (name, value) = text.split_once(':').ok_or(expected)?;
        let name = name.trim().parse().map_err(|error| format!("{expected}: {error}"))?;
        // As on the wire, where any byte but controls may come.
        let value = HeaderValue::from_bytes(value.trim().as_bytes());
        let value = value.map_err(|error| format!("{expected}: {error}"))?;
        Ok(Self(name, value))
    }
}

/// Whether `allow` lets an address in, and why.
struct Verdict {
    passes: bool,
    words: String,
}

/// Tells of a sender that connects from `peer` with these headers; fails when it would be refused.
pub fn tell(common: &Common, peer: IpAddr, lines: Vec<Line>) -> Ended {
    let door = common.door()?;
    let mut headers = HeaderMap::new();
    for Line(name, value) in lines {
        headers.append(name, value);
    }
    let trail = door.trail(peer, &headers);
    let verdict = verdict(&door, trail.client);
    if common.wants_json() {
        let proxies = trail.proxies.iter();
        let proxies = proxies.map(|(proxy, by)| json!({ "address": proxy, "network": by.to_string() }));
        let (proxies, unread) = (proxies.collect::<Vec<_>>(), trail.unread);
        say!(
            "{}",
            json!({ "sender": trail.client, "passes": verdict.passes, "why": verdict.words, "proxies": proxies, "unread": unread })
        );
    } else {
        found(&trail, peer.to_canonical());
        say!("{} {}", trail.client, verdict.words);
    }
    if verdict.passes { Ok(()) } else { Err(Said.into()) }
}

fn verdict(door: &IngressSettings, client: IpAddr) -> Verdict {
    let Some(allow) = &door.allow else {
        return Verdict {
            passes: true,
            words: "may push: ingress.allow is not set, so everybody may".to_owned(),
        };
    };
    let (passes, words) = match (allow.holder(client), allow.mode) {
        (Some(network), _) => (true, format!("may push: ingress.allow.networks has {network}")),
        (None, AllowMode::Enforce) => {
            (false, "is refused with 403: ingress.allow.networks does not hold it".to_owned())
        }
        (None, AllowMode::Log) => {
            let words = "passes because of mode: log alone; ingress.allow.networks does not hold it, and mode: enforce would refuse it";
            (true, words.to_owned())
        }
    };
    Verdict { passes, words }
}

/// How the address was found, a line a step.
fn found(trail: &Trail, peer: IpAddr) {
    let Trail { proxies, header, end, client, unread } = trail;
    let entries = proxies.iter().skip(1);
    match proxies.first() {
        Some((_, network)) => say!(
            "{peer} connects: it is a trusted proxy (ingress.trusted_proxies has {network}), so {header} counts, read from the right"
        ),
        None => say!("{peer} connects: it is no trusted proxy, so it is the sender and no header counts"),
    }
    entries.for_each(|(proxy, network)| say!("  {proxy}: a trusted proxy ({network}), passed over"));
    match end {
        TrailEnd::Untrusted if proxies.is_empty() => {}
        TrailEnd::Untrusted => say!("  {client}: no trusted proxy, so it is the sender"),
        TrailEnd::NoAddress(entry) => {
            say!("  \"{}\": no address, so the search ends and {client} counts as the sender", shown(entry));
        }
        TrailEnd::NoEntry if proxies.len() == 1 => {
            say!("  it has no entry, so {client} counts as the sender itself")
        }
        TrailEnd::NoEntry => say!("  no more entries, so {client} counts as the sender"),
    }
    for entry in unread {
        say!("  \"{}\": never read, for the sender may have written it", shown(entry));
    }
}

/// An entry as a terminal can bear it.
fn shown(entry: &str) -> String {
    entry.escape_debug().collect()
}
