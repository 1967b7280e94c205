//! A journal on a simulated disk, the pen that fills it, and a shard that follows it on virtual time.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use actors::{
    guardian::{Policy, State, Status},
    journal::{Completion, Journal, Options, Record},
    ports::{clock::Clock, rng::SplitMix, sim_fs::SimFs},
    snapshot::SnapshotFiles,
    stock::{self, Board, Links},
    store::Store,
};
use bytes::Bytes;
use device_profiles::{
    Channel, DeviceId, FacilityId, Milligrams, ProfileHash, ShelfId, Sku, SlotId,
    profile::DEFAULT_PROFILE,
};
use fold::{
    Body, ChannelSpec, DeviceSpec, Frame, LineSpec, Master, MasterEntry, Principal, SkuSpec,
    SlotSpec, Source, wire,
};
use tokio::time::{Instant, sleep, timeout};

pub const SHARD: u16 = 0;
pub const DEVICES: u64 = 4;
/// Longest virtual wait.
pub const WAIT: Duration = Duration::from_secs(3_600);

/// Virtual time as a machine's clock.
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn mono_us(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
    fn wall_us(&self) -> i64 {
        1_795_000_000_000_000 + self.mono_us()
    }
}

pub fn facility() -> FacilityId {
    FacilityId::parse("f1").unwrap()
}

/// Runs a test on virtual time.
pub fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(async {
        tokio::time::pause();
        test.await;
    });
}

/// What was appended: the oracle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub offset: u64,
    pub device: String,
    pub seq: u64,
    pub delta: i64,
}

/// A journal on a simulated disk whose writer is driven on virtual time, and the pen that fills it.
pub struct Desk {
    pub journal: Journal<SimFs>,
    pub sent: Vec<Sent>,
    seqs: BTreeMap<u64, u64>,
}

impl Desk {
    /// A new journal that begins with profile and master data.
    pub async fn new() -> Self {
        let clock = Arc::new(VirtualClock(Instant::now()));
        let (journal, mut writer, _) =
            Journal::open(SimFs::default(), clock, &Options::default()).unwrap();
        actix_rt::spawn(async move {
            while writer.step(false).unwrap() {
                sleep(Duration::from_millis(1)).await;
            }
        });
        let desk = Self { journal, sent: Vec::new(), seqs: BTreeMap::new() };
        desk.tell(Body::Profile(DEFAULT_PROFILE.into())).await;
        desk.tell(Body::Master(MasterEntry { revision: 1, values: master() })).await;
        desk
    }

    pub async fn tell(&self, body: Body) -> u64 {
        let (kind, payload) = wire::encode(&facility(), &Principal::Hub, &body);
        self.journal.append_wait(SHARD, kind, payload).await.unwrap()
    }

    pub fn frame(&mut self, device: u64, stream: &str, values: &str) -> (Vec<u8>, u64) {
        let seq = self.seqs.entry(device).or_default();
        *seq += 1;
        let frame = Frame {
            device: DeviceId::parse(&format!("d{device}")).unwrap(),
            stream: stream.into(),
            boot: Some("b".into()),
            seq: Some(*seq),
            profile: ProfileHash::of(DEFAULT_PROFILE),
            fresh_session: false,
            raw: Bytes::from(format!(r#"{{"seq":{seq},"boot":"b","values":{values}}}"#)),
        };
        (wire::encode_frame(&facility(), &frame), *seq)
    }

    /// One stock reading, durable when this resolves.
    pub async fn stock(&mut self, delta: i64) -> u64 {
        let device = self.sent.len() as u64 % DEVICES;
        let (payload, seq) =
            self.frame(device, "stock", &format!(r#"{{"sku":"sku","delta":{delta}}}"#));
        let offset = self.journal.append_wait(SHARD, wire::KIND_FRAME, payload).await.unwrap();
        self.sent.push(Sent { offset, device: format!("d{device}"), seq, delta });
        offset
    }

    /// Some stock readings one after the other.
    pub async fn stocks(&mut self, count: i64) -> u64 {
        let mut last = 0;
        for n in 0..count {
            last = self.stock(n % 7 + 1).await;
        }
        last
    }

    /// Readings that move nothing, as fast as the queue takes them.
    pub async fn telemetry(&mut self, count: u64) {
        for n in 0..count {
            let (payload, _) = self.frame(n % DEVICES, "climate", r#"{"t":21.5}"#);
            if n % 1_000 == 999 {
                self.journal.append_wait(SHARD, wire::KIND_FRAME, payload).await.unwrap();
            } else {
                self.journal.append(SHARD, wire::KIND_FRAME, payload, Completion::None).unwrap();
            }
        }
    }

    /// Every record.
    pub fn records(&self) -> Vec<Record> {
        let mut reader = self.journal.reader(0);
        let mut all = Vec::new();
        while reader.read(&mut all).unwrap() {}
        all
    }

    /// A shard of this journal on its way.
    pub fn shard<S: Store>(&self, store: &Arc<S>, snapshots: &SnapshotFiles) -> Running {
        let board = Board::new();
        let links = Links {
            journal: self.journal.clone(),
            store: Arc::clone(store),
            snapshots: Arc::new(snapshots.clone()),
            board: Arc::clone(&board),
            rng: Arc::new(SplitMix::new(7)),
        };
        Running { status: stock::run(SHARD, links, Policy::default()), board }
    }
}

/// Each device has a slot for its stock readings and a load cell with another.
fn master() -> Vec<Master> {
    let slot = |id: String| SlotSpec {
        id: SlotId::parse(&id).unwrap(),
        shelf: ShelfId::parse("shelf").unwrap(),
        zone: None,
        receiving: false,
    };
    let sku = Sku::parse("sku").unwrap();
    let mut values = vec![Master::Sku(SkuSpec {
        id: sku.clone(),
        unit_weight: Some(Milligrams(100_000)),
        unit_sigma: Milligrams(500),
        gtin: None,
    })];
    for n in 0..DEVICES {
        let (own, weighed) = (slot(format!("s{n}")), slot(format!("w{n}")));
        let channel = ChannelSpec {
            channel: Channel::parse("0").unwrap(),
            slot: weighed.id.clone(),
            division: Milligrams(1_000),
            noise: Milligrams(1_000),
            capacity: None,
            zero: Some(Milligrams(0)),
        };
        let line = LineSpec { sku: sku.clone(), source: Source::Weight, capacity: None, min: None };
        values.extend([
            Master::Lines { slot: weighed.id.clone(), lines: vec![line] },
            Master::Device(DeviceSpec {
                id: DeviceId::parse(&format!("d{n}")).unwrap(),
                slot: Some(own.id.clone()),
                channels: vec![channel],
            }),
        ]);
        // Before what names them.
        values.insert(0, Master::Slot(own));
        values.insert(0, Master::Slot(weighed));
    }
    values
}

/// A shard and what it tells.
pub struct Running {
    pub status: Arc<Status>,
    pub board: Arc<Board>,
}

impl Running {
    /// Waits until everything up to an offset is visible.
    pub async fn reaches(&self, offset: u64) {
        let mut visible = self.board.watch();
        let reached = timeout(WAIT, visible.wait_for(|at| *at >= offset)).await;
        assert!(reached.is_ok(), "{offset} not reached: {:?}", self.status);
    }

    /// Waits for a state of its guardian.
    pub async fn becomes(&self, wanted: impl Fn(&State) -> bool) -> State {
        let looking = async {
            while !wanted(&self.status.state()) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(timeout(WAIT, looking).await.is_ok(), "{:?}", self.status);
        self.status.state()
    }

    pub fn commits(&self) -> u64 {
        self.board.stats.commits.load(Relaxed)
    }
}

/// A place for snapshots that goes with the test.
pub fn snapshots() -> (tempfile::TempDir, SnapshotFiles) {
    let dir = tempfile::tempdir().unwrap();
    let files = SnapshotFiles::new(dir.path()).unwrap();
    (dir, files)
}
