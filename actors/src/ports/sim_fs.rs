//! Simulated files: what a disk may do at a power cut, on demand and from a seed.
//!
//! A write is visible at once and durable after `sync`. At a [`SimFs::crash`] each unsynced write is kept, lost, or kept in
//! part by sectors, each independently: disks reorder. Names are durable when made or removed, as `RealFs` syncs its directory.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    fs::{FileIo, Fs},
    rng::Rng,
};

/// Bytes a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<String, Contents>,
    bytes_max: Option<u64>,
    fail_syncs: bool,
    /// Open files of before a crash are dead.
    life: u64,
}

#[derive(Debug, Default, Clone)]
struct Contents {
    durable: Vec<u8>,
    visible: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

/// A directory on a simulated disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

/// An open simulated file.
#[derive(Debug)]
pub struct SimFile {
    disk: Arc<Mutex<Disk>>,
    name: String,
    life: u64,
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimFs {
    /// Cuts the power: unsynced writes are kept, lost or torn.
    pub fn crash(&self, rng: &dyn Rng) {
        let mut disk = lock(&self.disk);
        disk.life += 1;
        for file in disk.files.values_mut() {
            for (at, bytes) in std::mem::take(&mut file.unsynced) {
                match rng.bits() % 3 {
                    0 => {}
                    1 => put(&mut file.durable, at, &bytes),
                    _ => {
                        // Sector by sector of the disk, not of the write.
                        let mut from = 0;
                        while from < bytes.len() {
                            let edge = SECTOR_BYTES - (at + from) % SECTOR_BYTES;
                            let to = (from + edge).min(bytes.len());
                            if rng.bits().is_multiple_of(2) {
                                put(&mut file.durable, at + from, &bytes[from..to]);
                            }
                            from = to;
                        }
                    }
                }
            }
            file.visible = file.durable.clone();
        }
    }

    /// From now on the disk holds so many bytes.
    pub fn set_bytes_max(&self, bytes: Option<u64>) {
        lock(&self.disk).bytes_max = bytes;
    }

    /// From now on every sync fails.
    pub fn fail_syncs(&self, fail: bool) {
        lock(&self.disk).fail_syncs = fail;
    }

    /// Flips a bit on disk.
    pub fn flip(&self, name: &str, byte: usize, bit: u8) {
        if let Some(file) = lock(&self.disk).files.get_mut(name)
            && let Some(byte) = file.durable.get_mut(byte)
        {
            *byte ^= 1 << (bit % 8);
            file.visible = file.durable.clone();
        }
    }

    /// A file's bytes as they are on disk.
    pub fn durable(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.disk).files.get(name).map(|f| f.durable.clone())
    }

    /// Replaces a file's bytes on disk.
    pub fn replace(&self, name: &str, bytes: Vec<u8>) {
        let contents = Contents { visible: bytes.clone(), durable: bytes, unsynced: Vec::new() };
        lock(&self.disk).files.insert(name.to_owned(), contents);
    }
}

fn put(into: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if into.len() < at + bytes.len() {
        into.resize(at + bytes.len(), 0);
    }
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Fs for SimFs {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.disk).files.keys().cloned().collect())
    }

    fn create_zeroed(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let used: u64 = disk.files.values().map(|f| f.visible.len() as u64).sum();
        if disk.bytes_max.is_some_and(|max| used + bytes > max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let contents = Contents { durable: zeros.clone(), visible: zeros, unsynced: Vec::new() };
        disk.files.insert(name.to_owned(), contents);
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let disk = lock(&self.disk);
        if !disk.files.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(SimFile { disk: Arc::clone(&self.disk), name: name.to_owned(), life: disk.life })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match lock(&self.disk).files.remove(name) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn used_permille(&self) -> io::Result<u16> {
        let disk = lock(&self.disk);
        let used: u64 = disk.files.values().map(|f| f.visible.len() as u64).sum();
        let max = disk.bytes_max.unwrap_or(u64::MAX).max(1);
        Ok(u16::try_from(used.saturating_mul(1_000) / max).unwrap_or(1_000))
    }

    fn disk_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.disk).bytes_max.unwrap_or(1 << 40))
    }
}

impl SimFile {
    fn with<T>(&self, then: impl FnOnce(&mut Contents) -> T) -> io::Result<T> {
        let mut disk = lock(&self.disk);
        if disk.life != self.life {
            return Err(io::Error::other("the machine that opened this file is gone"));
        }
        disk.files.get_mut(&self.name).map(then).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl FileIo for SimFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.with(|file| {
            put(&mut file.visible, at, bytes);
            file.unsynced.push((at, bytes.to_vec()));
        })
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.with(|file| {
            let from = usize::try_from(at).unwrap_or(usize::MAX).min(file.visible.len());
            let read = buffer.len().min(file.visible.len() - from);
            buffer[..read].copy_from_slice(&file.visible[from..from + read]);
            read
        })
    }

    fn sync(&self) -> io::Result<()> {
        if lock(&self.disk).fail_syncs {
            return Err(io::Error::other("simulated EIO"));
        }
        self.with(|file| {
            for (at, bytes) in std::mem::take(&mut file.unsynced) {
                put(&mut file.durable, at, &bytes);
            }
        })
    }

    fn bytes(&self) -> io::Result<u64> {
        self.with(|file| file.visible.len() as u64)
    }
}
