//! Frames that come twice, late, after a reboot, or from a device whose clock is wrong.

use serde_json::json;
use stockfold_tests::{Device, Version, hub, until};

use crate::common::Bystander;

#[test]
fn repeats_and_late_frames_count_once() {
    let hub = hub();
    let shop = hub.shop("repeats");
    let bystander = Bystander::of(&hub, &shop);
    let login = shop.enrol("repeats-device");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    let sent = [1, 2, 2, 5, 3, 4, 3, 5, 1, 6];
    for seq in sent {
        device.stock(seq, "b", "sku-0", 1);
    }
    // A session later the unacknowledged tail comes again.
    drop(device);
    let mut device = Device::connected(hub.mqtt(), Version::V3, &login);
    for seq in [5, 6, 7] {
        device.stock(seq, "b", "sku-0", 1);
    }
    let exits = shop.ledger(&login, sent.len() as u64 + 3);
    // 3 and 4 were jumped over by 5 and came late; what was counted as lost at that moment stays counted.
    assert_eq!((exits.applied, exits.duplicate, exits.source_lost), (7, 6, 2));
    assert_eq!(shop.quantity("slot-0", "sku-0"), 7);
    bystander.lost_nothing();
    hub.is_sound();
}

#[test]
fn a_reboot_starts_new_numbers_and_the_old_ones_stay_known() {
    let hub = hub();
    let shop = hub.shop("reboots");
    let login = shop.enrol("reboots-device");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    for (boot, seq) in
        [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 2), ("a", 3), ("b", 2), ("b", 3)]
    {
        device.stock(seq, boot, "sku-0", 1);
    }
    shop.ledger(&login, 8);
    assert_eq!(shop.quantity("slot-0", "sku-0"), 6);

    // Without a boot id a lower number is a reboot only at the start of a clean session.
    let login = shop.enrol("reboots-unnamed");
    let plain = |seq: u64, delta: i64| {
        json!({ "seq": seq, "values": { "sku": "sku-1", "delta": delta } }).to_string().into_bytes()
    };
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    device.reading("stock", &plain(1, 1));
    device.reading("stock", &plain(2, 1));
    device.reading("stock", &plain(1, 100));
    drop(device);
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    device.reading("stock", &plain(1, 10));
    device.reading("stock", &plain(2, 10));
    let exits = shop.ledger(&login, 5);
    assert_eq!((exits.applied, exits.duplicate), (4, 1));
    assert_eq!(shop.quantity("slot-0", "sku-1"), 22);
    hub.is_sound();
}

#[test]
fn frames_older_than_the_window_are_quarantined() {
    let hub = hub();
    let shop = hub.shop("window");
    let login = shop.enrol("window-device");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    device.stock(5_000, "b", "sku-0", 1);
    device.stock(5_000 - 1_023, "b", "sku-0", 1);
    device.stock(5_000 - 1_024, "b", "sku-0", 1);
    let exits = shop.ledger(&login, 3);
    assert_eq!((exits.applied, exits.quarantined), (2, 1));
    assert_eq!(shop.refused(&login)[0]["reason"], "too_old");
    assert_eq!(shop.quantity("slot-0", "sku-0"), 2);
    hub.is_sound();
}

#[test]
fn a_wrong_device_clock_changes_no_stock_and_dates_nothing() {
    let hub = hub();
    let shop = hub.shop("clocks");
    let login = shop.enrol("clocks-device");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    let clocks = [
        json!(0),
        json!(253_402_300_799_000_i64),
        json!("1970-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:59Z"),
    ];
    for (seq, ts) in (1..).zip(&clocks) {
        let values = json!({ "sku": "sku-0", "delta": 1 });
        device.reading(
            "stock",
            json!({ "seq": seq, "boot": "b", "ts": ts, "values": values }).to_string().as_bytes(),
        );
        let values = json!({ "t": seq });
        let reading = json!({ "seq": seq + 100, "boot": "b", "ts": ts, "values": values });
        device.reading("climate", reading.to_string().as_bytes());
    }
    shop.ledger(&login, 2 * clocks.len() as u64);
    assert_eq!(shop.quantity("slot-0", "sku-0"), clocks.len() as i64);
    let points = until("the values are in the series", || {
        let points = hub.api().all("/devices/clocks-device/readings?name=climate.t");
        (points.len() == clocks.len()).then_some(points)
    });
    let movements = shop.api().all("/movements?device=clocks-device");
    assert_eq!(movements.len(), clocks.len());
    let day = |row: &serde_json::Value| row["at"].as_str().unwrap()[..10].to_owned();
    let today = day(&shop
        .api()
        .all("/ledger?device=clocks-device")
        .iter()
        .map(|r| json!({ "at": r["hour"] }))
        .next()
        .unwrap());
    for row in points.iter().chain(&movements) {
        assert_eq!(day(row), today, "{row:#}");
    }
    hub.is_sound();
}
