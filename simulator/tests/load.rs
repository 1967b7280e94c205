//! The generator's own logic against a little server of this file: pace, bookkeeping, and coming back after a crash.
//! Real brokers and the hub itself are met in the workspace's interop and crash tests.

// clippy.toml allows this in test functions; their helpers are no less tests.
#![allow(clippy::unwrap_used)]

use simulator::load::{self, Kind, Plan, Record};
use simulator::mqtt::packet::Version;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Frames heard by (topic, seq): how often, and whether an acknowledgement went out.
type Heard = Arc<Mutex<BTreeMap<(String, u64), (u32, bool)>>>;

struct Server {
    address: String,
    heard: Heard,
}

impl Server {
    /// Acknowledges everything; each connection breaks after `frames_max` frames, the last of them unacknowledged.
    fn start(version: Version, frames_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = Heard::default();
        let all = Arc::clone(&heard);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let heard = Arc::clone(&all);
                std::thread::spawn(move || serve(socket, version, frames_max, &heard));
            }
        });
        Self { address, heard }
    }
}

fn packet(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut first = [0; 1];
    socket.read_exact(&mut first).ok()?;
    let (mut len, mut shift) = (0, 0);
    loop {
        let mut byte = [0; 1];
        socket.read_exact(&mut byte).ok()?;
        len |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; len];
    socket.read_exact(&mut body).ok()?;
    Some((first[0], body))
}

fn serve(mut socket: TcpStream, version: Version, frames_max: usize, heard: &Heard) {
    let (connack, properties): (&[u8], _) = match version {
        Version::V3 => (&[0x20, 2, 0, 0], 0),
        // Receive Maximum 3.
        Version::V5 => (&[0x20, 6, 0, 0, 3, 0x21, 0, 3], 1),
    };
    assert_eq!(packet(&mut socket).unwrap().0, 0x10);
    socket.write_all(connack).unwrap();
    let mut frames = 0;
    while let Some((first, body)) = packet(&mut socket) {
        if first & 0xf0 != 0x30 {
            return;
        }
        frames += 1;
        let topic_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (topic, rest) = body[2..].split_at(topic_len);
        let payload: serde_json::Value = serde_json::from_slice(&rest[2 + properties..]).unwrap();
        let acks = frames < frames_max;
        let key = (String::from_utf8(topic.to_vec()).unwrap(), payload["seq"].as_u64().unwrap());
        let entry = heard.lock().unwrap().get(&key).copied().unwrap_or((0, false));
        assert_eq!(first & 0x08 != 0, entry.0 > 0, "DUP says that it was sent before");
        assert!(!entry.1, "what is acknowledged is not sent again");
        heard.lock().unwrap().insert(key, (entry.0 + 1, acks));
        if !acks {
            return;
        }
        socket.write_all(&[0x40, 2, rest[0], rest[1]]).unwrap();
    }
}

fn plan(server: &Server, devices: usize, rate: f64) -> Plan {
    let passwords = vec!["x".to_owned(); devices];
    let mut plan =
        Plan::new(&server.address, passwords, Kind::Stock, rate, Duration::from_millis(700));
    plan.warm_up = Duration::from_millis(300);
    plan
}

#[test]
fn every_frame_of_the_schedule_is_sent_once_and_acknowledged() {
    let server = Server::start(Version::V3, usize::MAX);
    let plan = Plan { threads: 2, ..plan(&server, 20, 2_000.0) };
    let record = Record::new(&plan).unwrap();
    let summary = load::run(&plan, &record).unwrap();
    assert_eq!((summary.written, summary.acknowledged, summary.unacknowledged), (2_000, 2_000, 0));
    assert_eq!((summary.measured, summary.resent, summary.disconnects), (1_400, 0, 0));
    let heard = server.heard.lock().unwrap();
    assert_eq!(heard.len(), 2_000);
    assert!(heard.values().all(|(times, _)| *times == 1));
    for device in 0..20 {
        for seq in 1..=100 {
            let due = record.scheduled_us(device, seq).unwrap();
            let written = record.written_us(device, seq).unwrap();
            let acked = record.acked_us(device, seq).unwrap();
            // Times are kept in steps of 10 µs.
            assert!(due <= written + 10 && written <= acked);
        }
    }
}

#[test]
fn a_broken_connection_comes_back_and_sends_again_what_was_not_acknowledged() {
    for version in [Version::V3, Version::V5] {
        let server = Server::start(version, 15);
        let plan = Plan { version, ..plan(&server, 5, 500.0) };
        let record = Record::new(&plan).unwrap();
        let summary = load::run(&plan, &record).unwrap();
        assert_eq!((summary.written, summary.acknowledged), (500, 500));
        assert!(summary.disconnects >= 5 * 6 && summary.resent >= summary.disconnects);
        let heard = server.heard.lock().unwrap();
        assert_eq!(heard.len(), 500);
        assert!(heard.values().all(|(_, acked)| *acked));
    }
}

#[test]
fn without_reconnect_a_loss_is_counted_and_the_run_ends() {
    let server = Server::start(Version::V3, 10);
    let plan =
        Plan { reconnect: false, drain: Duration::from_millis(50), ..plan(&server, 2, 200.0) };
    let record = Record::new(&plan).unwrap();
    let summary = load::run(&plan, &record).unwrap();
    assert_eq!((summary.acknowledged, summary.disconnects, summary.connected), (18, 2, 0));
    assert!(summary.unacknowledged > 0);
}

#[test]
fn nobody_there_is_an_error_that_names_device_and_address() {
    let mut plan = plan(&Server::start(Version::V3, 1), 1, 10.0);
    plan.mqtt = "127.0.0.1:1".into();
    let error = load::run(&plan, &Record::new(&plan).unwrap()).unwrap_err().to_string();
    assert!(error.contains("load-0000") && error.contains("127.0.0.1:1"), "{error}");
}
