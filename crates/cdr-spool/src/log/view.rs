//! The log as a whole, for whoever reads it from one place to the end: which segments there are, and how far each counts.
//!
//! A view is taken at one moment and stays as it is. A segment that goes meanwhile is passed over, and what was carried out of
//! it lies behind the view: whoever must not miss that asks [`LogView::has_lost_a_segment`] when done, and takes another
//! view. A stretch that is damaged is passed over, too.

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

/// The numbers of the segments whose files a directory has, growing.
pub(crate) fn numbers_in(directory: &dyn Directory) -> io::Result<Vec<u64>> {
    let names = directory.list()?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|(name, _)| segment::number_of(name, "log")).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The file of a segment; none if it is gone.
pub(crate) fn open(directory: &dyn Directory, number: u64) -> io::Result<Option<Arc<dyn File>>> {
    match directory.open(&segment::file_name(number)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The segments of these numbers that belong to the log of a directory, oldest first. Each with its end, but for one that
/// nobody names: that of the segment which is being written, or was last.
fn segments_of(directory: &dyn Directory, numbers: &[u64]) -> io::Result<Vec<(SegmentHeader, Option<u64>)>> {
    let mut found: Vec<(SegmentHeader, Option<u64>)> = Vec::new();
    for &number in numbers {
        // Gone meanwhile, or not begun: no part of the log.
        let Some(file) = open(directory, number)? else { continue };
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
        loop {
            let listed = numbers_in(&*directory)?;
            let viewed = LogView::of_segments(&directory, &listed)?;
            // What was carried out of one that went meanwhile may lie in one that came meanwhile.
            if has_all(&numbers_in(&*directory)?, &listed) {
                return Ok(viewed);
            }
        }
    }

    fn of_segments(
        directory: &Arc<dyn Directory>,
        numbers: &[u64],
    ) -> io::Result<Option<(SpoolId, LogView)>> {
        let found = segments_of(&**directory, numbers)?;
        if found.is_empty() {
            return Ok(None);
        }
        let identity = segment::identity_of(found.iter().map(|(header, _)| header));
        let mut segments = Vec::with_capacity(found.len());
        for (SegmentHeader { stamp, .. }, end) in found {
            let end = match end {
                Some(end) => end,
                None => match open(&**directory, stamp.segment)? {
                    Some(file) => file.len()?,
                    None => continue,
                },
            };
            segments.push(Extent { stamp, end });
        }
        Ok(Some((identity, LogView { directory: directory.clone(), segments })))
    }

    /// Whether a segment went since the view was taken.
    pub(crate) fn has_lost_a_segment(&self) -> io::Result<bool> {
        let viewed: Vec<u64> = self.segments.iter().map(|extent| extent.stamp.segment).collect();
        Ok(!has_all(&numbers_in(&*self.directory)?, &viewed))
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

    /// Whether a place is part of this view, and its file is there: a frame that is not found there is damaged.
    pub(crate) fn should_have(&self, place: Place) -> bool {
        self.segment(place.segment).is_some_and(|extent| place.offset < extent.end)
            && self.directory.open(&segment::file_name(place.segment)).is_ok()
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
        match open(&*self.directory, extent.stamp.segment)? {
            Some(file) => checkpoint_of(file, extent.stamp),
            None => Ok(None),
        }
    }

    fn walk(&self, extent: &Extent, chunk: usize) -> io::Result<Option<Walk>> {
        let file = open(&*self.directory, extent.stamp.segment)?;
        Ok(file.map(|file| Walk::new(file, extent.stamp, extent.end, chunk)))
    }
}

/// Both growing.
fn has_all(there: &[u64], wanted: &[u64]) -> bool {
    wanted.iter().all(|number| there.binary_search(number).is_ok())
}
