//! Who subscribed to what: a tree by topic level.
//!
//! Children are sorted vectors, not hash maps, because most nodes have one child and ten thousand devices subscribe
//! to a topic of their own each. Empty branches are pruned on removal. Depth is bounded by `topic_levels_max`.

use std::{num::NonZeroU32, sync::Arc};

use super::{outbox::Client, packet::Qos, topic::Filter};

/// One client's subscription to one filter.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// The client.
    pub client: Arc<Client>,
    /// Largest QoS.
    pub qos: Qos,
    /// Not what the client published itself.
    pub no_local: bool,
    /// Keep the retain flag.
    pub retain_as_published: bool,
    /// Subscription identifier.
    pub id: Option<NonZeroU32>,
}

#[derive(Debug)]
struct Group {
    name: Box<str>,
    members: Vec<Subscriber>,
    turn: usize,
}

/// Subscribers of one filter.
#[derive(Debug, Default)]
struct Leaf {
    own: Vec<Subscriber>,
    groups: Vec<Group>,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(Box<str>, Box<Node>)>,
    here: Leaf,
    below: Option<Box<Leaf>>,
}

/// The subscription tree.
#[derive(Debug, Default)]
pub struct Subscriptions {
    root: Node,
}

impl Leaf {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.groups.is_empty()
    }

    /// `true` = new.
    fn insert(&mut self, group: Option<&str>, subscriber: Subscriber) -> bool {
        let list = match group {
            None => &mut self.own,
            Some(name) => {
                let at = self.groups.iter().position(|g| &*g.name == name).unwrap_or_else(|| {
                    self.groups.push(Group { name: name.into(), members: Vec::new(), turn: 0 });
                    self.groups.len() - 1
                });
                &mut self.groups[at].members
            }
        };
        match list.iter_mut().find(|s| Arc::ptr_eq(&s.client, &subscriber.client)) {
            Some(old) => {
                *old = subscriber;
                false
            }
            None => {
                list.reserve_exact(1);
                list.push(subscriber);
                true
            }
        }
    }

    fn remove(&mut self, group: Option<&str>, client: &Arc<Client>) {
        match group {
            None => self.own.retain(|s| !Arc::ptr_eq(&s.client, client)),
            Some(name) => {
                for g in self.groups.iter_mut().filter(|g| &*g.name == name) {
                    g.members.retain(|s| !Arc::ptr_eq(&s.client, client));
                }
                self.groups.retain(|g| !g.members.is_empty());
            }
        }
    }

    /// A group's message goes to one member: the next in turn that is connected, else the next in turn.
    fn collect(&mut self, hits: &mut Vec<Subscriber>, shared: &mut Vec<Subscriber>) {
        hits.extend(self.own.iter().cloned());
        for group in &mut self.groups {
            let n = group.members.len();
            let turns = (0..n).map(|i| (group.turn + i) % n);
            let pick = turns
                .clone()
                .find(|&i| group.members[i].client.is_connected())
                .or_else(|| turns.clone().next());
            if let Some(i) = pick {
                group.turn = (i + 1) % n;
                shared.push(group.members[i].clone());
            }
        }
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.here.is_empty() && self.below.is_none()
    }

    fn child(&self, level: &str) -> Result<usize, usize> {
        self.children.binary_search_by(|(name, _)| (**name).cmp(level))
    }

    fn insert(
        &mut self,
        filter: Option<&str>,
        group: Option<&str>,
        subscriber: Subscriber,
    ) -> bool {
        let Some(filter) = filter else { return self.here.insert(group, subscriber) };
        if filter == "#" {
            return self.below.get_or_insert_default().insert(group, subscriber);
        }
        let (level, rest) = split(filter);
        let at = self.child(level).unwrap_or_else(|at| {
            if self.children.len() < 4 {
                self.children.reserve_exact(1);
            }
            self.children.insert(at, (level.into(), Box::default()));
            at
        });
        self.children[at].1.insert(rest, group, subscriber)
    }

    fn remove(&mut self, filter: Option<&str>, group: Option<&str>, client: &Arc<Client>) {
        let Some(filter) = filter else { return self.here.remove(group, client) };
        if filter == "#" {
            if let Some(leaf) = &mut self.below {
                leaf.remove(group, client);
                if leaf.is_empty() {
                    self.below = None;
                }
            }
            return;
        }
        let (level, rest) = split(filter);
        if let Ok(at) = self.child(level) {
            self.children[at].1.remove(rest, group, client);
            if self.children[at].1.is_empty() {
                self.children.remove(at);
            }
        }
    }

    fn collect(
        &mut self,
        name: Option<&str>,
        wildcards: bool,
        hits: &mut Vec<Subscriber>,
        shared: &mut Vec<Subscriber>,
    ) {
        if wildcards && let Some(leaf) = &mut self.below {
            leaf.collect(hits, shared);
        }
        let Some(name) = name else { return self.here.collect(hits, shared) };
        let (level, rest) = split(name);
        if let Ok(at) = self.child(level) {
            self.children[at].1.collect(rest, true, hits, shared);
        }
        if wildcards && let Ok(at) = self.child("+") {
            self.children[at].1.collect(rest, true, hits, shared);
        }
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('/').map_or((text, None), |(level, rest)| (level, Some(rest)))
}

impl Subscriptions {
    /// Adds or replaces; `true` = it was new.
    pub fn insert(&mut self, filter: Filter<'_>, subscriber: Subscriber) -> bool {
        self.root.insert(Some(filter.filter), filter.group, subscriber)
    }

    /// Removes, if there.
    pub fn remove(&mut self, filter: Filter<'_>, client: &Arc<Client>) {
        self.root.remove(Some(filter.filter), filter.group, client);
    }

    /// Subscribers of a topic name: own ones as they match (a client once for each filter), then one of each group.
    pub fn matching(&mut self, name: &str) -> (Vec<Subscriber>, Vec<Subscriber>) {
        let (mut hits, mut shared) = (Vec::new(), Vec::new());
        self.root.collect(Some(name), !name.starts_with('$'), &mut hits, &mut shared);
        (hits, shared)
    }

    /// No subscription is left.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}
