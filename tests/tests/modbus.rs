//! Shelves on Modbus: pymodbus as the transmitters, the real hub as the master, over TCP, RTU over TCP and a serial line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use serde_json::json;
use stockfold_tests::{SerialLine, Shelves, Slaves, foreign, hub, laumas, python, until};

#[test]
fn transmitters_of_three_makes_on_one_gateway_are_counted() {
    let Some(python) = python("modbus-tcp") else { return };
    let hub = hub();
    let mut slaves = Slaves::start(&python, "tcp", "0", &[1, 2, 3]);
    let shelves = Shelves::open(&hub, "makes");
    shelves.enrol("makes-laumas", "laumas-tlb", &["0"]);
    shelves.enrol("makes-flintec", "flintec-ft-112", &["0"]);
    shelves.enrol("makes-dini", "dini-argeo-dgt4x", &["1", "2", "3", "4"]);
    slaves.hold(1, 6, &laumas(7));
    // 12 units = 1.200 kg with three decimals.
    slaves.hold(2, 4, &[0, 1_200, 0x1800, 0]);
    slaves.beat(2, Some(11));
    for (k, units) in [(0, 3u16), (1, 0), (2, 25), (3, 1)] {
        slaves.hold(3, 201 + 3 * k, &[0b10, 0, units * 100]);
    }
    shelves.bus("makes", &format!("tcp://127.0.0.1:{}", slaves.port()));
    for (device, unit) in [("makes-laumas", 1), ("makes-flintec", 2), ("makes-dini", 3)] {
        shelves.place(device, "makes", unit);
    }
    shelves.shows("makes-laumas-0", 7);
    shelves.shows("makes-flintec-0", 12);
    for (channel, units) in [("1", 3), ("3", 25), ("4", 1)] {
        shelves.shows(&format!("makes-dini-{channel}"), units);
    }
    // Five are taken: moving, then at rest.
    slaves.hold(1, 6, &[0, 0, 350]);
    slaves.hold(1, 6, &laumas(2));
    shelves.shows("makes-laumas-0", 2);
    // An overload is told and counts nothing; when it is over the count is right again.
    slaves.hold(3, 201, &[0b1000, 0, 60_000]);
    until("the overload is told", || shelves.open_discrepancy("cell_fault").then_some(()));
    assert_eq!(shelves.quantity("makes-dini-1"), Some(3));
    slaves.hold(3, 201, &[0b10, 0, 400]);
    shelves.shows("makes-dini-1", 4);
    until("the overload is over", || (!shelves.open_discrepancy("cell_fault")).then_some(()));
    hub.replays_equal();
}

#[test]
fn a_movement_explains_itself_down_to_the_registers() {
    let Some(python) = python("modbus-explain") else { return };
    let hub = hub();
    let mut slaves = Slaves::start(&python, "tcp", "0", &[1]);
    let shelves = Shelves::open(&hub, "registers");
    shelves.enrol("registers-laumas", "laumas-tlb", &["0"]);
    slaves.hold(1, 6, &laumas(5));
    shelves.bus("registers", &format!("tcp://127.0.0.1:{}", slaves.port()));
    shelves.place("registers-laumas", "registers", 1);
    shelves.shows("registers-laumas-0", 5);
    let movements = hub.api().all("/movements?facility=registers");
    let id = movements[0]["id"].as_str().unwrap();
    let why = hub.api().get(&format!("/movements/{id}/explain")).good();
    let text = why.to_string();
    // The image: function 3, three registers from 6 on, status 0x0800, 500 g.
    let raw = "0103000600030800000001f4";
    assert!(text.contains(raw), "no {raw} in {why:#}");
}

#[test]
fn a_frozen_transmitter_is_not_believed_and_a_command_is_verified_by_the_peer() {
    let Some(python) = python("modbus-frozen") else { return };
    let hub = hub();
    let mut slaves = Slaves::start(&python, "tcp", "0", &[2]);
    let shelves = Shelves::open(&hub, "frozen");
    shelves.enrol("frozen-flintec", "flintec-ft-112", &["0"]);
    slaves.hold(2, 4, &[0, 1_200, 0x1800, 0]);
    slaves.beat(2, Some(11));
    shelves.bus("frozen", &format!("tcp://127.0.0.1:{}", slaves.port()));
    shelves.place("frozen-flintec", "frozen", 2);
    shelves.shows("frozen-flintec-0", 12);
    slaves.beat(2, None);
    until("it is told as frozen", || {
        (shelves.unit("frozen", "frozen-flintec")["frozen"] == true).then_some(())
    });
    slaves.beat(2, Some(11));
    until("it measures again", || {
        (shelves.unit("frozen", "frozen-flintec")["ok"] == true).then_some(())
    });
    let metrics = hub.api().get_any("/metrics").body;
    let metrics = metrics.as_str().unwrap();
    for line in [
        "stockfold_bus_up{bus=\"frozen\"} 1",
        "stockfold_unit_well{bus=\"frozen\",device=\"frozen-flintec\"} 1",
    ] {
        assert!(metrics.contains(line), "no {line}");
    }
    let done = hub.api().post("/devices/frozen-flintec/commands/tare", &json!({}));
    assert_eq!(done.status, 204, "{:#}", done.body);
    slaves.was_written(2, 24, &[0, 2]);
    let read = hub.api().post("/devices/frozen-flintec/read/weight", &json!({})).good();
    assert!(read["image"].as_str().unwrap().starts_with("0103"), "{read:#}");
    assert_eq!(hub.api().post("/devices/frozen-flintec/commands/fly", &json!({})).status, 404);
}

#[test]
fn rtu_over_tcp_and_a_power_cycle() {
    let Some(python) = python("modbus-rtu-tcp") else { return };
    let hub = hub();
    let mut slaves = Slaves::start(&python, "rtu+tcp", "0", &[7]);
    let port = slaves.port();
    let shelves = Shelves::open(&hub, "gateway");
    shelves.enrol("gateway-laumas", "laumas-tlb", &["0"]);
    slaves.hold(7, 6, &laumas(4));
    shelves.bus("gateway", &format!("rtu+tcp://127.0.0.1:{port}"));
    shelves.place("gateway-laumas", "gateway", 7);
    shelves.shows("gateway-laumas-0", 4);
    drop(slaves);
    until("the bus is told as down", || {
        (hub.api().get("/buses/gateway").good()["up"] == false).then_some(())
    });
    let mut slaves = Slaves::start(&python, "rtu+tcp", &port.to_string(), &[7]);
    slaves.hold(7, 6, &laumas(9));
    shelves.shows("gateway-laumas-0", 9);
}

#[test]
fn several_units_on_a_serial_line_one_of_them_dead_and_a_port_that_vanishes() {
    let Some(python) = python("modbus-serial") else { return };
    let Some(socat) = foreign("modbus-serial", "socat") else { return };
    let hub = hub();
    let mut line = SerialLine::open(&socat);
    let slave = line.end("slave");
    let mut slaves = Slaves::start(&python, "serial", slave.to_str().unwrap(), &[1, 2]);
    let shelves = Shelves::open(&hub, "line");
    for (device, unit, units) in [("line-a", 1, 3), ("line-b", 2, 8)] {
        shelves.enrol(device, "laumas-tlb", &["0"]);
        slaves.hold(unit, 6, &laumas(units));
    }
    shelves.enrol("line-dead", "laumas-tlb", &["0"]);
    shelves.bus("line", &format!("rtu://{}?baud=19200", line.end("master").display()));
    for (device, unit) in [("line-a", 1), ("line-b", 2), ("line-dead", 9)] {
        shelves.place(device, "line", unit);
    }
    shelves.shows("line-a-0", 3);
    shelves.shows("line-b-0", 8);
    // For a unit it has not pymodbus answers "device failure", as a gateway would.
    until("the dead unit is set aside", || {
        let dead = shelves.unit("line", "line-dead");
        (dead["aside"] == true && dead["ok"] == false).then_some(())
    });
    slaves.hold(2, 6, &laumas(6));
    shelves.shows("line-b-0", 6);
    assert_eq!(shelves.unit("line", "line-a")["garbled"], 0);
    // The port vanishes, and comes back under the same path.
    drop(slaves);
    line.pull();
    until("the line is told as down", || {
        (hub.api().get("/buses/line").good()["up"] == false).then_some(())
    });
    line.plug();
    let mut slaves = Slaves::start(&python, "serial", slave.to_str().unwrap(), &[1, 2]);
    for (unit, units) in [(1, 3), (2, 2)] {
        slaves.hold(unit, 6, &laumas(units));
    }
    shelves.shows("line-b-0", 2);
    assert_eq!(shelves.quantity("line-a-0"), Some(3));
}

#[test]
fn calls_that_cannot_be_are_refused_with_the_reason() {
    let hub = hub();
    let shelves = Shelves::open(&hub, "wrong");
    shelves.enrol("wrong-laumas", "laumas-tlb", &["0"]);
    shelves.bus("wrong", "tcp://127.0.0.1:9");
    shelves.place("wrong-laumas", "wrong", 1);
    let api = hub.api();
    let bus = |id: &str, facility: &str, address: &str| {
        let answer =
            api.post("/buses", &json!({ "id": id, "facility": facility, "address": address }));
        (answer.status, answer.code().to_owned())
    };
    assert_eq!(bus("x", "wrong", "tcp://127.0.0.1:9"), (409, "bus_exists".into()));
    assert_eq!(bus("wrong", "wrong", "tcp://127.0.0.1:10"), (409, "bus_exists".into()));
    assert_eq!(bus("x", "nowhere", "tcp://127.0.0.1:10"), (404, "not_found".into()));
    assert_eq!(bus("x", "wrong", "udp://127.0.0.1"), (422, "invalid".into()));
    assert_eq!(bus("..", "wrong", "tcp://127.0.0.1:10"), (422, "invalid".into()));
    let place = |device: &str, bus: &str, unit: u16| {
        let answer =
            api.put(&format!("/devices/{device}/bus"), &json!({ "bus": bus, "unit": unit }));
        (answer.status, answer.code().to_owned())
    };
    shelves.enrol("wrong-other", "laumas-tlb", &["0"]);
    assert_eq!(place("wrong-other", "wrong", 1), (409, "unit_taken".into()));
    assert_eq!(place("wrong-other", "nowhere", 2), (404, "not_found".into()));
    assert_eq!(place("nobody", "wrong", 2), (404, "not_found".into()));
    assert_eq!(place("wrong-other", "wrong", 300).0, 422);
    let read = api.post("/devices/wrong-laumas/read/weight", &json!({}));
    assert_eq!((read.status, read.code()), (502, "device_failed"), "{:#}", read.body);
    let read = api.post("/devices/wrong-other/read/weight", &json!({}));
    assert_eq!((read.status, read.code()), (409, "not_on_a_bus"));
    assert_eq!(api.delete("/devices/wrong-laumas/bus").status, 204);
    assert_eq!(api.delete("/buses/wrong").status, 204);
    assert_eq!(api.delete("/buses/wrong").status, 404);
}
