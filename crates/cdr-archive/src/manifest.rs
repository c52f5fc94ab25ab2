//! What an archive held when a day was over: a manifest for each day and spool, each naming the one before by its SHA-256, so
//! that a day that is taken away, or put in later, shows.
//!
//! It lies beside the objects, under `_manifest/{spool}/{day}.json`, and is written once the day is over and nothing of it is
//! open any more. It follows from the objects that are there by then, and is never written again: an object that comes
//! later, such as of a dead letter that somebody retried, stands in the manifest of the next day that is written. So a crash at
//! any moment leaves either none, and the next run makes it, or the whole.
//!
//! What was given up by then is not there, and its manifest says so instead of passing over it: [`Manifest::absent`].

use std::collections::{BTreeMap, BTreeSet};

use cdr_core::SpoolId;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{audit::Held, record};

/// Where manifests lie. Query engines take names that begin with `_` for none of the data.
const FOLDER: &str = "_manifest/";

/// Who changes what it holds changes this.
const FORMAT: &str = "manifest-1";

/// What an archive held of a spool when a day was over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    /// Identity of the spool.
    pub spool: String,
    /// The day, in the archive's time zone.
    pub day: Date,
    /// How many pushes its objects hold.
    pub pushes: u64,
    /// The lowest position among them.
    pub first: Option<u64>,
    /// The highest.
    pub last: Option<u64>,
    /// Its objects, by key.
    pub objects: Vec<Listed>,
    /// Positions of pushes of the day that were owed to the archive and given up before this was written, such as `1-5,7`:
    /// dead letters, and what a person discarded; and, beside its [`faults`](Self::faults), what was missing. Those that come
    /// after all stand in a later manifest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub absent: String,
    /// What was found wrong with the day, when a person had its manifest written in spite of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// The manifest before; none in the first.
    pub previous: Option<Link>,
}

/// An object in a manifest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Its key, behind the prefix of the archive.
    pub key: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Its positions, such as `1-5,7`.
    pub positions: String,
}

/// A manifest that another one names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Its key.
    pub key: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

impl Manifest {
    /// The manifest of these objects, which must be of this spool, and of these positions, growing, that were given up.
    pub fn of(spool: SpoolId, day: Date, objects: &[&Held], absent: &[u64], previous: Option<Link>) -> Self {
        let positions = || objects.iter().flat_map(|object| &object.positions).copied();
        let mut listed: Vec<Listed> = objects.iter().map(|object| Listed::of(object)).collect();
        listed.sort_by(|one, other| one.key.cmp(&other.key));
        Self {
            format: FORMAT.to_owned(),
            spool: spool.to_string(),
            day,
            pushes: positions().count() as u64,
            first: positions().min(),
            last: positions().max(),
            objects: listed,
            absent: runs(absent),
            faults: Vec::new(),
            previous,
        }
    }

    /// Where it lies.
    pub fn key(&self) -> String {
        format!("{FOLDER}{}/{}.json", self.spool, self.day)
    }

    /// Its bytes, as people can read them, too.
    pub fn bytes(&self) -> Vec<u8> {
        // Texts and numbers: nothing that JSON could refuse.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads one; it must lie where it says.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn read(key: &str, bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!("it is of the form {:?}, which a newer version writes", manifest.format));
        }
        match manifest.key() == key && record::spool(&manifest.spool).is_ok() {
            true => Ok(manifest),
            false => Err(format!("it is that of {}, and lies in another's place", manifest.key())),
        }
    }
}

impl Listed {
    fn of(object: &Held) -> Self {
        Self {
            key: object.key.clone(),
            sha256: hex::encode(object.sha256),
            positions: runs(&object.positions),
        }
    }

    /// Whether the object that is there is still this one.
    pub(crate) fn is(&self, object: &Held) -> bool {
        *self == Self::of(object)
    }
}

/// What stands in manifests.
#[derive(Clone, Default, Debug)]
pub struct Noted {
    /// The day of the newest.
    pub newest: Option<Date>,
    keys: BTreeSet<String>,
    /// Runs of positions, the last of each by its first.
    positions: BTreeMap<u64, u64>,
}

impl Noted {
    pub(crate) fn take(&mut self, manifest: Manifest) {
        self.newest = self.newest.max(Some(manifest.day));
        for Listed { key, positions, .. } in manifest.objects {
            self.positions.extend(read_runs(&positions));
            self.keys.insert(key);
        }
    }

    /// Whether an object stands there.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Whether an object that stands there holds this position.
    pub fn holds(&self, position: u64) -> bool {
        self.positions.range(..=position).next_back().is_some_and(|(_, &last)| position <= last)
    }
}

impl Link {
    /// The link to a manifest of these bytes.
    pub fn to(key: &str, bytes: &[u8]) -> Self {
        Self { key: key.to_owned(), sha256: hex::encode(Sha256::digest(bytes)) }
    }
}

/// Whether a key is that of a manifest.
pub fn is_key(key: &str) -> bool {
    day_of(key).is_some()
}

/// The day of the manifest under a key; none when it is no manifest's.
pub fn day_of(key: &str) -> Option<Date> {
    let (spool, day) = key.strip_prefix(FOLDER)?.strip_suffix(".json")?.split_once('/')?;
    record::spool(spool).ok().and_then(|_| day.parse().ok())
}

/// The folder of a spool's manifests.
pub fn folder_of(spool: SpoolId) -> String {
    format!("{FOLDER}{spool}/")
}

/// Whether a folder is that of some spool's manifests.
pub(crate) fn is_folder(folder: &str) -> bool {
    let name = folder.strip_prefix(FOLDER).and_then(|rest| rest.strip_suffix('/'));
    name.is_some_and(|name| record::spool(name).is_ok())
}

/// Growing positions as people write them: `1-5,7`.
pub fn runs(positions: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &position in positions {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(position) => *last = position,
            _ => runs.push((position, position)),
        }
    }
    let text = |(first, last): (u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(",")
}

/// The runs of a text that [`runs`] made, first and last of each; what is no such text has none.
fn read_runs(text: &str) -> impl Iterator<Item = (u64, u64)> {
    text.split(',').filter_map(|run| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        Some((first.parse().ok()?, last.parse().ok()?))
    })
}

/// The positions of a text that [`runs`] made; no more than `most`, whatever it claims.
pub(crate) fn positions(text: &str, most: usize) -> Vec<u64> {
    read_runs(text).flat_map(|(first, last)| first..=last).take(most).collect()
}
