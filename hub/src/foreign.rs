//! Foreign topics: which enrolled device a topic outside the hub's own tree speaks of.
//!
//! Profiles say which topics they read ([`TopicMap`]); many may read one topic, and the profile with which the device is
//! enrolled decides. A topic that two enrolled devices could claim is nobody's: it is told, and not guessed. What cannot be
//! read is let go, with a reason that names what to do: foreign clients publish much that is no reading (states, births,
//! discovery), and a hub that cut them for it could not be used with them at all.

use std::sync::Arc;

use device_profiles::{Candidate, Route, RouteRefusal};

use crate::directory::{Device, Unknown};

/// Why a topic is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// No profile of an enrolled device reads it.
    #[error("no profile of an enrolled device reads this topic")]
    NoPattern,
    /// Its device is not enrolled.
    #[error("the device is not enrolled")]
    NotEnrolled(String),
    /// Its device is revoked.
    #[error("the device is disabled")]
    Disabled(String),
    /// Its device is enrolled with a profile that reads other topics.
    #[error("the device is enrolled with profile {profile}, which does not read this topic")]
    OtherProfile {
        /// The device.
        device: String,
        /// Its profile.
        profile: String,
    },
    /// Two enrolled devices could be meant.
    #[error("the topic speaks of {0} and of {1}; give one of them a profile with other topics")]
    Ambiguous(String, String),
    /// A level of it names nothing that can be.
    #[error(transparent)]
    NoName(#[from] RouteRefusal),
    /// The directory was never read.
    #[error("the hub does not know its devices yet")]
    NotReady,
}

impl Unread {
    /// Why a device of this name cannot be meant.
    pub fn because(unknown: Unknown, name: &str) -> Self {
        match unknown {
            Unknown::NotReady => Self::NotReady,
            Unknown::Disabled => Self::Disabled(name.to_owned()),
            Unknown::NotEnrolled | Unknown::BadSecret | Unknown::BadCertificate => {
                Self::NotEnrolled(name.to_owned())
            }
        }
    }

    /// Who it is about, for the list of those seen; `None` when it is about nobody.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::NotEnrolled(name)
            | Self::Disabled(name)
            | Self::OtherProfile { device: name, .. }
            | Self::Ambiguous(name, _) => Some(name),
            Self::NoName(RouteRefusal::Device { level, .. }) => Some(level),
            Self::NoName(RouteRefusal::Stream { .. }) | Self::NoPattern | Self::NotReady => None,
        }
    }

    /// How much it says: of several reasons the one is told that the user can do most about.
    fn weight(&self) -> u8 {
        match self {
            Self::NotReady => 6,
            Self::Ambiguous(..) => 5,
            Self::Disabled(_) => 4,
            Self::OtherProfile { .. } => 3,
            Self::NotEnrolled(_) => 2,
            Self::NoName(_) => 1,
            Self::NoPattern => 0,
        }
    }
}

/// Device and stream of a topic, from what the profiles make of it.
pub fn reader(
    candidates: Vec<Candidate>,
    find: impl Fn(&str) -> Result<Arc<Device>, Unknown>,
) -> Result<(Arc<Device>, String), Unread> {
    let mut found: Option<(Arc<Device>, String)> = None;
    let mut why = Unread::NoPattern;
    for Candidate { profile, route } in candidates {
        let reason = match route {
            Err(refusal) => Unread::NoName(refusal),
            Ok(Route { device: name, stream }) => match find(name.as_str()) {
                Ok(device) if device.profile.hash == profile => match &found {
                    Some((other, _)) => {
                        return Err(Unread::Ambiguous(other.id.to_string(), name.to_string()));
                    }
                    None => {
                        found = Some((device, stream));
                        continue;
                    }
                },
                Ok(device) => Unread::OtherProfile {
                    device: name.to_string(),
                    profile: device.profile.name.to_string(),
                },
                Err(unknown) => Unread::because(unknown, name.as_str()),
            },
        };
        if reason.weight() > why.weight() {
            why = reason;
        }
    }
    found.ok_or(why)
}
