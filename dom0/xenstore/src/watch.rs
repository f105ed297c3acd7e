//! Watches, found by the path that changed.
//!
//! They stand in a table by a hash of their path, which each node knows of its own. So the way from the changed node up
//! finds the watches on all its ancestors, and a removal finds those below while it goes through the removed nodes:
//! a change costs the same however many watches there are elsewhere, and however long the names. A domain that makes its
//! paths collide slows down nothing but comparisons, by as many as it may have watches.

use alloc::sync::Arc;
use alloc::vec::Vec;

use slab::Slab;

use crate::Error;
use crate::change::{Effect, Touch};
use crate::ids::{ConnId, NodeId};
use crate::path::{self, PathHash};
use crate::perms::{Caller, Need, Perms};
use crate::tree::Tree;

/// A watch, for as long as it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WatchId(usize);

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) conn: ConnId,
    /// Absolute, or the name of a special watch.
    pub(crate) path: Arc<str>,
    /// Bytes of home directory to leave out of event paths, when the watch was given a relative path.
    pub(crate) skip: usize,
    pub(crate) token: Arc<[u8]>,
}

impl Watch {
    /// An event's path, in the form in which the watch was set.
    pub(crate) fn as_given<'a>(&self, event: &'a str) -> &'a str {
        event.get(self.skip..).unwrap_or(event)
    }
}

/// All watches of all connections.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    all: Slab<Watch>,
    /// By the remainder of the hash; several for each watch.
    buckets: Vec<Vec<(PathHash, WatchId)>>,
}

/// Buckets at first: enough for about a hundred guests.
const FIRST_BUCKETS: usize = 1024;
/// Buckets for each watch, at least, so that few share one with a path on which others' changes lie.
const BUCKETS_A_WATCH: usize = 4;

impl Watches {
    pub(crate) fn add(&mut self, watch: Watch) -> Result<WatchId, Error> {
        if self.find(watch.conn, &watch.path, &watch.token).is_some() {
            return Err(Error::WatchExists);
        }
        if self.all.len() * BUCKETS_A_WATCH >= self.buckets.len() {
            self.grow();
        }
        let hash = PathHash::of(&watch.path);
        let id = WatchId(self.all.insert(watch));
        self.put(hash, id);
        Ok(id)
    }

    /// Doubles the buckets and deals the watches out again.
    fn grow(&mut self) {
        let buckets = alloc::vec![Vec::new(); (self.buckets.len() * 2).max(FIRST_BUCKETS)];
        let old = core::mem::replace(&mut self.buckets, buckets);
        old.into_iter().flatten().for_each(|(hash, id)| self.put(hash, id));
    }

    fn put(&mut self, hash: PathHash, id: WatchId) {
        if let Some(bucket) = self.place(hash).and_then(|place| self.buckets.get_mut(place)) {
            bucket.push((hash, id));
        }
    }

    /// The number of a hash's bucket; none before the first watch.
    fn place(&self, hash: PathHash) -> Option<usize> {
        usize::try_from(hash.upper()).ok()?.checked_rem(self.buckets.len())
    }

    /// The watches whose paths may have this hash.
    fn bucket(&self, hash: PathHash) -> &[(PathHash, WatchId)] {
        self.place(hash).and_then(|place| self.buckets.get(place)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn find(&self, conn: ConnId, path: &str, token: &[u8]) -> Option<WatchId> {
        self.at(path).find(|(_, watch)| watch.conn == conn && *watch.token == *token).map(|(id, _)| id)
    }

    pub(crate) fn get(&self, id: WatchId) -> Option<&Watch> {
        self.all.get(id.0)
    }

    pub(crate) fn remove(&mut self, id: WatchId) {
        let Some(watch) = self.all.try_remove(id.0) else {
            return;
        };
        let place = self.place(PathHash::of(&watch.path));
        if let Some(bucket) = place.and_then(|place| self.buckets.get_mut(place)) {
            bucket.retain(|&(_, other)| other != id);
        }
    }

    /// Reports each watch that a change concerns and whose owner may know of it, with the path of its event.
    ///
    /// Watches on the node and on its ancestors get the node's path. Those below a removed node get their own,
    /// if there was something there.
    pub(crate) fn concerned(
        &self,
        tree: &Tree,
        touch: Touch<'_>,
        caller_of: impl Fn(ConnId) -> Option<Caller>,
        mut report: impl FnMut(WatchId, Arc<str>),
    ) {
        let old = match touch.effect {
            Effect::Permitted(old) => Some(old),
            Effect::Written | Effect::Removed => None,
        };
        let told =
            |watch: &Watch, node, old| caller_of(watch.conn).is_some_and(|caller| may_know(tree, node, old, &caller));
        for (id, watch) in self.above(tree, touch.node, touch.path) {
            if told(watch, touch.node, old) {
                report(id, touch.path.clone());
            }
        }
        if !matches!(touch.effect, Effect::Removed) {
            return;
        }
        self.for_each_below(tree, touch.node, |id, watch, gone| {
            if told(watch, gone, None) {
                report(id, watch.path.clone());
            }
        });
    }

    /// Reports each watch on exactly this path, or this special name, whose owner may know of it.
    pub(crate) fn concerned_exactly(
        &self,
        tree: &Tree,
        path: &Arc<str>,
        node: NodeId,
        caller_of: impl Fn(ConnId) -> Option<Caller>,
        mut report: impl FnMut(WatchId, Arc<str>),
    ) {
        for (id, watch) in self.at(path) {
            if caller_of(watch.conn).is_some_and(|caller| may_know(tree, node, None, &caller)) {
                report(id, path.clone());
            }
        }
    }

    fn at<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (WatchId, &'a Watch)> {
        self.hashed(PathHash::of(path), path)
    }

    /// The watches on a path whose hash is known.
    fn hashed<'a>(&'a self, hash: PathHash, path: &str) -> impl DoubleEndedIterator<Item = (WatchId, &'a Watch)> {
        let ids = self.bucket(hash).iter().filter(move |(other, _)| *other == hash);
        let known = ids.filter_map(|&(_, id)| Some((id, self.get(id)?)));
        known.filter(move |(_, watch)| *watch.path == *path)
    }

    /// The watches on a node, which is at `path`, and on what is above it, those nearest to the root first.
    fn above<'a>(&'a self, tree: &Tree, node: NodeId, path: &str) -> impl Iterator<Item = (WatchId, &'a Watch)> {
        let (mut at, mut path) = (node, path);
        let mut found = Vec::new();
        while let Some(node) = tree.get(at) {
            found.extend(self.hashed(node.hash, path).rev());
            if at == NodeId::ROOT || path::is_special(path) {
                break;
            }
            at = node.parent;
            let above = path.get(..path.len().saturating_sub(1 + node.name.len())).unwrap_or_default();
            path = if above.is_empty() { "/" } else { above };
        }
        found.into_iter().rev()
    }

    /// Goes through the watches on what is below a node.
    fn for_each_below(&self, tree: &Tree, node: NodeId, mut each: impl FnMut(WatchId, &Watch, NodeId)) {
        let mut pending = alloc::vec![node];
        while let Some(at) = pending.pop() {
            for id in tree.get(at).iter().flat_map(|node| node.children.ids()) {
                let Some(child) = tree.get(id) else { continue };
                if !self.bucket(child.hash).is_empty() {
                    let path = tree.path_of(id);
                    self.hashed(child.hash, &path).for_each(|(watch_id, watch)| each(watch_id, watch, id));
                }
                pending.push(id);
            }
        }
    }
}

/// Whether a watcher may learn that something happened at a node (XSA-115): it can read the node, could read it
/// before its permissions changed, or can read the directory that it is in.
fn may_know(tree: &Tree, id: NodeId, old: Option<&Perms>, caller: &Caller) -> bool {
    let readable = |perms: &Perms| perms.permits(caller, Need::Read);
    let Some(node) = tree.get(id) else {
        return false;
    };
    old.is_some_and(readable)
        || readable(&node.perms)
        || (node.parent != NodeId::ROOT && tree.get(node.parent).is_some_and(|parent| readable(&parent.perms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    use hypercall_abi::ids::DomId;

    fn watches(paths: &[&str]) -> Watches {
        let mut watches = Watches::default();
        for path in paths {
            let conn = ConnId { slot: 0, serial: 0 };
            let watch = Watch { conn, path: Arc::from(*path), skip: 0, token: Arc::from(*b"t") };
            watches.add(watch).unwrap();
        }
        watches
    }

    /// The watches that a change of this path concerns, in a tree that has nothing else.
    fn above(watches: &Watches, path: &str) -> Vec<String> {
        let mut tree = Tree::new();
        let perms = Arc::new(Perms::private(DomId::DOM0));
        let node = path::names(path).fold(NodeId::ROOT, |at, name| tree.create(at, name, perms.clone()).unwrap());
        watches.above(&tree, node, path).map(|(_, watch)| String::from(&*watch.path)).collect()
    }

    #[test]
    fn every_ancestor_and_only_ancestors_are_found() {
        let watches = watches(&["/", "/a", "/a-b", "/a/b", "/a/b/c", "/a/bb", "/b", "@releaseDomain", "/a/b/c/d"]);
        assert_eq!(above(&watches, "/a/b/c"), ["/", "/a", "/a/b", "/a/b/c"]);
        assert_eq!(above(&watches, "/a/b/cc/x"), ["/", "/a", "/a/b"]);
        assert_eq!(above(&watches, "/a-b"), ["/", "/a-b"]);
        assert_eq!(above(&watches, "/c/d"), ["/"]);
        assert_eq!(above(&watches, "/"), ["/"]);
    }

    #[test]
    fn watches_are_found_after_the_table_has_grown_and_not_after_they_are_gone() {
        let paths: Vec<String> = (0..3 * FIRST_BUCKETS).map(|n| alloc::format!("/a/{n}")).collect();
        let mut watches = watches(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let conn = ConnId { slot: 0, serial: 0 };
        for path in &paths {
            let id = watches.find(conn, path, b"t").unwrap();
            watches.remove(id);
            assert_eq!(watches.find(conn, path, b"t"), None);
        }
        assert!(watches.buckets.iter().all(Vec::is_empty));
    }

    #[test]
    fn nothing_is_found_where_nothing_watches() {
        assert!(above(&watches(&[]), "/a/b").is_empty());
        assert!(above(&watches(&["/a/b/c", "@x"]), "/a/b").is_empty());
        assert!(above(&watches(&["/a/b"]), "/").is_empty());
    }
}
