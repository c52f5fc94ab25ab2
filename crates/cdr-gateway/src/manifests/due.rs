//! One look at an archive: which days are over, whether all of them is there, and their manifests.
//!
//! It remembers nothing. Which days have a manifest is read from the archive, what was delivered from the spool's log; so
//! a look that a crash cuts off is made again, by whoever comes next, and writes the same bytes under the same names.
//!
//! What it costs follows from the days that have no manifest yet: the log from their beginning on, the keys of their
//! folders (see [`Filing::below`](cdr_archive::Filing::below)), each of their objects once, and of manifests the newest.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{anyhow, bail};
use bytes::Bytes;
use cdr_archive::{Audit, Fault, Manifest, manifest};
use cdr_core::SpoolId;
use jiff::{SignedDuration, Timestamp, civil::Date};

use super::delivered::{Delivered, DeliveredPush, Stretch, spool_at};
use crate::config::Archive;

/// A day is over so long after its midnight: what arrived a moment before that is stored by then.
pub const SETTLES_IN: SignedDuration = SignedDuration::from_mins(5);

/// So long after it was given up a dead letter holds up the manifest of its day: time for a person to decide about it.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

/// What becomes of a day that does not hold what it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Faulty {
    /// It gets no manifest, and no day behind it does.
    Waits,
    /// A person knows, and has its manifest say what is wrong.
    IsNoted,
}

/// How far an archive's manifests have come.
#[derive(Debug)]
pub struct Looked {
    /// Those that were written now.
    pub written: Vec<Manifest>,
    /// How many pushes were delivered before the first that lies here: to another place, of which no manifest tells.
    pub elsewhere: usize,
    /// The first day that lacks its manifest; all before have one, or held nothing.
    pub next: Date,
    /// What that day waits for; nothing when it is not over.
    pub waits: Option<Waits>,
}

/// What the manifest of a day that is over waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Waits {
    /// Pushes of the day are owed to the archive.
    Open,
    /// Pushes of the day are dead letters, and a person may yet decide about them.
    DeadLetters {
        /// How many.
        count: usize,
        /// When it waits for them no longer.
        until: Timestamp,
    },
    /// A sink that left the configuration owes pushes of the day, and a person may yet hand them over to this one.
    Parked {
        /// Its name.
        owing: String,
    },
}

/// The day that goes on, in the archive's time zone; all before are over.
pub fn today(archive: &Archive, now: Timestamp) -> Date {
    archive.holding.filing().day(now.checked_sub(SETTLES_IN).unwrap_or(now))
}

/// Writes the manifests that are due, of the pushes of the spool at this path. `from` is the day to which earlier looks have come,
/// if one is known. What fails after some were written is met by the next look. Reading the log blocks.
///
/// # Errors
/// The log or the archive cannot be read or written, or the archive does not hold what it should; then no manifest
/// says so.
pub async fn look(
    archive: &Archive,
    spool: &Path,
    faulty: Faulty,
    from: Option<Date>,
    now: Timestamp,
) -> anyhow::Result<Looked> {
    let today = today(archive, now);
    let mut all = look_at_a_day(archive, spool, faulty, from, now).await?;
    while all.waits.is_none() && all.next < today {
        match look_at_a_day(archive, spool, faulty, Some(all.next), now).await {
            Ok(looked) if looked.waits.is_none() && looked.next <= all.next => break,
            Ok(Looked { written, elsewhere, next, waits }) => {
                all.written.extend(written);
                all.elsewhere += elsewhere;
                (all.next, all.waits) = (next, waits);
            }
            // What was written is told first; the next look meets the error again.
            Err(_) if !all.written.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// A look at the first day that has pushes and no manifest: what is known of them is let go before the next.
async fn look_at_a_day(
    archive: &Archive,
    spool: &Path,
    faulty: Faulty,
    from: Option<Date>,
    now: Timestamp,
) -> anyhow::Result<Looked> {
    let (holding, today) = (archive.holding.as_ref(), today(archive, now));
    let folder = manifest::folder_of(spool_at(spool)?);
    let there = holding.keys_in(&folder, &|_| cdr_archive::Below::All).await.map_err(anyhow::Error::msg)?;
    let newest = there.iter().filter_map(|key| manifest::day_of(key)).max();
    let after_newest = newest.and_then(|newest| newest.tomorrow().ok());
    let known = from.max(after_newest);
    if let Some(next) = known.filter(|next| *next >= today) {
        return Ok(Looked { written: Vec::new(), elsewhere: 0, next, waits: None });
    }
    let begin_of = |day: Option<Date>| day.and_then(|day| holding.filing().begin_of(day));
    // What came late since the newest manifest stands in the next one.
    let since = begin_of(after_newest.or(known)).unwrap_or(Timestamp::MIN);
    let stretch = Stretch { since, from: begin_of(known).unwrap_or(Timestamp::MIN), until: None };
    let day = |at| holding.filing().day(at);
    let end_of_day = |at| begin_of(day(at).tomorrow().ok());
    let delivered = Delivered::read(spool, &archive.sink, stretch, end_of_day)?;
    let first = known.or_else(|| delivered.oldest().map(day)).unwrap_or(today);
    let (mut end, mut waits) = settled(&delivered, day, first, today, now);
    if let Some((owing, at)) = delivered.parked(&archive.configured).filter(|(_, at)| day(*at) < end) {
        (end, waits) = (day(at), Some(Waits::Parked { owing: owing.to_owned() }));
    }
    let mut next_with_pushes = end;
    if let Some((until, oldest)) = delivered.until().filter(|(until, _)| day(*until) <= end) {
        (end, next_with_pushes, waits) = (day(until), day(oldest).min(today), None);
    }
    let begin = match newest {
        Some(_) => 0,
        None => begin_of_place(archive, delivered.spool()).await?,
    };
    let is_elsewhere = |push: &DeliveredPush| push.position < begin && day(push.received_at) >= first;
    let elsewhere = delivered.pushes().filter(is_elsewhere).count();
    let mut due = Due {
        begin,
        archive,
        faulty,
        delivered: &delivered,
        days: first..end,
        objects: Vec::new(),
        beside: Vec::new(),
        manifests: Vec::new(),
    };
    if first < end {
        due.find(&there).await?;
        let (written, next) = due.write().await?;
        let is_through = next == end;
        let next = if is_through { next_with_pushes.max(end) } else { next };
        return Ok(Looked { written, elsewhere, next, waits: waits.filter(|_| is_through) });
    }
    Ok(Looked { written: Vec::new(), elsewhere, next: first, waits })
}

/// The first position that lies in the archive, which may have been another place before.
async fn begin_of_place(archive: &Archive, spool: SpoolId) -> anyhow::Result<u64> {
    let keys = archive.holding.keys().await.map_err(anyhow::Error::msg)?;
    Ok(archive.holding.filing().begin_of_place(spool, keys.iter().map(String::as_str)).0)
}

/// The first day from `first` on that is not over, or of which something may yet come; and what.
fn settled(
    delivered: &Delivered,
    day: impl Fn(Timestamp) -> Date,
    first: Date,
    today: Date,
    now: Timestamp,
) -> (Date, Option<Waits>) {
    let open = delivered.oldest_open().map_or(today, &day).min(today);
    let mut held: BTreeMap<Date, (usize, Timestamp)> = BTreeMap::new();
    for given_up in delivered.given_up() {
        let of = day(given_up.received_at);
        let Some(until) = given_up.dead_since.and_then(|since| since.checked_add(GRACE).ok()) else {
            continue;
        };
        if of >= first && until > now {
            let (count, last) = held.entry(of).or_insert((0, until));
            (*count, *last) = (*count + 1, until.max(*last));
        }
    }
    match held.into_iter().next().filter(|(held, _)| *held < open) {
        Some((held, (count, until))) => (held, Some(Waits::DeadLetters { count, until })),
        None => (open, (open < today).then_some(Waits::Open)),
    }
}

/// The days whose manifests are due.
struct Due<'a> {
    archive: &'a Archive,
    faulty: Faulty,
    delivered: &'a Delivered,
    days: std::ops::Range<Date>,
    /// What was delivered before this position lies elsewhere.
    begin: u64,
    /// What lies there of these days, and of days that something came late for; each key with its day, if it tells one.
    objects: Vec<(Option<Date>, String)>,
    /// What lies there of the days before and after these: looked into for what is not found.
    beside: Vec<(Date, String)>,
    /// Those that are there and matter here, and their bytes.
    manifests: Vec<(String, Bytes)>,
}

impl Due<'_> {
    /// Finds what lies there, and of manifests those that matter; `there` are the keys of all of the spool.
    async fn find(&mut self, there: &[String]) -> anyhow::Result<()> {
        (self.objects, self.beside) = self.objects().await?;
        self.manifests = self.manifests(there).await?;
        Ok(())
    }

    /// Checks and notes one day after the other. Gives what was written, and the day behind the last that is done.
    async fn write(&mut self) -> anyhow::Result<(Vec<Manifest>, Date)> {
        let absent = self.absent();
        let mut days: BTreeSet<Date> = self.objects.iter().filter_map(|(day, _)| *day).collect();
        days.extend(self.expected().map(|push| self.day(push.received_at)));
        days.extend(absent.keys());
        days.retain(|day| self.days.contains(day));
        let mut written = Vec::new();
        for day in days {
            match self.note(day, &absent).await {
                Ok(noted) => written.extend(noted),
                // What was written is told first; the next look meets the error again.
                Err(_) if !written.is_empty() => return Ok((written, day)),
                Err(error) => return Err(error),
            }
        }
        Ok((written, self.days.end))
    }

    async fn note(&mut self, day: Date, absent: &BTreeMap<Date, Vec<u64>>) -> anyhow::Result<Vec<Manifest>> {
        let due = self.checked(day, absent).await?;
        for manifest in &due {
            self.add(manifest).await?;
        }
        Ok(due)
    }

    fn day(&self, at: Timestamp) -> Date {
        self.archive.holding.filing().day(at)
    }

    fn expected(&self) -> impl Iterator<Item = DeliveredPush> {
        self.delivered.pushes().skip_while(|push| push.position < self.begin)
    }

    async fn objects(&self) -> anyhow::Result<(Vec<(Option<Date>, String)>, Vec<(Date, String)>)> {
        let holding = self.archive.holding.as_ref();
        let filing = holding.filing();
        let keys = self.delivered.late().filter_map(|receipt| holding.key_of(receipt));
        let late: BTreeSet<Date> =
            keys.filter_map(|key| filing.day_of(key)).filter(|day| *day < self.days.start).collect();
        let is_wanted = |day: Date| self.days.contains(&day) || late.contains(&day);
        let is_beside =
            |day: Date| day.tomorrow().is_ok_and(|after| after == self.days.start) || day == self.days.end;
        let below = |folder: &str| filing.below(folder, |day| is_wanted(day) || is_beside(day));
        let keys = holding.keys_in("", &below).await.map_err(anyhow::Error::msg)?;
        let is_ours = |key: &String| filing.is_object_of(self.delivered.spool(), key);
        let objects = keys.into_iter().filter(is_ours).map(|key| (filing.day_of(&key), key));
        let (wanted, others): (Vec<_>, Vec<_>) = objects.partition(|(day, _)| day.is_none_or(is_wanted));
        let beside =
            others.into_iter().filter_map(|(day, key)| Some((day.filter(|day| is_beside(*day))?, key)));
        Ok((wanted, beside.collect()))
    }

    /// Reads the newest manifest, to be linked to, and those in which the objects may stand.
    async fn manifests(&self, there: &[String]) -> anyhow::Result<Vec<(String, Bytes)>> {
        let mut manifests = Vec::new();
        let newest = there.iter().filter_map(|key| manifest::day_of(key)).max();
        let tells_no_day = self.objects.iter().any(|(day, _)| day.is_none());
        let oldest = self.objects.iter().filter_map(|(day, _)| *day).min();
        for key in there {
            let Some(day) = manifest::day_of(key) else { continue };
            if tells_no_day || Some(day) == newest || oldest.is_some_and(|oldest| day >= oldest) {
                let bytes = self.archive.holding.read(key).await.map_err(anyhow::Error::msg)?;
                manifests.push((key.clone(), bytes));
            }
        }
        Ok(manifests)
    }

    /// What was given up, by its day.
    fn absent(&self) -> BTreeMap<Date, Vec<u64>> {
        let mut absent: BTreeMap<Date, Vec<u64>> = BTreeMap::new();
        for given_up in self.delivered.given_up().filter(|given_up| given_up.position >= self.begin) {
            absent.entry(self.day(given_up.received_at)).or_default().push(given_up.position);
        }
        absent
    }

    /// The manifests that are due up to a day, after a check that what they will say is so.
    async fn checked(&self, day: Date, absent: &BTreeMap<Date, Vec<u64>>) -> anyhow::Result<Vec<Manifest>> {
        let (audit, spool) = (self.audit(day).await?, self.delivered.spool());
        if self.faulty == Faulty::IsNoted {
            let mut absent = absent.clone();
            let of_day = absent.entry(day).or_default();
            of_day.extend(audit.missing(spool));
            of_day.sort_unstable();
            let mut due = audit.due(spool, day, &absent);
            let faults: Vec<String> = audit.end_of_objects().faults.iter().map(ToString::to_string).collect();
            let of_day = due.iter_mut().filter(|manifest| manifest.day == day);
            of_day.for_each(|manifest| manifest.faults.clone_from(&faults));
            return Ok(due);
        }
        let due = audit.due(spool, day, absent);
        let findings = audit.end_of_objects();
        let Some(first) = findings.faults.first() else { return Ok(due) };
        let more = match findings.faults.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more,"),
        };
        let mask = match first {
            Fault::Bent { .. } if !self.archive.is_masked => {
                " (or was delivered while the sink had a `mask`)"
            }
            _ => "",
        };
        bail!(
            "{day} gets no manifest, since what it would say is not so: {first}{mask};{more} see cdr-gateway archive verify --archive {sink}. \
             What cannot be mended is noted by cdr-gateway archive manifest --with-faults --archive {sink}",
            sink = self.archive.sink
        )
    }

    /// What lies there of a day, and what should.
    async fn audit(&self, day: Date) -> anyhow::Result<Audit<'_>> {
        let (holding, spool) = (self.archive.holding.as_ref(), self.delivered.spool());
        let mut audit = Audit::new(holding.filing());
        self.manifests.iter().for_each(|(key, bytes)| audit.take(key, bytes));
        let noted = audit.noted(spool);
        // What stands in a manifest was checked when that was written; `verify` looks again.
        let is_new = |of: &Option<Date>| of.is_none_or(|of| of == day || of < self.days.start);
        for (_, key) in self.objects.iter().filter(|(of, key)| is_new(of) && !noted.has(key)) {
            audit.take(key, &holding.read(key).await.map_err(anyhow::Error::msg)?);
        }
        for push in self.expected().filter(|push| self.day(push.received_at) == day) {
            if !noted.holds(push.position) {
                audit.expect(spool, push.position, self.archive.sha256_of(&push));
            }
        }
        for key in self.near(day) {
            if audit.missing(spool).is_empty() {
                break;
            }
            let bytes = holding.read(key).await.map_err(anyhow::Error::msg)?;
            let is_found = audit.look_beside(spool, key, &bytes);
            // No later day takes it; what lies under a later one stands in the manifest of that.
            if is_found && holding.filing().day_of(key).is_some_and(|of| of < day) {
                audit.take(key, &bytes);
            }
        }
        Ok(audit)
    }

    /// What lies there of the day before and the day after: under another time zone pushes of this one were filed there.
    fn near(&self, day: Date) -> impl Iterator<Item = &str> {
        let objects = self.objects.iter().filter_map(|(of, key)| Some(((*of)?, key)));
        let all = objects.chain(self.beside.iter().map(|(of, key)| (*of, key)));
        let is_near = move |of: Date| {
            of.tomorrow().is_ok_and(|after| after == day) || day.tomorrow().is_ok_and(|after| after == of)
        };
        all.filter(move |(of, _)| is_near(*of)).map(|(_, key)| key.as_str())
    }

    async fn add(&mut self, manifest: &Manifest) -> anyhow::Result<()> {
        let (key, bytes) = (manifest.key(), Bytes::from(manifest.bytes()));
        match self.archive.holding.add(&key, bytes.clone()).await {
            Ok(true) => {
                self.manifests.push((key, bytes));
                Ok(())
            }
            Ok(false) => {
                Err(anyhow!("{key} is there already: somebody else writes manifests at this moment"))
            }
            Err(why) => Err(anyhow!(why)),
        }
    }
}
