//! `stockfold replay --check`: proves on a live installation that the journal gives the committed figures, bit for bit.

use std::{path::Path, process::ExitCode};

use clap::Args;
use hub::{
    config::Config,
    replay::{check, open_for_reading, positions},
    store::{PgStore, PrivateServer},
};
use indicatif::{ProgressBar, ProgressStyle};

/// What replay takes.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Compare with what is committed; exit code 1 when anything differs.
    #[arg(long, required = true)]
    check: bool,
    /// Begin at the beginning of the journal instead of the oldest snapshot; needs a journal that was never trimmed.
    #[arg(long)]
    whole: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Replays.
pub fn replay(config: &Config, args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    debug_assert!(args.check, "the only mode there is");
    let dir = config.data_dir();
    actix_rt::System::new().block_on(async {
        let server = match &config.database.url {
            Some(_) => None,
            None => Some(PrivateServer::ensure(&dir).await?),
        };
        let result = compare(config, args, &dir, server.as_ref()).await;
        if let Some(server) = &server {
            server.stop_if_ours();
        }
        result
    })
}

async fn compare(
    config: &Config,
    args: &ReplayArgs,
    dir: &Path,
    server: Option<&PrivateServer>,
) -> anyhow::Result<ExitCode> {
    let store = match (&config.database.url, server) {
        (Some(url), _) => PgStore::open_url(url).await?,
        (None, Some(server)) => PgStore::open(server.options()).await?,
        (None, None) => anyhow::bail!("no database is configured"),
    };
    let positions = positions(&store).await?;
    let journal = open_for_reading(&dir.join("journal"), &positions)?;
    let snapshots = actors::snapshot::SnapshotFiles::new(&dir.join("snapshots"))?;
    let bar = if args.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    if let Ok(style) =
        ProgressStyle::with_template("replaying {bar:40} {bytes}/{total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    let reports = check(&positions, &journal, &store, &snapshots, args.whole, |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    })
    .await?;
    bar.finish_and_clear();
    let good = reports.iter().all(|r| r.different == 0);
    if args.json {
        println!("{}", serde_json::json!({ "equal": good, "shards": reports }));
    } else {
        for r in &reports {
            println!(
                "shard {}: {} entries from offset {} to {}, {} movements and {} levels compared, {} different",
                r.shard, r.entries, r.from, r.to, r.movements, r.levels, r.different
            );
            for difference in &r.differences {
                println!("  {difference}");
            }
            println!("  digest {}", r.digest);
        }
        println!("{}", if good { "The replay is equal." } else { "THE REPLAY DIFFERS." });
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
