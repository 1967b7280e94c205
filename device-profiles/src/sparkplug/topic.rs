//! Topics of Sparkplug B 3.0 and the ids of its nodes and devices.

use std::fmt;

use crate::{ids::IdError, topic::id_of_level};

/// The first level of every topic.
pub const ROOT: &str = "spBv1.0/";

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A node or device is there, with all its metrics.
    Birth,
    /// It is gone.
    Death,
    /// Some of its metrics changed.
    Data,
    /// It is told something.
    Command,
}

/// A topic of a node or of a device behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'a> {
    /// What the message is.
    pub kind: Kind,
    /// The group.
    pub group: &'a str,
    /// The edge node.
    pub edge: &'a str,
    /// The device; `None` = the node itself.
    pub device: Option<&'a str>,
}

impl<'a> Topic<'a> {
    /// Reads a topic; `None` when it is no message of a node or device.
    pub fn parse(topic: &'a str) -> Option<Self> {
        let mut levels = topic.strip_prefix(ROOT)?.split('/');
        let (group, name, edge) = (levels.next()?, levels.next()?, levels.next()?);
        let device = levels.next();
        let (who, what) = name.split_at_checked(1)?;
        let kind = match what {
            "BIRTH" => Kind::Birth,
            "DEATH" => Kind::Death,
            "DATA" => Kind::Data,
            "CMD" => Kind::Command,
            _ => return None,
        };
        let sound = |level: &str| !level.is_empty() && !level.contains(['+', '#']);
        let fits = match (who, device) {
            ("N", None) => true,
            ("D", Some(device)) => sound(device),
            _ => false,
        };
        let whole = fits && levels.next().is_none() && sound(group) && sound(edge);
        whole.then_some(Self { kind, group, edge, device })
    }

    /// The same node's or device's name as Sparkplug writes it: NBIRTH, DDATA.
    pub fn name(&self) -> &'static str {
        match (self.kind, self.device) {
            (Kind::Birth, None) => "NBIRTH",
            (Kind::Birth, Some(_)) => "DBIRTH",
            (Kind::Death, None) => "NDEATH",
            (Kind::Death, Some(_)) => "DDEATH",
            (Kind::Data, None) => "NDATA",
            (Kind::Data, Some(_)) => "DDATA",
            (Kind::Command, None) => "NCMD",
            (Kind::Command, Some(_)) => "DCMD",
        }
    }

    /// The id of the node.
    pub fn node_id(&self) -> Result<String, IdError> {
        id(self.group, self.edge, None)
    }

    /// The id of the node or device it speaks of.
    pub fn id(&self) -> Result<String, IdError> {
        id(self.group, self.edge, self.device)
    }
}

/// The id of a node, or of a device behind it: its levels joined by colons. A level that is no id, or has a colon of its own,
/// is written as [`id_of_level`] writes it, so that two paths never meet in one id.
pub fn id(group: &str, edge: &str, device: Option<&str>) -> Result<String, IdError> {
    let mut id = String::new();
    for level in [Some(group), Some(edge), device].into_iter().flatten() {
        if !id.is_empty() {
            id.push(':');
        }
        let written = id_of_level(level)?;
        if level.contains(':') && written == level {
            id.push_str(&level.replace(':', "::3A"));
        } else {
            id.push_str(&written);
        }
    }
    crate::ids::check_id(&id).map(|()| id)
}

/// The topic by which a node is told something.
pub fn command_topic(group: &str, edge: &str) -> String {
    format!("{ROOT}{group}/NCMD/{edge}")
}

/// The topic by which a host says whether it is there.
pub fn state_topic(host: impl fmt::Display) -> String {
    format!("{ROOT}STATE/{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_nodes_and_devices() {
        let node = Topic::parse("spBv1.0/Plant 1/NBIRTH/Edge7").unwrap();
        assert_eq!((node.kind, node.name(), node.device), (Kind::Birth, "NBIRTH", None));
        assert_eq!(node.id().unwrap(), "Plant::201:Edge7");
        let device = Topic::parse("spBv1.0/P/DDATA/E/S:1").unwrap();
        assert_eq!((device.name(), device.device), ("DDATA", Some("S:1")));
        assert_eq!(device.id().unwrap(), "P:E:S::3A1");
        assert_eq!(device.node_id().unwrap(), "P:E");
        for topic in [
            "spBv1.0/STATE/hub",
            "spBv1.0/P/NDATA/E/D",
            "spBv1.0/P/DDATA/E",
            "spBv1.0/P/DDATA/E/D/x",
            "spBv1.0/P/XDATA/E",
            "spBv1.0/P/NDATA/",
            "spBv1.0//NDATA/E",
            "spBv1.0/P/NDATA/+",
            "spBv1.0/P/é/E",
            "spAv1.0/P/NDATA/E",
            "spBv1.0/",
        ] {
            assert_eq!(Topic::parse(topic), None, "{topic}");
        }
    }

    #[test]
    fn two_paths_never_meet() {
        assert_ne!(id("a:b", "c", None), id("a", "b:c", None));
        assert_ne!(id("a", "b", Some("c")), id("a", "b:c", None));
        assert!(id(&"x".repeat(40), &"y".repeat(40), None).is_err());
        assert!(id("", "e", None).is_err());
    }
}
