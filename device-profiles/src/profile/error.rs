//! Why a text is not a profile, and where in it.

use std::fmt;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

/// A place in a profile text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

impl Place {
    fn of(location: Location) -> Option<Self> {
        (location != Location::UNKNOWN)
            .then(|| Self { line: location.line(), column: location.column() })
    }
}

/// Why a text is not a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not YAML, an unknown key, a wrong type.
    #[error("the profile does not parse{}: {what}", Told(*.at))]
    Syntax {
        /// What is wrong.
        what: String,
        /// Where; known unless the text has no place at all.
        at: Option<Place>,
    },
    /// Well-formed but impossible.
    #[error("the profile is invalid{}: {what}", Told(*.at))]
    Invalid {
        /// What is wrong.
        what: String,
        /// Where the thing begins that is wrong, when it is one thing.
        at: Option<Place>,
    },
}

impl ProfileError {
    /// What is wrong, without the place.
    pub fn what(&self) -> &str {
        let (Self::Syntax { what, .. } | Self::Invalid { what, .. }) = self;
        what
    }

    /// Where, if it is known.
    pub fn place(&self) -> Option<Place> {
        let (Self::Syntax { at, .. } | Self::Invalid { at, .. }) = self;
        *at
    }

    /// The same error at a place, unless it has one already: the innermost place is the best.
    #[must_use]
    pub(crate) fn at(mut self, place: Option<Place>) -> Self {
        let (Self::Syntax { at, .. } | Self::Invalid { at, .. }) = &mut self;
        *at = at.or(place);
        self
    }
}

/// Where a thing begins.
pub(crate) fn place<T>(thing: &Spanned<T>) -> Option<Place> {
    Place::of(thing.referenced)
}

/// A [`ProfileError::Invalid`]; whoever knows the place adds it with [`ProfileError::at`].
pub(crate) fn invalid(what: impl Into<String>) -> ProfileError {
    ProfileError::Invalid { what: what.into(), at: None }
}

/// Reads YAML; every error has its place.
pub(crate) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, ProfileError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location().and_then(Place::of);
        let mut what = error.without_snippet().to_string();
        // The library ends its text with the place, which is told apart here.
        if let Some(end) = at.map(|p| format!(" at line {}, column {}", p.line, p.column))
            && what.ends_with(&end)
        {
            what.truncate(what.len() - end.len());
        }
        ProfileError::Syntax { what, at }
    })
}

struct Told(Option<Place>);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Place { line, column }) => write!(f, " at line {line}, column {column}"),
            None => Ok(()),
        }
    }
}
