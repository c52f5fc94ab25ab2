//! `cdr-gateway archive`: whether an archive holds what was delivered there, what it held when a day was over, and sending
//! what it holds to a sink.
//!
//! All of it reads the archive itself, and the spool's log as far as that is kept; the gateway may run or not.

mod resend;

use anyhow::bail;
use cdr_archive::{Absent, Audit, Fault, Findings, Holding, Manifest, manifest::is_key};
use cdr_core::SpoolId;
use clap::{Args, Subcommand};
use jiff::{Timestamp, civil::Date};
use serde_json::json;

use super::{Common, Ended, Said, kept::Kept};
use crate::{
    config::{self, Archive},
    manifests::{
        delivered::{Delivered, DeliveredPush, Stretch},
        due::{self, Faulty, Looked, Waits},
    },
};

/// What an archive holds.
#[derive(Subcommand)]
pub enum ArchiveCommand {
    /// Reads an archive and checks it: nothing missing that was delivered, nothing twice, every body the one that arrived,
    /// every manifest still true.
    ///
    /// Fails when something is wrong. Example: cdr-gateway archive verify --from 2026-11-01 --to 2026-11-07
    Verify {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        days: Days,
    },
    /// Writes the manifests of the days that are over: what the archive holds of each, linked to the day before.
    ///
    /// The running gateway does so by itself, unless the sink says `manifest: false`. It writes none for a day of which something
    /// is still open, and none twice.
    /// Example: cdr-gateway archive manifest
    Manifest {
        #[command(flatten)]
        chosen: Chosen,
        /// Also those of days that do not hold what they should: the manifest then says what is wrong. For what cannot be
        /// mended.
        #[arg(long)]
        with_faults: bool,
    },
    /// Sends what an archive holds to a sink, one push after the other, as a replay; the spool need not have it any more.
    ///
    /// It has no memory: when it stops it says how to go on. Example:
    /// cdr-gateway archive replay --sink crm --from 2026-03-01 --to 2026-03-31
    Replay(resend::Resend),
}

/// Which archive.
#[derive(Args)]
pub struct Chosen {
    /// The sink that archives; needed when there are several.
    #[arg(long, value_name = "SINK")]
    archive: Option<String>,
}

/// Which days, in the archive's time zone.
#[derive(Args, Clone, Copy)]
pub struct Days {
    /// The first day. Without it from the oldest on.
    #[arg(long, value_name = "DAY")]
    from: Option<Date>,
    /// The last day. Without it up to now.
    #[arg(long, value_name = "DAY")]
    to: Option<Date>,
}

impl ArchiveCommand {
    /// Checks, notes or sends.
    pub async fn run(&self, common: &Common, sinks: &cdr_core::Sinks) -> Ended {
        match self {
            Self::Verify { chosen, days } => verify(common, &chosen.open(common)?, *days).await,
            Self::Manifest { chosen, with_faults } => {
                let faulty = if *with_faults { Faulty::IsNoted } else { Faulty::Waits };
                manifest(common, &chosen.open(common)?, faulty).await
            }
            Self::Replay(resend) => resend.run(common, sinks).await,
        }
    }
}

impl Chosen {
    fn open(&self, common: &Common) -> anyhow::Result<Archive> {
        let mut archives = super::told(config::archives(&common.source(), config::environment()))?;
        let names: Vec<String> = archives.iter().map(|archive| archive.sink.clone()).collect();
        let there_are = match names.is_empty() {
            true => "the configuration has no sink of the kinds file and s3".to_owned(),
            false => format!("there are: {}", names.join(", ")),
        };
        let Some(wanted) = &self.archive else {
            return match archives.len() {
                1 => Ok(archives.remove(0)),
                _ => bail!("which archive? say --archive SINK; {there_are}"),
            };
        };
        match archives.into_iter().find(|archive| archive.sink == *wanted) {
            Some(archive) => Ok(archive),
            None => bail!("there is no archive {wanted:?}; {there_are}"),
        }
    }
}

impl Days {
    fn hold(self, day: Date) -> bool {
        self.from.is_none_or(|from| day >= from) && self.to.is_none_or(|to| day <= to)
    }

    /// Whether what lies under a key is filed under these days; what tells no day may be.
    fn name(self, holding: &dyn Holding, key: &str) -> bool {
        holding.filing().day_of(key).is_none_or(|day| self.hold(day))
    }

    /// Whether it may hold pushes of these days: where the archive's time zone was another one, they are filed under the day
    /// before or after.
    fn may_hold(self, holding: &dyn Holding, key: &str) -> bool {
        let near =
            |day: Date| [day.yesterday(), day.tomorrow()].into_iter().flatten().any(|day| self.hold(day));
        self.name(holding, key) || holding.filing().day_of(key).is_some_and(near)
    }
}

async fn verify(common: &Common, archive: &Archive, days: Days) -> Ended {
    // Before the archive is looked at: what is delivered meanwhile is there, too.
    let delivered = Delivered::read(&Kept::find(common)?.at.spool, &archive.sink, Stretch::ALL, |_| None)
        .inspect(|delivered| delivered.damage().iter().for_each(|damage| eprintln!("passed over: {damage}")))
        .inspect_err(|error| eprintln!("{error:#}; so the archive is checked by itself alone"))
        .ok();
    let holding = archive.holding.as_ref();
    let mut audit = Audit::new(holding.filing());
    let keys = holding.keys().await.map_err(anyhow::Error::msg)?;
    for key in &keys {
        if !is_key(key) && !holding.filing().is_object(key) {
            audit.leave(key);
        } else if days.name(holding, key) {
            audit.take(key, &holding.read(key).await.map_err(anyhow::Error::msg)?);
        } else {
            audit.pass(key);
        }
    }
    if let Some(delivered) = &delivered {
        let spool = delivered.spool();
        let begin = begin_of(archive, spool, &keys);
        let of_days = |push: &DeliveredPush| days.hold(holding.filing().day(push.received_at));
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            delivered.pushes().filter(of_days).partition(|push| push.position >= begin);
        here.iter().for_each(|push| audit.expect(spool, push.position, archive.sha256_of(push)));
        if let Some(last) = elsewhere.last() {
            eprintln!(
                "{} pushes up to {} were delivered before all that lies here: under another path, bucket or prefix, or they are missing",
                elsewhere.len(),
                last.position
            );
        }
        let beside = |key: &&String| {
            holding.filing().is_object_of(spool, key)
                && !days.name(holding, key)
                && days.may_hold(holding, key)
        };
        for key in keys.iter().filter(beside) {
            if !audit.missing(spool).is_empty() {
                audit.look_beside(spool, key, &holding.read(key).await.map_err(anyhow::Error::msg)?);
            }
        }
    }
    let mut findings = audit.end();
    findings.absent.retain(|absent| days.hold(absent.day));
    tell(common, archive, &findings);
    if findings.is_good() { Ok(()) } else { Err(Said.into()) }
}

/// The first position that must lie here, by all the keys. Manifests vouch for the whole; before there is one, the archive may
/// have been another place.
fn begin_of(archive: &Archive, spool: SpoolId, keys: &[String]) -> u64 {
    let folder = cdr_archive::manifest::folder_of(spool);
    match keys.iter().any(|key| key.starts_with(&folder)) {
        true => 0,
        false => archive.holding.filing().begin_of_place(spool, keys.iter().map(String::as_str)).0,
    }
}

fn tell(common: &Common, archive: &Archive, findings: &Findings) {
    let Findings { objects, pushes, manifests, expected, beside, foreign, absent, faults } = findings;
    if common.wants_json() {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let absent: Vec<_> = absent
            .iter()
            .map(|absent| json!({ "day": absent.day, "manifest": absent.manifest, "positions": absent.positions }))
            .collect();
        say!(
            "{}",
            json!({ "sink": archive.sink, "objects": objects, "pushes": pushes, "manifests": manifests,
                "expected": expected, "beside": beside, "foreign": foreign, "absent": absent, "faults": faults })
        );
        return;
    }
    for fault in faults {
        say!("{fault}");
    }
    if faults.iter().any(|fault| matches!(fault, Fault::Bent { .. })) && !archive.is_masked {
        eprintln!(
            "what was delivered while the sink had a `mask` is not what arrived: no fault, if there was one"
        );
    }
    if *beside > 0 {
        eprintln!(
            "{beside} pushes lie under the day before or after theirs: the archive's time zone was another one"
        );
    }
    for key in foreign {
        eprintln!("{key} is nothing of this archive, and was passed over");
    }
    for Absent { day, manifest, positions } in absent {
        eprintln!(
            "{} pushes of {day} are absent, as {manifest} says, and not there by now: {} (cdr-gateway dead list --sink {})",
            positions.len(),
            cdr_archive::manifest::runs(positions),
            archive.sink
        );
    }
    let verdict = match faults.len() {
        0 => "nothing missing, nothing twice, every body as it arrived".to_owned(),
        1 => "1 fault".to_owned(),
        many => format!("{many} faults"),
    };
    say!(
        "{}: {pushes} pushes in {objects} objects, {expected} of them known to the spool, {manifests} manifests: {verdict}",
        archive.sink
    );
}

async fn manifest(common: &Common, archive: &Archive, faulty: Faulty) -> Ended {
    let kept = Kept::find(common)?;
    let mut is_first = true;
    loop {
        let looked = due::look(archive, &kept.at.spool, faulty, None, Timestamp::now()).await?;
        looked.written.iter().for_each(|manifest| tell_written(common, manifest));
        if looked.written.is_empty() {
            if !common.wants_json() {
                tell_waits(&kept, archive, &looked, is_first);
            }
            return Ok(());
        }
        is_first = false;
    }
}

fn tell_written(common: &Common, manifest: &Manifest) {
    let Manifest { pushes, objects, absent, faults, .. } = manifest;
    let (key, objects) = (manifest.key(), objects.len());
    match common.wants_json() {
        true => {
            say!(
                "{}",
                json!({ "manifest": key, "pushes": pushes, "objects": objects, "absent": absent, "faults": faults })
            );
        }
        false if absent.is_empty() => say!("{key}: {pushes} pushes in {objects} objects"),
        false => say!("{key}: {pushes} pushes in {objects} objects; absent: {absent}"),
    }
    if !common.wants_json() {
        faults.iter().for_each(|fault| say!("  {fault}"));
    }
}

/// Why there are no more.
fn tell_waits(kept: &Kept, archive: &Archive, looked: &Looked, is_first: bool) {
    let next = looked.next;
    let none = if is_first { "no manifest is due" } else { "no other manifest is due" };
    match &looked.waits {
        Some(Waits::Open) => say!("{none}: something of {next} is still open (cdr-gateway sink list)"),
        Some(Waits::DeadLetters { count, until }) => say!(
            "{none}: that of {next} waits for a decision about {count} dead letters until {} (cdr-gateway dead list --sink {})",
            kept.local(*until),
            archive.sink
        ),
        Some(Waits::Parked { owing }) => say!(
            "{none}: that of {next} waits for a decision about {owing}, which is not configured and owes pushes of the day \
             (cdr-gateway sink rename {owing} {sink}, or cdr-gateway sink retire {owing})",
            sink = archive.sink
        ),
        None if is_first => say!("{none}"),
        None => {}
    }
}
