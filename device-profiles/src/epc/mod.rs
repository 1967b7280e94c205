//! Electronic Product Codes: what the bytes in a tag's EPC memory say, by the GS1 EPC Tag Data Standard (TDS 1.13, the forms
//! that TDS 2 calls without `+`).
//!
//! ```text
//!  bytes ◄─► Written { epc, filter, form } ◄─► urn:epc:tag:sgtin-96:3.0614141.812345.6789
//!                   │
//!                   ├─► urn:epc:id:sgtin:0614141.812345.6789      (uri.rs)
//!                   └─► (01)80614141123458(21)6789, GTIN-14, Digital Link   (key.rs)
//! ```
//! [`identify`] never fails: whatever is no EPC of a known scheme (an unprogrammed tag, a manufacturer's number, a form that is
//! not read here, a field that overflows) is kept as hexadecimal, with the reason. Two identities are equal when their texts
//! are: a serial has one way to be written.
//!
//! A company prefix has 6 to 12 digits, and only its owner knows how many: a key alone does not tell, so what is made from a
//! key names the length.

mod binary;
mod bits;
mod digits;
mod key;
mod scheme;
mod uri;

use std::fmt;

pub(crate) use digits::is_gs1;
pub use digits::{Digits, check_digit, checked, gtin14};
pub use scheme::Form;

/// Why bytes or a text are no EPC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpcError {
    /// Header 00: nobody has written the tag.
    #[error("the tag is not programmed")]
    Unprogrammed,
    /// A header that no scheme has, such as E2 of a manufacturer's tag number.
    #[error("header {0:02X} is no EPC")]
    NotEpc(u8),
    /// A scheme that is not read here.
    #[error("{name} (header {header:02X}) is not read here")]
    Unsupported {
        /// Its header.
        header: u8,
        /// Its name.
        name: &'static str,
    },
    /// The memory ends within a field.
    #[error("{need} bits are needed, there are {have}")]
    Short {
        /// Bits needed.
        need: usize,
        /// Bits there are.
        have: usize,
    },
    /// Something follows the EPC.
    #[error("bits after the end of the EPC are not zero")]
    Trailing,
    /// Partition 7.
    #[error("partition {0} has no meaning")]
    Partition(u8),
    /// A number beyond the digits there are for it.
    #[error("{field} {value} has more than {len} digits")]
    Overflow {
        /// Which.
        field: &'static str,
        /// The number.
        value: u64,
        /// The digits.
        len: u8,
    },
    /// A number beyond the bits there are for it.
    #[error("{field} {value} does not fit its {bits} bits")]
    TooLarge {
        /// Which.
        field: &'static str,
        /// The number.
        value: String,
        /// The bits.
        bits: u32,
    },
    /// A field of the wrong length.
    #[error("{field} has {have} characters, {most} are possible")]
    Length {
        /// Which.
        field: &'static str,
        /// Its characters.
        have: usize,
        /// How many it may or must have.
        most: usize,
    },
    /// A character that cannot be there.
    #[error("{field} has {character:?} in it")]
    Character {
        /// Which.
        field: &'static str,
        /// The character.
        character: char,
    },
    /// A number of a 96-bit form is written without leading zeros, or it would not come back as it was.
    #[error("{field} {value} has leading zeros, which this form cannot keep")]
    LeadingZero {
        /// Which.
        field: &'static str,
        /// As written.
        value: String,
    },
    /// A filter beyond 7.
    #[error("filter {0} is none; 0 to 7 are possible")]
    Filter(u8),
    /// Not a key.
    #[error("{0:?} is no GS1 key")]
    Key(String),
    /// A check digit that is wrong.
    #[error("{key}: the check digit must be {wanted}, not {found}")]
    CheckDigit {
        /// The key.
        key: String,
        /// What it must be.
        wanted: char,
        /// What it is.
        found: char,
    },
    /// Not an EPC URI.
    #[error("{0:?} is no EPC URI of a scheme that is read here")]
    Uri(String),
    /// The form is another scheme's.
    #[error("{0} cannot hold this EPC")]
    Form(Form),
}

/// An identity, whatever tag carries it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Epc {
    /// A trade item: GTIN and serial.
    Sgtin {
        /// Company prefix, 6 to 12 digits.
        company: Digits,
        /// Indicator and item reference; with the prefix 13 digits.
        item: Digits,
        /// Serial, 1 to 20 characters.
        serial: String,
    },
    /// A logistic unit.
    Sscc {
        /// Company prefix.
        company: Digits,
        /// Extension digit and serial reference; with the prefix 17 digits.
        serial: Digits,
    },
    /// A place.
    Sgln {
        /// Company prefix.
        company: Digits,
        /// Location reference; with the prefix 12 digits.
        location: Digits,
        /// Extension; `0` = the place as a whole.
        extension: String,
    },
    /// A returnable asset.
    Grai {
        /// Company prefix.
        company: Digits,
        /// Asset type; with the prefix 12 digits.
        asset_type: Digits,
        /// Serial.
        serial: String,
    },
    /// An individual asset.
    Giai {
        /// Company prefix.
        company: Digits,
        /// Asset reference.
        asset: String,
    },
}

/// An identity as a tag holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Written {
    /// Who it is.
    pub epc: Epc,
    /// What it is fixed to: 0 all others, 1 point-of-sale item, 2 full case, 4 inner pack, 6 unit load, 7 component.
    pub filter: u8,
    /// How it is written.
    pub form: Form,
}

/// What a tag's EPC memory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// An EPC.
    Epc(Written),
    /// Something else, kept as it is.
    Raw {
        /// The bytes, upper-case hexadecimal.
        hex: String,
        /// Why it is no EPC.
        why: EpcError,
    },
}

impl fmt::Display for Identity {
    /// The pure identity URI, or the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Epc(tag) => f.write_str(&tag.epc.uri()),
            Self::Raw { hex, .. } => f.write_str(hex),
        }
    }
}

/// Reads a tag's EPC memory, without its CRC and PC words. Any bytes.
pub fn identify(bytes: &[u8]) -> Identity {
    match Written::decode(bytes) {
        Ok(tag) => Identity::Epc(tag),
        Err(why) => {
            let hex = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            Identity::Raw { hex, why }
        }
    }
}
