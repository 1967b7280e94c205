//! What a certificate is known by: the SHA-256 of its DER, as `openssl x509 -fingerprint -sha256` prints it.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// SHA-256 of a certificate. Public: whoever sees a handshake can compute it; it proves nothing without the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 fingerprint has 64 hex digits, with or without colons between")]
pub struct NoFingerprint;

impl Fingerprint {
    /// Of a certificate.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let mut digits = text.bytes().filter(|byte| *byte != b':').map(|byte| {
            char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(NoFingerprint)
        });
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            let (high, low) =
                (digits.next().ok_or(NoFingerprint)??, digits.next().ok_or(NoFingerprint)??);
            *byte = high << 4 | low;
        }
        if digits.next().is_some() { Err(NoFingerprint) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_usual_forms_are_read() {
        let print = Fingerprint::of(b"certificate");
        let plain = print.to_string();
        let pairs: Vec<String> =
            plain.as_bytes().chunks(2).map(|p| String::from_utf8_lossy(p).to_uppercase()).collect();
        assert_eq!(plain.parse(), Ok(print));
        assert_eq!(pairs.join(":").parse(), Ok(print));
        for bad in ["", "ab", &plain[1..], &format!("{plain}00"), &plain.replace(['a', '0'], "g")] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(NoFingerprint), "{bad}");
        }
    }
}
