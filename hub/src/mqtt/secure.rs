//! The TLS side of the endpoint: from an accepted socket to an encrypted one, or to the reason why not, counted.
//!
//! The handshake runs on the connection's arbiter with a deadline of its own; CONNECT's begins after it. How many run at once
//! is limited beside the connections: a handshake costs a thousand times what a packet does. A client certificate that is
//! presented is checked here for chain and validity only; whose it is, [`Ingress::authenticate`](super::Ingress) decides at
//! CONNECT. Anybody can make handshakes fail, so only a few a second are logged; the others are counted.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::{AlertDescription, CertificateError, Error as Rustls};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Core, Peer,
    connection::{Connection, Permit},
    meter::Meter,
    stats::Counter,
};
use crate::tls::{Fingerprint, Tls};

/// Failed handshakes that are logged in a second, sustained.
const LOGGED_PER_SECOND_MAX: u32 = 5;
/// Failed handshakes that are logged in a burst.
const LOGGED_BURST_MAX: u32 = 20;

/// What the handshakes of an endpoint share.
pub struct Handshakes {
    running: Arc<AtomicUsize>,
    logged: Meter,
    unlogged: AtomicU64,
}

impl Handshakes {
    /// None yet; rates count from `now`.
    pub fn new(now: Instant) -> Self {
        let logged =
            Meter::new(now, LOGGED_PER_SECOND_MAX, Duration::from_secs(1), LOGGED_BURST_MAX);
        Self { running: Arc::default(), logged, unlogged: AtomicU64::new(0) }
    }

    fn log(&self, peer: SocketAddr, failure: Failure, error: &dyn std::fmt::Display) {
        if self.logged.take(1, Instant::now()).is_err() {
            self.unlogged.fetch_add(1, Relaxed);
            return;
        }
        let unlogged = self.unlogged.swap(0, Relaxed);
        tracing::info!(%peer, %error, unlogged, cause = failure.counter().name(), "TLS handshake failed");
    }
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Too slow.
    Timeout,
    /// No TLS: plain MQTT, or garbage.
    NotTls,
    /// No version or cipher in common.
    Incompatible,
    /// The client's certificate is expired or not yet good.
    Expired,
    /// The client's certificate comes from an authority that is not believed here.
    Foreign,
    /// The client's certificate is otherwise not usable.
    Certificate,
    /// The client does not like the server's certificate.
    Distrusted,
    /// The client went away.
    Closed,
    /// Anything else.
    Other,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Rustls>()) else {
            return Self::Closed;
        };
        #[allow(clippy::wildcard_enum_match_arm, reason = "rustls adds errors in minor versions")]
        match error {
            Rustls::InvalidMessage(_) => Self::NotTls,
            Rustls::PeerIncompatible(_) => Self::Incompatible,
            Rustls::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => Self::Expired,
            Rustls::InvalidCertificate(CertificateError::UnknownIssuer) => Self::Foreign,
            Rustls::InvalidCertificate(_) | Rustls::NoCertificatesPresented => Self::Certificate,
            Rustls::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA,
            ) => Self::Distrusted,
            _ => Self::Other,
        }
    }

    fn counter(self) -> Counter {
        match self {
            Self::Timeout => Counter::RefusedTlsTimeout,
            Self::NotTls => Counter::RefusedTlsNotTls,
            Self::Incompatible => Counter::RefusedTlsIncompatible,
            Self::Expired => Counter::RefusedTlsCertificateExpired,
            Self::Foreign => Counter::RefusedTlsCertificateForeign,
            Self::Certificate => Counter::RefusedTlsCertificate,
            Self::Distrusted => Counter::RefusedTlsDistrusted,
            Self::Closed => Counter::RefusedTlsClosed,
            Self::Other => Counter::RefusedTlsOther,
        }
    }
}

/// Serves an accepted socket over TLS on the current arbiter.
pub async fn serve(
    core: Arc<Core>,
    tls: Arc<Tls>,
    stream: TcpStream,
    address: SocketAddr,
    permit: Permit,
) {
    let Some(running) = Permit::take(&core.handshakes.running, core.limits.handshakes_max) else {
        core.stats.count(Counter::RefusedTlsLimit);
        core.stats.count(Counter::Closed);
        return;
    };
    let deadline = Duration::from_millis(core.limits.handshake_ms_max);
    let accept = TlsAcceptor::from(tls.config()).accept(stream);
    let shaken = match timeout(deadline, accept).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err((Failure::of(&error), error.to_string())),
        Err(_) => Err((Failure::Timeout, "not complete in time".to_owned())),
    };
    drop(running);
    match shaken {
        Ok(stream) => {
            core.stats.count(Counter::TlsHandshakes);
            let peer = Peer { address, certificate: presented(&stream) };
            Connection::start_on(core, stream, peer, permit);
        }
        Err((failure, error)) => {
            core.stats.count(failure.counter());
            core.stats.count(Counter::Closed);
            core.handshakes.log(address, failure, &error);
        }
    }
}

/// The certificate the client proved to have the key of.
fn presented(stream: &TlsStream<TcpStream>) -> Option<Fingerprint> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| Fingerprint::of(leaf))
}
