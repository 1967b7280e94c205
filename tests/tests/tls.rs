//! The TLS port: devices with passwords and with certificates, what is refused, what is revoked, and what is replaced while
//! the hub runs. Against rustls, OpenSSL, Mosquitto's client and sslscan.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test may panic, print and measure real time"
)]

#[path = "tls/pki.rs"]
mod pki;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use pki::{Authority, Client, Leaf, now_s, written};
use serde_json::{Value, json};
use simulator::mqtt::packet::{self, Connect};
use stockfold_tests::{
    Answered, Device, Hub, Login, Ran, Setup, Shop, Version, Wire, connect_bytes, foreign, hub,
    until,
};

fn ca(hub: &Hub) -> String {
    hub.command(&["tls", "ca"]).good().out
}

/// What the hub makes for a device: the credential's id, and the certificate with its key.
fn issued(shop: &Shop, device: &str) -> (String, Leaf) {
    let made = shop.api().post(&format!("/devices/{device}/certificates"), &json!({})).good();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    (text("id"), Leaf { certificate: text("certificate"), key: text("key") })
}

fn enrol(shop: &Shop, device: &str, leaf: &Leaf) -> (u16, Value) {
    let body = json!({ "certificate": leaf.certificate });
    let answer = shop.api().post(&format!("/devices/{device}/certificates"), &body);
    (answer.status, answer.body)
}

/// CONNECT without user name and password.
fn nameless(version: Version, client_id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let connect = Connect {
        version,
        client_id,
        clean: true,
        keep_alive_s: 0,
        session_expiry_s: 0,
        login: None,
    };
    packet::connect(&mut out, &connect);
    out
}

fn shown(hub: &Hub, leaf: &Leaf, version: Version, connect: &[u8]) -> Answered {
    let client =
        Client { ca: &ca(hub), leaf: Some(leaf), name: "localhost", old: version == Version::V3 };
    Device::over(client.dial(hub.mqtt_tls()).unwrap(), version).hello(connect)
}

fn refused(hub: &Hub, counter: &str) -> f64 {
    hub.api().metric(&format!("stockfold_mqtt_events_total{{event=\"refused_{counter}\"}}"))
}

/// Does something and waits until the counter shows it once.
fn counts_one(hub: &Hub, counter: &str, act: impl FnOnce()) {
    let before = refused(hub, counter);
    act();
    until(counter, || (refused(hub, counter) >= before + 1.0).then_some(()));
}

/// The client may hear of its refusal in the handshake or at the first read.
fn is_refused(dialled: std::io::Result<Box<dyn Wire>>) {
    if let Ok(mut wire) = dialled {
        let read = wire.read(&mut [0; 16]);
        assert!(matches!(read, Err(_) | Ok(0)), "{read:?}");
    }
}

#[test]
fn a_password_works_over_tls_in_both_versions() {
    let hub = hub();
    let shop = Shop::open(hub.api(), "tls-password", 1, 1);
    for (version, old) in [(Version::V3, true), (Version::V5, false)] {
        let login = shop.enrol(&format!("tls-password-{}", u8::from(old)));
        let client = Client { ca: &ca(&hub), leaf: None, name: "localhost", old };
        let wire = client.dial(hub.mqtt_tls()).unwrap();
        let mut device = Device::over(wire, version);
        device.id.clone_from(&login.device);
        let mut device = device.hello(&connect_bytes(version, &login.device, &login)).unwrap();
        // More than a TLS record and more than a read at once.
        for seq in 1..=50 {
            device.stock(seq, "b", "sku-0", 1);
        }
        let wide = "x".repeat(60_000);
        let topic = format!("stockfold/v1/{}/stock", login.device);
        assert_eq!(device.publish(&topic, wide.as_bytes()), Ok(0));
        device.disconnect();
        let exits = shop.ledger(&login, 51);
        assert_eq!((exits.applied, exits.rejected), (50, 1));
    }
    hub.is_sound();
}

#[test]
fn a_certificate_is_a_credential_of_one_device() {
    let hub = hub();
    let shop = Shop::open(hub.api(), "tls-certificate", 1, 1);
    let (login, other) = (shop.enrol("tls-own"), shop.enrol("tls-other"));
    let (_, leaf) = issued(&shop, "tls-own");
    for version in [Version::V3, Version::V5] {
        let mut device = shown(&hub, &leaf, version, &nameless(version, "tls-own")).ok().unwrap();
        device.id = "tls-own".into();
        device.stock(1, &format!("{version:?}"), "sku-0", 1);
        // Its own name may be said; the password beside it opens nothing and is not looked at.
        let named = Login { device: "tls-own".into(), password: "anything".into() };
        assert!(
            shown(&hub, &leaf, version, &connect_bytes(version, "tls-own/two", &named)).is_ok()
        );
        // Another device's name may not, not even with that device's password.
        let code = if version == Version::V5 { 0x87 } else { 5 };
        let foreign = shown(&hub, &leaf, version, &connect_bytes(version, "tls-other", &other));
        assert_eq!(foreign.err(), Some(code));
        // Nor its client id.
        let code = if version == Version::V5 { 0x85 } else { 2 };
        assert_eq!(shown(&hub, &leaf, version, &nameless(version, "tls-other")).err(), Some(code));
    }
    shop.ledger(&login, 2);
    // The list tells of it, without anything secret.
    let list = shop.api().all("/devices/tls-own/credentials");
    let one = list.iter().find(|c| c["kind"] == "certificate").unwrap();
    assert!(one["expires_at"].is_string() && one["sha256"].as_str().unwrap().len() == 64, "{one}");
    assert!(list.iter().any(|c| c["kind"] == "secret" && c["sha256"].is_null()));
    // A certificate that is a credential already is nobody else's.
    let (status, body) = enrol(&shop, "tls-other", &leaf);
    assert_eq!((status, body["code"].as_str()), (409, Some("certificate_taken")), "{body:#}");
}

#[test]
fn a_revoked_certificate_cuts_the_live_connection() {
    let hub = hub();
    let shop = Shop::open(hub.api(), "tls-revoked", 1, 1);
    shop.enrol("tls-revoked");
    let (credential, leaf) = issued(&shop, "tls-revoked");
    let mut device =
        shown(&hub, &leaf, Version::V5, &nameless(Version::V5, "tls-revoked")).ok().unwrap();
    let began = Instant::now();
    let ran = hub.command(&["device", "revoke", "tls-revoked", &credential]);
    ran.good();
    assert_eq!(device.closed(), Some(0x98), "administrative action");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let again = shown(&hub, &leaf, Version::V5, &nameless(Version::V5, "tls-revoked"));
    assert_eq!(again.err(), Some(0x87), "no handshake brings a revoked certificate back");
}

#[test]
fn certificates_made_elsewhere_are_enrolled_and_end_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let (own, stranger) = (Authority::new("The user's"), Authority::new("A stranger's"));
    let file = written(dir.path(), "client-ca.pem", &own.pem);
    let hub = Hub::with(Setup::default().set("TLS__CLIENT_CA_FILE", file.display()));
    let shop = Shop::open(hub.api(), "tls-elsewhere", 1, 1);
    shop.enrol("tls-brief");
    shop.enrol("tls-print");
    let now = now_s();

    // Not enrolled: the handshake is fine, CONNECT is not.
    let brief = own.client("tls-brief", now - 100, now + 8);
    let hello = nameless(Version::V5, "tls-brief");
    assert_eq!(shown(&hub, &brief, Version::V5, &hello).err(), Some(0x87));
    assert_eq!(enrol(&shop, "tls-brief", &brief).0, 201);
    let mut device = shown(&hub, &brief, Version::V5, &hello).ok().unwrap();

    // By the fingerprint that OpenSSL prints, through the command line.
    let by_print = own.client("whatever", now - 100, now + 100_000);
    let file = written(dir.path(), "print.pem", &by_print.certificate);
    if let Some(openssl) = foreign("tls-fingerprint", "openssl") {
        let mut command = Command::new(openssl);
        let printed =
            Ran::of(command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&file))
                .good();
        let print = printed.out.trim().split_once('=').unwrap().1.to_owned();
        hub.command(&["device", "cert", "tls-print", "--sha256", &print]).good();
        let connect = nameless(Version::V5, "tls-print");
        assert!(shown(&hub, &by_print, Version::V5, &connect).is_ok());
    }

    // What a handshake would not believe is not enrolled, and says why.
    for (leaf, why) in [
        (stranger.client("x", now - 100, now + 100), "client_ca_file"),
        (own.client("x", now - 100, now - 50), "xpired"),
        (own.client("x", now + 5_000, now + 6_000), "not valid yet"),
        (own.server("x"), "extended key usage"),
    ] {
        let (status, body) = enrol(&shop, "tls-print", &leaf);
        assert!(status == 422 && body.to_string().contains(why), "{why}: {status} {body:#}");
    }

    // In the handshake they are told apart.
    let hub = &hub;
    let dial = |leaf: Leaf| {
        for old in [true, false] {
            let client = Client { ca: &ca(hub), leaf: Some(&leaf), name: "localhost", old };
            is_refused(client.dial(hub.mqtt_tls()));
        }
    };
    counts_one(hub, "tls_certificate_expired", || dial(own.client("x", now - 100, now - 50)));
    counts_one(hub, "tls_certificate_expired", || dial(own.client("x", now + 5_000, now + 6_000)));
    counts_one(hub, "tls_certificate_foreign", || dial(stranger.client("x", now - 9, now + 99)));
    counts_one(hub, "tls_certificate", || dial(own.server("x")));

    // The one that ends while its connection lives ends it.
    assert_eq!(device.closed(), Some(0x98));
    assert!(now_s() >= now + 8);
}

#[test]
fn a_client_that_expects_somebody_else_goes_away_and_is_counted() {
    let hub = hub();
    let right = ca(&hub);
    let wrong = Authority::new("Somebody else").pem;
    for (ca, name) in [(&right, "hub.example"), (&wrong, "localhost")] {
        counts_one(&hub, "tls_distrusted", || {
            let client = Client { ca, leaf: None, name, old: false };
            assert!(client.dial(hub.mqtt_tls()).is_err(), "{name}");
        });
    }
    for name in ["localhost", "127.0.0.1"] {
        assert!(Client { ca: &right, leaf: None, name, old: false }.dial(hub.mqtt_tls()).is_ok());
    }
}

#[test]
fn whatever_is_no_tls_is_refused_at_once_and_named() {
    let hub = hub();
    let login = Login { device: "plain".into(), password: "x".into() };
    let plain = connect_bytes(Version::V5, "plain", &login);
    let mut random = vec![0u8; 4_096];
    for (at, byte) in random.iter_mut().enumerate() {
        *byte = u8::try_from((at * 7 + at / 13) % 251).unwrap();
    }
    for bytes in [plain.as_slice(), b"GET / HTTP/1.1\r\n\r\n", &[0xFF; 64], &random] {
        counts_one(&hub, "tls_not_tls", || {
            let mut socket = TcpStream::connect(hub.mqtt_tls()).unwrap();
            socket.wait_at_most(Duration::from_secs(4));
            socket.write_all(bytes).unwrap();
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            // An alert at most; never a CONNACK.
            assert!(answer.first().is_none_or(|first| *first == 0x15), "{answer:?}");
        });
    }
    // And TLS on the plain port.
    let mut socket = TcpStream::connect(hub.mqtt()).unwrap();
    socket.wait_at_most(stockfold_tests::WAIT_MAX);
    socket.write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]).unwrap();
    assert!(!matches!(socket.read(&mut [0; 16]), Ok(1..)), "it closes without a word");
    hub.is_sound();
}

#[test]
fn a_slow_handshake_is_cut() {
    let hub = hub();
    counts_one(&hub, "tls_timeout", || {
        let mut device = Device::dial(hub.mqtt_tls(), Version::V5);
        // The first bytes of a ClientHello, and nothing more.
        device.send(&[0x16, 3, 1, 2, 0, 1, 0, 1]);
        let began = Instant::now();
        device.closed();
        let took = began.elapsed();
        assert!(took > Duration::from_secs(4) && took < Duration::from_secs(20), "{took:?}");
    });
    counts_one(&hub, "tls_closed", || drop(TcpStream::connect(hub.mqtt_tls()).unwrap()));
}

#[test]
fn a_client_that_does_not_read_is_cut_over_tls_too() {
    let hub = hub();
    let shop = Shop::open(hub.api(), "tls-deaf", 1, 1);
    let login = shop.enrol("tls-deaf");
    let hello = |id: &str| connect_bytes(Version::V3, id, &login);
    let client = Client { ca: &ca(&hub), leaf: None, name: "localhost", old: false };
    let mut deaf = Device::over(client.dial(hub.mqtt_tls()).unwrap(), Version::V3)
        .hello(&hello("tls-deaf/deaf"))
        .ok()
        .unwrap();
    let filter = "stockfold/v1/tls-deaf/loud/#";
    let length = u8::try_from(filter.len()).unwrap();
    deaf.send(&[&[0x82, length + 5, 0, 1, 0, length], filter.as_bytes(), &[0]].concat());
    let mut loud =
        Device::dial(hub.mqtt(), Version::V3).hello(&hello("tls-deaf/loud")).ok().unwrap();
    // Far more than the socket, TLS and the hub hold for it; then nothing moves, and the hub's patience is what ends it.
    counts_one(&hub, "slow_reader", || {
        for _ in 0..300 {
            assert_eq!(loud.publish("stockfold/v1/tls-deaf/loud/1", &[b'x'; 60_000]), Ok(0));
        }
    });
}

fn server_is_believed(hub: &Hub, ca: &str) -> bool {
    Client { ca, leaf: None, name: "localhost", old: false }.dial(hub.mqtt_tls()).is_ok()
}

#[test]
fn the_user_s_files_are_taken_when_they_change_and_only_when_they_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new("First"), Authority::new("Second"));
    let one = first.server("one");
    let certificate = written(dir.path(), "hub.pem", &one.certificate);
    let key = written(dir.path(), "hub-key.pem", &one.key);
    let setup = Setup::default()
        .set("TLS__CERT_FILE", certificate.display())
        .set("TLS__KEY_FILE", key.display());
    let mut hub = Hub::with(setup);
    let shop = Shop::open(hub.api(), "tls-files", 1, 1);
    let login = shop.enrol("tls-files");
    assert!(server_is_believed(&hub, &first.pem));
    let client = Client { ca: &first.pem, leaf: None, name: "localhost", old: false };
    let mut standing = Device::over(client.dial(hub.mqtt_tls()).unwrap(), Version::V5)
        .hello(&connect_bytes(Version::V5, "tls-files", &login))
        .ok()
        .unwrap();
    standing.id = "tls-files".into();

    // The certificate of another key: the old pair stays, and it is told.
    let two = second.server("two");
    std::fs::write(&certificate, &two.certificate).unwrap();
    let refused = || hub.api().metric("stockfold_tls_files_refused") == 1.0;
    until("the pair is refused", || refused().then_some(()));
    assert!(server_is_believed(&hub, &first.pem));
    let ready = hub.api().get_any("/readyz");
    assert!(ready.status == 503 && ready.body.to_string().contains("cannot be used"), "{ready:?}");
    assert!(hub.log().text(0).contains("those in force stay"));
    // Garbage, and no file at all.
    std::fs::write(&certificate, "garbage").unwrap();
    until("the log names the file", || {
        hub.log().text(0).contains("hub.pem: no certificate").then_some(())
    });
    std::fs::remove_file(&certificate).unwrap();
    until("the log names the file", || {
        hub.log().text(0).contains("hub.pem: No such file").then_some(())
    });
    assert!(server_is_believed(&hub, &first.pem));

    // The rest of the new pair comes: it is in force, and who was connected still is.
    std::fs::write(&key, &two.key).unwrap();
    std::fs::write(&certificate, &two.certificate).unwrap();
    until("the new pair is in force", || server_is_believed(&hub, &second.pem).then_some(()));
    assert!(!server_is_believed(&hub, &first.pem));
    until("it is told that all is well", || {
        (hub.api().get_any("/readyz").status == 200).then_some(())
    });
    standing.stock(1, "b", "sku-0", 1);
    shop.ledger(&login, 1);

    // At a start there is no old pair to keep.
    hub.stop();
    std::fs::write(&key, &one.key).unwrap();
    let failed = hub.try_again().unwrap_err();
    assert!(failed.code == 1 && failed.text.contains("[tls] cert_file"), "{}", failed.text);
    std::fs::write(&key, &two.key).unwrap();
    hub.again();
}

#[test]
fn the_hub_s_own_authority_outlives_restarts() {
    let mut hub = Hub::start();
    let shop = Shop::open(hub.api(), "tls-own-ca", 1, 1);
    shop.enrol("tls-kept");
    let (_, leaf) = issued(&shop, "tls-kept");
    let before = ca(&hub);
    hub.stop();
    hub.again();
    assert_eq!(ca(&hub), before);
    assert!(shown(&hub, &leaf, Version::V5, &nameless(Version::V5, "tls-kept")).is_ok());
}

#[test]
fn mosquitto_publishes_with_a_certificate() {
    let Some(publish) = foreign("mosquitto-tls", "mosquitto_pub") else { return };
    let hub = hub();
    let shop = Shop::open(hub.api(), "tls-mosquitto", 1, 1);
    let dir = tempfile::tempdir().unwrap();
    let port = hub.mqtt_tls().port().to_string();
    for version in ["mqttv311", "mqttv5"] {
        let device = format!("tls-{version}");
        let login = shop.enrol(&device);
        let out = dir.path().join(&device);
        hub.command(&["device", "cert", &device, "--out", &out.display().to_string()]).good();
        let file = |name: String| out.join(name).display().to_string();
        let (ca, certificate, key) = (
            file("ca.pem".into()),
            file(format!("{device}.pem")),
            file(format!("{device}-key.pem")),
        );
        let topic = format!("stockfold/v1/{device}/stock");
        let send = |seq: u64, more: &[&str]| {
            let message =
                json!({ "seq": seq, "boot": "b", "values": { "sku": "sku-0", "delta": 1 } });
            let mut command = Command::new(&publish);
            command.args(["-V", version, "-h", "localhost", "-p", &port, "-i", &device, "-q", "1"]);
            Ran::of(command.args(["-t", &topic, "-m", &message.to_string()]).args(more))
        };
        send(1, &["--cafile", &ca, "--cert", &certificate, "--key", &key]).good();
        send(2, &["--cafile", &ca, "-u", &device, "-P", &login.password]).good();
        // Who does not know the authority does not send.
        assert_ne!(send(3, &["--tls-use-os-certs", "-u", &device, "-P", &login.password]).code, 0);
        // A second certificate does not overwrite the first one's files.
        let again = hub.command(&["device", "cert", &device, "--out", &out.display().to_string()]);
        assert!(again.code == 1 && again.err.contains("no certificate was made"), "{}", again.err);
        let exits = shop.ledger(&login, 2);
        assert_eq!(exits.applied, 2);
    }
}

#[test]
fn openssl_finds_modern_versions_and_no_resumption() {
    let Some(openssl) = foreign("openssl", "openssl") else { return };
    let hub = hub();
    let dir = tempfile::tempdir().unwrap();
    let authority = written(dir.path(), "ca.pem", &ca(&hub));
    let connect = hub.mqtt_tls().to_string();
    let client = |more: &[&str]| {
        let mut command = Command::new(&openssl);
        command.args(["s_client", "-connect", &connect, "-verify_return_error"]);
        Ran::of(
            command.args(["-verify_hostname", "localhost", "-CAfile"]).arg(&authority).args(more),
        )
    };
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let ran = client(&[version]).good();
        assert!(ran.out.contains(&format!("New, {name}")), "{}", ran.out);
        assert!(ran.out.contains("Verify return code: 0 (ok)"), "{}", ran.out);
    }
    let again = client(&["-tls1_2", "-reconnect"]);
    assert_eq!(again.out.matches("New, TLSv1.2").count(), 6, "{}", again.out);
    assert!(!again.out.contains("Reused") && !again.out.contains("TLS session ticket:"));
    let old = client(&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    assert_ne!(old.code, 0, "{}", old.out);
}

#[test]
fn sslscan_finds_nothing_weak() {
    let Some(sslscan) = foreign("sslscan", "sslscan") else { return };
    let hub = hub();
    let ran =
        Ran::of(Command::new(sslscan).args(["--no-colour", &hub.mqtt_tls().to_string()])).good();
    for word in ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"] {
        let line = ran.out.lines().find(|line| line.starts_with(word)).unwrap_or_default();
        assert!(line.ends_with("disabled"), "{line}\n{}", ran.out);
    }
    for word in
        ["RC4", "DES", "CBC", "NULL", "EXP", "MD5", "vulnerable to", "supports renegotiation"]
    {
        let bad =
            ran.out.lines().any(|line| line.contains(word) && !line.contains("not vulnerable"));
        assert!(!bad, "{word}\n{}", ran.out);
    }
}
