//! GS1 data in barcodes: element strings, Digital Links, and plain GTINs, as scanners give them.
//!
//! ```text
//!  ]C10109506000134352172...  AIM symbology identifier, then elements; ␝ (FNC1) ends those of variable length
//!  (01)09506000134352(21)XYZ  as people write it                                     (element.rs)
//!  https://id.gs1.org/01/09506000134352/21/XYZ                                       (link.rs)
//!  9506000134352              EAN-13, EAN-8, UPC-A, GTIN-14
//! ```
//! [`Barcode::read`] never fails: a code that is none of these is a word of somebody's own. One that says it is GS1 and is not
//! (an unknown identifier, a wrong check digit, a date that is none) is told with the reason, and its text is kept.
//!
//! Without a symbology identifier a code is taken for an element string only when it begins with FNC1, or begins with a GTIN or
//! SSCC whose check digit is right and is sound to its end: a word of somebody's own that passes all of that is not to be expected.

mod date;
mod element;
mod link;
mod table;

pub use date::{Date, date};
pub use element::{
    Element, Gs1Error, Identifier, element_string, human, parse_elements, parse_human,
};
pub use link::parse_link;

use crate::epc::checked;

/// Most elements of a code.
pub const ELEMENTS_MAX: usize = 32;
/// The separator that ends an element of variable length: FNC1, which scanners send as GS.
pub const FNC1: char = '\u{1D}';

/// What a scanned code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Barcode {
    /// GS1 elements.
    Elements(Vec<Element>),
    /// A GTIN alone, filled to 14 digits.
    Gtin(String),
    /// A word of somebody's own, without the symbology identifier.
    Plain(String),
    /// It says that it is GS1 and is not.
    Bad {
        /// The code.
        code: String,
        /// What is wrong.
        why: Gs1Error,
    },
}

impl Barcode {
    /// Reads a code as a scanner gives it.
    pub fn read(code: &str) -> Self {
        let told = |elements: Result<Vec<Element>, Gs1Error>| match elements {
            Ok(elements) => Self::Elements(elements),
            Err(why) => Self::Bad { code: code.to_owned(), why },
        };
        match symbology(code) {
            (Symbology::Gs1, rest) => return told(parse_elements(rest)),
            (Symbology::Retail, rest) => {
                return match gtin(rest) {
                    Some(gtin) => Self::Gtin(gtin),
                    None => Self::Plain(rest.to_owned()),
                };
            }
            (Symbology::Other, rest) if rest.len() < code.len() => {
                return if is_link(rest) {
                    told(parse_link(rest))
                } else {
                    Self::Plain(rest.to_owned())
                };
            }
            (Symbology::Other, _) => {}
        }
        if code.starts_with(FNC1) {
            return told(parse_elements(code));
        }
        if code.starts_with('(') {
            return match parse_human(code) {
                Err(Gs1Error::NotHuman) => Self::Plain(code.to_owned()),
                elements => told(elements),
            };
        }
        if is_link(code) {
            return told(parse_link(code));
        }
        if let Some(gtin) = gtin(code) {
            return Self::Gtin(gtin);
        }
        match parse_elements(code) {
            Ok(elements) if elements.first().is_some_and(|e| matches!(e.ai(), "00" | "01")) => {
                Self::Elements(elements)
            }
            Ok(_) | Err(_) => Self::Plain(code.to_owned()),
        }
    }

    /// The value of an identifier.
    pub fn value(&self, ai: &str) -> Option<&str> {
        match self {
            Self::Elements(elements) => {
                elements.iter().find(|element| element.ai() == ai).map(Element::value)
            }
            Self::Gtin(gtin) if ai == "01" => Some(gtin),
            Self::Gtin(_) | Self::Plain(_) | Self::Bad { .. } => None,
        }
    }

    /// The trade item it names: of an item (01), or of the content of a logistic unit (02).
    pub fn gtin(&self) -> Option<&str> {
        self.value("01").or_else(|| self.value("02"))
    }
}

enum Symbology {
    /// GS1 elements.
    Gs1,
    /// EAN or UPC.
    Retail,
    /// Anything else, or no identifier.
    Other,
}

/// The AIM symbology identifier (ISO/IEC 15424) and the code behind it.
fn symbology(code: &str) -> (Symbology, &str) {
    let (Some(kind), Some(rest)) = (code.get(..3), code.get(3..)) else {
        return (Symbology::Other, code);
    };
    match kind {
        // GS1-128, GS1 DataBar and Composite, DataMatrix, QR, DotCode with FNC1 in front.
        "]C1" | "]e0" | "]e1" | "]e2" | "]d2" | "]Q3" | "]J1" => (Symbology::Gs1, rest),
        // EAN-13 with UPC, EAN-8; with add-ons the code is longer and no GTIN.
        "]E0" | "]E3" | "]E4" => (Symbology::Retail, rest),
        _ if kind.starts_with(']') && kind.bytes().skip(1).all(|b| b.is_ascii_alphanumeric()) => {
            (Symbology::Other, rest)
        }
        _ => (Symbology::Other, code),
    }
}

fn is_link(code: &str) -> bool {
    let scheme = code.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|s| s.eq_ignore_ascii_case("https") || s.eq_ignore_ascii_case("http"))
        && parse_link(code) != Err(Gs1Error::NoKey)
}

/// A GTIN of 8, 12, 13 or 14 digits with the right check digit, filled to 14.
fn gtin(code: &str) -> Option<String> {
    let sound = matches!(code.len(), 8 | 12 | 13 | 14) && checked(code).is_ok();
    sound.then(|| format!("{code:0>14}"))
}
