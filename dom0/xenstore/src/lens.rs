//! A tree as one request sees it: with the requester's rights, and with notes taken inside a transaction.

use crate::Error;
use crate::footprint::Footprint;
use crate::ids::NodeId;
use crate::perms::{Caller, Need};
use crate::tree::{Spot, Tree};

/// Where a transaction's notes go.
#[derive(Debug)]
pub(crate) struct Notes<'a> {
    pub(crate) base: &'a Tree,
    pub(crate) footprint: &'a mut Footprint,
}

/// A tree to look something up in.
#[derive(Debug)]
pub(crate) struct Lens<'a> {
    tree: &'a Tree,
    notes: Option<Notes<'a>>,
}

impl<'a> Lens<'a> {
    pub(crate) fn new(tree: &'a Tree, notes: Option<Notes<'a>>) -> Self {
        Self { tree, notes }
    }

    pub(crate) fn tree(&self) -> &'a Tree {
        self.tree
    }

    /// Looks a path up for a caller who needs a right on it.
    ///
    /// When the node does not exist, the right is asked of the nearest one above it that does: so a caller
    /// without it learns nothing about what exists there, and one who may write there may create.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] when the right is lacking.
    pub(crate) fn find<'p>(&mut self, caller: &Caller, path: &'p str, need: Need) -> Result<Spot<'p>, Error> {
        let spot = self.tree.resolve(path);
        let at = match spot {
            Spot::Found(id) => id,
            Spot::Missing { nearest, gap, .. } => {
                if let Some(notes) = &mut self.notes {
                    notes.footprint.missed(notes.base, gap);
                }
                nearest
            }
        };
        if let Some(notes) = &mut self.notes {
            notes.footprint.saw(notes.base, at);
        }
        let permitted = self.tree.get(at).is_some_and(|node| node.perms.permits(caller, need));
        if permitted { Ok(spot) } else { Err(Error::AccessDenied) }
    }

    /// As [`Lens::find`], for what must exist to be read.
    pub(crate) fn find_readable(&mut self, caller: &Caller, path: &str) -> Result<NodeId, Error> {
        match self.find(caller, path, Need::Read)? {
            Spot::Found(id) => Ok(id),
            Spot::Missing { .. } => Err(Error::NoNode),
        }
    }

    /// Notes that the list of a node's children is used.
    pub(crate) fn note_listing(&mut self, id: NodeId) {
        if let Some(notes) = &mut self.notes {
            notes.footprint.listed(notes.base, id);
        }
    }

    /// Notes that a node goes, with everything below: a change of any of it is a conflict.
    pub(crate) fn note_removal(&mut self, id: NodeId) {
        if let Some(notes) = &mut self.notes {
            for gone in self.tree.subtree(id) {
                notes.footprint.listed(notes.base, gone);
            }
        }
    }
}
