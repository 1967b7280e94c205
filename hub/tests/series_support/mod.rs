//! What the tests of series stand on: a PostgreSQL of their own, a journal, a strict InfluxDB.

pub mod fake;
pub mod lines;
pub mod victoria;

use std::{os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use actors::{
    journal::{Journal, Options, Threads},
    ports::{clock::SystemClock, fs::RealFs},
};
use device_profiles::{FacilityId, Profile, profile::DEFAULT_PROFILE};
use fold::{Body, Frame, Principal, wire};
use hub::{
    config,
    series::{Influx, Point, Reading},
    store::{PgStore, PrivateServer, partitions::Keep},
};

/// No wait is longer.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A directory with a PostgreSQL in it.
pub struct Ground {
    pub dir: tempfile::TempDir,
    server: PrivateServer,
    pub store: PgStore,
}

pub const KEEP: Keep = Keep { reading_days: 400, minute_days: 800, hour_days: 3_650 };

impl Ground {
    pub async fn new() -> Self {
        // A directory that another user may enter: PostgreSQL does not run as root.
        let dir = tempfile::Builder::new().prefix("sf").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let server = PrivateServer::ensure(dir.path()).await.unwrap();
        let store = PgStore::open(server.options()).await.unwrap();
        store.keep_partitions(day(), KEEP).await.unwrap();
        Self { dir, server, store }
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn influx_config(&self, url: &str) -> config::Influx {
        config::Influx {
            url: url.parse().unwrap(),
            org: "o".into(),
            bucket: "b".into(),
            token_file: self.file("token", "right\n"),
            ca_file: None,
        }
    }

    pub fn influx(&self, url: &str) -> Influx {
        Influx::open(&self.influx_config(url), self.store.clone()).unwrap()
    }

    pub async fn journal(&self) -> TestJournal {
        let fs = RealFs::new(&self.dir.path().join("journal")).unwrap();
        let options = Options { segment_bytes: 1 << 20, ..Options::default() };
        let (journal, writer, _) =
            Journal::open(fs, Arc::new(SystemClock::new()), &options).unwrap();
        let threads =
            Threads::spawn(&journal, writer, options.segment_bytes, |error| panic!("{error}"))
                .unwrap();
        let profile = Profile::parse(DEFAULT_PROFILE).unwrap();
        self.store
            .keep_profile(profile.name.as_str(), &profile.hash.0, DEFAULT_PROFILE)
            .await
            .unwrap();
        TestJournal { journal, threads, profile }
    }

    pub async fn end(self) {
        self.store.pool().close().await;
        self.server.stop().unwrap();
    }
}

/// A journal that frames of devices can be appended to.
pub struct TestJournal {
    pub journal: Journal<RealFs>,
    threads: Threads,
    profile: Profile,
}

impl TestJournal {
    pub async fn frame(&self, device: &str, stream: &str, seq: Option<u64>, raw: &str) -> u64 {
        let frame = Frame {
            device: device.parse().unwrap(),
            stream: stream.to_owned(),
            boot: Some("b".into()),
            seq,
            profile: self.profile.hash,
            fresh_session: false,
            raw: raw.to_owned().into(),
        };
        let facility = FacilityId::parse("f1").unwrap();
        let (kind, payload) = wire::encode(&facility, &Principal::Device, &Body::Frame(frame));
        self.journal.append_wait(0, kind, payload).await.unwrap()
    }

    pub fn end(self) {
        self.journal.close();
        self.threads.join();
    }
}

/// Noon, UTC, yesterday: whole in every bucket that the tests use.
pub fn noon() -> i64 {
    (day() - 1) * 86_400_000_000 + 43_200_000_000
}

#[allow(clippy::disallowed_methods, reason = "real servers keep real days")]
pub fn day() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() / 86_400
}

pub fn number(device: &str, name: &str, at_us: i64, tie: u16, value: f64) -> Point {
    point(device, name, at_us, tie, Reading::Number(value))
}

pub fn point(device: &str, name: &str, at_us: i64, tie: u16, value: Reading) -> Point {
    Point { at_us, tie, facility: "f1".into(), device: device.into(), name: name.into(), value }
}
