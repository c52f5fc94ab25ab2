//! `check --senders`: the allowlist as the running gateway has learned it.

use anyhow::bail;
use hyper::Method;
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;

use super::super::{Common, Ended, running};
use crate::traced::local;

/// What `/api/v1/senders` answers.
#[derive(Deserialize)]
struct Learned {
    since: Timestamp,
    allow: Option<Allow>,
    senders: Vec<Sender>,
}

#[derive(Deserialize)]
struct Allow {
    mode: String,
    networks: Vec<String>,
}

#[derive(Deserialize)]
struct Sender {
    network: String,
    requests: u64,
    pushes: u64,
    last: Timestamp,
}

/// Prints what the gateway has learned as a part of its file, and who is better left out of it.
pub async fn tell(common: &Common) -> Ended {
    let answer = running::ask_for(&common.admin()?, Method::GET, "/api/v1/senders", None).await?;
    if common.wants_json() {
        say!("{answer}");
        return Ok(());
    }
    let Learned { since, allow, senders } = serde_json::from_value(answer)?;
    let timezone = common.whereabouts()?.timezone;
    let since = local(since, &timezone);
    let Some(allow) = allow else {
        bail!(
            "ingress.allow is not set, so nobody is noted; set allow: {{ mode: log }} and reload, to learn the addresses"
        );
    };
    if allow.mode != "log" {
        eprintln!(
            "ingress.allow has mode: enforce, so others are refused and not noted; this is what mode: log had learned"
        );
    }
    let (brought, knocked): (Vec<_>, Vec<_>) = senders.into_iter().partition(|sender| sender.pushes > 0);
    if allow.networks.is_empty() && brought.is_empty() {
        bail!("nobody has brought a push since {since}, so there is nothing to allow yet");
    }
    say!(
        "# Who brought pushes since {since}. Look through it, and put it in the place of allow in your file."
    );
    say!("ingress:\n  allow:\n    mode: enforce\n    networks:");
    allow.networks.iter().for_each(|network| say!("      - {:<20} # as before", quoted(network)));
    brought.iter().for_each(|sender| say!("{}", sender.line(&timezone)));
    if !knocked.is_empty() {
        say!("# Not in the list, for they brought no push that was taken:");
        knocked.iter().for_each(|sender| say!("{}", sender.comment(&timezone)));
    }
    Ok(())
}

impl Sender {
    fn line(&self, timezone: &TimeZone) -> String {
        let (network, last) = (quoted(&self.network), local(self.last, timezone));
        format!("      - {network:<20} # {} pushes, the last {last}", self.pushes)
    }

    fn comment(&self, timezone: &TimeZone) -> String {
        let (network, last) = (&self.network, local(self.last, timezone));
        format!("#   {network:<22} {} requests, the last {last}", self.requests)
    }
}

/// An IPv6 network may end in a colon, which means something in YAML.
fn quoted(network: &str) -> String {
    if network.contains(':') { format!("\"{network}\"") } else { network.to_owned() }
}
