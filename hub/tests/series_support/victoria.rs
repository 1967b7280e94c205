//! victoria-metrics of Debian: a server with InfluxDB's write API that was not written here.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::PATIENCE;

/// A real victoria-metrics on a free port.
pub struct Victoria {
    child: Child,
    pub port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Victoria {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Victoria {
    pub async fn start(test: &str) -> Option<Self> {
        let program = "/usr/bin/victoria-metrics";
        if !std::path::Path::new(program).exists() {
            println!(
                "SKIP {test}: victoria-metrics is not installed; cargo xtask test installs it"
            );
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .arg(format!("-storageDataPath={}", dir.path().display()))
            .args([
                "-retentionPeriod=100y",
                "-search.latencyOffset=0s",
                "-search.disableCache",
                "-memory.allowedBytes=256MB",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let victoria = Self { child, port, _dir: dir };
        let up = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, up).await.unwrap();
        Some(victoria)
    }

    /// Everything it holds, one JSON object a series.
    pub fn export(&self) -> Vec<serde_json::Value> {
        let base = format!("http://127.0.0.1:{}", self.port);
        ureq::get(&format!("{base}/internal/force_flush")).call().unwrap();
        let form = [("match[]", "{__name__=~\"reading_.*\"}")];
        let text = ureq::post(&format!("{base}/api/v1/export"))
            .send_form(form)
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
