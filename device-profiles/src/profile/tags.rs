//! Tag streams: what a reader of tags says, and how long its silence says that nothing is there.
//!
//! No read is evidence of absence only while the reader listens. A reader that gives signs of life is believed to listen from
//! one frame to the next, as long as they are not further apart than `patience_ms`; one that gives none is always believed.

use serde::Deserialize;

use super::{ProfileError, invalid};

/// Longest patience, in milliseconds.
pub const PATIENCE_MS_MAX: u32 = 3_600_000;

/// What a stream of tags is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagsMap {
    /// Longest time between two frames in which the reader is believed to have listened, in milliseconds; `None` = it always
    /// listens, and its silence says that it hears nothing.
    pub patience_ms: Option<u32>,
}

/// The same as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TagsText {
    #[serde(default)]
    patience_ms: Option<u32>,
}

impl TagsText {
    /// Checks it.
    pub(super) fn check(self) -> Result<TagsMap, ProfileError> {
        match self.patience_ms {
            Some(0) => {
                Err(invalid("patience_ms must be 1 or more; without it the reader always listens"))
            }
            Some(ms) if ms > PATIENCE_MS_MAX => {
                Err(invalid(format!("patience_ms must be {PATIENCE_MS_MAX} or less")))
            }
            patience_ms => Ok(TagsMap { patience_ms }),
        }
    }
}
