//! The program ends with whoever started it.

// clippy.toml allows this in test functions; their helpers are no less tests.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

#[test]
fn a_simulator_that_is_tied_ends_when_the_other_end_of_its_input_does() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stockfold-sim"))
        .args(["--with-stdin", "readers", "--port", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "it runs");
    assert!(child.try_wait().unwrap().is_none(), "and goes on while its input is open");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
