//! Servers: a bus's units behind a TCP port or a pseudo-terminal, at the speed of the line.
//!
//! An RTU line is half-duplex and has no buffer: a request takes its characters' time to arrive, the device its turnaround,
//! the answer its characters' time, and meanwhile nobody else is heard. With a baud rate this is paced in real time.

use crate::clock::WallClock;
use crate::modbus::{
    bank::Bank,
    fault::Fault,
    pdu::{self, Ask},
};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// A device's time from the end of a request to the beginning of its answer, ms.
pub const TURNAROUND_MS: u64 = 5;
/// Connections a bus takes at once, unless said otherwise; small gateways take no more.
pub const CONNECTIONS_MAX: usize = 4;

/// The units of a bus, by address.
pub type Line = Arc<Mutex<BTreeMap<u8, Bank>>>;

/// How requests are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Modbus TCP.
    Tcp,
    /// RTU, paced by this baud rate; 0 = as fast as it goes.
    Rtu {
        /// Bits a second.
        baud: u32,
    },
}

impl Framing {
    /// How long so many characters of ten bits (8N1) take.
    fn characters(self, n: usize) -> Duration {
        match self {
            Self::Tcp | Self::Rtu { baud: 0 } => Duration::ZERO,
            Self::Rtu { baud } => Duration::from_micros(n as u64 * 10_000_000 / u64::from(baud)),
        }
    }
    fn turnaround(self) -> Duration {
        match self {
            Self::Tcp | Self::Rtu { baud: 0 } => Duration::ZERO,
            Self::Rtu { .. } => Duration::from_millis(TURNAROUND_MS),
        }
    }
}

/// A served bus; it ends with this.
#[derive(Debug)]
pub struct Served {
    /// Where it listens; for a pseudo-terminal see [`serve_pty`].
    pub address: SocketAddr,
    /// Requests answered.
    pub requests: Arc<AtomicU64>,
    /// Off, it drops every connection and takes none; whoever knocks waits in vain, also when it is on again.
    pub powered: Arc<AtomicBool>,
    /// On, it keeps every connection and answers nothing: a cable that is pulled.
    pub silent: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves a bus to [`CONNECTIONS_MAX`] clients on a port that was bound before. Needs a runtime.
///
/// # Errors
/// The port cannot be used.
pub fn serve(listener: std::net::TcpListener, framing: Framing, line: Line) -> io::Result<Served> {
    serve_at_most(CONNECTIONS_MAX, listener, framing, line)
}

/// Serves a bus to so many clients; whoever comes beyond them is accepted and closed at once.
///
/// # Errors
/// The port cannot be used.
pub fn serve_at_most(
    clients: usize,
    listener: std::net::TcpListener,
    framing: Framing,
    line: Line,
) -> io::Result<Served> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let (requests, powered) = (Arc::<AtomicU64>::default(), Arc::new(AtomicBool::new(true)));
    let silent = Arc::<AtomicBool>::default();
    let (counted, on, quiet) = (Arc::clone(&requests), Arc::clone(&powered), Arc::clone(&silent));
    let task = tokio::spawn(async move {
        let born = Instant::now();
        // One line behind all connections: nobody is heard while another is served.
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        let places = Arc::new(tokio::sync::Semaphore::new(clients));
        loop {
            let listens = !quiet.load(Relaxed);
            let accepted = tokio::select! {
                accepted = listener.accept(), if listens => accepted,
                () = tokio::time::sleep(LOOK), if !listens => continue,
                () = off(&on) => {
                    until_on(&on).await;
                    let knock = Duration::from_millis(1);
                    while tokio::time::timeout(knock, listener.accept()).await.is_ok() {}
                    continue;
                }
            };
            let Ok((stream, _)) = accepted else { continue };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            let session = Session {
                framing,
                line: Arc::clone(&line),
                turn: Arc::clone(&turn),
                requests: Arc::clone(&counted),
                powered: Arc::clone(&on),
                silent: Arc::clone(&quiet),
                born,
            };
            tokio::spawn(async move {
                let _place = place;
                // A connection that breaks is the client's to make anew.
                let _ = session.run(stream).await;
            });
        }
    });
    Ok(Served { address, requests, powered, silent, task })
}

struct Session {
    framing: Framing,
    line: Line,
    turn: Arc<tokio::sync::Mutex<()>>,
    requests: Arc<AtomicU64>,
    powered: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
    born: Instant,
}

impl Session {
    async fn run(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(300);
        loop {
            while let Some((header, unit, asked)) = self.take(&mut bytes) {
                if self.silent.load(Relaxed) {
                    continue;
                }
                let _turn = self.turn.lock().await;
                // The request has arrived when its last character has.
                tokio::time::sleep(self.framing.characters(asked.len() + 3)).await;
                let ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
                let Some((pause, frame)) =
                    reply(&self.line, self.framing, header, unit, &asked, ms)
                else {
                    continue;
                };
                tokio::time::sleep(
                    pause + self.framing.turnaround() + self.framing.characters(frame.len()),
                )
                .await;
                if !self.powered.load(Relaxed) {
                    return Ok(());
                }
                stream.write_all(&frame).await?;
                self.requests.fetch_add(1, Relaxed);
            }
            tokio::select! {
                read = stream.read_buf(&mut bytes) => if read? == 0 { return Ok(()) },
                () = off(&self.powered) => return Ok(()),
            }
        }
    }

    /// The next whole request: its TCP header, unit and protocol data unit.
    fn take(&self, bytes: &mut Vec<u8>) -> Option<([u8; 4], u8, Vec<u8>)> {
        match self.framing {
            Framing::Rtu { .. } => pdu::take_rtu(bytes).map(|(unit, asked)| ([0; 4], unit, asked)),
            Framing::Tcp => {
                let head = bytes.get(..pdu::TCP_HEADER_BYTES)?;
                let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
                let whole = 6 + length;
                if !(2..=pdu::PDU_BYTES_MAX + 1).contains(&length) {
                    bytes.clear();
                    return None;
                }
                if bytes.len() < whole {
                    return None;
                }
                let frame: Vec<u8> = bytes.drain(..whole).collect();
                let header = [frame[0], frame[1], frame[2], frame[3]];
                Some((header, frame[6], frame[7..].to_vec()))
            }
        }
    }
}

/// Between two looks at the switch.
const LOOK: Duration = Duration::from_millis(20);

async fn off(powered: &AtomicBool) {
    while powered.load(Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}

async fn until_on(powered: &AtomicBool) {
    while !powered.load(Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}

/// The frame that answers, and a pause before it; `None` for silence.
fn reply(
    line: &Line,
    framing: Framing,
    header: [u8; 4],
    unit: u8,
    asked: &[u8],
    ms: u64,
) -> Option<(Duration, Vec<u8>)> {
    let mut units = line.lock().unwrap_or_else(PoisonError::into_inner);
    let bank = units.get_mut(&unit)?;
    let (answer, fault) = bank.answer(&Ask::parse(asked), ms);
    let mut pdu = answer.encode(asked);
    let mut pause = Duration::ZERO;
    let mut speaker = unit;
    match fault {
        None | Some(Fault::Exception | Fault::Stuck) => {}
        Some(Fault::Silence) => return None,
        Some(Fault::Late) => pause = Duration::from_millis(bank.faults.late_ms().into()),
        Some(Fault::Foreign) => speaker = unit.wrapping_add(1),
        Some(fault @ (Fault::Short | Fault::Long)) => {
            if let crate::modbus::pdu::Answer::Words(mut words) = answer {
                if fault == Fault::Short {
                    words.pop();
                } else {
                    words.push(0xBAD0);
                }
                pdu = crate::modbus::pdu::Answer::Words(words).encode(asked);
            }
        }
        Some(Fault::Corrupt) => {}
    }
    let mut frame = match framing {
        Framing::Rtu { .. } => pdu::rtu(speaker, &pdu),
        Framing::Tcp => {
            let mut out = header.to_vec();
            out.extend_from_slice(&((pdu.len() + 1) as u16).to_be_bytes());
            out.push(speaker);
            out.extend_from_slice(&pdu);
            out
        }
    };
    if fault == Some(Fault::Corrupt) {
        // TCP has its own checksum: there only what the frame says of itself can be wrong.
        let at = if framing == Framing::Tcp { 0 } else { frame.len() / 2 };
        frame[at] ^= 0x55;
    }
    Some((pause, frame))
}

/// Serves a bus on a pseudo-terminal, paced by `baud`. Returns the path of the line's other end; the thread ends when it is
/// closed for good or `powered` is switched off.
///
/// # Errors
/// No pseudo-terminal can be had.
pub fn serve_pty(baud: u32, line: Line, powered: Arc<AtomicBool>) -> io::Result<String> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::{Read, Write};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname(&master, Vec::new())?;
    let path = path.into_string().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // Held open, or the master ends whenever the hub closes the line.
    let keep = std::fs::File::options().read(true).write(true).open(&path)?;
    let mut settings = rustix::termios::tcgetattr(&keep)?;
    settings.make_raw();
    rustix::termios::tcsetattr(&keep, rustix::termios::OptionalActions::Now, &settings)?;
    let framing = Framing::Rtu { baud };
    std::thread::Builder::new().name("modbus-line".into()).spawn(move || {
        let mut port = std::fs::File::from(master);
        let clock = WallClock::start();
        let born_us = clock.unix_us();
        let (mut bytes, mut buffer) = (Vec::new(), [0; 256]);
        while let Ok(n) = port.read(&mut buffer) {
            if n == 0 || !powered.load(Relaxed) {
                break;
            }
            bytes.extend_from_slice(&buffer[..n]);
            while let Some((unit, asked)) = pdu::take_rtu(&mut bytes) {
                let ms = (clock.unix_us() - born_us).unsigned_abs() / 1_000;
                let Some((pause, frame)) = reply(&line, framing, [0; 4], unit, &asked, ms) else {
                    continue;
                };
                let spoken = framing.characters(asked.len() + 3 + frame.len());
                std::thread::sleep(pause + framing.turnaround() + spoken);
                if port.write_all(&frame).is_err() {
                    return;
                }
            }
        }
        drop(keep);
    })?;
    Ok(path)
}
