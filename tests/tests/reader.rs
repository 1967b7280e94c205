//! RFID readers: llrpkit's emulator and the simulator's readers before the real hub, and everything a reader can do wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test may panic and print, and certificates want the time of day"
)]

#[path = "tls/pki.rs"]
#[allow(dead_code, reason = "the client of these certificates is another test's")]
mod pki;

use std::{
    collections::BTreeSet,
    io::Read as _,
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use device_profiles::{Tag, time::parse_rfc3339_us};
use serde_json::json;
use simulator::{
    clock::WallClock,
    llrp::{Config, Read, crowd},
};
use stockfold_tests::{
    Hub, Llrpkit, Portals, Setup, SimReader, foreign, free_port, hub, python, until,
};

/// A reader with ten tags that are read a hundred times a second.
fn reader(seed: u64) -> SimReader {
    SimReader::serve(Config::default(), crowd(seed, 10, 4, 100.0))
}

#[test]
fn a_reader_written_by_others_is_read_lost_and_found_again() {
    let Some(python) = python("reader-llrpkit") else { return };
    let hub = hub();
    let portals = Portals::open(&hub, "kit");
    let port = free_port();
    let emulator = Llrpkit::start(&python, port);
    portals.add("kit-dock", "llrp-reader", &format!("llrp://127.0.0.1:{port}"));
    portals.is_up("kit-dock");
    portals.reads_more("kit-dock", 100);
    let state = portals.state("kit-dock");
    let about = &state["reader"]["about"];
    assert_eq!((&about["vendor"], &about["antennas"]), (&json!(25_882), &json!(4)), "{state:#}");
    let unit = &state["units"][0];
    assert_eq!((&unit["device"], &unit["unit"]), (&json!("kit-dock"), &json!(1)), "{state:#}");
    assert_eq!((&state["last_error"], &unit["ok"]), (&json!(""), &json!(true)), "{state:#}");
    let asked = hub.api().post("/devices/kit-dock/read/reads", &json!({}));
    assert_eq!((asked.status, asked.code()), (409, "no_commands"));
    for figure in ["garbled", "foreign", "unknown", "lost", "timeouts"] {
        assert_eq!(state["reader"][figure], 0, "{figure}: {state:#}");
    }
    let tags: BTreeSet<_> = portals.tags("kit-dock").into_iter().map(|(epc, _)| epc).collect();
    assert_eq!(tags.len(), 12, "{tags:x?}");
    // Its emulator serves one client, and so the hub's connection is not disturbed by another.
    let mut second = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut refusal = Vec::new();
    second.read_to_end(&mut refusal).unwrap();
    assert!(!refusal.is_empty(), "{}", emulator.said());
    portals.reads_more("kit-dock", 20);
    assert_eq!(portals.state("kit-dock")["connects"], 1);
    drop(emulator);
    until("the reader is told as down", || {
        (portals.state("kit-dock")["up"] == false).then_some(())
    });
    let _emulator = Llrpkit::start(&python, port);
    portals.is_up("kit-dock");
    portals.reads_more("kit-dock", 50);
    hub.replays_equal();
}

#[test]
fn what_a_reader_held_while_the_hub_was_dead_is_recovered() {
    let mut hub = Hub::start();
    let reader = reader(1);
    {
        let portals = Portals::open(&hub, "held");
        portals.add("held-dock", "llrp-reader", &reader.url());
        portals.is_up("held-dock");
        portals.reads_more("held-dock", 100);
    }
    let before = Portals::open(&hub, "held").journaled("held-dock");
    hub.kill();
    let clock = WallClock::start();
    let killed_us = clock.unix_us();
    until("the reader has lost its client and holds", || {
        (reader.device().held() > 50).then_some(())
    });
    assert!(reader.device().is_listening());
    let again_us = clock.unix_us();
    hub.again();
    let portals = Portals::open(&hub, "held");
    portals.is_up("held-dock");
    assert_eq!(reader.device().held(), 0);
    portals.reads_more("held-dock", 100);
    let after = portals.journaled("held-dock");
    assert!(after.starts_with(&before), "{} frames were in the journal", before.len());
    // A hundred reads a second, also while nobody was there.
    let tags = portals.tags("held-dock");
    let gone = killed_us.unsigned_abs()..again_us.unsigned_abs();
    let meanwhile = tags.iter().filter(|(_, t)| t.is_some_and(|us| gone.contains(&us))).count();
    let wanted = (again_us - killed_us) / 10_000;
    assert!(meanwhile as i64 >= wanted * 8 / 10, "{meanwhile} of {wanted} reads");
    hub.replays_equal();
}

#[test]
fn a_buffer_that_ran_over_is_told_as_loss() {
    let hub = hub();
    let config = Config { held_reads_max: 20, ..Config::default() };
    let reader = SimReader::serve(config, crowd(2, 10, 4, 100.0));
    let portals = Portals::open(&hub, "over");
    portals.add("over-dock", "llrp-reader", &reader.url());
    portals.is_up("over-dock");
    reader.device().faults.refuse = Some(3);
    reader.cut();
    until("its buffer is full", || (reader.device().held() == 20).then_some(()));
    portals.fails("over-dock", "refuses the hub");
    reader.device().faults.refuse = None;
    until("the overflow is told", || (portals.figure("over-dock", "overflows") == 1).then_some(()));
    portals.reads_more("over-dock", 20);
    let path = "/facilities/over/device-events?kind=source_loss&device=over-dock";
    let told =
        until("the loss is listed", || Some(hub.api().all(path)).filter(|told| !told.is_empty()));
    assert!(told.iter().all(|event| event["detail"]["frames"].as_u64() > Some(0)), "{told:#?}");
    let wrong = hub.api().get_any("/api/v1/facilities/over/device-events?kind=arrived");
    assert_eq!(wrong.status, 400, "{:#}", wrong.body);
}

#[test]
fn a_reader_that_refuses_or_serves_another_client_is_named_and_tried_again() {
    let hub = hub();
    let reader = reader(3);
    let portals = Portals::open(&hub, "taken");
    let other = TcpStream::connect(reader.address).unwrap();
    until("the other client is in", || reader.device().is_connected().then_some(()));
    portals.add("taken-dock", "llrp-reader", &reader.url());
    portals.fails("taken-dock", "another client is connected");
    drop(other);
    portals.is_up("taken-dock");
    portals.reads_more("taken-dock", 20);
    reader.device().faults.refuse_rospec = true;
    reader.cut();
    portals.fails("taken-dock", "refuses ADD_ROSPEC");
    reader.device().faults.refuse_rospec = false;
    portals.is_up("taken-dock");
}

/// Spoils a reader that works; it is lost with these words, and found again once it is whole.
fn spoiled(name: &str, spoil: fn(&SimReader), mend: fn(&SimReader), words: &str) {
    let hub = hub();
    let reader = reader(4);
    let portals = Portals::open(&hub, name);
    portals.add(name, "llrp-reader", &reader.url());
    portals.is_up(name);
    portals.reads_more(name, 10);
    spoil(&reader);
    portals.fails(name, words);
    mend(&reader);
    portals.is_up(name);
    portals.reads_more(name, 10);
    assert!(portals.state(name)["connects"].as_u64() >= Some(2));
}

#[test]
fn a_reader_that_hangs_in_a_message_is_left_and_found_again() {
    let nothing = |_: &SimReader| {};
    spoiled("hangs", |reader| reader.device().faults.hang = true, nothing, "did not end it");
}

#[test]
fn a_message_that_lies_about_its_length_ends_the_connection_and_is_counted() {
    let nothing = |_: &SimReader| {};
    let lie = |reader: &SimReader| reader.device().faults.lie = Some(u32::MAX);
    spoiled("lies", lie, nothing, "what comes is no LLRP");
    let hub = hub();
    assert_eq!(Portals::open(&hub, "lies").figure("lies", "garbled"), 1);
    let short = |reader: &SimReader| reader.device().faults.lie = Some(12);
    spoiled("lies-short", short, nothing, "what comes is no LLRP");
}

#[test]
fn signs_of_life_that_stay_away_end_the_connection() {
    let silent = |reader: &SimReader| reader.device().faults.silent = true;
    let loud = |reader: &SimReader| reader.device().faults.silent = false;
    spoiled("silent", silent, loud, "no sign of life for 3000 ms");
}

#[test]
fn a_reader_that_does_not_greet_or_answer_is_given_up_and_found_again() {
    let mute = |reader: &SimReader| {
        reader.device().faults.mute = true;
        reader.cut();
    };
    let speak = |reader: &SimReader| {
        reader.device().faults.mute = false;
        reader.cut();
    };
    spoiled("mute", mute, speak, "does not greet");
    let deaf = |reader: &SimReader| {
        reader.device().faults.deaf = true;
        reader.cut();
    };
    let hears = |reader: &SimReader| {
        reader.device().faults.deaf = false;
        reader.cut();
    };
    spoiled("deaf", deaf, hears, "does not answer GET_READER_CAPABILITIES");
}

/// Spoils a reader in a way that harms nothing: the connection stays.
fn bears(name: &str, spoil: fn(&SimReader), seen: impl Fn(&Portals<'_>) -> bool) {
    let hub = hub();
    let reader = reader(5);
    let portals = Portals::open(&hub, name);
    portals.add(name, "llrp-reader", &reader.url());
    portals.is_up(name);
    portals.reads_more(name, 10);
    spoil(&reader);
    until("it is seen", || seen(&portals).then_some(()));
    portals.reads_more(name, 50);
    let state = portals.state(name);
    assert_eq!((&state["up"], &state["connects"]), (&json!(true), &json!(1)), "{state:#}");
    hub.replays_equal();
}

#[test]
fn messages_of_unknown_kinds_are_passed_over_and_counted() {
    let spoil = |reader: &SimReader| reader.device().faults.unknown = true;
    bears("unknown", spoil, |portals| portals.figure("unknown", "unknown") == 1);
}

#[test]
fn a_report_that_lies_inside_is_counted_and_kept_as_it_came() {
    let spoil = |reader: &SimReader| reader.device().faults.inner_lie = true;
    bears("inner", spoil, |portals| portals.figure("inner", "garbled") == 1);
}

#[test]
fn repeated_and_reordered_reports_harm_nothing() {
    let spoil = |reader: &SimReader| {
        reader.device().faults.duplicate = true;
        reader.device().faults.reorder = true;
    };
    bears("twice", spoil, |portals| {
        let times: Vec<_> = portals.tags("twice").into_iter().map(|(_, t)| t).collect();
        let distinct: BTreeSet<_> = times.iter().collect();
        distinct.len() < times.len() && times.windows(2).any(|pair| pair[0] > pair[1])
    });
}

#[test]
fn empty_and_longest_epcs_are_borne() {
    let spoil = |reader: &SimReader| {
        reader.device().faults.empty_epc = true;
        reader.device().faults.long_epc = true;
    };
    bears("epcs", spoil, |portals| {
        let lengths: BTreeSet<_> =
            portals.tags("epcs").into_iter().map(|(epc, _)| epc.len()).collect();
        lengths == BTreeSet::from([0, 12, 62])
    });
}

#[test]
fn clocks_that_jump_or_are_none_are_borne() {
    let spoil = |reader: &SimReader| reader.device().faults.clock_off_us = -86_400_000_000;
    bears("jump", spoil, |portals| {
        let times: Vec<_> = portals.tags("jump").into_iter().filter_map(|(_, t)| t).collect();
        times.windows(2).any(|pair| pair[0] > pair[1] + 80_000_000_000)
    });
    let spoil = |reader: &SimReader| reader.device().faults.uptime = true;
    bears("uptime", spoil, |portals| {
        portals.tags("uptime").iter().any(|(_, t)| t.is_some_and(|us| us < 86_400_000_000))
    });
}

#[test]
fn whatever_a_reader_s_clock_shows_its_tags_come_now() {
    const DAY_US: i64 = 86_400_000_000;
    let hub = hub();
    // Of a crowd so many are there; a tag has its number for its last byte.
    let there = Arc::new(AtomicU8::new(1));
    let (count, mut crowd) = (Arc::clone(&there), crowd(13, 5, 4, 100.0));
    let source = move |from_us, to_us| {
        let is_there = |read: &Read| read.tag.bytes()[11] < count.load(Relaxed);
        crowd(from_us, to_us).into_iter().filter(is_there).collect()
    };
    let reader = SimReader::serve(Config::default(), Box::new(source));
    let portals = Portals::open(&hub, "clocks");
    portals.add_looking("clocks-dock", "llrp-reader", &reader.url(), 4);
    portals.is_up("clocks-dock");
    let jumps: [fn(&SimReader); 5] = [
        |_| {},
        |reader| reader.device().faults.clock_off_us = -DAY_US,
        |reader| reader.device().faults.clock_off_us = DAY_US,
        |reader| reader.device().faults.clock_off_us = 0,
        |reader| reader.device().faults.uptime = true,
    ];
    for (tags, jump) in (1..).zip(jumps) {
        let before_us = WallClock::start().unix_us();
        jump(&reader);
        there.store(tags, Relaxed);
        let told = until(&format!("tag {tags} is believed"), || {
            Some(portals.present()).filter(|told| told.len() == usize::from(tags))
        });
        let now_us = WallClock::start().unix_us();
        let came = told
            .iter()
            .find(|tag| tag["tag"].as_str().unwrap().ends_with(&format!("0{}", tags - 1)));
        for time in ["since", "last_read"] {
            let us = parse_rfc3339_us(came.unwrap()[time].as_str().unwrap()).unwrap();
            assert!((before_us..=now_us).contains(&us), "{time} of tag {tags}: {told:#?}");
        }
    }
    let events = hub.api().all("/facilities/clocks/tag-events");
    assert!(events.iter().all(|event| event["kind"] != "departed"), "{events:#?}");
    assert_eq!(hub.api().all("/quarantine?facility=clocks"), Vec::<serde_json::Value>::new());
}

#[test]
fn the_longest_epc_is_a_tag_and_an_empty_one_is_none() {
    let hub = hub();
    let reader = SimReader::serve(Config::default(), crowd(14, 3, 4, 60.0));
    let portals = Portals::open(&hub, "lengths");
    portals.add_looking("lengths-dock", "llrp-reader", &reader.url(), 4);
    until("the longest is believed beside the others", || {
        // Once is a stray read.
        reader.device().faults.empty_epc = true;
        reader.device().faults.long_epc = true;
        (portals.present().len() == 4).then_some(())
    });
    let lengths: BTreeSet<usize> =
        portals.present().iter().map(|tag| tag["tag"].as_str().unwrap().len()).collect();
    assert_eq!(lengths, BTreeSet::from([24, 124]), "in hexadecimal digits");
    let trouble = hub.api().all("/quarantine?facility=lengths");
    assert_eq!(trouble, Vec::<serde_json::Value>::new(), "the others of the message count");
}

#[test]
fn a_reader_begins_by_its_input_and_by_request_as_its_profile_says() {
    let hub = hub();
    let portals = Portals::open(&hub, "starts");
    portals.profile("by-input", "{antennas: [1, 2], power_dbm: 27.5, start: {gpi: 1}}");
    let door = reader(6);
    portals.add("starts-door", "by-input", &door.url());
    portals.is_up("starts-door");
    assert!(!door.device().is_listening());
    let spec = door.device().rospecs().remove(0);
    assert_eq!((spec.antennas, spec.is_set), (vec![1, 2], true));
    door.device().input(1, true);
    portals.reads_more("starts-door", 20);
    door.device().input(1, false);
    until("it no longer listens", || (!door.device().is_listening()).then_some(()));
    until("its events are told", || (portals.figure("starts-door", "events") >= 5).then_some(()));
    portals.profile("by-request", "{start: request, report_tags: 64, hold: false}");
    let asked = reader(7);
    portals.add("starts-asked", "by-request", &asked.url());
    portals.reads_more("starts-asked", 20);
    let lazy = reader(8);
    lazy.device().faults.lazy = true;
    portals.add("starts-lazy", "llrp-reader", &lazy.url());
    portals.reads_more("starts-lazy", 20);
    // A tag before an antenna that does not listen is not heard.
    let tag = Tag::of_bytes(&[7; 12]).unwrap();
    door.device().input(1, true);
    door.device().show(tag, 3, -5_000);
    door.device().show(tag, 1, -5_000);
    portals.reads_more("starts-door", 10);
    let heard = portals.tags("starts-door").into_iter().filter(|(epc, _)| epc == tag.bytes());
    assert_eq!(heard.count(), 1);
}

/// A program that ends with this.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_reader_over_tls_is_believed_under_its_name_only() {
    let Some(socat) = foreign("reader-tls", "socat") else { return };
    let dir = tempfile::tempdir().unwrap();
    let authority = pki::Authority::new("Readers");
    let leaf = authority.server("reader");
    let ca = pki::written(dir.path(), "ca.pem", &authority.pem);
    let certificate = pki::written(dir.path(), "reader.pem", &leaf.certificate);
    let key = pki::written(dir.path(), "reader-key.pem", &leaf.key);
    let hub = Hub::with(Setup::default().set("READERS__CA_FILE", ca.display()));
    let reader = reader(9);
    let port = free_port();
    let listen = format!(
        "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,verify=0,cert={},key={}",
        certificate.display(),
        key.display()
    );
    let tunnel = Command::new(socat)
        .args([&listen, &format!("TCP:{}", reader.address)])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _tunnel = Ends(tunnel);
    let portals = Portals::open(&hub, "tls");
    portals.add("tls-dock", "llrp-reader", &format!("llrps://localhost:{port}"));
    portals.is_up("tls-dock");
    portals.reads_more("tls-dock", 20);
    // The certificate does not name this address; nor is plain LLRP spoken there.
    portals.add("tls-other", "llrp-reader", &format!("llrps://127.0.0.1:{port}"));
    portals.fails("tls-other", "not valid for name");
    portals.add("tls-plain", "llrp-reader", &format!("llrp://127.0.0.1:{port}"));
    until("plain is not understood", || {
        let state = portals.state("tls-plain");
        (state["up"] == false && state["last_error"] != "").then_some(())
    });
    portals.reads_more("tls-dock", 10);
}

#[test]
fn readers_in_a_network_are_found_and_left_in_peace() {
    let hub = hub();
    let portals = Portals::open(&hub, "found");
    let ours = reader(10);
    portals.add("found-ours", "llrp-reader", &ours.url());
    portals.is_up("found-ours");
    let free = reader(11);
    let probe = |network: String| {
        let ran = hub.command(&["device", "probe", &network, "--json"]);
        let told: serde_json::Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
        (ran.code, told)
    };
    let (code, told) = probe(format!("llrp://127.0.0.1:{}/30", free.address.port()));
    assert_eq!((code, &told["asked"]), (0, &json!(2)), "{told:#}");
    // Everything of 127.0.0.0/8 is this machine, but the reader listens on one address.
    let found: Vec<_> = told["found"].as_array().unwrap().iter().collect();
    assert_eq!(found.len(), 1, "{told:#}");
    assert_eq!((&found[0]["is"], &found[0]["antennas"]), (&json!("reader"), &json!(4)));
    until("it is left", || (!free.device().is_connected()).then_some(()));
    assert!(free.device().rospecs().is_empty(), "nothing was changed");
    let (code, told) = probe(ours.url());
    assert_eq!((code, &told["found"][0]["is"]), (0, &json!("ours")), "{told:#}");
    let other = TcpStream::connect(free.address).unwrap();
    until("another client is in", || free.device().is_connected().then_some(()));
    let (_, told) = probe(free.url());
    assert_eq!(told["found"][0]["is"], "taken", "{told:#}");
    drop(other);
    let (code, told) = probe(format!("llrp://127.0.0.1:{}", free_port()));
    assert_eq!((code, &told["found"]), (1, &json!([])));
    assert!(told["why"].as_str().unwrap().contains("refused"), "{told:#}");
    let refused = hub.command(&["device", "probe", "llrp://10.0.0.0/8"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("22 to 32 bits"), "{}", refused.err);
}

#[test]
fn readers_that_cannot_be_are_refused_with_the_reason_and_figures_are_told() {
    let hub = hub();
    let api = hub.api();
    let portals = Portals::open(&hub, "rules");
    let reader = reader(12);
    portals.add("rules-dock", "llrp-reader", &reader.url());
    portals.is_up("rules-dock");
    let devices =
        json!([{ "facility": "rules", "id": "rules-json", "name": "x", "profile": "default" }]);
    api.post("/import", &json!({ "devices": devices })).good();
    let place = |device: &str, unit: u8| {
        let body = json!({ "bus": "rules-dock", "unit": unit });
        let answer = api.put(&format!("/devices/{device}/bus"), &body);
        (answer.status, answer.code().to_owned())
    };
    assert_eq!(place("rules-json", 1), (409, "not_llrp".into()));
    assert_eq!(place("rules-dock", 2), (422, "invalid".into()));
    let bus = json!({ "id": "x", "facility": "rules", "address": "llrp://h:99999" });
    assert_eq!(api.post("/buses", &bus).status, 422);
    let told = api.post("/devices/rules-dock/commands/tare", &json!({}));
    assert_eq!((told.status, told.code()), (409, "no_commands"));
    let label = "{bus=\"rules-dock\",device=\"rules-dock\"}";
    assert_eq!(api.metric(&format!("stockfold_reader_up{label}")), 1.0);
    until("signs of life are counted", || {
        (api.metric(&format!("stockfold_reader_keepalives_total{label}")) >= 2.0).then_some(())
    });
    // A device that is revoked says nothing any more, and its reader is none of the hub's faults.
    assert!(api.post("/devices/rules-dock/revoke", &json!({})).status < 300);
    until("its messages are refused", || {
        (portals.figure("rules-dock", "refused") > 0).then_some(())
    });
    assert_eq!(api.delete("/devices/rules-dock/bus").status, 204);
    until("the hub has said good-bye", || (!reader.device().is_connected()).then_some(()));
}
