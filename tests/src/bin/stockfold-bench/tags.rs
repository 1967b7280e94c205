//! A million tags in the fold: what a tag costs, how fast reads are folded, how long a snapshot takes there and back.
//!
//! No hub and no disk: frames as readers send them go into the fold of one facility on one core.

use anyhow::ensure;
use bytes::Bytes;
use device_profiles::{
    DeviceId, FacilityId, Milligrams, Profile, ShardId, ShelfId, Sku, SlotId, Tag, ZoneId, epc,
    llrp::{Message, Parameter, Value, message},
    shipped::shipped,
};
use fold::{
    AntennaSpec, Body, DeviceSpec, Entry, Frame, HubTime, Master, MasterEntry, Position, Principal,
    SkuSpec, SlotSpec, State,
};
use serde_json::json;
use simulator::clock::WallClock;

use crate::process;

/// Antennas that look at a zone and a slot of their own each.
const ANTENNAS: u16 = 32;
/// SKUs of which the tags are.
const SKUS: u32 = 500;
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

fn gtin(sku: u32) -> String {
    let digits = format!("0614141{sku:05}");
    let check = epc::check_digit(&digits);
    digits + &check.to_string()
}

/// What the memory of a tag holds: an item of a SKU.
fn memory(tag: u32) -> anyhow::Result<Vec<u8>> {
    let epc = epc::Epc::sgtin(&gtin(tag % SKUS), 7, &tag.to_string())?;
    Ok(epc::Written { epc, filter: 1, form: epc::Form::Sgtin96 }.encode()?)
}

fn report(first: u32, tags: &[Vec<u8>], at_us: i64) -> anyhow::Result<Vec<u8>> {
    let tv = |number: u16, value: Value| Parameter {
        number,
        fields: vec![value],
        parameters: Vec::new(),
    };
    let tag = |(n, memory): (u32, &Vec<u8>)| {
        let parameters = vec![
            tv(13, Value::Bytes(memory.clone())),
            tv(1, Value::Unsigned(u64::from(n) % u64::from(ANTENNAS) + 1)),
            tv(6, Value::Signed(-55)),
            tv(4, Value::Unsigned(at_us.unsigned_abs())),
            tv(8, Value::Unsigned(3)),
        ];
        Parameter { number: 240, fields: Vec::new(), parameters }
    };
    let tags = (first..).zip(tags).map(tag).collect();
    Ok(Message::new(message::REPORT, first, Vec::new(), tags).encode()?)
}

/// The facility: a reader whose antennas look at slots, and SKUs.
fn master(reader: &DeviceId) -> anyhow::Result<Vec<Master>> {
    let slot = |port: u16| SlotId::parse(&format!("slot-{port}"));
    let mut values = Vec::new();
    let mut antennas = Vec::new();
    for port in 1..=ANTENNAS {
        let zone = ZoneId::parse(&format!("zone-{port}"))?;
        antennas.push(AntennaSpec {
            port,
            zone: zone.clone(),
            slot: Some(slot(port)?),
            outside: false,
        });
        let shelf = ShelfId::parse("shelf")?;
        values.push(Master::Slot(SlotSpec {
            id: slot(port)?,
            shelf,
            zone: Some(zone),
            receiving: false,
        }));
    }
    for sku in 0..SKUS {
        values.push(Master::Sku(SkuSpec {
            id: Sku::parse(&format!("sku-{sku}"))?,
            unit_weight: None,
            unit_sigma: Milligrams(0),
            gtin: Some(gtin(sku)),
        }));
    }
    values.push(Master::Device(DeviceSpec {
        id: reader.clone(),
        slot: None,
        channels: Vec::new(),
    }));
    values.push(Master::Antennas { device: reader.clone(), antennas });
    Ok(values)
}

/// Measures.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let facility = FacilityId::parse("bench")?;
    let reader = DeviceId::parse("reader")?;
    let text = shipped("llrp-reader").unwrap_or_default();
    let profile = Profile::parse(text)?.hash;
    let values = master(&reader)?;
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
    let memories = (0..args.tags).map(memory).collect::<anyhow::Result<Vec<_>>>()?;
    let before = process::rss_bytes(std::process::id());
    let clock = WallClock::start();
    let (mut reads, mut fold_us) = (0_u64, 0_u64);
    for round in 0..ROUNDS {
        for first in (0..args.tags).step_by(REPORT_TAGS as usize) {
            let at_us = i64::from(round) * 1_000_000 + i64::from(first / REPORT_TAGS);
            let count = REPORT_TAGS.min(args.tags - first);
            let some = &memories[first as usize..(first + count) as usize];
            let raw = Bytes::from(report(first, some, BEGIN_US + at_us)?);
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
    let some = Tag::of_bytes(&memory(7)?)?;
    ensure!(back.tag(&some).and_then(|tag| tag.sku).is_some(), "a tag has no SKU");
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
