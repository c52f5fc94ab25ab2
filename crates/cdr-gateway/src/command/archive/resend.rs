//! `cdr-gateway archive replay`: what an archive holds, to a sink again.
//!
//! Past the spool, which may have nothing of it any more: no lane remembers how far it came. So one push goes after the other,
//! each until it is delivered, and when that fails for good the command says where to go on.

use std::sync::Arc;

use anyhow::{anyhow, bail};
use cdr_archive::Holding;
use cdr_core::{ATTEMPT_DEADLINE, Batch, Delivery, Failure, Outcome, Push, registry::AnySink};
use cdr_dispatch::{LanePlan, Rate};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{Chosen, Common, Days, Ended};

/// So often a push is tried: about three minutes with the usual back-off.
const ATTEMPTS: u32 = 8;

/// Sends what an archive holds to a sink.
#[derive(Args)]
pub struct Resend {
    /// The sink that gets them.
    #[arg(long)]
    sink: String,
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    days: Days,
    /// Go on behind this object, as the command said when it stopped.
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    /// Most pushes in a time, such as 10/s. Without it the sink's `rate_limit`.
    #[arg(long)]
    rate: Option<Rate>,
    /// Count them, and send nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Resend {
    /// Sends them.
    pub async fn run(&self, common: &Common, sinks: &cdr_core::Sinks) -> Ended {
        let archive = self.chosen.open(common)?;
        let plan = self.receiver(common, sinks)?;
        let holding = archive.holding.as_ref();
        let keys = holding.keys().await.map_err(anyhow::Error::msg)?;
        let wanted = keys.into_iter().filter(|key| {
            self.after.as_ref().is_none_or(|after| key > after)
                && holding.filing().is_object(key)
                && self.days.may_hold(holding, key)
        });
        let (mut sent, mut done) = (0_u64, self.after.clone());
        for key in wanted {
            for push in self.pushes(holding, &key).await? {
                if let Err(why) = self.send(&plan, push).await {
                    let go_on = done.map(|done| format!(" --after {done}")).unwrap_or_default();
                    bail!(
                        "{sent} sent, then in {key}: {why:#}; go on with the same command and{go_on} (what {key} held before goes again)"
                    );
                }
                sent += 1;
            }
            done = Some(key);
        }
        match (common.wants_json(), self.dry_run) {
            (true, _) => say!("{}", json!({ "sink": self.sink, "sent": sent, "dry_run": self.dry_run })),
            (false, true) => say!("{sent} pushes would be sent to {}", self.sink),
            (false, false) => say!("{sent} pushes were sent to {}", self.sink),
        }
        Ok(())
    }

    fn receiver(&self, common: &Common, sinks: &cdr_core::Sinks) -> anyhow::Result<LanePlan> {
        let (plan, _) = common.plan(sinks)?;
        let names: Vec<String> = plan.sinks.iter().map(|sink| sink.lane.name.to_string()).collect();
        let found = plan.sinks.into_iter().find(|sink| sink.lane.name.as_str() == self.sink);
        found
            .map(|sink| sink.lane)
            .ok_or_else(|| anyhow!("there is no sink {:?}; there are: {}", self.sink, names.join(", ")))
    }

    /// What an object holds of the days, in order; nothing of what is no object of pushes.
    async fn pushes(&self, holding: &dyn Holding, key: &str) -> anyhow::Result<Vec<Arc<Push>>> {
        let bytes = holding.read(key).await.map_err(anyhow::Error::msg)?;
        let filing = holding.filing();
        let Some(records) = filing.read(key, &bytes) else { return Ok(Vec::new()) };
        let records = records.map_err(|why| anyhow!("{key} cannot be read back: {why}"))?;
        let mut pushes = Vec::with_capacity(records.len());
        for record in records {
            let position = record.position;
            if !record.is_intact() {
                bail!("the body of push {position} in {key} is not the one that arrived");
            }
            // A raw object tells no more than the day.
            let day =
                filing.day_of(key).and_then(|day| filing.begin_of(day)).unwrap_or(Timestamp::UNIX_EPOCH);
            let push =
                record.into_push(day).ok_or_else(|| anyhow!("{key} does not tell the action of its push"))?;
            if self.days.hold(filing.day(push.facts().received_at)) {
                pushes.push(Arc::new(push));
            }
        }
        Ok(pushes)
    }

    async fn send(&self, plan: &LanePlan, push: Arc<Push>) -> anyhow::Result<()> {
        if self.dry_run {
            return Ok(());
        }
        if let Some(rate) = self.rate.or(plan.rate_limit) {
            tokio::time::sleep(rate.spacing()).await;
        }
        let routes: Arc<[String]> = Arc::from(["archive replay".to_owned()]);
        for attempt in 1.. {
            let delivery = Delivery {
                push: Arc::clone(&push),
                routes: Arc::clone(&routes),
                attempt,
                replay: true,
                may_be_there: true,
            };
            let Some(batch) = Batch::new(vec![delivery]) else { break };
            if plan.sink.seal(&batch).is_some() {
                bail!(
                    "{} puts many pushes into one object; replay into a sink that keeps each by itself",
                    plan.name
                );
            }
            let failure = match attempt_on(plan.sink.as_ref(), &batch).await {
                Ok(()) => return Ok(()),
                Err(Some(failure)) if attempt < ATTEMPTS => failure,
                Err(Some(failure)) => bail!("push {}: {}", push.position(), failure.reason),
                Err(None) => bail!("push {} was refused for good", push.position()),
            };
            tokio::time::sleep(plan.retry.wait(attempt, failure.retry_after)).await;
        }
        Ok(())
    }
}

/// One attempt; why it failed, unless that was for good.
async fn attempt_on(sink: &dyn AnySink, batch: &Batch) -> Result<(), Option<Failure>> {
    let Ok(report) = tokio::time::timeout(ATTEMPT_DEADLINE, sink.deliver(batch)).await else {
        return Err(Some(Failure::new(format!("no answer within {} s", ATTEMPT_DEADLINE.as_secs()))));
    };
    let (outcomes, away) = report.into_parts();
    match (outcomes.into_iter().next(), away) {
        (Some(Outcome::Delivered(_)), _) => Ok(()),
        (_, Some(away)) => Err(Some(Failure::new(away.reason).retry_after(away.retry_after))),
        (Some(Outcome::Retry(failure)), None) => Err(Some(failure)),
        (Some(Outcome::Reject(failure)), None) => {
            eprintln!("refused: {}", failure.reason);
            Err(None)
        }
        (Some(Outcome::Untried) | None, None) => Err(Some(Failure::new("the sink made no attempt"))),
    }
}
