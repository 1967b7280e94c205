//! `stockfold run`: the hub in the foreground.

use std::{io::IsTerminal, path::Path, process::ExitCode};

use hub::{
    config::{Config, LogFormat},
    data_dir::token_file,
    run::{Hub, start},
};
use tokio::signal::unix::{SignalKind, signal};

/// Sets the log up. Logs go to standard error, so that standard output stays for results.
pub fn init_log(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.filter)
        .map_err(|e| anyhow::anyhow!("configuration key log.filter: {e}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let set = match config.log.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    set.map_err(|e| anyhow::anyhow!("the log cannot be set up: {e}"))
}

/// Runs until told to stop.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    init_log(config)?;
    actix_rt::System::new().block_on(async {
        let mut stop = Stop::new()?;
        let hub = tokio::select! {
            hub = start(config) => hub?,
            () = stop.wait() => return Ok(ExitCode::SUCCESS),
        };
        greet(&hub, &config.data_dir());
        stop.wait().await;
        tracing::info!("stopping");
        let own = config.database.url.is_none();
        hub.stop(own).await;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// SIGTERM and SIGINT.
pub struct Stop {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Stop {
    /// Listens from now on.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }
    /// Waits for either.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Tells where everything is. The token itself is printed only in the run that made it.
pub fn greet(hub: &Hub, data_dir: &Path) {
    println!("Stockfold is ready.");
    println!(
        "  console   http://{}{}   (one-time sign-in link, valid 10 minutes)",
        hub.http, hub.sign_in
    );
    println!("  API       http://{}/api/v1", hub.http);
    if let Some(mqtt) = hub.mqtt {
        println!("  devices   mqtt://{mqtt}");
    }
    if let Some(broker) = &hub.broker {
        println!("  devices   through the broker {}", broker.url());
    }
    if let Some(tls) = hub.mqtt_tls {
        println!("  with TLS  mqtts://{tls}   (what devices must trust: stockfold tls ca)");
    }
    match &hub.new_token {
        // Not into a log that others may read.
        Some(token) if std::io::stdout().is_terminal() => println!(
            "  token     {token}   (shown this once; kept in {})",
            token_file(data_dir).display()
        ),
        Some(_) | None => println!("  token     in {}", token_file(data_dir).display()),
    }
}
