//! Tags against a whole hub: what readers send, what the API tells of it and why, the calls about tags, two facilities that
//! hear the same one, and what other knobs would have changed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may panic")]

mod api_support;

use std::time::Duration;

use api_support::{PATIENCE, Running};
use bytes::Bytes;
use device_profiles::{
    DeviceId, FacilityId, ProfileHash, Tag,
    epc::{Epc, Form, Written},
    llrp::{Message, Parameter, Value as Field, message},
    shipped::shipped,
};
use fold::{Body, Frame, Principal};
use hub::{
    replay::{Report, check, open_for_reading, positions},
    what_if::{Tuning, what_if},
};
use serde_json::{Value, json};

const GTIN: &str = "80614141123458";
/// A reader that hears tags reports them this often.
const ROUND: Duration = Duration::from_millis(200);

fn item(serial: u64) -> Tag {
    let epc = Epc::sgtin(GTIN, 7, &serial.to_string()).unwrap();
    Tag::of_bytes(&Written { epc, filter: 1, form: Form::Sgtin96 }.encode().unwrap()).unwrap()
}

/// Two shops with a reader each: antenna 1 looks at a slot, antenna 2 at a door.
fn shops() -> Value {
    let mut all = json!({
        "skus": [{"id": "shirt", "name": "Shirt", "gtin": GTIN}],
        "facilities": [], "zones": [], "shelves": [], "slots": [], "planogram": [], "devices": [],
    });
    for f in ["f1", "f2"] {
        let mut add = |list: &str, one: Value| all[list].as_array_mut().unwrap().push(one);
        add("facilities", json!({"id": f, "name": f}));
        add("zones", json!({"facility": f, "id": "floor", "name": "Floor"}));
        add("zones", json!({"facility": f, "id": "door", "name": "Door", "personality": "exit"}));
        add("shelves", json!({"facility": f, "id": "A", "name": "A", "zone": "floor"}));
        add("slots", json!({"facility": f, "id": "A-1", "shelf": "A"}));
        add("planogram", json!({"facility": f, "slot": "A-1", "sku": "shirt", "source": "rfid"}));
        add(
            "devices",
            json!({"id": format!("reader-{f}"), "facility": f, "profile": "llrp-reader", "antennas": [
                {"port": 1, "zone": "floor", "slot": "A-1"}, {"port": 2, "zone": "door"}]}),
        );
    }
    all
}

/// A report of tags, each read three times and as strong as usual.
fn report(antenna: u16, tags: &[Tag]) -> Bytes {
    let one = |number, value| Parameter { number, fields: vec![value], parameters: Vec::new() };
    let read = |tag: &Tag| Parameter {
        number: 240,
        fields: Vec::new(),
        parameters: vec![
            one(13, Field::Bytes(tag.bytes().to_vec())),
            one(1, Field::Unsigned(antenna.into())),
            one(6, Field::Signed(-55)),
            one(8, Field::Unsigned(3)),
        ],
    };
    let reads = tags.iter().map(read).collect();
    Message::new(message::REPORT, 1, Vec::new(), reads).encode().unwrap().into()
}

/// The reader of a facility sends one report.
async fn send(running: &Running, facility: &str, antenna: u16, tags: &[Tag]) {
    let frame = Frame {
        device: DeviceId::parse(&format!("reader-{facility}")).unwrap(),
        stream: "reads".to_owned(),
        boot: None,
        seq: None,
        profile: ProfileHash::of(shipped("llrp-reader").unwrap()),
        fresh_session: false,
        raw: report(antenna, tags),
    };
    let desk = &running.hub.desk;
    let shard = desk.store.shard_of(facility).await.unwrap().unwrap();
    let facility = FacilityId::parse(facility).unwrap();
    let body = Body::Frame(frame);
    desk.append(shard, &facility, Principal::Device, &body).await.unwrap();
}

/// The reader reports tags until a list of the facility's tags is as it should be; returns that list.
async fn reports_until(
    running: &Running,
    facility: &str,
    tags: &[Tag],
    is_so: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let path = format!("/api/v1/facilities/{facility}/tags");
    let all = async {
        let mut rounds = tokio::time::interval(ROUND);
        loop {
            rounds.tick().await;
            send(running, facility, 1, tags).await;
            let list = running.get(&path).await["items"].as_array().unwrap().clone();
            if is_so(&list) {
                return list;
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap()
}

fn present(list: &[Value]) -> usize {
    list.iter().filter(|tag| tag["present"] == true).count()
}

#[actix_rt::test]
async fn tags_are_told_explained_counted_and_declared_gone() {
    let running = Running::start().await;
    running.post("/api/v1/import", shops()).await;
    let raw: Tag = "E20034120000000000000001".parse().unwrap();
    let tags = [item(6_789), item(6_790), raw];
    let list = reports_until(&running, "f1", &tags, |list| present(list) == 3).await;
    let first = list.iter().find(|tag| tag["tag"] == item(6_789).to_string()).unwrap();
    assert_eq!(first["identity"]["uri"], "urn:epc:id:sgtin:0614141.812345.6789");
    assert_eq!(first["identity"]["key"], GTIN);
    assert_eq!(first["sku"], "shirt");
    let place = json!({"zone": "floor", "device": "reader-f1", "antenna": 1, "slot": "A-1"});
    assert_eq!(first["where"], place);
    assert!(first["probability"].as_f64().unwrap() > 0.9);
    let unread = list.iter().find(|tag| tag["tag"] == raw.to_string()).unwrap();
    assert!(unread["identity"]["raw_because"].as_str().unwrap().contains("E2"));

    // Filters, and pages that give each tag once.
    let f = "/api/v1/facilities/f1";
    for (filter, expected) in [
        ("zone=floor", 3),
        ("zone=door", 0),
        ("sku=shirt", 2),
        ("slot=A-1&present=true", 3),
        ("present=false", 0),
    ] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = running.get(&format!("{f}/tags?{filter}&limit=1{cursor}")).await;
            found.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        found.dedup();
        assert_eq!(found.len(), expected, "{filter}");
    }

    // Every name of a tag leads to it.
    for name in [
        item(6_789).to_string(),
        "urn:epc:id:sgtin:0614141.812345.6789".to_owned(),
        "urn:epc:tag:sgtin-96:1.0614141.812345.6789".to_owned(),
        format!("https:%2F%2Fid.gs1.org%2F01%2F{GTIN}%2F21%2F6789"),
    ] {
        let found = running.get(&format!("/api/v1/tags/{name}")).await;
        assert_eq!(found["items"][0]["tag"], item(6_789).to_string(), "{name}");
        let history = running.get(&format!("/api/v1/tags/{name}/events")).await;
        assert_eq!(history["items"][0]["kind"], "arrived", "{name}");
    }
    for (path, status, code) in [
        ("/api/v1/tags/E2FF", 404, "not_found"),
        ("/api/v1/tags/nothing", 422, "invalid"),
        ("/api/v1/tag-events/1-0-0-0/explain", 404, "not_found"),
        ("/api/v1/facilities/nope/tags", 404, "not_found"),
        ("/api/v1/facilities/f1/tag-events?kind=flew", 400, "bad_query"),
    ] {
        assert_eq!(
            running.call("GET", path, None).await.problem(),
            (status, code.into()),
            "{path}"
        );
    }

    // Why it is said to be here, down to the reader's bytes.
    let history = running.get(&format!("/api/v1/tags/{}/events", item(6_789))).await;
    let event = &history["items"][0];
    assert_eq!(event["to"], place);
    let id = event["id"].as_str().unwrap();
    let why = running.get(&format!("/api/v1/tag-events/{id}/explain")).await;
    assert_eq!(why["event"], *event);
    let frames = why["evidence"].as_array().unwrap();
    assert!(!frames.is_empty(), "{why}");
    for frame in frames {
        assert_eq!((&frame["kind"], &frame["profile"]), (&json!("frame"), &json!("llrp-reader")));
        let heard = frame["decoded"]["measurements"].as_array().unwrap();
        assert!(heard.iter().any(|m| m["tag"] == item(6_789).to_string()), "{frame}");
    }
    let words = why["narrative"].as_array().unwrap().iter().map(|s| s.as_str().unwrap());
    let words = words.collect::<Vec<_>>().join(" ");
    assert!(words.contains("slot A-1 (antenna 1 of reader reader-f1)"), "{words}");
    // So does the movement that booked it.
    let movements = running.get("/api/v1/movements?facility=f1&sku=shirt").await;
    let movement = movements["items"].as_array().unwrap().first().unwrap();
    assert_eq!(movement["cause"], "rfid");
    let id = movement["id"].as_str().unwrap();
    let why = running.get(&format!("/api/v1/movements/{id}/explain")).await;
    assert_eq!(why["rule"]["rule"], "tag");
    assert_eq!(why["level"]["quantity"], 2);
    assert!(why["narrative"][0].as_str().unwrap().contains("arrived at zone floor"), "{why}");

    // A cycle count, and the same call again.
    let body = json!({"zone": "floor"});
    let counted = running.change(&format!("{f}/cycle-counts"), "k-1", body.clone()).await;
    assert_eq!(counted.status, 201, "{}", counted.text);
    let count =
        json!({"zone": "floor", "present": 3, "doubtful": 0, "unknown": 1, "skus": [["shirt", 2]]});
    assert_eq!(counted.json()["count"], count);
    let again = running.change(&format!("{f}/cycle-counts"), "k-1", body.clone()).await;
    assert_eq!((again.status, again.json()), (201, counted.json()));
    sqlx::query("DELETE FROM idempotency").execute(running.hub.desk.store.pool()).await.unwrap();
    let again = running.change(&format!("{f}/cycle-counts"), "k-1", body).await;
    assert_eq!((again.status, again.json()), (201, counted.json()));
    let nowhere = running.change(&format!("{f}/cycle-counts"), "k-2", json!({"zone": "x"})).await;
    assert_eq!(nowhere.problem(), (422, "unknown_zone".into()));

    // Declared gone: booked out, and told so. An identity names it as well as its memory does.
    let gone = format!("{f}/tags/urn:epc:id:sgtin:0614141.812345.6789/gone");
    let done = running.call_with("POST", &gone, None, &[("idempotency-key", "k-3")]).await;
    assert_eq!(done.status, 201, "{}", done.text);
    assert_eq!(done.json()["movements"][0]["delta"], -1);
    let again = running.call_with("POST", &gone, None, &[("idempotency-key", "k-3")]).await;
    assert_eq!((again.status, again.json()), (201, done.json()));
    let more = running.call_with("POST", &gone, None, &[("idempotency-key", "k-4")]).await;
    assert_eq!(more.problem(), (422, "unknown_tag".into()));
    // A tag that is a unit of nothing moves nothing, and the call is known again all the same.
    let gone = format!("{f}/tags/{raw}/gone");
    for _ in 0..2 {
        let done = running.call_with("POST", &gone, None, &[("idempotency-key", "k-5")]).await;
        assert_eq!((done.status, &done.json()["movements"]), (201, &json!([])), "{}", done.text);
        sqlx::query("DELETE FROM idempotency")
            .execute(running.hub.desk.store.pool())
            .await
            .unwrap();
    }
    let departed = running.get(&format!("{f}/tag-events?kind=departed&zone=floor")).await;
    let departed = departed["items"].as_array().unwrap();
    assert_eq!(departed.len(), 2);
    assert!(departed.iter().all(|event| event["how"] == "declared"));
    assert_eq!(
        running.get(&format!("{f}/tags?present=false")).await["items"].as_array().unwrap().len(),
        2
    );

    running.hub.desk.count_tags().await.unwrap();
    let metrics = running.call("GET", "/metrics", None).await.text;
    for line in [
        "stockfold_tags{facility=\"f1\",state=\"present\"} 1",
        "stockfold_tags{facility=\"f1\",state=\"departed\"} 2",
        "kind=\"arrived\"} 3",
        "kind=\"departed\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in the metrics");
    }
    running.stop().await;
}

#[actix_rt::test]
async fn a_tag_that_arrives_elsewhere_is_gone_here() {
    let running = Running::start().await;
    running.post("/api/v1/import", shops()).await;
    let tags = [item(1), item(2)];
    reports_until(&running, "f1", &tags, |list| present(list) == 2).await;
    reports_until(&running, "f2", &tags[..1], |list| present(list) == 1).await;
    let closed = async {
        let mut rounds = tokio::time::interval(ROUND);
        loop {
            rounds.tick().await;
            let list = running.get("/api/v1/facilities/f1/tags?present=true").await;
            if list["items"].as_array().unwrap().len() == 1 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    let found = running.get(&format!("/api/v1/tags/{}", item(1))).await;
    let places: Vec<(&str, bool)> = found["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| (tag["facility"].as_str().unwrap(), tag["present"].as_bool().unwrap()))
        .collect();
    assert_eq!(places, [("f1", false), ("f2", true)]);
    let history = running.get(&format!("/api/v1/tags/{}/events", item(1))).await;
    let told: Vec<&str> =
        history["items"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(told, ["departed", "arrived", "arrived"], "newest first, over both facilities");
    let last = &history["items"][0];
    assert_eq!((&last["how"], &last["elsewhere"]), (&json!("elsewhere"), &json!("f2")));
    let stock = running.get("/api/v1/stock?sku=shirt").await;
    let units: Vec<i64> = stock["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["quantity"].as_i64().unwrap())
        .collect();
    assert_eq!(units, [1, 1], "one of two left f1, one came to f2");
    // It was asked once, whatever came after.
    let refused = running.get("/api/v1/quarantine").await;
    assert_eq!(refused["items"], json!([]));
    running.stop().await;
}

#[actix_rt::test]
async fn other_knobs_are_tried_on_the_journal_before_they_are_applied() {
    let running = Running::start().await;
    running.post("/api/v1/import", shops()).await;
    reports_until(&running, "f1", &[item(1)], |list| present(list) == 1).await;
    let store = &running.hub.desk.store;
    let snapshots = actors::snapshot::SnapshotFiles::new(&running.dir().join("snapshots")).unwrap();
    let at = positions(store).await.unwrap();
    let journal = open_for_reading(&running.dir().join("journal"), &at).unwrap();
    let run = async |tuning: &str| {
        let tunings = [tuning.parse::<Tuning>().unwrap()];
        what_if(&at, &journal, &snapshots, &tunings, |_, _| {}).await
    };
    // Knobs for nowhere would change nothing, whatever they are.
    for nowhere in ["f1/hall=stay_s:20", "f3/floor=stay_s:20", "hall=stay_s:20"] {
        assert!(run(nowhere).await.is_err(), "{nowhere}");
    }
    // The knobs in force change nothing.
    let same = run("f1/floor=arrive_permille:950").await.unwrap();
    assert!(same.iter().all(hub::what_if::Report::is_same), "{same:?}");
    // Where nearly every read is a stray one, more are needed.
    let doubting = run("floor=ghost_ppm:100000,arrive_permille:999").await.unwrap();
    let of_f1 = doubting.iter().find(|report| report.as_it_was.contains_key("arrived")).unwrap();
    assert_eq!(of_f1.as_it_was["arrived"], 1);
    assert_eq!((of_f1.only_as_it_was, of_f1.as_it_would_be.get("arrived")), (1, None));
    assert_eq!(of_f1.lines, ["shirt in f1/A-1: 1 as it was, 0 as it would be"]);
    assert!(of_f1.events[0].starts_with("- ") && of_f1.events[0].contains("arrived to floor"));
    let all: Vec<&String> = doubting.iter().flat_map(|report| &report.zones).collect();
    assert_eq!(all, ["f1/floor", "f2/floor"]);
    // Nothing of it was applied.
    let list = running.get("/api/v1/facilities/f1/tags?present=true").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    running.stop().await;
}

#[actix_rt::test]
async fn a_replay_compares_where_tags_are() {
    let running = Running::start().await;
    running.post("/api/v1/import", shops()).await;
    reports_until(&running, "f1", &[item(1), item(2)], |list| present(list) == 2).await;
    let store = &running.hub.desk.store;
    let snapshots = actors::snapshot::SnapshotFiles::new(&running.dir().join("snapshots")).unwrap();
    // What stands is compared only while nothing else is committed.
    let compared = async || -> Report {
        loop {
            let at = positions(store).await.unwrap();
            let journal = open_for_reading(&running.dir().join("journal"), &at).unwrap();
            let reports = check(&at, &journal, store, &snapshots, true, |_, _| {}).await.unwrap();
            if let Some(report) = reports.into_iter().find(|report| report.tags > 0) {
                return report;
            }
        }
    };
    let report = compared().await;
    assert_eq!((report.tags, report.different), (2, 0), "{report:#?}");
    let moved = "UPDATE tag SET slot = 'A-9' WHERE tag = $1";
    sqlx::query(moved).bind(item(2).to_string()).execute(store.pool()).await.unwrap();
    let report = compared().await;
    assert_eq!((report.tags, report.different), (2, 1), "{report:#?}");
    assert!(report.differences[0].contains("A-9"), "{:?}", report.differences);
    sqlx::query("DELETE FROM tag WHERE tag = $1")
        .bind(item(2).to_string())
        .execute(store.pool())
        .await
        .unwrap();
    let report = compared().await;
    assert_eq!((report.tags, report.different), (1, 1), "{report:#?}");
    running.stop().await;
}

#[actix_rt::test]
async fn an_import_keeps_what_it_leaves_out_and_refuses_antennas_without_sense() {
    let running = Running::start().await;
    let mut all = shops();
    all["zones"][1]["mobility"] = json!({"quiet_ms": 900});
    running.post("/api/v1/import", all.clone()).await;
    let import = async |body: Value| running.call("POST", "/api/v1/import", Some(body)).await;

    let bare = json!({
        "zones": [{"facility": "f1", "id": "door", "name": "Door"}],
        "shelves": [{"facility": "f1", "id": "A", "name": "A"}],
        "devices": [{"id": "reader-f1", "facility": "f1"}],
    });
    assert_eq!(import(bare).await.json()["unchanged"], 3);
    let antennas = running.get("/api/v1/devices/reader-f1").await["antennas"].clone();
    assert_eq!(antennas[0], json!({"port": 1, "zone": "floor", "slot": "A-1", "outside": false}));
    let usual =
        json!({"zones": [{"facility": "f1", "id": "door", "name": "Door", "mobility": null}]});
    assert_eq!(import(usual).await.json()["changed"], 1);
    let door = running.get("/api/v1/facilities/f1/zones/door").await;
    assert_eq!((&door["personality"], &door["mobility"]), (&json!("exit"), &Value::Null));

    let scale =
        json!([{"id": "scale", "facility": "f1", "antennas": [{"port": 1, "zone": "door"}]}]);
    let turned = json!([{"id": "reader-f1", "facility": "f1", "profile": "default"}]);
    let with = |second: Value| json!([{"id": "reader-f1", "facility": "f1", "antennas": [{"port": 1, "zone": "floor"}, second]}]);
    for (devices, code, field, says) in [
        (scale, "invalid", "antennas", "reads no tags"),
        (turned, "invalid", "antennas", "reads no tags"),
        (
            with(json!({"port": 2, "zone": "hall"})),
            "unknown_reference",
            "antennas[1].zone",
            "zone \"hall\"",
        ),
        (
            with(json!({"port": 2, "zone": "floor", "slot": "A-9"})),
            "unknown_reference",
            "antennas[1].slot",
            "slot \"A-9\"",
        ),
        (
            with(json!({"port": 2, "zone": "floor", "outside": true})),
            "invalid",
            "antennas[1].outside",
            "no exit",
        ),
        (
            with(json!({"port": 2, "zone": "door", "slot": "A-1"})),
            "invalid",
            "antennas[1].slot",
            "stands in zone floor",
        ),
    ] {
        let refused = import(json!({ "devices": devices })).await;
        assert_eq!(refused.problem(), (422, code.to_owned()), "{}", refused.text);
        let told = refused.json();
        assert_eq!(told["field"], format!("devices[0].{field}"), "{told}");
        assert!(told["detail"].as_str().unwrap().contains(says), "{told}");
    }
    let outside = with(json!({"port": 2, "zone": "door", "outside": true}));
    assert_eq!(import(json!({ "devices": outside })).await.json()["changed"], 1);
    running.stop().await;
}
