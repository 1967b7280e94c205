//! Stock actors on a simulated disk and the model store, on virtual time: whatever the store does, every acknowledged
//! reading is committed once, in the order of the journal.
//!
//! The oracle is the list of what was appended: one movement a `stock` frame, with its delta, at its offset.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

#[path = "stock/desk.rs"]
mod desk;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use actors::{
    guardian::State,
    journal::{Journal, Record},
    ports::sim_fs::SimFs,
    snapshot::SnapshotStore,
    stock::{SNAPSHOT_ENTRIES, Shard, start},
    store::{Batch, ModelStore, OutboxMovement, ShardPosition, Store, StoreError},
};
use desk::{Desk, SHARD, Sent, WAIT, facility, run, snapshots};
use device_profiles::FacilityId;
use fold::{Body, Principal, wire};
use tokio::time::{Instant, sleep, timeout};

async fn movements(store: &impl Store) -> Vec<OutboxMovement> {
    store.movements_after(SHARD, 0, u32::MAX).await.unwrap()
}

/// The store holds exactly what was sent, once, in order, and levels that add up.
async fn holds(store: &impl Store, sent: &[Sent]) {
    let rows = movements(store).await;
    let told: Vec<Sent> = rows
        .iter()
        .map(|row| Sent {
            offset: row.offset,
            device: row.device.clone().unwrap(),
            seq: row.seq.unwrap(),
            delta: row.delta,
        })
        .collect();
    assert_eq!(told, sent);
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for one in sent {
        *sums.entry(one.device.replace('d', "s")).or_default() += one.delta;
    }
    let levels = store.levels(SHARD).await.unwrap();
    let own = levels.iter().filter(|(_, level)| level.slot.as_str().starts_with('s'));
    let levels: BTreeMap<String, i64> =
        own.map(|(_, level)| (level.slot.to_string(), level.quantity.0)).collect();
    assert_eq!(levels, sums);
}

#[test]
fn commits_follow_the_journal() {
    run(async {
        let (_dir, snapshots) = snapshots();
        let store = Arc::new(ModelStore::default());
        let mut desk = Desk::new().await;
        desk.stocks(100).await;
        let shard = desk.shard(&store, &snapshots);
        let last = desk.stocks(400).await;
        shard.reaches(last).await;
        holds(&*store, &desk.sent).await;
        let position = store.position(SHARD).await.unwrap().unwrap();
        assert_eq!((position.epoch, position.offset), (desk.journal.epoch(), last));
        assert!(shard.commits() > 1, "everything went in one batch; nothing was followed");
        assert_eq!(shard.status.restarts(), 0);
    });
}

#[test]
fn a_store_that_is_away_for_long_loses_nothing() {
    run(async {
        let (_dir, snapshots) = snapshots();
        let store = Arc::new(ModelStore::default());
        let mut desk = Desk::new().await;
        let shard = desk.shard(&store, &snapshots);
        let before = desk.stocks(20).await;
        shard.reaches(before).await;
        store.go_away(500);
        let first = desk.stock(5).await;
        let last = desk.stocks(300).await;
        assert!(shard.board.visible() < first, "what is not committed is not visible");
        shard.reaches(last).await;
        holds(&*store, &desk.sent).await;
        assert_eq!(shard.board.stats.retries.load(Relaxed), 500);
        assert_eq!(shard.status.restarts(), 0, "waiting is no failure");
    });
}

#[test]
fn a_lost_reply_commits_once() {
    run(async {
        let (_dir, snapshots) = snapshots();
        let store = Arc::new(ModelStore::default());
        let mut desk = Desk::new().await;
        let shard = desk.shard(&store, &snapshots);
        for _ in 0..10 {
            store.lose_replies(1);
            let last = desk.stocks(7).await;
            shard.reaches(last).await;
        }
        holds(&*store, &desk.sent).await;
        assert_eq!(shard.board.stats.retries.load(Relaxed), 10);
        assert_eq!(shard.status.restarts(), 0);
    });
}

#[test]
fn a_rewound_store_gets_the_same_movements_again() {
    run(async {
        let (_dir, snapshots) = snapshots();
        let store = Arc::new(ModelStore::default());
        let mut desk = Desk::new().await;
        let shard = desk.shard(&store, &snapshots);
        for lost in [1, 3, 40] {
            let last = desk.stocks(60).await;
            shard.reaches(last).await;
            let before = movements(&*store).await;
            store.rewind(lost);
            let after = movements(&*store).await;
            assert!(after.len() < before.len(), "{lost} commits were forgotten");
            let restarts = shard.status.restarts();
            let last = desk.stock(1).await;
            // The board's own figure may have been there before; only the store counts.
            let caught_up = async {
                while store.position(SHARD).await.unwrap().unwrap().offset < last {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            assert!(timeout(WAIT, caught_up).await.is_ok(), "{:?}", shard.status);
            assert_eq!(shard.status.restarts(), restarts + 1, "one life ended, one began");
            let again = movements(&*store).await;
            assert_eq!(again[..before.len()], before, "the same rows, bit for bit");
            holds(&*store, &desk.sent).await;
        }
    });
}

#[test]
fn another_owner_ends_the_shard_for_good() {
    run(async {
        let (_dir, snapshots) = snapshots();
        let store = Arc::new(ModelStore::default());
        let mut desk = Desk::new().await;
        let old = desk.shard(&store, &snapshots);
        let last = desk.stocks(20).await;
        old.reaches(last).await;
        let new = desk.shard(&store, &snapshots);
        let last = desk.stocks(50).await;
        new.reaches(last).await;
        let State::GaveUp(why) = old.becomes(|state| matches!(state, State::GaveUp(_))).await
        else {
            unreachable!()
        };
        assert!(why.contains("fenced") && why.contains("term"), "{why}");
        assert!(!old.status.is_well());
        assert_eq!(new.status.state(), State::Running);
        holds(&*store, &desk.sent).await;
    });
}

/// A store whose client library panics at some commits.
struct Panicky {
    store: ModelStore,
    left: AtomicI64,
}

impl Store for Panicky {
    async fn own(&self, shard: u16, epoch: u32) -> Result<ShardPosition, StoreError> {
        self.store.own(shard, epoch).await
    }
    async fn position(&self, shard: u16) -> Result<Option<ShardPosition>, StoreError> {
        self.store.position(shard).await
    }
    async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let left = self.left.fetch_sub(1, Relaxed);
        if left == 3 || left == 1 {
            // Once before the commit, once after it.
            if left == 1 {
                self.store.commit(batch).await?;
            }
            panic!("the test asked for it");
        }
        self.store.commit(batch).await
    }
    async fn movements_after(
        &self,
        shard: u16,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<OutboxMovement>, StoreError> {
        self.store.movements_after(shard, offset, limit).await
    }
    async fn save_cursor(&self, n: &str, s: u16, e: u32, o: u64) -> Result<(), StoreError> {
        self.store.save_cursor(n, s, e, o).await
    }
    async fn cursors(&self, shard: u16, epoch: u32) -> Result<Vec<(String, u64)>, StoreError> {
        self.store.cursors(shard, epoch).await
    }
    async fn levels(&self, shard: u16) -> Result<Vec<(FacilityId, fold::Level)>, StoreError> {
        self.store.levels(shard).await
    }
}

#[test]
fn a_panic_in_a_commit_costs_one_life_and_no_movement() {
    run(async {
        let (_dir, snapshots) = snapshots();
        let store = Arc::new(Panicky { store: ModelStore::default(), left: AtomicI64::new(10) });
        let mut desk = Desk::new().await;
        let shard = desk.shard(&store, &snapshots);
        let last = desk.stocks(200).await;
        shard.reaches(last).await;
        holds(&*store, &desk.sent).await;
        assert_eq!(shard.status.restarts(), 2);
    });
}

/// No bytes are known to crash the fold, so its crash cannot be staged; what a crash leaves behind can: the entry and, after
/// it, the entry that quarantines it.
#[test]
fn a_quarantined_entry_is_passed_over_from_the_start() {
    run(async {
        let (_dir, snapshots) = snapshots();
        let store = Arc::new(ModelStore::default());
        let mut desk = Desk::new().await;
        desk.stocks(10).await;
        let offset = desk.stock(1_000).await;
        let poison = desk.sent.pop().unwrap();
        desk.stocks(10).await;
        let last =
            desk.tell(Body::Quarantined { offset, reason: "it crashed the fold".into() }).await;
        let shard = desk.shard(&store, &snapshots);
        shard.reaches(last).await;
        assert!(
            desk.sent.iter().all(|sent| sent.seq != poison.seq || sent.device != poison.device)
        );
        holds(&*store, &desk.sent).await;
    });
}

#[test]
fn an_idle_shard_writes_nothing() {
    run(async {
        let (_dir, snapshots) = snapshots();
        let store = Arc::new(ModelStore::default());
        let mut desk = Desk::new().await;
        let shard = desk.shard(&store, &snapshots);
        let last = desk.stocks(50).await;
        shard.reaches(last).await;
        // Ledger and position follow within seconds; after that nothing does.
        sleep(Duration::from_secs(10)).await;
        let before = (desk.journal.tip().end(), shard.commits(), desk.journal.stats().groups());
        sleep(Duration::from_secs(3_600)).await;
        let after = (desk.journal.tip().end(), shard.commits(), desk.journal.stats().groups());
        assert_eq!(before, after);
        assert!(shard.status.is_well(), "idle is not stalled: {:?}", shard.status);
    });
}

#[test]
fn a_tick_is_appended_when_a_deadline_is_due_and_only_then() {
    run(async {
        let (_dir, snapshots) = snapshots();
        let store = Arc::new(ModelStore::default());
        let mut desk = Desk::new().await;
        let shard = desk.shard(&store, &snapshots);
        let ticks = |desk: &Desk| {
            let (kind, tick) = wire::encode(&facility(), &Principal::Hub, &Body::Tick);
            let records = desk.records();
            records.iter().filter(|r| r.kind == kind && r.payload == tick).count()
        };
        // Ten units, then five: a scale that speaks only on change, and then is silent.
        for (grams, moved) in [(1_000, 10), (500, -5)] {
            let before = ticks(&desk);
            let values = format!(r#"{{"g":{grams},"stable":true}}"#);
            let (payload, _) = desk.frame(1, "weight", &values);
            let offset = desk.journal.append_wait(SHARD, wire::KIND_FRAME, payload).await.unwrap();
            let said = Instant::now();
            let settles = async {
                loop {
                    let rows = store.movements_after(SHARD, offset, 10).await.unwrap();
                    if let [row] = &rows[..] {
                        break row.clone();
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            };
            let row = timeout(Duration::from_secs(5), settles).await.expect("silence settles it");
            println!("settled {} ms after the last word", said.elapsed().as_millis());
            assert_eq!((row.slot.as_str(), row.delta, row.cause.as_str()), ("w1", moved, "weight"));
            assert_eq!(ticks(&desk), before + 1);
            sleep(Duration::from_secs(600)).await;
            assert_eq!(ticks(&desk), before + 1, "one deadline, one tick");
        }
        assert_eq!(shard.status.restarts(), 0);
    });
}

fn digest(shard: &Shard) -> Vec<[u8; 32]> {
    shard.states().map(fold::State::digest).collect()
}

/// Folds on up to an offset; how many entries that took.
fn refold(journal: &Journal<SimFs>, shard: &mut Shard, to: u64) -> usize {
    let mut reader = journal.reader(shard.folded());
    let mut records = Vec::new();
    while reader.read(&mut records).unwrap() {}
    let mine: Vec<Record> = records.into_iter().filter(|r| r.offset <= to).collect();
    mine.iter().for_each(|record| shard.fold(record, false));
    mine.len()
}

#[test]
fn snapshots_begin_where_the_journal_would_have_led() {
    run(async {
        let (_dir, snapshots) = snapshots();
        let store = Arc::new(ModelStore::default());
        let mut desk = Desk::new().await;
        let shard = desk.shard(&store, &snapshots);
        let mut newest = 0;
        for round in 1..=3 {
            desk.telemetry(SNAPSHOT_ENTRIES).await;
            let last = desk.stocks(20).await;
            shard.reaches(last).await;
            let written = async {
                while shard.board.stats.snapshots.load(Relaxed) < round {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            assert!(timeout(WAIT, written).await.is_ok(), "no snapshot {round}");
            newest = last;
        }
        let kept = snapshots.list(SHARD).unwrap();
        assert_eq!(kept.len(), 2, "three were written, two are kept: {kept:?}");
        assert_eq!(shard.board.stats.snapshot_older.load(Relaxed), kept[0].offset);
        holds(&*store, &desk.sent).await;

        // From either snapshot and from the beginning: the same state.
        let mut whole = Shard::new(SHARD, desk.journal.epoch(), start::unknown_facility());
        let all = refold(&desk.journal, &mut whole, newest);
        for id in &kept {
            let (mut restored, from) =
                start::restore(SHARD, &desk.journal, &snapshots, id.offset).unwrap();
            assert_eq!(from, id.offset);
            let rest = refold(&desk.journal, &mut restored, newest);
            println!("from {from}: {rest} of {all} entries folded again");
            assert!(rest < all / 2, "{rest} of {all}");
            assert_eq!(digest(&restored), digest(&whole));
        }

        // A database from before the newest snapshot: the older one serves, and the movements come out the same.
        let before = movements(&*store).await;
        while store.position(SHARD).await.unwrap().unwrap().offset >= kept[1].offset {
            store.rewind(1);
        }
        assert!(movements(&*store).await.len() < before.len());
        let next = desk.shard(&store, &snapshots);
        let mut begun = next.board.begun();
        assert!(timeout(WAIT, begun.wait_for(|begun| *begun)).await.is_ok());
        let refolded = next.board.stats.refolded.load(Relaxed);
        assert!(
            refolded < SNAPSHOT_ENTRIES + 1_000,
            "{refolded} entries: not from the older snapshot"
        );
        let last = desk.stocks(5).await;
        next.reaches(last).await;
        assert_eq!(movements(&*store).await[..before.len()], before);
        holds(&*store, &desk.sent).await;
    });
}
