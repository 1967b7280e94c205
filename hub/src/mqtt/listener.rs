//! Accepts connections, refuses those beyond the limits, and deals the rest to the arbiters in turn.
//!
//! `drain` stops accepting and lets every connection send the acknowledgements that are on their way, then DISCONNECT
//! 0x8B; whoever is not done by `drain_ms_max` is cut. Correctness never needs it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_rt::{Arbiter, ArbiterHandle};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Core,
    connection::{Connection, Permit},
    limits::{ADDRESSES_MAX, Limits},
    meter::Meter,
    secure,
    stats::Counter,
};
use crate::tls::Tls;

/// Wait after a failed accept (out of file descriptors), milliseconds.
const ACCEPT_RETRY_MS: u64 = 50;
/// How often a drain looks whether it is done, milliseconds.
const DRAIN_LOOK_MS: u64 = 5;
/// Period of the sweep for expired sessions, retained messages and delayed wills, milliseconds.
const SWEEP_MS: u64 = 1_000;

/// Connect rates by address.
struct Addresses {
    base: Instant,
    meters: HashMap<IpAddr, Meter>,
    others: Meter,
    per_second: u32,
    burst: u32,
}

impl Addresses {
    fn new(limits: &Limits, now: Instant) -> Self {
        let (per_second, burst) =
            (limits.connects_per_second_per_address_max, limits.connects_burst_per_address_max);
        let meter = || Meter::new(now, per_second, Duration::from_secs(1), burst);
        Self { base: now, meters: HashMap::new(), others: meter(), per_second, burst }
    }

    fn admits(&mut self, peer: IpAddr, now: Instant) -> bool {
        let key = match peer {
            IpAddr::V4(_) => peer,
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        };
        if self.meters.len() >= ADDRESSES_MAX && !self.meters.contains_key(&key) {
            self.meters.retain(|_, meter| !meter.is_idle(now));
            if self.meters.len() >= ADDRESSES_MAX {
                return self.others.take(1, now).is_ok();
            }
        }
        let (base, per_second, burst) = (self.base, self.per_second, self.burst);
        let meter = self
            .meters
            .entry(key)
            .or_insert_with(|| Meter::new(base, per_second, Duration::from_secs(1), burst));
        meter.take(1, now).is_ok()
    }
}

/// The TLS port of an endpoint.
pub struct Secured {
    /// Where it listens.
    pub bind: SocketAddr,
    /// What its handshakes use.
    pub tls: Arc<Tls>,
}

/// A running endpoint. Dropping it stops accepting; connections go on until `drain` or the end of the process.
pub struct Listener {
    core: Arc<Core>,
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    open: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    arbiters: Vec<Arbiter>,
}

impl Listener {
    /// Binds and serves with `arbiters` threads (0 = one for each core), over TLS too when that is given. An error names the
    /// address. Must be called within an actix system.
    pub async fn bind(
        core: Arc<Core>,
        address: SocketAddr,
        secured: Option<Secured>,
        arbiters: usize,
    ) -> Result<Self, (SocketAddr, std::io::Error)> {
        let (listener, address) = listen(address).await?;
        let mut tls_address = None;
        let secured = match secured {
            None => None,
            Some(Secured { bind, tls }) => {
                let (listener, address) = listen(bind).await?;
                tls_address = Some(address);
                Some((listener, tls))
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if arbiters == 0 { cores } else { arbiters };
        let arbiters: Vec<_> = (0..count).map(|_| Arbiter::new()).collect();
        let handles = arbiters.iter().map(Arbiter::handle).collect();
        let (stop, stopped) = watch::channel(false);
        let open = Arc::default();
        let accepting = actix_rt::spawn(accept(
            Arc::clone(&core),
            listener,
            secured,
            handles,
            Arc::clone(&open),
            stopped,
        ));
        Ok(Self { core, address, tls_address, open, stop, accepting, arbiters })
    }

    /// Address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Address of its TLS port.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// What its connections share: registry, stats, limits.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Open sockets, those before CONNECT included.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Serves a stream that somebody else accepted on the current arbiter; `false` = too many connections.
    pub fn serve<S>(&self, stream: S, peer: SocketAddr) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Some(permit) = Permit::take(&self.open, self.core.limits.connections_max) else {
            self.core.stats.count(Counter::RefusedConnectionLimit);
            return false;
        };
        self.core.stats.count(Counter::Accepted);
        Connection::start_on(Arc::clone(&self.core), stream, peer.into(), permit);
        true
    }

    /// Stops accepting, lets connections finish, then stops the arbiters. Takes at most `drain_ms_max` and the linger.
    pub async fn drain(self) {
        self.stop.send_replace(true);
        let _ = self.accepting.await;
        self.core.registry.drain();
        let limits = &self.core.limits;
        let until = async |done: &dyn Fn() -> bool| {
            let mut look = interval(Duration::from_millis(DRAIN_LOOK_MS));
            while !done() {
                look.tick().await;
            }
        };
        let finished = || self.core.registry.connected() == 0;
        let closed = || self.open.load(Relaxed) == 0;
        let settle = Duration::from_millis(limits.drain_ms_max);
        let linger = Duration::from_millis(limits.linger_ms_max);
        let _ = timeout(settle, until(&finished)).await;
        if timeout(linger, until(&closed)).await.is_err() {
            tracing::warn!(
                open = self.open.load(Relaxed),
                "connections cut at the end of the drain"
            );
        }
        for arbiter in self.arbiters {
            arbiter.stop();
        }
        self.core.hush.tell();
    }
}

async fn listen(
    bind: SocketAddr,
) -> Result<(TcpListener, SocketAddr), (SocketAddr, std::io::Error)> {
    let listener = TcpListener::bind(bind).await.map_err(|error| (bind, error))?;
    let address = listener.local_addr().map_err(|error| (bind, error))?;
    Ok((listener, address))
}

type Incoming = std::io::Result<(TcpStream, SocketAddr)>;

/// The next socket of the TLS port; never, when there is none.
async fn accept_secured(secured: Option<&(TcpListener, Arc<Tls>)>) -> (Incoming, Option<Arc<Tls>>) {
    match secured {
        Some((listener, tls)) => (listener.accept().await, Some(Arc::clone(tls))),
        None => std::future::pending().await,
    }
}

/// One loop for both ports, so that they share every limit.
async fn accept(
    core: Arc<Core>,
    listener: TcpListener,
    secured: Option<(TcpListener, Arc<Tls>)>,
    arbiters: Vec<ArbiterHandle>,
    open: Arc<AtomicUsize>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut addresses = Addresses::new(&core.limits, Instant::now());
    let mut sweep = interval(Duration::from_millis(SWEEP_MS));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turns = arbiters.iter().cycle();
    loop {
        let (accepted, tls) = tokio::select! {
            accepted = listener.accept() => (accepted, None),
            accepted = accept_secured(secured.as_ref()) => accepted,
            _ = sweep.tick() => {
                core.sweep(Instant::now());
                continue;
            }
            _ = stopped.changed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                continue;
            }
        };
        if !addresses.admits(peer.ip(), Instant::now()) {
            core.stats.count(Counter::RefusedAddressRate);
            continue;
        }
        let Some(permit) = Permit::take(&open, core.limits.connections_max) else {
            core.stats.count(Counter::RefusedConnectionLimit);
            continue;
        };
        core.stats.count(Counter::Accepted);
        let Some(arbiter) = turns.next() else { return };
        if let Err(error) = deal(&core, tls, stream, peer, permit, arbiter) {
            tracing::debug!(%error, %peer, "connection lost before it was served");
        }
    }
}

/// Moves a socket to an arbiter's own reactor.
fn deal(
    core: &Arc<Core>,
    tls: Option<Arc<Tls>>,
    stream: TcpStream,
    peer: SocketAddr,
    permit: Permit,
    arbiter: &ArbiterHandle,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let core = Arc::clone(core);
    arbiter.spawn_fn(move || match TcpStream::from_std(stream) {
        Ok(stream) => match tls {
            None => Connection::start_on(core, stream, peer.into(), permit),
            Some(tls) => {
                actix_rt::spawn(secure::serve(core, tls, stream, peer, permit));
            }
        },
        Err(error) => tracing::warn!(%error, %peer, "socket not usable"),
    });
    Ok(())
}
