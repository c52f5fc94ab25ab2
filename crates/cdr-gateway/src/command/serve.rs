//! `cdr-gateway run`: the gateway until somebody stops it.

use anyhow::Context as _;
use cdr_core::Sinks;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::{Common, Ended, logging};
use crate::gateway::Gateway;

/// Runs until SIGTERM or SIGINT; SIGHUP reads the configuration again. A second stop signal ends it at once,
/// which loses nothing either: what was answered is on disk.
pub async fn run(common: Common, sinks: Sinks) -> Ended {
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let (plan, warnings) = common.plan(&sinks)?;
    logging::start(&common, plan.log);
    info!(version = env!("CARGO_PKG_VERSION"), configuration = common.source().name(), "cdr-gateway starts");
    warnings.iter().for_each(|warning| warn!("{warning}"));
    let gateway = Gateway::start(plan, common.source(), sinks).await?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                let engine = std::sync::Arc::clone(gateway.engine());
                // Logged inside; signals go on being heard meanwhile.
                tokio::spawn(async move { drop(engine.reload().await) });
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    info!("stopping: requests and attempts under way are finished first; signal again to end at once");
    tokio::select! {
        () = gateway.stop() => Ok(()),
        _ = terminate.recv() => end_at_once(),
        _ = interrupt.recv() => end_at_once(),
    }
}

fn end_at_once() -> Ended {
    error!(
        "ended at once; what was taken is on disk, attempts under way are made again after the next start"
    );
    Ok(())
}
