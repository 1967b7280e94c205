//! From when to when a certificate is good, read from its DER.
//!
//! rustls checks validity in handshakes but tells nobody the dates, and the hub must warn before they come. Only the way to
//! the two dates is walked: `Certificate / TBSCertificate / [0] version?, serial, signature, issuer, validity`. Any bytes
//! are answered with dates or with nothing, never with a panic.

use time::{Date, Month};

/// When a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second, since the Unix epoch.
    pub not_before_s: i64,
    /// Last second, since the Unix epoch.
    pub not_after_s: i64,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Bytes of a length's length: certificates are far smaller than 2^32 bytes.
const LENGTH_BYTES_MAX: usize = 4;

impl Validity {
    /// Of a certificate; `None` when it is no certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let mut outer = der;
        let mut certificate = expect(&mut outer, SEQUENCE)?;
        let mut signed = expect(&mut certificate, SEQUENCE)?;
        if signed.first() == Some(&VERSION) {
            expect(&mut signed, VERSION)?;
        }
        expect(&mut signed, INTEGER)?;
        expect(&mut signed, SEQUENCE)?;
        expect(&mut signed, SEQUENCE)?;
        let mut dates = expect(&mut signed, SEQUENCE)?;
        Some(Self { not_before_s: date(&mut dates)?, not_after_s: date(&mut dates)? })
    }
}

/// Takes the next element off `input` and gives its content.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], mut rest) = input.split_first_chunk::<2>()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let bytes = usize::from(first & 0x7F);
        if bytes == 0 || bytes > LENGTH_BYTES_MAX {
            return None;
        }
        let (length, after) = rest.split_at_checked(bytes)?;
        rest = after;
        length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (content, after) = rest.split_at_checked(length)?;
    *input = after;
    Some((tag, content))
}

fn expect<'a>(input: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    let (tag, content) = element(input)?;
    (tag == wanted).then_some(content)
}

/// `YYMMDDhhmmssZ` (the years 1950 to 2049) or `YYYYMMDDhhmmssZ`.
fn date(input: &mut &[u8]) -> Option<i64> {
    let (tag, text) = element(input)?;
    let text = std::str::from_utf8(text.strip_suffix(b"Z")?).ok()?;
    let year_digits = match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    if text.len() != year_digits + 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = text.split_at(year_digits);
    let year: i32 = year.parse().ok()?;
    let year = match tag {
        UTC_TIME if year < 50 => 2000 + year,
        UTC_TIME => 1900 + year,
        _ => year,
    };
    let part = |at: usize| rest.get(at..at + 2).and_then(|digits| digits.parse::<u8>().ok());
    let month = Month::try_from(part(0)?).ok()?;
    let day = Date::from_calendar_date(year, month, part(2)?).ok()?;
    Some(day.with_hms(part(4)?, part(6)?, part(8)?).ok()?.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;

    fn certificate(not_before_s: i64, not_after_s: i64) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = OffsetDateTime::from_unix_timestamp(not_before_s).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(not_after_s).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn dates_of_both_forms_are_read() {
        // 2049-12-31 23:59:59 is the last second of the short form.
        for (from, to) in
            [(0, 2_524_607_999), (1_790_000_000, 2_524_608_000), (2_600_000_000, 4_000_000_000)]
        {
            let read = Validity::of(&certificate(from, to)).unwrap();
            assert_eq!((read.not_before_s, read.not_after_s), (from, to));
        }
    }

    #[test]
    fn whatever_is_no_certificate_is_answered_with_nothing() {
        let good = certificate(0, 1);
        // The dates are in the first bytes, so a cut in the signature changes the outer length and is noticed.
        for cut in 0..good.len() {
            assert_eq!(Validity::of(&good[..cut]), None, "{cut}");
        }
        for at in 0..good.len().min(120) {
            for flip in [0x01, 0x40, 0x80, 0xFF] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                let _ = Validity::of(&bad);
            }
        }
        assert_eq!(Validity::of(&[SEQUENCE, 0x85, 1, 1, 1, 1, 1]), None);
        assert_eq!(Validity::of(&[]), None);
    }
}
