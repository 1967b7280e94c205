//! Readers behind TCP ports.

use crate::clock::WallClock;
use crate::llrp::{Config, Device, Source};
use device_profiles::llrp::{Message, frame_length};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Between two steps of a reader's time.
const TICK: Duration = Duration::from_millis(20);
/// Pieces a second in which a slow reader writes.
const SLOW_PIECES: u32 = 50;

/// A served reader; it ends with this.
#[derive(Debug)]
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    device: Arc<Mutex<Device>>,
    cut: Arc<tokio::sync::Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
        self.cut.notify_waiters();
    }
}

impl Served {
    /// The reader.
    pub fn device(&self) -> MutexGuard<'_, Device> {
        lock(&self.device)
    }

    /// Drops its client, as a cable that is pulled and put back does.
    pub fn cut(&self) {
        self.cut.notify_waiters();
    }
}

fn lock(device: &Mutex<Device>) -> MutexGuard<'_, Device> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves a reader on a port that was bound before. Needs a runtime.
///
/// # Errors
/// The port cannot be used.
pub fn serve(listener: StdListener, config: Config, source: Source) -> io::Result<Served> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let clock = WallClock::start();
    let device = Arc::new(Mutex::new(Device::new(config, source, clock.unix_us())));
    let cut = Arc::new(tokio::sync::Notify::new());
    let (shared, pulled) = (Arc::clone(&device), Arc::clone(&cut));
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let (device, cut) = (Arc::clone(&shared), Arc::clone(&pulled));
                    tokio::spawn(async move {
                        // A connection that breaks is the client's to make anew.
                        let _ = client(stream, &device, &cut).await;
                    });
                }
                // Time goes on without a client too.
                () = tokio::time::sleep(TICK) => lock(&shared).advance(clock.unix_us()),
            }
        }
    });
    Ok(Served { address, device, cut, task })
}

/// Serves a reader on each listener; `source` says what number `n` hears.
///
/// # Errors
/// A port cannot be used.
pub fn serve_many(
    listeners: Vec<StdListener>,
    config: &Config,
    mut source: impl FnMut(usize) -> Source,
) -> io::Result<Vec<Served>> {
    let each = listeners.into_iter().enumerate();
    each.map(|(n, listener)| serve(listener, config.clone(), source(n))).collect()
}

/// The reader knows that its client is gone, however that came.
struct Attached<'a>(&'a Mutex<Device>);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        lock(self.0).disconnect();
    }
}

async fn client(
    mut stream: TcpStream,
    device: &Mutex<Device>,
    cut: &tokio::sync::Notify,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let refusal = {
        let mut device = lock(device);
        device.connect().err().map(|status| device.refusal(status))
    };
    if let Some(refusal) = refusal {
        stream.write_all(&refusal).await?;
        return stream.shutdown().await;
    }
    let _attached = Attached(device);
    let mut bytes = Vec::with_capacity(4_096);
    loop {
        write_out(&mut stream, device).await?;
        if lock(device).is_closing() {
            return stream.shutdown().await;
        }
        tokio::select! {
            read = stream.read_buf(&mut bytes) => if read? == 0 { return Ok(()) },
            () = tokio::time::sleep(TICK) => {}
            () = cut.notified() => return Ok(()),
        }
        while let Some(length) = frame_length(&bytes).map_err(io::Error::other)?
            && bytes.len() >= length
        {
            let rest = bytes.split_off(length);
            let message = Message::decode(&bytes).map_err(io::Error::other)?;
            bytes = rest;
            lock(device).receive(&message);
        }
    }
}

async fn write_out(stream: &mut TcpStream, device: &Mutex<Device>) -> io::Result<()> {
    loop {
        let (message, slow) = {
            let mut device = lock(device);
            (device.outgoing(), device.faults.slow)
        };
        let Some(message) = message else { return Ok(()) };
        match slow {
            None => stream.write_all(&message).await?,
            Some(rate) => {
                let piece = (rate / SLOW_PIECES).max(1) as usize;
                for part in message.chunks(piece) {
                    stream.write_all(part).await?;
                    tokio::time::sleep(Duration::from_secs(1) / SLOW_PIECES).await;
                }
            }
        }
    }
}
