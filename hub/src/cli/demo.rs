//! `stockfold demo`: a hub and a simulated shop against it, in a directory of their own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::Context;
use clap::Args;
use hub::{config::Config, data_dir::token_file, run::start};

use super::run::{Stop, greet, init_log};

/// The demo's directory, unless another is named.
const DEMO_DIR: &str = "demo-data";

/// What the demo takes.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Scenario to play: a built-in name or a TOML file.
    #[arg(long, default_value = "demo")]
    scenario: String,
    /// Keep what an earlier demo left.
    #[arg(long)]
    keep: bool,
    /// Virtual seconds that pass in a real one.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
}

/// Runs the demo until Ctrl-C.
pub fn demo(mut config: Config, args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let dir = config.data_dir.clone().unwrap_or_else(demo_dir);
    config.log.filter = "warn,hub=info,actors=info,tokio_modbus=off".into();
    init_log(&config)?;
    let simulator = beside("stockfold-sim")?;
    if !args.keep {
        clear(&dir)?;
    }
    config.data_dir = Some(dir.clone());
    // The shop's devices use the demo's own endpoint.
    config.mqtt.broker_url = None;
    actix_rt::System::new().block_on(async {
        let mut stop = Stop::new()?;
        free_ports(&mut config)?;
        let hub = start(&config).await?;
        let mqtt = hub.mqtt.context("the demo has its own MQTT endpoint")?;
        greet(&hub, &dir);
        println!("\nA simulated shop (Corner Market) moves goods now, and beside it one with RFID readers (RFID store). Both have faults on purpose:\nscales that answer with an exception, connections that break, readings that repeat. Ctrl-C stops everything.\n");
        let mut tags = tied(&simulator)
            .args(["tags", "--hub", &format!("http://{}", hub.http)])
            .arg("--token-file")
            .arg(token_file(&dir))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the simulator of tags")?;
        let mut child = tied(&simulator)
            .args(["play", &args.scenario, "--speed", &args.speed.to_string()])
            .arg("--hub")
            .arg(format!("http://{}", hub.http))
            .arg("--mqtt")
            .arg(mqtt.to_string())
            .arg("--token-file")
            .arg(token_file(&dir))
            .spawn()
            .context("cannot start the simulator")?;
        stop.wait().await;
        println!("\nstopping …");
        // It also got the terminal's Ctrl-C; when stopped otherwise it did not.
        for child in [&mut child, &mut tags] {
            let _ = child.kill();
            let _ = child.wait();
        }
        hub.stop(true).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// As root PostgreSQL runs as another user, who must be able to reach the directory.
fn demo_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        PathBuf::from("/var/lib/stockfold-demo")
    } else {
        PathBuf::from(DEMO_DIR)
    }
}

/// The simulator, tied to this process: it ends with its standard input, which ends with whoever holds the other end, so that
/// a demo that is killed leaves nothing behind that goes on for hours.
fn tied(simulator: &Path) -> Command {
    let mut command = Command::new(simulator);
    command.arg("--with-stdin").stdin(Stdio::piped());
    command
}

/// A program installed in the same directory as this one.
fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own directory")?;
    let path = own.with_file_name(name);
    anyhow::ensure!(
        path.exists(),
        "{} is not there; the demo needs the simulator beside this program (cargo build --release builds both)",
        path.display()
    );
    Ok(path)
}

/// Removes what an earlier demo left, but never a directory that a demo did not make.
fn clear(dir: &Path) -> anyhow::Result<()> {
    let mark = dir.join("demo");
    if dir.exists() {
        let empty = std::fs::read_dir(dir)?.next().is_none();
        anyhow::ensure!(
            mark.exists() || empty,
            "{} was not made by a demo and is left alone; name another --data-dir",
            dir.display()
        );
        // A database that an earlier, killed demo left running must not keep writing into what we remove.
        drop(hub::data_dir::DataDir::lock(dir)?);
        if mark.exists() {
            println!("removing what an earlier demo left in {} (--keep keeps it)", dir.display());
        }
        hub::store::PrivateServer::stop_left_behind(dir);
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot clear {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    std::fs::write(mark, "made by stockfold demo; removed by the next one\n")?;
    Ok(())
}

/// A demo must not fail because a port is taken: then any free one will do.
fn free_ports(config: &mut Config) -> anyhow::Result<()> {
    let tls = config.mqtt.tls_bind.iter_mut();
    for bind in [&mut config.http.bind, &mut config.mqtt.bind].into_iter().chain(tls) {
        if std::net::TcpListener::bind(*bind).is_err() {
            *bind = SocketAddr::new(bind.ip(), 0);
        }
    }
    Ok(())
}
