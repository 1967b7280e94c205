//! LLRP as others know it: pyllrp reads and writes what we write, and what real readers sent is understood.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use device_profiles::llrp::{
    Impinj, Inventory, Message, Parameter, Power, Stamp, Start, TagReads, Value, add_rospec,
    capabilities, close, delete_rospecs, enable_extensions, enable_reports, enable_rospec,
    get_config, get_report, keepalive_ack, set_config, set_keepalive, start_rospec, stop_rospec,
};
use device_profiles::profile::Search;
use serde_json::Value as Json;
use simulator::llrp::{Config, Device, crowd};
use stockfold_tests::{Ran, foreign, python};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every way an inventory can be asked for.
fn inventories() -> Vec<Inventory> {
    let mut all = Vec::new();
    for start in [
        Start::Request,
        Start::Immediate,
        Start::Periodic { offset_ms: 100, period_ms: 5_000, for_ms: 700 },
        Start::Gpi { port: 1, high: true, timeout_ms: 30_000 },
        Start::Gpi { port: 2, high: false, timeout_ms: 0 },
    ] {
        for antennas in [vec![], vec![1], vec![1, 2, 3, 4]] {
            for (power, mode) in
                [(None, None), (Some((1, 1)), Some((1_000, 0))), (Some((81, 0)), None)]
            {
                for session in 0..4 {
                    let (rospec, report_tags, population) = (1, 1 + u16::from(session), 32);
                    let antennas = antennas.clone();
                    // Each session with another way to look, and one without any.
                    let impinj = (session > 0).then_some(Impinj {
                        search: [None, Some(Search::Dual), Some(Search::Single)]
                            [usize::from(session) - usize::from(session > 0)],
                    });
                    let power =
                        power.map(|(index, hop_table)| Power { index, hop_table, channel: 4 });
                    all.push(Inventory {
                        rospec,
                        antennas,
                        start,
                        report_tags,
                        power,
                        mode,
                        session,
                        population,
                        impinj,
                    });
                }
            }
        }
    }
    all
}

/// Every kind of request.
fn requests() -> Vec<Message> {
    let mut messages = vec![
        capabilities(1),
        get_config(2),
        set_config(3, 10_000, true),
        set_config(4, 1_000, false),
        delete_rospecs(5),
        enable_rospec(6, 1),
        start_rospec(7, 1),
        stop_rospec(8, u32::MAX),
        enable_reports(9),
        keepalive_ack(u32::MAX),
        close(0),
        set_keepalive(10, 2_000),
        enable_extensions(11),
        get_report(12),
    ];
    messages.extend(inventories().iter().zip(100..).map(|(asked, id)| add_rospec(id, asked)));
    messages
}

#[test]
fn pyllrp_reads_every_request_and_writes_it_as_we_do() {
    let Some(python) = python("llrp-pyllrp") else { return };
    let messages = requests();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/llrp_oracle.py");
    let mut oracle = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut asks = oracle.stdin.take().unwrap();
    let mut answers = BufReader::new(oracle.stdout.take().unwrap());
    for message in &messages {
        let ours = hex(&message.encode().unwrap());
        writeln!(asks, "{ours}").unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), ours, "{}", message.name());
    }
    drop(asks);
    assert!(oracle.wait().unwrap().success());
}

/// The recorded bodies, each with its name and what it says; `None`, and a line that says so, when they are not here.
fn recorded(test: &str) -> Option<Vec<(String, Vec<u8>, Json)>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/llrp");
    let Ok(files) = fs::read_dir(&dir) else {
        println!("SKIP {test}: the recorded bodies of real readers are not beside the repository");
        return None;
    };
    let mut bodies = Vec::new();
    for file in files {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "bytes") {
            let told = fs::read_to_string(path.with_extension("json")).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            bodies.push((name, fs::read(&path).unwrap(), serde_json::from_str(&told).unwrap()));
        }
    }
    bodies.sort_by(|a, b| a.0.cmp(&b.0));
    Some(bodies)
}

/// A body with the header it came with.
fn whole(number: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 10).unwrap();
    let head = [&(0x0400 | number).to_be_bytes()[..], &length.to_be_bytes(), &7_u32.to_be_bytes()];
    [&head.concat(), body].concat()
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            .iter()
            .position(|known| *known == c)
    };
    let bits: String = text.bytes().filter_map(digit).map(|d| format!("{d:06b}")).collect();
    let bytes = bits.as_bytes().chunks_exact(8);
    bytes.map(|b| u8::from_str_radix(std::str::from_utf8(b).unwrap(), 2).unwrap()).collect()
}

fn number(parameter: &Parameter, name: &str) -> i64 {
    match parameter.field(name) {
        Some(Value::Unsigned(number)) => i64::try_from(*number).unwrap(),
        Some(Value::Signed(number)) => *number,
        other => panic!("{} has {name} {other:?}", parameter.name()),
    }
}

#[test]
fn what_real_readers_sent_is_understood() {
    let Some(bodies) = recorded("llrp-recorded") else { return };
    let mut reports = 0;
    for (name, body, told) in bodies {
        let kind = name.split('-').next().unwrap();
        let message_number = match kind {
            "CloseConnectionResponse" => 4,
            "GetReaderCapabilitiesResponse" => 11,
            "GetReaderConfigResponse" => 12,
            "GetROSpecsResponse" => 36,
            "GetAccessSpecsResponse" => 54,
            "ROAccessReport" => 61,
            "ReaderEventNotification" => 63,
            other => panic!("{other} is not known"),
        };
        let bytes = whole(message_number, &body);
        let message = Message::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        if message.skipped == 0 {
            assert_eq!(message.encode().unwrap(), bytes, "{name} is written as it came");
        }
        let parameter = |name: &str| message.parameter(name).unwrap();
        match kind {
            "ROAccessReport" => {
                let told = &told["TagReportData"][0];
                let read = TagReads::of(&bytes).unwrap().next().unwrap().unwrap();
                assert_eq!(read.epc, base64(told["EPC96"]["EPC"].as_str().unwrap()), "{name}");
                assert_eq!(u64::from(read.antenna.unwrap()), told["AntennaID"].as_u64().unwrap());
                let rssi = i64::from(read.rssi_cdbm.unwrap()) / 100;
                assert_eq!(rssi, told["PeakRSSI"].as_i64().unwrap(), "{name}");
                let seen = told["FirstSeenUTC"].as_u64().unwrap();
                assert_eq!(read.first_seen, Some(Stamp::Utc(seen)), "{name}");
                reports += 1;
            }
            "GetReaderCapabilitiesResponse" => {
                let general = parameter("GeneralDeviceCapabilities");
                let told = &told["GeneralDeviceCapabilities"];
                let firmware = general.text_of("ReaderFirmwareVersion");
                assert_eq!(firmware, told["FirmwareVersion"].as_str());
                let sensitivities = told["ReceiveSensitivities"].as_array().unwrap();
                let ours: Vec<_> = general
                    .parameters
                    .iter()
                    .filter(|p| p.name() == "ReceiveSensitivityTableEntry")
                    .collect();
                assert_eq!(ours.len(), sensitivities.len());
                for (ours, told) in ours.iter().zip(sensitivities) {
                    assert_eq!(number(ours, "Index"), told["Index"].as_i64().unwrap());
                    let value = number(ours, "ReceiveSensitivityValue");
                    assert_eq!(value, told["ReceiveSensitivity"].as_i64().unwrap());
                }
            }
            "GetReaderConfigResponse" => {
                let antennas: Vec<_> =
                    message.parameters.iter().filter(|p| p.name() == "AntennaProperties").collect();
                let told = told["AntennaProperties"].as_array().unwrap();
                assert_eq!(antennas.len(), told.len());
                for (ours, told) in antennas.iter().zip(told) {
                    let connected = number(ours, "AntennaConnected") == 1;
                    assert_eq!(connected, told["AntennaConnected"].as_bool().unwrap());
                    assert_eq!(number(ours, "AntennaID"), told["AntennaID"].as_i64().unwrap());
                }
            }
            "ReaderEventNotification" => {
                let data = parameter("ReaderEventNotificationData");
                assert!(data.parameter("ConnectionCloseEvent").is_some());
                assert_eq!(
                    number(data.parameter("UTCTimestamp").unwrap(), "Microseconds"),
                    1_596_721_689_842_138
                );
            }
            _ => assert_eq!(number(parameter("LLRPStatus"), "StatusCode"), 0, "{name}"),
        }
    }
    assert_eq!(reports, 9);
}

/// What a simulated reader of this make says to a client that sets it, in order.
fn reader_says(impinj: bool, uptime: bool) -> Vec<Vec<u8>> {
    let config = Config { impinj, ..Config::default() };
    let start_us = 1_700_000_000_000_000;
    let mut device = Device::new(config, crowd(1, 12, 4, 200.0), start_us);
    device.faults.uptime = uptime;
    (device.faults.empty_epc, device.faults.long_epc) = (true, true);
    device.connect().unwrap();
    let asked = &inventories()[0];
    let start = Inventory { start: Start::Immediate, rospec: 1, ..asked.clone() };
    for message in [
        capabilities(1),
        enable_extensions(2),
        set_config(3, 1_000, true),
        delete_rospecs(4),
        add_rospec(5, &start),
        enable_rospec(6, 1),
        start_rospec(7, 1),
        get_config(8),
    ] {
        device.receive(&message);
    }
    device.advance(start_us + 2_000_000);
    device.input(1, true);
    device.antenna(2, false);
    device.receive(&stop_rospec(9, 1));
    device.receive(&close(10));
    std::iter::from_fn(|| device.outgoing()).collect()
}

#[test]
fn tshark_dissects_what_we_and_our_readers_say() {
    let test = "llrp-tshark";
    let Some(tshark) = foreign(test, "tshark") else { return };
    let Some(text2pcap) = foreign(test, "text2pcap") else { return };
    let mut messages: Vec<Vec<u8>> =
        requests().iter().map(|message| message.encode().unwrap()).collect();
    for (impinj, uptime) in [(false, false), (true, false), (false, true)] {
        messages.extend(reader_says(impinj, uptime));
    }
    let kinds: std::collections::BTreeSet<u16> =
        messages.iter().map(|m| u16::from_be_bytes([m[0], m[1]]) & 0x3FF).collect();
    for kind in [1, 3, 4, 11, 13, 20, 30, 34, 60, 61, 62, 63, 64, 72, 100, 1_023] {
        assert!(kinds.contains(&kind), "no message {kind}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (text, capture) = (dir.path().join("t.txt"), dir.path().join("t.pcap"));
    let mut dump = String::new();
    for message in &messages {
        // A packet each; the capability tables of a reader fit into one.
        for (line, bytes) in message.chunks(16).enumerate() {
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            dump += &format!("{:06x} {}\n", line * 16, bytes.join(" "));
        }
        dump += "\n";
    }
    fs::write(&text, dump).unwrap();
    Ran::of(Command::new(text2pcap).args(["-q", "-T", "5084,40000"]).args([&text, &capture]))
        .good();
    // Sequence numbers are made up; each packet is read by itself.
    let read =
        ["-o", "tcp.desegment_tcp_streams:FALSE", "-o", "tcp.analyze_sequence_numbers:FALSE"];
    let mut command = Command::new(tshark);
    command.arg("-r").arg(&capture).args(read).args(["-Y", "llrp", "-V"]);
    let told = Ran::of(&mut command).good().out;
    let dissected =
        told.lines().filter(|line| line.starts_with("Low Level Reader Protocol")).count();
    assert_eq!(dissected, messages.len());
    for line in told.lines() {
        let line = line.to_lowercase();
        assert!(!line.contains("malformed") && !line.contains("exception occurred"), "{line}");
    }
    assert!(
        told.contains("READER_EVENT_NOTIFICATION") || told.contains("Reader Event Notification"),
        "{}",
        &told[..2_000]
    );
}
