//! A hub of the bench's own: the real binary in a directory of its own.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use sqlx::postgres::PgConnectOptions;
use stockfold_tests::free_port;

use crate::process;

/// A hub that is not ready after this long is broken.
const READY_WAIT: Duration = Duration::from_secs(60);
/// A hub that has not ended after this long is broken.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// A running hub.
pub struct BenchHub {
    dir: tempfile::TempDir,
    child: Option<Child>,
    database: Option<String>,
    broker: Option<String>,
    env: Vec<(String, String)>,
    /// `HOST:PORT` of HTTP.
    pub http: String,
    /// `HOST:PORT` of MQTT, its own or the broker's.
    pub mqtt: String,
}

impl BenchHub {
    /// Starts one on free ports with its private database.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_all(None, None, Vec::new())
    }

    /// Starts one behind an external broker.
    pub fn start_behind(broker: &str) -> anyhow::Result<Self> {
        Self::start_all(None, Some(format!("mqtt://{broker}")), Vec::new())
    }

    /// Starts one on free ports with a database of somebody else's.
    pub fn start_with(database: String) -> anyhow::Result<Self> {
        Self::start_all(Some(database), None, Vec::new())
    }

    /// Starts one on free ports with its private database and settings of its own.
    pub fn start_with_env(env: Vec<(String, String)>) -> anyhow::Result<Self> {
        Self::start_all(None, None, env)
    }

    fn start_all(
        database: Option<String>,
        broker: Option<String>,
        env: Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        // As root the hub runs PostgreSQL as another user, who must get through to it.
        let dir = tempfile::Builder::new().prefix("sfbench").tempdir_in("/var/tmp")?;
        let mut hub = Self {
            dir,
            child: None,
            database,
            broker,
            env,
            http: format!("127.0.0.1:{}", free_port()),
            mqtt: format!("127.0.0.1:{}", free_port()),
        };
        hub.launch()?;
        Ok(hub)
    }

    fn binary() -> anyhow::Result<PathBuf> {
        let binary = std::env::current_exe()?.with_file_name("stockfold");
        if !binary.exists() {
            bail!("{} is not built; use `cargo xtask bench`", binary.display());
        }
        Ok(binary)
    }

    /// Starts the process and waits until it is ready; returns how long that took. The ports stay the same over restarts.
    #[allow(clippy::disallowed_methods, reason = "measuring")]
    pub fn launch(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = Command::new(Self::binary()?);
        if let Some(url) = &self.database {
            command.env("STOCKFOLD__DATABASE__URL", url);
        }
        if let Some(url) = &self.broker {
            command.env("STOCKFOLD__MQTT__BROKER_URL", url);
        }
        let mut child = command
            .arg("run")
            .arg("--data-dir")
            .arg(self.data())
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .env("STOCKFOLD__HTTP__BIND", &self.http)
            .env("STOCKFOLD__MQTT__BIND", &self.mqtt)
            .env("STOCKFOLD__MQTT__TLS_BIND", "")
            .env(
                "STOCKFOLD__LOG__FILTER",
                std::env::var("STOCKFOLD_BENCH_LOG").unwrap_or("warn,hub=info,actors=info".into()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let out = child.stdout.take().context("no standard output")?;
        self.child = Some(child);
        let (tell, told) = mpsc::sync_channel(64);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let (mut http, mut mqtt) = (None, None);
        while http.is_none() || mqtt.is_none() {
            let left = READY_WAIT.saturating_sub(began.elapsed());
            let Ok(line) = told.recv_timeout(left) else {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                bail!("the hub did not get ready; its log:\n{log}");
            };
            let word = |prefix: &str| {
                line.split_whitespace().find_map(|w| w.strip_prefix(prefix)).map(str::to_owned)
            };
            if line.contains("/api/v1") {
                http = word("http://").and_then(|w| w.split('/').next().map(str::to_owned));
            }
            mqtt = mqtt.or_else(|| word("mqtt://"));
        }
        (self.http, self.mqtt) = (http.unwrap_or_default(), mqtt.unwrap_or_default());
        // Nothing reads further lines; the thread ends with the pipe.
        std::thread::spawn(move || while told.recv().is_ok() {});
        Ok(began.elapsed())
    }

    /// Where it keeps everything.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("hub.log")
    }
    /// Its PostgreSQL cluster.
    pub fn cluster(&self) -> PathBuf {
        self.data().join("postgres/data")
    }
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The simulator's view of it.
    pub fn client(&self) -> anyhow::Result<simulator::hub::Hub> {
        let token = std::fs::read_to_string(self.data().join("admin-token"))?;
        Ok(simulator::hub::Hub::new(&format!("http://{}", self.http), token.trim())?)
    }

    /// Its metrics.
    pub fn metrics(&self) -> anyhow::Result<String> {
        Ok(ureq::get(format!("http://{}/metrics", self.http))
            .call()?
            .body_mut()
            .read_to_string()?)
    }

    /// A second connection to its database.
    pub fn database(&self) -> PgConnectOptions {
        let options = match &self.database {
            Some(url) => url.parse().unwrap_or_else(|_| PgConnectOptions::new_without_pgpass()),
            None => PgConnectOptions::new_without_pgpass().socket(sockets(&self.data())),
        };
        options.username("stockfold").database("stockfold")
    }

    /// kill -9.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM; returns how long it took to end.
    #[allow(clippy::disallowed_methods, reason = "measuring")]
    pub fn stop(&mut self) -> anyhow::Result<Duration> {
        let Some(mut child) = self.child.take() else { return Ok(Duration::ZERO) };
        let began = Instant::now();
        Command::new("kill").arg(child.id().to_string()).status()?;
        while child.try_wait()?.is_none() {
            if began.elapsed() > STOP_WAIT {
                child.kill()?;
                bail!("the hub did not end within {} s", STOP_WAIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(began.elapsed())
    }

    /// `stockfold replay --check --json`, from the oldest snapshot or from the beginning of the journal.
    pub fn replay(&self, whole: bool) -> anyhow::Result<serde_json::Value> {
        let mut command = Command::new(Self::binary()?);
        command.args(["replay", "--check", "--json", "--data-dir"]).arg(self.data());
        if whole {
            command.arg("--whole");
        }
        if let Some(url) = &self.database {
            command.env("STOCKFOLD__DATABASE__URL", url);
        }
        let out = command.output()?;
        let text = String::from_utf8_lossy(&out.stdout);
        serde_json::from_str(&text)
            .with_context(|| format!("replay said: {text}{}", String::from_utf8_lossy(&out.stderr)))
    }
}

/// Where a data directory's private server has its socket.
fn sockets(data: &Path) -> PathBuf {
    data.join("postgres/s")
}

impl Drop for BenchHub {
    fn drop(&mut self) {
        // SIGTERM takes the database along; after a kill -9 it is still there.
        let _ = self.stop();
        for pid in process::with_cwd(&self.cluster()) {
            let _ = Command::new("kill").args(["-QUIT", &pid.to_string()]).status();
        }
    }
}
