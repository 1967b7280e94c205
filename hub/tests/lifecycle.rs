//! How devices and master data end: revoked and enabled again, kept while in use, gone without losing what happened.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may panic")]

mod api_support;
mod mqtt_support;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use api_support::{PATIENCE, Running};
use mqtt_support::{Hi, Raw, V5, hi, publish};
use serde_json::{Value, json};

/// Within this a revoked device's connection is closed.
const CUT_WITHIN: Duration = Duration::from_secs(1);

fn import() -> Value {
    json!({
        "facilities": [{"id": "f1", "name": "Main"}],
        "zones": [{"facility": "f1", "id": "back", "name": "Back room"}],
        "shelves": [{"facility": "f1", "id": "A", "name": "Shelf A", "zone": "back"}],
        "slots": [
            {"facility": "f1", "id": "dock", "shelf": "A", "receiving": true},
            {"facility": "f1", "id": "A-1", "shelf": "A"}, {"facility": "f1", "id": "A-2", "shelf": "A"},
        ],
        "skus": [{"id": "cola", "name": "Cola", "unit_weight_mg": 350_000, "gtin": "4006381333931"}],
        "planogram": [{"facility": "f1", "slot": "A-1", "sku": "cola", "source": "scan"},
                      {"facility": "f1", "slot": "A-2", "sku": "cola", "source": "weight"}],
        "devices": [
            {"id": "scale", "facility": "f1", "channels": [
                {"channel": "0", "slot": "A-2", "division_mg": 1000, "noise_mg": 500, "zero_mg": 0}]},
            {"id": "reader", "facility": "f1", "slot": "A-1"},
        ],
    })
}

/// The MQTT side of a test; blocking, so that the hub has the test's own thread for itself.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Connects a device, or says with which code it was refused.
async fn connect(at: SocketAddr, device: &'static str, password: &str) -> Result<Raw, u8> {
    let password = password.to_owned();
    blocking(move || {
        let mut raw = Raw::new(at);
        raw.send(&Hi { id: device, user: device, password: &password, ..hi(V5) }.bytes());
        let (first, body) = raw.packet();
        assert_eq!(first, 0x20);
        if body[1] == 0 { Ok(raw) } else { Err(body[1]) }
    })
    .await
}

/// Publishes a reading and waits for its acknowledgement; the code of it.
async fn publishes(mut raw: Raw, topic: &'static str, seq: u64) -> (Raw, u8) {
    let reading = format!(r#"{{"seq":{seq},"boot":"b","values":{{"sku":"cola","delta":1}}}}"#);
    blocking(move || {
        raw.send(&publish(V5, 1, topic, 9, &reading));
        let (first, body) = raw.packet();
        assert_eq!(first, 0x40);
        (raw, body.get(2).copied().unwrap_or(0))
    })
    .await
}

/// The connection is cut with this reason within a second.
async fn cut_with(mut raw: Raw, code: u8) {
    blocking(move || {
        raw.stream.set_read_timeout(Some(CUT_WITHIN)).unwrap();
        let (first, body) = raw.packet();
        assert_eq!((first, body[0]), (0xE0, code));
    })
    .await;
}

async fn until(running: &Running, path: &str, good: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let answer = running.get(path).await;
            if good(&answer) {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{path} never was so"))
}

/// A command of the program on a hub's data directory.
async fn stockfold(dir: &Path, http: Option<SocketAddr>, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockfold"));
    command.args(args).env("STOCKFOLD__DATA_DIR", dir);
    if let Some(http) = http {
        command.env("STOCKFOLD__HTTP__BIND", http.to_string());
    }
    blocking(move || command.output().unwrap()).await
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const STOCK: &str = "stockfold/v1/reader/stock";

#[actix_rt::test]
async fn a_device_is_revoked_and_enabled_as_a_whole() {
    let running = Running::start().await;
    running.post("/api/v1/import", import()).await;
    let made = running.post("/api/v1/devices/reader/credentials", json!({})).await;
    let password = made["password"].as_str().unwrap();
    let at = running.hub.mqtt.unwrap();
    let device = connect(at, "reader", password).await.unwrap();
    let (device, _) = publishes(device, STOCK, 1).await;
    let moved = |n: usize| move |page: &Value| page["items"].as_array().unwrap().len() == n;
    until(&running, "/api/v1/movements?device=reader", moved(1)).await;

    // What never reaches the journal is told beside the accounts, also of a device that has none.
    let (device, code) = publishes(device, "stockfold/v1/scale/stock", 2).await;
    assert_eq!(code, 0x87);
    let caught_up = |page: &Value| page["now"][0]["unfolded_bytes"] == 0;
    let ledger = until(&running, "/api/v1/ledger?device=reader", caught_up).await;
    let refused =
        json!({"not_authorised": 1, "unknown_topic": 0, "payload": 0, "quota": 0, "unread": 0});
    assert_eq!(ledger["now"][0]["refused"], refused);
    let silent = running.get("/api/v1/ledger?facility=f1&device=scale").await;
    assert_eq!((&silent["items"], &silent["now"][0]["device"]), (&json!([]), &json!("scale")));

    let revoked = running.post("/api/v1/devices/reader/revoke", json!({})).await;
    assert!(revoked["revoked_at"].is_string(), "{revoked}");
    cut_with(device, 0x98).await;
    assert_eq!(connect(at, "reader", password).await.err(), Some(0x8A));
    let listed = running.get("/api/v1/devices").await;
    assert!(listed["items"].as_array().unwrap().contains(&revoked), "{listed}");
    // Again changes nothing; and a change of it does not make it believed.
    assert_eq!(running.post("/api/v1/devices/reader/revoke", json!({})).await, revoked);
    let mut renamed = import();
    renamed["devices"][1]["name"] = json!("Renamed");
    running.post("/api/v1/import", renamed).await;
    assert!(running.get("/api/v1/devices/reader").await["revoked_at"].is_string());
    let newest: Value = sqlx::query_scalar(
        "SELECT values_json FROM publication WHERE facility = 'f1' ORDER BY revision DESC LIMIT 1",
    )
    .fetch_one(running.hub.desk.store.pool())
    .await
    .unwrap();
    assert_eq!(newest[1], json!({"DeviceRevoked": "reader"}), "{newest}");

    let enabled = running.post("/api/v1/devices/reader/enable", json!({})).await;
    assert_eq!((&enabled["revoked_at"], &enabled["name"]), (&Value::Null, &json!("Renamed")));
    let device = connect(at, "reader", password).await.unwrap();
    let (device, _) = publishes(device, STOCK, 2).await;
    until(&running, "/api/v1/movements?device=reader", moved(2)).await;

    // Removed it is cut too, and its history stays; enrolled anew it has no old secret, and no old frame counts again.
    assert_eq!(running.call("DELETE", "/api/v1/devices/reader", None).await.status, 204);
    cut_with(device, 0x98).await;
    assert_eq!(connect(at, "reader", password).await.err(), Some(0x87));
    let gone = running.call("GET", "/api/v1/devices/reader", None).await;
    assert_eq!(gone.problem(), (404, "not_found".into()));
    assert_eq!(running.get("/api/v1/devices").await["items"].as_array().unwrap().len(), 1);
    until(&running, "/api/v1/movements?device=reader", moved(2)).await;
    running.get("/api/v1/devices/reader/readings").await;
    for verb in ["revoke", "enable"] {
        let path = format!("/api/v1/devices/reader/{verb}");
        assert_eq!(running.call("POST", &path, None).await.problem().0, 404);
    }
    let again = json!({"id": "reader", "facility": "f1", "slot": "A-1"});
    assert_eq!(running.call("POST", "/api/v1/devices", Some(again)).await.status, 201);
    assert_eq!(connect(at, "reader", password).await.err(), Some(0x86));
    let made = running.post("/api/v1/devices/reader/credentials", json!({})).await;
    let device = connect(at, "reader", made["password"].as_str().unwrap()).await.unwrap();
    let (device, _) = publishes(device, STOCK, 2).await;
    publishes(device, STOCK, 3).await;
    until(&running, "/api/v1/movements?device=reader", moved(3)).await;
    let line = running.get("/api/v1/stock?facility=f1&slot=A-1").await;
    assert_eq!(line["items"][0]["quantity"], 3);
    running.stop().await;
}

#[actix_rt::test]
async fn what_is_in_use_stays_and_what_is_gone_keeps_its_history() {
    let running = Running::start().await;
    running.post("/api/v1/import", import()).await;
    let f = "/api/v1/facilities/f1";
    let remove = |path: String| {
        let running = &running;
        async move { running.call("DELETE", &format!("/api/v1{path}"), None).await }
    };
    let stays = |path: &'static str, because: &'static str| async move {
        let answer = remove(path.to_owned()).await;
        assert_eq!(answer.problem(), (409, "in_use".into()), "{path}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(because), "{path}: {detail}");
    };
    let goes = |path: &'static str| async move {
        let answer = remove(path.to_owned()).await;
        assert_eq!(answer.status, 204, "{path}: {}", answer.text);
        assert_eq!(remove(path.to_owned()).await.problem(), (404, "not_found".into()), "{path}");
    };
    let count = |key: &'static str, quantity: i64| {
        let running = &running;
        let body = json!({"slot": "A-1", "sku": "cola", "quantity": quantity});
        async move { running.change(&format!("{f}/counts"), key, body).await.json() }
    };

    for (path, because) in [
        ("/facilities/f1/zones/back", "shelf A stands in it"),
        ("/facilities/f1/shelves/A", "slot A-1 is on it"),
        ("/facilities/f1/slots/A-1", "the planogram has SKU cola in it"),
        ("/skus/cola", "the planogram of facility f1 has it in slot A-1"),
        ("/devices/scale", "slot A-2 stands on its cell 0"),
    ] {
        stays(path, because).await;
    }
    for (path, what) in [
        ("/facilities/nope/zones/x", "facility"),
        ("/facilities/f1/zones/x", "zone"),
        ("/facilities/f1/planogram/A-1/x", "planogram line"),
        ("/skus/x", "SKU"),
        ("/devices/x", "device"),
    ] {
        let unknown = remove(path.to_owned()).await;
        assert_eq!(unknown.problem().0, 404, "{path}");
        assert!(unknown.text.contains(what), "{path}: {}", unknown.text);
    }

    let counted = count("k-1", 3).await;
    let movement = counted["movements"][0]["id"].as_str().unwrap();
    goes("/facilities/f1/planogram/A-1/cola").await;
    stays("/facilities/f1/slots/A-1", "it holds 3 of SKU cola").await;
    goes("/facilities/f1/planogram/A-2/cola").await;
    stays("/skus/cola", "slot A-1 of facility f1 holds 3 of it").await;
    count("k-2", 0).await;
    stays("/facilities/f1/slots/A-1", "readings of device reader are booked in it").await;
    goes("/devices/reader").await;
    goes("/facilities/f1/slots/A-1").await;
    let slots = running.get(&format!("{f}/slots")).await;
    assert_eq!(slots["items"].as_array().unwrap().len(), 2);
    assert_eq!(running.get("/api/v1/stock?facility=f1&slot=A-1").await["items"], json!([]));
    let refused = running
        .change(
            &format!("{f}/receipts"),
            "k-3",
            json!({"slot": "A-1", "sku": "cola", "quantity": 1}),
        )
        .await;
    assert_eq!(refused.problem(), (422, "unknown_slot".into()));

    stays("/facilities/f1/slots/A-2", "it stands on cell 0 of device scale").await;
    let bare = json!({"devices": [{"id": "scale", "facility": "f1", "channels": []}]});
    running.post("/api/v1/import", bare).await;
    goes("/devices/scale").await;
    goes("/skus/cola").await;
    assert_eq!(running.get("/api/v1/skus").await["items"], json!([]));
    goes("/facilities/f1/slots/A-2").await;
    goes("/facilities/f1/slots/dock").await;
    goes("/facilities/f1/shelves/A").await;
    goes("/facilities/f1/zones/back").await;
    assert_eq!(running.get(&format!("{f}/planogram")).await["lines"], json!([]));

    // The past is told as it was, and says of the SKU that it is gone.
    let of_slot = running.get("/api/v1/movements?facility=f1&slot=A-1").await;
    assert_eq!(of_slot["items"].as_array().unwrap().len(), 2);
    let why = running.get(&format!("/api/v1/movements/{movement}/explain")).await;
    assert_eq!((&why["sku_now"]["name"], &why["level"]), (&json!("Cola"), &Value::Null));
    assert!(why["sku_now"]["retired_at"].is_string());

    // Its GTIN is free, and its id may come back.
    let other = json!({"id": "cola-2", "name": "Cola 2", "gtin": "4006381333931"});
    assert_eq!(running.call("POST", "/api/v1/skus", Some(other)).await.status, 201);
    let back = json!({"id": "cola", "name": "Cola again"});
    assert_eq!(running.call("POST", "/api/v1/skus", Some(back)).await.status, 201);
    let why = running.get(&format!("/api/v1/movements/{movement}/explain")).await;
    assert_eq!(why["sku_now"]["retired_at"], Value::Null);

    let replayed = stockfold(running.dir(), None, &["replay", "--check"]).await;
    assert!(told(&replayed).contains("The replay is equal."), "{replayed:?}");
    running.stop().await;
}

#[actix_rt::test]
async fn the_command_line_shows_revokes_and_enables() {
    let running = Running::start().await;
    running.post("/api/v1/import", import()).await;
    let made = running.post("/api/v1/devices/reader/credentials", json!({})).await;
    let (id, password) = (made["id"].as_str().unwrap(), made["password"].as_str().unwrap());
    let at = running.hub.http;
    let device = |args: Vec<String>| {
        let dir: PathBuf = running.dir().to_owned();
        async move {
            let mut all = vec!["device"];
            all.extend(args.iter().map(String::as_str));
            stockfold(&dir, Some(at), &all).await
        }
    };
    let run = |words: &str| device(words.split(' ').map(str::to_owned).collect());

    let shown = told(&run("show reader").await);
    assert!(shown.contains(id) && shown.contains("state        enabled"), "{shown}");
    assert!(!shown.contains(password), "a secret is shown: {shown}");
    assert!(told(&run("show scale").await).contains("0 carries slot A-2"));
    assert!(told(&run("revoke reader").await).contains("stockfold device enable reader"));
    let line = |listed: &str| listed.lines().find(|l| l.starts_with("reader")).unwrap().to_owned();
    assert!(line(&told(&run("list").await)).contains("revoked"));
    assert!(told(&run("show reader").await).contains("revoked since"));
    assert_eq!(connect(running.hub.mqtt.unwrap(), "reader", password).await.err(), Some(0x8A));
    told(&run("enable reader").await);
    assert!(line(&told(&run("list --facility f1").await)).contains("enabled"));
    connect(running.hub.mqtt.unwrap(), "reader", password).await.unwrap();
    told(&run(&format!("revoke reader {id}")).await);
    assert_eq!(connect(running.hub.mqtt.unwrap(), "reader", password).await.err(), Some(0x86));
    let unknown = run("revoke nobody").await;
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nobody"), "{unknown:?}");
    running.stop().await;
}

#[actix_rt::test]
async fn the_journal_of_a_hub_that_did_nothing_is_sound() {
    let running = Running::start().await;
    let dir = running.stopped().await;
    for (command, says) in
        [("verify", "The journal is empty and sound."), ("salvage", "Nothing to salvage.")]
    {
        let ran = stockfold(dir.path(), None, &["journal", command]).await;
        assert!(told(&ran).contains(says), "{ran:?}");
    }
    // Records behind a header that cannot be read are another matter.
    let journal = dir.path().join("journal");
    let segment = std::fs::read_dir(&journal).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"a record", 64).unwrap();
    let ran = stockfold(dir.path(), None, &["journal", "verify"]).await;
    assert!(!ran.status.success() && String::from_utf8_lossy(&ran.stderr).contains("header"));
}
