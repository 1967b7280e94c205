//! Client certificates of devices: issued by the hub's own authority, or made elsewhere and enrolled.
//!
//! An issued key exists in the answer and nowhere else. An enrolled certificate is known by its fingerprint; when it is given
//! whole, it is refused unless a handshake would believe it, so that nobody finds out at the device. With the fingerprint
//! alone only the handshake can tell, and when it ends is not known here.

use std::path::Path;

use actix_web::{HttpResponse, http::StatusCode, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    devices::{found, known, too_many},
    limits::{CERTIFICATE_BYTES_MAX, CREDENTIALS_MAX},
    problem::Problem,
    request::Json,
    secret::random_id,
};
use crate::{
    store::{access::Added, when::When},
    tls::{
        Fingerprint, TlsError, Validity,
        authority::{DEVICE_DAYS, DEVICE_DAYS_MAX},
        pair,
    },
};

/// What certificate is wanted. Empty: the hub makes one.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewCertificate {
    /// Enrol this one: PEM, the device's certificate first, those between it and its authority after it.
    certificate: Option<String>,
    /// Enrol the one with this SHA-256 fingerprint: 64 hex digits, with or without colons.
    sha256: Option<String>,
    /// Days the one that the hub makes is good, 1 to 3650; 825 when absent.
    days: Option<u32>,
}

/// A certificate that is a credential now.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceCertificate {
    /// The credential's id: what it is revoked by.
    id: String,
    /// MQTT username: the device's id. A client with this certificate may leave it out.
    username: String,
    /// SHA-256 of the certificate, 64 hex digits.
    sha256: String,
    /// When it ends, if that is known.
    expires_at: Option<When>,
    /// The certificate the hub made, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    /// Its key, PEM. Shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The authority that the device must trust if the hub's own certificate comes from it, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
}

/// Makes a client certificate for a device, or enrols one that was made elsewhere.
#[utoipa::path(post, path = "/api/v1/devices/{device}/certificates", tag = "devices", params(("device" = String, Path)), request_body = NewCertificate, responses((status = 201, body = DeviceCertificate)))]
pub async fn post(
    api: web::Data<Api>,
    path: web::Path<String>,
    body: Json<NewCertificate>,
) -> Result<HttpResponse, Problem> {
    let device = found(&api, &path).await?;
    let now_s = api.desk.now_us().div_euclid(1_000_000);
    let mut made = DeviceCertificate {
        id: random_id("c-")?,
        username: device.id.clone(),
        sha256: String::new(),
        expires_at: None,
        certificate: None,
        key: None,
        ca: None,
    };
    let fingerprint = match (&body.0.certificate, &body.0.sha256, body.0.days) {
        (Some(pem), None, None) => {
            let (fingerprint, until_s) = believed(&api, pem, now_s)?;
            made.expires_at = until_s.map(|s| When(s.saturating_mul(1_000_000)));
            fingerprint
        }
        (None, Some(text), None) => {
            text.parse().map_err(|error| Problem::invalid("sha256", format!("{error}")))?
        }
        (None, None, days) => {
            let days = days.unwrap_or(DEVICE_DAYS);
            if !(1..=DEVICE_DAYS_MAX).contains(&days) {
                return Err(Problem::invalid("days", format!("must be 1 to {DEVICE_DAYS_MAX}")));
            }
            let authority = api.desk.tls.authority();
            let issued = authority
                .issue_device(&device.id, days, now_s)
                .map_err(|error| Problem::internal(error.to_string()))?;
            made.expires_at = Some(When(issued.not_after_s.saturating_mul(1_000_000)));
            made.certificate = Some(issued.certificate_pem);
            made.key = Some(issued.key_pem);
            made.ca = Some(authority.pem().to_owned());
            issued.fingerprint
        }
        _ => {
            return Err(Problem::invalid(
                "certificate",
                "give one of certificate, sha256 and days, or nothing at all",
            ));
        }
    };
    made.sha256 = fingerprint.to_string();
    let store = &api.desk.store;
    match store
        .add_certificate(&device.id, &made.id, fingerprint, made.expires_at, CREDENTIALS_MAX)
        .await?
    {
        Added::Yes => {}
        Added::TooMany => return Err(too_many(&device)),
        Added::Taken => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "certificate_taken",
                format!(
                    "The certificate {fingerprint} is a credential already, of this device or another. A certificate belongs to one device; revoke that credential first."
                ),
            ));
        }
    }
    known(&api, &device).await?;
    Ok(HttpResponse::Created().json(made))
}

/// A certificate that a handshake would believe now: its fingerprint and its last second.
fn believed(api: &Api, pem: &str, now_s: i64) -> Result<(Fingerprint, Option<i64>), Problem> {
    let invalid = |what: &str| Problem::invalid("certificate", what);
    if pem.len() > CERTIFICATE_BYTES_MAX {
        return Err(invalid(&format!("longer than {CERTIFICATE_BYTES_MAX} bytes")));
    }
    let chain = pair::certificates(Path::new(""), pem.as_bytes()).map_err(|error| match error {
        TlsError::Content { what, .. } => invalid(&what),
        TlsError::Io { .. } | TlsError::Refused(_) | TlsError::Unset(_) | TlsError::Issue(_) => {
            invalid(&error.to_string())
        }
    })?;
    api.desk.tls.believes(&chain, now_s).map_err(|why| invalid(&why))?;
    let leaf = chain.first().ok_or_else(|| invalid("no certificate in PEM form"))?;
    Ok((Fingerprint::of(leaf), Validity::of(leaf).map(|validity| validity.not_after_s)))
}
