//! A disk that behaves as badly as disks may: what was not synced may be lost, kept or torn, in any order; syncs and writes
//! fail; the room ends; and the power goes in the middle of anything.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use cdr_spool::disk::{Directory, File, FileId, LOCK, Lock};

#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    files: BTreeMap<u64, Data>,
    next_file: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Grows with each crash; what was opened before is dead.
    boot: u64,
    /// Grows with whatever is written, named or removed.
    changes: u64,
    /// Reads of files.
    reads: u64,
    locked: bool,
    /// Changes that still succeed before the power goes.
    power: Option<u32>,
    failing_syncs: u32,
    failing_directory_syncs: u32,
    failing_writes: u32,
    failing_reads: bool,
    /// Bytes of one file that cannot be read.
    bad_place: Option<(u64, std::ops::Range<u64>)>,
    read_only: bool,
    hanging: bool,
    capacity: Option<u64>,
    /// The directory is elsewhere, with these files, and nothing is at its place.
    away: Option<BTreeMap<String, u64>>,
    /// While it is away, an empty one is at its place.
    replaced: bool,
}

#[derive(Default, Clone)]
struct Data {
    /// What a reader sees.
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync, or under a sync that failed.
    pending: Vec<(u64, Vec<u8>)>,
    doubtful: Vec<(u64, Vec<u8>)>,
}

impl Data {
    fn put(into: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        let end = offset as usize + bytes.len();
        if into.len() < end {
            into.resize(end, 0);
        }
        into[offset as usize..end].copy_from_slice(bytes);
    }
}

/// A small generator, so that a crash is decided by the test's seed.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n.max(1)
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    /// The directory as a program sees it that starts now.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(SimDirectory { disk: self.clone(), boot: self.lock().boot })
    }

    /// The power goes after so many more changes.
    pub fn cut_power_after(&self, changes: u32) {
        self.lock().power = Some(changes);
    }

    pub fn fail_syncs(&self, n: u32) {
        self.lock().failing_syncs = n;
    }

    /// The same for the directory: files that get a name may lose it again.
    pub fn fail_directory_syncs(&self, n: u32) {
        self.lock().failing_directory_syncs = n;
    }

    pub fn fail_writes(&self, n: u32) {
        self.lock().failing_writes = n;
    }

    /// Each read of a file fails, until it is told otherwise.
    pub fn fail_reads(&self, fail: bool) {
        self.lock().failing_reads = fail;
    }

    /// Each read that touches these bytes of a file fails; none mends it.
    pub fn spoil(&self, place: Option<(&str, std::ops::Range<u64>)>) {
        let mut content = self.lock();
        content.bad_place = place.map(|(name, bytes)| (content.names[name], bytes));
    }

    /// Syncs do not come back, until it is told otherwise.
    pub fn hang(&self, hang: bool) {
        self.lock().hanging = hang;
    }

    /// Nothing can be changed, until it is told otherwise.
    pub fn make_read_only(&self, read_only: bool) {
        self.lock().read_only = read_only;
    }

    /// Moves the directory away, with all that is open in it.
    pub fn move_away(&self) {
        let mut content = self.lock();
        content.away = Some(std::mem::take(&mut content.names));
    }

    /// Makes an empty directory at the place of one that is away.
    pub fn make_another(&self) {
        self.lock().replaced = true;
    }

    /// Moves the directory back.
    pub fn move_back(&self) {
        let mut content = self.lock();
        content.names = content.away.take().unwrap();
        content.replaced = false;
    }

    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    pub fn used(&self) -> u64 {
        let content = self.lock();
        content.names.values().map(|id| content.files[id].current.len() as u64).sum()
    }

    /// The same number twice: nothing was changed in between.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// How often a file was read.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// The process dies (`kill -9`): what was written is still there.
    pub fn kill(&self) {
        let mut content = self.lock();
        content.boot += 1;
        content.locked = false;
        content.power = None;
    }

    /// The power goes: of everything that was not synced, some is there, some not, some in part.
    pub fn crash(&self, chance: &mut Chance) {
        let mut content = self.lock();
        content.boot += 1;
        content.locked = false;
        content.power = None;
        content.failing_syncs = 0;
        content.failing_directory_syncs = 0;
        content.failing_writes = 0;
        let Content { names, durable_names, files, .. } = &mut *content;
        let mut all: Vec<String> = names.keys().chain(durable_names.keys()).cloned().collect();
        all.dedup();
        for name in all {
            if names.get(&name) != durable_names.get(&name) && chance.below(2) == 0 {
                match names.get(&name) {
                    Some(id) => durable_names.insert(name, *id),
                    None => durable_names.remove(&name),
                };
            }
        }
        *names = durable_names.clone();
        for data in files.values_mut() {
            let mut unsure: Vec<_> = data.doubtful.drain(..).chain(data.pending.drain(..)).collect();
            for (offset, bytes) in unsure.drain(..) {
                match chance.below(3) {
                    0 => {}
                    1 => Data::put(&mut data.durable, offset, &bytes),
                    _ => {
                        let part = chance.below(bytes.len() as u64) as usize;
                        Data::put(&mut data.durable, offset, &bytes[..part]);
                    }
                }
            }
            data.current = data.durable.clone();
        }
    }

    /// Changes bytes behind everyone's back.
    pub fn flip(&self, name: &str, offset: usize) {
        let mut content = self.lock();
        let id = content.names[name];
        let data = content.files.get_mut(&id).unwrap();
        data.current[offset] ^= 0x55;
        if let Some(byte) = data.durable.get_mut(offset) {
            *byte ^= 0x55;
        }
    }

    /// Takes the end of a file away behind everyone's back.
    pub fn cut_short(&self, name: &str, length: usize) {
        let mut content = self.lock();
        let id = content.names[name];
        let data = content.files.get_mut(&id).unwrap();
        data.current.truncate(length);
        data.durable.truncate(length);
    }

    pub fn bytes_of(&self, name: &str) -> Vec<u8> {
        let content = self.lock();
        content.files[&content.names[name]].current.clone()
    }

    /// Removes a file behind everyone's back.
    pub fn lose(&self, name: &str) {
        let mut content = self.lock();
        content.names.remove(name);
        content.durable_names.remove(name);
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is gone")
}

impl Content {
    fn alive(&self, boot: u64) -> io::Result<()> {
        if self.boot != boot || self.power == Some(0) { Err(no_power()) } else { Ok(()) }
    }

    /// A change: costs power.
    fn change(&mut self, boot: u64) -> io::Result<()> {
        self.alive(boot)?;
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if let Some(left) = &mut self.power {
            *left -= 1;
        }
        self.changes += 1;
        Ok(())
    }

    fn lock_file(&self) -> FileId {
        FileId { device: 1, inode: 0 }
    }

    /// Fails while there is no directory at the place of the spool's.
    fn has_directory(&self) -> io::Result<()> {
        match self.away {
            Some(_) if !self.replaced => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

struct SimDirectory {
    disk: Disk,
    boot: u64,
}

struct Guard {
    disk: Disk,
    boot: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut content = self.disk.lock();
        if content.boot == self.boot {
            content.locked = false;
        }
    }
}

impl Directory for SimDirectory {
    fn lock(&self) -> io::Result<Lock> {
        let mut content = self.disk.lock();
        content.alive(self.boot)?;
        if std::mem::replace(&mut content.locked, true) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "another test"));
        }
        let guard = Box::new(Guard { disk: self.disk.clone(), boot: self.boot });
        Ok(Lock { file: content.lock_file(), guard })
    }

    fn id_of(&self, name: &str) -> io::Result<FileId> {
        let content = self.disk.lock();
        content.alive(self.boot)?;
        match name {
            LOCK if content.away.is_none() => Ok(content.lock_file()),
            name => Ok(FileId { device: 0, inode: content.find(name)? }),
        }
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let content = self.disk.lock();
        content.alive(self.boot)?;
        Ok(content
            .names
            .iter()
            .map(|(name, id)| (name.clone(), content.files[id].current.len() as u64))
            .collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut content = self.disk.lock();
        content.change(self.boot)?;
        content.has_directory()?;
        if content.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = content.next_file;
        content.next_file += 1;
        content.files.insert(id, Data::default());
        content.names.insert(name.to_owned(), id);
        Ok(Arc::new(SimFile { disk: self.disk.clone(), boot: self.boot, id }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let content = self.disk.lock();
        content.alive(self.boot)?;
        let id = content.find(name)?;
        Ok(Arc::new(SimFile { disk: self.disk.clone(), boot: self.boot, id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut content = self.disk.lock();
        content.change(self.boot)?;
        let id = content.find(from)?;
        content.names.remove(from);
        content.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut content = self.disk.lock();
        content.change(self.boot)?;
        content.find(name)?;
        content.names.remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut content = self.disk.lock();
        content.change(self.boot)?;
        content.has_directory()?;
        if content.failing_directory_syncs > 0 {
            content.failing_directory_syncs -= 1;
            return Err(io::Error::other("injected: the directory cannot be synced"));
        }
        content.durable_names = content.names.clone();
        Ok(())
    }
}

struct SimFile {
    disk: Disk,
    boot: u64,
    id: u64,
}

impl File for SimFile {
    fn id(&self) -> io::Result<FileId> {
        Ok(FileId { device: 0, inode: self.id })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.disk.lock();
        content.alive(self.boot)?;
        if content.failing_writes > 0 {
            content.failing_writes -= 1;
            return Err(io::Error::other("injected: the write fails"));
        }
        let others: u64 = content.names.values().map(|id| content.files[id].current.len() as u64).sum();
        let grows =
            (offset + bytes.len() as u64).saturating_sub(content.files[&self.id].current.len() as u64);
        let room = content.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(others));
        if content.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        // A write that the power or the room ends is there in part.
        let powered = content.change(self.boot).is_ok() && content.power != Some(0);
        let length = if grows > room || !powered { bytes.len() / 2 } else { bytes.len() };
        let data = content.files.get_mut(&self.id).unwrap();
        Data::put(&mut data.current, offset, &bytes[..length]);
        data.pending.push((offset, bytes[..length].to_vec()));
        match powered {
            false => Err(no_power()),
            true if grows > room => Err(io::ErrorKind::StorageFull.into()),
            true => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        while self.disk.lock().hanging {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let mut content = self.disk.lock();
        content.change(self.boot)?;
        let fails = content.failing_syncs > 0;
        content.failing_syncs = content.failing_syncs.saturating_sub(1);
        let data = content.files.get_mut(&self.id).unwrap();
        let pending: Vec<_> = data.pending.drain(..).collect();
        if fails {
            // The kernel calls the pages clean; whether they reached the disk nobody knows.
            data.doubtful.extend(pending);
            return Err(io::Error::other("injected: the sync fails"));
        }
        for (offset, bytes) in pending {
            Data::put(&mut data.durable, offset, &bytes);
        }
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut content = self.disk.lock();
        content.alive(self.boot)?;
        content.reads += 1;
        let end = offset + bytes.len() as u64;
        let touches =
            |(id, bad): &(u64, std::ops::Range<u64>)| *id == self.id && offset < bad.end && bad.start < end;
        if content.failing_reads || content.bad_place.as_ref().is_some_and(touches) {
            return Err(io::Error::other("injected: the read fails"));
        }
        let data = &content.files[&self.id].current;
        let start = data.len().min(offset as usize);
        let length = bytes.len().min(data.len() - start);
        bytes[..length].copy_from_slice(&data[start..start + length]);
        Ok(length)
    }

    fn len(&self) -> io::Result<u64> {
        let content = self.disk.lock();
        content.alive(self.boot)?;
        Ok(content.files[&self.id].current.len() as u64)
    }
}
