//! EPCs and GS1 keys: GTIN, SSCC, GLN, GRAI, GIAI; element strings and Digital Links made of them (GS1 General Specifications 3,
//! GS1 Digital Link 1.3, TDS 7).

use super::{Digits, Epc, EpcError, check_digit, checked};

/// Where Digital Links lead when nobody names a resolver.
const RESOLVER: &str = "https://id.gs1.org";

/// Every character that is not unreserved in a URI, as `%XX`.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn with_check(digits: String) -> String {
    let check = check_digit(&digits);
    digits + &check.to_string()
}

/// The first digit of a field, and the others.
fn first(digits: Digits) -> (String, String) {
    let text = digits.to_string();
    let at = text.len().min(1);
    let (first, rest) = text.split_at(at);
    (first.to_owned(), rest.to_owned())
}

impl Epc {
    /// The key: GTIN-14, SSCC-18, GLN-13, GRAI (with its serial) or GIAI.
    pub fn key(&self) -> String {
        match self {
            Self::Sgtin { company, item, .. } => {
                let (indicator, reference) = first(*item);
                with_check(format!("{indicator}{company}{reference}"))
            }
            Self::Sscc { company, serial } => {
                let (extension, reference) = first(*serial);
                with_check(format!("{extension}{company}{reference}"))
            }
            Self::Sgln { company, location, .. } => with_check(format!("{company}{location}")),
            Self::Grai { company, asset_type, serial } => {
                with_check(format!("{company}{asset_type}")) + serial
            }
            Self::Giai { company, asset } => format!("{company}{asset}"),
        }
    }

    /// Application identifiers and their values, in order.
    fn elements(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Sgtin { serial, .. } => vec![("01", self.key()), ("21", serial.clone())],
            Self::Sscc { .. } => vec![("00", self.key())],
            Self::Sgln { extension, .. } => vec![("414", self.key()), ("254", extension.clone())],
            Self::Grai { .. } => vec![("8003", format!("0{}", self.key()))],
            Self::Giai { .. } => vec![("8004", self.key())],
        }
    }

    /// The element string as people read it, such as `(01)80614141123458(21)6789`.
    pub fn element_string(&self) -> String {
        self.elements().into_iter().map(|(ai, value)| format!("({ai}){value}")).collect()
    }

    /// The Digital Link, such as `https://id.gs1.org/01/80614141123458/21/6789`.
    pub fn digital_link(&self) -> String {
        let mut link = RESOLVER.to_owned();
        for (ai, value) in self.elements() {
            link.push_str(&format!("/{ai}/{}", percent(&value)));
        }
        link
    }

    /// An item of a GTIN. GTINs of 8, 12 and 13 digits are filled with zeros. `company_digits` is the length of the company
    /// prefix, 6 to 12.
    pub fn sgtin(gtin: &str, company_digits: u8, serial: &str) -> Result<Self, EpcError> {
        if !matches!(gtin.len(), 8 | 12 | 13 | 14) {
            return Err(EpcError::Key(gtin.to_owned()));
        }
        checked(gtin)?;
        let gtin = format!("{gtin:0>14}");
        let digits = checked(&gtin)?;
        let (company, reference) = prefix(&digits[1..], company_digits)?;
        let item = Digits::parse(&format!("{}{reference}", &digits[..1]), "item reference")?;
        Ok(Self::Sgtin { company, item, serial: serial.to_owned() })
    }

    /// The logistic unit of an SSCC.
    pub fn sscc(sscc: &str, company_digits: u8) -> Result<Self, EpcError> {
        if sscc.len() != 18 {
            return Err(EpcError::Key(sscc.to_owned()));
        }
        let digits = checked(sscc)?;
        let (company, reference) = prefix(&digits[1..], company_digits)?;
        let serial = Digits::parse(&format!("{}{reference}", &digits[..1]), "serial reference")?;
        Ok(Self::Sscc { company, serial })
    }

    /// The place of a GLN; extension `0` is the place as a whole.
    pub fn sgln(gln: &str, company_digits: u8, extension: &str) -> Result<Self, EpcError> {
        if gln.len() != 13 {
            return Err(EpcError::Key(gln.to_owned()));
        }
        let (company, reference) = prefix(checked(gln)?, company_digits)?;
        let location = Digits::parse(reference, "location reference")?;
        Ok(Self::Sgln { company, location, extension: extension.to_owned() })
    }
}

/// Divides digits behind a company prefix.
fn prefix(digits: &str, company_digits: u8) -> Result<(Digits, &str), EpcError> {
    if !(6..=12).contains(&company_digits) {
        return Err(EpcError::Length {
            field: "company prefix",
            have: company_digits.into(),
            most: 12,
        });
    }
    let (company, rest) = digits.split_at(usize::from(company_digits).min(digits.len()));
    Ok((Digits::parse(company, "company prefix")?, rest))
}
