//! Walking the frames of a segment, and finding the next one behind damage.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::disk::File;
use crate::log::frame::{self, FrameHeader, Stamp};
use crate::log::segment;

/// What a disk fails to give at once.
const PAGE: u64 = 4096;

/// Reads the frames of one segment through a window in memory.
pub(crate) struct Walk {
    file: Arc<dyn File>,
    stamp: Stamp,
    /// Nothing at or behind this offset is looked at.
    limit: u64,
    /// How much is read at once.
    chunk: usize,
    window: Vec<u8>,
    window_at: u64,
    /// Pages that the disk did not give, by where they begin; none if such a page is an error.
    bad_pages: Option<BTreeSet<u64>>,
    /// Bytes read from the disk so far.
    pub(crate) bytes_read: u64,
}

/// What lies at an offset.
pub(crate) enum Here<'a> {
    Frame(FrameHeader, &'a [u8]),
    /// The bytes there are no whole frame.
    Broken,
    /// The limit, exactly.
    End,
}

impl Walk {
    /// For one frame here and there.
    pub(crate) const SMALL: usize = 16 * 1024;
    /// For many in a row.
    pub(crate) const LARGE: usize = 512 * 1024;
    /// Pages of a segment that may be bad.
    pub(crate) const MOST_BAD: usize = 256;

    pub(crate) fn new(file: Arc<dyn File>, stamp: Stamp, limit: u64, chunk: usize) -> Walk {
        Walk { file, stamp, limit, chunk, window: Vec::new(), window_at: 0, bad_pages: None, bytes_read: 0 }
    }

    /// The same over pages that the disk does not give: they read as zeros, which no checksum takes for a frame. A start must not
    /// fail because of a sector. More than [`MOST_BAD`](Self::MOST_BAD) of them are an error all the same: then it is the disk.
    pub(crate) fn over_bad_pages(file: Arc<dyn File>, stamp: Stamp, limit: u64) -> Walk {
        Walk { bad_pages: Some(BTreeSet::new()), ..Walk::new(file, stamp, limit, Walk::LARGE) }
    }

    /// Whether a page at or behind `offset` was not given.
    pub(crate) fn is_bad_behind(&self, offset: u64) -> bool {
        self.bad_pages.as_ref().and_then(BTreeSet::last).is_some_and(|page| page + PAGE > offset)
    }

    /// Looks as far as the file goes by now; true if that is further than before.
    pub(crate) fn grow(&mut self) -> io::Result<bool> {
        let length = self.file.len()?;
        let has_grown = length > self.limit;
        if has_grown {
            self.end_at(length);
        }
        Ok(has_grown)
    }

    /// Looks at nothing at or behind this offset from now on. What was read before may be the half of a frame.
    pub(crate) fn end_at(&mut self, limit: u64) {
        self.limit = limit;
        self.window.clear();
    }

    /// Where the first frame begins.
    pub(crate) fn start() -> u64 {
        segment::HEADER as u64
    }

    pub(crate) fn at(&mut self, offset: u64) -> io::Result<Here<'_>> {
        if offset >= self.limit {
            return Ok(Here::End);
        }
        let Some(header) = self.header_at(offset)? else { return Ok(Here::Broken) };
        if header.size() > self.limit - offset {
            return Ok(Here::Broken);
        }
        let bytes = self.bytes(offset, header.size() as usize)?;
        if bytes.len() as u64 != header.size() || !frame::is_whole(bytes) {
            return Ok(Here::Broken);
        }
        Ok(Here::Frame(header, bytes))
    }

    /// The header at an offset, its CRC not checked; for building a sparse index without reading the bodies.
    pub(crate) fn header_at(&mut self, offset: u64) -> io::Result<Option<FrameHeader>> {
        let stamp = self.stamp;
        Ok(FrameHeader::parse(self.bytes(offset, frame::HEADER)?, stamp))
    }

    /// The offset of the next whole frame at or behind `from`.
    pub(crate) fn next_whole(&mut self, mut from: u64) -> io::Result<Option<u64>> {
        while from < self.limit {
            let stamp = self.stamp;
            let chunk = self.chunk.max(frame::HEADER * 2);
            let bytes = self.bytes(from, chunk)?;
            let length = bytes.len();
            match frame::find(bytes, stamp) {
                Some(at) => {
                    from += at as u64;
                    if matches!(self.at(from)?, Here::Frame(..)) {
                        return Ok(Some(from));
                    }
                    from += 1;
                }
                None if length < chunk => return Ok(None),
                // What is looked for may lie across the window's end.
                None => from += (length - frame::HEADER) as u64,
            }
        }
        Ok(None)
    }

    /// Up to `length` bytes at `offset`; fewer only at the limit or the end of the file.
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let length = length.min(self.limit.saturating_sub(offset).try_into().unwrap_or(usize::MAX));
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + length as u64 > window_end {
            // A place that the disk does not give must not take with it what lies before it.
            self.fill(offset, length.max(self.chunk))
                .or_else(|_| self.fill(offset, length))
                .or_else(|error| self.fill_by_page(offset, length, error))?;
        }
        let start = (offset - self.window_at) as usize;
        let end = self.window.len().min(start + length);
        Ok(&self.window[start.min(end)..end])
    }

    /// Fills the window page by page, with zeros for those that are bad.
    fn fill_by_page(&mut self, offset: u64, length: usize, error: io::Error) -> io::Result<()> {
        let Some(bad_pages) = self.bad_pages.as_mut() else { return Err(error) };
        let length = length.min((self.limit - offset) as usize);
        self.window.clear();
        self.window.resize(length, 0);
        self.window_at = offset;
        let mut at = offset;
        while at < offset + length as u64 {
            let page = at - at % PAGE;
            let end = (page + PAGE).min(offset + length as u64);
            let part = &mut self.window[(at - offset) as usize..(end - offset) as usize];
            if self.file.read_at(part, at).is_err() {
                part.fill(0);
                bad_pages.insert(page);
            }
            if bad_pages.len() > Walk::MOST_BAD {
                self.window.clear();
                return Err(error);
            }
            at = end;
        }
        Ok(())
    }

    fn fill(&mut self, offset: u64, length: usize) -> io::Result<()> {
        let length = length.min((self.limit - offset) as usize);
        self.window.resize(length, 0);
        self.window_at = offset;
        let read = self.file.read_at(&mut self.window, offset).inspect_err(|_| self.window.clear())?;
        self.window.truncate(read);
        self.bytes_read += read as u64;
        Ok(())
    }
}
