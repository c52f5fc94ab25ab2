//! The summary of the demo: what the receivers hold, against what was sent.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use cdr_simulator::calls::Call;
use sha2::{Digest, Sha256};

use super::{
    scenes::SentCalls,
    stage::{BUCKET, Stage},
};

type Sha = [u8; 32];

/// What was found.
pub struct Verdict {
    rows: Vec<Row>,
}

/// One receiver.
struct Row {
    receiver: &'static str,
    expected: usize,
    held: usize,
    missing: usize,
    /// What it holds and should not, or holds in more copies than promised.
    surplus: usize,
    note: String,
}

/// Counts from what the receivers hold.
pub fn count(stage: &Stage, sent: &SentCalls) -> Verdict {
    Verdict { rows: vec![archive(stage, sent), crm(stage, sent), mailbox(stage, sent)] }
}

impl Verdict {
    /// Whether every receiver holds what it should.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(Row::is_good)
    }
}

impl Row {
    fn is_good(&self) -> bool {
        self.missing == 0 && self.surplus == 0
    }
}

/// Every push, byte for byte, once.
fn archive(stage: &Stage, sent: &SentCalls) -> Row {
    let objects = stage.s3.objects(BUCKET);
    let held = digests(objects.iter().map(|object| sha256(&object.bytes)));
    let expected = digests(sent.calls.iter().map(|call| sha256(&call.body)));
    let note = "an object a push, byte for byte, each once";
    compare("S3 archive", &expected, &held, true, note.to_owned())
}

/// Every answered call at least once.
fn crm(stage: &Stage, sent: &SentCalls) -> Row {
    let crm = stage.crm.try_lock();
    let held: HashMap<Sha, usize> = crm.map(|crm| crm.digests()).unwrap_or_default();
    let expected = digests(sent.answered().map(|call| sha256(&call.body)));
    let again = held.values().sum::<usize>().saturating_sub(held.len());
    compare("CRM", &expected, &held, false, format!("answered calls at least once; {again} came again"))
}

/// Every failed session named in a mail.
fn mailbox(stage: &Stage, sent: &SentCalls) -> Row {
    let mails = stage.mailbox.mails();
    let failed: BTreeMap<String, &Call> =
        sent.failed().map(|call| (call.session_id.to_string(), call)).collect();
    let named = |id: &String| mails.iter().any(|mail| mail.text.contains(id.as_str()));
    let held = failed.keys().filter(|id| named(id)).count();
    let note = format!("failed sessions, told in {} mails", mails.len());
    Row { receiver: "mailbox", expected: failed.len(), held, missing: failed.len() - held, surplus: 0, note }
}

fn compare(
    receiver: &'static str,
    expected: &HashMap<Sha, usize>,
    held: &HashMap<Sha, usize>,
    exactly: bool,
    note: String,
) -> Row {
    let of = |all: &HashMap<Sha, usize>, sha: &Sha| all.get(sha).copied().unwrap_or(0);
    let missing = |(sha, &count): (&Sha, &usize)| {
        if exactly { count.saturating_sub(of(held, sha)) } else { usize::from(of(held, sha) == 0) }
    };
    let surplus = |(sha, &count): (&Sha, &usize)| match exactly {
        true => count.saturating_sub(of(expected, sha)),
        false => usize::from(of(expected, sha) == 0),
    };
    Row {
        receiver,
        expected: expected.values().sum(),
        held: held.values().sum(),
        missing: expected.iter().map(missing).sum(),
        surplus: held.iter().map(surplus).sum(),
        note,
    }
}

fn digests(shas: impl Iterator<Item = Sha>) -> HashMap<Sha, usize> {
    let mut counted = HashMap::new();
    shas.for_each(|sha| *counted.entry(sha).or_default() += 1);
    counted
}

fn sha256(bytes: &[u8]) -> Sha {
    Sha256::digest(bytes).into()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header(["receiver", "should hold", "holds", "missing", "too much", ""]);
        for row in &self.rows {
            let numbers = [row.expected, row.held, row.missing, row.surplus].map(|number| number.to_string());
            let cells = [row.receiver.to_owned()].into_iter().chain(numbers).chain([row.note.clone()]);
            table.add_row(cells);
        }
        writeln!(f, "\ncounted at the receivers, by the SHA-256 of what they hold:\n{table}")?;
        match self.is_good() {
            true => write!(f, "every record answered with ErrCode 0 is where its routes send it"),
            false => write!(f, "FAILED: a receiver does not hold what it should"),
        }
    }
}
