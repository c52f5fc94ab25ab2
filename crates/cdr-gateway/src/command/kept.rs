//! Looking into what the spool keeps: beside a running gateway or without one.

use anyhow::Context as _;
use cdr_dispatch::terms;
use cdr_spool::Search;
use jiff::Timestamp;

use super::Common;
use crate::{config::Whereabouts, traced};

/// The configuration's spool, open to be searched.
pub struct Kept {
    /// Where the configuration says that it is.
    pub at: Whereabouts,
    /// Finds what is in it.
    pub search: Search,
}

impl Kept {
    /// Finds the spool by the configuration.
    ///
    /// # Errors
    /// The configuration has faults, which were told; there is no spool; or the disk cannot be read.
    pub fn find(common: &Common) -> anyhow::Result<Self> {
        let at = common.whereabouts()?;
        let search = Search::open(&at.spool, terms::of).with_context(|| {
            format!(
                "no spool can be read at {} (spool.path); has the gateway run with this configuration?",
                at.spool.display()
            )
        })?;
        if let Some(reason) = search.without_catalog() {
            eprintln!("the catalog is not used ({reason}): the log was read instead, which takes longer");
        }
        Ok(Self { at, search })
    }

    /// Tells to stderr what was passed over because it is damaged.
    pub fn tell_damaged(&mut self) {
        for position in self.search.take_damaged() {
            eprintln!("passed over: number {position} is damaged on disk");
        }
    }

    /// A moment in the configuration's time zone, for people.
    pub fn local(&self, at: Timestamp) -> String {
        traced::local(at, &self.at.timezone)
    }
}
