//! Checking an archive: what it holds, against what its manifests and its spool say.
//!
//! Takes in one object after the other, keeps of each push its position and digest (40 bytes), and tells in the end what is
//! missing, there twice, or not what it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use cdr_core::SpoolId;
use jiff::civil::Date;
use sha2::{Digest, Sha256};

use crate::{
    Filing, Manifest, Record,
    manifest::{self, Link},
};

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
    /// Keys that are nothing of ours.
    pub foreign: Vec<String>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// A check under way.
pub struct Audit<'a> {
    filing: &'a Filing,
    objects: BTreeMap<String, Held>,
    /// Keys that are there and were not looked into.
    passed: BTreeSet<String>,
    /// Of each push the digest of its body, and the object that holds it.
    found: BTreeMap<(SpoolKey, u64), ([u8; 32], String)>,
    manifests: BTreeMap<String, Vec<u8>>,
    expected: usize,
    missing: BTreeMap<SpoolKey, Vec<u64>>,
    foreign: Vec<String>,
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
            foreign: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Notes that an object is there, without looking into it.
    pub fn pass(&mut self, key: &str) {
        self.passed.insert(key.to_owned());
    }

    /// Takes in what lies under a key.
    pub fn take(&mut self, key: &str, bytes: &[u8]) {
        if manifest::is_key(key) {
            self.manifests.insert(key.to_owned(), bytes.to_vec());
            return;
        }
        match self.filing.read(key, bytes) {
            None => self.foreign.push(key.to_owned()),
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
        for record in records {
            let position = record.position.0;
            if !record.is_intact() {
                self.faults.push(Fault::Bent { position, key: key.to_owned() });
            }
            let there = (record.digest(), key.to_owned());
            if let Some((_, first)) = self.found.insert((record.spool.0, position), there) {
                self.faults.push(Fault::Twice { position, first, second: key.to_owned() });
            }
        }
        let positions = records.iter().map(|record| record.position.0).collect();
        let sha256 = Sha256::digest(bytes).into();
        self.objects
            .insert(key.to_owned(), Held { key: key.to_owned(), spool: first.spool, day, sha256, positions });
    }

    /// The spool says that this push was delivered, and what its body was.
    pub fn expect(&mut self, spool: SpoolId, position: u64, sha256: [u8; 32]) {
        self.expected += 1;
        match self.found.get(&(spool.0, position)) {
            None => self.missing.entry(spool.0).or_default().push(position),
            Some((digest, key)) if *digest != sha256 => {
                self.faults.push(Fault::Bent { position, key: key.clone() });
            }
            Some(_) => {}
        }
    }

    /// The keys that stand in manifests of a spool, and the day of the newest of these.
    pub fn listed(&self, spool: SpoolId) -> (BTreeSet<String>, Option<Date>) {
        let all = self.manifests.iter().filter_map(|(key, bytes)| Manifest::read(key, bytes).ok());
        let of_spool = all.filter(|manifest| manifest.spool == spool.to_string());
        let (mut listed, mut newest) = (BTreeSet::new(), None);
        for manifest in of_spool {
            newest = newest.max(Some(manifest.day));
            listed.extend(manifest.objects.into_iter().map(|object| object.key));
        }
        (listed, newest)
    }

    /// The manifests of a spool that are due: those of days up to `last`, each linked to the one before. None of what
    /// stands in a manifest already.
    pub fn due(&self, spool: SpoolId, last: Date) -> Vec<Manifest> {
        let (listed, newest) = self.listed(spool);
        // Their keys sort as their days.
        let of_spool = |(key, bytes): &(&String, &Vec<u8>)| {
            Manifest::read(key, bytes).is_ok_and(|manifest| manifest.spool == spool.to_string())
        };
        let mut previous = self.manifests.iter().rfind(of_spool).map(|(key, bytes)| Link::to(key, bytes));
        // What came late for a day that has its manifest stands in the next one.
        let mut days: BTreeMap<Date, Vec<&Held>> = BTreeMap::new();
        let mut late = Vec::new();
        for object in
            self.objects.values().filter(|object| object.spool == spool && !listed.contains(&object.key))
        {
            match object.day {
                Some(day) if newest.is_none_or(|newest| day > newest) => {
                    days.entry(day).or_default().push(object)
                }
                _ => late.push(object),
            }
        }
        let mut due = Vec::new();
        for (day, mut objects) in days.into_iter().take_while(|(day, _)| *day <= last) {
            objects.append(&mut late);
            let Some(manifest) = Manifest::of(spool, day, &objects, previous.take()) else { continue };
            previous = Some(Link::to(&manifest.key(), &manifest.bytes()));
            due.push(manifest);
        }
        due
    }

    /// What was found.
    pub fn end(mut self) -> Findings {
        let manifests = self.check_manifests();
        for (spool, mut positions) in std::mem::take(&mut self.missing) {
            positions.sort_unstable();
            self.faults.push(Fault::Missing { spool: SpoolId(spool), positions });
        }
        Findings {
            objects: self.objects.len(),
            pushes: self.found.len(),
            manifests,
            expected: self.expected,
            foreign: self.foreign,
            faults: self.faults,
        }
    }

    /// How many fit. The keys of a spool's manifests sort as its days.
    fn check_manifests(&mut self) -> usize {
        let (mut fit, mut before): (usize, Option<(String, Link)>) = (0, None);
        for (key, bytes) in std::mem::take(&mut self.manifests) {
            let mut wrong = |why: String| self.faults.push(Fault::Manifest { key: key.clone(), why });
            let manifest = match Manifest::read(&key, &bytes) {
                Ok(manifest) => manifest,
                Err(why) => {
                    wrong(why);
                    continue;
                }
            };
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
            doubts.into_iter().for_each(&mut wrong);
            before = Some((manifest.spool, Link::to(&key, &bytes)));
        }
        fit
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
