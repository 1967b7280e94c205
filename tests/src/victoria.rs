//! victoria-metrics of Debian: a server with InfluxDB's write API that was not written here.
//!
//! It keeps times in milliseconds, repeats as they come, and says yes to everything; what it holds is read by its own API.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::wait::until;

const PROGRAM: &str = "/usr/bin/victoria-metrics";

/// A running server.
pub struct Victoria {
    child: Child,
    address: SocketAddr,
    agent: ureq::Agent,
    // Removed when the server is gone.
    dir: tempfile::TempDir,
}

impl Victoria {
    /// Whether it is installed; if not, a line says so.
    pub fn is_installed(test: &str) -> bool {
        let there = Path::new(PROGRAM).exists();
        if !there {
            println!(
                "SKIP {test}: victoria-metrics is not installed; cargo xtask test installs it"
            );
        }
        there
    }

    /// Starts it on a port with nothing in it, and waits until it answers.
    pub fn start(port: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("sfvm").tempdir_in("/var/tmp").unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let child = run(address, dir.path());
        Self { child, address, agent: ureq::agent(), dir }
    }

    /// Ends it in order: what it took it keeps.
    pub fn stop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, with what it had, and waits until it answers.
    pub fn again(&mut self) {
        self.child = run(self.address, self.dir.path());
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ask(&self, path: &str, form: &[(&str, &str)]) -> String {
        let base = format!("http://{}", self.address);
        self.agent.get(format!("{base}/internal/force_flush")).call().unwrap();
        let mut answer =
            self.agent.post(format!("{base}{path}")).send_form(form.iter().copied()).unwrap();
        answer.body_mut().with_config().limit(256 << 20).read_to_string().unwrap()
    }

    /// All values of a field's series, one object a series.
    pub fn export(&self, field: &str) -> Vec<Value> {
        let text = self.ask("/api/v1/export", &[("match[]", &format!("reading_{field}"))]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many values of a field there are, repeats included.
    pub fn count(&self, field: &str) -> u64 {
        let query = format!("sum(count_over_time(reading_{field}[3d]))");
        let answer = self.ask("/api/v1/query", &[("query", &query)]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let value = answer["data"]["result"][0]["value"][1].as_str().unwrap_or("0");
        value.parse().unwrap()
    }
}

fn run(address: SocketAddr, dir: &Path) -> Child {
    let child = Command::new(PROGRAM)
        .arg(format!("-httpListenAddr={address}"))
        .arg(format!("-storageDataPath={}", dir.display()))
        .args(["-retentionPeriod=100y", "-search.latencyOffset=0s", "-search.disableCache"])
        .args(["-memory.allowedBytes=512MB", "-search.maxSamplesPerQuery=100000000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("victoria-metrics answers", || TcpStream::connect(address).ok());
    child
}

impl Drop for Victoria {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
