//! `play` and `verify`.

use crate::cli::args::{JudgeArgs, PlayArgs, VerifyArgs};
use crate::cli::screen::{Screen, say, table};
use anyhow::{Context, Result, ensure};
use simulator::clock::WallClock;
use simulator::hub::Hub;
use simulator::play::{self, Options, Played};
use simulator::score::Window;
use simulator::verify::{self, Verdict};
use simulator::{Scenario, World, builtin};
use std::time::Duration;

/// Between two looks at a hub that has not committed everything yet.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub fn play(args: &PlayArgs) -> Result<bool> {
    let scenario = scenario(args)?;
    let hub = super::hub(&args.hub)?;
    let world = World::new(scenario.clone());
    eprintln!(
        "importing {} slots and {} devices into {}",
        world.truth().lines.len(),
        world.devices().len(),
        args.hub.hub
    );
    let prepared = play::prepare(&hub, &world)?;
    let options = Options { mqtt: args.mqtt.clone(), speed: args.speed };
    let mut screen = Screen::new(scenario.duration_s / args.speed);
    let played = play::play(scenario, &options, prepared, interrupted(), &mut |p| {
        let seconds = |us: u64| us as f64 / 1e6 / args.speed;
        screen.show(seconds(p.now), seconds(p.end), || {
            let (frames, acked) = (p.frames, p.acknowledged);
            let (movements, connected) = (p.movements, p.connected);
            format!("{movements} movements, {frames} frames, {acked} acknowledged, {connected} connected")
        });
    })?;
    screen.finish();
    if let Some(file) = &args.save {
        let text = serde_json::to_string(&played)?;
        let cannot = || format!("cannot write {}; is there room and permission?", file.display());
        std::fs::write(file, text).with_context(cannot)?;
    }
    if args.verify {
        return judge(&hub, &played, &args.judge);
    }
    let sum =
        |of: fn(&simulator::tally::Tally) -> u64| -> u64 { played.devices.iter().map(of).sum() };
    table(&[
        ("movements", played.truth.movements.len().to_string()),
        ("frames sent", sum(|t| t.sent).to_string()),
        ("readings acknowledged", sum(simulator::tally::Tally::acked_readings).to_string()),
    ]);
    Ok(true)
}

pub fn verify(args: &VerifyArgs) -> Result<bool> {
    let file = args.played.display();
    let text = std::fs::read_to_string(&args.played)
        .with_context(|| format!("cannot read {file}; write it with play --save"))?;
    let played: Played = serde_json::from_str(&text)
        .with_context(|| format!("{file} is not what play --save writes"))?;
    judge(&super::hub(&args.hub)?, &played, &args.judge)
}

fn scenario(args: &PlayArgs) -> Result<Scenario> {
    ensure!(args.speed > 0.0 && args.speed <= 1e6, "--speed must be above 0 and at most 1000000");
    let mut scenario = builtin::load(&args.scenario)?;
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    if let Some(seconds) = args.seconds {
        ensure!(seconds > 0.0 && seconds <= 1e8, "--for must be above 0 and at most 100000000");
        scenario.duration_s = seconds * args.speed;
        scenario.quiet_tail_s = scenario.quiet_tail_s.min(scenario.duration_s / 2.0);
    }
    Ok(scenario)
}

/// Resolves at the first Ctrl-C; the second one ends the process.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // No signals on this system: nothing to wait for.
        std::future::pending::<()>().await;
    }
    eprintln!("stopping: people rest, devices deliver what they have; once more to quit at once");
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
}

/// Looks until the hub is right or its time is over.
fn judge(hub: &Hub, played: &Played, args: &JudgeArgs) -> Result<bool> {
    let clock = WallClock::start();
    let verdict = loop {
        let verdict = verify::verify(hub, played, Window::default())?;
        if verdict.is_right() || clock.elapsed_us() as f64 / 1e6 >= args.settle {
            break verdict;
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    if args.json {
        say(&serde_json::to_string_pretty(&verdict)?);
    } else {
        print(&verdict);
    }
    Ok(verdict.is_right())
}

fn print(v: &Verdict) {
    let s = &v.score;
    let percent = |x: f64| format!("{:.3} %", x * 100.0);
    let explained = s.levels_wrong.len() - s.levels_unexplained();
    table(&[
        ("levels right", format!("{} of {}", s.levels_right, s.lines)),
        ("  wrong, explained", explained.to_string()),
        ("  wrong, unexplained", s.levels_unexplained().to_string()),
        ("movements", s.true_movements.to_string()),
        ("  precision", percent(s.precision)),
        ("  recall", percent(s.recall)),
        ("  F1", percent(s.f1)),
        ("  delay p50", format!("{:.0} ms", s.delay_p50_ms)),
        ("  delay p95", format!("{:.0} ms", s.delay_p95_ms)),
        ("  never told to the hub", s.never_told.to_string()),
        ("  lost at the source", s.lost_at_source.to_string()),
        ("misplaced, noticed", format!("{} of {}", s.misplaced_noticed, s.misplaced)),
        ("discrepancies, open", format!("{}, {}", s.discrepancies, s.discrepancies_open)),
        ("readings acknowledged", v.acknowledged.to_string()),
        ("  in the ledger", v.in_ledger.to_string()),
        ("  lost", v.lost.to_string()),
        ("  without a movement", v.unbooked.to_string()),
        ("  counted twice", v.counted_twice.to_string()),
        ("repetitions recognised", v.duplicates_recognised.to_string()),
        ("refused", v.refused.to_string()),
    ]);
    for trouble in &v.troubles {
        say(&format!("! {trouble}"));
    }
    say(if v.is_right() { "right" } else { "WRONG" });
}
