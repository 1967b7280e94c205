//! What both physics are: a source of reads.

use std::sync::Arc;

use device_profiles::Tag;
use serde::{Deserialize, Serialize};

use super::{Epochs, Geometry, World};

/// A reader heard a tag once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// When, virtual microseconds.
    pub at_us: i64,
    /// Which reader.
    pub reader: usize,
    /// On which port, from 1.
    pub antenna: u16,
    /// The tag.
    pub tag: Tag,
    /// Its number in the world. A reader does not know it; it is there to find the tag again fast.
    pub item: usize,
    /// Strength of the signal, 1/100 dBm.
    pub rssi_cdbm: i16,
}

/// What readers hear of a world.
pub trait Physics {
    /// Appends every read from where the last call ended (first: 0) until before `to_us`, in order of time.
    fn reads(&mut self, to_us: i64, out: &mut Vec<Read>);
}

/// Which physics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// [`Epochs`].
    Epochs,
    /// [`Geometry`].
    Geometry,
}

impl Model {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Epochs => "epochs",
            Self::Geometry => "geometry",
        }
    }

    /// This physics of a world.
    #[must_use]
    pub fn of(self, world: &Arc<World>) -> Box<dyn Physics + Send> {
        match self {
            Self::Epochs => Box::new(Epochs::new(world)),
            Self::Geometry => Box::new(Geometry::new(world)),
        }
    }
}

/// Reads that are made, in order of time, and not asked for yet.
#[derive(Debug, Default)]
pub(super) struct Ready(pub(super) Vec<Read>);

impl Ready {
    /// Hands over what was read before a moment.
    pub(super) fn hand_over(&mut self, to_us: i64, out: &mut Vec<Read>) {
        let due = self.0.partition_point(|read| read.at_us < to_us);
        out.extend(self.0.drain(..due));
    }
}
