//! What a mail says: one subject and one plain text for the pushes of a batch.
//!
//! A single call is told in full, several in a table that names every session, the gateway's own alerts in
//! their own words. Everything that comes from outside goes through [`plain`] first.

mod alert;
mod call;
mod plain;
mod session;
mod table;

use cdr_core::{Batch, Delivery, Origin};
use jiff::{Timestamp, tz::TimeZone};

pub(crate) use plain::one_line;

/// A mail's words.
#[derive(Debug)]
pub(crate) struct Letter {
    /// One line that says it all, of at most [`Letter::SUBJECT`] characters.
    pub(crate) subject: String,
    /// Plain text, lines ended by `\n`.
    pub(crate) text: String,
}

impl Letter {
    /// Longest subject, in characters.
    const SUBJECT: usize = 250;

    /// The letter that tells of these pushes, times in this zone.
    pub(crate) fn about(batch: &Batch, zone: &TimeZone) -> Self {
        let deliveries = batch.deliveries();
        let letter = match deliveries {
            _ if batch.first().push.facts().origin == Origin::Alert => alert::letter(deliveries, zone),
            [one] => session::letter(one, zone),
            several => table::letter(several, zone),
        };
        Self { subject: one_line(&letter.subject, Self::SUBJECT), ..letter }
    }
}

/// Local time with its offset, to the second: `2026-11-22 02:51:07 +08:00`.
fn local(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// The same to the minute, for subjects.
fn local_minute(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %:z").to_string()
}

/// The names of the routes that these pushes took, each once.
fn routes(deliveries: &[Delivery]) -> String {
    let mut names: Vec<&str> =
        deliveries.iter().flat_map(|delivery| delivery.routes.iter().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
