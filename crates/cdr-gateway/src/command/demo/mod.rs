//! `cdr-gateway demo`: the whole thing at work in one process. No account, no network but loopback, no file
//! that stays.
//!
//! The gateway is the real one with the shipped configuration, its archive turned into S3 and its mails into
//! SMTP; around it the simulator's receivers, which check signatures and hold what they get. What the summary
//! says is counted there, not in the gateway.

mod receiver;
mod scenes;
mod stage;
mod verdict;

use cdr_core::Sinks;
use clap::{Args, Subcommand, ValueEnum};

use self::{receiver::CrmReceiver, stage::Stage};
use super::{Common, Ended, Said};

/// Shows the whole thing at work in one process.
#[derive(Args)]
pub struct Demo {
    #[command(subcommand)]
    only: Option<Only>,
    /// How many calls the call centre finishes.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(20..=100_000))]
    calls: u64,
    /// Which calls: the same seed makes the same ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Breaks something, to show that the summary would tell.
    #[arg(long, value_enum)]
    r#break: Option<Break>,
}

#[derive(Subcommand)]
enum Only {
    /// Nothing but the CRM receiver, where the default configuration forwards to: tells what it gets.
    Crm(CrmReceiver),
}

/// What can be broken.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Break {
    /// The CRM says that it took a call, and loses it.
    CrmLoses,
}

impl Demo {
    /// Plays it to the summary; fails when a receiver does not hold what it should.
    pub async fn run(self, common: &Common, sinks: Sinks) -> Ended {
        if let Some(Only::Crm(receiver)) = self.only {
            return receiver.run().await;
        }
        let stage = Stage::set(sinks, common.log).await?;
        let sent = scenes::play(&stage, &self).await?;
        let verdict = verdict::count(&stage, &sent);
        stage.clear().await;
        say!("{verdict}");
        if verdict.is_good() { Ok(()) } else { Err(Said.into()) }
    }
}
