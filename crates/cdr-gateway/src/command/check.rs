//! `cdr-gateway check`: is the configuration good, and does its door let in whom it should? Nothing is started, nothing
//! is written.

mod client;
mod senders;

use std::net::IpAddr;

use cdr_core::Sinks;
use clap::Args;
use serde_json::json;

use self::client::Line;
use super::{Common, Ended, Said};
use crate::config;

/// Checks the configuration, or one sender against it.
#[derive(Args)]
pub struct Check {
    /// Tells what becomes of a sender that connects from this address: which address counts, and whether it may push.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// A header that comes with it, such as 'X-Forwarded-For: 203.0.113.9'; once for each line.
    #[arg(long, value_name = "LINE", requires = "client")]
    header: Vec<Line>,
    /// Asks the running gateway who passed because of `allow: { mode: log }`, and prints the list to paste.
    #[arg(long, conflicts_with = "client")]
    senders: bool,
}

impl Check {
    /// Tells what was asked for; fails when the configuration has a fault, or the sender would be refused.
    pub async fn run(self, common: &Common, sinks: &Sinks) -> Ended {
        match self.client {
            Some(peer) => client::tell(common, peer, self.header),
            None if self.senders => senders::tell(common).await,
            None => configuration(common, sinks),
        }
    }
}

/// Tells every fault and warning, each with its place; fails when there is a fault.
fn configuration(common: &Common, sinks: &Sinks) -> Ended {
    let source = common.source();
    let (plan, warnings, faults) = match config::load(&source, sinks, config::environment()) {
        Ok((plan, warnings)) => (Some(plan), warnings, Vec::new()),
        Err(faults) => (None, Vec::new(), faults),
    };
    let text = |findings: &[config::Finding]| findings.iter().map(ToString::to_string).collect::<Vec<_>>();
    if common.wants_json() {
        say!(
            "{}",
            json!({ "good": faults.is_empty(), "faults": text(&faults), "warnings": text(&warnings) })
        );
    } else {
        text(&faults).iter().for_each(|fault| say!("{fault}"));
        text(&warnings).iter().for_each(|warning| say!("warning: {warning}"));
    }
    let Some(plan) = plan else {
        let count = faults.len();
        eprintln!("{}: {count} fault{}", source.name(), if count == 1 { "" } else { "s" });
        return Err(Said.into());
    };
    if !common.wants_json() {
        for sink in &plan.sinks {
            say!("{} ({}): {}", sink.lane.name, sink.kind, sink.lane.sink.describe());
        }
        say!("{}: good ({})", source.name(), plan.digest);
    }
    Ok(())
}
