//! What a transaction has seen of the tree, and whether it still holds.
//!
//! A transaction conflicts only when something it read or wrote was changed outside since: a node's value or
//! permissions (`changed`), the set of its children if it was listed or removed (`listed`), or a path it found
//! absent. Making a child is not a read of the parent's list, so two domains can fill one directory at once.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

use crate::ids::{Generation, NodeId};
use crate::tree::{Spot, Tree};

#[derive(Clone, Copy, Debug)]
struct Seen {
    changed: Generation,
    listed: Option<Generation>,
}

/// The nodes read and the paths found absent, as they were in the transaction's base.
#[derive(Debug, Default)]
pub(crate) struct Footprint {
    seen: BTreeMap<NodeId, Seen>,
    absent: BTreeSet<Box<str>>,
    /// Bytes of the absent paths.
    bytes: usize,
}

impl Footprint {
    /// Notes that the value, the permissions or the existence of a node was used.
    ///
    /// A node that the transaction made itself is not in the base and leaves no trace.
    pub(crate) fn saw(&mut self, base: &Tree, id: NodeId) {
        if let Some(node) = base.get(id) {
            let seen = Seen { changed: node.changed, listed: None };
            self.seen.entry(id).or_insert(seen);
        }
    }

    /// Notes that the list of a node's children was used.
    pub(crate) fn listed(&mut self, base: &Tree, id: NodeId) {
        if let Some(node) = base.get(id) {
            let seen = Seen { changed: node.changed, listed: None };
            self.seen.entry(id).or_insert(seen).listed = Some(node.listed);
        }
    }

    /// Notes that nothing was found at a path.
    pub(crate) fn missed(&mut self, base: &Tree, gap: &str) {
        // A path that the transaction itself emptied is covered by what it saw when it did so.
        if matches!(base.resolve(gap), Spot::Missing { .. }) && self.absent.insert(Box::from(gap)) {
            self.bytes += gap.len();
        }
    }

    /// Whether `tree` still is, in all that was seen, as the base was.
    pub(crate) fn holds_in(&self, tree: &Tree) -> bool {
        let same = |(&id, seen): (&NodeId, &Seen)| {
            tree.get(id).is_some_and(|node| {
                node.changed == seen.changed && seen.listed.is_none_or(|listed| listed == node.listed)
            })
        };
        self.seen.iter().all(same) && self.absent.iter().all(|gap| matches!(tree.resolve(gap), Spot::Missing { .. }))
    }

    /// Nodes and absences noted.
    pub(crate) fn len(&self) -> usize {
        self.seen.len() + self.absent.len()
    }

    /// Bytes kept for them, the fixed part aside.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
