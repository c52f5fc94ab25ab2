//! Checkpoints. Each minor version of the format appended something, and an older build reads what it knows.

use bytes::Bytes;

use super::parts::{
    put_errand, put_list, put_positions, put_seal, take_errand, take_list, take_memo, take_positions,
    take_seal,
};
use crate::log::codec::{Put, Take};
use crate::log::outcomes;
use crate::{Errand, Open, Position, Seal};

/// Everything that recovery needs to know about what came before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) end: Position,
    pub(crate) generation: u64,
    pub(crate) configuration: [u8; 32],
    pub(crate) next_lane: u32,
    /// The segments that exist, but the one that the checkpoint lies in.
    pub(crate) segments: Vec<KnownSegment>,
    /// Lost to damage, and not yet closed by every lane: first, and first not.
    pub(crate) lost: Vec<(Position, Position)>,
    pub(crate) discarded_quarantine: Vec<Position>,
    pub(crate) lanes: Vec<KnownLane>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownSegment {
    pub(crate) number: u64,
    /// Its valid end: the header that names it too goes with its segment.
    pub(crate) end: u64,
    pub(crate) first: Position,
    pub(crate) until: Position,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownLane {
    pub(crate) lane: u32,
    pub(crate) name: String,
    pub(crate) next: Position,
    pub(crate) open: Vec<(Position, Open)>,
    pub(crate) dead: Vec<Position>,
    pub(crate) seals: Vec<Seal>,
    pub(crate) began: Position,
    pub(crate) errand: Option<Errand>,
    pub(crate) memos: Vec<(String, Bytes)>,
}

impl Checkpoint {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.end.0);
        out.put_varint(self.generation);
        out.extend_from_slice(&self.configuration);
        out.put_varint(self.next_lane.into());
        put_list(out, &self.segments, |out, segment| {
            out.put_varint(segment.number);
            out.put_varint(segment.end);
            out.put_varint(segment.first.0);
            out.put_varint(segment.until.0);
        });
        put_list(out, &self.lost, |out, (first, until)| {
            out.put_varint(first.0);
            out.put_varint(until.0);
        });
        put_positions(out, self.discarded_quarantine.iter().copied());
        put_list(out, &self.lanes, |out, lane| {
            out.put_varint(lane.lane.into());
            out.put_bytes(lane.name.as_bytes());
            out.put_varint(lane.next.0);
            put_list(out, &lane.open, |out, (position, open)| {
                out.put_varint(position.0);
                outcomes::encode_open(open, out);
            });
            put_positions(out, lane.dead.iter().copied());
        });
        // At the very end, where a build that knows no seals does not look.
        for lane in &self.lanes {
            put_list(out, &lane.seals, put_seal);
        }
        // Behind that, for the same reason.
        for lane in &self.lanes {
            out.put_varint(lane.began.0);
            put_list(out, lane.errand.as_slice(), put_errand);
        }
        for lane in &self.lanes {
            put_list(out, &lane.memos, |out, (key, bytes)| {
                out.put_bytes(key.as_bytes());
                out.put_bytes(bytes);
            });
        }
    }

    pub(super) fn take(take: &mut Take) -> Option<Self> {
        let position = |take: &mut Take| take.varint().map(Position);
        let mut checkpoint = Checkpoint {
            end: position(take)?,
            generation: take.varint()?,
            configuration: take.array()?,
            next_lane: take.varint32()?,
            segments: take_list(take, |take| {
                Some(KnownSegment {
                    number: take.varint()?,
                    end: take.varint()?,
                    first: position(take)?,
                    until: position(take)?,
                })
            })?,
            lost: take_list(take, |take| Some((position(take)?, position(take)?)))?,
            discarded_quarantine: take_positions(take)?,
            lanes: take_list(take, |take| {
                let (lane, name, next) = (take.varint32()?, take.text()?.to_owned(), position(take)?);
                let open = take_list(take, |take| Some((position(take)?, outcomes::decode_open(take)?)))?;
                let dead = take_positions(take)?;
                // Who does not know where it began must not say that it is done with what came before `next`.
                Some(KnownLane {
                    lane,
                    name,
                    next,
                    open,
                    dead,
                    seals: Vec::new(),
                    began: next,
                    errand: None,
                    memos: Vec::new(),
                })
            })?,
        };
        // A log of minor version 0 ends here.
        if !take.is_empty() {
            for lane in &mut checkpoint.lanes {
                lane.seals = take_list(take, take_seal)?;
            }
        }
        // And one of minor version 1 here.
        if !take.is_empty() {
            for lane in &mut checkpoint.lanes {
                lane.began = position(take)?;
                lane.errand = take_list(take, take_errand)?.pop();
            }
        }
        // And those of minor versions 2 and 3 here.
        if !take.is_empty() {
            for lane in &mut checkpoint.lanes {
                let memos = take_list(take, take_memo)?;
                lane.memos = memos.into_iter().map(|memo| (memo.key, memo.bytes)).collect();
            }
        }
        Some(checkpoint)
    }
}
