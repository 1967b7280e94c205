//! Modbus slaves by pymodbus and libmodbus, peers that were not written here.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{Log, wait::WAIT_MAX};

/// Running slaves; they end with this.
pub struct Slaves {
    child: Child,
    input: ChildStdin,
    log: Log,
}

impl Slaves {
    /// Starts slaves of pymodbus with these addresses: `kind` is `tcp`, `rtu+tcp` or `serial`, `place` a port (0 for any) or a
    /// path.
    pub fn start(python: &Path, kind: &str, place: &str, units: &[u8]) -> Self {
        Self::run(python, "modbus_slave.py", kind, place, units)
    }

    /// The same of libmodbus, which serves one client at a time; `kind` is `tcp`, or `serial` with one address.
    pub fn libmodbus(python: &Path, kind: &str, place: &str, units: &[u8]) -> Self {
        Self::run(python, "libmodbus_slave.py", kind, place, units)
    }

    fn run(python: &Path, script: &str, kind: &str, place: &str, units: &[u8]) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("interop").join(script);
        let mut child = Command::new(python)
            .arg(script)
            .args([kind, place])
            .args(units.iter().map(u8::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let input = child.stdin.take().unwrap();
        let ready = log.wait_for(0, WAIT_MAX, |line| line == "ready");
        assert!(ready.is_some(), "the slaves did not start: {}", log.text(0));
        Self { child, input, log }
    }

    /// The TCP port they listen on.
    pub fn port(&self) -> u16 {
        let line = self.log.wait_for(0, WAIT_MAX, |line| line.starts_with("port ")).unwrap();
        line.split_once(' ').unwrap().1.parse().unwrap()
    }

    fn tell(&mut self, told: &Value) {
        let mark = self.log.len();
        writeln!(self.input, "{told}").unwrap();
        let heard = self.log.wait_for(mark, WAIT_MAX, |line| line == "done");
        assert!(heard.is_some(), "the slaves do not obey: {}", self.log.text(0));
    }

    /// Puts registers into a unit, from a wire address on.
    pub fn hold(&mut self, unit: u8, at: u16, values: &[u16]) {
        self.tell(&json!({ "unit": unit, "at": at, "values": values }));
    }

    /// Lets a register count ten times a second, or stand still.
    pub fn beat(&mut self, unit: u8, at: Option<u16>) {
        self.tell(&json!({ "unit": unit, "beat": at }));
    }

    /// Lets every answer of a unit of pymodbus come so much later.
    pub fn pause(&mut self, unit: u8, ms: u32) {
        self.tell(&json!({ "unit": unit, "pause_ms": ms }));
    }

    /// Lets a unit of libmodbus answer this exception to everything, or be well again.
    pub fn except(&mut self, unit: u8, exception: Option<u8>) {
        self.tell(&json!({ "unit": unit, "exception": exception }));
    }

    /// How many writes of registers there were.
    pub fn writes(&self) -> usize {
        self.log.text(0).lines().filter(|line| line.starts_with("wrote ")).count()
    }

    /// Waits until somebody wrote these registers.
    pub fn was_written(&self, unit: u8, at: u16, values: &[u16]) {
        let line = format!("wrote {unit} {at} {}", json!(values)).replace(',', ", ");
        let heard = self.log.wait_for(0, WAIT_MAX, |said| said == line);
        assert!(heard.is_some(), "not {line:?}: {}", self.log.text(0));
    }
}

impl Drop for Slaves {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
