//! A serial line: two pseudo-terminals that socat ties together.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::wait::until;

/// Two ends of a serial line.
pub struct SerialLine {
    program: PathBuf,
    socat: Child,
    dir: tempfile::TempDir,
}

impl SerialLine {
    /// Lays it; it is gone with this.
    pub fn open(socat: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let line = lay(socat, dir.path());
        Self { program: socat.to_owned(), socat: line, dir }
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
        self.socat = lay(&self.program, self.dir.path());
    }
}

fn lay(socat: &Path, dir: &Path) -> Child {
    let end = |name: &str| format!("pty,raw,echo=0,link={}", dir.join(name).display());
    let socat = Command::new(socat)
        .args([end("master"), end("slave")])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    for name in ["master", "slave"] {
        until("the line is there", || dir.join(name).exists().then_some(()));
    }
    socat
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        self.pull();
    }
}
