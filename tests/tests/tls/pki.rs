//! Certificates of somebody else: an authority of the user's, good and bad leaves of it, and a TLS client of our own.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use stockfold_tests::Wire;
use time::OffsetDateTime;

/// Now, in seconds since the Unix epoch.
pub fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// A certificate and its key, PEM.
pub struct Leaf {
    pub certificate: String,
    pub key: String,
}

/// An authority.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn params(common: &str, from_s: i64, until_s: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common);
    params.not_before = OffsetDateTime::from_unix_timestamp(from_s).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(until_s).unwrap();
    params
}

impl Authority {
    pub fn new(common: &str) -> Self {
        let mut params = params(common, now_s() - 1_000, now_s() + 1_000_000);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Leaf {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { certificate, key: key.serialize_pem() }
    }

    /// A client's certificate.
    pub fn client(&self, common: &str, from_s: i64, until_s: i64) -> Leaf {
        self.sign(params(common, from_s, until_s), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A server's certificate for `localhost`.
    pub fn server(&self, common: &str) -> Leaf {
        let mut params = params(common, now_s() - 1_000, now_s() + 90_000);
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }
}

/// Writes a text; its path.
pub fn written(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// How our client connects.
pub struct Client<'a> {
    pub ca: &'a str,
    pub leaf: Option<&'a Leaf>,
    pub name: &'a str,
    pub old: bool,
}

impl Client<'_> {
    /// Shakes hands. With TLS 1.3 a refusal of the client's certificate comes only with the first read.
    pub fn dial(&self, address: SocketAddr) -> std::io::Result<Box<dyn Wire>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let versions: &[_] = if self.old { &[&TLS12] } else { &[&TLS13] };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match self.leaf {
            None => config.with_no_client_auth(),
            Some(leaf) => {
                let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes())
                    .collect::<Result<Vec<_>, _>>()
                    .unwrap();
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from(self.name.to_owned()).unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        socket.wait_at_most(stockfold_tests::WAIT_MAX);
        session.complete_io(&mut socket)?;
        Ok(Box::new(StreamOwned::new(session, socket)))
    }
}
