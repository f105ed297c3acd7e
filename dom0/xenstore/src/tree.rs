//! The nodes: a persistent tree, of which a transaction takes a copy in O(1).
//!
//! Nodes sit in a vector of shared pages and refer to each other by index; a node's children are a map from name to
//! index that is shared too. So cloning the tree clones a few pointers, a change copies a page and a map when a clone
//! shares them and nothing when none does, and nothing here recurses: a chain of a thousand names is torn down like any other set of
//! nodes (XSA-418 was a stack overflow on such a chain).
//!
//! Each node carries two generations: `changed` for its value and permissions, `listed` for the set of its
//! children. They are what transactions compare (see `footprint`), so making a child does not disturb who only
//! read the parent's value.
//!
//! The tree counts per guest the nodes it owns and the permission entries that name it. The first count is the
//! quota's; both together tell whether anything of a dead domain is left to clean up.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;

use crate::children::Children;
use crate::ids::{Generation, NodeId};
use crate::pages::Pages;
use crate::path::{self, PathHash};
use crate::perms::Perms;
use hypercall_abi::ids::DomId;

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) parent: NodeId,
    /// Of its path.
    pub(crate) hash: PathHash,
    pub(crate) value: Arc<[u8]>,
    /// Shared with the parent as long as they are the same, which they mostly are.
    pub(crate) perms: Arc<Perms>,
    pub(crate) children: Children,
    /// Length of the children's names on the wire, each with its NUL.
    pub(crate) children_bytes: usize,
    pub(crate) changed: Generation,
    pub(crate) listed: Generation,
}

#[derive(Clone, Debug)]
enum Slot {
    Used(Node),
    Free { next: Option<NodeId> },
}

/// What a domain has in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Nodes that it owns.
    pub(crate) nodes: usize,
    /// Permission entries, other than an owner's, that name it.
    pub(crate) grants: usize,
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot<'a> {
    Found(NodeId),
    Missing {
        /// The deepest node on the way that exists.
        nearest: NodeId,
        /// The path of the first node that does not.
        gap: &'a str,
        /// The names from there to the end, that first one included.
        rest: &'a str,
    },
}

/// The way that the last path went: the next one mostly goes the same way for most of it, and need not look names up in
/// directories that have one for each domain.
#[derive(Clone, Debug, Default)]
struct Trail {
    path: String,
    /// Where each name ends, and the node that it led to.
    nodes: Vec<(usize, NodeId)>,
}

impl Trail {
    /// Keeps to the new path as far as both are the same; returns how far that is, and to which node it leads.
    fn follow(&mut self, whole: &str) -> (usize, NodeId) {
        let (old, new) = (self.path.as_bytes(), whole.as_bytes());
        let mut start = 0;
        let shared = |&&(end, _): &&(usize, NodeId)| {
            let name = core::mem::replace(&mut start, end)..end;
            old.get(name.clone()) == new.get(name) && new.get(end).is_none_or(|next| *next == b'/')
        };
        self.nodes.truncate(self.nodes.iter().take_while(shared).count());
        let (end, node) = self.nodes.last().copied().unwrap_or((0, NodeId::ROOT));
        self.path.truncate(end);
        self.path.push_str(whole.get(end..).unwrap_or_default());
        (end, node)
    }

    /// Goes one name on, to a node that was just made, if the path does.
    fn go_on(&mut self, parent: NodeId, name: &str, child: NodeId) {
        let (end, at) = self.nodes.last().copied().unwrap_or((0, NodeId::ROOT));
        let rest = self.path.get(end + 1..).and_then(|rest| rest.strip_prefix(name));
        if at == parent && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            self.nodes.push((end + 1 + name.len(), child));
        }
    }
}

/// See the module's description.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    slots: Pages<Slot>,
    free: Option<NodeId>,
    trail: RefCell<Box<Trail>>,
    /// By the domain's id.
    usage: Pages<Usage>,
    /// How many domains have anything in the tree.
    users: usize,
    clock: Generation,
}

impl Tree {
    /// The root and the nodes of the two special watches, closed to all but Dom0, as Xen starts.
    pub(crate) fn new() -> Self {
        let mut tree = Self {
            slots: Pages::new(),
            free: None,
            trail: RefCell::default(),
            usage: Pages::new(),
            users: 0,
            clock: Generation(0),
        };
        let perms = Arc::new(Perms::private(DomId::DOM0));
        for name in ["", path::INTRODUCE_DOMAIN, path::RELEASE_DOMAIN] {
            tree.insert(Arc::from(name), NodeId::ROOT, perms.clone());
        }
        tree
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&Node> {
        match self.slots.get(id.0)? {
            Slot::Used(node) => Some(node),
            Slot::Free { .. } => None,
        }
    }

    fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        match self.slots.get_mut(id.0)? {
            Slot::Used(node) => Some(node),
            Slot::Free { .. } => None,
        }
    }

    pub(crate) fn usage(&self, domid: DomId) -> Usage {
        self.usage.get(domid.0.into()).copied().unwrap_or_default()
    }

    /// How many domains have anything in the tree.
    pub(crate) fn users(&self) -> usize {
        self.users
    }

    /// Follows an absolute path, or the name of a special watch, as far as it goes.
    pub(crate) fn resolve<'a>(&self, whole: &'a str) -> Spot<'a> {
        match whole {
            path::INTRODUCE_DOMAIN => return Spot::Found(NodeId::INTRODUCE),
            path::RELEASE_DOMAIN => return Spot::Found(NodeId::RELEASE),
            _ => {}
        }
        let mut trail = self.trail.borrow_mut();
        let (mut passed, mut at) = trail.follow(whole);
        for name in path::names(whole.get(passed..).unwrap_or_default()) {
            let Some(child) = self.child(at, name) else {
                let gap = whole.get(..passed + 1 + name.len()).unwrap_or(whole);
                let rest = whole.get(passed + 1..).unwrap_or_default();
                return Spot::Missing { nearest: at, gap, rest };
            };
            passed += 1 + name.len();
            at = child;
            trail.nodes.push((passed, at));
        }
        Spot::Found(at)
    }

    pub(crate) fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        self.get(parent)?.children.get(name)
    }

    /// Makes an empty child and returns it; nothing when there is no such parent.
    pub(crate) fn create(&mut self, parent: NodeId, name: &str, perms: Arc<Perms>) -> Option<NodeId> {
        self.get(parent)?;
        let name: Arc<str> = Arc::from(name);
        let id = self.insert(name.clone(), parent, perms);
        self.trail.get_mut().go_on(parent, &name, id);
        let now = self.clock;
        let node = self.get_mut(parent)?;
        node.children_bytes += name.len() + 1;
        node.children.insert(name, id);
        node.listed = now;
        Some(id)
    }

    pub(crate) fn set_value(&mut self, id: NodeId, value: Arc<[u8]>) {
        let now = self.tick();
        if let Some(node) = self.get_mut(id) {
            node.value = value;
            node.changed = now;
        }
    }

    pub(crate) fn set_perms(&mut self, id: NodeId, perms: Arc<Perms>) {
        let now = self.tick();
        let Some(node) = self.get_mut(id) else { return };
        node.changed = now;
        let old = core::mem::replace(&mut node.perms, perms.clone());
        if old != perms {
            self.charge(&perms);
            self.discharge(&old);
        }
    }

    /// Removes a node other than the root with all that is below it.
    pub(crate) fn remove(&mut self, id: NodeId) {
        let Some(node) = self.get(id) else { return };
        let (parent, name, bytes) = (node.parent, node.name.clone(), node.name.len() + 1);
        self.trail.get_mut().nodes.clear();
        let mut doomed = alloc::vec![id];
        while let Some(next) = doomed.pop() {
            let Some(node) = self.vacate(next) else {
                continue;
            };
            self.discharge(&node.perms);
            doomed.extend(node.children.ids());
        }
        let now = self.tick();
        if let Some(node) = self.get_mut(parent)
            && node.children.remove(name)
        {
            node.children_bytes -= bytes;
            node.listed = now;
        }
    }

    /// The ids of a node and of all below it, parents first.
    pub(crate) fn subtree(&self, id: NodeId) -> Vec<NodeId> {
        let mut found = alloc::vec![id];
        let mut next = 0;
        while let Some(&at) = found.get(next) {
            found.extend(self.get(at).into_iter().flat_map(|node| node.children.ids()));
            next += 1;
        }
        found
    }

    /// All nodes that satisfy `wanted`.
    pub(crate) fn select(&self, wanted: impl Fn(&Node) -> bool) -> Vec<NodeId> {
        let slots = self.slots.iter().enumerate();
        slots
            .filter_map(|(index, slot)| match slot {
                Slot::Used(node) => wanted(node).then_some(NodeId(index)),
                Slot::Free { .. } => None,
            })
            .collect()
    }

    /// The absolute path of a node.
    pub(crate) fn path_of(&self, id: NodeId) -> Arc<str> {
        let mut names = Vec::new();
        let mut at = id;
        while let Some(node) = self.get(at)
            && at != NodeId::ROOT
        {
            if matches!(at, NodeId::INTRODUCE | NodeId::RELEASE) {
                return node.name.clone();
            }
            names.push(&*node.name);
            at = node.parent;
        }
        if names.is_empty() {
            return Arc::from("/");
        }
        let mut whole = String::new();
        for name in names.iter().rev() {
            whole.push('/');
            whole.push_str(name);
        }
        Arc::from(whole)
    }

    fn tick(&mut self) -> Generation {
        self.clock = Generation(self.clock.0 + 1);
        self.clock
    }

    /// How many changes this tree has seen.
    pub(crate) fn clock(&self) -> Generation {
        self.clock
    }

    fn insert(&mut self, name: Arc<str>, parent: NodeId, perms: Arc<Perms>) -> NodeId {
        let now = self.tick();
        self.charge(&perms);
        let hash = self.get(parent).map_or(PathHash::ROOT, |above| above.hash.below(&name));
        let slot = Slot::Used(Node {
            name,
            parent,
            hash,
            value: Arc::default(),
            perms,
            children: Children::default(),
            children_bytes: 0,
            changed: now,
            listed: now,
        });
        if let Some(id) = self.free
            && let Some(vacant) = self.slots.get_mut(id.0)
        {
            if let Slot::Free { next } = *vacant {
                self.free = next;
            }
            *vacant = slot;
            return id;
        }
        let id = NodeId(self.slots.len());
        self.slots.push(slot);
        id
    }

    fn vacate(&mut self, id: NodeId) -> Option<Node> {
        let slot = self.slots.get_mut(id.0)?;
        match core::mem::replace(slot, Slot::Free { next: self.free }) {
            Slot::Used(node) => {
                self.free = Some(id);
                Some(node)
            }
            vacant @ Slot::Free { .. } => {
                *slot = vacant;
                None
            }
        }
    }

    fn charge(&mut self, perms: &Perms) {
        self.account(perms.owner, |usage| usage.nodes += 1);
        for grant in &perms.granted {
            self.account(grant.domid, |usage| usage.grants += 1);
        }
    }

    fn discharge(&mut self, perms: &Perms) {
        self.account(perms.owner, |usage| usage.nodes = usage.nodes.saturating_sub(1));
        for grant in &perms.granted {
            self.account(grant.domid, |usage| usage.grants = usage.grants.saturating_sub(1));
        }
    }

    /// Dom0 is not counted: no quota binds it, and it does not die while there is a store.
    fn account(&mut self, domid: DomId, change: impl FnOnce(&mut Usage)) {
        if domid == DomId::DOM0 {
            return;
        }
        let index = usize::from(domid.0);
        while self.usage.len() <= index {
            self.usage.push(Usage::default());
        }
        let Some(usage) = self.usage.get_mut(index) else { return };
        let had = *usage != Usage::default();
        change(usage);
        let has = *usage != Usage::default();
        self.users = self.users + usize::from(has) - usize::from(had);
    }
}
