//! The segment that is being written.

use std::io;
use std::sync::Arc;

use crate::Position;
use crate::disk::{Directory, File, FileId};
use crate::log::frame::{FrameBuilder, FrameHeader, Stamp};
use crate::log::index::{Mark, SegmentIndex};
use crate::log::segment::{self, SegmentHeader};

/// A segment that takes frames. It ends with the first write or sync that fails: after a failed sync the kernel may call
/// pages clean that never reached the disk, so nothing unsynced of the file may ever be trusted again.
pub(crate) struct Tail {
    pub(crate) file: Arc<dyn File>,
    id: FileId,
    /// The name that leads to it.
    name: String,
    /// Of everything written; [`synced`](Self::close) tells how much of it counts.
    index: SegmentIndex,
    synced: Mark,
    /// Where the next frame goes.
    written: u64,
    durable: u64,
    sequence: u64,
}

impl Tail {
    /// Where the first frame begins.
    pub(crate) const START: u64 = segment::HEADER as u64;

    /// Makes a file with a header. It is no segment before [`establish`](Self::establish): its header takes the place of what
    /// lies behind its predecessor's valid end, and may do so only when all that replaces it is durable.
    pub(crate) fn create(directory: &dyn Directory, header: SegmentHeader) -> io::Result<Tail> {
        let name = segment::unborn_name(header.stamp.segment);
        let file = directory.create(&name)?;
        file.write_at(&header.encode(), 0)?;
        let index = SegmentIndex::new(header.stamp, header.first, header.opened_at_ms);
        Ok(Tail {
            id: file.id()?,
            name,
            file,
            synced: index.mark(),
            index,
            written: Self::START,
            durable: Self::START,
            sequence: 0,
        })
    }

    /// Makes everything written durable, and the file a segment.
    pub(crate) fn establish(&mut self, directory: &dyn Directory) -> io::Result<()> {
        self.sync(directory)?;
        let name = segment::file_name(self.index.stamp.segment);
        directory.rename(&self.name, &name)?;
        self.name = name;
        directory.sync()
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.index.stamp
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn opened_at_ms(&self) -> i64 {
        self.index.opened_at_ms
    }

    /// Holds nothing but its checkpoint.
    pub(crate) fn is_fresh(&self) -> bool {
        self.sequence <= 1
    }

    pub(crate) fn has_unsynced(&self) -> bool {
        self.durable < self.written
    }

    /// Writes a frame, without a sync.
    pub(crate) fn write(
        &mut self,
        frame: &mut FrameBuilder,
        position: Position,
        now_ms: i64,
    ) -> io::Result<()> {
        let header = FrameHeader {
            length: (frame.size() - crate::log::frame::HEADER) as u32,
            stamp: self.index.stamp,
            sequence: self.sequence,
            durable_to: self.durable,
            position,
            written_at_ms: now_ms,
            entries: 0,
        };
        let bytes = frame.seal(header);
        self.file.write_at(bytes, self.written)?;
        self.index.add(self.written, &header, bytes);
        self.written += bytes.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    /// Makes everything written durable; tells how far the index had been before.
    ///
    /// # Errors
    /// If the disk fails, or the segment is not where it belongs.
    pub(crate) fn sync(&mut self, directory: &dyn Directory) -> io::Result<Mark> {
        self.file.sync_data()?;
        self.is_in_place(directory)?;
        self.durable = self.written;
        Ok(std::mem::replace(&mut self.synced, self.index.mark()))
    }

    /// A file that was removed, or whose directory was moved away, takes writes and syncs as if nothing had happened, and no start
    /// will ever find them. So what was synced counts only while its name leads to it. The price is a `stat`, two microseconds
    /// beside the sync; watching the directory instead would tell too late.
    ///
    /// # Errors
    /// If it is not there, and what to do.
    pub(crate) fn is_in_place(&self, directory: &dyn Directory) -> io::Result<()> {
        match directory.id_of(&self.name) {
            Ok(id) if id == self.id => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                let gone =
                    format!("{} was removed from the spool's directory, or moved away with it", self.name);
                Err(io::Error::new(io::ErrorKind::NotFound, gone))
            }
        }
    }

    /// Of everything written; after [`sync`](Self::sync), of everything durable.
    pub(crate) fn index(&self) -> &SegmentIndex {
        &self.index
    }

    /// Ends the segment at its last good commit.
    pub(crate) fn close(mut self) -> SegmentIndex {
        self.index.go_back(self.synced);
        self.index
    }
}
