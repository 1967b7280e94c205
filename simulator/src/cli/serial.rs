//! `serial`: an RFID module or a barcode scanner on a pseudo-terminal, until Ctrl-C.

use anyhow::{Context, Result, ensure};
use simulator::{
    clock::WallClock,
    llrp,
    serial::{Ending, Faults, Module, Port, Scanner, Served},
};
use tokio::sync::mpsc;

use super::{
    args::{LineEnd, PortArgs, R200Args, ScannerArgs, SerialCommand},
    screen::say,
};

/// Codes that wait to be scanned.
const CODES_MAX: usize = 64;

pub fn serial(command: &SerialCommand) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        SerialCommand::R200(args) => runtime.block_on(r200(args)),
        SerialCommand::Scanner(args) => runtime.block_on(scanner(args)),
    }
}

fn open(args: &PortArgs, baud: u32) -> Result<Port> {
    let port = Port::open(&args.port).with_context(|| {
        format!("cannot make a port at {}; is something there already?", args.port.display())
    })?;
    let path = std::path::absolute(port.path())?;
    say(&format!("serial://{}?baud={baud}", path.display()));
    Ok(port)
}

async fn r200(args: &R200Args) -> Result<bool> {
    ensure!((0.0..=1e6).contains(&args.rate), "--rate must be 0 to 1000000 reads a second");
    for (name, chance) in [("--noise", args.noise), ("--wrong-sum", args.wrong_sum)] {
        ensure!((0.0..=1.0).contains(&chance), "{name} must be 0 to 1");
    }
    let source = llrp::crowd(args.seed, args.tags, 1, args.rate);
    let mut module = Module::new(source, args.seed, WallClock::start().unix_us());
    module.faults = Faults { noise: args.noise, wrong_sum: args.wrong_sum, mute: false };
    let _served = Served::start(module, open(&args.port, 115_200)?)?;
    tokio::signal::ctrl_c().await?;
    Ok(true)
}

async fn scanner(args: &ScannerArgs) -> Result<bool> {
    let ending = match args.ending {
        LineEnd::Cr => Ending::Cr,
        LineEnd::Lf => Ending::Lf,
        LineEnd::Crlf => Ending::CrLf,
    };
    let mut scanner = Scanner::new(open(&args.port, 9_600)?, ending);
    let (tell, mut told) = mpsc::channel(CODES_MAX);
    // Whoever waits for a line of a terminal cannot be called back: the thread ends with the process.
    std::thread::spawn(move || {
        for code in std::io::stdin().lines().map_while(Result::ok) {
            if tell.blocking_send(code).is_err() {
                break;
            }
        }
    });
    loop {
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => {
                pressed?;
                return Ok(true);
            }
            Some(code) = told.recv() => {
                ensure!(scanner.scan("", &code), "nobody reads the port; {code:?} found no room");
            }
        }
    }
}
