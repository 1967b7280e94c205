//! Payloads that say nothing, nonsense, or something that cannot be placed.

use serde_json::json;
use stockfold_tests::{Device, Version, hub};

use crate::common::Bystander;

/// What a stock reading says instead of what it should, and the reason it is rejected with.
fn rejected() -> Vec<(Vec<u8>, &'static str)> {
    let stock = |values: &str| format!(r#"{{"seq":1,"boot":"x","values":{values}}}"#).into_bytes();
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    let wide = format!("[{}0]", "0,".repeat(5_000));
    vec![
        (b"".to_vec(), "not_json"),
        (b"\x00\x01\x02\xff\xfe".to_vec(), "not_json"),
        (b"12.5 g".to_vec(), "not_json"),
        (br#"{"seq":1,"values":"#.to_vec(), "not_json"),
        (stock(r#"{"sku":"sku-0","delta":NaN}"#), "not_json"),
        (stock(r#"{"sku":"sku-0","delta":Infinity}"#), "not_json"),
        (b"{\"seq\":1,\"values\":{\"sku\":\"\xc3\x28\",\"delta\":1}}".to_vec(), "not_json"),
        (stock(&format!(r#"{{"sku":"sku-0","delta":1,"x":{deep}}}"#)), "too_deep"),
        (stock(&format!(r#"{{"sku":"sku-0","delta":1,"x":{wide}}}"#)), "too_large"),
        (stock(r#"{"sku":"sku-0","delta":9223372036854775808}"#), "out_of_range"),
        (stock(r#"{"sku":"sku-0","delta":-9223372036854775809}"#), "out_of_range"),
        (stock(r#"{"sku":"sku-0","delta":1e300}"#), "out_of_range"),
        (stock(r#"{"sku":"sku-0","delta":1000001}"#), "out_of_range"),
        (stock(r#"{"sku":"sku-0","delta":0}"#), "out_of_range"),
        (stock(r#"{"sku":"sku-0","delta":1.5}"#), "wrong_type"),
        (stock(r#"{"sku":"sku-0","delta":"1"}"#), "wrong_type"),
        (stock(r#"{"sku":"sku-0","delta":null}"#), "missing_field"),
        (stock(r#"{"sku":"sku-0"}"#), "missing_field"),
        (stock(r#"{"sku":7,"delta":1}"#), "wrong_type"),
        (stock(r#"{"sku":"a b","delta":1}"#), "bad_id"),
        (stock(&format!(r#"{{"sku":"{}","delta":1}}"#, "x".repeat(65))), "bad_id"),
        (stock("[]"), "missing_field"),
        (br#"{"seq":-1,"values":{"sku":"sku-0","delta":1}}"#.to_vec(), "out_of_range"),
        (
            br#"{"seq":18446744073709551616,"values":{"sku":"sku-0","delta":1}}"#.to_vec(),
            "out_of_range",
        ),
        (br#"{"seq":"1","values":{"sku":"sku-0","delta":1}}"#.to_vec(), "wrong_type"),
        (br#"{"values":{"sku":"sku-0","delta":1}}"#.to_vec(), "missing_field"),
        (
            br#"{"seq":1,"ts":"yesterday","values":{"sku":"sku-0","delta":1}}"#.to_vec(),
            "wrong_type",
        ),
    ]
}

#[test]
fn what_cannot_be_read_is_acknowledged_kept_and_named() {
    let hub = hub();
    let shop = hub.shop("payloads");
    let mut bystander = Bystander::of(&hub, &shop);
    let login = shop.enrol("payloads-device");
    let mut device = Device::connected(hub.mqtt(), Version::V3, &login);
    let cases = rejected();
    for (payload, _) in &cases {
        device.reading("stock", payload);
    }
    bystander.works();
    device.stock(1, "good", "sku-0", 3);

    let exits = shop.ledger(&login, cases.len() as u64 + 1);
    let told = shop.refused(&login);
    for ((payload, reason), row) in cases.iter().zip(&told) {
        let text = String::from_utf8_lossy(payload);
        assert_eq!(row["reason"], *reason, "{text:.100}: {row:#}");
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(row["raw_hex"].as_str(), Some(hex.as_str()), "{text:.100}");
        assert_eq!(
            (&row["rejected"], &row["stream"]),
            (&json!(true), &json!("stock")),
            "{text:.100}"
        );
        assert!(!row["detail"].as_str().unwrap().is_empty(), "{text:.100}");
    }
    assert_eq!((told.len(), exits.rejected, exits.applied), (cases.len(), cases.len() as u64, 1));
    assert_eq!(shop.quantity("slot-0", "sku-0"), 3);
    bystander.lost_nothing();
    hub.is_sound();
}

#[test]
fn what_cannot_be_placed_is_quarantined_with_its_reason() {
    let hub = hub();
    let shop = hub.shop("places");
    let bystander = Bystander::of(&hub, &shop);
    let login = shop.enrol("places-device");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    let cases = [
        ("stock", json!({ "sku": "no-such-sku", "delta": 1 }), "unknown_sku"),
        ("stock", json!({ "sku": "sku-0", "delta": 1, "slot": "no-such-slot" }), "unknown_slot"),
        ("weight", json!({ "g": 250.0 }), "unbound_channel"),
        ("scan", json!({ "code": "4006381333931", "mode": "pick" }), "unknown_code"),
    ];
    for (seq, (stream, values, _)) in (1..).zip(&cases) {
        device.reading(
            stream,
            json!({ "seq": seq, "boot": "b", "values": values }).to_string().as_bytes(),
        );
    }
    let exits = shop.ledger(&login, cases.len() as u64);
    let told = shop.refused(&login);
    for ((stream, values, reason), row) in cases.iter().zip(&told) {
        assert_eq!((&row["reason"], &row["stream"]), (&json!(reason), &json!(stream)), "{row:#}");
        assert_eq!(row["rejected"], false, "{row:#}");
        let kept: serde_json::Value =
            serde_json::from_str(row["raw_text"].as_str().unwrap()).unwrap();
        assert_eq!(kept["values"], *values);
    }
    assert_eq!((told.len(), exits.quarantined), (cases.len(), cases.len() as u64));
    assert_eq!(shop.quantity("slot-0", "sku-0"), 0);
    bystander.lost_nothing();
    hub.is_sound();
}

#[test]
fn sensor_values_that_are_no_numbers_stay_out_of_the_series() {
    let hub = hub();
    let shop = hub.shop("values");
    let login = shop.enrol("values-device");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    let big = format!(r#"{{"seq":1,"boot":"b","values":{{"t":"{}"}}}}"#, "x".repeat(300));
    device.reading("climate", big.as_bytes());
    device.reading("climate", br#"{"seq":2,"boot":"b","values":{"t":1e999}}"#);
    device.reading("climate", br#"{"seq":3,"boot":"b","values":{"t":[1,2]}}"#);
    device.reading("climate", br#"{"seq":4,"boot":"b","values":{}}"#);
    device.reading("climate", br#"{"seq":5,"boot":"b","values":{"t":21.5}}"#);
    let exits = shop.ledger(&login, 5);
    assert_eq!((exits.applied, exits.rejected), (1, 4), "{:#?}", shop.refused(&login));
    let points = stockfold_tests::until("the sound value is in the series", || {
        let points = hub.api().all("/devices/values-device/readings");
        (!points.is_empty()).then_some(points)
    });
    let told: Vec<_> =
        points.iter().map(|p| (p["name"].as_str().unwrap(), p["value"].as_f64())).collect();
    assert_eq!(told, [("climate.t", Some(21.5))]);
    hub.is_sound();
}
