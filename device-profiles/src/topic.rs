//! Foreign topics: which device and which stream a topic of somebody else's making speaks of.
//!
//! ```text
//! zigbee2mqtt/{device}                        {device}  names the device: exactly one level, once in a pattern
//! shellies/{device}/sensor/{stream}           {stream}  names the stream: exactly one level
//! tele/{device}/SENSOR          → sensor      +         any one level
//! application/+/device/{device}/event/{stream}
//! ```
//!
//! A pattern without `{stream}` leads to a stream that the profile names beside it. `#` is not part of the language: a device
//! whose messages lie at unknown depths cannot be told from its neighbour. As in MQTT, a pattern that begins with a wildcard
//! does not match topics that begin with `$`, and letters of another case are other letters.
//!
//! A level is what somebody typed elsewhere, an id of ours is not; [`id_of_level`] maps the one to the other, the same way on
//! every hub, and never two names to one id. Many profiles may read one topic: [`TopicMap`] gives every candidate, and the
//! profile with which the device is enrolled decides.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    ids::{DeviceId, IdError, check_id},
    limits::{TOPIC_BYTES_MAX, TOPIC_LEVELS_MAX},
    profile::{Profile, ProfileHash},
};

/// The hub's own tree; a profile cannot claim it.
const OWN_TREE: &str = "stockfold";
/// The first level within it.
const OWN_VERSION: &str = "v1";

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPattern {
    text: String,
    levels: Vec<Level>,
    stream: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Literal(String),
    Any,
    Device,
    Stream,
}

/// What a topic speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The device.
    pub device: DeviceId,
    /// The stream's name; whether the profile has it is told by [`Profile::stream`].
    pub stream: String,
}

/// Why a topic that matches names no device or stream that can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteRefusal {
    /// The device's level.
    #[error(
        "the topic's level {level:?} names no device: {reason}; rename the device where it publishes"
    )]
    Device {
        /// The level.
        level: String,
        /// What is wrong with it.
        reason: IdError,
    },
    /// The stream's level.
    #[error("the topic's level {level:?} names no stream: {reason}")]
    Stream {
        /// The level.
        level: String,
        /// What is wrong with it.
        reason: IdError,
    },
}

/// A topic as written in a profile.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopicText {
    pattern: String,
    #[serde(default)]
    stream: Option<String>,
}

impl TopicText {
    /// Checks and compiles it; that a fixed stream exists is the profile's to check.
    pub(crate) fn compile(self) -> Result<TopicPattern, String> {
        TopicPattern::parse(&self.pattern, self.stream.as_deref())
            .map_err(|why| format!("topic {:?}: {why}", self.pattern))
    }
}

impl TopicPattern {
    /// Compiles a pattern; `stream` is where it leads when it has no `{stream}`.
    pub fn parse(text: &str, stream: Option<&str>) -> Result<Self, String> {
        if text.len() > TOPIC_BYTES_MAX {
            return Err(format!("longer than {TOPIC_BYTES_MAX} bytes"));
        }
        let levels = text.split('/').map(Level::parse).collect::<Result<Vec<_>, _>>()?;
        if levels.len() > TOPIC_LEVELS_MAX {
            return Err(format!("more than {TOPIC_LEVELS_MAX} levels"));
        }
        let count = |level: &Level| levels.iter().filter(|l| *l == level).count();
        if count(&Level::Device) != 1 {
            return Err("it must have {device} as one level, once".into());
        }
        match (count(&Level::Stream), stream) {
            (0, None) => return Err("it needs {stream} as a level, or `stream` beside it".into()),
            (1, None) => {}
            (0, Some(name)) => check_id(name).map_err(|e| format!("stream: {e}"))?,
            (1, Some(_)) => return Err("give {stream} or `stream`, not both".into()),
            _ => return Err("it may have {stream} once".into()),
        }
        if levels.first() == Some(&Level::Literal(OWN_TREE.into())) {
            return Err(format!("topics below {OWN_TREE}/ are the hub's own"));
        }
        // A pattern that could match `stockfold/v1/…` would let whoever may publish by it speak for every device.
        let may_be = |level: Option<&Level>, own| match level {
            Some(Level::Literal(text)) => text == own,
            Some(Level::Any | Level::Device | Level::Stream) => true,
            None => false,
        };
        if may_be(levels.first(), OWN_TREE)
            && may_be(levels.get(1), OWN_VERSION)
            && levels.len() > 2
        {
            return Err(format!(
                "it could match the hub's own topics {OWN_TREE}/{OWN_VERSION}/…; begin it with plain text"
            ));
        }
        Ok(Self { text: text.to_owned(), levels, stream: stream.map(str::to_owned) })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The stream it leads to when its topics do not name one.
    pub fn fixed_stream(&self) -> Option<&str> {
        self.stream.as_deref()
    }

    /// The MQTT filter that brings its topics.
    pub fn filter(&self) -> String {
        self.filter_of("+")
    }

    /// The MQTT filter that brings its topics of one device; `device` stands where the device's name does.
    pub fn filter_of(&self, device: &str) -> String {
        let level = |level: &Level| match level {
            Level::Literal(text) => text.clone(),
            Level::Device => device.to_owned(),
            Level::Any | Level::Stream => "+".to_owned(),
        };
        self.levels.iter().map(level).collect::<Vec<_>>().join("/")
    }

    /// Device and stream of a topic; `None` when it does not match.
    pub fn route(&self, topic: &str) -> Option<Result<Route, RouteRefusal>> {
        let mut told = topic.split('/');
        let (mut device, mut stream) = ("", self.stream.as_deref().unwrap_or(""));
        for (i, level) in self.levels.iter().enumerate() {
            let text = told.next()?;
            match level {
                Level::Literal(literal) if literal == text => {}
                Level::Literal(_) => return None,
                _ if i == 0 && text.starts_with('$') => return None,
                Level::Any => {}
                Level::Device => device = text,
                Level::Stream => stream = text,
            }
        }
        if told.next().is_some() {
            return None;
        }
        Some(Self::named(device, stream))
    }

    fn named(device: &str, stream: &str) -> Result<Route, RouteRefusal> {
        let device = id_of_level(device)
            .and_then(|id| DeviceId::parse(&id))
            .map_err(|reason| RouteRefusal::Device { level: device.to_owned(), reason })?;
        let stream = id_of_level(stream)
            .map_err(|reason| RouteRefusal::Stream { level: stream.to_owned(), reason })?;
        Ok(Route { device, stream })
    }
}

impl Level {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "+" => Ok(Self::Any),
            "{device}" => Ok(Self::Device),
            "{stream}" => Ok(Self::Stream),
            _ if text.contains(['{', '}', '+', '#', '\0']) => {
                Err(format!("level {text:?} is neither {{device}}, {{stream}}, + nor plain text"))
            }
            _ => Ok(Self::Literal(text.to_owned())),
        }
    }
}

/// The id of a name in a foreign topic.
///
/// A name that is an id of ours and has no `::` in it is that id. Any other is written with each byte outside
/// `[A-Za-z0-9._-]` as `::` and two upper-case hexadecimal digits: `Living room` is `Living::20room`. Names that are ids
/// have no `::`, all others have, and what `::` stands for can be read back: two names never meet in one id. What is empty,
/// nothing but dots, or too long when written so is refused.
pub fn id_of_level(level: &str) -> Result<String, IdError> {
    if !level.contains("::") {
        match check_id(level) {
            Err(IdError::BadCharacter(_)) => {}
            checked => return checked.map(|()| level.to_owned()),
        }
    }
    let mut id = String::with_capacity(level.len() + 8);
    for byte in level.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            id.push(char::from(byte));
        } else {
            id.push_str(&format!("::{byte:02X}"));
        }
    }
    check_id(&id).map(|()| id)
}

/// The name that an id of [`id_of_level`] was made of; `None` when it could not stand in a topic or a line of text.
pub fn level_of_id(id: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(id.len());
    let mut rest = id;
    while let Some(at) = rest.find("::") {
        let (before, code) = (rest.get(..at)?, rest.get(at + 2..at + 4)?);
        bytes.extend(before.bytes());
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        rest = rest.get(at + 4..)?;
    }
    bytes.extend(rest.bytes());
    let level = String::from_utf8(bytes).ok()?;
    let is_level = !level.chars().any(|c| c.is_control() || matches!(c, '/' | '+' | '#'));
    is_level.then_some(level)
}

/// What one profile makes of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The profile.
    pub profile: ProfileHash,
    /// Device and stream, or why the topic names none.
    pub route: Result<Route, RouteRefusal>,
}

/// The topics of many profiles.
///
/// Profiles are immutable, so a shop has many versions of few patterns; equal patterns are kept and matched once.
#[derive(Debug, Clone, Default)]
pub struct TopicMap {
    // Of each pattern the profiles that have it, and at which place of their lists.
    patterns: BTreeMap<TopicPattern, Vec<(ProfileHash, usize)>>,
}

impl TopicMap {
    /// The map of some profiles; their order does not matter.
    pub fn of<'p>(profiles: impl IntoIterator<Item = &'p Profile>) -> Self {
        let mut map = Self::default();
        for profile in profiles {
            for (rank, pattern) in profile.topics.iter().enumerate() {
                let owners = map.patterns.entry(pattern.clone()).or_default();
                if !owners.iter().any(|(hash, _)| *hash == profile.hash) {
                    owners.push((profile.hash, rank));
                }
            }
        }
        map
    }

    /// The MQTT filters that bring every topic of every profile, each once, in order.
    pub fn filters(&self) -> Vec<String> {
        let mut filters: Vec<String> = self.patterns.keys().map(TopicPattern::filter).collect();
        filters.sort_unstable();
        filters.dedup();
        filters
    }

    /// What each profile makes of a topic, at most one candidate a profile (its first pattern that matches), ordered by
    /// profile. The caller takes the one whose profile is that of the device it names.
    pub fn candidates(&self, topic: &str) -> Vec<Candidate> {
        let mut found: Vec<(ProfileHash, usize, Result<Route, RouteRefusal>)> = Vec::new();
        for (pattern, owners) in &self.patterns {
            if let Some(route) = pattern.route(topic) {
                found.extend(owners.iter().map(|(hash, rank)| (*hash, *rank, route.clone())));
            }
        }
        found.sort_by_key(|(hash, rank, _)| (*hash, *rank));
        found.dedup_by_key(|(hash, _, _)| *hash);
        found.into_iter().map(|(profile, _, route)| Candidate { profile, route }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> TopicPattern {
        let fixed = (!text.contains("{stream}")).then_some("s");
        TopicPattern::parse(text, fixed).unwrap()
    }

    fn routed(text: &str, topic: &str) -> Option<(String, String)> {
        let route = pattern(text).route(topic)?.unwrap();
        Some((route.device.to_string(), route.stream))
    }

    #[test]
    fn a_pattern_takes_exactly_its_levels() {
        let both = |d: &str, s: &str| Some((d.to_owned(), s.to_owned()));
        assert_eq!(routed("zigbee2mqtt/{device}", "zigbee2mqtt/hall"), both("hall", "s"));
        assert_eq!(routed("zigbee2mqtt/{device}", "zigbee2mqtt/hall/set"), None);
        assert_eq!(routed("zigbee2mqtt/{device}", "zigbee2mqtt"), None);
        assert_eq!(routed("zigbee2mqtt/{device}", "Zigbee2mqtt/hall"), None);
        assert_eq!(
            routed(
                "application/+/device/{device}/event/{stream}",
                "application/7/device/0a0b/event/up"
            ),
            both("0a0b", "up")
        );
        assert_eq!(
            routed("{device}/status/{stream}", "plug-1/status/switch:0"),
            both("plug-1", "switch:0")
        );
        assert_eq!(routed("{device}/status/{stream}", "$SYS/status/x"), None);
        assert_eq!(routed("{device}//{stream}", "a//b"), both("a", "b"));
    }

    #[test]
    fn a_filter_brings_what_the_pattern_takes() {
        assert_eq!(
            pattern("application/+/device/{device}/event/{stream}").filter(),
            "application/+/device/+/event/+"
        );
        assert_eq!(pattern("a/+/{device}/{stream}").filter_of("%u"), "a/+/%u/+");
    }

    #[test]
    fn impossible_patterns_are_refused() {
        for (text, stream, why) in [
            ("a/b", Some("s"), "{device}"),
            ("{device}/{device}", Some("s"), "{device}"),
            ("{device}", None, "{stream}"),
            ("{device}/{stream}", Some("s"), "not both"),
            ("{device}/{stream}/{stream}", None, "once"),
            ("{device}/#", Some("s"), "\"#\""),
            ("x{device}", Some("s"), "x{device}"),
            ("stockfold/{device}", Some("s"), "own"),
            ("+/+/{device}/{stream}", None, "own"),
            ("+/{device}/+/{stream}", None, "own"),
            ("{device}/v1/{stream}", None, "own"),
            ("{stream}/{device}/x", None, "own"),
            ("{device}", Some("a b"), "stream"),
            ("", Some("s"), "{device}"),
        ] {
            let error = TopicPattern::parse(text, stream).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(TopicPattern::parse(&format!("{{device}}{}", "/a".repeat(16)), Some("s")).is_err());
        assert!(TopicPattern::parse(&"a".repeat(300), Some("s")).is_err());
    }

    #[test]
    fn names_become_ids() {
        for (level, id) in [
            ("hall", "hall"),
            ("0x00158d0001a2b3c4", "0x00158d0001a2b3c4"),
            ("aa:bb:cc", "aa:bb:cc"),
            ("Living room", "Living::20room"),
            ("a::b", "a::3A::3Ab"),
            ("Küche", "K::C3::BCche"),
            (": x", "::3A::20x"),
        ] {
            assert_eq!(id_of_level(level).as_deref(), Ok(id));
        }
        for (level, id) in
            [("hall", "hall"), ("Living room", "Living::20room"), ("a::b", "a::3A::3Ab")]
        {
            assert_eq!(level_of_id(id).as_deref(), Some(level));
        }
        for id in ["a::0Ab", "a::2Bb", "a::2Fb", "a::FFb", "a::2", "a::zz"] {
            assert_eq!(level_of_id(id), None, "{id}");
        }
        assert_eq!(id_of_level(""), Err(IdError::Empty));
        assert_eq!(id_of_level(".."), Err(IdError::OnlyDots));
        assert_eq!(id_of_level(&"x".repeat(65)), Err(IdError::TooLong(65)));
        assert_eq!(id_of_level(&" ".repeat(17)), Err(IdError::TooLong(68)));
        let refused = pattern("t/{device}").route("t/").unwrap().unwrap_err();
        assert!(refused.to_string().contains("rename the device"), "{refused}");
    }

    #[test]
    fn every_profile_that_reads_a_topic_is_a_candidate() {
        let with = |name: &str, topics: &str| {
            Profile::parse(&format!(
                "name: {name}\ncodec: json\ntopics: {topics}\nstreams: {{a: {{class: telemetry, dedupe: level, values: {{all: \"\"}}}}, b: {{class: telemetry, dedupe: level, values: {{all: \"\"}}}}}}\n"
            ))
            .unwrap()
        };
        let one = with(
            "one",
            "[{pattern: \"t/{device}/x\", stream: a}, {pattern: \"t/{device}/+\", stream: b}]",
        );
        let two = with("two", "[{pattern: \"t/+/{device}\", stream: a}]");
        let none = with("none", "[]");
        let map = TopicMap::of([&one, &two, &none, &one]);
        let mut found: Vec<_> = map
            .candidates("t/d/x")
            .into_iter()
            .map(|c| {
                let route = c.route.unwrap();
                (c.profile, route.device.to_string(), route.stream)
            })
            .collect();
        found.sort_by_key(|(hash, _, _)| *hash != one.hash);
        assert_eq!(
            found,
            [(one.hash, "d".into(), "a".into()), (two.hash, "x".into(), "a".into())],
            "the first pattern of a profile counts"
        );
        assert!(map.candidates("u/d/x").is_empty());
        assert_eq!(map.filters(), ["t/+/+", "t/+/x"]);
    }

    proptest! {
        #[test]
        fn two_names_never_meet_in_one_id(names in proptest::collection::btree_set("[a:. \\-%ü2AC3]{1,6}", 1..40)) {
            let ids: Vec<String> = names.iter().filter_map(|n| id_of_level(n).ok()).collect();
            prop_assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        }

        #[test]
        fn an_id_is_the_name_it_was_made_of(level in "[a: .%ü2AC3-]{1,12}") {
            if let Ok(id) = id_of_level(&level) {
                prop_assert_eq!(level_of_id(&id), Some(level));
            }
        }

        #[test]
        fn any_topic_has_a_route_or_none(topic in "\\PC{0,40}") {
            for text in ["zigbee2mqtt/{device}", "{device}/{stream}", "+/a/{device}/+/{stream}"] {
                let _ = pattern(text).route(&topic);
            }
        }
    }
}
