//! Starts that must not succeed: a wrong configuration, a directory in use, a database that knows more than the journal.

use std::{fs, process::Command};

use stockfold_tests::{Device, Hub, Ran, Shop, Version, stockfold};

fn check(file: &str, env: &[(&str, &str)]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stockfold.toml");
    fs::write(&path, file).unwrap();
    let mut command = Command::new(stockfold());
    Ran::of(command.args(["config", "check", "--config"]).arg(&path).envs(env.iter().copied()))
}

#[test]
fn a_configuration_with_unknown_keys_is_refused_by_line() {
    assert_eq!(check("[http]\nbind = \"127.0.0.1:0\"\n", &[]).code, 0);
    for (file, words) in [
        ("[http]\nbind = \"127.0.0.1:0\"\nbnid = 3\n", &["line 3", "bnid"][..]),
        ("[jurnal]\nkeep_days = 1\n", &["line 1", "jurnal"]),
        ("[http]\nbind = 8080\n", &["line 2"]),
        ("[http\n", &["line 1"]),
        ("[journal]\nkeep_days = 0\n", &["journal.keep_days"]),
        ("[journal]\nrefuse_percent = 101\n", &["journal.refuse_percent"]),
        ("[shards]\ncount = -1\n", &["line 2"]),
    ] {
        let ran = check(file, &[]);
        assert_eq!(ran.code, 1, "{file}");
        for word in words {
            assert!(ran.err.contains(word), "{file}: {}", ran.err);
        }
        assert!(!ran.err.contains("backtrace"), "{}", ran.err);
    }
    let ran = check("", &[("STOCKFOLD__HTTP__BNID", "3")]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("STOCKFOLD__HTTP__BNID"), "{}", ran.err);
    let ran = Ran::of(Command::new(stockfold()).args([
        "config",
        "check",
        "--config",
        "/no/such/file.toml",
    ]));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("/no/such/file.toml"), "{}", ran.err);
}

#[test]
fn what_config_prints_is_a_configuration() {
    let printed = Ran::of(Command::new(stockfold()).args(["config", "print"])).good();
    check(&printed.out, &[]).good();
}

#[test]
fn a_second_hub_on_the_same_directory_is_refused() {
    let mut hub = Hub::start();
    let shop = Shop::open(hub.api(), "first", 1, 1);
    let login = shop.enrol("first-device");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    device.stock(1, "b", "sku-0", 1);
    for command in [&["run"][..], &["journal", "verify"], &["journal", "salvage", "--yes"]] {
        let second = hub.command(command);
        assert_eq!(second.code, 1, "{command:?}");
        let pid = hub.pid().to_string();
        assert!(
            second.err.contains(&pid) && second.err.contains("data directory"),
            "{}",
            second.err
        );
    }
    // The first one noticed nothing.
    device.stock(2, "b", "sku-0", 1);
    shop.settles(&login, 2, "slot-0", "sku-0", 2);
    hub.replays_equal();
    assert!(hub.stop().success());
    // A killed hub leaves no lock behind.
    hub.again();
    hub.kill();
    hub.again();
    assert_eq!(shop.quantity("slot-0", "sku-0"), 2);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut hub = Hub::start();
    assert!(hub.stop().success());
    for key in ["STOCKFOLD__HTTP__BIND", "STOCKFOLD__MQTT__BIND", "STOCKFOLD__MQTT__TLS_BIND"] {
        let mut command = Command::new(stockfold());
        command.arg("run").env("STOCKFOLD__DATA_DIR", hub.data_dir());
        command
            .env("STOCKFOLD__HTTP__BIND", "127.0.0.1:0")
            .env("STOCKFOLD__MQTT__BIND", "127.0.0.1:0")
            .env("STOCKFOLD__MQTT__TLS_BIND", "127.0.0.1:0");
        let ran = Ran::of(command.env(key, &address));
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains(&address) && ran.err.contains("in use"), "{}", ran.err);
    }
    hub.again();
}

#[test]
fn a_database_ahead_of_the_journal_is_refused_until_the_journal_is_back() {
    let mut hub = Hub::start();
    let shop = Shop::open(hub.api(), "ahead", 1, 1);
    let login = shop.enrol("ahead-device");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    for seq in 1..=20 {
        device.stock(seq, "b", "sku-0", 1);
    }
    shop.settles(&login, 20, "slot-0", "sku-0", 20);
    assert!(hub.stop().success());
    let away = hub.data_dir().join("journal-away");
    fs::rename(hub.journal_dir(), &away).unwrap();
    let failed = hub.try_again().expect_err("the journal is gone");
    assert_eq!(failed.code, 1, "{}", failed.text);
    assert!(failed.text.contains("the database has committed shard 0"), "{}", failed.text);
    assert!(failed.text.contains("do not belong together"), "{}", failed.text);
    // The refused start made no journal that would be in the way now.
    let _ = fs::remove_dir_all(hub.journal_dir());
    fs::rename(&away, hub.journal_dir()).unwrap();
    hub.again();
    assert_eq!(shop.quantity("slot-0", "sku-0"), 20);
    hub.replays_equal();
}
