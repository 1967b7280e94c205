//! A serial line: a pseudo-terminal that socat ties to another, or to a device's own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::wait::until;

/// A serial line with the ends `master` and `slave`; what is laid onto a device has the device for a slave.
pub struct SerialLine {
    program: PathBuf,
    socat: Child,
    dir: tempfile::TempDir,
    device: Option<PathBuf>,
}

impl SerialLine {
    /// Lays it; it is gone with this.
    pub fn open(socat: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let line = lay(socat, dir.path(), None);
        Self { program: socat.to_owned(), socat: line, dir, device: None }
    }

    /// Lays it onto a device's own end: the adapter between the two. The device lives on when the adapter is pulled.
    pub fn onto(socat: &Path, device: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let line = lay(socat, dir.path(), Some(device));
        Self { program: socat.to_owned(), socat: line, dir, device: Some(device.to_owned()) }
    }

    /// The path of its end `master` or `slave`.
    pub fn end(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Takes it away, as an adapter that is pulled.
    pub fn pull(&mut self) {
        let _ = self.socat.kill();
        let _ = self.socat.wait();
        for name in ["master", "slave"] {
            let _ = std::fs::remove_file(self.end(name));
        }
    }

    /// Plugs it in again, under the same paths.
    pub fn plug(&mut self) {
        self.socat = lay(&self.program, self.dir.path(), self.device.as_deref());
    }
}

fn lay(socat: &Path, dir: &Path, device: Option<&Path>) -> Child {
    let end = |name: &str| format!("pty,raw,echo=0,link={}", dir.join(name).display());
    let slave = match device {
        None => end("slave"),
        Some(device) => format!("{},raw,echo=0", device.display()),
    };
    let socat =
        Command::new(socat).args([end("master"), slave]).stdin(Stdio::null()).spawn().unwrap();
    for name in ["master", "slave"].into_iter().take(2 - usize::from(device.is_some())) {
        until("the line is there", || dir.join(name).exists().then_some(()));
    }
    socat
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        self.pull();
    }
}
