//! A hub under test: the real binary, its log, its data directory and its private PostgreSQL.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Api, Log, Ran, free_port,
    leash::Leash,
    programs::stockfold,
    wait::{WAIT_MAX, until},
};

/// Longest start, recovery of journal and database included.
const START_MAX: Duration = Duration::from_secs(120);

/// Longest end.
const END_MAX: Duration = Duration::from_secs(55);

/// How a hub is started.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Settings beside addresses and directory, such as `("STOCKFOLD__SHARDS__COUNT", "2")`.
    pub env: Vec<(String, String)>,
    /// Programs before the hub's own, such as `strace` with its arguments.
    pub wrapper: Vec<String>,
}

impl Setup {
    /// Adds a setting.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.env.push((format!("STOCKFOLD__{key}"), value.to_string()));
        self
    }

    /// It serves devices itself: no external broker is named.
    fn has_endpoint(&self) -> bool {
        !self.env.iter().any(|(key, _)| key == "STOCKFOLD__MQTT__BROKER_URL")
    }
}

/// A hub that did not become ready.
#[derive(Debug)]
pub struct Failed {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Everything it printed.
    pub text: String,
}

/// A running hub.
pub struct Hub {
    setup: Setup,
    // Dropped after the processes are gone.
    dir: TempDir,
    child: Option<Child>,
    leash: Option<Leash>,
    log: Log,
    http: SocketAddr,
    mqtt: SocketAddr,
    mqtt_tls: SocketAddr,
    api: Option<Api>,
}

impl Hub {
    /// A new hub on an empty directory.
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    /// A new hub on an empty directory.
    ///
    /// # Panics
    /// With its log, if it does not become ready.
    pub fn with(setup: Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("stockfold-").tempdir_in("/var/tmp").unwrap();
        // As root PostgreSQL runs as another user, who must be able to pass through.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let own = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = Log::default();
        let (http, mqtt, mqtt_tls) = (own(), own(), own());
        let mut hub =
            Self { setup, dir, child: None, leash: None, log, http, mqtt, mqtt_tls, api: None };
        hub.again();
        hub
    }

    /// The next start is with these settings.
    pub fn set_up(&mut self, setup: Setup) {
        self.setup = setup;
    }

    /// Starts the stopped or killed hub again, on the ports it had.
    ///
    /// # Panics
    /// With its log, if it does not become ready.
    pub fn again(&mut self) {
        if let Err(failed) = self.try_again() {
            panic!(
                "the hub ended with code {} instead of becoming ready:\n{}",
                failed.code, failed.text
            );
        }
    }

    /// Starts the stopped or killed hub again, on the ports it had, and waits until it is ready or has ended.
    pub fn try_again(&mut self) -> Result<(), Failed> {
        assert!(self.child.is_none(), "the hub runs already");
        let from = self.log.len();
        let mut child = self.spawn();
        self.log.follow(child.stdout.take().unwrap());
        self.log.follow(child.stderr.take().unwrap());
        self.leash = Some(Leash::tie(child.id(), self.data_dir()));
        let pid = child.id();
        self.child = Some(child);
        // The last line of the greeting.
        if self.log.wait_for(from, START_MAX, |line| line.starts_with("  token ")).is_none() {
            if !self.log.is_closed() {
                self.kill();
                self.log.show();
                panic!("process {pid} was not ready within {} s", START_MAX.as_secs());
            }
            let status = self.wait();
            return Err(Failed { code: status.code().unwrap_or(-1), text: self.log.text(from) });
        }
        let told = |word: &str, before: &str| -> SocketAddr {
            let line =
                self.log.wait_for(from, Duration::ZERO, |line| line.starts_with(word)).unwrap();
            let rest = line.split_once(before).unwrap().1;
            rest.split(['/', ' ']).next().unwrap().parse().unwrap()
        };
        self.http = told("  API ", "http://");
        if self.setup.has_endpoint() {
            self.mqtt = told("  devices ", "mqtt://");
            self.mqtt_tls = told("  with TLS ", "mqtts://");
        }
        let token = fs::read_to_string(self.data_dir().join("admin-token")).unwrap();
        self.api = Some(Api::new(&format!("http://{}", self.http), token.trim()));
        Ok(())
    }

    fn spawn(&self) -> Child {
        let program = stockfold();
        let mut words =
            self.setup.wrapper.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .arg("run")
            .env("STOCKFOLD__DATA_DIR", self.data_dir())
            .env("STOCKFOLD__HTTP__BIND", self.http.to_string())
            .env("STOCKFOLD__MQTT__BIND", self.mqtt.to_string())
            .env("STOCKFOLD__MQTT__TLS_BIND", self.mqtt_tls.to_string())
            .envs(self.setup.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
    }

    /// Runs another command of the hub's binary on the same directory.
    pub fn command(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(stockfold());
        Ran::of(
            command
                .args(args)
                .env("STOCKFOLD__DATA_DIR", self.data_dir())
                .env("STOCKFOLD__HTTP__BIND", self.http.to_string()),
        )
    }

    /// Proves that the journal gives the committed figures, bit for bit.
    ///
    /// # Panics
    /// With the differences, if it does not.
    pub fn replays_equal(&self) {
        let ran = self.command(&["replay", "--check", "--json"]);
        let report: Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
        assert_eq!((ran.code, &report["equal"]), (0, &Value::Bool(true)), "{report:#}");
    }

    /// Its API.
    pub fn api(&self) -> &Api {
        self.api.as_ref().unwrap()
    }
    /// Where devices connect.
    pub fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }
    /// Where devices connect over TLS.
    pub fn mqtt_tls(&self) -> SocketAddr {
        self.mqtt_tls
    }
    /// Where the API answers.
    pub fn http(&self) -> SocketAddr {
        self.http
    }
    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }
    /// The directory of its journal's segments.
    pub fn journal_dir(&self) -> PathBuf {
        self.data_dir().join("journal")
    }
    /// What it printed, in every life.
    pub fn log(&self) -> &Log {
        &self.log
    }
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the hub runs").id()
    }

    /// Settings of its next start.
    pub fn setup(&mut self) -> &mut Setup {
        &mut self.setup
    }

    /// It has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// `kill -9`. Its PostgreSQL lives on, as it should.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
        }
        self.wait();
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        if let Some(child) = &self.child {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            kill_process(pid, Signal::TERM).unwrap();
        }
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let Some(mut child) = self.child.take() else { return ExitStatus::from_raw(0) };
        let began = Instant::now();
        let status = until("the hub ends", || {
            let ended = child.try_wait().unwrap();
            if ended.is_none() && began.elapsed() > END_MAX {
                self.log.show();
                panic!("the hub did not end within {} s", END_MAX.as_secs());
            }
            ended
        });
        self.leash = None;
        self.log.wait_closed();
        status
    }

    /// Process of its PostgreSQL, if that runs.
    pub fn postgres_pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.data_dir().join("postgres/data/postmaster.pid")).ok()?;
        let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
        // A killed server leaves its file; the process must work in this very cluster.
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        (cwd == fs::canonicalize(self.data_dir().join("postgres/data")).ok()?).then_some(pid)
    }

    /// Stops its PostgreSQL, if that runs.
    pub fn stop_postgres(&self) {
        if let Some(pid) = self.postgres_pid() {
            let _ = kill_process(pid, Signal::INT);
            until("PostgreSQL stops", || self.postgres_pid().is_none().then_some(()));
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.show();
            // No second panic: the first one tells what is wrong.
            if let Some(child) = &mut self.child {
                let _ = child.kill();
                let _ = child.wait();
            }
            if let Some(pid) = self.postgres_pid() {
                let _ = kill_process(pid, Signal::INT);
            }
            return;
        }
        self.stop();
        self.stop_postgres();
    }
}

const _: () = assert!(START_MAX.as_secs() > WAIT_MAX.as_secs());
