//! The entries of a frame, one type number each.
//!
//! Numbers are never given twice. A type that this build does not know is skipped: a new minor format version may add
//! types, but only a new major one may change what an old one means.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::log::codec::{Put, Take};
use crate::log::frame::FrameBuilder;
use crate::log::outcomes::{self, Dead, Item, Items, Run};
use crate::{Errand, Key, Memo, Open, Position, Seal, StoredPush, StoredQuarantine};

const PUSH: u8 = 1;
const QUARANTINE: u8 = 2;
const OUTCOMES: u8 = 3;
const CHECKPOINT: u8 = 4;
const SEAL: u8 = 5;
const CARRIED_PUSH: u8 = 6;
const CARRIED_QUARANTINE: u8 = 7;
const CONFIGURATION: u8 = 8;
const LANE: u8 = 9;
const DROPPED: u8 = 10;
const QUARANTINE_DISCARDED: u8 = 11;
const ERRAND: u8 = 12;
const SET_ASIDE: u8 = 13;
const MEMO: u8 = 14;

/// An entry, borrowing its bodies from the frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry<'a> {
    /// `carried`: written again because its segment went.
    Push {
        push: PushEntry<'a>,
        carried: bool,
    },
    Quarantine {
        quarantine: QuarantineEntry<'a>,
        carried: bool,
    },
    Outcomes {
        lane: u32,
        name: &'a str,
        runs: Vec<Run>,
    },
    Checkpoint(Checkpoint),
    Seal {
        lane: u32,
        name: &'a str,
        seal: Seal,
    },
    Memo {
        lane: u32,
        memo: Memo,
    },
    Lane(LaneChange),
    Configuration {
        generation: u64,
        hash: [u8; 32],
    },
    /// Everything that was needed of this segment is elsewhere; its file may be gone.
    Dropped {
        segment: u64,
    },
    QuarantineDiscarded(Vec<Position>),
    /// Of a newer minor version.
    Unknown(u8),
}

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

impl PushEntry<'_> {
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

impl QuarantineEntry<'_> {
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

impl FrameBuilder {
    pub(crate) fn push(&mut self, push: &PushEntry, carried: bool) {
        self.entry(if carried { CARRIED_PUSH } else { PUSH }, 0, |out| {
            out.put_fixed64(push.position.0);
            out.put_fixed64(push.received_at_ms as u64);
            out.extend_from_slice(push.sha256);
            out.put_bytes(push.action.as_bytes());
            // An empty UUID is a UUID: the length is told plus one, and 0 is none.
            out.put_varint(push.uuid.map_or(0, |u| u.len() as u64 + 1));
            out.extend_from_slice(push.uuid.unwrap_or_default().as_bytes());
            out.put_bytes(push.facts);
            out.put_bytes(push.body);
        });
    }

    pub(crate) fn quarantine(&mut self, quarantine: &QuarantineEntry, carried: bool) {
        self.entry(if carried { CARRIED_QUARANTINE } else { QUARANTINE }, 0, |out| {
            out.put_fixed64(quarantine.position.0);
            out.put_fixed64(quarantine.received_at_ms as u64);
            out.extend_from_slice(quarantine.sha256);
            out.put_bytes(quarantine.reason.as_bytes());
            out.put_bytes(quarantine.facts);
            out.put_bytes(quarantine.body);
        });
    }

    /// Takes over everything of a frame but its checkpoint.
    pub(crate) fn copy_all(&mut self, frame: &[u8]) {
        for (kind, version, payload) in
            crate::log::frame::entries(frame).filter(|(kind, ..)| *kind != CHECKPOINT)
        {
            self.copy(kind, version, payload);
        }
    }

    pub(crate) fn outcomes(&mut self, lane: u32, name: &str, items: &Items) {
        self.entry(OUTCOMES, 0, |out| {
            out.put_varint(lane.into());
            out.put_bytes(name.as_bytes());
            outcomes::encode(items, out);
        });
    }

    pub(crate) fn lane_seal(&mut self, lane: u32, name: &str, seal: &Seal) {
        self.entry(SEAL, 0, |out| {
            out.put_varint(lane.into());
            out.put_bytes(name.as_bytes());
            put_seal(out, seal);
        });
    }

    pub(crate) fn memo(&mut self, lane: u32, key: &str, bytes: &[u8]) {
        self.entry(MEMO, 0, |out| {
            out.put_varint(lane.into());
            out.put_bytes(key.as_bytes());
            out.put_bytes(bytes);
        });
    }

    pub(crate) fn configuration(&mut self, generation: u64, hash: &[u8; 32]) {
        self.entry(CONFIGURATION, 0, |out| {
            out.put_varint(generation);
            out.extend_from_slice(hash);
        });
    }

    pub(crate) fn dropped(&mut self, segment: u64) {
        self.entry(DROPPED, 0, |out| out.put_varint(segment));
    }

    pub(crate) fn quarantine_discarded(&mut self, positions: &[Position]) {
        self.entry(QUARANTINE_DISCARDED, 0, |out| put_positions(out, positions.iter().copied()));
    }

    pub(crate) fn lane(&mut self, change: &LaneChange) {
        let kind = match change {
            LaneChange::Errand { .. } => ERRAND,
            LaneChange::SetAside { .. } => SET_ASIDE,
            _ => LANE,
        };
        self.entry(kind, 0, |out| match change {
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
        });
    }

    pub(crate) fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.entry(CHECKPOINT, 0, |out| {
            out.put_varint(checkpoint.end.0);
            out.put_varint(checkpoint.generation);
            out.extend_from_slice(&checkpoint.configuration);
            out.put_varint(checkpoint.next_lane.into());
            put_list(out, &checkpoint.segments, |out, segment| {
                out.put_varint(segment.number);
                out.put_varint(segment.end);
                out.put_varint(segment.first.0);
                out.put_varint(segment.until.0);
            });
            put_list(out, &checkpoint.lost, |out, (first, until)| {
                out.put_varint(first.0);
                out.put_varint(until.0);
            });
            put_positions(out, checkpoint.discarded_quarantine.iter().copied());
            put_list(out, &checkpoint.lanes, |out, lane| {
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
            for lane in &checkpoint.lanes {
                put_list(out, &lane.seals, put_seal);
            }
            // Behind that, for the same reason.
            for lane in &checkpoint.lanes {
                out.put_varint(lane.began.0);
                put_list(out, lane.errand.as_slice(), put_errand);
            }
            for lane in &checkpoint.lanes {
                put_list(out, &lane.memos, |out, (key, bytes)| {
                    out.put_bytes(key.as_bytes());
                    out.put_bytes(bytes);
                });
            }
        });
    }
}

fn put_seal(out: &mut Vec<u8>, seal: &Seal) {
    put_positions(out, seal.positions.iter().copied());
    out.put_bytes(seal.key.as_bytes());
    out.put_bytes(&seal.facts);
}

fn take_seal(take: &mut Take) -> Option<Seal> {
    Some(Seal {
        positions: take_positions(take)?,
        key: take.text()?.to_owned(),
        facts: Bytes::copy_from_slice(take.bytes()?),
    })
}

fn take_memo(take: &mut Take) -> Option<Memo> {
    Some(Memo { key: take.text()?.to_owned(), bytes: Bytes::copy_from_slice(take.bytes()?) })
}

fn put_errand(out: &mut Vec<u8>, errand: &Errand) {
    out.put_bytes(errand.sink.as_bytes());
    out.put_varint(errand.until.0);
    out.put_bytes(&errand.facts);
}

fn take_errand(take: &mut Take) -> Option<Errand> {
    Some(Errand {
        sink: take.text()?.to_owned(),
        until: Position(take.varint()?),
        facts: Bytes::copy_from_slice(take.bytes()?),
    })
}

fn put_list<I>(out: &mut Vec<u8>, items: &[I], mut put: impl FnMut(&mut Vec<u8>, &I)) {
    out.put_varint(items.len() as u64);
    items.iter().for_each(|item| put(out, item));
}

fn take_list<'a, I>(take: &mut Take<'a>, mut one: impl FnMut(&mut Take<'a>) -> Option<I>) -> Option<Vec<I>> {
    let count = take.varint()?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(one(take)?);
    }
    Some(items)
}

/// Growing positions, as differences.
fn put_positions(out: &mut Vec<u8>, positions: impl ExactSizeIterator<Item = Position>) {
    out.put_varint(positions.len() as u64);
    let mut last = 0;
    for position in positions {
        out.put_varint(position.0 - last);
        last = position.0;
    }
}

fn take_positions(take: &mut Take) -> Option<Vec<Position>> {
    let mut last = 0u64;
    take_list(take, |take| {
        last = last.checked_add(take.varint()?)?;
        Some(Position(last))
    })
}

impl<'a> Entry<'a> {
    /// Reads an entry; none if its bytes do not fit its type, which a CRC that fits excludes.
    pub(crate) fn decode(kind: u8, payload: &'a [u8]) -> Option<Entry<'a>> {
        let take = &mut Take(payload);
        Some(match kind {
            PUSH | CARRIED_PUSH => Entry::Push { push: decode_push(take)?, carried: kind == CARRIED_PUSH },
            QUARANTINE | CARRIED_QUARANTINE => Entry::Quarantine {
                quarantine: decode_quarantine(take)?,
                carried: kind == CARRIED_QUARANTINE,
            },
            OUTCOMES => {
                Entry::Outcomes { lane: take.varint32()?, name: take.text()?, runs: outcomes::decode(take)? }
            }
            CHECKPOINT => Entry::Checkpoint(decode_checkpoint(take)?),
            SEAL => Entry::Seal { lane: take.varint32()?, name: take.text()?, seal: take_seal(take)? },
            MEMO => Entry::Memo { lane: take.varint32()?, memo: take_memo(take)? },
            LANE => Entry::Lane(decode_lane(take)?),
            ERRAND => Entry::Lane(LaneChange::Errand {
                lane: take.varint32()?,
                name: take.text()?.to_owned(),
                next: Position(take.varint()?),
                errand: take_errand(take)?,
            }),
            SET_ASIDE => Entry::Lane(LaneChange::SetAside {
                of: take.varint32()?,
                lane: take.varint32()?,
                name: take.text()?.to_owned(),
                next: Position(take.varint()?),
                errand: take_errand(take)?,
            }),
            CONFIGURATION => Entry::Configuration { generation: take.varint()?, hash: take.array()? },
            DROPPED => Entry::Dropped { segment: take.varint()? },
            QUARANTINE_DISCARDED => Entry::QuarantineDiscarded(take_positions(take)?),
            other => Entry::Unknown(other),
        })
    }
}

/// The entries of a frame whose CRC fits.
pub(crate) fn entries(frame: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    crate::log::frame::entries(frame).filter_map(|(kind, _, payload)| Entry::decode(kind, payload))
}

/// Why a lane gave deliveries up, as a frame tells it.
pub(crate) fn deaths(frame: &[u8], of: u32) -> BTreeMap<Position, Dead> {
    let runs = entries(frame).filter_map(|entry| match entry {
        Entry::Outcomes { lane, runs, .. } if lane == of => Some(runs),
        _ => None,
    });
    let dead = |run: Run| match run.item {
        Item::Dead(dead) => Some((run.first, dead)),
        _ => None,
    };
    runs.flatten().filter_map(dead).collect()
}

fn decode_push<'a>(take: &mut Take<'a>) -> Option<PushEntry<'a>> {
    Some(PushEntry {
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

fn decode_quarantine<'a>(take: &mut Take<'a>) -> Option<QuarantineEntry<'a>> {
    Some(QuarantineEntry {
        position: Position(take.fixed64()?),
        received_at_ms: take.fixed64()? as i64,
        sha256: take.raw(32)?.first_chunk()?,
        reason: take.text()?,
        facts: take.bytes()?,
        body: take.bytes()?,
    })
}

fn decode_lane(take: &mut Take) -> Option<LaneChange> {
    let tag = take.byte()?;
    let lane = take.varint32()?;
    Some(match tag {
        0 => LaneChange::Registered { lane, name: take.text()?.to_owned(), next: Position(take.varint()?) },
        1 => LaneChange::Renamed { lane, name: take.text()?.to_owned() },
        2 => LaneChange::Retired { lane },
        _ => return None,
    })
}

fn decode_checkpoint(take: &mut Take) -> Option<Checkpoint> {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn finished(frame: &mut FrameBuilder) -> &[u8] {
        frame.seal(crate::log::frame::FrameHeader {
            length: 0,
            stamp: crate::log::frame::Stamp { segment: 1, salt: 1 },
            sequence: 0,
            durable_to: 0,
            position: Position(4),
            written_at_ms: 0,
            entries: 0,
        })
    }

    #[test]
    fn entries_are_read_as_written() {
        let push = PushEntry {
            position: Position(4),
            received_at_ms: -1,
            sha256: &[7; 32],
            action: "cdr",
            uuid: Some(""),
            facts: b"f",
            body: b"{}",
        };
        let quarantine = QuarantineEntry {
            position: Position(5),
            received_at_ms: 9,
            sha256: &[8; 32],
            reason: "no JSON",
            facts: b"",
            body: b"{",
        };
        let open = Open { attempts: 2, spent: Duration::from_millis(3), due_ms: 4, answer: "503".into() };
        let seal = Seal {
            positions: vec![Position(3), Position(5)],
            key: "cdr/1".into(),
            facts: Bytes::from_static(b"{}"),
        };
        let errand =
            Errand { sink: "crm".into(), until: Position(5), facts: Bytes::from_static(b"{\"rate\":1}") };
        let checkpoint = Checkpoint {
            end: Position(6),
            generation: 3,
            configuration: [1; 32],
            next_lane: 2,
            segments: vec![KnownSegment { number: 1, end: 999, first: Position(1), until: Position(4) }],
            lost: vec![(Position(2), Position(3))],
            discarded_quarantine: vec![Position(5)],
            lanes: vec![KnownLane {
                lane: 1,
                name: "crm".into(),
                next: Position(6),
                open: vec![(Position(4), open)],
                dead: vec![Position(1), Position(3)],
                seals: vec![seal.clone()],
                began: Position(2),
                errand: Some(errand.clone()),
                memos: vec![("noSeatOnline".into(), Bytes::from_static(b"37"))],
            }],
        };
        let change = LaneChange::Registered { lane: 1, name: "crm".into(), next: Position(1) };
        let temporary =
            LaneChange::Errand { lane: 2, name: "crm~2".into(), next: Position(1), errand: errand.clone() };
        let aside = LaneChange::SetAside { of: 1, lane: 3, name: "crm~3".into(), next: Position(2), errand };
        let mut frame = FrameBuilder::new();
        frame.push(&push, false);
        frame.push(&PushEntry { uuid: None, ..push }, true);
        frame.quarantine(&quarantine, true);
        frame.checkpoint(&checkpoint);
        frame.lane(&change);
        frame.lane(&temporary);
        frame.lane(&aside);
        frame.lane_seal(1, "crm", &seal);
        frame.memo(1, "noSeatOnline", b"");
        frame.dropped(9);
        frame.configuration(3, &[1; 32]);
        frame.entry(200, 0, |out| out.push(1));
        let read: Vec<Entry> = entries(finished(&mut frame)).collect();
        assert_eq!(
            read,
            [
                Entry::Push { push, carried: false },
                Entry::Push { push: PushEntry { uuid: None, ..push }, carried: true },
                Entry::Quarantine { quarantine, carried: true },
                Entry::Checkpoint(checkpoint),
                Entry::Lane(change),
                Entry::Lane(temporary),
                Entry::Lane(aside),
                Entry::Seal { lane: 1, name: "crm", seal },
                Entry::Memo { lane: 1, memo: Memo { key: "noSeatOnline".into(), bytes: Bytes::new() } },
                Entry::Dropped { segment: 9 },
                Entry::Configuration { generation: 3, hash: [1; 32] },
                Entry::Unknown(200),
            ]
        );
    }

    #[test]
    fn a_checkpoint_from_before_there_were_seals_errands_or_memos_is_read() {
        let lane = KnownLane {
            lane: 1,
            name: "crm".into(),
            next: Position(6),
            open: Vec::new(),
            dead: Vec::new(),
            seals: Vec::new(),
            began: Position(6),
            errand: None,
            memos: Vec::new(),
        };
        let checkpoint = Checkpoint { lanes: vec![lane], ..Checkpoint::default() };
        let mut frame = FrameBuilder::new();
        frame.checkpoint(&checkpoint);
        let (_, _, payload) = crate::log::frame::entries(finished(&mut frame)).next().unwrap();
        // One lane without memos is one byte, one that began at 6 without an errand two, and one without seals one.
        for newer in [1, 3, 4] {
            let old = &payload[..payload.len() - newer];
            assert_eq!(Entry::decode(CHECKPOINT, old), Some(Entry::Checkpoint(checkpoint.clone())));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read_without_a_panic(kind: u8, payload: Vec<u8>) {
            Entry::decode(kind, &payload);
        }
    }
}
