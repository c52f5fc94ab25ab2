//! What a mail says: one subject, one plain text and one HTML page for the pushes of a batch.
//!
//! ```text
//!  deliveries ──view──▶ View (one line each, masked) ──templates──▶ subject, text, html
//! ```
//! A single call is told in full, several in a table that names every session, the gateway's own alerts in
//! their own words. Everything that comes from outside goes through [`plain`] first, and HTML is escaped.

mod alert;
mod call;
mod facts;
mod plain;
mod sample;
mod style;
mod table;
mod templates;
mod view;
mod words;

use cdr_core::Delivery;

pub(crate) use self::{
    call::Call,
    plain::one_line,
    sample::samples,
    style::{Link, Style},
    templates::{Templates, Written},
    view::View,
};

pub use self::{style::Numbers, templates::TemplateSettings};

/// A mail's words.
#[derive(Debug)]
pub(crate) struct Letter {
    /// One line that says it all, of at most [`Letter::SUBJECT`] characters.
    pub(crate) subject: String,
    /// Plain text, lines ended by `\n`.
    pub(crate) text: String,
    /// The same as a page.
    pub(crate) html: String,
}

impl Letter {
    /// Longest subject, in characters.
    const SUBJECT: usize = 250;
}

/// The names of the routes that these pushes took, each once.
fn routes(deliveries: &[Delivery]) -> String {
    let mut names: Vec<&str> =
        deliveries.iter().flat_map(|delivery| delivery.routes.iter().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
