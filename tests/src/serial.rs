//! A serial line: two pseudo-terminals that socat ties together.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::wait::until;

/// Two ends of a serial line.
pub struct SerialLine {
    socat: Child,
    dir: tempfile::TempDir,
}

impl SerialLine {
    /// Lays it; it is gone with this.
    pub fn open(socat: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let end = |name: &str| format!("pty,raw,echo=0,link={}", dir.path().join(name).display());
        let socat = Command::new(socat)
            .args([end("master"), end("slave")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        for name in ["master", "slave"] {
            until("the line is there", || dir.path().join(name).exists().then_some(()));
        }
        Self { socat, dir }
    }

    /// The path of its end `master` or `slave`.
    pub fn end(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}
