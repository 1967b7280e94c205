//! A small facility and a pen to write its journal with.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test binary uses its own part"
)]

use std::sync::LazyLock;

use bytes::Bytes;
use device_profiles::{
    Channel, DeviceId, FacilityId, Milligrams, Profile, ProfileHash, ShardId, ShelfId, Sku, SlotId,
    Units, profile::DEFAULT_PROFILE,
};
use fold::{
    Body, ChannelSpec, Command, CommandEntry, DeviceSpec, Effects, Entry, Frame, HubTime, LineSpec,
    Master, MasterEntry, Position, Principal, SkuSpec, SlotSpec, Source, State,
};

pub fn slot(i: usize) -> SlotId {
    SlotId::parse(&format!("slot-{i}")).unwrap()
}
pub fn sku(i: usize) -> Sku {
    Sku::parse(&format!("sku-{i}")).unwrap()
}
pub fn device(i: usize) -> DeviceId {
    DeviceId::parse(&format!("dev-{i}")).unwrap()
}
pub fn default_hash() -> ProfileHash {
    ProfileHash::of(DEFAULT_PROFILE)
}

/// Writes entries one after the other, as the journal's appender would.
#[derive(Clone)]
pub struct Pen {
    pub offset: u64,
    pub now: i64,
}

impl Pen {
    pub fn new() -> Self {
        Self { offset: 64, now: 1_795_000_000_000_000 }
    }

    pub fn write(&mut self, principal: Principal, body: Body) -> Entry {
        self.offset += 64;
        Entry {
            position: Position { epoch: 1, shard: ShardId(0), offset: self.offset },
            received_at: HubTime(self.now),
            facility: FacilityId::parse("f1").unwrap(),
            principal,
            body,
        }
    }

    pub fn frame(&mut self, device: DeviceId, stream: &str, raw: &str) -> Entry {
        static PROFILE: LazyLock<Profile> =
            LazyLock::new(|| Profile::parse(DEFAULT_PROFILE).unwrap());
        let profile = &*PROFILE;
        let reading = device_profiles::decode(profile, stream, raw.as_bytes()).ok();
        self.write(
            Principal::Device,
            Body::Frame(Frame {
                device,
                stream: stream.into(),
                boot: reading.as_ref().and_then(|r| r.boot.clone()),
                seq: reading.as_ref().and_then(|r| r.seq),
                profile: profile.hash,
                fresh_session: false,
                raw: Bytes::copy_from_slice(raw.as_bytes()),
            }),
        )
    }

    pub fn command(&mut self, key: Option<&str>, command: Command) -> Entry {
        let entry = CommandEntry { key: key.map(Into::into), command };
        self.write(Principal::Person("ann".into()), Body::Command(entry))
    }
}

/// How the facility of a test looks.
pub struct Layout {
    pub slots: usize,
    pub skus: usize,
    pub source: Source,
    /// Unit weight and its sigma.
    pub unit: (i64, i64),
    /// Division and plateau noise of each cell.
    pub cell: (i64, i64),
}

impl Default for Layout {
    fn default() -> Self {
        Self { slots: 4, skus: 4, source: Source::Scan, unit: (100_000, 500), cell: (1_000, 1_000) }
    }
}

/// Slot i holds SKU i mod skus; device i has its channel 0 on slot i and its default slot there, too.
pub fn facility(pen: &mut Pen, layout: &Layout) -> (State, Vec<Entry>) {
    let shelf = ShelfId::parse("shelf-1").unwrap();
    let mut values = Vec::new();
    for i in 0..layout.skus {
        values.push(Master::Sku(SkuSpec {
            id: sku(i),
            unit_weight: Some(Milligrams(layout.unit.0)),
            unit_sigma: Milligrams(layout.unit.1),
            gtin: Some(format!("400638133{:04}", i)),
        }));
    }
    for i in 0..layout.slots {
        values.push(Master::Slot(SlotSpec {
            id: slot(i),
            shelf: shelf.clone(),
            zone: None,
            receiving: i == 0,
        }));
        values.push(Master::Lines {
            slot: slot(i),
            lines: vec![LineSpec {
                sku: sku(i % layout.skus),
                source: layout.source,
                capacity: None,
                min: None,
            }],
        });
        values.push(Master::Device(DeviceSpec {
            id: device(i),
            slot: Some(slot(i)),
            channels: vec![ChannelSpec {
                channel: Channel::parse("0").unwrap(),
                slot: slot(i),
                division: Milligrams(layout.cell.0),
                noise: Milligrams(layout.cell.1),
                capacity: None,
                zero: Some(Milligrams(0)),
            }],
        }));
    }
    let mut state = State::new(FacilityId::parse("f1").unwrap());
    let entries = vec![
        pen.write(Principal::Hub, Body::Profile(DEFAULT_PROFILE.into())),
        pen.write(Principal::Hub, Body::Master(MasterEntry { revision: 1, values })),
    ];
    for entry in &entries {
        state.apply(entry);
    }
    (state, entries)
}

pub fn count(pen: &mut Pen, state: &mut State, at: usize, what: usize, quantity: i64) -> Effects {
    let command = Command::Count {
        slot: slot(at),
        sku: sku(what),
        quantity: Units(quantity),
        counted_at: None,
    };
    state.apply(&pen.command(None, command))
}
