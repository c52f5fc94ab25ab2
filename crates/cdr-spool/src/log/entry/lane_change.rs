//! Lanes that come, go, or get another name.

use super::parts::{put_errand, take_errand};
use crate::log::codec::{Put, Take};
use crate::{Errand, Position};

/// What happened to the set of lanes. Lanes have numbers, so that a new name needs no rewriting of what lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LaneChange {
    Registered {
        lane: u32,
        name: String,
        next: Position,
    },
    Renamed {
        lane: u32,
        name: String,
    },
    Retired {
        lane: u32,
    },
    /// The lane is temporary from here on, under this name. If there is none of this number it begins at `next`.
    Errand {
        lane: u32,
        name: String,
        next: Position,
        errand: Errand,
    },
    /// What the lane `of` has not read, from `next` on, goes to a temporary lane, and the lane goes on where that one ends. One
    /// entry, so that neither happens without the other.
    SetAside {
        of: u32,
        lane: u32,
        name: String,
        next: Position,
        errand: Errand,
    },
}

impl LaneChange {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            LaneChange::Registered { lane, name, next } => {
                out.push(0);
                out.put_varint((*lane).into());
                out.put_bytes(name.as_bytes());
                out.put_varint(next.0);
            }
            LaneChange::Renamed { lane, name } => {
                out.push(1);
                out.put_varint((*lane).into());
                out.put_bytes(name.as_bytes());
            }
            LaneChange::Retired { lane } => {
                out.push(2);
                out.put_varint((*lane).into());
            }
            LaneChange::Errand { lane, name, next, errand } => {
                out.put_varint((*lane).into());
                out.put_bytes(name.as_bytes());
                out.put_varint(next.0);
                put_errand(out, errand);
            }
            LaneChange::SetAside { of, lane, name, next, errand } => {
                out.put_varint((*of).into());
                out.put_varint((*lane).into());
                out.put_bytes(name.as_bytes());
                out.put_varint(next.0);
                put_errand(out, errand);
            }
        }
    }

    /// A lane that is not temporary.
    pub(super) fn take(take: &mut Take) -> Option<Self> {
        let tag = take.byte()?;
        let lane = take.varint32()?;
        Some(match tag {
            0 => Self::Registered { lane, name: take.text()?.to_owned(), next: Position(take.varint()?) },
            1 => Self::Renamed { lane, name: take.text()?.to_owned() },
            2 => Self::Retired { lane },
            _ => return None,
        })
    }

    pub(super) fn take_temporary(take: &mut Take) -> Option<Self> {
        Some(Self::Errand {
            lane: take.varint32()?,
            name: take.text()?.to_owned(),
            next: Position(take.varint()?),
            errand: take_errand(take)?,
        })
    }

    pub(super) fn take_set_aside(take: &mut Take) -> Option<Self> {
        Some(Self::SetAside {
            of: take.varint32()?,
            lane: take.varint32()?,
            name: take.text()?.to_owned(),
            next: Position(take.varint()?),
            errand: take_errand(take)?,
        })
    }
}
