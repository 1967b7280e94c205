//! A Modbus slave that does as a test says: framing and checksum are its own, so a mistake of the client cannot cancel out.

use std::{
    fs::File,
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A request as it came: unit, function, address, count or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub unit: u8,
    pub function: u8,
    pub address: u16,
    pub count: u16,
}

/// What to answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These registers.
    Words(Vec<u16>),
    /// An exception.
    Exception(u8),
    /// Nothing.
    Silence,
    /// After a pause.
    After(Duration, Box<Reply>),
    /// As another unit.
    As(u8, Box<Reply>),
    /// With one byte changed before the checksum is looked at.
    Corrupt(Box<Reply>),
    /// Only the first bytes of the frame.
    Cut(usize, Box<Reply>),
    /// Close the connection.
    Close,
}

/// Register `a` holds `a`.
pub fn own_addresses(asked: Asked) -> Reply {
    Reply::Words((0..asked.count).map(|i| asked.address.wrapping_add(i)).collect())
}

/// A script: called for each request with its number, from 0.
pub type Script = Arc<Mutex<dyn FnMut(usize, Asked) -> Reply + Send>>;

pub fn script(f: impl FnMut(usize, Asked) -> Reply + Send + 'static) -> Script {
    Arc::new(Mutex::new(f))
}

fn crc(bytes: &[u8]) -> u16 {
    let mut crc = 0xFFFFu16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc
}

/// Frame bytes and the pause before them; `None` = close.
fn rtu_frame(asked: Asked, reply: &Reply) -> Option<(Duration, Vec<u8>)> {
    let mut frame = match reply {
        Reply::Words(words) => {
            let mut frame = vec![asked.unit, asked.function, (words.len() * 2) as u8];
            frame.extend(words.iter().flat_map(|w| w.to_be_bytes()));
            frame
        }
        Reply::Exception(code) => vec![asked.unit, asked.function | 0x80, *code],
        Reply::Silence => return Some((Duration::ZERO, Vec::new())),
        Reply::After(pause, inner) => {
            let (more, frame) = rtu_frame(asked, inner)?;
            return Some((*pause + more, frame));
        }
        Reply::As(unit, inner) => return rtu_frame(Asked { unit: *unit, ..asked }, inner),
        Reply::Corrupt(inner) => {
            let (pause, mut frame) = rtu_frame(asked, inner)?;
            frame[3] ^= 0x20;
            return Some((pause, frame));
        }
        Reply::Cut(n, inner) => {
            let (pause, mut frame) = rtu_frame(asked, inner)?;
            frame.truncate(*n);
            return Some((pause, frame));
        }
        Reply::Close => return None,
    };
    let crc = crc(&frame);
    frame.extend_from_slice(&crc.to_le_bytes());
    Some((Duration::ZERO, frame))
}

/// A whole read request in RTU framing, if one has come.
fn rtu_request(bytes: &mut Vec<u8>) -> Option<Asked> {
    let whole = match bytes.get(1)? {
        16 => 9 + usize::from(*bytes.get(6)?),
        _ => 8,
    };
    if bytes.len() < whole {
        return None;
    }
    let frame: Vec<u8> = bytes.drain(..whole).collect();
    let (body, sum) = frame.split_at(whole - 2);
    assert_eq!(crc(body).to_le_bytes(), sum, "the client's checksum");
    Some(Asked {
        unit: frame[0],
        function: frame[1],
        address: u16::from_be_bytes([frame[2], frame[3]]),
        count: u16::from_be_bytes([frame[4], frame[5]]),
    })
}

/// Serves RTU frames over TCP, one connection after the other. Returns `host:port`.
pub async fn rtu_over_tcp(script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut number = 0;
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            'connection: loop {
                while let Some(asked) = rtu_request(&mut bytes) {
                    let reply = (script.lock().unwrap())(number, asked);
                    number += 1;
                    let Some((pause, frame)) = rtu_frame(asked, &reply) else { break 'connection };
                    tokio::time::sleep(pause).await;
                    if socket.write_all(&frame).await.is_err() {
                        break 'connection;
                    }
                }
                if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        }
    });
    place
}

/// Serves Modbus TCP, one connection after the other. Returns `host:port`.
pub async fn modbus_tcp(script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut number = 0;
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 12];
            while socket.read_exact(&mut head).await.is_ok() {
                let asked = Asked {
                    unit: head[6],
                    function: head[7],
                    address: u16::from_be_bytes([head[8], head[9]]),
                    count: u16::from_be_bytes([head[10], head[11]]),
                };
                let reply = (script.lock().unwrap())(number, asked);
                number += 1;
                let Some((pause, frame)) = rtu_frame(asked, &reply) else { break };
                tokio::time::sleep(pause).await;
                if frame.is_empty() {
                    continue;
                }
                let pdu = &frame[..frame.len().saturating_sub(2)];
                let mut out = head[..4].to_vec();
                out.extend_from_slice(&(pdu.len() as u16).to_be_bytes());
                out.extend_from_slice(pdu);
                if socket.write_all(&out).await.is_err() {
                    break;
                }
            }
        }
    });
    place
}

/// Serves RTU frames on a pseudo-terminal. Returns the path of its other end, and a switch that makes it vanish.
pub fn serial(script: Script) -> (String, Arc<AtomicBool>) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    // Held open, so that the master does not see the end of file between two masters of the line.
    let keep = File::options().read(true).write(true).open(&path).unwrap();
    let mut attributes = rustix::termios::tcgetattr(&keep).unwrap();
    attributes.make_raw();
    rustix::termios::tcsetattr(&keep, rustix::termios::OptionalActions::Now, &attributes).unwrap();
    let gone = Arc::new(AtomicBool::new(false));
    let vanish = Arc::clone(&gone);
    std::thread::spawn(move || {
        let mut port = File::from(master);
        let (mut bytes, mut number, mut buffer) = (Vec::new(), 0, [0; 256]);
        while !vanish.load(SeqCst) {
            let Ok(n) = port.read(&mut buffer) else { break };
            bytes.extend_from_slice(&buffer[..n]);
            while let Some(asked) = rtu_request(&mut bytes) {
                let reply = (script.lock().unwrap())(number, asked);
                number += 1;
                let Some((pause, frame)) = rtu_frame(asked, &reply) else { return };
                std::thread::sleep(pause);
                port.write_all(&frame).unwrap();
            }
        }
        drop(keep);
    });
    (path, gone)
}
