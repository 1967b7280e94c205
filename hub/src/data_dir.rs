//! The data directory: where its parts are, and the lock that keeps a second hub out.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{
    api::secret::{self, Secret},
    whole_file,
};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another hub has it.
    #[error(
        "another hub (process {pid}) uses the data directory {dir}. Stop it, or choose another --data-dir"
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The other hub's process, as it wrote itself.
        pid: String,
    },
    /// A file cannot be made or read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The system gives no randomness.
    #[error("no randomness from the operating system: {0}")]
    Random(getrandom::Error),
}

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { path, source }
}

impl DataDir {
    /// Makes the directory if absent and locks it. The kernel drops the lock with the process, however that ends.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        fs::create_dir_all(path).map_err(at(path))?;
        let path = fs::canonicalize(path).map_err(at(path))?;
        // PostgreSQL runs as another user when we are root and must be able to pass through, not to look around.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).map_err(at(&path))?;
        let name = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&name)
            .map_err(at(&name))?;
        let flock = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        if flock.is_err() {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            return Err(DataDirError::Locked { dir: path, pid: pid.trim().to_owned() });
        }
        lock.set_len(0).map_err(at(&name))?;
        writeln!(lock, "{}", std::process::id()).map_err(at(&name))?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Where the journal's segments are.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }
    /// Where snapshots are.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The token that guards the API until people exist: SHA-256 of it, and the token itself when it was made just now.
    pub fn token(&self) -> Result<([u8; 32], Option<String>), DataDirError> {
        let name = token_file(&self.path);
        match fs::read_to_string(&name) {
            Ok(text) => Ok((secret::hash(text.trim()), None)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = Secret::mint().map_err(DataDirError::Random)?;
                whole_file::write(&name, made.reveal().as_bytes()).map_err(at(&name))?;
                Ok((made.hash(), Some(made.reveal().to_owned())))
            }
            Err(error) => Err(at(&name)(error)),
        }
    }
}

/// Where the token is; readable by the hub's user only.
pub fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("admin-token")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_hub_is_kept_out_and_the_token_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::lock(dir.path()).unwrap();
        let error = DataDir::lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        let (hash, made) = first.token().unwrap();
        assert_eq!(secret::hash(&made.unwrap()), hash);
        assert_eq!(first.token().unwrap(), (hash, None));
        let mode = fs::metadata(token_file(first.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(first);
        DataDir::lock(dir.path()).unwrap();
    }
}
