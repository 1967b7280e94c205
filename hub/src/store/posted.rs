//! A field of a body that may be left out, which is something else than saying that there is nothing.
//!
//! What is left out stays as it is when the thing is there, and is as usual when the thing is new. [`Posted`] therefore always
//! has a value, and knows beside it whether somebody said it.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value, and whether it was said or merely is what is usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Posted<T> {
    value: T,
    said: bool,
}

impl<T> Posted<T> {
    /// What is usual, where nobody said anything.
    pub fn usual(value: T) -> Self {
        Self { value, said: false }
    }

    /// As if somebody had said it.
    #[must_use]
    pub fn said(self) -> Self {
        Self { said: true, ..self }
    }

    /// What was said, or else what is there.
    #[must_use]
    pub fn or(self, there: &Self) -> Self
    where
        T: Clone,
    {
        if self.said { self } else { there.value.clone().into() }
    }
}

impl<T> From<T> for Posted<T> {
    fn from(value: T) -> Self {
        Self { value, said: true }
    }
}

impl<T> Deref for Posted<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Posted<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// Rows are equal when they would be written equally, whoever said so.
impl<T: PartialEq> PartialEq for Posted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// The value alone: who reads it is told it.
impl<T: Serialize> Serialize for Posted<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Posted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default)]
    struct Row {
        mass: Posted<Option<i64>>,
        cells: Posted<Vec<u8>>,
        kind: Posted<String>,
    }

    impl Default for Row {
        fn default() -> Self {
            let kind = Posted::usual("shelf".to_owned());
            Self { mass: Posted::default(), cells: Posted::default(), kind }
        }
    }

    #[test]
    fn what_is_left_out_stays_and_null_erases() {
        let read = |text| serde_json::from_str::<Row>(text).unwrap();
        let (exit, shelf) = ("exit".to_owned(), "shelf".to_owned());
        let there = Row { mass: Some(7).into(), cells: vec![1].into(), kind: exit.clone().into() };
        let out = read("{}");
        assert_eq!((*out.mass, &*out.kind), (None, &shelf));
        assert_eq!(out.mass.or(&there.mass), Some(7).into());
        assert_eq!(out.cells.or(&there.cells), vec![1].into());
        assert_eq!(*out.kind.or(&there.kind), exit);
        let said = read(r#"{"mass": null, "cells": [], "kind": "shelf"}"#);
        assert_eq!(said.mass.or(&there.mass), None.into());
        assert_eq!(said.cells.or(&there.cells), vec![].into());
        assert_eq!(*said.kind.or(&there.kind), shelf);
    }
}
