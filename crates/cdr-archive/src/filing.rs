//! From pushes to objects: which share one, under which seal, and what a batch becomes.

use std::sync::Arc;

use bytes::Bytes;
use cdr_core::{Batch, Batching, Partition, Position, Push, Seal, SpoolId};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde_json::json;

use crate::{
    Encoding, KeyTemplate, Object, Record, Unreadable,
    holding::Below,
    key::{self, Folder, Named, Place},
    manifest, record,
};

/// The very bytes of a push are JSON.
const RAW_EXT: &str = "json";

/// How an archive is filed: the settings, checked.
#[derive(Clone, Debug)]
pub struct Filing {
    pub(crate) key: KeyTemplate,
    pub(crate) timezone: TimeZone,
    /// None when each push is an object by itself.
    pub(crate) encoding: Option<Encoding>,
    pub(crate) batching: Batching,
    pub(crate) manifest: bool,
}

impl Filing {
    /// Whether each day that is over shall get its manifest.
    pub fn wants_manifests(&self) -> bool {
        self.manifest
    }

    /// How many share an object; none in the raw layout.
    pub fn batching(&self) -> Option<Batching> {
        self.encoding.map(|_| self.batching)
    }

    /// How the names of its objects end.
    pub fn ext(&self) -> &'static str {
        self.encoding.map_or(RAW_EXT, Encoding::ext)
    }

    /// Pushes whose objects would lie in different places never share one. In the raw layout none do, and nothing keeps
    /// them apart.
    pub fn partition(&self, push: &Push) -> Partition {
        match self.encoding {
            Some(_) => Partition(self.key.partition(push, &self.timezone).into()),
            None => Partition::ONE,
        }
    }

    /// Names the object of a batch. None for what becomes raw objects: the raw layout, and pushes of several places,
    /// gathered under other settings before a reload.
    ///
    /// `prefix` stands before every key.
    pub fn seal(&self, prefix: &str, batch: &Batch) -> Option<Seal> {
        let encoding = self.encoding?;
        let first = &batch.first().push;
        let place = self.key.partition(first, &self.timezone);
        let shared =
            |push: &Push| push.spool() == first.spool() && self.key.partition(push, &self.timezone) == place;
        if !batch.pushes().skip(1).all(|push| shared(push)) {
            return None;
        }
        let pushes: Vec<_> = batch.pushes().cloned().collect();
        let place = Place { pushes: &pushes, timezone: &self.timezone, ext: encoding.ext() };
        Some(Seal { key: format!("{prefix}{}", self.key.of(&place)), facts: json!(encoding) })
    }

    /// What a batch becomes: the one object of its seal, else an object for each push.
    ///
    /// A seal outlives the settings under which it was made, even the kind of sink. One that is none of ours, or whose key
    /// would leave the archive, counts as none.
    pub fn objects(&self, prefix: &str, batch: &Batch) -> Vec<Object> {
        let pushes: Vec<_> = batch.pushes().cloned().collect();
        if let Some((key, encoding)) = batch.seal().and_then(sealed) {
            return vec![Object::of_many(key, encoding, pushes)];
        }
        // Other settings' names may lack what a lone push needs, so those of the raw layout's own serve them.
        let template = match self.encoding {
            None => &self.key,
            Some(_) => KeyTemplate::usual_of_raw(),
        };
        let object = |push: Arc<Push>| {
            let place = Place { pushes: std::slice::from_ref(&push), timezone: &self.timezone, ext: RAW_EXT };
            Object::of_one(format!("{prefix}{}", template.of(&place)), push)
        };
        pushes.into_iter().map(object).collect()
    }

    /// How objects are named.
    pub fn key(&self) -> &KeyTemplate {
        &self.key
    }

    /// What lies under a key, which may have been made under other settings; none when it is nothing of an archive.
    pub fn read(&self, key: &str, bytes: &[u8]) -> Option<Result<Vec<Record>, Unreadable>> {
        record::read(key, bytes).or_else(|| {
            let Named { spool, position, action, .. } = self.named(key).filter(|_| key.ends_with(RAW_EXT))?;
            let body = Bytes::copy_from_slice(bytes);
            let (version, uuid, received_at, sha256) = (None, None, None, None);
            Some(Ok(vec![Record { spool, position, action, version, uuid, received_at, sha256, body }]))
        })
    }

    /// Whether something may be an object of an archive, by its name alone, which may have been made under other settings: what
    /// others keep in the same place is of any size, and not read to learn that it is theirs.
    pub fn is_object(&self, key: &str) -> bool {
        match Encoding::of_key(key) {
            Some(_) => key::may_name_a_push(key),
            None => key.ends_with(RAW_EXT) && self.named(key).is_some(),
        }
    }

    /// Whether it may be one of this spool's.
    pub fn is_object_of(&self, spool: SpoolId, key: &str) -> bool {
        let is_of = |named: Option<Named>| match named {
            Some(named) => named.spool == spool,
            None => key.contains(&spool.to_string()),
        };
        self.is_object(key) && is_of(self.named(key))
    }

    /// The first position of an object, as its key tells it; none when that is of settings of which nothing is known.
    pub fn first_of(&self, key: &str) -> Option<Position> {
        Some(self.named(key)?.position)
    }

    /// The first position that lies in a place, by the keys of all that lies there: before it something was delivered to another
    /// place. 0 when they do not tell, or there are none.
    pub fn begin_of_place<'k>(&self, spool: SpoolId, keys: impl IntoIterator<Item = &'k str>) -> Position {
        let own = keys.into_iter().filter(|key| self.is_object_of(spool, key));
        own.map(|key| self.first_of(key).unwrap_or(Position(0))).min().unwrap_or(Position(0))
    }

    /// The day that a key tells; none when it tells none.
    pub fn day_of(&self, key: &str) -> Option<Date> {
        self.named(key)?.day
    }

    /// How much of what lies below a folder may be pushes of days that are wanted. What was filed under other settings may
    /// be of any day.
    pub fn below(&self, folder: &str, is_wanted: impl Fn(Date) -> bool) -> Below {
        // Both usual templates have the same folders.
        let usual = || KeyTemplate::usual_of_many().folder(folder);
        match self.key.folder(folder).or_else(usual) {
            _ if manifest::is_folder(folder) => Below::Nothing,
            Some(Folder::OfDay(day)) if !is_wanted(day) => Below::Nothing,
            Some(Folder::AboveDays) => Below::Folders,
            Some(Folder::OfDay(_) | Folder::OfAnyDay) | None => Below::All,
        }
    }

    /// The day of an arrival, in the archive's time zone.
    pub fn day(&self, arrival: Timestamp) -> Date {
        arrival.to_zoned(self.timezone.clone()).date()
    }

    /// When a day begins, in the archive's time zone.
    pub fn begin_of(&self, day: Date) -> Option<Timestamp> {
        day.to_zoned(self.timezone.clone()).ok().map(|begin| begin.timestamp())
    }

    /// By the key of today, else by those that are usual.
    fn named(&self, key: &str) -> Option<Named> {
        let usual =
            || KeyTemplate::usual_of_raw().push_of(key).or_else(|| KeyTemplate::usual_of_many().push_of(key));
        self.key.push_of(key).or_else(usual)
    }
}

/// Key and form of a seal of ours.
fn sealed(seal: &Seal) -> Option<(String, Encoding)> {
    let encoding = serde_json::from_value(seal.facts.clone()).ok()?;
    key::is_safe(&seal.key).then(|| (seal.key.clone(), encoding))
}
