//! Series through the real binary: an InfluxDB that comes late, the switch between stores, and reading back.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stockfold_tests::{Device, Hub, Setup, Shop, Version, Victoria, free_port, until};

const READINGS: u64 = 120;

fn store_check(hub: &Hub) -> String {
    let ready = hub.api().get_ready();
    assert_eq!(ready["ready"], true, "whatever becomes of charts, readings are taken: {ready:#}");
    let checks = ready["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "series-store").unwrap();
    check["detail"].as_str().unwrap().to_owned()
}

#[test]
fn an_influxdb_that_comes_late_and_one_that_is_switched_off_lack_nothing() {
    if !Victoria::is_installed("series-influx") {
        return;
    }
    let port = free_port();
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "a-token\n").unwrap();
    let setup = Setup::default()
        .set("SERIES__INFLUX_URL", format!("http://127.0.0.1:{port}"))
        .set("SERIES__ORG", "stockfold")
        .set("SERIES__BUCKET", "readings")
        .set("SERIES__TOKEN_FILE", token.path().display());
    let mut hub = Hub::with(setup);
    let shop = Shop::open(hub.api(), "series", 1, 1);
    let login = shop.enrol("air");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    let send = |device: &mut Device, seq: u64| {
        let values = json!({ "t": seq as f64 / 2.0, "mode": "warm, \"dry\"\n", "a b,c=\\": seq });
        let reading = json!({ "seq": seq, "boot": "b", "values": values });
        device.reading("climate", reading.to_string().as_bytes());
    };
    for seq in 1..=READINGS / 2 {
        send(&mut device, seq);
    }
    // Nothing listens there: every reading is acknowledged, and the hub says what is the matter.
    until("the hub notices", || store_check(&hub).contains("takes nothing").then_some(()));
    assert!(hub.api().metric("stockfold_series_lag_seconds") > 0.0);
    // A kill in the middle of it changes nothing.
    hub.kill();
    hub.again();
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    for seq in READINGS / 2 + 1..=READINGS {
        send(&mut device, seq);
    }
    let victoria = Victoria::start(port);
    // Three series, one of them of texts, which this server keeps as zeros.
    until("every reading arrived", || {
        (victoria.count("value") >= 2 * READINGS && victoria.count("text") >= READINGS)
            .then_some(())
    });
    until("nothing waits", || {
        (hub.api().metric("stockfold_series_lag_seconds") == 0.0).then_some(())
    });
    assert!(store_check(&hub).contains("takes points"), "{}", store_check(&hub));
    let series: BTreeMap<String, Value> = victoria
        .export("value")
        .into_iter()
        .map(|series| (series["metric"]["name"].as_str().unwrap().to_owned(), series))
        .collect();
    let names: Vec<&str> = series.keys().map(String::as_str).collect();
    assert_eq!(names, ["climate.a b,c=\u{fffd}", "climate.t"]);
    let values = series["climate.t"]["values"].as_array().unwrap();
    let mut values: Vec<f64> = values.iter().map(|value| value.as_f64().unwrap()).collect();
    values.sort_by(f64::total_cmp);
    let wanted: Vec<f64> = (1..=READINGS).map(|seq| seq as f64 / 2.0).collect();
    assert_eq!(values, wanted, "each once");
    assert_eq!(hub.api().metric("stockfold_series_refused_total"), 0.0);
    drop(victoria);

    // Switched to PostgreSQL: filled in from the journal.
    hub.stop();
    hub.set_up(Setup::default());
    hub.again();
    let all = until("PostgreSQL has every reading", || {
        let found = hub.api().all("/devices/air/readings");
        (found.len() as u64 >= 3 * READINGS).then_some(found)
    });
    assert_eq!(all.len() as u64, 3 * READINGS);
    let of = |query: &str| hub.api().all(&format!("/devices/air/readings?name=climate.t&{query}"));
    for every in ["7s", "1m", "1h", "1d"] {
        let buckets = of(&format!("every={every}"));
        let count: u64 = buckets.iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
        assert_eq!(count, READINGS, "{every}");
        let max = buckets.iter().map(|bucket| bucket["max"].as_f64().unwrap()).fold(0.0, f64::max);
        assert_eq!(max, READINGS as f64 / 2.0);
    }
    let newest = all.iter().find(|row| row["name"] == "climate.t").unwrap();
    let at = newest["at"].as_str().unwrap();
    assert_eq!(of(&format!("at={at}"))[0]["value"], READINGS as f64 / 2.0);
    assert_eq!(hub.api().all(&format!("/devices/air/readings?at={at}")).len(), 3);
    for query in [
        "every=1w",
        "every=1s&from=2020-01-01T00:00:00Z",
        "at=now",
        "at=2026-01-01T00:00:00Z&every=1m",
    ] {
        let answer = hub.api().get(&format!("/devices/air/readings?{query}"));
        assert_eq!((answer.status, answer.code()), (422, "invalid"), "{query}: {:#}", answer.body);
    }
    hub.replays_equal();
}
