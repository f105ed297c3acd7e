//! A node's children by name: a map of which a copy shares everything, until either is changed.
//!
//! Some directories have a name for each domain, and a domain's creation goes through them many times. So the map is
//! flat, and each name has its first bytes beside it as a number, which decides nearly all comparisons: a hundred domains
//! more cost a search a few instructions. A change of a map that is shared copies it, which is no more than a transaction
//! may hold anyway (see `quota`).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::cmp::Ordering;

use crate::ids::NodeId;

/// See the module's description.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children(Option<Arc<BTreeMap<Key<'static>, NodeId>>>);

impl Children {
    pub(crate) fn get(&self, name: &str) -> Option<NodeId> {
        let map: &BTreeMap<Key<'_>, NodeId> = self.0.as_deref()?;
        map.get(&Key::new(Name::Asked(name))).copied()
    }

    pub(crate) fn insert(&mut self, name: Arc<str>, child: NodeId) {
        Arc::make_mut(self.0.get_or_insert_default()).insert(Key::new(Name::Kept(name)), child);
    }

    /// Whether there was such a child.
    pub(crate) fn remove(&mut self, name: Arc<str>) -> bool {
        let Some(map) = self.0.as_mut().map(Arc::make_mut) else { return false };
        let removed = map.remove(&Key::new(Name::Kept(name))).is_some();
        if map.is_empty() {
            self.0 = None;
        }
        removed
    }

    /// In the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, NodeId)> {
        self.0.iter().flat_map(|map| map.iter()).map(|(key, &child)| (key.name.text(), child))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.iter().map(|(_, child)| child)
    }
}

/// A name with its first bytes as a number, of which one is smaller where the name comes first.
#[derive(Clone, Debug)]
struct Key<'a> {
    head: u64,
    name: Name<'a>,
}

#[derive(Clone, Debug)]
enum Name<'a> {
    Kept(Arc<str>),
    Asked(&'a str),
}

impl Name<'_> {
    fn text(&self) -> &str {
        match self {
            Name::Kept(name) => name,
            Name::Asked(name) => name,
        }
    }
}

impl<'a> Key<'a> {
    fn new(name: Name<'a>) -> Self {
        let bytes = name.text().bytes().chain(core::iter::repeat(0));
        let head = bytes.take(size_of::<u64>()).fold(0, |head, byte| head << u8::BITS | u64::from(byte));
        Key { head, name }
    }
}

impl Ord for Key<'_> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.head.cmp(&other.head).then_with(|| self.name.text().cmp(other.name.text()))
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn names_are_in_the_order_of_their_bytes_and_each_is_found() {
        let mut names =
            ["", "a", "ab", "a-b", "9", "10", "1", "event-channel", "event-ch", "event-channels", "~", "event-cg"];
        let mut children = Children::default();
        for (id, name) in names.iter().enumerate() {
            children.insert(Arc::from(*name), NodeId(id));
        }
        for (id, name) in names.iter().enumerate() {
            assert_eq!(children.get(name), Some(NodeId(id)), "{name}");
        }
        assert_eq!(children.get("event-channe"), None);
        names.sort_unstable();
        assert_eq!(children.iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    }

    #[test]
    fn a_copy_keeps_what_it_had_and_an_empty_map_keeps_nothing() {
        let mut children = Children::default();
        children.insert(Arc::from("a"), NodeId(1));
        let copy = children.clone();
        assert!(!children.remove(Arc::from("b")));
        assert!(children.remove(Arc::from("a")));
        assert_eq!((children.get("a"), copy.get("a")), (None, Some(NodeId(1))));
        assert!(children.0.is_none());
    }
}
