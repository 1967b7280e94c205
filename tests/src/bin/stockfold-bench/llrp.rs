//! How fast the tags of LLRP reports are read, on one core.

#![allow(clippy::disallowed_methods, reason = "measuring code")]

use std::time::{Duration, Instant};

use device_profiles::llrp::{Message, Parameter, TagReads, Value};
use serde_json::json;

/// Tags in a report.
const TAGS: u64 = 64;

/// A report as readers send it: EPC-96, antenna, signal, channel, two times, a count, and Impinj's finer signal.
fn report() -> anyhow::Result<Vec<u8>> {
    let leaf = |name, value| Parameter::new(name, vec![value], Vec::new());
    let tag = |n: u64| {
        let epc = [&[0x30, 0x74, 0x25, 0x7B], &n.to_be_bytes()[..]].concat();
        let mut signal = (-5_206_i16).to_be_bytes().to_vec();
        signal.truncate(2);
        let custom = vec![Value::Unsigned(25_882), Value::Unsigned(57), Value::Bytes(signal)];
        let parts = vec![
            leaf("EPC_96", Value::Bytes(epc)),
            leaf("AntennaID", Value::Unsigned(1 + n % 4)),
            leaf("PeakRSSI", Value::Signed(-52)),
            leaf("ChannelIndex", Value::Unsigned(29)),
            leaf("FirstSeenTimestampUTC", Value::Unsigned(1_795_437_332_126_531)),
            leaf("LastSeenTimestampUTC", Value::Unsigned(1_795_437_332_126_531)),
            leaf("TagSeenCount", Value::Unsigned(1)),
            Parameter::new("Custom", custom, Vec::new()),
        ];
        Parameter::new("TagReportData", Vec::new(), parts)
    };
    Ok(Message::new(61, 1, Vec::new(), (0..TAGS).map(tag).collect()).encode()?)
}

pub fn run(seconds: u64) -> anyhow::Result<()> {
    let report = report()?;
    let (began, end) = (Instant::now(), Duration::from_secs(seconds));
    let (mut tags, mut sum) = (0_u64, 0_u64);
    while began.elapsed() < end {
        for _ in 0..100 {
            for read in TagReads::of(std::hint::black_box(&report))? {
                let read = read?;
                tags += 1;
                // Every field is looked at, or the compiler leaves out what nobody wants.
                sum = sum.wrapping_add(u64::from(read.antenna.unwrap_or(0)))
                    ^ read.epc.iter().map(|b| u64::from(*b)).sum::<u64>()
                    ^ u64::from(read.rssi_cdbm.unwrap_or(0).unsigned_abs())
                    ^ u64::from(read.seen.unwrap_or(0));
                std::hint::black_box(read);
            }
        }
    }
    let rate = tags as f64 / began.elapsed().as_secs_f64();
    println!("{tags} tags in reports of {TAGS}, {} bytes each (check {sum:x})", report.len());
    println!("{}", json!({ "bench": "llrp", "reads_per_s": rate.round() }));
    Ok(())
}
