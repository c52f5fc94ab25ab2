//! Reading what the spool keeps, from its log or by its catalog: beside a running gateway or without one.

use std::{cell::RefCell, collections::BTreeSet};

use anyhow::Context as _;
use cdr_dispatch::terms;
use cdr_spool::{LogReader, Logged, ReadError, Search};
use jiff::Timestamp;

use super::Common;
pub use crate::traced::moment;
use crate::{config::Whereabouts, traced};

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
    pub fn each(&self, entry: impl FnMut(Timestamp, Logged)) -> anyhow::Result<()> {
        self.rest(&mut self.log_since(Timestamp::MIN)?, entry)
    }

    /// The log from a little before this time on.
    ///
    /// # Errors
    /// There is no spool, or the disk cannot be read.
    pub fn log_since(&self, since: Timestamp) -> anyhow::Result<LogReader> {
        LogReader::open_since(&self.at.spool, since.as_millisecond()).with_context(|| self.no_spool())
    }

    /// The spool, to find pushes in it. That this takes long without a catalog is told to stderr.
    ///
    /// # Errors
    /// There is no spool, or the disk cannot be read.
    pub fn search(&self) -> anyhow::Result<Search> {
        let search = Search::open(&self.at.spool, terms::of).with_context(|| self.no_spool())?;
        if let Some(reason) = search.without_catalog() {
            eprintln!("the catalog is not used ({reason}): the log was read instead, which takes longer");
        }
        Ok(search)
    }

    fn no_spool(&self) -> String {
        let path = self.at.spool.display();
        format!("no spool can be read at {path} (spool.path); has the gateway run with this configuration?")
    }

    /// Goes through what is left of the log. What is damaged is told to stderr, once, and passed over.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn rest(&self, log: &mut LogReader, mut entry: impl FnMut(Timestamp, Logged)) -> anyhow::Result<()> {
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
