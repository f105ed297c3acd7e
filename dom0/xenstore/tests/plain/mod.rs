//! The store as one would write it without a thought for speed: a flat map from path to node, whole copies for
//! transactions, every watch tried for every change.

use std::collections::{BTreeMap, BTreeSet};

use xenstore::{Access, Error};

/// Who acts: 0 is Dom0, others are guests of that domid.
pub type Who = u16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub value: String,
    pub owner: Who,
    pub others: Access,
}

pub type Tree = BTreeMap<String, Node>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Read,
    Write,
    Own,
}

#[derive(Clone, Debug)]
pub enum Change {
    Write(String, String),
    Mkdir(String),
    Rm(String),
    SetPerms(String, Who, Access),
}

#[derive(Clone, Debug)]
pub struct Watch {
    pub who: Who,
    pub path: String,
    pub given: String,
    pub token: String,
}

#[derive(Debug)]
pub struct Transaction {
    base: Tree,
    pub work: Tree,
    values: BTreeSet<String>,
    lists: BTreeSet<String>,
    absent: BTreeSet<String>,
    changes: Vec<Change>,
    /// How much of the history was over when it started.
    since: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Fact {
    /// A node was made, removed, or got another value or other permissions.
    Changed(String),
    /// A node's children became others.
    Listed(String),
}

#[derive(Debug, Default)]
pub struct Model {
    pub tree: Tree,
    pub watches: Vec<Watch>,
    history: Vec<Fact>,
}

pub fn parent(path: &str) -> String {
    match path.rfind('/') {
        Some(0) | None => "/".into(),
        Some(slash) => path[..slash].into(),
    }
}

/// Whether `path` is `above` or lies below it.
fn within(path: &str, above: &str) -> bool {
    path == above || above == "/" || path.starts_with(&format!("{above}/"))
}

pub fn children(tree: &Tree, path: &str) -> Vec<String> {
    let below = tree.keys().filter(|child| *child != "/" && parent(child) == path);
    below.map(|child| child.rsplit('/').next().unwrap().to_owned()).collect()
}

fn permits(node: &Node, who: Who, need: Need) -> bool {
    who == 0
        || node.owner == who
        || match need {
            Need::Read => matches!(node.others, Access::Read | Access::Both),
            Need::Write => matches!(node.others, Access::Write | Access::Both),
            Need::Own => false,
        }
}

/// The deepest node on the way that exists, and the first that does not.
fn nearest(tree: &Tree, path: &str) -> (String, Option<String>) {
    let (mut at, mut gap) = (path.to_owned(), None);
    while !tree.contains_key(&at) {
        gap = Some(at.clone());
        at = parent(&at);
    }
    (at, gap)
}

/// Whether the path leads to a node, if the caller has the right there or on the nearest node above.
pub fn find(tree: &Tree, who: Who, path: &str, need: Need) -> Result<bool, Error> {
    let (at, gap) = nearest(tree, path);
    if permits(&tree[&at], who, need) { Ok(gap.is_none()) } else { Err(Error::AccessDenied) }
}

/// Whether the change is allowed.
fn permit(tree: &Tree, who: Who, change: &Change) -> Result<(), Error> {
    match change {
        Change::Write(path, _) | Change::Mkdir(path) => find(tree, who, path, Need::Write).map(|_| ()),
        Change::Rm(path) => match find(tree, who, path, Need::Write)? {
            true if path == "/" => Err(Error::RootStays),
            true => Ok(()),
            false if tree.contains_key(&parent(path)) => Ok(()),
            false => Err(Error::NoNode),
        },
        Change::SetPerms(path, owner, _) => {
            if !find(tree, who, path, Need::Own)? {
                return Err(Error::NoNode);
            }
            if who == 0 || tree[path].owner == *owner { Ok(()) } else { Err(Error::OwnerFixed) }
        }
    }
}

fn make(tree: &mut Tree, who: Who, path: &str, history: &mut Vec<Fact>) {
    if tree.contains_key(path) {
        return;
    }
    let above = parent(path);
    make(tree, who, &above, history);
    let Node { owner, others, .. } = tree[&above];
    let owner = if who == 0 { owner } else { who };
    tree.insert(path.to_owned(), Node { value: String::new(), owner, others });
    history.push(Fact::Changed(path.to_owned()));
    history.push(Fact::Listed(above));
}

/// Makes an allowed change; returns which watches see what.
fn apply(
    tree: &mut Tree,
    who: Who,
    change: &Change,
    watches: &[Watch],
    history: &mut Vec<Fact>,
) -> Vec<(usize, String)> {
    match change {
        Change::Write(path, value) => {
            make(tree, who, path, history);
            tree.get_mut(path).unwrap().value.clone_from(value);
            history.push(Fact::Changed(path.clone()));
            seen(tree, watches, path, None, false)
        }
        Change::Mkdir(path) => {
            if tree.contains_key(path) {
                return Vec::new();
            }
            make(tree, who, path, history);
            seen(tree, watches, path, None, false)
        }
        Change::Rm(path) => {
            if !tree.contains_key(path) {
                return Vec::new();
            }
            let events = seen(tree, watches, path, None, true);
            let gone: Vec<String> = tree.keys().filter(|node| within(node, path)).cloned().collect();
            for node in gone {
                tree.remove(&node);
                history.push(Fact::Changed(node.clone()));
                history.push(Fact::Listed(node));
            }
            history.push(Fact::Listed(parent(path)));
            events
        }
        Change::SetPerms(path, owner, others) => {
            let node = tree.get_mut(path).unwrap();
            let old = node.clone();
            (node.owner, node.others) = (*owner, *others);
            history.push(Fact::Changed(path.clone()));
            seen(tree, watches, path, Some(&old), false)
        }
    }
}

fn seen(tree: &Tree, watches: &[Watch], path: &str, old: Option<&Node>, removed: bool) -> Vec<(usize, String)> {
    let may_know = |who, path: &str| {
        let above = parent(path);
        permits(&tree[path], who, Need::Read)
            || old.is_some_and(|old| permits(old, who, Need::Read))
            || (above != "/" && permits(&tree[&above], who, Need::Read))
    };
    let mut events = Vec::new();
    for (index, watch) in watches.iter().enumerate() {
        if within(path, &watch.path) && may_know(watch.who, path) {
            events.push((index, path.to_owned()));
        } else if removed
            && within(&watch.path, path)
            && tree.contains_key(&watch.path)
            && may_know(watch.who, &watch.path)
        {
            events.push((index, watch.path.clone()));
        }
    }
    events
}

impl Model {
    pub fn change(&mut self, who: Who, change: &Change) -> Result<Vec<(usize, String)>, Error> {
        permit(&self.tree, who, change)?;
        Ok(apply(&mut self.tree, who, change, &self.watches, &mut self.history))
    }

    pub fn start(&self) -> Transaction {
        Transaction {
            base: self.tree.clone(),
            work: self.tree.clone(),
            values: BTreeSet::new(),
            lists: BTreeSet::new(),
            absent: BTreeSet::new(),
            changes: Vec::new(),
            since: self.history.len(),
        }
    }

    pub fn commit(&mut self, who: Who, tx: &Transaction) -> Result<Vec<(usize, String)>, Error> {
        let outside = &self.history[tx.since..];
        let changed = |path: &String| outside.contains(&Fact::Changed(path.clone()));
        let listed = |path: &String| outside.contains(&Fact::Listed(path.clone()));
        if tx.values.iter().any(changed)
            || tx.lists.iter().any(listed)
            || tx.absent.iter().any(|path| self.tree.contains_key(path))
        {
            return Err(Error::Conflict);
        }
        let mut events = Vec::new();
        for change in &tx.changes {
            events.extend(apply(&mut self.tree, who, change, &self.watches, &mut self.history));
        }
        Ok(events)
    }
}

impl Transaction {
    /// Notes what a lookup used; does not say what came of it.
    pub fn note(&mut self, path: &str, lists: bool) {
        let (at, gap) = nearest(&self.work, path);
        if let Some(gap) = gap.filter(|gap| !self.base.contains_key(gap)) {
            self.absent.insert(gap);
        }
        if self.base.contains_key(&at) {
            self.values.insert(at.clone());
            if lists {
                self.lists.insert(at);
            }
        }
    }

    pub fn change(&mut self, who: Who, change: Change) -> Result<(), Error> {
        let (Change::Write(path, _) | Change::Mkdir(path) | Change::Rm(path) | Change::SetPerms(path, ..)) = &change;
        self.note(path, false);
        permit(&self.work, who, &change)?;
        if matches!(change, Change::Rm(_)) {
            let gone: Vec<_> = self.work.keys().filter(|node| within(node, path)).cloned().collect();
            for node in gone.into_iter().filter(|node| self.base.contains_key(node)) {
                self.values.insert(node.clone());
                self.lists.insert(node);
            }
        }
        apply(&mut self.work, who, &change, &[], &mut Vec::new());
        self.changes.push(change);
        Ok(())
    }
}
