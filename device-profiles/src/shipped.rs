//! The profiles that come with the hub. Each is a text like any other: it can be read, copied and changed.

/// A profile's name and its text.
pub type Shipped = (&'static str, &'static str);

macro_rules! shipped {
    ($($name:literal)*) => {
        /// Every profile that comes with the hub, the default one first.
        pub const SHIPPED: &[Shipped] =
            &[$(($name, include_str!(concat!("../profiles/", $name, ".yaml")))),*];
    };
}

shipped! {
    "default"
    "generic-json"
    "generic-rfid"
    "impinj-iot"
    "r200"
    "scanner-line"
    "sparkplug"
    "zebra-iotc"
    "zigbee2mqtt"
    "tasmota"
    "shelly-gen1"
    "shelly-gen2"
    "chirpstack"
    "baykon-mx08"
    "dini-argeo-dgt4x"
    "eagle-ei-4000"
    "flintec-ft-112"
    "llrp-reader"
    "laumas-tlb"
    "seneca-z-sg"
    "tuna-id551pn"
}

/// The text of the shipped profile with this name.
pub fn shipped(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{DEFAULT_PROFILE, Profile};

    #[test]
    fn every_one_is_sound_and_named_as_its_file() {
        assert_eq!(SHIPPED[0].1, DEFAULT_PROFILE);
        for (name, text) in SHIPPED {
            let profile = Profile::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(profile.name.as_str(), *name);
            assert!(!profile.description.is_empty());
        }
    }
}
