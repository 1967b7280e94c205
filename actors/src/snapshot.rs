//! Snapshots: a shard's fold states at one position, so that a start re-folds seconds and not months.
//!
//! A snapshot is one file: header, then each facility's slices, then a checksum over all. It is written under a draft name and
//! renamed, so a half-written one is never seen. Two are kept: should PostgreSQL come back older than the newest, the older
//! one still lies before it. A snapshot is taken only at a position that PostgreSQL has on disk.
//!
//! ```text
//! file      "SFSNAP01" · epoch u32 · shard u16 · 0 u16 · offset u64 · facilities u32 · facility* · crc32c u32
//! facility  slices u32 · (length u32 · bytes)*
//! ```

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// Snapshots kept a shard.
pub const KEPT: usize = 2;
/// Largest slice, in bytes; a longer length field is damage.
pub const SLICE_BYTES_MAX: usize = 256 << 20;
const MAGIC: &[u8; 8] = b"SFSNAP01";

/// Which snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId {
    /// Journal it belongs to.
    pub epoch: u32,
    /// Shard.
    pub shard: u16,
    /// Last offset folded in.
    pub offset: u64,
}

/// The slices of one facility's state.
pub type Slices = Vec<Vec<u8>>;

/// Where snapshots are kept.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Those of a shard, oldest first.
    fn list(&self, shard: u16) -> io::Result<Vec<SnapshotId>>;
    /// Writes one; durable when this returns. Facilities are made one by one as they are written.
    fn save(
        &self,
        id: SnapshotId,
        facilities: &mut dyn ExactSizeIterator<Item = Slices>,
    ) -> io::Result<u64>;
    /// Reads one back; damage is `InvalidData`.
    fn load(&self, id: SnapshotId) -> io::Result<Vec<Slices>>;
    /// Removes one.
    fn remove(&self, id: SnapshotId) -> io::Result<()>;
}

/// Snapshots as files of one directory.
#[derive(Debug, Clone)]
pub struct SnapshotFiles {
    dir: PathBuf,
}

impl SnapshotFiles {
    /// Uses a directory, made if absent.
    pub fn new(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn path(&self, id: SnapshotId) -> PathBuf {
        self.dir.join(format!("{}-{}-{}.snapshot", id.epoch, id.shard, id.offset))
    }
}

fn parse_name(name: &str) -> Option<SnapshotId> {
    let mut parts = name.strip_suffix(".snapshot")?.split('-');
    let id = SnapshotId {
        epoch: parts.next()?.parse().ok()?,
        shard: parts.next()?.parse().ok()?,
        offset: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(id)
}

impl SnapshotStore for SnapshotFiles {
    fn list(&self, shard: u16) -> io::Result<Vec<SnapshotId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            found.extend(name.to_str().and_then(parse_name).filter(|id| id.shard == shard));
        }
        found.sort_unstable();
        Ok(found)
    }

    fn save(
        &self,
        id: SnapshotId,
        facilities: &mut dyn ExactSizeIterator<Item = Slices>,
    ) -> io::Result<u64> {
        let draft = self.dir.join(format!("{}-{}.draft", id.epoch, id.shard));
        let mut out = Summed::new(BufWriter::new(File::create(&draft)?));
        out.put(MAGIC)?;
        out.put(&id.epoch.to_le_bytes())?;
        out.put(&id.shard.to_le_bytes())?;
        out.put(&[0; 2])?;
        out.put(&id.offset.to_le_bytes())?;
        out.put(&length(facilities.len())?)?;
        for slices in facilities {
            out.put(&length(slices.len())?)?;
            for slice in slices {
                out.put(&length(slice.len())?)?;
                out.put(&slice)?;
            }
        }
        let crc = out.crc;
        out.put(&crc.to_le_bytes())?;
        let bytes = out.bytes;
        let file = out.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&draft, self.path(id))?;
        File::open(&self.dir)?.sync_all()?;
        Ok(bytes)
    }

    fn load(&self, id: SnapshotId) -> io::Result<Vec<Slices>> {
        let mut bytes = Vec::new();
        File::open(self.path(id))?.read_to_end(&mut bytes)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the snapshot is damaged");
        let body = bytes.len().checked_sub(4).ok_or_else(damaged)?;
        let (body, crc) = bytes.split_at(body);
        if crc32c::crc32c(body).to_le_bytes() != crc || !body.starts_with(MAGIC) {
            return Err(damaged());
        }
        let mut rest = body.get(24..).ok_or_else(damaged)?;
        let mut next = |n: usize| -> io::Result<&[u8]> {
            let (head, tail) = rest.split_at_checked(n).ok_or_else(damaged)?;
            rest = tail;
            Ok(head)
        };
        let number = |bytes: &[u8]| -> usize {
            bytes.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte))
        };
        let facilities = number(next(4)?);
        let mut out = Vec::new();
        for _ in 0..facilities {
            let count = number(next(4)?);
            let mut slices = Vec::new();
            for _ in 0..count {
                let bytes = number(next(4)?);
                if bytes > SLICE_BYTES_MAX {
                    return Err(damaged());
                }
                slices.push(next(bytes)?.to_vec());
            }
            out.push(slices);
        }
        Ok(out)
    }

    fn remove(&self, id: SnapshotId) -> io::Result<()> {
        fs::remove_file(self.path(id))
    }
}

fn length(n: usize) -> io::Result<[u8; 4]> {
    match u32::try_from(n) {
        Ok(n) => Ok(n.to_le_bytes()),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "a snapshot slice is too large")),
    }
}

/// Writes and sums.
struct Summed<W> {
    inner: W,
    crc: u32,
    bytes: u64,
}

impl<W: Write> Summed<W> {
    fn new(inner: W) -> Self {
        Self { inner, crc: 0, bytes: 0 }
    }
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.bytes += bytes.len() as u64;
        self.inner.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_round_trips_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotFiles::new(dir.path()).unwrap();
        let id = SnapshotId { epoch: 1, shard: 3, offset: 77 };
        let slices = vec![vec![1, 2, 3], Vec::new(), vec![9; 1000]];
        store.save(id, &mut [slices.clone(), slices.clone()].into_iter()).unwrap();
        assert_eq!(store.list(3).unwrap(), [id]);
        assert!(store.list(2).unwrap().is_empty());
        assert_eq!(store.load(id).unwrap(), [slices.clone(), slices]);
        let path = store.path(id);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&path, &bad).unwrap();
            assert_eq!(store.load(id).unwrap_err().kind(), io::ErrorKind::InvalidData, "byte {at}");
        }
        fs::write(&path, &good[..10]).unwrap();
        assert!(store.load(id).is_err());
        store.remove(id).unwrap();
        assert!(store.list(3).unwrap().is_empty());
    }
}
