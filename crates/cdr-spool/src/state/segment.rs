//! A segment, as it is known in memory.

use std::sync::Arc;

use crate::Position;
use crate::disk::File;
use crate::log::frame::Stamp;
use crate::log::index::SegmentIndex;

/// A frame on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// A segment on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) stamp: Stamp,
    /// Its new positions: first, and first not (committed ones only).
    pub(crate) first: Position,
    pub(crate) until: Position,
    /// Behind its last committed frame: nobody reads further.
    pub(crate) end: u64,
    /// Bytes of its file.
    pub(crate) size: u64,
    pub(crate) opened_at_ms: i64,
    /// When its last frame was written.
    pub(crate) newest_ms: i64,
    /// It is kept aside instead of removed when it goes.
    pub(crate) damaged: bool,
    /// The disk did not give what is needed of it; it stays.
    pub(crate) unreadable: bool,
}

impl Segment {
    pub(crate) fn of(index: &SegmentIndex, size: u64) -> Segment {
        Segment {
            stamp: index.stamp,
            first: index.first,
            until: index.until,
            end: index.end,
            size,
            opened_at_ms: index.opened_at_ms,
            newest_ms: index.newest_ms,
            damaged: index.damaged,
            unreadable: false,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.stamp.segment
    }

    pub(super) fn contains(&self, position: Position) -> bool {
        self.first <= position && position < self.until
    }
}

/// The file of the segment that is being written.
pub(crate) struct OpenFile {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) sparse: Vec<(Position, u64)>,
}
