//! Identifiers: private newtypes with one parser each.
//!
//! All ids share one alphabet, `[A-Za-z0-9._:-]`, and 1 to [`ID_BYTES_MAX`] bytes, so that an id fits unescaped in a topic, a
//! URL path, a metric label and a file name. Dots alone are no id: in a path they would mean a directory. Ids are
//! reference-counted strings because a movement, a level and an event each carry several of them.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::ID_BYTES_MAX;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("an id must not be empty")]
    Empty,
    /// The text is longer than [`ID_BYTES_MAX`] bytes.
    #[error("an id has at most {ID_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A character outside the alphabet.
    #[error("an id is made of letters, digits and . _ : -, this one has {0:?}")]
    BadCharacter(char),
    /// Nothing but dots, which a URL path or a file name takes for a directory.
    #[error("an id must not be dots alone")]
    OnlyDots,
}

/// Checks the alphabet and length shared by all ids, and that there is more than dots.
pub fn check_id(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong(text.len()));
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    match text.bytes().position(|b| !good(b)) {
        None if text.bytes().all(|b| b == b'.') => Err(IdError::OnlyDots),
        None => Ok(()),
        Some(at) => Err(IdError::BadCharacter(
            text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or('\u{fffd}'),
        )),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses an id; see [`check_id`] for the rule.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_id(text)?;
                Ok(Self(Arc::from(text)))
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A device: a reader, a shelf gateway, a sensor, a handheld.
    DeviceId
);
id!(
    /// A site. One fold state per facility.
    FacilityId
);
id!(
    /// A zone of a facility (back room, sales floor, dock door).
    ZoneId
);
id!(
    /// A shelf of a facility.
    ShelfId
);
id!(
    /// A place on a shelf that holds stock.
    SlotId
);
id!(
    /// A stock keeping unit.
    Sku
);
id!(
    /// A profile's name; its content is named by [`crate::ProfileHash`].
    ProfileId
);
id!(
    /// A channel of a device: one load cell, one antenna.
    Channel
);

/// A shard: a set of facilities with one writer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_and_the_length_are_enforced() {
        assert!(DeviceId::parse("scale-01.a_b:C").is_ok());
        assert_eq!(Sku::parse(""), Err(IdError::Empty));
        assert_eq!(Sku::parse("a b"), Err(IdError::BadCharacter(' ')));
        assert_eq!(Sku::parse("é"), Err(IdError::BadCharacter('é')));
        assert_eq!(SlotId::parse(&"x".repeat(65)), Err(IdError::TooLong(65)));
        assert!(SlotId::parse(&"x".repeat(64)).is_ok());
    }

    #[test]
    fn dots_alone_are_no_id() {
        for dots in [".", "..", "..."] {
            assert_eq!(SlotId::parse(dots), Err(IdError::OnlyDots), "{dots}");
        }
        assert!(SlotId::parse("..a").is_ok());
        assert!(SlotId::parse("-.").is_ok());
    }

    #[test]
    fn a_bad_id_does_not_deserialize() {
        assert!(serde_json::from_str::<Sku>("\"ok-1\"").is_ok());
        assert!(serde_json::from_str::<Sku>("\"..\"").is_err());
        assert!(serde_json::from_str::<Sku>("\"not ok\"").is_err());
    }
}
