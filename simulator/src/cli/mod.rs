//! What each subcommand does.

pub mod args;
mod load;
mod play;
mod readers;
mod rfid;
mod screen;
mod serial;
mod tags;

use anyhow::{Context, Result};
use args::{Args, Command, HubArgs, ScenarioCommand};
use screen::say;
use simulator::clock::WallClock;
use simulator::hub::Hub;
use simulator::{Scenario, World, builtin};

/// Carries out a command; false when the hub is wrong.
pub fn carry_out(args: Args) -> Result<bool> {
    if args.with_stdin {
        std::thread::spawn(end_with_stdin);
    }
    match args.command {
        Command::Play(a) => play::play(&a),
        Command::Verify(a) => play::verify(&a),
        Command::Load(a) => load::load(&a),
        Command::Idle(a) => load::idle(&a),
        Command::Rfid(a) => rfid::rfid(&a),
        Command::Readers(a) => readers::readers(&a),
        Command::Tags(a) => tags::tags(&a),
        Command::Serial { command } => serial::serial(&command),
        Command::Scenario { command } => scenario(&command),
    }
}

/// Waits until whoever holds the other end of standard input lets it go, however it ends, and ends with it.
fn end_with_stdin() {
    // Input that breaks has nobody at its other end either.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    std::process::exit(0);
}

fn scenario(command: &ScenarioCommand) -> Result<bool> {
    match command {
        ScenarioCommand::Check { file } => {
            let scenario = Scenario::load(file)?;
            let world = World::new(scenario);
            say(&format!(
                "{}: {} slots, {} SKUs, {} devices, {} s",
                file.display(),
                world.truth().lines.len(),
                world.scenario().sku.len(),
                world.devices().len(),
                world.scenario().duration_s,
            ));
        }
        ScenarioCommand::Run { scenario } => {
            let mut world = World::new(builtin::load(scenario)?);
            let (clock, mut frames) = (WallClock::start(), 0);
            while let Some(step) = world.next_frames() {
                frames += step.len();
            }
            say(&format!(
                "{frames} frames, {} movements, {} s of virtual time in {:.2} s",
                world.truth().movements.len(),
                world.scenario().duration_s,
                clock.elapsed_us() as f64 / 1e6,
            ));
        }
        ScenarioCommand::Print { name } => {
            let names = builtin::SCENARIOS.map(|(name, _)| name).join(", ");
            let text = builtin::text(name).with_context(|| {
                format!("there is no built-in scenario \"{name}\"; there are {names}")
            })?;
            say(text.trim_end());
        }
        ScenarioCommand::List => {
            for (name, text) in builtin::SCENARIOS {
                let what = text.lines().next().unwrap_or("").trim_start_matches("# ");
                say(&format!("{name:14}{what}"));
            }
        }
    }
    Ok(true)
}

/// The hub that the arguments name.
fn hub(args: &HubArgs) -> Result<Hub> {
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) => std::fs::read_to_string(file).with_context(|| {
            format!("cannot read the token file {}; check the path and its mode", file.display())
        })?,
        (None, None) => anyhow::bail!(
            "an API token is needed: --token-file FILE, --token TOKEN or STOCKFOLD_TOKEN"
        ),
    };
    Ok(Hub::new(&args.hub, &token)?)
}
