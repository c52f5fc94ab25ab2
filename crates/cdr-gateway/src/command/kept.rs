//! Reading what the spool keeps, straight from its log: beside a running gateway or without one.

use anyhow::Context as _;
use cdr_core::Sinks;
use cdr_spool::{LogReader, Logged, ReadError};
use jiff::{Timestamp, tz::TimeZone};

use super::Common;
use crate::config::Plan;

/// The configuration's spool.
pub struct Kept {
    /// The plan that names it.
    pub plan: Plan,
}

impl Kept {
    /// Finds the spool by the configuration.
    ///
    /// # Errors
    /// The configuration has faults; they were told.
    pub fn find(common: &Common, sinks: &Sinks) -> anyhow::Result<Self> {
        Ok(Self { plan: common.plan(sinks)?.0 })
    }

    /// Goes through the log, oldest entry first. What is damaged is told to stderr and passed over.
    ///
    /// # Errors
    /// There is no spool, or the disk cannot be read.
    pub fn each(&self, mut entry: impl FnMut(Timestamp, Logged)) -> anyhow::Result<()> {
        let path = self.plan.spool.path.display();
        let log = LogReader::open(&self.plan.spool.path).with_context(|| {
            format!(
                "no spool can be read at {path} (spool.path); has the gateway run with this configuration?"
            )
        })?;
        for read in log {
            match read {
                Ok(read) => entry(moment(read.at_ms), read.what),
                Err(error @ (ReadError::Damaged { .. } | ReadError::DamagedLog { .. })) => {
                    eprintln!("passed over: {error}")
                }
                Err(error) => return Err(error).context("the spool cannot be read"),
            }
        }
        Ok(())
    }

    /// A moment in the configuration's time zone, for people.
    pub fn local(&self, at: Timestamp) -> String {
        local(at, &self.plan.timezone)
    }
}

/// Milliseconds since 1970 as a moment; what no calendar holds is 1970.
pub fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_default()
}

fn local(at: Timestamp, timezone: &TimeZone) -> String {
    at.to_zoned(timezone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}
