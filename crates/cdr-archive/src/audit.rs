//! Checking an archive: what it holds, against what its manifests and its spool say.
//!
//! Takes in one object after the other, keeps of each push its position and digest (40 bytes), and tells in the end what is
//! missing, there twice, or not what it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use cdr_core::SpoolId;
use jiff::civil::Date;
use sha2::{Digest, Sha256};

use crate::{
    Filing, Manifest, Record,
    manifest::{self, Link, Noted},
    record,
};

/// So many absent positions of a manifest are looked for: a text of a few letters can claim any number.
const MOST_ABSENT: usize = 100_000;

/// An object as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its key.
    pub key: String,
    /// The spool of its pushes.
    pub spool: SpoolId,
    /// The day that it belongs to, as its key says or the arrival of its first push.
    pub day: Option<Date>,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// The positions that it holds, growing.
    pub positions: Vec<u64>,
}

/// What is wrong with an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Pushes that were delivered there, and are not there.
    Missing {
        /// Their spool.
        spool: SpoolId,
        /// Their positions, growing.
        positions: Vec<u64>,
    },
    /// A push is there more than once.
    Twice {
        /// Its position.
        position: u64,
        /// The first object that holds it.
        first: String,
        /// Another one.
        second: String,
    },
    /// A body is not the one that arrived.
    Bent {
        /// Its position.
        position: u64,
        /// The object.
        key: String,
    },
    /// An object cannot be read back.
    Unreadable {
        /// Its key.
        key: String,
        /// Why.
        why: String,
    },
    /// A manifest, or what it says, does not fit.
    Manifest {
        /// Its key.
        key: String,
        /// What does not fit.
        why: String,
    },
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    /// Objects of pushes.
    pub objects: usize,
    /// Pushes in them.
    pub pushes: usize,
    /// Manifests that fit.
    pub manifests: usize,
    /// How many pushes the spool said to be there.
    pub expected: usize,
    /// How many of them lie under the day before or after their own, since the archive's time zone was another one.
    pub beside: usize,
    /// Keys that are nothing of ours.
    pub foreign: Vec<String>,
    /// What manifests say was given up, and is still not there.
    pub absent: Vec<Absent>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Pushes of a day that were given up before its manifest was written, and were not found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Absent {
    /// The day.
    pub day: Date,
    /// The manifest that says so.
    pub manifest: String,
    /// Their positions, growing.
    pub positions: Vec<u64>,
}

/// A check under way.
pub struct Audit<'a> {
    filing: &'a Filing,
    objects: BTreeMap<String, Held>,
    /// Keys that are there and were not looked into.
    passed: BTreeSet<String>,
    /// Of each push the digest of its body, and the object that holds it.
    found: BTreeMap<(SpoolKey, u64), ([u8; 32], Arc<str>)>,
    manifests: BTreeMap<String, Vec<u8>>,
    expected: usize,
    missing: BTreeMap<SpoolKey, Vec<u64>>,
    beside: usize,
    foreign: Vec<String>,
    absent: Vec<Absent>,
    faults: Vec<Fault>,
}

/// Spools have no order of their own.
type SpoolKey = [u8; 8];

impl<'a> Audit<'a> {
    /// Nothing was looked at yet.
    pub fn new(filing: &'a Filing) -> Self {
        Self {
            filing,
            objects: BTreeMap::new(),
            passed: BTreeSet::new(),
            found: BTreeMap::new(),
            manifests: BTreeMap::new(),
            expected: 0,
            missing: BTreeMap::new(),
            beside: 0,
            foreign: Vec::new(),
            absent: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Notes that an object is there, without looking into it.
    pub fn pass(&mut self, key: &str) {
        self.passed.insert(key.to_owned());
    }

    /// Notes what is nothing of an archive by its name.
    pub fn leave(&mut self, key: &str) {
        self.foreign.push(key.to_owned());
    }

    /// Takes in what lies under a key.
    pub fn take(&mut self, key: &str, bytes: &[u8]) {
        if manifest::is_key(key) {
            self.manifests.insert(key.to_owned(), bytes.to_vec());
            return;
        }
        match self.filing.read(key, bytes) {
            None => self.leave(key),
            Some(Err(why)) => {
                self.faults.push(Fault::Unreadable { key: key.to_owned(), why: why.to_string() });
            }
            Some(Ok(records)) => self.hold(key, bytes, &records),
        }
    }

    fn hold(&mut self, key: &str, bytes: &[u8], records: &[Record]) {
        let Some(first) = records.first() else {
            let why = "it holds no push".to_owned();
            return self.faults.push(Fault::Unreadable { key: key.to_owned(), why });
        };
        let day = self.filing.day_of(key).or_else(|| first.received_at.map(|at| self.filing.day(at)));
        let shared: Arc<str> = key.into();
        for record in records {
            let position = record.position.0;
            if !record.is_intact() {
                self.faults.push(Fault::Bent { position, key: key.to_owned() });
            }
            let there = (record.digest(), Arc::clone(&shared));
            if let Some((_, first)) = self.found.insert((record.spool.0, position), there) {
                self.faults.push(Fault::Twice { position, first: first.to_string(), second: key.to_owned() });
            }
        }
        let positions = records.iter().map(|record| record.position.0).collect();
        let sha256 = Sha256::digest(bytes).into();
        self.objects
            .insert(key.to_owned(), Held { key: key.to_owned(), spool: first.spool, day, sha256, positions });
    }

    /// The spool says that this push was delivered, and what its body was; none when the archive got another one, with
    /// numbers masked.
    pub fn expect(&mut self, spool: SpoolId, position: u64, sha256: Option<[u8; 32]>) {
        self.expected += 1;
        match self.found.get(&(spool.0, position)) {
            None => self.missing.entry(spool.0).or_default().push(position),
            Some((digest, key)) if sha256.is_some_and(|sha256| sha256 != *digest) => {
                self.faults.push(Fault::Bent { position, key: key.to_string() });
            }
            Some(_) => {}
        }
    }

    /// What was expected of a spool and not found.
    pub fn missing(&self, spool: SpoolId) -> &[u64] {
        self.missing.get(&spool.0).map_or(&[], Vec::as_slice)
    }

    /// Looks for what is missing of a spool in an object of the day before or after, which is no part of this check: there it lies
    /// when the archive's time zone was another one. Whether something was found.
    pub fn look_beside(&mut self, spool: SpoolId, key: &str, bytes: &[u8]) -> bool {
        let Some(Ok(records)) = self.filing.read(key, bytes) else { return false };
        let Some(missing) = self.missing.get_mut(&spool.0) else { return false };
        let before = missing.len();
        for record in records.iter().filter(|record| record.spool == spool) {
            let position = record.position.0;
            let Some(at) = missing.iter().position(|missing| *missing == position) else { continue };
            missing.remove(at);
            if !record.is_intact() {
                self.faults.push(Fault::Bent { position, key: key.to_owned() });
            }
        }
        let found = before - missing.len();
        self.beside += found;
        if missing.is_empty() {
            self.missing.remove(&spool.0);
        }
        found > 0
    }

    /// What stands in the manifests of a spool.
    pub fn noted(&self, spool: SpoolId) -> Noted {
        let all = self.manifests.iter().filter_map(|(key, bytes)| Manifest::read(key, bytes).ok());
        let mut noted = Noted::default();
        all.filter(|manifest| manifest.spool == spool.to_string()).for_each(|manifest| noted.take(manifest));
        noted
    }

    /// The manifests of a spool that are due: those of days up to `last`, each linked to the one before. None of what
    /// stands in a manifest already. `absent` are the positions of each day that were given up, growing.
    pub fn due(&self, spool: SpoolId, last: Date, absent: &BTreeMap<Date, Vec<u64>>) -> Vec<Manifest> {
        let noted = self.noted(spool);
        let is_new = |day: Date| noted.newest.is_none_or(|newest| day > newest);
        // Their keys sort as their days.
        let of_spool = |(key, bytes): &(&String, &Vec<u8>)| {
            Manifest::read(key, bytes).is_ok_and(|manifest| manifest.spool == spool.to_string())
        };
        let mut previous = self.manifests.iter().rfind(of_spool).map(|(key, bytes)| Link::to(key, bytes));
        // What came late for a day that has its manifest stands in the next one.
        let mut days: BTreeMap<Date, Vec<&Held>> = BTreeMap::new();
        let mut late = Vec::new();
        for object in self.objects.values().filter(|object| object.spool == spool && !noted.has(&object.key))
        {
            match object.day {
                Some(day) if is_new(day) => days.entry(day).or_default().push(object),
                _ => late.push(object),
            }
        }
        for (&day, _) in absent.iter().filter(|(day, positions)| is_new(**day) && !positions.is_empty()) {
            days.entry(day).or_default();
        }
        let mut due = Vec::new();
        for (day, mut objects) in days.into_iter().take_while(|(day, _)| *day <= last) {
            objects.append(&mut late);
            let absent = absent.get(&day).map_or(&[][..], Vec::as_slice);
            let manifest = Manifest::of(spool, day, &objects, absent, previous.take());
            previous = Some(Link::to(&manifest.key(), &manifest.bytes()));
            due.push(manifest);
        }
        due
    }

    /// What was found.
    pub fn end(mut self) -> Findings {
        let manifests = self.check_manifests();
        self.findings(manifests)
    }

    /// What was found in what was looked at. Whether manifests still fit is left out, which is for who looks at all of them
    /// and at all that they name.
    pub fn end_of_objects(self) -> Findings {
        self.findings(0)
    }

    fn findings(mut self, manifests: usize) -> Findings {
        for (spool, mut positions) in std::mem::take(&mut self.missing) {
            positions.sort_unstable();
            self.faults.push(Fault::Missing { spool: SpoolId(spool), positions });
        }
        Findings {
            objects: self.objects.len(),
            pushes: self.found.len(),
            manifests,
            expected: self.expected,
            beside: self.beside,
            foreign: self.foreign,
            absent: self.absent,
            faults: self.faults,
        }
    }

    /// How many fit. The keys of a spool's manifests sort as its days.
    fn check_manifests(&mut self) -> usize {
        let (mut fit, mut before): (usize, Option<(String, Link)>) = (0, None);
        for (key, bytes) in std::mem::take(&mut self.manifests) {
            let wrong = |why: String| Fault::Manifest { key: key.clone(), why };
            let manifest = match Manifest::read(&key, &bytes) {
                Ok(manifest) => manifest,
                Err(why) => {
                    self.faults.push(wrong(why));
                    continue;
                }
            };
            self.look_for_absent(&manifest);
            let previous = before.take().filter(|(spool, _)| *spool == manifest.spool).map(|(_, link)| link);
            let mut doubts = Vec::new();
            match (&manifest.previous, &previous) {
                (named, there) if named == there => {}
                (Some(named), Some(there)) if named.key == there.key => {
                    doubts.push(format!("{} is not the one that it names any more", named.key));
                }
                (Some(named), _) => doubts.push(format!("{}, which it names, is gone", named.key)),
                (None, _) => doubts.push("it claims to be the first, and is not".to_owned()),
            }
            for listed in &manifest.objects {
                match self.objects.get(&listed.key) {
                    None if self.passed.contains(&listed.key) => {}
                    None => doubts.push(format!("{} is gone (positions {})", listed.key, listed.positions)),
                    Some(object) if !listed.is(object) => {
                        doubts.push(format!("{} is not the same any more", listed.key));
                    }
                    Some(_) => {}
                }
            }
            fit += usize::from(doubts.is_empty());
            self.faults.extend(doubts.into_iter().map(wrong));
            before = Some((manifest.spool, Link::to(&key, &bytes)));
        }
        fit
    }

    fn look_for_absent(&mut self, manifest: &Manifest) {
        let Ok(spool) = record::spool(&manifest.spool) else { return };
        let mut positions = manifest::positions(&manifest.absent, MOST_ABSENT);
        positions.retain(|&position| !self.found.contains_key(&(spool.0, position)));
        if !positions.is_empty() {
            self.absent.push(Absent { day: manifest.day, manifest: manifest.key(), positions });
        }
    }
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { spool, positions } => write!(
                f,
                "{} pushes of spool {spool} were delivered and are not there: {}",
                positions.len(),
                manifest::runs(positions)
            ),
            Self::Twice { position, first, second } => {
                write!(f, "push {position} is there twice: in {first} and in {second}")
            }
            Self::Bent { position, key } => {
                write!(f, "the body of push {position} in {key} is not the one that arrived")
            }
            Self::Unreadable { key, why } => write!(f, "{key} cannot be read back: {why}"),
            Self::Manifest { key, why } => write!(f, "{key}: {why}"),
        }
    }
}
