//! What TLS handshakes use now: the server's chain and key, and the authorities that client certificates may come from.
//!
//! A reconciler calls [`Tls::round`]: the hub's own certificate is issued anew well before it ends; the user's files are read
//! again (small files, so their content is compared: it sees what time stamps do not, such as a swapped symlink) and taken
//! when they changed and fit together. Files that do not are told once and leave what is in force: a half-written pair or a
//! bad deployment ends no connection and refuses no device. Handshakes only clone one `Arc`.
//!
//! Connections that stand keep what they began with. They end when their credential is revoked or expires, see
//! `directory`.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use rustls::{
    RootCertStore, ServerConfig, crypto::ring, server::NoServerSessionStorage,
    server::WebPkiClientVerifier, version::TLS12, version::TLS13,
};

use super::{Authority, DAY_S, Fingerprint, Pair, TlsError, Validity, pair};

/// Days before its end a certificate is warned of.
pub const WARN_DAYS: i64 = 30;
/// Days before its end the hub's own certificate is issued anew; a third of its life.
const RENEW_DAYS: i64 = 30;

/// The user's files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// Chain and key of the server; without, the hub's own authority issues them.
    pub server: Option<(PathBuf, PathBuf)>,
    /// Further authorities whose client certificates may be enrolled.
    pub client_ca: Option<PathBuf>,
}

/// What was read from [`Files`], in their order.
type Contents = Vec<Vec<u8>>;

/// How certificates stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Last second of the server's certificate, since the Unix epoch.
    pub server_until_s: i64,
    /// Last second of the hub's own authority.
    pub authority_until_s: i64,
    /// Why the user's files are not in force.
    pub refused: Option<String>,
    /// How often other certificates came into force since the start.
    pub changes: u64,
}

struct Read {
    in_force: Contents,
    refused: Contents,
    why: Option<String>,
}

/// TLS of the hub.
pub struct Tls {
    authority: Authority,
    files: Files,
    names: Vec<String>,
    config: RwLock<Arc<ServerConfig>>,
    roots: RwLock<Arc<RootCertStore>>,
    read: Mutex<Read>,
    until_s: AtomicI64,
    warned_day: AtomicI64,
    changes: AtomicU64,
    client_ca: AtomicBool,
}

impl Tls {
    /// TLS with the user's files or, without, a certificate for `names`. What cannot be used now is an error.
    pub fn open(
        authority: Authority,
        files: Files,
        names: Vec<String>,
        now_s: i64,
    ) -> Result<Self, TlsError> {
        let contents = files.read()?;
        let (config, roots, until_s) = build(&authority, &files, &contents, &names, now_s)?;
        if until_s < now_s {
            tracing::error!("the server's TLS certificate has expired; devices refuse it");
        }
        Ok(Self {
            client_ca: AtomicBool::new(files.client_ca.is_some()),
            authority,
            files,
            names,
            config: RwLock::new(config),
            roots: RwLock::new(roots),
            read: Mutex::new(Read { in_force: contents, refused: Vec::new(), why: None }),
            until_s: AtomicI64::new(until_s),
            warned_day: AtomicI64::new(i64::MIN),
            changes: AtomicU64::new(0),
        })
    }

    /// What the next handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The hub's own authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether a client certificate would be believed: it chains to an authority that is in force and is good at `now_s`.
    /// The reason why not is for the person who enrols it.
    pub fn believes(
        &self,
        chain: &[rustls::pki_types::CertificateDer<'_>],
        now_s: i64,
    ) -> Result<(), String> {
        let Some((leaf, between)) = chain.split_first() else {
            return Err("there is no certificate".into());
        };
        let roots = Arc::clone(&self.roots.read().unwrap_or_else(PoisonError::into_inner));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::new(ring::default_provider()))
                .build()
                .map_err(|error| error.to_string())?;
        let now = rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            now_s.unsigned_abs(),
        ));
        verifier.verify_client_cert(leaf, between, now).map(drop).map_err(|error| {
            let hint = if self.client_ca.load(Relaxed) {
                "it must come from the hub's own authority or from one in [tls] client_ca_file"
            } else {
                "it must come from the hub's own authority; for certificates of another one set [tls] client_ca_file"
            };
            format!("{error}; {hint}")
        })
    }

    /// Reads anew and renews; `now_s` is the wall clock. Reads files: call it from where that may block.
    pub fn round(&self, now_s: i64) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match self.files.read() {
            Ok(contents) if contents == read.in_force => {
                read.refused = Vec::new();
                if read.why.take().is_some() {
                    tracing::info!("the TLS files are those in force again");
                }
            }
            // Told already.
            Ok(contents) if contents == read.refused => {}
            Ok(contents) => match self.install(&contents, now_s) {
                Ok(()) => *read = Read { in_force: contents, refused: Vec::new(), why: None },
                Err(error) => read.refuse(contents, &error),
            },
            Err(error) => read.refuse(Vec::new(), &error),
        }
        let own_is_due =
            self.files.server.is_none() && self.until_s.load(Relaxed) - now_s < RENEW_DAYS * DAY_S;
        // With what is in force beside it: a file of the user's that does not fit must not let the hub's own end.
        if own_is_due
            && let Err(error) = self.install(&read.in_force, now_s)
            && self.is_new_day(now_s)
        {
            tracing::error!(%error, "the hub's TLS certificate cannot be renewed");
        }
        drop(read);
        self.warn(now_s);
    }

    fn install(&self, contents: &Contents, now_s: i64) -> Result<(), TlsError> {
        let (config, roots, until_s) =
            build(&self.authority, &self.files, contents, &self.names, now_s)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        *self.roots.write().unwrap_or_else(PoisonError::into_inner) = roots;
        self.until_s.store(until_s, Relaxed);
        self.warned_day.store(i64::MIN, Relaxed);
        self.changes.fetch_add(1, Relaxed);
        tracing::info!(days_left = (until_s - now_s) / DAY_S, "new TLS certificates are in force");
        Ok(())
    }

    fn is_new_day(&self, now_s: i64) -> bool {
        let day = now_s.div_euclid(DAY_S);
        self.warned_day.swap(day, Relaxed) != day
    }

    /// Says once a day that a certificate ends soon.
    fn warn(&self, now_s: i64) {
        let standing = self.standing();
        let soon = |until_s: i64| until_s - now_s < WARN_DAYS * DAY_S;
        let (server, authority) = (soon(standing.server_until_s), soon(standing.authority_until_s));
        if (server || authority) && self.is_new_day(now_s) {
            let (until_s, what) = if server {
                (standing.server_until_s, "server's certificate")
            } else {
                (standing.authority_until_s, "hub's certificate authority")
            };
            tracing::warn!(
                days_left = (until_s - now_s) / DAY_S,
                "the {what} for TLS ends soon; replace it"
            );
        }
    }

    /// How certificates stand.
    pub fn standing(&self) -> Standing {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        Standing {
            server_until_s: self.until_s.load(Relaxed),
            authority_until_s: Validity::of(self.authority.certificate())
                .map_or(i64::MAX, |validity| validity.not_after_s),
            refused: read.why.clone(),
            changes: self.changes.load(Relaxed),
        }
    }
}

impl Read {
    fn refuse(&mut self, contents: Contents, error: &TlsError) {
        let why = error.to_string();
        if self.why.as_ref() != Some(&why) {
            tracing::error!(why, "the new TLS files cannot be used; those in force stay");
        }
        (self.refused, self.why) = (contents, Some(why));
    }
}

impl Files {
    fn read(&self) -> Result<Contents, TlsError> {
        let server = self.server.iter().flat_map(|(certificate, key)| [certificate, key]);
        server.chain(&self.client_ca).map(|path| pair::read(path)).collect()
    }
}

/// A configuration, the authorities in it, and the last second of the server's certificate.
fn build(
    authority: &Authority,
    files: &Files,
    contents: &Contents,
    names: &[String],
    now_s: i64,
) -> Result<(Arc<ServerConfig>, Arc<RootCertStore>, i64), TlsError> {
    let refused = |error: rustls::Error| TlsError::Refused(error.to_string());
    let mut contents = contents.iter().map(Vec::as_slice);
    let pair = match &files.server {
        Some((certificate, key)) => Pair::parse(
            (certificate, contents.next().unwrap_or_default()),
            (key, contents.next().unwrap_or_default()),
        )?,
        None => authority.issue_server(names, now_s)?,
    };
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).map_err(refused)?;
    if let Some(path) = &files.client_ca {
        for certificate in pair::certificates(path, contents.next().unwrap_or_default())? {
            roots.add(certificate).map_err(|error| TlsError::Content {
                path: path.clone(),
                what: format!("holds what is no certificate of an authority ({error})"),
            })?;
        }
    }
    let roots = Arc::new(roots);
    let until_s = pair.validity().map_or(i64::MAX, |validity| validity.not_after_s);
    let fingerprint = pair.fingerprint();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| TlsError::Refused(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        // Compares the key with the leaf as well.
        .with_single_cert(pair.chain, pair.key)
        .map_err(refused)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    tracing::debug!(certificate = ?fingerprint.map(|f: Fingerprint| f.to_string()), "TLS certificate read");
    Ok((Arc::new(config), roots, until_s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const NOW_S: i64 = 1_790_000_000;

    fn own(dir: &Path, files: Files) -> Tls {
        let authority = Authority::open(dir, NOW_S).unwrap();
        Tls::open(authority, files, vec!["localhost".into(), "127.0.0.1".into()], NOW_S).unwrap()
    }

    #[test]
    fn the_hub_s_own_certificate_is_renewed_long_before_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let tls = own(dir.path(), Files::default());
        let first = tls.standing();
        tls.round(first.server_until_s - RENEW_DAYS * DAY_S);
        assert_eq!(tls.standing(), first);
        let day = first.server_until_s - RENEW_DAYS * DAY_S + 1;
        let config = tls.config();
        tls.round(day);
        assert_eq!((tls.standing().changes, Arc::ptr_eq(&config, &tls.config())), (1, false));
        assert!(tls.standing().server_until_s > day + WARN_DAYS * DAY_S);
    }

    #[test]
    fn a_broken_file_beside_it_does_not_let_it_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("client-ca.pem");
        let other = tempfile::tempdir().unwrap();
        std::fs::write(&file, Authority::open(other.path(), NOW_S).unwrap().pem()).unwrap();
        let tls = own(dir.path(), Files { server: None, client_ca: Some(file.clone()) });
        std::fs::write(&file, "broken").unwrap();
        let late = tls.standing().server_until_s - 1;
        tls.round(late);
        let standing = tls.standing();
        assert!(standing.refused.unwrap().contains("client-ca.pem"));
        assert!(standing.server_until_s > late);
        std::fs::remove_file(&file).unwrap();
        tls.round(late);
        assert!(tls.standing().refused.unwrap().contains("No such file"));
    }

    #[test]
    fn what_its_own_authority_issued_is_believed_while_it_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let tls = own(dir.path(), Files::default());
        let issued = tls.authority().issue_device("d", 10, NOW_S).unwrap();
        let chain = pair::certificates(Path::new(""), issued.certificate_pem.as_bytes()).unwrap();
        assert_eq!(tls.believes(&chain, NOW_S), Ok(()));
        assert!(tls.believes(&chain, NOW_S + 11 * DAY_S).unwrap_err().contains("xpired"));
        let other = tempfile::tempdir().unwrap();
        let stranger = Authority::open(other.path(), NOW_S).unwrap();
        let issued = stranger.issue_device("d", 10, NOW_S).unwrap();
        let chain = pair::certificates(Path::new(""), issued.certificate_pem.as_bytes()).unwrap();
        assert!(tls.believes(&chain, NOW_S).unwrap_err().contains("client_ca_file"));
    }
}
