//! Ports for servers that bind them later, or again after a restart.
//!
//! A port the system hands out may be gone by then: it hands out the same range to every outgoing connection, and the tests
//! make many. These lie below that range (32768 and up by default on Linux), each is given once in this process, and
//! processes that run at the same time begin at different ones.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// First port given.
const FIRST: u32 = 10_000;
/// How many there are.
const COUNT: u32 = 20_000;
/// Ports apart from where processes with neighbouring ids begin.
const STRIDE: u32 = 211;

/// A port nobody listens on and no outgoing connection takes.
///
/// # Panics
/// When every one is taken.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(STRIDE);
    for _ in 0..COUNT {
        let n = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + n).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
