//! Every tag of a facility, and when each is to be looked at next.
//!
//! Tags are copied on write, and so are the buckets they lie in: a snapshot of a million of them costs the fold a clone of
//! reference counts. A bucket is a sorted vector that grows by an eighth: a tree would leave a third of its room empty, and
//! room is what a million tags are short of. Each tag has a piece of memory of its own, for the same reason: buckets grow all
//! at the same time, and what the whole tags left behind would fit none of them. The calendar is made of the tags' own due
//! times and is not part of a snapshot.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::tag::{Key, Status, TagState};
use crate::{entry::HubTime, table::bucket_among};

/// Buckets of tags. A power of two; with a million tags each holds some 250, so that a new one moves few.
pub(crate) const TAG_BUCKETS: usize = 4_096;
/// Grain of the calendar, in microseconds.
const GRAIN_US: i64 = 250_000;

/// Tags looked at to find one that makes room.
const LOOKED_AT_MAX: usize = 1_024;

type Bucket = Vec<(Key, Arc<TagState>)>;

fn find(bucket: &Bucket, key: &Key) -> Result<usize, usize> {
    bucket.binary_search_by(|(own, _)| own.cmp(key))
}

/// Equal names that were read one by one become one.
fn share<T: Ord + Clone>(known: &mut BTreeSet<T>, name: &mut Option<T>) {
    let Some(own) = name else { return };
    match known.get(own) {
        Some(same) => *own = same.clone(),
        None => _ = known.insert(own.clone()),
    }
}

/// The tags.
#[derive(Debug, Clone)]
pub(crate) struct Tags {
    buckets: Vec<Arc<Bucket>>,
    count: usize,
    calendar: BTreeMap<HubTime, Arc<BTreeSet<Key>>>,
}

impl Default for Tags {
    fn default() -> Self {
        // One empty bucket stands for all until they are written to.
        let empty = Arc::new(Bucket::new());
        Self { buckets: vec![empty; TAG_BUCKETS], count: 0, calendar: BTreeMap::new() }
    }
}

impl PartialEq for Tags {
    /// The calendar follows from the tags.
    fn eq(&self, other: &Self) -> bool {
        self.buckets == other.buckets
    }
}

fn bucket_of(key: &Key) -> usize {
    bucket_among(TAG_BUCKETS, key.bytes())
}

impl Tags {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn get(&self, key: &Key) -> Option<&TagState> {
        let bucket = &self.buckets[bucket_of(key)];
        find(bucket, key).ok().map(|at| &*bucket[at].1)
    }

    pub fn get_mut(&mut self, key: &Key) -> Option<&mut TagState> {
        let bucket = &mut self.buckets[bucket_of(key)];
        // Looking first keeps an absent key from copying a bucket that a snapshot shares.
        let at = find(bucket, key).ok()?;
        Some(Arc::make_mut(&mut Arc::make_mut(bucket)[at].1))
    }

    pub fn insert(&mut self, key: Key, tag: TagState) {
        let due = tag.due;
        let bucket = Arc::make_mut(&mut self.buckets[bucket_of(&key)]);
        match find(bucket, &key) {
            Ok(at) => bucket[at].1 = Arc::new(tag),
            Err(at) => {
                if bucket.len() == bucket.capacity() {
                    bucket.reserve_exact(bucket.len() / 8 + 1);
                }
                bucket.insert(at, (key.clone(), Arc::new(tag)));
                self.count += 1;
            }
        }
        self.note(key, due);
    }

    pub fn remove(&mut self, key: &Key) {
        let Some(due) = self.get(key).map(|tag| tag.due) else { return };
        self.unnote(key, due);
        let bucket = &mut self.buckets[bucket_of(key)];
        if let Ok(at) = find(bucket, key) {
            Arc::make_mut(bucket).remove(at);
            self.count -= 1;
        }
    }

    /// Forgets a tag that is not present, that which would be forgotten first. `None` when there is none among those due next.
    pub fn make_room(&mut self) -> Option<Key> {
        let next = self.calendar.values().flat_map(|keys| keys.iter()).take(LOOKED_AT_MAX);
        let absent = |key: &&Key| self.get(key).is_some_and(|tag| tag.status != Status::Present);
        let key = next.into_iter().find(absent).cloned()?;
        self.remove(&key);
        Some(key)
    }

    /// Every tag, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &TagState)> {
        self.buckets.iter().flat_map(|bucket| bucket.iter()).map(|(key, tag)| (key, &**tag))
    }

    fn note(&mut self, key: Key, due: HubTime) {
        let day = self.calendar.entry(due).or_default();
        Arc::make_mut(day).insert(key);
    }

    fn unnote(&mut self, key: &Key, due: HubTime) {
        let Some(day) = self.calendar.get_mut(&due) else { return };
        Arc::make_mut(day).remove(key);
        if day.is_empty() {
            self.calendar.remove(&due);
        }
    }

    /// The time at which a tag that is due then is looked at.
    pub fn grain(at: HubTime) -> HubTime {
        HubTime(at.0.div_euclid(GRAIN_US).saturating_add(1).saturating_mul(GRAIN_US))
    }

    /// A tag is to be looked at then, and not before.
    pub fn schedule(&mut self, key: &Key, at: HubTime) {
        let due = Self::grain(at);
        let Some(tag) = self.get_mut(key) else { return };
        if tag.due != due {
            let was = std::mem::replace(&mut tag.due, due);
            self.unnote(key, was);
            self.note(key.clone(), due);
        }
    }

    /// A tag is to be looked at then, unless it is due before.
    pub fn hasten(&mut self, key: &Key, at: HubTime) {
        if self.get(key).is_some_and(|tag| Self::grain(at) < tag.due) {
            self.schedule(key, at);
        }
    }

    /// When the next tag is due.
    pub fn next_due(&self) -> Option<HubTime> {
        self.calendar.keys().next().copied()
    }

    /// A tag that is due, taken off the calendar.
    pub fn pop_due(&mut self, now: HubTime) -> Option<Key> {
        loop {
            let mut first = self.calendar.first_entry()?;
            let due = *first.key();
            if due > now {
                return None;
            }
            let Some(key) = Arc::make_mut(first.get_mut()).pop_first() else {
                first.remove();
                continue;
            };
            if self.get(&key).is_some_and(|tag| tag.due == due) {
                return Some(key);
            }
        }
    }

    /// Slices of a snapshot, one a bucket.
    pub fn slices(&self) -> impl Iterator<Item = Result<Vec<u8>, postcard::Error>> {
        self.buckets.iter().map(|bucket| postcard::to_stdvec(&**bucket))
    }

    /// From the slices of a snapshot.
    pub fn restore<'a>(slices: impl Iterator<Item = &'a [u8]>) -> Result<Self, postcard::Error> {
        let mut tags = Self::default();
        let (mut skus, mut slots) = (BTreeSet::new(), BTreeSet::new());
        for (place, slice) in tags.buckets.iter_mut().zip(slices) {
            // An empty bucket is one byte.
            if slice.len() > 1 {
                let mut bucket: Bucket = postcard::from_bytes(slice)?;
                for (_, tag) in &mut bucket {
                    let tag = Arc::make_mut(tag);
                    share(&mut skus, &mut tag.sku);
                    share(&mut slots, &mut tag.unit_of);
                }
                *place = Arc::new(bucket);
            }
        }
        let due: Vec<(Key, HubTime)> =
            tags.iter().map(|(key, tag)| (key.clone(), tag.due)).collect();
        tags.count = due.len();
        let mut calendar: BTreeMap<HubTime, BTreeSet<Key>> = BTreeMap::new();
        for (key, due) in due {
            calendar.entry(due).or_default().insert(key);
        }
        tags.calendar = calendar.into_iter().map(|(due, keys)| (due, Arc::new(keys))).collect();
        Ok(tags)
    }
}
