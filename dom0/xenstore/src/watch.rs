//! Watches, found by the path that changed.
//!
//! They stand in one map ordered by path. Watches on a path's ancestors are found by searching downwards from the
//! path: the greatest key not above it either is an ancestor, or shows by its common prefix how far up the next
//! possible ancestor is. So a change costs a few searches, however many watches other domains have set and however
//! long the path is. Watches below a removed node are a range of the map.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use slab::Slab;

use crate::Error;
use crate::change::{Effect, Touch};
use crate::ids::{ConnId, NodeId};
use crate::path;
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
    by_path: BTreeMap<Arc<str>, Vec<WatchId>>,
}

impl Watches {
    pub(crate) fn add(&mut self, watch: Watch) -> Result<WatchId, Error> {
        if self.find(watch.conn, &watch.path, &watch.token).is_some() {
            return Err(Error::WatchExists);
        }
        let path = watch.path.clone();
        let id = WatchId(self.all.insert(watch));
        self.by_path.entry(path).or_default().push(id);
        Ok(id)
    }

    pub(crate) fn find(&self, conn: ConnId, path: &str, token: &[u8]) -> Option<WatchId> {
        self.at(path)
            .find(|(_, watch)| watch.conn == conn && *watch.token == *token)
            .map(|(id, _)| id)
    }

    pub(crate) fn get(&self, id: WatchId) -> Option<&Watch> {
        self.all.get(id.0)
    }

    pub(crate) fn remove(&mut self, id: WatchId) {
        let Some(watch) = self.all.try_remove(id.0) else {
            return;
        };
        if let Some(ids) = self.by_path.get_mut(&watch.path) {
            ids.retain(|&other| other != id);
            if ids.is_empty() {
                self.by_path.remove(&watch.path);
            }
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
        self.for_each_above(touch.path, |id, watch| {
            if caller_of(watch.conn).is_some_and(|caller| may_know(tree, touch.node, old, &caller))
            {
                report(id, touch.path.clone());
            }
        });
        if !matches!(touch.effect, Effect::Removed) {
            return;
        }
        self.for_each_below(touch.path, |id, watch, rest| {
            let mut names = path::names(rest);
            let Some(gone) = names.try_fold(touch.node, |at, name| tree.child(at, name)) else {
                return;
            };
            if caller_of(watch.conn).is_some_and(|caller| may_know(tree, gone, None, &caller)) {
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

    fn at(&self, path: &str) -> impl Iterator<Item = (WatchId, &Watch)> {
        self.resolve(self.by_path.get(path).map_or(&[], Vec::as_slice))
    }

    fn resolve<'a>(&'a self, ids: &'a [WatchId]) -> impl Iterator<Item = (WatchId, &'a Watch)> {
        ids.iter().filter_map(|&id| Some((id, self.get(id)?)))
    }

    fn for_each_above(&self, path: &str, mut each: impl FnMut(WatchId, &Watch)) {
        let mut upto = path;
        loop {
            let range = (Bound::Unbounded, Bound::Included(upto));
            let Some((key, ids)) = self.by_path.range::<str, _>(range).next_back() else {
                return;
            };
            let next = if path::below(upto, key).is_some() {
                self.resolve(ids).for_each(|(id, watch)| each(id, watch));
                path::parent(upto.get(..key.len()).unwrap_or("/"))
            } else {
                let common = upto
                    .bytes()
                    .zip(key.bytes())
                    .take_while(|(one, other)| one == other)
                    .count();
                path::parent(upto.get(..=common).unwrap_or("/"))
            };
            if next.len() >= upto.len() {
                return;
            }
            upto = next;
        }
    }

    fn for_each_below(&self, path: &str, mut each: impl FnMut(WatchId, &Watch, &str)) {
        let range = (Bound::Excluded(path), Bound::Unbounded);
        for (key, ids) in self.by_path.range::<str, _>(range) {
            if !key.starts_with(path) {
                return;
            }
            let Some(rest) = path::below(key, path) else {
                continue;
            };
            self.resolve(ids)
                .for_each(|(id, watch)| each(id, watch, rest));
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
        || (node.parent != NodeId::ROOT
            && tree
                .get(node.parent)
                .is_some_and(|parent| readable(&parent.perms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn watches(paths: &[&str]) -> Watches {
        let mut watches = Watches::default();
        for path in paths {
            let conn = ConnId { slot: 0, serial: 0 };
            let watch = Watch {
                conn,
                path: Arc::from(*path),
                skip: 0,
                token: Arc::from(*b"t"),
            };
            watches.add(watch).unwrap();
        }
        watches
    }

    fn above(watches: &Watches, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        watches.for_each_above(path, |_, watch| found.push(String::from(&*watch.path)));
        found
    }

    #[test]
    fn every_ancestor_and_only_ancestors_are_found() {
        let watches = watches(&[
            "/",
            "/a",
            "/a-b",
            "/a/b",
            "/a/b/c",
            "/a/bb",
            "/b",
            "@releaseDomain",
            "/a/b/c/d",
        ]);
        assert_eq!(above(&watches, "/a/b/c"), ["/a/b/c", "/a/b", "/a", "/"]);
        assert_eq!(above(&watches, "/a/b/cc/x"), ["/a/b", "/a", "/"]);
        assert_eq!(above(&watches, "/a-b"), ["/a-b", "/"]);
        assert_eq!(above(&watches, "/c/d"), ["/"]);
        assert_eq!(above(&watches, "/"), ["/"]);
    }

    #[test]
    fn nothing_is_found_where_nothing_watches() {
        assert!(above(&watches(&[]), "/a/b").is_empty());
        assert!(above(&watches(&["/a/b/c", "@x"]), "/a/b").is_empty());
        assert!(above(&watches(&["/a/b"]), "/").is_empty());
    }
}
