//! A borrowed JSON tree with limits, and pointers into it.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

use crate::{
    limits::{JSON_DEPTH_MAX, JSON_NODES_MAX, TAG_NODES_MAX},
    reading::DecodeReject,
};

/// A JSON value that borrows its strings where it can.
#[derive(Debug, Clone, PartialEq)]
pub enum Node<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number that fits.
    Int(i64),
    /// A whole number above `i64::MAX`.
    Big(u64),
    /// Any other number; always finite.
    Float(f64),
    /// A string.
    Str(Cow<'a, str>),
    /// An array.
    Array(Vec<Node<'a>>),
    /// An object, members in source order, no key twice.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// Parses one JSON value; trailing bytes other than white space are an error.
    pub fn parse(raw: &'a [u8]) -> Result<Self, DecodeReject> {
        Self::parse_within(raw, JSON_NODES_MAX)
    }

    /// The same, with so many values in it at most.
    pub fn parse_within(raw: &'a [u8], nodes_max: usize) -> Result<Self, DecodeReject> {
        let budget = Budget { nodes: Cell::new(nodes_max), breach: Cell::new(None) };
        let mut deserializer = serde_json::Deserializer::from_slice(raw);
        let parsed = Seed { budget: &budget, depth: JSON_DEPTH_MAX }
            .deserialize(&mut deserializer)
            .and_then(|node| deserializer.end().map(|()| node));
        parsed.map_err(|error| match budget.breach.take() {
            Some(breach) => breach,
            None => DecodeReject::NotJson(error.to_string()),
        })
    }

    /// Parses JSON values that stand one behind the other, with white space or nothing between them: lines, and what some
    /// vendors glue together. All of them share the limits of [`crate::limits::TAG_NODES_MAX`] and of depth.
    pub fn parse_all(raw: &'a [u8]) -> Result<Vec<Self>, DecodeReject> {
        let budget = Budget { nodes: Cell::new(TAG_NODES_MAX), breach: Cell::new(None) };
        let mut deserializer = serde_json::Deserializer::from_slice(raw);
        let mut values = Vec::new();
        // It ends where nothing but white space is left.
        while deserializer.end().is_err() {
            let seed = Seed { budget: &budget, depth: JSON_DEPTH_MAX };
            match seed.deserialize(&mut deserializer) {
                Ok(value) => values.push(value),
                Err(error) => {
                    return Err(match budget.breach.take() {
                        Some(breach) => breach,
                        None => DecodeReject::NotJson(error.to_string()),
                    });
                }
            }
        }
        Ok(values)
    }

    /// A member of an object; `null` counts as absent.
    pub fn member(&self, name: &str) -> Option<&Node<'a>> {
        let Self::Object(members) = self else { return None };
        let (_, value) = members.iter().find(|(key, _)| key == name)?;
        (!matches!(value, Self::Null)).then_some(value)
    }

    /// Its text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Big(_)
            | Self::Float(_)
            | Self::Array(_)
            | Self::Object(_) => None,
        }
    }

    /// Its number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Big(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Null | Self::Bool(_) | Self::Str(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// Its whole number from 0 on, if it is one; some vendors write it as text.
    pub fn as_count(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::Big(value) => Some(*value),
            Self::Str(text) => text.parse().ok(),
            Self::Float(value) if value.fract() == 0.0 && (0.0..=9.0e15).contains(value) => {
                Some(*value as u64)
            }
            Self::Float(_) | Self::Null | Self::Bool(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// The value a pointer names.
    pub fn at(&self, pointer: &Pointer) -> Option<&Node<'a>> {
        pointer.steps.iter().try_fold(self, |node, step| match node {
            Node::Object(members) => members.iter().find(|(key, _)| key == step).map(|(_, v)| v),
            Node::Array(items) => step.parse::<usize>().ok().and_then(|i| items.get(i)),
            Node::Null
            | Node::Bool(_)
            | Node::Int(_)
            | Node::Big(_)
            | Node::Float(_)
            | Node::Str(_) => None,
        })
    }
}

/// A compiled RFC 6901 JSON pointer.
#[derive(Clone, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl Pointer {
    /// Compiles a pointer; it is empty (the whole value) or starts with `/`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!("{text:?} is not a JSON pointer: it must start with /"));
        }
        let steps =
            text.split('/').skip(1).map(|s| s.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Self { text: text.to_owned(), steps })
    }
    /// The pointer as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// What is left of the limits; a breach is remembered here because serde errors are only text.
struct Budget {
    nodes: Cell<usize>,
    breach: Cell<Option<DecodeReject>>,
}

#[derive(Clone, Copy)]
struct Seed<'b> {
    budget: &'b Budget,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => {
                self.budget.breach.set(Some(DecodeReject::TooDeep));
                Err(E::custom("too deep"))
            }
        }
    }
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        match self.budget.nodes.get().checked_sub(1) {
            Some(left) => {
                self.budget.nodes.set(left);
                Ok(())
            }
            None => {
                self.budget.breach.set(Some(DecodeReject::TooLarge("JSON values")));
                Err(E::custom("too many values"))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(Node::Int(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(i64::try_from(value).map_or(Node::Big(value), Node::Int))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node<'de>, E> {
        Ok(Node::Float(value))
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::Str(Cow::Borrowed(value)))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node<'de>, E> {
        Ok(Node::Str(Cow::Owned(value.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node<'de>, A::Error> {
        let seed = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(seed)? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node<'de>, A::Error> {
        let seed = self.deeper()?;
        let mut members: Vec<(Cow<'de, str>, Node<'de>)> = Vec::with_capacity(4);
        while let Some(Key(key)) = access.next_key()? {
            if members.len() < SCAN_KEYS_MAX && members.iter().any(|(k, _)| *k == key) {
                return Err(A::Error::custom(format_args!("key {key:?} stands twice")));
            }
            members.push((key, access.next_value_seed(seed)?));
        }
        if members.len() > SCAN_KEYS_MAX {
            let mut keys: Vec<&str> = members.iter().map(|(k, _)| k.as_ref()).collect();
            keys.sort_unstable();
            if keys.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(A::Error::custom("a key stands twice"));
            }
        }
        Ok(Node::Object(members))
    }
}

/// Up to this many members an object is searched for a repeated key as it is read; above, it is sorted once at its end.
const SCAN_KEYS_MAX: usize = 16;

struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(value)))
            }
            fn visit_str<E>(self, value: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(value.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_walk_objects_and_arrays() {
        let node = Node::parse(br#"{"a":{"b/c":[1,{"~":true}]}}"#).unwrap();
        let at = |text: &str| node.at(&Pointer::parse(text).unwrap()).cloned();
        assert_eq!(at("/a/b~1c/0"), Some(Node::Int(1)));
        assert_eq!(at("/a/b~1c/1/~0"), Some(Node::Bool(true)));
        assert_eq!(at("/a/x"), None);
        assert_eq!(at(""), Some(node.clone()));
        assert!(Pointer::parse("a").is_err());
    }

    #[test]
    fn limits_are_named() {
        let deep = [vec![b'['; 40], vec![b']'; 40]].concat();
        assert_eq!(Node::parse(&deep), Err(DecodeReject::TooDeep));
        let wide = format!("[{}1]", "1,".repeat(5_000));
        assert_eq!(Node::parse(wide.as_bytes()), Err(DecodeReject::TooLarge("JSON values")));
    }

    #[test]
    fn values_may_stand_behind_each_other() {
        let count = |raw: &[u8]| Node::parse_all(raw).map(|values| values.len());
        for (raw, values) in
            [("{}{}", 2), ("{}\n[1]\r\n", 2), ("", 0), (" \n", 0), ("[{},{}]", 1), ("1 2", 2)]
        {
            assert_eq!(count(raw.as_bytes()), Ok(values), "{raw:?}");
        }
        assert!(matches!(count(b"{}{"), Err(DecodeReject::NotJson(_))));
        assert!(matches!(count(b"{},{}"), Err(DecodeReject::NotJson(_))));
        assert_eq!(count(&b"0 ".repeat(65_537)), Err(DecodeReject::TooLarge("JSON values")));
        assert_eq!(count(&[b'['; 40]), Err(DecodeReject::TooDeep));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [
            &b""[..],
            b"{",
            b"NaN",
            b"{\"a\":1}x",
            b"{\"a\":1,\"a\":2}",
            b"\xff",
            b"{\"a\":\"\xff\"}",
            b"1e999",
        ] {
            assert!(matches!(Node::parse(bad), Err(DecodeReject::NotJson(_))), "{bad:?}");
        }
        let many: Vec<String> =
            (0..40).map(|i| format!("\"k{}\":1", if i == 39 { 0 } else { i })).collect();
        let doubled = format!("{{{}}}", many.join(","));
        assert!(matches!(Node::parse(doubled.as_bytes()), Err(DecodeReject::NotJson(_))));
    }
}
