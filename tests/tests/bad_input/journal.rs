//! A damaged journal: what was never acknowledged is cut, everything else is refused by name until it is salvaged.

use std::{fs, path::PathBuf};

use serde_json::json;
use stockfold_tests::{
    Device, Hub, Login, Ran, Shop, Version,
    journal::{Record, flip, overwrite, records, segments},
};

/// A stopped hub with stock readings, and one telemetry reading in their midst that no figure rests on.
struct Stopped {
    hub: Hub,
    shop: Shop,
    login: Login,
    readings: i64,
}

impl Stopped {
    fn new() -> Self {
        let mut hub = Hub::start();
        let shop = Shop::open(hub.api(), "damage", 1, 1);
        let login = shop.enrol("damage-device");
        let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
        let readings = 40;
        for seq in 1..=readings {
            device.stock(seq, "b", "sku-0", 1);
            if seq == readings / 2 {
                let reading = json!({ "seq": 1_000 + seq, "boot": "t", "values": { "marker": 1 } });
                device.reading("climate", reading.to_string().as_bytes());
            }
        }
        shop.settles(&login, readings + 1, "slot-0", "sku-0", readings.cast_signed());
        assert!(hub.stop().success());
        Self { hub, shop, login, readings: readings.cast_signed() }
    }

    fn segment(&self) -> PathBuf {
        segments(&self.hub.journal_dir()).pop().unwrap()
    }

    /// The telemetry reading's record.
    fn marker(&self) -> Record {
        let found = records(&self.segment());
        found.into_iter().find(|r| r.payload.windows(6).any(|w| w == b"marker")).unwrap()
    }

    fn verify(&self) -> Ran {
        self.hub.command(&["journal", "verify"])
    }

    /// It runs again, nothing acknowledged is lost, new readings count, and the replay is equal.
    fn goes_on(&mut self) {
        self.hub.again();
        assert_eq!(self.shop.quantity("slot-0", "sku-0"), self.readings);
        let mut device = Device::connected(self.hub.mqtt(), Version::V5, &self.login);
        self.readings += 1;
        device.stock(self.readings.unsigned_abs(), "b", "sku-0", 1);
        let what = "the new reading is in stock";
        stockfold_tests::until(what, || {
            (self.shop.quantity("slot-0", "sku-0") == self.readings).then_some(())
        });
        self.hub.replays_equal();
    }
}

#[test]
fn a_torn_tail_is_cut_and_nothing_acknowledged_is_lost() {
    let mut stopped = Stopped::new();
    let segment = stopped.segment();
    let all = records(&segment);
    let (last, end) = (all.last().unwrap(), all.last().map(|r| r.at + r.bytes).unwrap());
    // A group of which a crash wrote a piece: the beginning of a record, and noise behind it.
    let begun = &fs::read(&segment).unwrap()[last.at..last.at + last.bytes - 7];
    overwrite(&segment, end, begun);
    overwrite(&segment, end + 600, b"noise");
    let from = stopped.hub.log().len();
    stopped.goes_on();
    let told = stopped.hub.log().text(from);
    assert!(told.contains("torn") && told.contains("nothing in it was acknowledged"), "{told}");
    assert!(stopped.hub.stop().success());
    let sound = stopped.verify().good();
    assert!(sound.out.contains("The journal is sound."), "{}", sound.out);
}

#[test]
fn a_flipped_byte_is_refused_by_offset_and_salvaged() {
    let mut stopped = Stopped::new();
    let (segment, marker) = (stopped.segment(), stopped.marker());
    assert!(marker.is_frame);
    flip(&segment, marker.at + marker.bytes - 3);
    let offset = marker.offset.to_string();

    let failed = stopped.hub.try_again().expect_err("a byte is flipped");
    assert_eq!(failed.code, 1, "{}", failed.text);
    assert!(failed.text.contains(&format!("damaged at offset {offset}")), "{}", failed.text);
    assert!(failed.text.contains("journal salvage"), "it says what to do: {}", failed.text);

    let damaged = stopped.verify();
    assert_eq!(damaged.code, 1);
    assert!(damaged.out.contains(&format!("damaged at offset {offset}")), "{}", damaged.out);
    let asked = stopped.hub.command(&["journal", "salvage"]);
    assert_eq!(asked.code, 1, "without --yes nothing is done");
    assert_eq!(stopped.verify().out, damaged.out, "nothing was changed");

    let done = stopped.hub.command(&["journal", "salvage", "--yes"]).good();
    assert!(done.out.contains("1 records lost"), "{}", done.out);
    stopped.verify().good();
    assert!(stopped.hub.data_dir().join("journal-damaged").is_dir(), "the evidence is kept");
    stopped.goes_on();
}

#[test]
fn what_salvage_gives_up_still_counts_once_where_it_was_committed() {
    let mut stopped = Stopped::new();
    let segment = stopped.segment();
    let all = records(&segment);
    let mut frames = all.iter().filter(|r| r.payload.windows(5).any(|w| w == b"sku-0"));
    let lost = frames.nth_back(10).unwrap();
    assert!(lost.is_frame);
    flip(&segment, lost.at + lost.bytes - 3);
    assert!(stopped.hub.try_again().is_err());
    stopped.hub.command(&["journal", "salvage", "--yes"]).good();

    stopped.hub.again();
    // The first snapshot after it knows what the journal lost; the replay begins there.
    let snapshots = stopped.hub.data_dir().join("snapshots");
    stockfold_tests::until("a snapshot is written", || {
        fs::read_dir(&snapshots)
            .unwrap()
            .flatten()
            .find(|f| f.path().extension().is_some_and(|e| e == "snapshot"))
    });
    stopped.hub.replays_equal();
    assert!(stopped.hub.stop().success());
    stopped.goes_on();
    let movements = stopped.hub.api().all("/movements?facility=damage");
    let sum: i64 = movements.iter().map(|m| m["delta"].as_i64().unwrap()).sum();
    assert_eq!(sum, stopped.readings, "the level is the sum of its movements");
    let newest = movements.iter().map(|m| m["level_after"].as_i64().unwrap()).max();
    assert_eq!(newest, Some(stopped.readings));
}

#[test]
fn damage_at_any_place_is_refused_or_cut_but_never_passed_over() {
    let mut stopped = Stopped::new();
    let segment = stopped.segment();
    let sound = fs::read(&segment).unwrap();
    let all = records(&segment);
    let last = all.last().unwrap();
    // The header, the first record, a record's length, checksum, number, time, shard, kind and payload.
    let middle = all[all.len() / 2].at;
    let places = [
        9,
        17,
        61,
        all[0].at + 40,
        middle,
        middle + 5,
        middle + 9,
        middle + 17,
        middle + 28,
        middle + 30,
        middle + 60,
    ];
    for at in places {
        flip(&segment, at);
        let failed = stopped.hub.try_again().expect_err("a byte is flipped");
        assert_eq!(failed.code, 1, "byte {at}: {}", failed.text);
        assert!(failed.text.contains("damaged at offset"), "byte {at}: {}", failed.text);
        assert_eq!(stopped.verify().code, 1, "byte {at}");
        fs::write(&segment, &sound).unwrap();
    }
    // The newest record was acknowledged too: a journal that lost it is behind its database.
    overwrite(&segment, last.at, &vec![0; last.bytes]);
    let failed = stopped.hub.try_again().expect_err("the newest record is gone");
    assert!(failed.text.contains("do not belong together"), "{}", failed.text);
    fs::write(&segment, &sound).unwrap();
    stopped.goes_on();
}

#[test]
fn a_missing_segment_is_refused_by_name_and_salvaged() {
    let mut stopped = Stopped::new();
    stopped.hub.again();
    // Padding fills segments quickly, and says nothing.
    let names: Vec<String> = (0..20).map(|n| format!("padding-{n}")).collect();
    let logins = stopped.shop.enrol_all(&names);
    let mut padded = br#"{"seq":1,"boot":"b","values":{"t":1}}"#.to_vec();
    padded.resize(127 * 1024, b' ');
    for login in &logins {
        let mut device = Device::connected(stopped.hub.mqtt(), Version::V5, login);
        for _ in 0..56 {
            device.reading("climate", &padded);
        }
    }
    let all = segments(&stopped.hub.journal_dir());
    assert!(all.len() >= 3, "{all:?}");
    for login in &logins {
        stopped.shop.ledger(login, 56);
    }
    assert!(stopped.hub.stop().success());

    let away = stopped.hub.data_dir().join("away");
    fs::rename(&all[1], &away).unwrap();
    let failed = stopped.hub.try_again().expect_err("a segment is missing");
    assert_eq!(failed.code, 1, "{}", failed.text);
    assert!(failed.text.contains("segment 1 is missing"), "{}", failed.text);
    assert_eq!(stopped.verify().code, 1);
    // Back in its place all is well.
    fs::rename(&away, &all[1]).unwrap();
    stopped.verify().good();
    stopped.goes_on();
    assert!(stopped.hub.stop().success());
    // Lost for good it is salvaged: what other segments hold stays.
    fs::remove_file(&all[1]).unwrap();
    stopped.hub.command(&["journal", "salvage", "--yes"]).good();
    stopped.verify().good();
    stopped.goes_on();
}
