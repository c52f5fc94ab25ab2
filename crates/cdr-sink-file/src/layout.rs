//! How pushes become files: what they are called, and what is in them.
//!
//! Everything here follows from the pushes alone, as the spool gives them back: an arrival is told to the millisecond,
//! because that is what the spool keeps, and the push that came a moment ago must give the same bytes.

use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::Arc,
};

use cdr_core::{Batch, Partition, Push, Seal};
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Stands in each seal, and for all that makes the same bytes again: who changes what a line looks like adds another.
const FORMAT: &str = "lines-1";

/// `cdr/dt=2026-11-22`: files of one folder, and what never shares a file.
fn folder(push: &Push) -> String {
    let day = push.facts().received_at.to_zoned(TimeZone::UTC).date();
    format!("{}/dt={day}", push.action())
}

/// `cdr/dt=2026-11-22/c0ffee0000000001-00000000000000000042.json`
pub(crate) fn raw_name(push: &Push) -> String {
    format!("{}/{}-{:020}.json", folder(push), push.spool(), push.position().0)
}

/// Pushes of one action that arrived on one day share files.
pub(crate) fn partition(push: &Push) -> Partition {
    Partition(folder(push).into())
}

/// Names the file of a batch: `cdr/dt=2026-11-22/{spool}-{first}-{last}-{16 digits over its positions and digests}.ndjson`.
/// None for what no such file can hold, which becomes raw files: pushes of several folders, gathered for another layout
/// before a reload, and a body that is no text.
pub(crate) fn seal(batch: &Batch) -> Option<Seal> {
    let first = &batch.first().push;
    let folder = folder(first);
    let mut digest = Sha256::new();
    let mut last = first;
    for push in batch.pushes() {
        if self::folder(push) != folder || !is_text(push) {
            return None;
        }
        digest.update(push.position().0.to_le_bytes());
        digest.update(push.facts().sha256);
        last = push;
    }
    let mut key = format!("{folder}/{}-{:020}-{:020}-", first.spool(), first.position().0, last.position().0);
    for byte in &digest.finalize()[..8] {
        // Writing to a text never fails.
        let _ = write!(key, "{byte:02x}");
    }
    key.push_str(".ndjson");
    Some(Seal { key, facts: json!({ "format": FORMAT }) })
}

/// The file that a seal names, if it is one of this layout: a seal outlives the settings under which it was made, even
/// the kind of sink.
pub(crate) fn sealed_name(seal: &Seal) -> Option<&str> {
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    (seal.facts["format"] == FORMAT && seal.key.split('/').all(is_plain)).then_some(&*seal.key)
}

/// A push in a file of many.
#[derive(Serialize)]
struct Line<'a> {
    position: u64,
    uuid: Option<&'a str>,
    action: &'a str,
    received_at: String,
    sha256: String,
    body: &'a str,
}

/// Whether a line can hold it.
pub(crate) fn is_text(push: &Push) -> bool {
    std::str::from_utf8(push.body()).is_ok()
}

/// Writes the bytes of a sealed file: a line each, in the order of their positions. The body is a JSON text in which every
/// byte comes back. Only one line is in memory at a time.
///
/// # Errors
/// `file` cannot be written, or a body is no text, which is never sealed.
pub(crate) fn write_lines(pushes: &[Arc<Push>], file: &mut dyn Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    for push in pushes {
        let facts = push.facts();
        let line = Line {
            position: push.position().0,
            uuid: facts.uuid.as_deref(),
            action: push.action().as_str(),
            // Cut, not rounded, as the spool cuts it.
            received_at: format!("{:.3}", facts.received_at),
            sha256: push.sha256_hex(),
            body: std::str::from_utf8(push.body()).map_err(io::Error::other)?,
        };
        bytes.clear();
        serde_json::to_writer(&mut bytes, &line)?;
        bytes.push(b'\n');
        file.write_all(&bytes)?;
    }
    Ok(())
}
