//! The entries of a frame, one type number each.
//!
//! Numbers are never given twice. A type that this build does not know is skipped: a new minor format version may add
//! types, but only a new major one may change what an old one means.

mod brought;
mod checkpoint;
mod lane_change;
mod parts;

use std::collections::BTreeMap;

pub(crate) use self::brought::{PushEntry, QuarantineEntry};
pub(crate) use self::checkpoint::{Checkpoint, KnownLane, KnownSegment};
pub(crate) use self::lane_change::LaneChange;
use self::parts::{put_positions, put_seal, take_memo, take_positions, take_seal};
use crate::log::codec::{Put, Take};
use crate::log::frame::FrameBuilder;
use crate::log::outcomes::{self, Dead, Item, Items, Run};
use crate::{Memo, Position, Seal};

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

impl FrameBuilder {
    pub(crate) fn push(&mut self, push: &PushEntry, carried: bool) {
        self.entry(if carried { CARRIED_PUSH } else { PUSH }, 0, |out| push.put(out));
    }

    pub(crate) fn quarantine(&mut self, quarantine: &QuarantineEntry, carried: bool) {
        self.entry(if carried { CARRIED_QUARANTINE } else { QUARANTINE }, 0, |out| quarantine.put(out));
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
        self.entry(kind, 0, |out| change.put(out));
    }

    pub(crate) fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.entry(CHECKPOINT, 0, |out| checkpoint.put(out));
    }
}

impl<'a> Entry<'a> {
    /// Reads an entry; none if its bytes do not fit its type, which a CRC that fits excludes.
    pub(crate) fn decode(kind: u8, payload: &'a [u8]) -> Option<Entry<'a>> {
        let take = &mut Take(payload);
        Some(match kind {
            PUSH | CARRIED_PUSH => {
                Entry::Push { push: PushEntry::take(take)?, carried: kind == CARRIED_PUSH }
            }
            QUARANTINE | CARRIED_QUARANTINE => Entry::Quarantine {
                quarantine: QuarantineEntry::take(take)?,
                carried: kind == CARRIED_QUARANTINE,
            },
            OUTCOMES => {
                Entry::Outcomes { lane: take.varint32()?, name: take.text()?, runs: outcomes::decode(take)? }
            }
            CHECKPOINT => Entry::Checkpoint(Checkpoint::take(take)?),
            SEAL => Entry::Seal { lane: take.varint32()?, name: take.text()?, seal: take_seal(take)? },
            MEMO => Entry::Memo { lane: take.varint32()?, memo: take_memo(take)? },
            LANE => Entry::Lane(LaneChange::take(take)?),
            ERRAND => Entry::Lane(LaneChange::take_temporary(take)?),
            SET_ASIDE => Entry::Lane(LaneChange::take_set_aside(take)?),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{Errand, Open};

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
