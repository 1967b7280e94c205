//! Golden frames of the shipped MQTT profiles: topics and payloads in the form the vendors document, written for this test,
//! and what they must mean.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test may panic"
)]

use device_profiles::{
    Dedupe, Measurement, Profile, Reading, ScanMode, TopicMap, Value, decode, shipped::SHIPPED,
};

fn profile(name: &str) -> Profile {
    Profile::parse(device_profiles::shipped::shipped(name).unwrap()).unwrap()
}

/// Sends a frame to the topic, among all shipped profiles; gives device, stream and what it says by this one.
fn sent(name: &str, topic: &str, payload: &str) -> (String, String, Reading) {
    let all: Vec<Profile> = SHIPPED.iter().map(|(_, text)| Profile::parse(text).unwrap()).collect();
    let own = profile(name);
    let candidates = TopicMap::of(&all).candidates(topic);
    let mine = candidates.into_iter().find(|c| c.profile == own.hash);
    let route = mine.unwrap_or_else(|| panic!("{name} does not read {topic}")).route.unwrap();
    let reading = decode(&own, &route.stream, payload.as_bytes())
        .unwrap_or_else(|reject| panic!("{topic}: {reject}"));
    (route.device.to_string(), route.stream, reading)
}

/// The values of a frame as `name=value`.
fn values(name: &str, topic: &str, payload: &str) -> Vec<String> {
    shown(&sent(name, topic, payload).2)
}

fn shown(reading: &Reading) -> Vec<String> {
    reading
        .measurements
        .iter()
        .map(|m| match m {
            Measurement::Value { name, value: Value::Number(n) } => format!("{name}={n}"),
            Measurement::Value { name, value: Value::Bool(b) } => format!("{name}={b}"),
            Measurement::Value { name, value: Value::Text(t) } => format!("{name}={t:?}"),
            other => format!("{other:?}"),
        })
        .collect()
}

fn reject(name: &str, stream: &str, payload: &str) -> &'static str {
    decode(&profile(name), stream, payload.as_bytes()).unwrap_err().code()
}

#[test]
fn generic_json() {
    let (device, stream, reading) =
        sent("generic-json", "sensors/cold-room/climate", r#"{"t":-18.5,"door":{"open":true}}"#);
    assert_eq!((device.as_str(), stream.as_str()), ("cold-room", "climate"));
    assert_eq!(shown(&reading), ["climate.t=-18.5", "climate.door.open=true"]);
    assert_eq!(values("generic-json", "sensors/x", r#"{"up":1}"#), ["state.up=1"]);
    let (_, _, reading) = sent(
        "generic-json",
        "sensors/bin/weight",
        r#"{"mass_g":250.5,"channel":"left","stable":true}"#,
    );
    let [Measurement::Weight { channel, mass, stable, .. }] = &reading.measurements[..] else {
        panic!("{reading:?}")
    };
    assert_eq!((channel.as_str(), mass.0, *stable), ("left", 250_500, Some(true)));
    let (_, _, reading) = sent(
        "generic-json",
        "sensors/hand/scan",
        r#"{"code":"4006381333931","mode":"receive","quantity":12}"#,
    );
    let [Measurement::Scan { mode, quantity, .. }] = &reading.measurements[..] else {
        panic!("{reading:?}")
    };
    assert_eq!((*mode, quantity.0), (ScanMode::Receive, 12));
    let (_, _, reading) = sent("generic-json", "sensors/till/stock", r#"{"sku":"tea","delta":-2}"#);
    assert!(matches!(reading.measurements[..], [Measurement::Stock { .. }]));
    assert_eq!(profile("generic-json").stream("stock").unwrap().dedupe, Dedupe::Payload);
    assert_eq!(reject("generic-json", "weight", r#"{"mass":1}"#), "missing_field");
}

#[test]
fn zigbee2mqtt() {
    let (device, stream, reading) = sent(
        "zigbee2mqtt",
        "zigbee2mqtt/0x00158d0003c4a1b2",
        r#"{"battery":97,"humidity":44.72,"linkquality":105,"temperature":21.34,"last_seen":"2026-03-01T07:00:00+02:00","update":{"state":"idle"}}"#,
    );
    assert_eq!((device.as_str(), stream.as_str()), ("0x00158d0003c4a1b2", "state"));
    assert_eq!(reading.device_us, Some(1_772_341_200_000_000));
    assert_eq!(
        shown(&reading),
        [
            "state.battery=97",
            "state.humidity=44.72",
            "state.linkquality=105",
            "state.temperature=21.34"
        ]
    );
    assert_eq!(
        values(
            "zigbee2mqtt",
            "zigbee2mqtt/dock door",
            r#"{"contact":false,"battery_low":false,"voltage":3015}"#
        ),
        ["state.contact=false", "state.battery_low=false", "state.voltage=3015"]
    );
    let (device, _, reading) = sent(
        "zigbee2mqtt",
        "zigbee2mqtt/dock door",
        r#"{"occupancy":true,"last_seen":1772341200000}"#,
    );
    assert_eq!(device, "dock::20door");
    assert_eq!(shown(&reading), ["state.occupancy=true"]);
    assert_eq!(reading.device_us, Some(1_772_341_200_000_000));
    assert_eq!(
        values("zigbee2mqtt", "zigbee2mqtt/hall/availability", r#"{"state":"offline"}"#),
        ["availability.state=\"offline\""]
    );
    // Commands and the bridge's own topics are nobody's readings.
    let map = TopicMap::of([&profile("zigbee2mqtt")]);
    assert!(map.candidates("zigbee2mqtt/hall/set").is_empty());
    assert!(map.candidates("zigbee2mqtt/bridge/response/device/rename").is_empty());
    assert_eq!(map.filters(), ["zigbee2mqtt/+", "zigbee2mqtt/+/availability"]);
}

#[test]
fn tasmota() {
    let (device, stream, reading) = sent(
        "tasmota",
        "tele/tasmota_A1B2C3/SENSOR",
        r#"{"Time":"2026-03-01T07:00:00","AM2301":{"Temperature":24.6,"Humidity":58.2,"DewPoint":15.8},"TempUnit":"C"}"#,
    );
    assert_eq!((device.as_str(), stream.as_str()), ("tasmota_A1B2C3", "sensor"));
    assert_eq!(
        shown(&reading),
        [
            "sensor.AM2301.Temperature=24.6",
            "sensor.AM2301.Humidity=58.2",
            "sensor.AM2301.DewPoint=15.8",
            "sensor.TempUnit=\"C\""
        ]
    );
    assert_eq!(
        values(
            "tasmota",
            "tele/th16/STATE",
            r#"{"Time":"2026-03-01T07:00:00","Uptime":"0T00:05:19","UptimeSec":319,"POWER":"OFF","Wifi":{"AP":1,"BSSId":"E6:8D:8C:00:00:01","RSSI":66,"Signal":-67,"Downtime":"0T00:00:05"}}"#
        ),
        [
            "state.UptimeSec=319",
            "state.POWER=\"OFF\"",
            "state.Wifi.AP=1",
            "state.Wifi.RSSI=66",
            "state.Wifi.Signal=-67"
        ]
    );
    assert_eq!(values("tasmota", "stat/th16/RESULT", r#"{"POWER":"ON"}"#), ["result.POWER=\"ON\""]);
    assert!(TopicMap::of([&profile("tasmota")]).candidates("tele/th16/LWT").is_empty());
}

#[test]
fn shelly_of_the_first_generation() {
    let one = |topic: &str, payload: &str| {
        let (device, _, reading) = sent("shelly-gen1", topic, payload);
        assert!(device.starts_with("shelly"));
        shown(&reading).remove(0)
    };
    assert_eq!(one("shellies/shellyht-6A0B1C/sensor/temperature", "21.38"), "temperature.c=21.38");
    assert_eq!(one("shellies/shellyht-6A0B1C/sensor/humidity", "47.0"), "humidity.percent=47");
    assert_eq!(one("shellies/shellyht-6A0B1C/sensor/battery", "96"), "battery.percent=96");
    assert_eq!(one("shellies/shellydw2-73BF1A/sensor/state", "open"), "state.open=true");
    assert_eq!(one("shellies/shellydw-73BF1A/sensor/state", "close"), "state.open=false");
    assert_eq!(one("shellies/shellydw2-73BF1A/sensor/lux", "118"), "lux.lx=118");
    assert_eq!(
        one("shellies/shellydw2-73BF1A/sensor/illumination", "dark"),
        "illumination.value=\"dark\""
    );
    assert_eq!(one("shellies/shellydw2-73BF1A/sensor/vibration", "1"), "vibration.felt=true");
    assert_eq!(one("shellies/shellyflood-AA/sensor/flood", "false"), "flood.wet=false");
    assert_eq!(one("shellies/shellyplug-s-04714E/relay/0", "on"), "relay-0.on=true");
    assert_eq!(one("shellies/shellyplug-s-04714E/relay/0", "overpower"), "relay-0.on=false");
    assert_eq!(one("shellies/shellyplug-s-04714E/relay/0/power", "33.27"), "power-0.w=33.27");
    assert_eq!(one("shellies/shellyplug-s-04714E/online", "true"), "online.value=true");
    assert_eq!(reject("shelly-gen1", "temperature", "error"), "wrong_type");
}

#[test]
fn shelly_of_the_second_generation() {
    let topic = "shellyplusht-b8d61a000001/events/rpc";
    assert_eq!(
        values(
            "shelly-gen2",
            topic,
            r#"{"src":"shellyplusht-b8d61a000001","dst":"shellyplusht-b8d61a000001/events","method":"NotifyFullStatus","params":{"ts":1772341200.62,"ble":{},"cloud":{"connected":false},"devicepower:0":{"id":0,"battery":{"V":5.43,"percent":87},"external":{"present":false}},"humidity:0":{"id":0,"rh":42.2},"sys":{"mac":"B8D61A000001","uptime":3},"temperature:0":{"id":0,"tC":19.8,"tF":67.6},"wifi":{"rssi":-60}}}"#
        ),
        [
            "events.devicepower:0.id=0",
            "events.devicepower:0.battery.V=5.43",
            "events.devicepower:0.battery.percent=87",
            "events.devicepower:0.external.present=false",
            "events.humidity:0.id=0",
            "events.humidity:0.rh=42.2",
            "events.temperature:0.id=0",
            "events.temperature:0.tC=19.8",
            "events.temperature:0.tF=67.6",
            "events.method=\"NotifyFullStatus\""
        ]
    );
    assert_eq!(
        values(
            "shelly-gen2",
            topic,
            r#"{"src":"x","method":"NotifyEvent","params":{"ts":null,"events":[{"component":"input:0","id":0,"event":"single_push","ts":1772341200.1}]}}"#
        ),
        [
            "events.method=\"NotifyEvent\"",
            "events.event=\"single_push\"",
            "events.component=\"input:0\""
        ]
    );
    let (device, stream, reading) = sent(
        "shelly-gen2",
        "shellyplus1pm-44178/status/switch:0",
        r#"{"id":0,"output":true,"apower":12.5,"temperature":{"tC":51.2}}"#,
    );
    assert_eq!((device.as_str(), stream.as_str()), ("shellyplus1pm-44178", "switch:0"));
    assert_eq!(
        shown(&reading),
        ["switch:0.output=true", "switch:0.apower=12.5", "switch:0.temperature.tC=51.2"]
    );
    assert_eq!(
        values("shelly-gen2", "shellyplus1pm-44178/online", "false"),
        ["online.value=false"]
    );
}

/// An uplink in the form of ChirpStack 4; `counter` is empty where the counter is 0.
fn uplink(address: &str, counter: &str) -> String {
    format!(
        r#"{{"deduplicationId":"3ac7e3c4-4401-4b8d-9386-a5c902f9202d","time":"2026-03-01T05:00:00.775023242+00:00","deviceInfo":{{"tenantName":"shop","applicationId":"7","deviceName":"cold-room","devEui":"0101010101010101","tags":{{"key":"value"}}}},"devAddr":"{address}","adr":true,"dr":1{counter},"fPort":1,"data":"qg==","object":{{"temperature":-18.5,"battery":{{"mv":3310}}}},"rxInfo":[{{"gatewayId":"0016c001f153a14c","uplinkId":4217106255,"rssi":-36,"snr":10.5}}],"txInfo":{{"frequency":867100000}}}}"#
    )
}

#[test]
fn chirpstack() {
    let topic = "application/17c82e96-be03-4f38-aef3-f83d48582d97/device/0101010101010101/event/up";
    let (device, stream, reading) = sent("chirpstack", topic, &uplink("00189440", r#","fCnt":42"#));
    assert_eq!((device.as_str(), stream.as_str()), ("0101010101010101", "up"));
    assert_eq!((reading.seq, reading.boot.as_deref()), (Some(42), Some("00189440")));
    assert_eq!(reading.device_us, Some(1_772_341_200_775_023));
    assert_eq!(
        shown(&reading),
        ["up.temperature=-18.5", "up.battery.mv=3310", "up.rssi_dbm=-36", "up.snr_db=10.5"]
    );
    // The first uplink after a join: the counter is 0 and left out, the address is another, so it is no repeat of any frame.
    let (_, _, first) = sent("chirpstack", topic, &uplink("01a2b3c4", ""));
    assert_eq!((first.seq, first.boot.as_deref()), (Some(0), Some("01a2b3c4")));
    let (_, stream, status) = sent(
        "chirpstack",
        "application/7/device/0101010101010101/event/status",
        r#"{"deduplicationId":"c9dbe358-2578-4fb7-b295-66b44edc45a6","time":"2026-03-01T05:00:00Z","deviceInfo":{"devEui":"0101010101010101"},"margin":10,"externalPowerSource":false,"batteryLevel":75.5}"#,
    );
    assert_eq!((stream.as_str(), status.seq), ("status", None));
    assert_eq!(
        shown(&status),
        ["status.margin=10", "status.externalPowerSource=false", "status.batteryLevel=75.5"]
    );
    assert_eq!(
        values(
            "chirpstack",
            "application/7/device/0101010101010101/event/join",
            r#"{"deduplicationId":"c9dbe358-2578-4fb7-b295-66b44edc45a6","time":"2026-03-01T05:00:00Z","deviceInfo":{"devEui":"0101010101010101"},"devAddr":"00189440"}"#
        ),
        ["join.devAddr=\"00189440\""]
    );
    // Without a codec there is no object, and nothing to read.
    assert_eq!(
        reject("chirpstack", "up", r#"{"devAddr":"00189440","fCnt":1,"data":"qg=="}"#),
        "missing_field"
    );
}

#[test]
fn every_profile_reads_its_own_topics_only() {
    for (name, text) in SHIPPED {
        let profile = Profile::parse(text).unwrap();
        for pattern in &profile.topics {
            assert!(!pattern.filter().starts_with("stockfold/"), "{name}");
            if let Some(stream) = pattern.fixed_stream() {
                assert!(profile.stream(stream).is_some(), "{name}: {stream}");
            }
        }
    }
}
