//! Elements: an application identifier and its value, from and to element strings.

use std::fmt;

use super::{ELEMENTS_MAX, FNC1, date, table::IDENTIFIERS};
use crate::epc::{checked, is_gs1};

/// Why a code is no sound GS1 data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Gs1Error {
    /// No such identifier.
    #[error("{0:?} begins with no application identifier")]
    Identifier(String),
    /// The value ends too early or goes on too long.
    #[error("({ai}): {have} characters are too few or too many")]
    Length {
        /// The identifier.
        ai: String,
        /// Its characters.
        have: usize,
    },
    /// A character that cannot be there.
    #[error("({ai}) has {character:?} in it")]
    Character {
        /// The identifier.
        ai: String,
        /// The character.
        character: char,
    },
    /// The check digit is wrong.
    #[error("({ai}): the check digit of {value} is wrong")]
    CheckDigit {
        /// The identifier.
        ai: String,
        /// Its value.
        value: String,
    },
    /// Not a date.
    #[error("{0:?} is no date")]
    Date(String),
    /// No element at all.
    #[error("there is no element in it")]
    Empty,
    /// Too many elements.
    #[error("it has more than {ELEMENTS_MAX} elements")]
    TooMany,
    /// An identifier that is there twice with different values.
    #[error("({0}) is there twice, with different values")]
    Twice(String),
    /// Not written as people write elements.
    #[error("it is not written as (AI)value")]
    NotHuman,
    /// A link without a key.
    #[error("the link has no key of GS1 in its path")]
    NoKey,
    /// A link that is written wrongly.
    #[error("{0:?} cannot stand in a link")]
    Link(String),
}

/// An application identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identifier {
    /// Its length is predefined: no separator ends its value.
    pub is_fixed: bool,
    /// It may be the key of a Digital Link.
    pub is_key: bool,
    format: &'static str,
}

impl Identifier {
    /// The identifier of these digits.
    pub fn find(ai: &str) -> Option<Self> {
        let row = IDENTIFIERS
            .iter()
            .find(|(first, last, ..)| first.len() == ai.len() && (*first..=*last).contains(&ai))?;
        let is = |flag| row.2.contains(flag);
        Some(Self { is_fixed: is('*'), is_key: is('/'), format: row.3 })
    }

    /// The identifier that a text begins with; no identifier is the beginning of another.
    fn leading(text: &str) -> Option<(&str, Self)> {
        (2..=4).find_map(|len| {
            let ai = text.get(..len)?;
            Some((ai, Self::find(ai)?))
        })
    }

    fn components(self) -> impl Iterator<Item = Component> {
        self.format.split(' ').map(Component::of)
    }

    /// Most characters of a value.
    fn longest(self) -> usize {
        self.components().map(|component| component.longest).sum()
    }

    /// Whether a value is sound.
    fn check(self, ai: &str, value: &str) -> Result<(), Gs1Error> {
        let length = || Gs1Error::Length { ai: ai.to_owned(), have: value.chars().count() };
        if let Some(character) = value.chars().find(|c| !is_gs1(*c)) {
            return Err(Gs1Error::Character { ai: ai.to_owned(), character });
        }
        let mut rest = value;
        for component in self.components() {
            if rest.is_empty() && component.is_optional {
                break;
            }
            let len = rest.len().min(component.longest);
            if len < component.shortest {
                return Err(length());
            }
            let (part, after) = rest.split_at(len);
            component.check(ai, part)?;
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(length()) }
    }
}

/// A part of a value.
#[derive(Debug, Clone, Copy)]
struct Component {
    set: char,
    shortest: usize,
    longest: usize,
    is_optional: bool,
    has_check: bool,
    is_date: bool,
}

impl Component {
    /// From the table's words; a test reads every row.
    fn of(text: &str) -> Self {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let longest = digits.parse().unwrap_or(0);
        let ends = |flag| text.trim_start_matches(char::is_alphabetic).contains(flag);
        Self {
            set: text.chars().next().unwrap_or('X'),
            shortest: if text.contains("..") { 1 } else { longest },
            longest,
            is_optional: text.ends_with('?'),
            has_check: ends('c'),
            is_date: ends('d'),
        }
    }

    fn check(self, ai: &str, part: &str) -> Result<(), Gs1Error> {
        let belongs = |c: char| match self.set {
            'N' => c.is_ascii_digit(),
            'Y' => c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '#' | '-' | '/'),
            'Z' => c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '='),
            _ => is_gs1(c),
        };
        if let Some(character) = part.chars().find(|c| !belongs(*c)) {
            return Err(Gs1Error::Character { ai: ai.to_owned(), character });
        }
        if self.has_check && checked(part).is_err() {
            return Err(Gs1Error::CheckDigit { ai: ai.to_owned(), value: part.to_owned() });
        }
        if self.is_date {
            // Of which century does not matter here, but for 29 February; a leap year is among the nearest.
            date(part, 2000).or_else(|_| date(part, 2100)).map(drop)?;
        }
        Ok(())
    }
}

/// An element that is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    ai: String,
    value: String,
}

impl Element {
    /// An element, if it is sound.
    pub fn new(ai: &str, value: &str) -> Result<Self, Gs1Error> {
        let identifier = Identifier::find(ai).ok_or_else(|| Gs1Error::Identifier(ai.to_owned()))?;
        identifier.check(ai, value)?;
        Ok(Self { ai: ai.to_owned(), value: value.to_owned() })
    }

    /// Its identifier.
    pub fn ai(&self) -> &str {
        &self.ai
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The number of a measure (310n to 369n, 390n to 395n) as an integer and how many of its digits are decimals.
    pub fn measure(&self) -> Option<(u64, u8)> {
        let is_measure = self.ai.len() == 4
            && (self.ai.starts_with("31")
                || self.ai.starts_with("32")
                || self.ai.starts_with("33")
                || self.ai.starts_with("34")
                || self.ai.starts_with("35")
                || self.ai.starts_with("36")
                || self.ai.starts_with("39"));
        // An amount with a currency begins with its three digits.
        let number = match self.ai.get(..3) {
            Some("391" | "393") => self.value.get(3..)?,
            Some(_) | None => self.value.as_str(),
        };
        let decimals = self.ai.get(3..)?.parse().ok()?;
        is_measure.then(|| number.parse().ok()).flatten().map(|number| (number, decimals))
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}){}", self.ai, self.value)
    }
}

/// Reads an element string. FNC1 in front is let go, and one more than is needed.
pub fn parse_elements(text: &str) -> Result<Vec<Element>, Gs1Error> {
    let mut elements = Vec::new();
    let mut rest = text.strip_prefix(FNC1).unwrap_or(text);
    while !rest.is_empty() {
        let (ai, identifier) = Identifier::leading(rest)
            .ok_or_else(|| Gs1Error::Identifier(rest.chars().take(8).collect()))?;
        let after = rest.get(ai.len()..).unwrap_or_default();
        let end = after.find(FNC1).unwrap_or(after.len());
        // What is fixed ends by its length, for nothing need separate it.
        let end = if identifier.is_fixed { end.min(identifier.longest()) } else { end };
        let value = after.get(..end).unwrap_or(after);
        add(&mut elements, Element::new(ai, value)?)?;
        rest = after.get(end..).unwrap_or_default();
        rest = rest.strip_prefix(FNC1).unwrap_or(rest);
    }
    if elements.is_empty() { Err(Gs1Error::Empty) } else { Ok(elements) }
}

/// Reads elements as people write them: `(01)09506000134352(21)XYZ`.
pub fn parse_human(text: &str) -> Result<Vec<Element>, Gs1Error> {
    let mut elements = Vec::new();
    let mut rest = text.strip_prefix('(').ok_or(Gs1Error::NotHuman)?;
    loop {
        let (ai, after) = rest.split_once(')').ok_or(Gs1Error::NotHuman)?;
        if ai.is_empty() || !ai.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Gs1Error::NotHuman);
        }
        let (value, next) = match next_identifier(after) {
            Some(at) => after.split_at(at),
            None => (after, ""),
        };
        add(&mut elements, Element::new(ai, value)?)?;
        match next.strip_prefix('(') {
            Some(more) => rest = more,
            None => return Ok(elements),
        }
    }
}

/// Where the next `(AI)` begins. A value may have brackets in it: only those around an identifier end it.
fn next_identifier(text: &str) -> Option<usize> {
    text.match_indices('(').map(|(at, _)| at).find(|at| {
        let inside = text.get(at + 1..).and_then(|rest| rest.split_once(')'));
        inside.is_some_and(|(ai, _)| Identifier::find(ai).is_some())
    })
}

pub(super) fn add(elements: &mut Vec<Element>, element: Element) -> Result<(), Gs1Error> {
    match elements.iter().find(|known| known.ai == element.ai) {
        // Codes of two symbols may tell a thing twice.
        Some(known) if *known == element => return Ok(()),
        Some(_) => return Err(Gs1Error::Twice(element.ai)),
        None => {}
    }
    if elements.len() >= ELEMENTS_MAX {
        return Err(Gs1Error::TooMany);
    }
    elements.push(element);
    Ok(())
}

/// The element string as a barcode holds it, without FNC1 in front.
pub fn element_string(elements: &[Element]) -> String {
    let mut out = String::new();
    for (at, Element { ai, value }) in elements.iter().enumerate() {
        out.push_str(ai);
        out.push_str(value);
        let ends_itself = Identifier::find(ai).is_some_and(|identifier| identifier.is_fixed);
        if !ends_itself && at + 1 < elements.len() {
            out.push(FNC1);
        }
    }
    out
}

/// The elements as people read them.
pub fn human(elements: &[Element]) -> String {
    elements.iter().map(Element::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_can_be_used() {
        for (first, last, flags, format) in IDENTIFIERS {
            assert!(first <= last && first.len() == last.len(), "{first}-{last}");
            assert!(flags.chars().all(|c| "*/".contains(c)));
            let identifier = Identifier::find(first).unwrap();
            assert_eq!(Identifier::find(last), Some(identifier), "{last}");
            for (part, component) in format.split(' ').zip(identifier.components()) {
                assert!("NXYZ".contains(component.set), "{first}: {part}");
                assert!((1..=90).contains(&component.longest), "{first}: {part}");
                assert!(!component.is_date || component.longest == 6, "{first}: {part}");
            }
            assert!(!identifier.is_fixed || !format.contains(".."), "{first} has no length");
            // None is the beginning of another.
            for len in 2..first.len() {
                assert_eq!(Identifier::find(&first[..len]), None, "{first}");
            }
        }
    }
}
