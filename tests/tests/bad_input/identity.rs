//! Who may not: wrong secrets, strangers, other devices' topics, and topics nobody has.

use stockfold_tests::{Device, Login, Version, hub, until};

use crate::common::Bystander;

#[test]
fn wrong_credentials_are_refused_by_name() {
    let hub = hub();
    let shop = hub.shop("secrets");
    let mut bystander = Bystander::of(&hub, &shop);
    let login = shop.enrol("secrets-device");
    let wrong = Login { password: "not the password".into(), ..login.clone() };
    let empty = Login { password: String::new(), ..login.clone() };
    let stranger = Login { device: "nobody-knows-me".into(), password: "x".into() };
    for (version, login, code) in [
        (Version::V5, &wrong, 0x86),
        (Version::V5, &empty, 0x86),
        (Version::V5, &stranger, 0x87),
        (Version::V3, &wrong, 4),
        (Version::V3, &stranger, 5),
    ] {
        let refused = Device::connect(hub.mqtt(), version, login).err();
        assert_eq!(refused, Some(code), "{} {version:?}", login.device);
    }
    // The right secret under another's client id.
    let other = Device::connect_as(hub.mqtt(), Version::V5, "secrets-bystander", &login).err();
    assert_eq!(other, Some(0x85));
    bystander.works();
    bystander.lost_nothing();
    hub.is_sound();
}

#[test]
fn a_stranger_is_listed_as_seen() {
    let hub = hub();
    let stranger = Login { device: "stranger-7".into(), password: "x".into() };
    for _ in 0..3 {
        assert_eq!(Device::connect(hub.mqtt(), Version::V5, &stranger).err(), Some(0x87));
    }
    let seen = until("the stranger is listed", || {
        let all = hub.api().all("/devices/seen");
        all.into_iter().find(|row| row["name"] == "stranger-7" && row["times"] == 3)
    });
    assert_eq!(seen["peer"], "127.0.0.1");
    assert!(seen["reason"].as_str().unwrap().contains("not enrolled"), "{seen:#}");
    hub.is_sound();
}

#[test]
fn topics_of_others_and_unknown_topics_are_refused() {
    let hub = hub();
    let shop = hub.shop("topics");
    let mut bystander = Bystander::of(&hub, &shop);
    let login = shop.enrol("topics-device");
    let reading = br#"{"seq":900,"boot":"forged","values":{"sku":"sku-1","delta":1000}}"#;
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    for (topic, code) in [
        ("stockfold/v1/topics-bystander/stock", 0x87),
        ("stockfold/v1/topics-device2/stock", 0x87),
        ("stockfold/v1/topics-device/cmd/reboot", 0x87),
        ("stockfold/v2/topics-device/stock", 0x90),
        ("zigbee2mqtt/shelf", 0x90),
        ("stockfold/v1/topics-device/cmd", 0x90),
    ] {
        assert_eq!(device.publish(topic, reading), Ok(code), "{topic}");
    }
    // MQTT 3.1.1 has no reason codes: the connection ends.
    let mut old = Device::connected(hub.mqtt(), Version::V3, &login);
    assert_eq!(old.publish("stockfold/v1/topics-bystander/stock", reading), Err(None));
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    device.stock(1, "b", "sku-0", 1);
    shop.settles(&login, 1, "slot-0", "sku-0", 1);
    bystander.works();
    bystander.lost_nothing();
    hub.is_sound();
}

#[test]
fn a_revoked_credential_ends_its_connection() {
    let hub = hub();
    let shop = hub.shop("revoked");
    let mut bystander = Bystander::of(&hub, &shop);
    let login = shop.enrol("revoked-device");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    device.stock(1, "b", "sku-0", 1);
    let credentials = hub.api().all("/devices/revoked-device/credentials");
    let id = credentials[0]["id"].as_str().unwrap();
    assert_eq!(hub.api().delete(&format!("/devices/revoked-device/credentials/{id}")).status, 204);
    assert_eq!(device.closed(), Some(0x98));
    assert!(Device::connect(hub.mqtt(), Version::V5, &login).is_err());
    shop.settles(&login, 1, "slot-0", "sku-0", 1);
    bystander.works();
    bystander.lost_nothing();
    hub.is_sound();
}
