//! `cdr-gateway check`: is the configuration good? Nothing is started, nothing is written.

use cdr_core::Sinks;
use serde_json::json;

use super::{Common, Ended, Said};
use crate::config;

/// Tells every fault and warning, each with its place; fails when there is a fault.
pub fn run(common: &Common, sinks: &Sinks) -> Ended {
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
