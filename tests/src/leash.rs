//! A leash: when the test process ends, however it ends, the hub it started and that hub's PostgreSQL end too.
//!
//! A shell waits on a pipe that only the test process holds. While the hub is looked after properly the leash is let go
//! before anything can happen by it.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

const SCRIPT: &str = r#"
read -r _
kill -TERM "$1" 2>/dev/null
for _ in $(seq 100); do kill -0 "$1" 2>/dev/null || break; sleep 0.1; done
server=$(head -n 1 "$2/postgres/data/postmaster.pid" 2>/dev/null)
[ -n "$server" ] && kill -INT "$server" 2>/dev/null
for _ in $(seq 100); do [ -n "$server" ] && kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
rm -rf "$2"
"#;

/// Held while a hub runs.
pub struct Leash {
    shell: Child,
}

impl Leash {
    /// Ties a process and its data directory to this process.
    pub fn tie(pid: u32, data_dir: &Path) -> Self {
        let shell = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "sh", &pid.to_string()])
            .arg(data_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setsid and sh are on every Linux machine");
        Self { shell }
    }
}

impl Drop for Leash {
    /// Lets go without pulling.
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
