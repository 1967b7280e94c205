//! The hub's own certificate authority, for whoever has no better one.
//!
//! Made at the first start: a P-256 key and a self-signed certificate in `DATA/tls` (0700; the key 0600). Devices are given
//! the certificate (`stockfold tls ca`) and believe what it signed. What it signs is not stored: the server's certificate is
//! issued anew at each start and before it ends, a device's is handed out once with its key.
//!
//! The key alone makes the authority: its name holds the key's hash, so that two hubs are never taken for one another, and a
//! start that was cut between the two files writes the same certificate's name again. A certificate without its key is
//! refused rather than replaced: a new authority would shut every device out.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use super::{DAY_S, Fingerprint, Pair, TlsError, pair};
use crate::whole_file;

/// Directory of the authority within the data directory.
const DIR: &str = "tls";
/// The authority's certificate, for everybody.
const CERTIFICATE: &str = "ca.pem";
/// Its key, for nobody else.
const KEY: &str = "ca-key.pem";
/// Days the authority is good.
const AUTHORITY_DAYS: i64 = 7_305;
/// Days a certificate of the server is good.
const SERVER_DAYS: i64 = 90;
/// Days a device's certificate is good unless it is said otherwise.
pub const DEVICE_DAYS: u32 = 825;
/// Most days a device's certificate may be good.
pub const DEVICE_DAYS_MAX: u32 = 3_650;
/// Clocks of devices may be behind by so much and still believe a new certificate, in seconds.
const BACKDATE_S: i64 = DAY_S;

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A device's new certificate. The key exists here and nowhere else.
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM (PKCS #8). Never log or store it.
    pub key_pem: String,
    /// What it is known by.
    pub fingerprint: Fingerprint,
    /// Its last second, since the Unix epoch.
    pub not_after_s: i64,
}

fn issue(error: rcgen::Error) -> TlsError {
    TlsError::Issue(error.to_string())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::Io { path, source }
}

/// Where the authority's certificate is.
pub fn certificate_file(data_dir: &Path) -> PathBuf {
    data_dir.join(DIR).join(CERTIFICATE)
}

impl Authority {
    /// The authority of a data directory, made if there is none. `now_s` is the wall clock, seconds since the Unix epoch.
    pub fn open(data_dir: &Path, now_s: i64) -> Result<Self, TlsError> {
        let dir = data_dir.join(DIR);
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(at(&dir))?;
        let (key_path, certificate_path) = (dir.join(KEY), dir.join(CERTIFICATE));
        let key = match fs::read_to_string(&key_path) {
            Ok(text) => KeyPair::from_pem(&text).map_err(|error| TlsError::Content {
                path: key_path.clone(),
                what: format!(
                    "no private key ({error}). Bring it back from a backup; without it, remove {} for a new authority, which \
                     every device must then be given",
                    dir.display()
                ),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if certificate_path.exists() {
                    return Err(TlsError::Content {
                        path: key_path,
                        what: format!(
                            "the key of the hub's certificate authority is gone. Bring it back from a backup; without it, \
                             remove {} for a new authority, which every device must then be given",
                            dir.display()
                        ),
                    });
                }
                let made = KeyPair::generate().map_err(issue)?;
                write(&key_path, made.serialize_pem().as_bytes())?;
                made
            }
            Err(error) => return Err(at(&key_path)(error)),
        };
        let params = authority_params(&key, now_s)?;
        if !certificate_path.exists() {
            let made = params.self_signed(&key).map_err(issue)?;
            write(&certificate_path, made.pem().as_bytes())?;
            tracing::info!(path = %certificate_path.display(), "the hub's certificate authority is made");
        }
        let bytes = pair::read(&certificate_path)?;
        let certificate = pair::certificates(&certificate_path, &bytes)?.swap_remove(0);
        let pem = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { issuer: Issuer::new(params, key), certificate, pem })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate for a server of these names (host names and addresses).
    pub fn issue_server(&self, names: &[String], now_s: i64) -> Result<Pair, TlsError> {
        let mut params = leaf("Stockfold hub", now_s, SERVER_DAYS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(issue)?),
            });
        }
        let key = KeyPair::generate().map_err(issue)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(issue)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Pair { chain: vec![certificate.der().clone()], key })
    }

    /// Issues a certificate for a device.
    pub fn issue_device(&self, device: &str, days: u32, now_s: i64) -> Result<Issued, TlsError> {
        let days = i64::from(days.clamp(1, DEVICE_DAYS_MAX));
        let mut params = leaf(device, now_s, days)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(issue)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(issue)?;
        Ok(Issued {
            fingerprint: Fingerprint::of(certificate.der()),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            not_after_s: params.not_after.unix_timestamp(),
        })
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Stockfold");
    name.push(DnType::CommonName, common);
    name
}

fn instant(unix_s: i64) -> Result<OffsetDateTime, TlsError> {
    OffsetDateTime::from_unix_timestamp(unix_s)
        .map_err(|_| TlsError::Issue(format!("{unix_s} s is no date; check the machine's clock")))
}

fn authority_params(key: &KeyPair, now_s: i64) -> Result<CertificateParams, TlsError> {
    let hash = Fingerprint::of(key.public_key_raw()).to_string();
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("Stockfold CA {}", &hash[..16]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) =
        (instant(now_s - BACKDATE_S)?, instant(now_s + AUTHORITY_DAYS * DAY_S)?);
    Ok(params)
}

fn leaf(common: &str, now_s: i64, days: i64) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    (params.not_before, params.not_after) =
        (instant(now_s - BACKDATE_S)?, instant(now_s + days * DAY_S)?);
    Ok(params)
}

fn write(path: &Path, content: &[u8]) -> Result<(), TlsError> {
    whole_file::write(path, content).map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Validity;

    const NOW_S: i64 = 1_790_000_000;

    #[test]
    fn an_authority_is_made_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path(), NOW_S).unwrap();
        let again = Authority::open(dir.path(), NOW_S + DAY_S).unwrap();
        assert_eq!(first.pem(), again.pem());
        let mode = |name: &str| {
            fs::metadata(dir.path().join(DIR).join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode(""), mode(KEY)), (0o700, 0o600));
        let good = Validity::of(again.certificate()).unwrap();
        assert_eq!(good.not_after_s, NOW_S + AUTHORITY_DAYS * DAY_S);
    }

    #[test]
    fn a_start_that_was_cut_between_key_and_certificate_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path(), NOW_S).unwrap();
        let before = first.issuer.key().serialize_pem();
        fs::remove_file(certificate_file(dir.path())).unwrap();
        let again = Authority::open(dir.path(), NOW_S).unwrap();
        assert_eq!(again.issuer.key().serialize_pem(), before);
    }

    #[test]
    fn a_certificate_without_its_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open(dir.path(), NOW_S).unwrap();
        let key = dir.path().join(DIR).join(KEY);
        fs::write(&key, "no key").unwrap();
        let error = Authority::open(dir.path(), NOW_S).err().unwrap().to_string();
        assert!(error.contains("no private key"), "{error}");
        fs::remove_file(&key).unwrap();
        let error = Authority::open(dir.path(), NOW_S).err().unwrap().to_string();
        assert!(error.contains("is gone"), "{error}");
    }

    #[test]
    fn a_device_s_certificate_has_its_days_and_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW_S).unwrap();
        let issued = authority.issue_device("scale-1", 30, NOW_S).unwrap();
        assert_eq!(issued.not_after_s, NOW_S + 30 * DAY_S);
        let path = Path::new("device");
        let pair = Pair::parse(
            (path, issued.certificate_pem.as_bytes()),
            (path, issued.key_pem.as_bytes()),
        )
        .unwrap();
        assert_eq!(pair.fingerprint(), Some(issued.fingerprint));
        assert_eq!(pair.validity().unwrap().not_after_s, issued.not_after_s);
    }
}
