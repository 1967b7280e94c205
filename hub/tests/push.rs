//! Readings over HTTP, and what the operator of a scanner is doing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test may panic"
)]

mod api_support;

use api_support::{Running, import, send};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

const PATH: &str = "/api/v1/devices/reader-1/readings/reads";
const FRAME: &[u8] = br#"[{"eventType":"tagInventory","tagInventoryEvent":{"epcHex":"3034257BF7194E4000001A85","antennaPort":1}}]"#;

/// A hub with an Impinj reader, a device of the default profile and a scanner; secrets of the first two.
async fn hub() -> (Running, String, String) {
    let running = Running::start().await;
    running.post("/api/v1/import", import()).await;
    for (id, profile) in
        [("reader-1", "impinj-iot"), ("plain-1", "default"), ("scanner-1", "scanner-line")]
    {
        let looks = if id == "reader-1" { json!([{"port": 1, "zone": "back"}]) } else { json!([]) };
        let device = json!({"id": id, "facility": "f1", "profile": profile, "slot": "A-1", "antennas": looks});
        running.post("/api/v1/devices", device).await;
    }
    let mut secrets = Vec::new();
    for id in ["reader-1", "plain-1"] {
        let made = running.post(&format!("/api/v1/devices/{id}/credentials"), json!({})).await;
        secrets.push(made["password"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned());
    }
    let second = secrets.pop().unwrap();
    (running, secrets.pop().unwrap(), second)
}

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}

#[actix_rt::test]
async fn a_frame_is_taken_of_its_own_device_only() {
    let (running, secret, other) = hub().await;
    let at = running.hub.http;
    let push = |path: &'static str, authorization: String, body: &'static [u8]| async move {
        send(at, "POST", path, &[("authorization", &authorization)], body).await
    };
    assert_eq!(push(PATH, basic("reader-1", &secret), FRAME).await.status, 204);
    assert_eq!(push(PATH, format!("Bearer {secret}"), FRAME).await.status, 204);
    // Garbage is taken, and kept with its reason.
    assert_eq!(push(PATH, basic("reader-1", &secret), b"{").await.status, 204);
    let elsewhere = "/api/v1/devices/reader-1/readings/elsewhere";
    assert_eq!(push(elsewhere, basic("reader-1", &secret), FRAME).await.status, 204);
    running.settled("reader-1", (2, 2)).await;
    // Whoever is another, or nobody: one answer, whether or not there is such a device.
    let token = running.token.clone();
    let mut refused = Vec::new();
    for (path, authorization) in [
        (PATH, basic("reader-1", &other)),
        (PATH, basic("plain-1", &other)),
        (PATH, basic("plain-1", &secret)),
        (PATH, format!("Bearer {token}")),
        (PATH, "Basic !".to_owned()),
        (PATH, "Digest x".to_owned()),
        ("/api/v1/devices/nobody/readings/reads", basic("nobody", &secret)),
    ] {
        let answer = push(path, authorization, FRAME).await;
        refused.push((answer.problem(), answer.json()["detail"].clone()));
    }
    assert!(refused.iter().all(|told| *told == refused[0]), "{refused:?}");
    assert_eq!(refused[0].0, (401, "unauthorized".into()));
    // And a device's secret opens nothing else.
    let headers = basic("reader-1", &secret);
    let devices = send(at, "GET", "/api/v1/devices", &[("authorization", &headers)], b"").await;
    assert!([401, 429].contains(&devices.status));
    running.call("POST", "/api/v1/devices/reader-1/revoke", None).await;
    assert!([401, 429].contains(&push(PATH, basic("reader-1", &secret), FRAME).await.status));
    running.stop().await;
}

#[actix_rt::test]
async fn too_much_is_refused_and_says_when_to_come_again() {
    let (running, secret, _) = hub().await;
    let at = running.hub.http;
    let authorization = basic("reader-1", &secret);
    let headers = [("authorization", authorization.as_str())];
    let long = vec![b' '; 128 * 1024 + 1];
    assert_eq!(send(at, "POST", PATH, &headers, &long).await.problem(), (413, "too_large".into()));
    let cmd = "/api/v1/devices/reader-1/readings/cmd";
    assert_eq!(send(at, "POST", cmd, &headers, FRAME).await.problem(), (404, "not_found".into()));
    // The largest frame is taken; of many, as many as the device's rate of bytes allows.
    let largest = vec![b' '; 128 * 1024];
    let mut answers = Vec::new();
    for _ in 0..400 {
        let answer = send(at, "POST", PATH, &headers, &largest).await;
        answers.push(answer.status);
        if answer.status != 204 {
            assert_eq!(answer.problem(), (429, "too_fast".into()));
            assert!(answer.header("retry-after").is_some());
            break;
        }
    }
    assert_eq!((answers.first(), answers.last()), (Some(&204), Some(&429)));
    running.stop().await;
}

#[actix_rt::test]
async fn what_is_acknowledged_is_there_after_a_restart() {
    let (running, secret, _) = hub().await;
    let authorization = basic("reader-1", &secret);
    let headers = [("authorization", authorization.as_str())];
    for _ in 0..20 {
        assert_eq!(send(running.hub.http, "POST", PATH, &headers, FRAME).await.status, 204);
    }
    let running = running.restart().await;
    running.settled("reader-1", (20, 0)).await;
    running.stop().await;
}

#[actix_rt::test]
async fn the_operator_of_a_scanner_is_set_and_kept() {
    let (running, ..) = hub().await;
    const AT: &str = "/api/v1/devices/scanner-1/scanner";
    assert_eq!(running.get(AT).await["mode"], "profile");
    let receive = json!({"mode": "receive", "slot": "A-1", "operator": "ann"});
    assert_eq!(running.call("PUT", AT, Some(receive.clone())).await.status, 200);
    assert_eq!(running.get(AT).await, receive);
    for (body, field) in [
        (json!({"mode": "eat"}), "mode"),
        (json!({"mode": "pick", "slot": "a b"}), "slot"),
        (json!({"mode": "pick", "slot": "A-9"}), "slot"),
        (json!({"mode": "pick", "operator": ""}), "operator"),
        (json!({"mode": "pick", "who": "x"}), "who"),
    ] {
        let answer = running.call("PUT", AT, Some(body)).await;
        assert_eq!((answer.status, answer.json()["field"].as_str().unwrap()), (422, field));
    }
    let other = running.call("PUT", "/api/v1/devices/plain-1/scanner", Some(receive.clone())).await;
    assert_eq!(other.problem(), (409, "not_a_scanner".into()));
    let running = running.restart().await;
    assert_eq!(running.get(AT).await, receive, "it goes on after a restart");
    let count = json!({"mode": "count", "slot": null, "operator": null});
    assert_eq!(running.call("PUT", AT, Some(count.clone())).await.json(), count);
    let running = running.restart().await;
    // How far the count was is not known, so nothing is counted until somebody says so.
    assert_eq!(running.get(AT).await["mode"], "none");
    // A line takes its own kinds of devices, as unit 1.
    let bus = json!({"id": "line", "facility": "f1", "address": "serial:///dev/serial/by-id/none?baud=9600"});
    running.post("/api/v1/buses", bus).await;
    let put = async |device: &str, unit: u8| -> Value {
        let place = json!({"bus": "line", "unit": unit});
        let path = format!("/api/v1/devices/{device}/bus");
        let answer = running.call("PUT", &path, Some(place)).await;
        json!([answer.status, answer.json()["code"]])
    };
    // A port is not opened for nobody.
    let told = running.get("/api/v1/buses/line").await["last_error"].clone();
    assert_eq!(told, "no device is on it, so it is not connected");
    assert_eq!(put("plain-1", 1).await, json!([409, "not_serial"]));
    assert_eq!(put("scanner-1", 2).await, json!([422, "invalid"]));
    assert_eq!(put("scanner-1", 1).await, json!([200, null]));
    running.stop().await;
}
