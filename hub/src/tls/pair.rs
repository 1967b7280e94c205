//! A certificate chain with its private key.

use std::{fmt, io::Read, path::Path};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{Fingerprint, TlsError, Validity};

/// Largest PEM file that is read, in bytes.
pub const PEM_BYTES_MAX: u64 = 1 << 20;
/// Certificates in one file.
pub const CERTIFICATES_MAX: usize = 64;

/// A chain, leaf first, and the leaf's key. Its debug text has no key.
pub struct Pair {
    /// The chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Pair {
    /// From what was read from two files.
    pub fn parse(
        (certificate_path, certificate): (&Path, &[u8]),
        (key_path, key): (&Path, &[u8]),
    ) -> Result<Self, TlsError> {
        let chain = certificates(certificate_path, certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Content {
            path: key_path.to_owned(),
            what: format!("no private key in PEM form ({error})"),
        })?;
        Ok(Self { chain, key })
    }

    /// When the leaf is good.
    pub fn validity(&self) -> Option<Validity> {
        self.chain.first().and_then(|leaf| Validity::of(leaf))
    }

    /// What the leaf is known by.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.chain.first().map(|leaf| Fingerprint::of(leaf))
    }
}

/// The certificates of a PEM text: at least one.
pub fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |what: String| TlsError::Content { path: path.to_owned(), what };
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        found.push(
            certificate
                .map_err(|error| content(format!("no certificate in PEM form ({error})")))?,
        );
        if found.len() > CERTIFICATES_MAX {
            return Err(content(format!("more than {CERTIFICATES_MAX} certificates")));
        }
    }
    if found.is_empty() {
        return Err(content("no certificate in PEM form".into()));
    }
    Ok(found)
}

/// Reads a PEM file whole.
pub fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let at = |source| TlsError::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(at)?;
    let mut bytes = Vec::new();
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(at)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(at(std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}
