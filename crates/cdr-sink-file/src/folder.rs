//! The folder on disk: names, and the order of writes that makes a file whole or absent.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use cdr_archive::Object;

/// What is written to a file at a time.
const BLOCK: usize = 64 * 1024;

/// A folder of files that are written once. Every call blocks until the disk has answered.
pub(crate) struct Folder {
    path: PathBuf,
    /// The sink's name: two sinks on one folder write the same files, but under temporary names of their own.
    writer: String,
}

/// Files that are larger are none of ours, and not read to see whether another version wrote them.
const LARGEST: u64 = 512 << 20;

/// What became of one file.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Its bytes lie under this name, now or since an earlier attempt.
    There(String),
    /// This one holds other bytes.
    NameTaken(PathBuf),
}

/// Why nothing can be written at present, and where that was seen.
#[derive(Debug)]
pub(crate) struct Trouble {
    path: PathBuf,
    cause: io::Error,
}

/// A file under its temporary name.
struct Draft {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Folder {
    pub fn new(path: PathBuf, writer: &str) -> Self {
        Self { path, writer: writer.to_owned() }
    }

    /// Keeps a file of each object, or says why it cannot: then some may lie there already, which the next attempt will
    /// find.
    ///
    /// All are written before the first is fsynced, and all are fsynced before the first is renamed: file systems
    /// with a journal then need one commit for the lot.
    pub fn keep(&self, objects: &[Object]) -> Result<Vec<Kept>, Trouble> {
        let mut drafts = Vec::new();
        let kept = self.write(objects, &mut drafts).and_then(|kept| {
            publish(&drafts)?;
            self.sync_folders(&kept)?;
            Ok(kept)
        });
        if kept.is_err() {
            // On a full disk the space counts; what cannot be removed is replaced by the next attempt.
            drafts.iter().for_each(|draft| drop(fs::remove_file(&draft.temporary)));
        }
        kept
    }

    /// Keeps these bytes under a name where nothing is; false when something is.
    pub fn add(&self, name: &str, bytes: &[u8]) -> Result<bool, Trouble> {
        let path = self.path.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            return Ok(false);
        }
        let mut drafts = Vec::new();
        // A command may do the same beside the gateway: neither writes into the other's draft.
        let own = Self::new(self.path.clone(), &format!("{}-{}", self.writer, std::process::id()));
        own.draft(|file| file.write_all(bytes), path, &mut drafts)?;
        publish(&drafts)?;
        self.sync_folders(&[Kept::There(name.to_owned())])?;
        Ok(true)
    }

    /// Makes the folder, and writes and removes an empty file in it.
    pub fn probe(&self) -> Result<(), Trouble> {
        self.make_folder(&self.path)?;
        let file = self.path.join(format!(".{}.probe.tmp", self.writer));
        create(&file).and_then(|_| fs::remove_file(&file)).map_err(at(&file))
    }

    fn write(&self, objects: &[Object], drafts: &mut Vec<Draft>) -> Result<Vec<Kept>, Trouble> {
        let mut kept = Vec::with_capacity(objects.len());
        for object in objects {
            let path = self.path.join(object.key());
            match holds(&path, object).map_err(at(&path))? {
                Some(false) => {
                    kept.push(Kept::NameTaken(path));
                    continue;
                }
                Some(true) => {}
                None => self.draft(|file| object.write(file), path, drafts)?,
            }
            kept.push(Kept::There(object.key().to_owned()));
        }
        Ok(kept)
    }

    fn draft(
        &self,
        write: impl Fn(&mut (dyn Write + Send)) -> io::Result<()>,
        path: PathBuf,
        drafts: &mut Vec<Draft>,
    ) -> Result<(), Trouble> {
        let temporary = self.temporary(&path);
        let file = match create(&temporary) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_folder(above(&path))?;
                create(&temporary)
            }
            created => created,
        };
        let file = file.map_err(at(&temporary))?;
        drafts.push(Draft { file, temporary, path });
        let Some(Draft { file, temporary, .. }) = drafts.last_mut() else { return Ok(()) };
        let mut blocks = BufWriter::with_capacity(BLOCK, file);
        write(&mut blocks).and_then(|()| blocks.flush()).map_err(at(temporary))
    }

    fn temporary(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!(".{name}.{}.tmp", self.writer))
    }

    /// Makes a folder of the archive and those between it and `path`, but none above `path`.
    fn make_folder(&self, folder: &Path) -> Result<(), Trouble> {
        let below = folder.strip_prefix(&self.path).unwrap_or(Path::new(""));
        let mut made = self.path.clone();
        make(&made)?;
        for part in below {
            made.push(part);
            make(&made)?;
        }
        Ok(())
    }

    /// Makes the names durable: those of the files, and those of the folders on the way to them. Files that were
    /// there before need it too: the attempt that renamed them may have ended before this.
    fn sync_folders(&self, kept: &[Kept]) -> Result<(), Trouble> {
        let mut folders = BTreeSet::new();
        for kept in kept {
            let Kept::There(name) = kept else { continue };
            let path = self.path.join(name);
            let way = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.path));
            folders.extend(way.map(Path::to_owned));
        }
        if folders.is_empty() {
            return Ok(());
        }
        match sync_folder(above(&self.path)) {
            // Whoever may not look into the folder above made nothing in it.
            Err(error) if error.kind() != ErrorKind::PermissionDenied => {
                return Err(at(above(&self.path))(error));
            }
            _ => {}
        }
        // The deepest last: a name counts only below names that are durable.
        folders.iter().try_for_each(|folder| sync_folder(folder).map_err(at(folder)))
    }
}

impl std::error::Error for Trouble {}

/// The folder in which a path lies.
pub(crate) fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("/"),
    }
}

/// Whether a file is there, and holds this object: to the byte, or as another version of the gateway wrote it.
fn holds(path: &Path, object: &Object) -> io::Result<Option<bool>> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !found.is_file() {
        return Ok(Some(false));
    }
    let file = BufReader::with_capacity(BLOCK, File::open(path)?);
    let mut comparison = Comparison { found: file, is_same: true };
    object.write(&mut comparison)?;
    if comparison.is_same && comparison.found.fill_buf()?.is_empty() {
        return Ok(Some(true));
    }
    Ok(Some(found.len() <= LARGEST && object.has_same_records(&fs::read(path)?)))
}

/// Takes what a file should hold, and sees whether it begins so.
struct Comparison {
    found: BufReader<File>,
    is_same: bool,
}

impl Write for Comparison {
    fn write(&mut self, expected: &[u8]) -> io::Result<usize> {
        if !self.is_same || expected.is_empty() {
            return Ok(expected.len());
        }
        let found = self.found.fill_buf()?;
        let both = found.len().min(expected.len());
        self.is_same = both > 0 && found[..both] == expected[..both];
        self.found.consume(both);
        Ok(if self.is_same { both } else { expected.len() })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Creates a file that replaces what a crash left under its name.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn make(folder: &Path) -> Result<(), Trouble> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(at(folder)(error)),
        _ => Ok(()),
    }
}

fn publish(drafts: &[Draft]) -> Result<(), Trouble> {
    drafts.iter().try_for_each(|draft| draft.file.sync_all().map_err(at(&draft.temporary)))?;
    drafts.iter().try_for_each(|draft| fs::rename(&draft.temporary, &draft.path).map_err(at(&draft.path)))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems know no fsync of folders; they make names durable at once.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Trouble {
    move |cause| Trouble { path: path.to_owned(), cause }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let todo = match self.cause.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room on that disk",
            ErrorKind::PermissionDenied => "; let the gateway's user write there",
            ErrorKind::ReadOnlyFilesystem => "; the file system is mounted read-only",
            ErrorKind::NotFound => "; is a mount missing? make the folder above it or correct path",
            ErrorKind::NotADirectory => "; correct path",
            _ => "",
        };
        write!(f, "cannot write {}: {}{todo}", self.path.display(), self.cause)
    }
}
