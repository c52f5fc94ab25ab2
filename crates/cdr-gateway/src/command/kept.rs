//! Reading what the spool keeps, straight from its log: beside a running gateway or without one.

use std::{cell::RefCell, collections::BTreeSet};

use anyhow::Context as _;
use cdr_spool::{LogReader, Logged, ReadError};
use jiff::Timestamp;

use super::Common;
use crate::{
    config::Whereabouts,
    traced::{self, moment},
};

/// The configuration's spool.
pub struct Kept {
    /// Where the configuration says that it is.
    pub at: Whereabouts,
    /// Damage that was told, as commands go through the log more than once.
    told: RefCell<BTreeSet<String>>,
}

impl Kept {
    /// Finds the spool by the configuration.
    ///
    /// # Errors
    /// The configuration has faults; they were told.
    pub fn find(common: &Common) -> anyhow::Result<Self> {
        Ok(Self { at: common.whereabouts()?, told: RefCell::default() })
    }

    /// Goes through the log, oldest entry first. What is damaged is told to stderr, once, and passed over.
    ///
    /// # Errors
    /// There is no spool, or the disk cannot be read.
    pub fn each(&self, mut entry: impl FnMut(Timestamp, Logged)) -> anyhow::Result<()> {
        let path = self.at.spool.display();
        let log = LogReader::open(&self.at.spool).with_context(|| {
            format!(
                "no spool can be read at {path} (spool.path); has the gateway run with this configuration?"
            )
        })?;
        for read in log {
            match read {
                Ok(read) => entry(moment(read.at_ms), read.what),
                Err(error @ (ReadError::Damaged { .. } | ReadError::DamagedLog { .. })) => {
                    self.tell_once(format!("passed over: {error}"));
                }
                Err(error) => return Err(error).context("the spool cannot be read"),
            }
        }
        Ok(())
    }

    fn tell_once(&self, damage: String) {
        if !self.told.borrow().contains(&damage) {
            eprintln!("{damage}");
            self.told.borrow_mut().insert(damage);
        }
    }

    /// A moment in the configuration's time zone, for people.
    pub fn local(&self, at: Timestamp) -> String {
        traced::local(at, &self.at.timezone)
    }
}
