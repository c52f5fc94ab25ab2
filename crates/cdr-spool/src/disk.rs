//! The one small door to the file system.
//!
//! Everything the spool does to its directory goes through [`Directory`] and [`File`], so that the tests can put a disk
//! underneath that loses what was not synced, tears writes and fails. [`RealDirectory`] is the other implementation.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

/// The file that [`Directory::lock`] locks.
pub const LOCK: &str = "lock";

/// The directory of a spool. Names are plain file names in it.
pub trait Directory: Send + Sync + 'static {
    /// Takes the lock of the directory, which is a lock on the file [`LOCK`] in it.
    ///
    /// # Errors
    /// `WouldBlock` with the holder as text if someone else has it.
    fn lock(&self) -> io::Result<Lock>;
    /// Which file has this name now.
    ///
    /// # Errors
    /// `NotFound` if none has, or the directory itself is gone.
    fn id_of(&self, name: &str) -> io::Result<FileId>;
    /// The files with their lengths, in no order.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes a file that must not exist, readable by its owner only.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, over whatever had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync(&self) -> io::Result<()>;
}

/// The lock of a spool's directory, held for as long as this lives.
pub struct Lock {
    /// Which file is locked: one of the same name that is another file guards nothing.
    pub file: FileId,
    /// What holds it.
    pub guard: Box<dyn Send + Sync>,
}

/// Tells a file that is open from every other one of its machine, whatever their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The number of the file system.
    pub device: u64,
    /// The number of the file in it.
    pub inode: u64,
}

impl FileId {
    fn of(metadata: &fs::Metadata) -> FileId {
        FileId { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A file of the spool.
pub trait File: Send + Sync + 'static {
    /// Which file it is.
    fn id(&self) -> io::Result<FileId>;
    /// Writes all bytes at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything written durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Reads up to `bytes.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A directory of the machine.
#[derive(Debug)]
pub struct RealDirectory(PathBuf);

impl RealDirectory {
    /// The directory at `path`, which exists.
    pub fn at(path: impl Into<PathBuf>) -> RealDirectory {
        RealDirectory(path.into())
    }

    /// Makes the directory if needed, mode 0700, and its entries durable up to the first ancestor that was there before:
    /// without that a power cut can take the whole spool back.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<RealDirectory> {
        let path = path.into();
        let missing: Vec<&Path> =
            path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        for created in missing {
            sync_directory(parent(created))?;
        }
        Ok(RealDirectory(path))
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

impl Directory for RealDirectory {
    fn lock(&self) -> io::Result<Lock> {
        let path = self.0.join(LOCK);
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let holder = holder.trim();
            let holder =
                if holder.is_empty() { "another process".into() } else { format!("process {holder}") };
            return Err(io::Error::new(io::ErrorKind::WouldBlock, holder));
        }
        // The number is only told to the next one who asks: the lock itself is the kernel's and dies with the process.
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Lock { file: FileId::of(&file.metadata()?), guard: Box::new(file) })
    }

    fn id_of(&self, name: &str) -> io::Result<FileId> {
        Ok(FileId::of(&fs::metadata(self.0.join(name))?))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                files.push((name, entry.metadata()?.len()));
            }
        }
        Ok(files)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(self.0.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(fs::File::open(self.0.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        sync_directory(&self.0)
    }
}

struct RealFile(fs::File);

impl File for RealFile {
    fn id(&self) -> io::Result<FileId> {
        Ok(FileId::of(&self.0.metadata()?))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match self.0.read_at(&mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(read)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
