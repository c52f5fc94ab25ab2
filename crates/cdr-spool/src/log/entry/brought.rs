//! What senders brought: pushes, and what lies in quarantine.

use bytes::Bytes;

use crate::log::codec::{Put, Take};
use crate::{Key, Position, StoredPush, StoredQuarantine};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PushEntry<'a> {
    pub(crate) position: Position,
    pub(crate) received_at_ms: i64,
    pub(crate) sha256: &'a [u8; 32],
    pub(crate) action: &'a str,
    pub(crate) uuid: Option<&'a str>,
    pub(crate) facts: &'a [u8],
    pub(crate) body: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuarantineEntry<'a> {
    pub(crate) position: Position,
    pub(crate) received_at_ms: i64,
    pub(crate) sha256: &'a [u8; 32],
    pub(crate) reason: &'a str,
    pub(crate) facts: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> PushEntry<'a> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_fixed64(self.position.0);
        out.put_fixed64(self.received_at_ms as u64);
        out.extend_from_slice(self.sha256);
        out.put_bytes(self.action.as_bytes());
        // An empty UUID is a UUID: the length is told plus one, and 0 is none.
        out.put_varint(self.uuid.map_or(0, |u| u.len() as u64 + 1));
        out.extend_from_slice(self.uuid.unwrap_or_default().as_bytes());
        out.put_bytes(self.facts);
        out.put_bytes(self.body);
    }

    pub(super) fn take(take: &mut Take<'a>) -> Option<Self> {
        Some(Self {
            position: Position(take.fixed64()?),
            received_at_ms: take.fixed64()? as i64,
            sha256: take.raw(32)?.first_chunk()?,
            action: take.text()?,
            uuid: match take.varint()? {
                0 => None,
                length => Some(std::str::from_utf8(take.raw((length - 1).try_into().ok()?)?).ok()?),
            },
            facts: take.bytes()?,
            body: take.bytes()?,
        })
    }

    /// An allocation of its own: whoever keeps one push must not keep the whole chunk that it was read with.
    pub(crate) fn to_stored(self) -> StoredPush {
        let (facts, body) = own(self.facts, self.body);
        StoredPush {
            position: self.position,
            received_at_ms: self.received_at_ms,
            facts,
            body,
            key: Key {
                action: self.action.to_owned(),
                uuid: self.uuid.map(str::to_owned),
                sha256: *self.sha256,
            },
        }
    }
}

impl<'a> QuarantineEntry<'a> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_fixed64(self.position.0);
        out.put_fixed64(self.received_at_ms as u64);
        out.extend_from_slice(self.sha256);
        out.put_bytes(self.reason.as_bytes());
        out.put_bytes(self.facts);
        out.put_bytes(self.body);
    }

    pub(super) fn take(take: &mut Take<'a>) -> Option<Self> {
        Some(Self {
            position: Position(take.fixed64()?),
            received_at_ms: take.fixed64()? as i64,
            sha256: take.raw(32)?.first_chunk()?,
            reason: take.text()?,
            facts: take.bytes()?,
            body: take.bytes()?,
        })
    }

    pub(crate) fn to_stored(self) -> StoredQuarantine {
        let (facts, body) = own(self.facts, self.body);
        StoredQuarantine {
            position: self.position,
            received_at_ms: self.received_at_ms,
            sha256: *self.sha256,
            facts,
            body,
            reason: self.reason.to_owned(),
        }
    }
}

fn own(facts: &[u8], body: &[u8]) -> (Bytes, Bytes) {
    let mut both = Vec::with_capacity(facts.len() + body.len());
    both.extend_from_slice(facts);
    both.extend_from_slice(body);
    let mut facts_then_body = Bytes::from(both);
    let facts = facts_then_body.split_to(facts.len());
    (facts, facts_then_body)
}
