//! What frames of the log become in the catalog: a pure function of their bytes, gathered for one transaction.

use super::terms::{self, TermsOf};
use crate::log::entry::{self, Checkpoint, Entry, LaneChange};
use crate::log::outcomes::{Dead, Item, Run};
use crate::state::Place;
use crate::{Position, Seal, SpoolId};

/// A span is no longer than this, so that those around a position lie close before it.
pub(crate) const LONGEST_SPAN: u64 = 1024;
/// Positions that a frame leaves out between two that it tells of make no second span of it: what a span promises is only
/// that it is worth looking.
const GAP: u64 = 8;

/// What some frames of one segment say, in the words of the catalog.
#[derive(Default)]
pub(crate) struct Rows {
    /// Digest and position, sorted only when they are written.
    pub(crate) terms: Vec<(i64, Position)>,
    pub(crate) frames: Vec<FrameRow>,
    pub(crate) carried: Vec<(Position, Place, i64)>,
    pub(crate) spans: Vec<Span>,
    /// In the order of the log: each changes what the ones before it left.
    pub(crate) changes: Vec<Change>,
    /// Pushes in them, carried ones too.
    pub(crate) pushes: u64,
    digests: Vec<i64>,
}

/// The new pushes of a frame.
pub(crate) struct FrameRow {
    pub(crate) place: Place,
    pub(crate) first: Position,
    pub(crate) last: Position,
    /// When the earliest and the latest of them arrived, in milliseconds since 1970.
    pub(crate) earliest_ms: i64,
    pub(crate) latest_ms: i64,
}

/// A frame tells of a lane's deliveries between two positions: outcomes, or a seal.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) place: Place,
    pub(crate) lane: u32,
    pub(crate) first: Position,
    pub(crate) last: Position,
}

/// What changes the state of today: lanes, dead letters, quarantine.
pub(crate) enum Change {
    Died {
        lane: u32,
        position: Position,
        dead: Dead,
        place: Place,
    },
    /// No dead letters any more, if they were.
    Woken {
        lane: u32,
        first: Position,
        last: Position,
    },
    Quarantined {
        position: Position,
        received_at_ms: i64,
        bytes: u64,
        reason: String,
        place: Place,
    },
    QuarantineDiscarded(Vec<Position>),
    Lane(LaneChange),
    /// Has the last word on all of it.
    Checkpoint(Checkpoint),
}

impl Rows {
    /// Takes in a frame.
    pub(crate) fn add(&mut self, place: Place, frame: &[u8], spool: SpoolId, terms: TermsOf) {
        let mut new: Option<FrameRow> = None;
        for entry in entry::entries(frame) {
            match entry {
                Entry::Push { push, carried } => {
                    let stored = push.to_stored();
                    terms::digests(terms, spool, &stored, &mut self.digests);
                    self.terms.extend(self.digests.iter().map(|digest| (*digest, push.position)));
                    self.pushes += 1;
                    match carried {
                        true => self.carried.push((push.position, place, push.received_at_ms)),
                        false => widen(&mut new, place, push.position, push.received_at_ms),
                    }
                }
                entry => self.add_other(place, entry),
            }
        }
        self.frames.extend(new);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pushes == 0 && self.spans.is_empty() && self.changes.is_empty()
    }

    /// The position behind the last new push.
    pub(crate) fn next_position(&self) -> Position {
        self.frames.last().map_or(Position::FIRST, |frame| frame.last.next())
    }

    fn add_other(&mut self, place: Place, entry: Entry) {
        match entry {
            Entry::Outcomes { lane, runs, .. } => self.add_outcomes(place, lane, runs),
            Entry::Seal { lane, seal, .. } => self.add_seal(place, lane, &seal),
            Entry::Quarantine { quarantine, .. } => self.changes.push(Change::Quarantined {
                position: quarantine.position,
                received_at_ms: quarantine.received_at_ms,
                bytes: quarantine.body.len() as u64,
                reason: quarantine.reason.to_owned(),
                place,
            }),
            Entry::QuarantineDiscarded(positions) => {
                self.changes.push(Change::QuarantineDiscarded(positions));
            }
            Entry::Lane(change) => self.changes.push(Change::Lane(change)),
            Entry::Checkpoint(checkpoint) => {
                for lane in &checkpoint.lanes {
                    lane.seals.iter().for_each(|seal| self.add_seal(place, lane.lane, seal));
                }
                self.changes.push(Change::Checkpoint(checkpoint));
            }
            Entry::Push { .. }
            | Entry::Memo { .. }
            | Entry::Configuration { .. }
            | Entry::Dropped { .. }
            | Entry::Unknown(_) => {}
        }
    }

    fn add_outcomes(&mut self, place: Place, lane: u32, runs: Vec<Run>) {
        let ranges = runs.iter().map(|run| (run.first, run.count));
        self.add_spans(place, lane, ranges);
        for Run { first, count, item } in runs {
            let last = Position(first.0.saturating_add(count.saturating_sub(1)));
            match item {
                Item::Dead(dead) => self.changes.push(Change::Died { lane, position: first, dead, place }),
                Item::Reopened | Item::Discarded => {
                    self.changes.push(Change::Woken { lane, first, last });
                }
                Item::Delivered(_) | Item::Passed | Item::Retry(_) => {}
            }
        }
    }

    fn add_seal(&mut self, place: Place, lane: u32, seal: &Seal) {
        self.add_spans(place, lane, seal.positions.iter().map(|position| (*position, 1)));
    }

    /// Growing ranges of positions, as few spans as hold them.
    fn add_spans(&mut self, place: Place, lane: u32, ranges: impl Iterator<Item = (Position, u64)>) {
        let mut open: Option<Span> = None;
        for (from, count) in ranges {
            let mut first = from;
            let until = from.0.saturating_add(count);
            while first.0 < until {
                let joins =
                    |span: &&mut Span| first.0 <= span.last.0 + GAP && first.0 < span.first.0 + LONGEST_SPAN;
                let span = match open.as_mut().filter(joins) {
                    Some(span) => span,
                    None => {
                        self.spans.extend(open.take());
                        open.insert(Span { place, lane, first, last: first })
                    }
                };
                span.last = Position((until - 1).min(span.first.0 + LONGEST_SPAN - 1));
                first = span.last.next();
            }
        }
        self.spans.extend(open);
    }
}

fn widen(new: &mut Option<FrameRow>, place: Place, position: Position, at_ms: i64) {
    let row = new.get_or_insert(FrameRow {
        place,
        first: position,
        last: position,
        earliest_ms: at_ms,
        latest_ms: at_ms,
    });
    row.last = position;
    row.earliest_ms = row.earliest_ms.min(at_ms);
    row.latest_ms = row.latest_ms.max(at_ms);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn spans_hold_what_a_frame_tells_and_are_short(steps in prop::collection::vec((0u64..40, 1u64..3000), 0..20)) {
            let mut ranges = Vec::new();
            let mut next = 1;
            for (gap, count) in steps {
                ranges.push((Position(next + gap), count));
                next += gap + count;
            }
            let mut rows = Rows::default();
            rows.add_spans(Place { segment: 1, offset: 128 }, 7, ranges.iter().copied());
            for (first, count) in &ranges {
                for position in first.0..first.0 + count {
                    let holding = rows.spans.iter().filter(|s| s.first.0 <= position && position <= s.last.0);
                    prop_assert_eq!(holding.count(), 1, "{}", position);
                }
            }
            for span in &rows.spans {
                prop_assert!(span.last.0 - span.first.0 < LONGEST_SPAN);
            }
            let positions: u64 = ranges.iter().map(|(_, count)| count).sum();
            let most = positions / LONGEST_SPAN + 2 * ranges.len() as u64;
            prop_assert!(rows.spans.len() as u64 <= most, "{} spans", rows.spans.len());
        }
    }
}
