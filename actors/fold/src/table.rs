//! A map in copy-on-write buckets: cheap to snapshot while the fold goes on.
//!
//! A snapshot clones [`BUCKETS`] reference counts, not the values; the fold then copies a bucket the first time it changes
//! one. Iteration is by bucket, then by key, so it is deterministic. Buckets are chosen by FNV-1a, which is fixed for ever: a
//! snapshot written by one build is read by the next.

use std::{borrow::Borrow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::dedupe::{FNV64, fnv64};

/// Buckets of every table. A power of two; enough that a bucket of a thousand devices holds a few, so that finding one costs
/// few comparisons and a change after a snapshot copies little.
pub const BUCKETS: usize = 512;

/// The map.
#[derive(Debug, Clone)]
pub struct Table<K, V> {
    buckets: Vec<Arc<BTreeMap<K, V>>>,
}

impl<K: Ord, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Arc::new(BTreeMap::new())).collect() }
    }
}

/// Which of so many buckets a key is in.
pub(crate) fn bucket_among(buckets: usize, key: &[u8]) -> usize {
    let hash = fnv64(FNV64, key);
    ((hash ^ (hash >> 32)) % buckets as u64) as usize
}

fn bucket_of(key: &str) -> usize {
    bucket_among(BUCKETS, key.as_bytes())
}

impl<K: Ord + Clone + Borrow<str>, V: Clone> Table<K, V> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.buckets[bucket_of(key)].get(key)
    }
    /// The value of a key, to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let bucket = &mut self.buckets[bucket_of(key)];
        // Looking first keeps an absent key from copying a bucket that a snapshot shares.
        if Arc::strong_count(bucket) > 1 && !bucket.contains_key(key) {
            return None;
        }
        Arc::make_mut(bucket).get_mut(key)
    }
    /// The value of a key, made if absent.
    pub fn get_or_insert_with(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        let bucket = Arc::make_mut(&mut self.buckets[bucket_of(key.borrow())]);
        bucket.entry(key.clone()).or_insert_with(make)
    }
    /// Sets a value.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let bucket = Arc::make_mut(&mut self.buckets[bucket_of(key.borrow())]);
        bucket.insert(key, value)
    }
    /// Takes a value out.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        let bucket = &mut self.buckets[bucket_of(key)];
        // Looking first keeps an absent key from copying a bucket that a snapshot shares.
        if !bucket.contains_key(key) {
            return None;
        }
        Arc::make_mut(bucket).remove(key)
    }
    /// All values, by bucket and key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.buckets.iter().flat_map(|bucket| bucket.iter())
    }
}

impl<K, V> Table<K, V>
where
    K: Ord + Clone + Borrow<str> + Serialize + DeserializeOwned,
    V: Clone + Serialize + DeserializeOwned,
{
    /// The bytes of each bucket in order.
    pub fn slices(&self) -> impl Iterator<Item = Result<Vec<u8>, postcard::Error>> {
        self.buckets.iter().map(|bucket| postcard::to_stdvec(bucket.as_ref()))
    }
    /// Rebuilds a table from the bytes of its buckets.
    pub fn restore<'a>(slices: impl Iterator<Item = &'a [u8]>) -> Result<Self, postcard::Error> {
        let buckets = slices
            .map(|slice| postcard::from_bytes::<BTreeMap<K, V>>(slice).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        if buckets.len() != BUCKETS {
            return Err(postcard::Error::DeserializeUnexpectedEnd);
        }
        Ok(Self { buckets })
    }
}

/// Equality by content.
impl<K: Ord, V: PartialEq> PartialEq for Table<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.buckets == other.buckets
    }
}

/// A ring that forgets its oldest item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ring<T> {
    items: std::collections::VecDeque<T>,
    /// Whether an item was ever forgotten.
    overflowed: bool,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { items: std::collections::VecDeque::new(), overflowed: false }
    }
}

impl<T> Ring<T> {
    /// Adds an item; forgets the oldest when there are more than `max`.
    pub fn push(&mut self, item: T, max: usize) {
        if self.items.len() >= max {
            self.items.pop_front();
            self.overflowed = true;
        }
        self.items.push_back(item);
    }
    /// Newest first.
    pub fn newest(&self) -> impl Iterator<Item = &T> {
        self.items.iter().rev()
    }
    /// Newest first, to change.
    pub fn newest_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().rev()
    }
    /// The oldest remembered item.
    pub fn oldest(&self) -> Option<&T> {
        self.items.front()
    }
    /// Whether anything was forgotten.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }
}
