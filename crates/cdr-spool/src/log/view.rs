//! The log as a whole, for whoever reads it from one place to the end: which segments there are, and how far each counts.
//!
//! A view is taken at one moment and stays as it is. A segment that goes meanwhile is passed over; a stretch that is damaged
//! is, too.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::SpoolId;
use crate::disk::{Directory, File};
use crate::log::entry::{self, Checkpoint, Entry};
use crate::log::frame::{FrameHeader, Stamp};
use crate::log::segment::{self, SegmentHeader};
use crate::log::walk::{Here, Walk};
use crate::state::Place;

/// A segment, and the offset at which what counts of it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) stamp: Stamp,
    pub(crate) end: u64,
}

/// The segments of a log, oldest first.
#[derive(Clone)]
pub(crate) struct LogView {
    directory: Arc<dyn Directory>,
    segments: Vec<Extent>,
}

/// The segments that belong to the log of a directory, oldest first. Each with its end, but for one that nobody names: that
/// of the segment which is being written, or was last.
fn segments_of(directory: &dyn Directory) -> io::Result<Vec<(SegmentHeader, Option<u64>)>> {
    let mut numbers: Vec<u64> =
        directory.list()?.iter().filter_map(|(name, _)| segment::number_of(name, "log")).collect();
    numbers.sort_unstable();
    let mut found: Vec<(SegmentHeader, Option<u64>)> = Vec::new();
    for number in numbers {
        // Gone meanwhile, or not begun: no part of the log.
        let Ok(file) = directory.open(&segment::file_name(number)) else { continue };
        let Some(header) = SegmentHeader::read_or_salvage(&*file, number)? else { continue };
        let (previous, end) = header.previous;
        while previous > 0 && found.pop_if(|(before, _)| before.stamp.segment > previous).is_some() {}
        if let Some(last) = found.last_mut().filter(|(before, _)| before.stamp.segment == previous) {
            last.1 = Some(end);
        }
        found.push((header, None));
    }
    let stamps = found.iter().map(|(header, _)| header.stamp);
    if let Some((own, checkpoint)) = newest_checkpoint(directory, stamps)? {
        found.retain_mut(|(header, end)| heed(own, &checkpoint, header.stamp.segment, end));
    }
    Ok(found)
}

/// The number of the newest segment that begins with a checkpoint, and that checkpoint; `segments` oldest first.
///
/// It names all segments before its own, and their ends. Headers name ends too, but go with their segments; what lies behind
/// such an end was given up, and is no part of the log.
pub(crate) fn newest_checkpoint(
    directory: &dyn Directory,
    segments: impl DoubleEndedIterator<Item = Stamp>,
) -> io::Result<Option<(u64, Checkpoint)>> {
    for stamp in segments.rev() {
        let Ok(file) = directory.open(&segment::file_name(stamp.segment)) else { continue };
        if let Some(checkpoint) = checkpoint_of(file, stamp)? {
            return Ok(Some((stamp.segment, checkpoint)));
        }
    }
    Ok(None)
}

/// Lets a checkpoint of segment `own` say whether a segment belongs to the log, and where it ends.
pub(crate) fn heed(own: u64, checkpoint: &Checkpoint, segment: u64, end: &mut Option<u64>) -> bool {
    let known = checkpoint.segments.iter().find(|known| known.number == segment);
    *end = known.map(|known| known.end).or(*end);
    known.is_some() || segment >= own
}

/// The checkpoint with which a segment begins; none if it is damaged.
fn checkpoint_of(file: Arc<dyn File>, stamp: Stamp) -> io::Result<Option<Checkpoint>> {
    let size = file.len()?;
    let mut walk = Walk::new(file, stamp, size, Walk::SMALL);
    let Here::Frame(_, bytes) = walk.at(Walk::start())? else { return Ok(None) };
    Ok(entry::entries(bytes).find_map(|entry| match entry {
        Entry::Checkpoint(checkpoint) => Some(checkpoint),
        _ => None,
    }))
}

impl LogView {
    pub(crate) fn new(directory: Arc<dyn Directory>, segments: Vec<Extent>) -> LogView {
        LogView { directory, segments }
    }

    /// What the files of a directory tell, without their owner: everything written counts, synced or not. None if
    /// there is no spool.
    pub(crate) fn of(directory: Arc<dyn Directory>) -> io::Result<Option<(SpoolId, LogView)>> {
        let found = segments_of(&*directory)?;
        if found.is_empty() {
            return Ok(None);
        }
        let identity = segment::identity_of(found.iter().map(|(header, _)| header));
        let mut segments = Vec::with_capacity(found.len());
        for (SegmentHeader { stamp, .. }, end) in found {
            let end = match end {
                Some(end) => end,
                None => match directory.open(&segment::file_name(stamp.segment)) {
                    Ok(file) => file.len()?,
                    Err(_) => continue,
                },
            };
            segments.push(Extent { stamp, end });
        }
        Ok(Some((identity, LogView { directory, segments })))
    }

    pub(crate) fn segments(&self) -> &[Extent] {
        &self.segments
    }

    pub(crate) fn segment(&self, number: u64) -> Option<&Extent> {
        let at = self.segments.binary_search_by_key(&number, |extent| extent.stamp.segment).ok()?;
        self.segments.get(at)
    }

    /// Where the log ends.
    pub(crate) fn end(&self) -> Place {
        self.segments.last().map_or(Place { segment: 0, offset: 0 }, |last| Place {
            segment: last.stamp.segment,
            offset: last.end,
        })
    }

    /// Shows the frames from a place on, in order, until `visit` refuses one; tells where to go on.
    pub(crate) fn follow(
        &self,
        from: Place,
        mut visit: impl FnMut(Place, &FrameHeader, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<Place> {
        let mut place = from;
        let begin = self.segments.partition_point(|extent| extent.stamp.segment < from.segment);
        for extent in &self.segments[begin..] {
            let number = extent.stamp.segment;
            if number != place.segment {
                place = Place { segment: number, offset: Walk::start() };
            }
            let Some(mut walk) = self.walk(extent, Walk::LARGE)? else {
                place.offset = extent.end;
                continue;
            };
            loop {
                match walk.at(place.offset)? {
                    Here::End => break,
                    Here::Frame(header, bytes) => {
                        if visit(place, &header, bytes).is_break() {
                            return Ok(place);
                        }
                        place.offset += header.size();
                    }
                    Here::Broken => match walk.next_whole(place.offset + 1)? {
                        Some(at) => place.offset = at,
                        // Damage; or, seen from outside, a write that is under way.
                        None => place.offset = extent.end,
                    },
                }
            }
        }
        Ok(place)
    }

    /// Whether the file of a segment is there.
    pub(crate) fn has_file(&self, number: u64) -> bool {
        self.directory.open(&segment::file_name(number)).is_ok()
    }

    /// Lets `look` see one frame. None if its segment is gone, or there is no whole frame at that place.
    pub(crate) fn frame<R>(
        &self,
        place: Place,
        look: impl FnOnce(&FrameHeader, &[u8]) -> R,
    ) -> io::Result<Option<R>> {
        let Some(extent) = self.segment(place.segment) else { return Ok(None) };
        let Some(mut walk) = self.walk(extent, Walk::SMALL)? else { return Ok(None) };
        Ok(match walk.at(place.offset)? {
            Here::Frame(header, bytes) => Some(look(&header, bytes)),
            Here::Broken | Here::End => None,
        })
    }

    /// The checkpoint with which a segment begins; none if it is damaged, or the segment is gone.
    pub(crate) fn checkpoint(&self, extent: &Extent) -> io::Result<Option<Checkpoint>> {
        match self.directory.open(&segment::file_name(extent.stamp.segment)) {
            Ok(file) => checkpoint_of(file, extent.stamp),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn walk(&self, extent: &Extent, chunk: usize) -> io::Result<Option<Walk>> {
        match self.directory.open(&segment::file_name(extent.stamp.segment)) {
            Ok(file) => Ok(Some(Walk::new(file as Arc<dyn File>, extent.stamp, extent.end, chunk))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
