//! A push on its way into the spool and out of it again: what of its facts is written where.
//!
//! The spool keeps action, UUID and SHA-256 as the push's key, and its arrival to the millisecond; the rest of
//! the facts is a small JSON text that only this module writes and reads.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use cdr_core::{Action, Facts, Incoming, Origin, Position, Push, Seal, SpoolId, Suspect};
use cdr_spool::{Key, NewPush, NewQuarantine, StoredPush};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lane::SealedBatch;

/// The facts that are no part of the key.
#[derive(Serialize, Deserialize, Default)]
struct Rest {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sender: Option<IpAddr>,
    #[serde(skip_serializing_if = "is_push", default)]
    origin: Origin,
}

fn is_push(origin: &Origin) -> bool {
    *origin == Origin::Push
}

/// The facts of quarantined bytes: they have no key of their own.
#[derive(Serialize, Deserialize)]
struct SuspectFacts {
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    uuid: Option<String>,
    #[serde(flatten)]
    rest: Rest,
}

fn to_bytes(facts: &impl Serialize) -> Bytes {
    // Texts, numbers and addresses: nothing that JSON could refuse.
    Bytes::from(serde_json::to_vec(facts).unwrap_or_default())
}

/// What the spool keeps of a push; the push itself travels along to the commit.
pub fn to_spool(push: Box<Incoming>) -> NewPush<Box<Incoming>> {
    let facts = &push.facts;
    let rest = Rest { version: facts.version.clone(), sender: facts.sender, origin: facts.origin };
    NewPush {
        key: Key { action: facts.action.to_string(), uuid: facts.uuid.clone(), sha256: facts.sha256 },
        received_at_ms: facts.received_at.as_millisecond(),
        facts: to_bytes(&rest),
        body: push.body.clone(),
        live: push,
    }
}

/// A push as it was, read back from the spool.
pub fn from_spool(spool: SpoolId, stored: StoredPush) -> Arc<Push> {
    let rest: Rest = serde_json::from_slice(&stored.facts).unwrap_or_default();
    let facts = Facts {
        action: action(&stored.key.action),
        version: rest.version,
        uuid: stored.key.uuid,
        received_at: Timestamp::from_millisecond(stored.received_at_ms).unwrap_or_default(),
        sender: rest.sender,
        origin: rest.origin,
        sha256: stored.key.sha256,
    };
    Arc::new(Push::from_spool(spool, position(stored.position), facts, stored.body))
}

/// What the spool keeps of bytes that are no push.
pub fn to_quarantine(suspect: Suspect) -> NewQuarantine {
    let Suspect { facts, body, reason } = suspect;
    let rest = Rest { version: facts.version, sender: facts.sender, origin: facts.origin };
    NewQuarantine {
        sha256: facts.sha256,
        received_at_ms: facts.received_at.as_millisecond(),
        facts: to_bytes(&SuspectFacts { action: facts.action, uuid: facts.uuid, rest }),
        body,
        reason,
    }
}

/// The facts of quarantined bytes, for the operator.
pub fn suspect_facts(stored: &cdr_spool::StoredQuarantine) -> Option<Facts> {
    let SuspectFacts { action, uuid, rest } = serde_json::from_slice(&stored.facts).ok()?;
    Some(Facts {
        action,
        version: rest.version,
        uuid,
        received_at: Timestamp::from_millisecond(stored.received_at_ms).unwrap_or_default(),
        sender: rest.sender,
        origin: rest.origin,
        sha256: stored.sha256,
    })
}

/// The spool holds only what the door let in, so this is always an action; should a disk lie, no panic.
fn action(text: &str) -> Action {
    text.parse()
        .or_else(|_| "unreadable".parse())
        .unwrap_or_else(|_| unreachable!("a plain word is an action"))
}

/// What the spool keeps of a seal.
pub fn to_spool_seal(positions: &[Position], seal: &Seal) -> cdr_spool::Seal {
    cdr_spool::Seal {
        positions: positions.iter().copied().map(spool_position).collect(),
        key: seal.key.clone(),
        facts: to_bytes(&seal.facts),
    }
}

/// A sealed batch as it was, but for its pushes; none if its facts are no JSON, which a CRC that fits excludes.
pub fn from_spool_seal(kept: &cdr_spool::Seal) -> Option<SealedBatch> {
    let facts = serde_json::from_slice(&kept.facts).ok()?;
    let positions = kept.positions.iter().copied().map(position).collect();
    Some(SealedBatch { seal: Seal { key: kept.key.clone(), facts }, positions })
}

/// A position in the words of the spool.
pub fn spool_position(position: Position) -> cdr_spool::Position {
    cdr_spool::Position(position.0)
}

/// A position in the words of pushes.
pub fn position(position: cdr_spool::Position) -> Position {
    Position(position.0)
}

/// The identity of a spool in the words of pushes.
pub fn spool_id(id: cdr_spool::SpoolId) -> SpoolId {
    SpoolId(*id.as_bytes())
}
