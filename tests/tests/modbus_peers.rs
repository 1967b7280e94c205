//! Modbus with peers of another hand: mbpoll as a master judges the simulator's slaves, libmodbus as a slave judges the hub's
//! bus, and a second master shares the hub's gateway.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use serde_json::Value;
use simulator::modbus::{self, Bank, Faults, Framing, Line, Make, Scale};
use stockfold_tests::{
    Log, Ran, SerialLine, Shelves, Slaves, WAIT_MAX, foreign, hub, laumas, python, until,
};

/// What every scale of the simulator shows here.
const SHOWN: Scale = Scale { mg: 1_234_000, stable: true, overload: false, broken: false };

/// What the makers' manuals say of that: make, first register of a value (address on the wire), mbpoll's type, its text.
const MANUALS: [(Make, u16, &str, &str); 17] = [
    (Make::LaumasTlb, 7, "4:int", "1234"),
    (Make::LaumasTlb, 9, "4:int", "1234"),
    (Make::LaumasTlb, 6, "4:hex", "0x0800"),
    (Make::DiniArgeoDgt4x, 202, "4:int", "1234"),
    (Make::DiniArgeoDgt4x, 211, "4:int", "1234"),
    (Make::DiniArgeoDgt4x, 210, "4:hex", "0x0002"),
    (Make::SenecaZSg, 63, "4:float", "1234"),
    (Make::SenecaZSg, 77, "4:hex", "0x0010"),
    (Make::FlintecFt112, 0, "4:int", "1234"),
    // Three decimals, stable: the three lowest of the bits 27 to 31 say 3.
    (Make::FlintecFt112, 6, "4:int", "402653184"),
    (Make::FlintecFt112, 8, "4:int", "0"),
    (Make::BaykonMx08, 0, "4:int", "1234"),
    (Make::BaykonMx08, 2, "4:hex", "0x0002"),
    (Make::TunaId551pn, 0, "4:float", "1.234"),
    (Make::TunaId551pn, 4, "4:hex", "0x8000"),
    (Make::EagleEi4000, 0x1006, "4:float", "1234"),
    (Make::EagleEi4000, 0x2000, "4:float", "1.234"),
];

fn unit_of(make: Make) -> u8 {
    let at = Make::ALL.iter().position(|one| *one == make).unwrap();
    u8::try_from(at + 1).unwrap()
}

/// Every make, units 1 to 7, showing [`SHOWN`]; unit 9 is still starting up.
fn line() -> Line {
    let mut banks = BTreeMap::new();
    for make in Make::ALL {
        let mut bank = Bank::new(make, Faults::none());
        bank.scales.fill(Some(SHOWN));
        banks.insert(unit_of(make), bank);
    }
    banks.insert(9, Bank::new(Make::LaumasTlb, Faults::none()));
    Arc::new(Mutex::new(banks))
}

/// Serves a line by TCP to so many clients for as long as this process lives; returns the port.
fn serve(clients: usize, line: Line) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let _served = modbus::serve_at_most(clients, listener, Framing::Tcp, line).unwrap();
            std::future::pending::<()>().await;
        });
    });
    port
}

/// A foreign master.
struct Mbpoll {
    program: PathBuf,
    /// Its options that say where the slaves are.
    place: Vec<String>,
    target: String,
}

impl Mbpoll {
    fn tcp(program: &Path, port: u16) -> Self {
        let place = ["-m", "tcp", "-p", &port.to_string()].map(str::to_owned).to_vec();
        Self { program: program.to_owned(), place, target: "127.0.0.1".into() }
    }

    fn serial(program: &Path, path: &Path) -> Self {
        let place = ["-m", "rtu", "-b", "19200", "-P", "none"].map(str::to_owned).to_vec();
        Self { program: program.to_owned(), place, target: path.display().to_string() }
    }

    /// Wire addresses, high word first.
    fn command(&self, unit: u8, at: u16, kind: &str, options: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.place).args(["-0", "-B", "-t", kind]);
        command.args(["-a", &unit.to_string(), "-r", &at.to_string()]).args(options);
        command.arg(&self.target);
        command
    }

    fn read(&self, unit: u8, at: u16, kind: &str, count: u16) -> Ran {
        Ran::of(&mut self.command(unit, at, kind, &["-1", "-c", &count.to_string()]))
    }

    /// The values read, as it writes them.
    fn values(&self, unit: u8, at: u16, kind: &str, count: u16) -> Vec<String> {
        let ran = self.read(unit, at, kind, count).good();
        ran.out.lines().filter_map(value).map(str::to_owned).collect()
    }

    /// Reads on and on until this is dropped, on one connection.
    fn reading(&self, unit: u8, at: u16, count: u16) -> Reading {
        let options = ["-l", "20", "-o", "5", "-c", &count.to_string()];
        // Without a terminal its output would come in large pieces.
        let mut command = Command::new("stdbuf");
        let wanted = self.command(unit, at, "4:hex", &options);
        command.arg("-oL").arg(wanted.get_program()).args(wanted.get_args());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let reading = Reading { child, log };
        reading.reads_on();
        reading
    }
}

/// The value of a line of mbpoll's such as `[6]: \t0x0800`.
fn value(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.split_once("]:").map(|(_, value)| value.trim())
}

/// mbpoll at work.
struct Reading {
    child: Child,
    log: Log,
}

impl Reading {
    /// Waits until it has read once more.
    fn reads_on(&self) {
        let read = self.log.wait_for(self.log.len(), WAIT_MAX, |line| value(line).is_some());
        assert!(read.is_some(), "mbpoll reads nothing: {}", self.log.text(0));
    }

    /// Ends it; every value it read.
    fn end(mut self) -> Vec<String> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.log.text(0).lines().filter_map(value).map(str::to_owned).collect()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// mbpoll finds at every make what its manual says, and is refused what the make does not give.
fn judge(mbpoll: &Mbpoll) {
    for (make, at, kind, text) in MANUALS {
        assert_eq!(mbpoll.values(unit_of(make), at, kind, 1), [text], "{make:?} {at}");
    }
    let refused = |unit, at, count, why: &str| {
        let ran = mbpoll.read(unit, at, "4", count);
        assert!(ran.err.contains(why), "{}{}", ran.out, ran.err);
    };
    refused(unit_of(Make::LaumasTlb), 0, 33, "Illegal data value");
    refused(unit_of(Make::LaumasTlb), 0x2100, 1, "Illegal data address");
    refused(9, 6, 1, "Slave device or server is busy");
    refused(8, 6, 1, "timed out");
    assert!(mbpoll.read(1, 6, "1", 1).err.contains("Illegal function"));
    // Function 16 for two registers, 6 for one; what was written is there.
    for (at, words) in [(24, ["0", "2"].as_slice()), (40, &["5"])] {
        let mut write = mbpoll.command(unit_of(Make::FlintecFt112), at, "4", &[]);
        Ran::of(write.args(words)).good();
        let count = u16::try_from(words.len()).unwrap();
        assert_eq!(mbpoll.values(unit_of(Make::FlintecFt112), at, "4", count), words);
    }
}

#[test]
fn mbpoll_finds_the_simulated_makes_over_tcp_as_their_manuals_say() {
    let Some(mbpoll) = foreign("mbpoll-tcp", "mbpoll") else { return };
    judge(&Mbpoll::tcp(&mbpoll, serve(4, line())));
}

#[test]
fn mbpoll_finds_the_simulated_makes_on_a_serial_line_as_their_manuals_say() {
    let Some(mbpoll) = foreign("mbpoll-serial", "mbpoll") else { return };
    let path = modbus::serve_pty(19_200, line(), Arc::new(AtomicBool::new(true))).unwrap();
    judge(&Mbpoll::serial(&mbpoll, Path::new(&path)));
}

/// Seneca's float at register 63, high word first, and stable at 77.
fn seneca(slaves: &mut Slaves, unit: u8, grams: f32) {
    let bits = grams.to_bits();
    slaves.hold(unit, 63, &[(bits >> 16) as u16, bits as u16]);
    slaves.hold(unit, 77, &[0x0010]);
}

#[test]
fn libmodbus_over_tcp_is_read_right_with_its_exceptions() {
    let Some(python) = python("libmodbus-tcp") else { return };
    let hub = hub();
    let mut slaves = Slaves::libmodbus(&python, "tcp", "0", &[1, 2, 3]);
    let shelves = Shelves::open(&hub, "libmodbus");
    let devices =
        [("lib-laumas", "laumas-tlb"), ("lib-seneca", "seneca-z-sg"), ("lib-nobody", "laumas-tlb")];
    for (device, profile) in devices {
        shelves.enrol(device, profile, &["0"]);
    }
    // Its registers begin at 201, and libmodbus has fewer.
    shelves.enrol("lib-dini", "dini-argeo-dgt4x", &["1"]);
    slaves.hold(1, 6, &laumas(7));
    seneca(&mut slaves, 2, 401.5);
    shelves.bus("libmodbus", &format!("tcp://127.0.0.1:{}", slaves.port()));
    for (device, unit) in [("lib-laumas", 1), ("lib-seneca", 2), ("lib-dini", 3), ("lib-nobody", 4)]
    {
        shelves.place(device, "libmodbus", unit);
    }
    shelves.shows("lib-laumas-0", 7);
    shelves.shows("lib-seneca-0", 4);
    for (device, why) in
        [("lib-dini", "illegal data address"), ("lib-nobody", "gateway: no answer from the device")]
    {
        until(&format!("{device} is set aside with the reason"), || {
            let unit = shelves.unit("libmodbus", device);
            (unit["aside"] == true && text(&unit["last_error"]).contains(why)).then_some(())
        });
    }
    // A device that is busy for a while: told, and nothing is booked of it.
    slaves.except(1, Some(6));
    until("it is told as busy", || {
        let unit = shelves.unit("libmodbus", "lib-laumas");
        (unit["aside"] == true && text(&unit["last_error"]).contains("busy")).then_some(())
    });
    slaves.hold(1, 6, &laumas(2));
    slaves.except(1, None);
    shelves.shows("lib-laumas-0", 2);
    for device in ["lib-laumas", "lib-seneca"] {
        let unit = shelves.unit("libmodbus", device);
        assert_eq!((&unit["garbled"], &unit["timeouts"]), (&0.into(), &0.into()), "{unit:#}");
    }
    let wanted = [("lib-laumas-0", 7), ("lib-seneca-0", 4), ("lib-laumas-0", -5)];
    let mut moved = shelves.movements();
    moved[..2].sort();
    assert_eq!(moved, wanted.map(|(slot, delta)| (slot.to_owned(), delta)));
}

#[test]
fn libmodbus_on_a_serial_line_is_read_right_beside_an_address_nobody_has() {
    let Some(python) = python("libmodbus-serial") else { return };
    let Some(socat) = foreign("libmodbus-serial", "socat") else { return };
    let hub = hub();
    let line = SerialLine::open(&socat);
    let mut slaves =
        Slaves::libmodbus(&python, "serial", line.end("slave").to_str().unwrap(), &[5]);
    let shelves = Shelves::open(&hub, "liberty");
    for device in ["rtu-here", "rtu-nobody"] {
        shelves.enrol(device, "laumas-tlb", &["0"]);
    }
    slaves.hold(5, 6, &laumas(3));
    shelves.bus("liberty", &format!("rtu://{}?baud=19200", line.end("master").display()));
    shelves.place("rtu-here", "liberty", 5);
    shelves.place("rtu-nobody", "liberty", 6);
    shelves.shows("rtu-here-0", 3);
    // libmodbus itself passes over what is addressed to another.
    until("the address nobody has is set aside", || {
        (shelves.unit("liberty", "rtu-nobody")["aside"] == true).then_some(())
    });
    let nobody = shelves.unit("liberty", "rtu-nobody");
    assert_eq!((&nobody["polls"], &nobody["exceptions"]), (&0.into(), &0.into()), "{nobody:#}");
    slaves.except(5, Some(4));
    until("the device's failure is told", || {
        let unit = shelves.unit("liberty", "rtu-here");
        (unit["ok"] == false && text(&unit["last_error"]).contains("device failure")).then_some(())
    });
    slaves.hold(5, 6, &laumas(8));
    slaves.except(5, None);
    shelves.shows("rtu-here-0", 8);
    assert_eq!(shelves.unit("liberty", "rtu-here")["garbled"], 0);
    assert_eq!(
        shelves.movements(),
        [3, 5].map(|delta| ("rtu-here-0".to_owned(), delta)),
        "what one answers is not booked for the other"
    );
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn a_second_master_on_the_gateway_gets_its_own_answers_and_the_hub_the_hub_s() {
    let Some(python) = python("two-masters") else { return };
    let Some(mbpoll) = foreign("two-masters", "mbpoll") else { return };
    let hub = hub();
    let mut slaves = Slaves::start(&python, "tcp", "0", &[1, 2]);
    let shelves = Shelves::open(&hub, "shared");
    for (device, unit, units) in [("shared-a", 1, 5), ("shared-b", 2, 9)] {
        shelves.enrol(device, "laumas-tlb", &["0"]);
        slaves.hold(unit, 6, &laumas(units));
        // What the other master reads has the shape of what the hub reads: stable, and another weight.
        slaves.hold(unit, 100, &[0x0800, 0, 7_700]);
        slaves.pause(unit, 40);
    }
    let other = Mbpoll::tcp(&mbpoll, slaves.port()).reading(1, 100, 3);
    shelves.bus("shared", &format!("tcp://127.0.0.1:{}", slaves.port()));
    shelves.place("shared-a", "shared", 1);
    shelves.place("shared-b", "shared", 2);
    shelves.shows("shared-a-0", 5);
    shelves.shows("shared-b-0", 9);
    // Later than the hub waits: it gives up, connects anew, and takes no late answer for another's.
    slaves.pause(1, 450);
    until("answers are too late for the hub", || {
        (shelves.unit("shared", "shared-a")["timeouts"].as_u64() > Some(3)).then_some(())
    });
    other.reads_on();
    slaves.hold(1, 6, &laumas(4));
    slaves.pause(1, 40);
    shelves.shows("shared-a-0", 4);
    slaves.hold(2, 6, &laumas(6));
    shelves.shows("shared-b-0", 6);
    other.reads_on();
    let read = other.end();
    assert!(
        read.iter().all(|value| ["0x0800", "0x0000", "0x1E14"].contains(&&**value)),
        "{read:?}"
    );
    let mut moved = shelves.movements();
    moved.sort();
    let wanted = [("shared-a-0", -1), ("shared-a-0", 5), ("shared-b-0", -3), ("shared-b-0", 9)];
    assert_eq!(moved, wanted.map(|(slot, delta)| (slot.to_owned(), delta)));
}

#[test]
fn a_gateway_with_one_place_says_so_in_the_bus_s_health() {
    let Some(mbpoll) = foreign("one-place", "mbpoll") else { return };
    let hub = hub();
    let mut bank = Bank::new(Make::LaumasTlb, Faults::none());
    bank.scales.fill(Some(Scale { mg: 1_200_000, ..SHOWN }));
    let port = serve(1, Arc::new(Mutex::new(BTreeMap::from([(1, bank)]))));
    let shelves = Shelves::open(&hub, "lonely");
    shelves.enrol("lonely-laumas", "laumas-tlb", &["0"]);
    let other = Mbpoll::tcp(&mbpoll, port).reading(1, 6, 3);
    shelves.bus("lonely", &format!("tcp://127.0.0.1:{port}"));
    shelves.place("lonely-laumas", "lonely", 1);
    // A serial server with no place at all shows the same, before anything is asked.
    let full = serve(0, Line::default());
    shelves.bus("lonely-line", &format!("rtu+tcp://127.0.0.1:{full}"));
    for id in ["lonely", "lonely-line"] {
        until(&format!("{id} says that another is connected"), || {
            let bus = hub.api().get(&format!("/buses/{id}")).good();
            let why = "one client at a time, and another is connected?";
            (bus["up"] == false && text(&bus["last_error"]).contains(why)).then_some(())
        });
    }
    other.reads_on();
    assert!(shelves.movements().is_empty());
    other.end();
    shelves.shows("lonely-laumas-0", 12);
}

#[test]
fn a_gateway_that_lets_the_second_client_wait_is_told_as_silent() {
    let Some(python) = python("one-at-a-time") else { return };
    let Some(mbpoll) = foreign("one-at-a-time", "mbpoll") else { return };
    let hub = hub();
    let mut slaves = Slaves::libmodbus(&python, "tcp", "0", &[1]);
    slaves.hold(1, 6, &laumas(6));
    let shelves = Shelves::open(&hub, "waiting");
    shelves.enrol("waiting-laumas", "laumas-tlb", &["0"]);
    let other = Mbpoll::tcp(&mbpoll, slaves.port()).reading(1, 6, 3);
    shelves.bus("waiting", &format!("tcp://127.0.0.1:{}", slaves.port()));
    shelves.place("waiting-laumas", "waiting", 1);
    until("it is told as silent", || {
        let unit = shelves.unit("waiting", "waiting-laumas");
        (text(&unit["last_error"]).contains("no answer within")).then_some(())
    });
    other.end();
    shelves.shows("waiting-laumas-0", 6);
}
