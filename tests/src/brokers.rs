//! Brokers that were not written here: Mosquitto and RabbitMQ with its MQTT plugin, on a free port and a directory of their own.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::{foreign, free_port, until};

/// Starts what it is given and ends it with its standard input, that is with this process, however that ends.
const LEASH: &str =
    r#"setsid "$@" </dev/null >"$LOG" 2>&1 & echo $!; read -r _; kill -KILL -$! 2>/dev/null; wait"#;

enum Kind {
    Mosquitto(PathBuf),
    Rabbit {
        /// Port of Erlang's name server.
        epmd: u16,
    },
}

/// A running broker.
pub struct Broker {
    kind: Kind,
    // Dropped after the process is gone.
    dir: TempDir,
    address: SocketAddr,
    running: Option<(Child, Pid)>,
}

fn free() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

impl Broker {
    /// Mosquitto with these lines in its configuration, in which `DIR` is its directory. Without a listener of their own it
    /// listens in the clear; `None`, and a line that says so, when it is not installed.
    pub fn mosquitto(test: &str, lines: &str) -> Option<Self> {
        let mut broker = Self::mosquitto_away(test, lines)?;
        broker.again();
        Some(broker)
    }

    /// The same, not started yet.
    pub fn mosquitto_away(test: &str, lines: &str) -> Option<Self> {
        let program = foreign(test, "mosquitto")
            .or_else(|| Some(PathBuf::from("/usr/sbin/mosquitto")).filter(|path| path.exists()))?;
        let dir = tempfile::Builder::new().prefix("mosquitto-").tempdir_in("/var/tmp").unwrap();
        let address = free();
        let port = address.port();
        let lines = lines.replace("DIR", &dir.path().display().to_string());
        let config = format!("user root\nlistener {port} 127.0.0.1\n{lines}\n");
        fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        Some(Self { kind: Kind::Mosquitto(program), dir, address, running: None })
    }

    /// RabbitMQ with its MQTT plugin; `None`, and a line that says so, when it is not installed.
    pub fn rabbit(test: &str) -> Option<Self> {
        foreign(test, "rabbitmq-server").or_else(|| {
            Some(PathBuf::from("/usr/sbin/rabbitmq-server")).filter(|path| path.exists())
        })?;
        let dir = tempfile::Builder::new().prefix("rabbitmq-").tempdir_in("/var/tmp").unwrap();
        let address = free();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("plugins"), "[rabbitmq_mqtt].").unwrap();
        let config = format!(
            "listeners.tcp = none\nmqtt.listeners.tcp.1 = {address}\nmqtt.allow_anonymous = true\n\
             mqtt.default_user = guest\nmqtt.default_pass = guest\nmqtt.prefetch = 1000\n"
        );
        fs::write(at("rabbitmq.conf"), config).unwrap();
        let mut broker =
            Self { kind: Kind::Rabbit { epmd: free_port() }, dir, address, running: None };
        broker.again();
        Some(broker)
    }

    /// Starts it, again, on its port and directory, and waits until it takes connections.
    pub fn again(&mut self) {
        assert!(self.running.is_none(), "the broker runs already");
        let at = |name: &str| self.dir.path().join(name);
        let mut command = Command::new("sh");
        command.args(["-c", LEASH, "sh"]);
        match &self.kind {
            Kind::Mosquitto(program) => {
                command.arg(program).arg("-c").arg(at("mosquitto.conf"));
            }
            Kind::Rabbit { epmd } => {
                let port = self.address.port();
                command
                    .arg("/usr/lib/rabbitmq/bin/rabbitmq-server")
                    .env("HOME", self.dir.path())
                    .env("RABBITMQ_NODENAME", format!("stockfold{port}@localhost"))
                    .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
                    .env("RABBITMQ_LOG_BASE", at("log"))
                    .env("RABBITMQ_LOGS", "-")
                    .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
                    .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
                    .env("RABBITMQ_DIST_PORT", free_port().to_string())
                    .env("ERL_EPMD_PORT", epmd.to_string());
            }
        }
        let mut child = command
            .env("LOG", at("log.txt"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        self.running = Some((child, pid));
        until("the broker answers", || self.answers().then_some(()));
    }

    /// It says something to a CONNECT: a port that is open is not yet a broker that serves.
    fn answers(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(self.address) else { return false };
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let hello = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02up";
        let said =
            std::io::Write::write_all(&mut socket, hello).and_then(|()| socket.read(&mut [0; 4]));
        // One that expects TLS cuts the connection, and that is an answer.
        match said {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it logged in this life.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log.txt")).unwrap_or_default()
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.running.as_ref().expect("the broker runs").1
    }

    /// Has it read its files again.
    pub fn reload(&self) {
        kill_process(self.pid(), Signal::HUP).unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let Some((mut child, pid)) = self.running.take() else { return };
        let _ = kill_process_group(pid, Signal::KILL);
        drop(child.stdin.take());
        let _ = child.wait();
    }

    /// SIGTERM, and waits for the end: a broker that keeps things writes them.
    pub fn stop(&mut self) {
        let Some((mut child, pid)) = self.running.take() else { return };
        let _ = kill_process(pid, Signal::TERM);
        // Its shell collects it later; until then it is a zombie.
        let status = format!("/proc/{pid}/status");
        until("the broker ends", || {
            fs::read_to_string(&status).map_or(true, |s| s.contains("State:\tZ")).then_some(())
        });
        drop(child.stdin.take());
        let _ = child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().rev().take(50).collect();
            println!("── the broker's log, newest first\n{}", lines.join("\n"));
        }
        self.kill();
        if let Kind::Rabbit { epmd } = self.kind {
            // Erlang's name server outlives the node that started it, and ends only when it has noticed that the node is gone.
            let port = epmd.to_string();
            for _ in 0..100 {
                let ended = Command::new("epmd").args(["-port", &port, "-kill"]).output();
                if !ended.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("living")) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}
