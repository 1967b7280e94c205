//! The hub's own PostgreSQL, run from the installed programs: nothing to set up.
//!
//! When no database URL is configured the hub keeps a cluster under its data directory and runs `postgres` on it: no TCP, a
//! socket directory of mode 0700, fsync on. The server has a session of its own and outlives a killed hub; the next hub
//! attaches to it. As root the server runs as another user, because PostgreSQL refuses to be root.
//!
//! What goes wrong in the field, and what is done about it:
//! - a killed server leaves two lock files, whose pids may belong to a zombie or to a stranger. They are cleared, but only
//!   when no process has the cluster as its working directory: that is how PostgreSQL's shared memory stays guarded;
//! - an interrupted `initdb` leaves half a cluster: it is made beside its place and moved there whole;
//! - the marker holds the major version: a minor upgrade is fine, another major version is refused with its name;
//! - every parent directory must be searchable for the other user, and a socket path has at most 107 bytes: both are checked
//!   before anything is started, with an error that says what to change.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

/// Database and role of the private cluster.
const NAME: &str = "stockfold";
/// How far the server's processes stand back behind the hub's.
const NICENESS: &str = "5";
/// Longest path of a Unix socket, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// How long a starting server may take until it answers, in seconds; crash recovery included.
const START_SECONDS_MAX: u64 = 60;
/// How long a stopping server may take for its checkpoint, in seconds.
const STOP_SECONDS_MAX: u64 = 3;
/// Pause between two attempts to connect to a starting server, in milliseconds.
const POLL_MS: u64 = 20;

/// Why the private server does not run.
#[derive(Debug, thiserror::Error)]
pub enum PrivateServerError {
    /// No programs.
    #[error(
        "PostgreSQL's programs are not installed. Install them (Debian: apt-get install postgresql), \
         or set [database] url to a server of yours"
    )]
    NotInstalled,
    /// The cluster belongs to another major version.
    #[error(
        "the database in {dir} was made by PostgreSQL {made}, the installed programs are version {installed}. \
         Install PostgreSQL {made} again, or move the data with pg_upgrade"
    )]
    OtherMajor {
        /// The cluster.
        dir: PathBuf,
        /// Version that made it.
        made: String,
        /// Version installed.
        installed: String,
    },
    /// The socket's path is too long.
    #[error(
        "the socket path {0} is longer than {SOCKET_PATH_BYTES_MAX} bytes. Choose a shorter --data-dir"
    )]
    SocketPath(PathBuf),
    /// A parent directory is closed to the server's user.
    #[error(
        "{dir} cannot be entered by the user {user}, as whom PostgreSQL runs when the hub is root. \
         Choose another --data-dir (default: /var/lib/stockfold), or chmod o+x {dir}"
    )]
    NotSearchable {
        /// The directory.
        dir: PathBuf,
        /// The user.
        user: String,
    },
    /// No user to run as.
    #[error("PostgreSQL refuses to run as root and there is neither a user postgres nor nobody")]
    NoUser,
    /// A program failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Which.
        program: &'static str,
        /// What it said.
        output: String,
    },
    /// The server does not answer.
    #[error("PostgreSQL did not answer within {START_SECONDS_MAX} s; its log is {log}: {last}")]
    NoAnswer {
        /// Its log.
        log: PathBuf,
        /// The last error of connecting.
        last: String,
    },
    /// A file or directory.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateServerError {
    let path = path.to_owned();
    move |source| PrivateServerError::Io { what, path, source }
}

/// A user to run the server as.
#[derive(Debug, Clone)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

/// The private server of a data directory.
#[derive(Debug)]
pub struct PrivateServer {
    bin: PathBuf,
    cluster: PathBuf,
    sockets: PathBuf,
    log: PathBuf,
    user: Option<User>,
    began: bool,
}

impl PrivateServer {
    /// Makes sure that the server of `data_dir` runs and answers; makes the cluster when there is none.
    pub async fn ensure(data_dir: &Path) -> Result<Self, PrivateServerError> {
        let mut server = Self::locate(data_dir)?;
        if server.connect("postgres").await.is_ok() {
            tracing::info!(cluster = %server.cluster.display(), "attached to the running PostgreSQL");
        } else {
            server.make_cluster()?;
            server.start().await?;
        }
        server.make_database().await?;
        Ok(server)
    }

    /// How to connect to it.
    pub fn options(&self) -> PgConnectOptions {
        self.options_of(NAME)
    }

    /// Stops the server if this process started it: whoever only looks leaves things as they were.
    pub fn stop_if_ours(&self) {
        if self.began
            && let Err(error) = self.stop()
        {
            tracing::warn!(%error, "the private PostgreSQL did not stop");
        }
    }

    /// Stops the server and waits until it is down. A stop ends with a checkpoint, which on a slow disk takes longer than a hub
    /// may take to stop: then the server is ended without one, and recovers at its next start from what it had synced.
    pub fn stop(&self) -> Result<(), PrivateServerError> {
        let stop = |mode: &str, seconds: u64| {
            let mut command = self.program("pg_ctl");
            command.arg("-D").arg(&self.cluster).args([
                "-m",
                mode,
                "-w",
                "-t",
                &seconds.to_string(),
            ]);
            run("pg_ctl", command.arg("stop"))
        };
        stop("fast", STOP_SECONDS_MAX).or_else(|error| {
            tracing::warn!(%error, "PostgreSQL takes too long to stop; it is ended and recovers at its next start");
            stop("immediate", STOP_SECONDS_MAX)
        })
    }

    /// Stops the server that a killed hub may have left running on `data_dir`; nothing happens when none runs.
    pub fn stop_left_behind(data_dir: &Path) {
        if let Ok(server) = Self::locate(data_dir)
            && in_use(&server.cluster)
            && let Err(error) = server.stop()
        {
            tracing::warn!(%error, "a PostgreSQL left running by an earlier hub did not stop");
        }
    }

    fn locate(data_dir: &Path) -> Result<Self, PrivateServerError> {
        fs::create_dir_all(data_dir).map_err(io_error("cannot create", data_dir))?;
        let home =
            fs::canonicalize(data_dir).map_err(io_error("cannot find", data_dir))?.join("postgres");
        let server = Self {
            bin: find_programs().ok_or(PrivateServerError::NotInstalled)?,
            cluster: home.join("data"),
            sockets: home.join("s"),
            log: home.join("server.log"),
            user: server_user()?,
            began: false,
        };
        let socket = server.sockets.join(".s.PGSQL.5432");
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(PrivateServerError::SocketPath(socket));
        }
        if let Some(user) = &server.user {
            let closed = home.ancestors().skip(1).find(|dir| {
                fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0)
            });
            if let Some(dir) = closed {
                return Err(PrivateServerError::NotSearchable {
                    dir: dir.to_owned(),
                    user: user.name.clone(),
                });
            }
        }
        for dir in [&home, &server.sockets] {
            fs::create_dir_all(dir).map_err(io_error("cannot create", dir))?;
            server.own(dir)?;
        }
        Ok(server)
    }

    fn own(&self, path: &Path) -> Result<(), PrivateServerError> {
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(path, private).map_err(io_error("cannot protect", path))?;
        if let Some(user) = &self.user {
            std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))
                .map_err(io_error("cannot hand over", path))?;
        }
        Ok(())
    }

    /// A PostgreSQL program, as the server's user, with nothing of our environment.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null());
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        if let Some(home) = self.cluster.parent() {
            command.current_dir(home);
        }
        command
    }

    fn make_cluster(&self) -> Result<(), PrivateServerError> {
        let marker = self.cluster.with_file_name("made-by");
        let installed = self.major()?;
        if let Ok(made) = fs::read_to_string(&marker) {
            let made = made.trim().to_owned();
            if made == installed {
                return Ok(());
            }
            return Err(PrivateServerError::OtherMajor {
                dir: self.cluster.clone(),
                made,
                installed,
            });
        }
        // The cluster is made beside its place and moved there whole: what stands at its place is never half-made.
        if let Ok(made) = fs::read_to_string(self.cluster.join("PG_VERSION")) {
            let made = made.trim().to_owned();
            tracing::warn!(made, "the database cluster has no marker; it is taken as it is");
            return mark(&marker, &made).and_then(|()| self.make_cluster());
        }
        let draft = self.cluster.with_file_name("data.new");
        for rest in [&self.cluster, &draft] {
            if rest.exists() {
                fs::remove_dir_all(rest).map_err(io_error("cannot remove", rest))?;
            }
        }
        tracing::info!(cluster = %self.cluster.display(), "making the database cluster");
        let mut initdb = self.program("initdb");
        initdb.arg("-D").arg(&draft).args([
            "-A",
            "trust",
            "-k",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            // Texts are compared byte by byte: ids are ASCII, and every index is several times cheaper.
            "--lc-collate=C",
            "-U",
            NAME,
        ]);
        run("initdb", &mut initdb)?;
        fs::rename(&draft, &self.cluster).map_err(io_error("cannot move to its place", &draft))?;
        mark(&marker, &installed)
    }

    fn major(&self) -> Result<String, PrivateServerError> {
        let output = self
            .program("postgres")
            .arg("--version")
            .output()
            .map_err(io_error("cannot run", &self.bin.join("postgres")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit()));
        let major: String =
            version.unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
        if major.is_empty() {
            return Err(PrivateServerError::Program {
                program: "postgres --version",
                output: text.into_owned(),
            });
        }
        Ok(major)
    }

    /// Removes what a killed server left. Only when nobody uses the cluster.
    fn clear_stale_locks(&self) -> Result<(), PrivateServerError> {
        let locks = [
            self.cluster.join("postmaster.pid"),
            self.sockets.join(".s.PGSQL.5432.lock"),
            self.sockets.join(".s.PGSQL.5432"),
        ];
        for lock in locks {
            match fs::remove_file(&lock) {
                Ok(()) => {
                    tracing::warn!(file = %lock.display(), "removed what a killed PostgreSQL left")
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("cannot remove", &lock)(error)),
            }
        }
        Ok(())
    }

    fn spawn(&self) -> Result<Child, PrivateServerError> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(io_error("cannot write", &self.log))?;
        let errors = log.try_clone().map_err(io_error("cannot write", &self.log))?;
        // setsid detaches the server from our terminal and process group: a Ctrl-C or a killed hub must not take it along.
        let mut command = Command::new("setsid");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        // Commits may wait for acknowledgements, not the other way round: with cores scarce the endpoint goes first.
        command.args(["nice", "-n", NICENESS]);
        command.arg(self.bin.join("postgres")).arg("-D").arg(&self.cluster);
        for (name, value) in [
            ("listen_addresses", "".to_owned()),
            ("unix_socket_directories", self.sockets.display().to_string()),
            ("unix_socket_permissions", "0700".to_owned()),
            ("shared_buffers", "256MB".to_owned()),
            ("max_wal_size", "2GB".to_owned()),
            ("wal_compression", "on".to_owned()),
            ("max_connections", "50".to_owned()),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
            .current_dir(&self.cluster)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(io_error("cannot run", OsStr::new("setsid").as_ref()))
    }

    /// Starts the server and waits until it answers. Processes of a killed server may live on for a moment: until the last is
    /// gone the cluster is theirs, and nothing is started on it.
    async fn start(&mut self) -> Result<(), PrivateServerError> {
        let mut last = String::new();
        let mut child: Option<Child> = None;
        for _ in 0..START_SECONDS_MAX * 1_000 / POLL_MS {
            match self.connect("postgres").await {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
            let ended = match &mut child {
                Some(child) => child.try_wait().is_ok_and(|status| status.is_some()),
                None => true,
            };
            if ended && !in_use(&self.cluster) {
                self.clear_stale_locks()?;
                child = Some(self.spawn()?);
                self.began = true;
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
        Err(PrivateServerError::NoAnswer { log: self.log.clone(), last })
    }

    async fn make_database(&self) -> Result<(), PrivateServerError> {
        if self.connect(NAME).await.is_ok() {
            return Ok(());
        }
        let failed = |error: sqlx::Error| PrivateServerError::Program {
            program: "create database",
            output: error.to_string(),
        };
        let mut connection = self.connect("postgres").await.map_err(failed)?;
        sqlx::query("CREATE DATABASE stockfold").execute(&mut connection).await.map_err(failed)?;
        Ok(())
    }

    fn options_of(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.sockets)
            .port(5432)
            .username(NAME)
            .database(database)
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.options_of(database)).await
    }
}

fn run(program: &'static str, command: &mut Command) -> Result<(), PrivateServerError> {
    let output = command.output().map_err(io_error("cannot run", Path::new(program)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(PrivateServerError::Program {
        program,
        output: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// Writes which major version made the cluster, durably.
fn mark(marker: &Path, major: &str) -> Result<(), PrivateServerError> {
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(marker)?;
        io::Write::write_all(&mut file, major.as_bytes())?;
        file.sync_all()
    };
    write().map_err(io_error("cannot write", marker))
}

/// The newest PostgreSQL installed, or the one that `STOCKFOLD_PG_BIN` names.
fn find_programs() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("STOCKFOLD_PG_BIN") {
        return Some(PathBuf::from(named)).filter(|bin| bin.join("postgres").exists());
    }
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = debian
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("postgres").exists() && bin.join("initdb").exists())
        .max_by_key(|bin| {
            bin.parent()
                .and_then(Path::file_name)
                .and_then(OsStr::to_str)
                .and_then(|version| version.parse::<u32>().ok())
        });
    newest.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists())
    })
}

/// Whom to run the server as: nobody else unless we are root.
fn server_user() -> Result<Option<User>, PrivateServerError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |wanted: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| *name == wanted)?;
            let mut ids = fields.skip(1);
            let uid = ids.next()?.parse().ok()?;
            let gid = ids.next()?.parse().ok()?;
            Some(User { name: name.to_owned(), uid, gid })
        })
    };
    find("postgres").or_else(|| find("nobody")).map(Some).ok_or(PrivateServerError::NoUser)
}

/// Whether some live process works in the cluster, as every PostgreSQL process of it does.
fn in_use(cluster: &Path) -> bool {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .any(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == cluster))
}
