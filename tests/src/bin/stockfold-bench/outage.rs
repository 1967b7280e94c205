//! Outage: PostgreSQL stopped for a minute at the rated load. Every reading is acknowledged, none is lost, and the hub
//! catches up faster than three times the rate.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::json;
use simulator::load::{self, Kind, Plan, Record};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::{crash, hub::BenchHub};

const CONNECTIONS: usize = 1_000;
/// Load before and after the outage, in seconds.
const CALM_S: u64 = 10;

#[allow(clippy::disallowed_methods, reason = "measuring")]
pub fn run(away_s: u64, rate: f64) -> anyhow::Result<()> {
    let server = Server::start()?;
    let hub = BenchHub::start_with(server.url())?;
    let passwords = load::enrol(&hub.client()?, CONNECTIONS, Kind::Stock)?;
    let mut plan = Plan::new(
        &hub.mqtt,
        passwords,
        Kind::Stock,
        rate,
        Duration::from_secs(2 * CALM_S + away_s),
    );
    plan.warm_up = Duration::from_secs(1);
    let record = Record::new(&plan)?;
    let (summary, catch_up) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let generator = {
            let (plan, record) = (plan.clone(), Arc::clone(&record));
            scope.spawn(move || load::run(&plan, &record))
        };
        while record.started_us().is_none() {
            ensure!(!generator.is_finished(), "the generator did not start");
            sleep(Duration::from_millis(20));
        }
        sleep(Duration::from_secs(CALM_S));
        server.stop()?;
        eprintln!("PostgreSQL is down");
        sleep(Duration::from_secs(away_s));
        let behind = movements(&server, true)?;
        let (_, acked) = record.totals();
        eprintln!("PostgreSQL is up again, {} movements behind", acked.saturating_sub(behind));
        let began = Instant::now();
        // Caught up: what is committed is within a tenth of a second of what is acknowledged.
        let caught = loop {
            let committed = movements(&server, false)?;
            let (_, acked) = record.totals();
            if acked.saturating_sub(committed) as f64 <= rate / 10.0 {
                break committed - behind;
            }
            ensure!(began.elapsed() < Duration::from_secs(600), "it did not catch up within 600 s");
            sleep(Duration::from_millis(20));
        };
        let catch_up = caught as f64 / began.elapsed().as_secs_f64();
        let summary = generator.join().map_err(|_| anyhow::anyhow!("the generator panicked"))??;
        Ok((summary, catch_up))
    })
    .with_context(|| std::fs::read_to_string(hub.log()).unwrap_or_default())?;
    crash::settle(&hub)?;
    let (lost, doubled, movements) = crash::judge(&hub, &record)?;
    let result = json!({
        "bench": "outage",
        "away_s": away_s,
        "readings_per_s": rate,
        "acknowledged": summary.acknowledged,
        "unacknowledged": summary.unacknowledged,
        "ack_p99_ms": summary.delay_p99_ms,
        "catch_up_per_s": catch_up.round(),
        "catch_up_ratio": catch_up / rate,
        "movements": movements,
        "lost": lost,
        "duplicated": doubled,
    });
    println!("{result}");
    ensure!(
        lost == 0 && doubled == 0 && summary.unacknowledged == 0,
        "readings were lost, doubled or not acknowledged"
    );
    Ok(())
}

/// Movements committed; with `start` the server is started first.
fn movements(server: &Server, start: bool) -> anyhow::Result<u64> {
    if start {
        server.launch()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect_with(&server.options()).await?;
        let level: Option<i64> = sqlx::query_scalar("SELECT sum(quantity)::bigint FROM sku_total")
            .fetch_one(&mut connection)
            .await?;
        Ok(level.unwrap_or(0).unsigned_abs())
    })
}

/// A PostgreSQL server of the bench's own, which the hub does not bring back to life.
struct Server {
    dir: tempfile::TempDir,
    bin: PathBuf,
    user: Option<(u32, u32)>,
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sfpg").tempdir_in("/var/tmp")?;
        let bin = std::fs::read_dir("/usr/lib/postgresql")?
            .flatten()
            .map(|version| version.path().join("bin"))
            .max()
            .context("PostgreSQL is not installed")?;
        let root = std::fs::read_to_string("/proc/self/status")?.contains("\nUid:\t0\t");
        let passwd = std::fs::read_to_string("/etc/passwd")?;
        let user =
            passwd.lines().find(|l| l.starts_with("postgres:")).filter(|_| root).and_then(|line| {
                let mut ids = line.split(':').skip(2);
                Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
            });
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid))?;
        }
        let server = Self { dir, bin, user };
        server.run("initdb", &["-D", "data", "-A", "trust", "-U", "stockfold", "--no-sync"])?;
        server.launch()?;
        server.run("createdb", &["-h", &server.path(), "-U", "stockfold", "stockfold"])?;
        Ok(server)
    }

    fn path(&self) -> String {
        self.dir.path().to_string_lossy().into_owned()
    }

    fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(self.bin.join(program));
        command.args(args).current_dir(self.dir.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let out = command.stdout(std::process::Stdio::null()).output()?;
        ensure!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }

    fn launch(&self) -> anyhow::Result<()> {
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c shared_buffers=256MB",
            self.path()
        );
        self.run("pg_ctl", &["-D", "data", "-l", "log", "-w", "-o", &options, "start"])
    }

    fn stop(&self) -> anyhow::Result<()> {
        self.run("pg_ctl", &["-D", "data", "-m", "fast", "-w", "stop"])
    }

    fn url(&self) -> String {
        format!("postgres://stockfold@localhost/stockfold?host={}", self.path())
    }

    fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(Path::new(&self.path()))
            .username("stockfold")
            .database("stockfold")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
