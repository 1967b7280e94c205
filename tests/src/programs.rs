//! Where the programs under test and their foreign peers are, and running one of them to its end.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// How a program ended, and what it said.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        Self::with_input(command, b"")
    }

    /// Runs a command to its end with something on its standard input.
    pub fn with_input(command: &mut Command, input: &[u8]) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        // A program that reads nothing closes the pipe; that is its right.
        let _ = child.stdin.take().map(|mut pipe| pipe.write_all(input));
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, if it ended well.
    ///
    /// # Panics
    /// With what it said, if it did not.
    pub fn good(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }
}

/// The directory of this profile's binaries: that of the test, or of the program that uses the harness.
fn directory() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let dir = own.parent().unwrap();
    if dir.ends_with("deps") { dir.parent().unwrap().to_owned() } else { dir.to_owned() }
}

fn built(name: &str) -> PathBuf {
    let path = directory().join(name);
    assert!(
        path.exists(),
        "{} is not built. Tests across crates run the real binaries: build them first with \
         `cargo build --bins -p hub -p simulator`, or use `cargo xtask test`, which does",
        path.display()
    );
    path
}

/// The hub's binary.
pub fn stockfold() -> PathBuf {
    built("stockfold")
}

/// The simulator's binary.
pub fn stockfold_sim() -> PathBuf {
    built("stockfold-sim")
}

/// A program written elsewhere; `None`, and a line that says so, when it is not installed.
pub fn foreign(test: &str, name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.exists());
    if found.is_none() {
        println!("SKIP {test}: {name} is not installed; cargo xtask test installs it");
    }
    found
}

/// The interpreter of the tests' own Python environment; `None`, and a line that says so, when it was not made.
pub fn python(test: &str) -> Option<PathBuf> {
    let path = directory().parent().map(|target| target.join("venv/bin/python"));
    let found = path.filter(|path: &PathBuf| Path::exists(path));
    if found.is_none() {
        println!("SKIP {test}: the Python environment is absent; cargo xtask test makes it");
    }
    found
}
