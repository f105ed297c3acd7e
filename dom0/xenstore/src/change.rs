//! The four changes of the tree: who may make one, and what it does.
//!
//! [`permit`] and [`apply`] are apart because a transaction does the first once, when the request comes, and the
//! second twice: on its own copy, and on the real tree when it commits.

use alloc::sync::Arc;

use hypercall_abi::ids::DomId;

use crate::ids::NodeId;
use crate::lens::Lens;
use crate::path;
use crate::perms::{Caller, Need, Perms};
use crate::tree::{Spot, Tree};
use crate::{Error, Quotas, Resource};

/// A change of the tree, with absolute paths.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write { path: Arc<str>, value: Arc<[u8]> },
    Mkdir { path: Arc<str> },
    Remove { path: Arc<str> },
    SetPerms { path: Arc<str>, perms: Arc<Perms> },
}

/// A node that a change concerns, told while its permissions can still be looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch<'a> {
    pub(crate) path: &'a Arc<str>,
    pub(crate) node: NodeId,
    pub(crate) effect: Effect<'a>,
}

/// What happens to the node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect<'a> {
    /// Made, or its value written.
    Written,
    /// About to go, with all below it.
    Removed,
    /// Has other permissions than these now.
    Permitted(&'a Perms),
}

impl Change {
    pub(crate) fn path(&self) -> &Arc<str> {
        match self {
            Self::Write { path, .. } | Self::Mkdir { path } | Self::Remove { path } | Self::SetPerms { path, .. } => {
                path
            }
        }
    }

    /// Bytes that keeping this change costs.
    pub(crate) fn bytes(&self) -> usize {
        let held = match self {
            Self::Write { value, .. } => value.len(),
            Self::Mkdir { .. } | Self::Remove { .. } => 0,
            Self::SetPerms { perms, .. } => perms_bytes(perms),
        };
        self.path().len() + held
    }

    /// Whether it gives a right to `domid`.
    pub(crate) fn names(&self, domid: DomId) -> bool {
        match self {
            Self::SetPerms { perms, .. } => {
                perms.owner == domid || perms.granted.iter().any(|grant| grant.domid == domid)
            }
            Self::Write { .. } | Self::Mkdir { .. } | Self::Remove { .. } => false,
        }
    }
}

fn perms_bytes(perms: &Perms) -> usize {
    perms.entries() * size_of::<crate::perms::Grant>()
}

/// Whether `caller` may make the change, and where. Notes in the lens what the answer depends on.
pub(crate) fn permit<'c>(lens: &mut Lens<'_>, caller: &Caller, change: &'c Change) -> Result<Spot<'c>, Error> {
    match change {
        Change::Write { path, .. } | Change::Mkdir { path } => lens.find(caller, path, Need::Write),
        Change::Remove { path } => permit_removal(lens, caller, path),
        Change::SetPerms { path, perms } => {
            let spot = lens.find(caller, path, Need::Own)?;
            let Spot::Found(id) = spot else {
                return Err(Error::NoNode);
            };
            let owner = lens.tree().get(id).map(|node| node.perms.owner);
            if caller.is_privileged() || owner == Some(perms.owner) { Ok(spot) } else { Err(Error::OwnerFixed) }
        }
    }
}

fn permit_removal<'c>(lens: &mut Lens<'_>, caller: &Caller, whole: &'c str) -> Result<Spot<'c>, Error> {
    let spot = lens.find(caller, whole, Need::Write)?;
    match spot {
        Spot::Found(NodeId::ROOT) => Err(Error::RootStays),
        Spot::Found(id) => {
            lens.note_removal(id);
            Ok(spot)
        }
        // Removing what is not there is fine when its parent is.
        Spot::Missing { gap, .. } if gap == whole => Ok(spot),
        Spot::Missing { .. } => Err(Error::NoNode),
    }
}

/// Makes a permitted change and tells `touched` of it: before a removal, after anything else.
///
/// `spot` is where the change's path leads in this tree. `quotas` bind an unprivileged caller; a refused change
/// leaves the tree as it was.
pub(crate) fn apply(
    tree: &mut Tree,
    caller: &Caller,
    change: &Change,
    spot: Spot<'_>,
    quotas: &Quotas,
    touched: &mut dyn FnMut(&Tree, Touch<'_>),
) -> Result<(), Error> {
    match (change, spot) {
        (Change::Write { path, value }, spot) => {
            let perms = match spot {
                Spot::Found(id) | Spot::Missing { nearest: id, .. } => tree.get(id).map(|node| &node.perms),
            };
            bound_node(caller, quotas, value.len() + perms.map_or(0, |perms| perms_bytes(perms)))?;
            let node = found_or_made(tree, caller, spot, quotas)?;
            tree.set_value(node, value.clone());
            touched(tree, Touch { path, node, effect: Effect::Written });
        }
        (Change::Mkdir { .. }, Spot::Found(_)) | (Change::Remove { .. }, Spot::Missing { .. }) => {}
        (Change::Mkdir { path }, spot @ Spot::Missing { .. }) => {
            let node = found_or_made(tree, caller, spot, quotas)?;
            touched(tree, Touch { path, node, effect: Effect::Written });
        }
        (Change::Remove { path }, Spot::Found(node)) => {
            touched(tree, Touch { path, node, effect: Effect::Removed });
            tree.remove(node);
        }
        (Change::SetPerms { path, perms }, Spot::Found(node)) => {
            let Some(old) = tree.get(node).map(|node| (node.perms.clone(), node.value.len())) else {
                return Err(Error::NoNode);
            };
            bound_node(caller, quotas, old.1 + perms_bytes(perms))?;
            tree.set_perms(node, perms.clone());
            touched(tree, Touch { path, node, effect: Effect::Permitted(&old.0) });
        }
        (Change::SetPerms { .. }, Spot::Missing { .. }) => return Err(Error::NoNode),
    }
    Ok(())
}

fn bound_node(caller: &Caller, quotas: &Quotas, bytes: usize) -> Result<(), Error> {
    if !caller.is_privileged() && bytes > quotas.node_bytes {
        return Err(Error::OverQuota(Resource::NodeBytes));
    }
    Ok(())
}

/// The node at `spot`, after making it and what is missing above it.
///
/// What Dom0 makes belongs to the owner of the directory; what a domain makes belongs to that domain.
fn found_or_made(tree: &mut Tree, caller: &Caller, spot: Spot<'_>, quotas: &Quotas) -> Result<NodeId, Error> {
    let (nearest, rest) = match spot {
        Spot::Found(id) => return Ok(id),
        Spot::Missing { nearest, rest, .. } => (nearest, rest),
    };
    let mut perms = tree.get(nearest).ok_or(Error::NoNode)?.perms.clone();
    if !caller.is_privileged() {
        if tree.usage(caller.domid).nodes + path::names(rest).count() > quotas.nodes {
            return Err(Error::OverQuota(Resource::Nodes));
        }
        if perms.owner != caller.domid {
            perms = Arc::new(Perms { owner: caller.domid, ..Perms::clone(&perms) });
        }
    }
    let mut at = nearest;
    for name in path::names(rest) {
        at = tree.create(at, name, perms.clone()).ok_or(Error::NoNode)?;
    }
    Ok(at)
}
