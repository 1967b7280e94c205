//! A step of `cargo xtask test`: a command whose output is shown, read and timed.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    sync::mpsc,
    time::Instant,
};

use crate::summary::Summary;

/// Runs cargo, shows its output, reads test results from it. True when it ended well.
#[allow(clippy::disallowed_methods, reason = "measuring")]
pub fn cargo(summary: &mut Summary, name: &str, args: &[impl AsRef<str>]) -> anyhow::Result<bool> {
    let started = Instant::now();
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    println!("── {name}: cargo {}", args.join(" "));
    let mut child = Command::new("cargo")
        .args(&args)
        // Panics on purpose are part of the tests; their place is enough to find the others.
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (tell, lines) = mpsc::channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|p| Box::new(p) as _),
        child.stderr.take().map(|p| Box::new(p) as _),
    ];
    for pipe in pipes.into_iter().flatten() {
        let tell = tell.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                if tell.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
    }
    drop(tell);
    for line in lines {
        println!("{line}");
        summary.line(&line);
    }
    let good = child.wait()?.success();
    let took = started.elapsed();
    println!("── {name}: {} in {took:.1?}", if good { "ok" } else { "FAILED" });
    summary.step(name, good, took);
    Ok(good)
}
