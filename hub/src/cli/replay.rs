//! `stockfold replay --check`: proves on a live installation that the journal gives the committed figures, bit for bit.
//! `stockfold replay --what-if`: tells what other knobs of presence and place would have changed, before they are applied.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use clap::{ArgGroup, Args};
use hub::{
    config::Config,
    replay::{check, open_for_reading, positions},
    store::{PgStore, PrivateServer},
    what_if::{self, Tuning, what_if},
};
use indicatif::{ProgressBar, ProgressStyle};

/// What replay takes.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("mode").required(true).args(["check", "what_if"])))]
pub struct ReplayArgs {
    /// Compare with what is committed; exit code 1 when anything differs.
    #[arg(long)]
    check: bool,
    /// Fold the kept journal once as it was and once with other knobs, and tell what would have been otherwise.
    #[arg(long, requires = "mobility")]
    what_if: bool,
    /// Knobs of a zone for --what-if, such as door=quiet_ms:3000,stay_s:20; FACILITY/ZONE names one of several. May be repeated.
    #[arg(long, value_name = "ZONE=KNOB:VALUE,…", conflicts_with = "check")]
    mobility: Vec<Tuning>,
    /// Begin at the beginning of the journal instead of the oldest snapshot; needs a journal that was never trimmed.
    #[arg(long, conflicts_with = "what_if")]
    whole: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Replays.
pub fn replay(config: &Config, args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let dir = config.data_dir();
    actix_rt::System::new().block_on(async {
        let server = match &config.database.url {
            Some(_) => None,
            None => Some(PrivateServer::ensure(&dir).await?),
        };
        let result = fold_again(config, args, &dir, server.as_ref()).await;
        if let Some(server) = &server {
            server.stop_if_ours();
        }
        result
    })
}

async fn fold_again(
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
    let progress = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    if args.what_if {
        let reports = what_if(&positions, &journal, &snapshots, &args.mobility, progress).await?;
        bar.finish_and_clear();
        tell_what_if(&reports, args.json);
        return Ok(ExitCode::SUCCESS);
    }
    let reports = check(&positions, &journal, &store, &snapshots, args.whole, progress).await?;
    bar.finish_and_clear();
    let good = reports.iter().all(|r| r.different == 0);
    if args.json {
        println!("{}", serde_json::json!({ "equal": good, "shards": reports }));
    } else {
        for r in &reports {
            println!(
                "shard {}: {} entries from offset {} to {}, {} movements, {} levels and {} tags compared, {} different",
                r.shard, r.entries, r.from, r.to, r.movements, r.levels, r.tags, r.different
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

/// Prints what would have been otherwise.
fn tell_what_if(reports: &[what_if::Report], json: bool) {
    let same = reports.iter().all(what_if::Report::is_same);
    if json {
        println!("{}", serde_json::json!({ "same": same, "shards": reports }));
        return;
    }
    for r in reports {
        println!("shard {}: {} entries from offset {} to {}", r.shard, r.entries, r.from, r.to);
        let zones: Vec<&str> = r.zones.iter().map(String::as_str).collect();
        println!(
            "  tuned: {}",
            if zones.is_empty() { "no such zone".into() } else { zones.join(", ") }
        );
        for kind in fold::TagChange::ALL.map(fold::TagChange::as_str) {
            let count = |of: &BTreeMap<&'static str, u64>| of.get(kind).copied().unwrap_or(0);
            println!(
                "  {kind:<9} {:>9} as it was, {:>9} as it would be",
                count(&r.as_it_was),
                count(&r.as_it_would_be)
            );
        }
        println!(
            "  events only as it was (-): {}, only as it would be (+): {}; the first are:",
            r.only_as_it_was, r.only_as_it_would_be
        );
        r.events.iter().for_each(|event| println!("  {event}"));
        println!("  lines of stock that would be otherwise: {}; the first are:", r.lines_different);
        r.lines.iter().for_each(|line| println!("  {line}"));
    }
    println!("{}", if same { "Nothing would be otherwise." } else { "Nothing was applied." });
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        replay: ReplayArgs,
    }

    #[test]
    fn one_mode_with_its_own_options() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let args = parse("replay --what-if --mobility door=stay_s:3 --mobility f1/a=stay_s:4");
        assert_eq!(args.unwrap().replay.mobility.len(), 2);
        assert!(parse("replay --check --whole").unwrap().replay.whole);
        for line in [
            "replay",
            "replay --what-if",
            "replay --check --what-if --mobility a=stay_s:3",
            "replay --check --mobility a=stay_s:3",
            "replay --what-if --whole --mobility a=stay_s:3",
            "replay --mobility a=stay_s:3",
            "replay --what-if --mobility a=speed:3",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
