//! Files, as the journal and the snapshots use them.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// A directory of flat files.
pub trait Fs: Send + Sync + 'static {
    /// An open file.
    type File: FileIo;
    /// Names of the files, unordered.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of this many zero bytes, all on disk, and its name durable.
    fn create_zeroed(&self, name: &str, bytes: u64) -> io::Result<()>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Removes a file and makes that durable.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// How full the disk is, in thousandths.
    fn used_permille(&self) -> io::Result<u16>;
    /// Bytes of the disk.
    fn disk_bytes(&self) -> io::Result<u64>;
}

/// An open file.
pub trait FileIo: Send + Sync + Unpin + 'static {
    /// Writes all bytes at a place.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Reads up to the buffer's length; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// What was written is on disk when this returns.
    fn sync(&self) -> io::Result<()>;
    /// Bytes in the file.
    fn bytes(&self) -> io::Result<u64>;
}

/// The machine's own files in one directory.
#[derive(Debug, Clone)]
pub struct RealFs {
    dir: PathBuf,
}

/// Zeros are written in pieces of this size, in bytes.
const ZERO_BYTES: usize = 1 << 20;

impl RealFs {
    /// Uses a directory, made if absent.
    pub fn new(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        // Raw frames are nobody else's business.
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

impl Fs for RealFs {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.dir)?;
        names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create_zeroed(&self, name: &str, bytes: u64) -> io::Result<()> {
        // A draft that fills the disk to the brim before it fails would make everybody else fail too.
        let stat = rustix::fs::statvfs(&self.dir)?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // Written under another name first: a half-filled file must never look like a segment.
        let draft = self.dir.join(format!("{name}.new"));
        let fill = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&draft)?;
            let zeros = vec![0u8; ZERO_BYTES.min(usize::try_from(bytes).unwrap_or(ZERO_BYTES))];
            let mut at = 0;
            while at < bytes {
                let piece = (bytes - at).min(zeros.len() as u64);
                file.write_all_at(&zeros[..piece as usize], at)?;
                at += piece;
                // Synced piece by piece: one large flush would hold up the journal's own syncs on the same disk.
                file.sync_data()?;
            }
            file.sync_all()
        };
        if let Err(error) = fill() {
            // Give the space back, or the disk stays full for everybody.
            let _ = std::fs::remove_file(&draft);
            return Err(error);
        }
        std::fs::rename(&draft, self.dir.join(name))?;
        self.sync_dir()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.dir.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))?;
        self.sync_dir()
    }

    fn used_permille(&self) -> io::Result<u16> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        // What only root may use does not count as free.
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let whole = used.saturating_add(stat.f_bavail).max(1);
        Ok(u16::try_from(used.saturating_mul(1_000) / whole).unwrap_or(1_000))
    }

    fn disk_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }
}

impl FileIo for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match FileExt::read_at(self, &mut buffer[done..], at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
