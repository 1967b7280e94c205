//! A million tags in the fold: what a tag costs, how fast reads are folded, how long a snapshot takes there and back.
//!
//! No hub and no disk: frames as readers send them go into the fold of one facility on one core.

use anyhow::ensure;
use bytes::Bytes;
use device_profiles::{
    DeviceId, FacilityId, Profile, ShardId, Tag, ZoneId,
    llrp::{Message, Parameter, Value, message},
    shipped::shipped,
};
use fold::{
    AntennaSpec, Body, DeviceSpec, Entry, Frame, HubTime, Master, MasterEntry, Position, Principal,
    State,
};
use serde_json::json;
use simulator::clock::WallClock;

use crate::process;

/// Antennas that look at a zone of their own each.
const ANTENNAS: u16 = 32;
/// Tags in a report.
const REPORT_TAGS: u32 = 200;
/// Reads of each tag until it is present for sure.
const ROUNDS: u32 = 3;
/// Where time begins, Unix microseconds.
const BEGIN_US: i64 = 1_700_000_000_000_000;

/// How many.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Tags.
    #[arg(long, default_value_t = 1_000_000)]
    tags: u32,
}

fn report(first: u32, count: u32, at_us: i64) -> anyhow::Result<Vec<u8>> {
    let tv = |number: u16, value: Value| Parameter {
        number,
        fields: vec![value],
        parameters: Vec::new(),
    };
    let tag = |n: u32| {
        let mut epc = [0_u8; 12];
        epc[0] = 0x30;
        epc[8..].copy_from_slice(&n.to_be_bytes());
        let parameters = vec![
            tv(13, Value::Bytes(epc.to_vec())),
            tv(1, Value::Unsigned(u64::from(n) % u64::from(ANTENNAS) + 1)),
            tv(6, Value::Signed(-55)),
            tv(4, Value::Unsigned(at_us.unsigned_abs())),
            tv(8, Value::Unsigned(3)),
        ];
        Parameter { number: 240, fields: Vec::new(), parameters }
    };
    let tags = (first..first + count).map(tag).collect();
    Ok(Message::new(message::REPORT, first, Vec::new(), tags).encode()?)
}

/// Measures.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let facility = FacilityId::parse("bench")?;
    let reader = DeviceId::parse("reader")?;
    let text = shipped("llrp-reader").unwrap_or_default();
    let profile = Profile::parse(text)?.hash;
    let antenna = |port: u16| -> anyhow::Result<AntennaSpec> {
        let zone = ZoneId::parse(&format!("zone-{port}"))?;
        Ok(AntennaSpec { port, zone, slot: None, outside: false })
    };
    let antennas = (1..=ANTENNAS).map(antenna).collect::<anyhow::Result<Vec<_>>>()?;
    let values = vec![
        Master::Device(DeviceSpec { id: reader.clone(), slot: None, channels: Vec::new() }),
        Master::Antennas { device: reader.clone(), antennas },
    ];
    let mut state = State::new(facility.clone());
    let mut offset = 0;
    let mut apply = |state: &mut State, at_us: i64, body: Body| {
        offset += 64;
        let position = Position { epoch: 1, shard: ShardId(0), offset };
        state.apply(&Entry {
            position,
            received_at: HubTime(BEGIN_US + at_us),
            facility: facility.clone(),
            principal: Principal::Device,
            body,
        })
    };
    apply(&mut state, 0, Body::Profile(text.to_owned()));
    apply(&mut state, 0, Body::Master(MasterEntry { revision: 1, values }));
    let before = process::rss_bytes(std::process::id());
    let clock = WallClock::start();
    let (mut reads, mut fold_us) = (0_u64, 0_u64);
    for round in 0..ROUNDS {
        for first in (0..args.tags).step_by(REPORT_TAGS as usize) {
            let at_us = i64::from(round) * 1_000_000 + i64::from(first / REPORT_TAGS);
            let count = REPORT_TAGS.min(args.tags - first);
            let raw = Bytes::from(report(first, count, BEGIN_US + at_us)?);
            let frame = Frame {
                device: reader.clone(),
                stream: "reads".to_owned(),
                boot: None,
                seq: None,
                profile,
                fresh_session: false,
                raw,
            };
            let from_us = clock.elapsed_us();
            apply(&mut state, at_us, Body::Frame(frame));
            fold_us += clock.elapsed_us() - from_us;
            reads += u64::from(count);
        }
    }
    let bytes = process::rss_bytes(std::process::id()).saturating_sub(before);
    let present = state.tags().filter(|tag| tag.present).count();
    ensure!(present == args.tags as usize, "{present} of {} tags are present", args.tags);
    let clock = WallClock::start();
    let slices: Vec<Vec<u8>> = state.slices().collect();
    let write_us = clock.elapsed_us();
    let clock = WallClock::start();
    let back = State::restore(&slices)?;
    let restore_us = clock.elapsed_us();
    ensure!(back.digest() == state.digest(), "the state that came back is another");
    let some = Tag::of_bytes(&[0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7])?;
    ensure!(back.tag(&some) == state.tag(&some), "a tag that came back is another");
    let result = json!({
        "bench": "tags",
        "tags": args.tags,
        "reads_per_s_one_core": reads as f64 * 1e6 / fold_us as f64,
        "bytes_per_tag": bytes / u64::from(args.tags.max(1)),
        "snapshot_mb": slices.iter().map(Vec::len).sum::<usize>() as f64 / 1e6,
        "snapshot_s": write_us as f64 / 1e6,
        "restore_s": restore_us as f64 / 1e6,
    });
    println!("{result}");
    Ok(())
}
