//! A push as an archive gives it back.

use std::io;

use bytes::Bytes;
use cdr_core::{Action, Facts, Origin, Position, Push, SpoolId};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::Encoding;

/// A push as an archive gives it back. What a raw object does not hold and its key does not tell is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The spool that held it.
    pub spool: SpoolId,
    /// Its place there.
    pub position: Position,
    /// The `action` of its URL.
    pub action: Option<Action>,
    /// The `version` of its URL.
    pub version: Option<String>,
    /// The header `X-TCCC-PUSH-UUID`.
    pub uuid: Option<String>,
    /// When it arrived, to the millisecond.
    pub received_at: Option<Timestamp>,
    /// SHA-256 of the body as it was when it arrived.
    pub sha256: Option<[u8; 32]>,
    /// The body.
    pub body: Bytes,
}

/// Why an object's bytes are none of an archive.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl Record {
    /// SHA-256 of the body as it is now.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.body).into()
    }

    /// Whether the body is the one that arrived. A raw object says nothing about that.
    pub fn is_intact(&self) -> bool {
        self.sha256.is_none_or(|sha256| sha256 == self.digest())
    }

    /// The push that it was; none when its action is not known. `arrival` is taken where its own is not known.
    pub fn into_push(self, arrival: Timestamp) -> Option<Push> {
        let sha256 = self.digest();
        let facts = Facts {
            action: self.action?,
            version: self.version,
            uuid: self.uuid,
            received_at: self.received_at.unwrap_or(arrival),
            sender: None,
            origin: Origin::Push,
            sha256,
        };
        Some(Push::from_spool(self.spool, self.position, facts, self.body))
    }
}

/// The records of an object of many pushes, by the end of its key; none when it is no such object.
///
/// # Errors
/// The bytes are not what the key says.
pub fn read(key: &str, bytes: &[u8]) -> Option<Result<Vec<Record>, Unreadable>> {
    Encoding::of_key(key).map(|encoding| encoding.read(bytes))
}

/// Whether a record is of this push, in everything.
pub(crate) fn is_of(record: &Record, push: &Push) -> bool {
    let facts = push.facts();
    (record.spool, record.position) == (push.spool(), push.position())
        && record.action.as_ref() == Some(push.action())
        && (&record.version, &record.uuid) == (&facts.version, &facts.uuid)
        && record.received_at.map(Timestamp::as_millisecond) == Some(facts.received_at.as_millisecond())
        && record.sha256 == Some(facts.sha256)
        && record.body == push.body()
}

/// An arrival as the spool keeps it, to the millisecond. Cut, not rounded, as the spool cuts it: the push that came a moment
/// ago must give the same bytes as the one read back.
pub(crate) fn arrival(at: Timestamp) -> String {
    format!("{at:.3}")
}

pub(crate) fn spool(text: &str) -> Result<SpoolId, Unreadable> {
    let mut id = [0; 8];
    match hex::decode_to_slice(text, &mut id) {
        Ok(()) => Ok(SpoolId(id)),
        Err(_) => Err(Unreadable::new("it names no spool")),
    }
}

pub(crate) fn sha256(text: &str) -> Result<[u8; 32], Unreadable> {
    let mut digest = [0; 32];
    match hex::decode_to_slice(text, &mut digest) {
        Ok(()) => Ok(digest),
        Err(_) => Err(Unreadable::new("its SHA-256 is none")),
    }
}
