//! Domains as the store knows them, from INTRODUCE to their death.
//!
//! A domid comes back for another domain, so nothing of the old one may be left when it does (XSA-322): its
//! connection and what that held, its rights in others' permissions and transactions, its part as somebody's
//! target, and the nodes it owns, which are removed as Xen since 4.17 does (XSA-419): kept, they would pile up
//! outside every quota.

use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;

use hypercall_abi::ids::{DomId, Gfn, Port};

use crate::Error;
use crate::change::{Effect, Touch};
use crate::ids::{ConnId, NodeId};
use crate::path;
use crate::perms::Perms;
use crate::request::{Action, Reply};
use crate::store::Store;
use crate::tree::Usage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Shut down or crashed, and announced as such.
    Stopped,
}

/// An introduced domain.
#[derive(Debug)]
pub(crate) struct Domain {
    gfn: Gfn,
    pub(crate) conn: Option<ConnId>,
    pub(crate) target: Option<DomId>,
    phase: Phase,
}

impl Store {
    /// A domain shut down or crashed, and still exists: fires `@releaseDomain`, once until RESUME.
    pub fn domain_shut_down(&mut self, domid: DomId) {
        if let Some(domain) = self.domains.get_mut(&domid)
            && domain.phase == Phase::Running
        {
            domain.phase = Phase::Stopped;
            self.fire_special(path::RELEASE_DOMAIN, NodeId::RELEASE);
        }
        self.settle();
    }

    /// A domain is gone and its number is free. To be called for every domain that dies, introduced or not,
    /// before the number is used again; what it owned is removed (read what you still need of it first).
    pub fn domain_died(&mut self, domid: DomId) {
        // A domain that was never introduced may still be named by what the toolstack prepared for it.
        if self.release(domid).is_err() && domid != DomId::DOM0 {
            self.purge(domid);
        }
        self.settle();
    }

    /// Whether a domain may be named in permissions by others than Dom0. Dom0 always is.
    pub(crate) fn is_introduced(&self, domid: DomId) -> bool {
        domid == DomId::DOM0 || self.domains.contains_key(&domid)
    }

    pub(crate) fn introduce(&mut self, domid: DomId, gfn: Gfn, port: Port) -> Result<Reply, Error> {
        if domid == DomId::DOM0 || domid >= DomId::FIRST_RESERVED {
            return Err(Error::BadDomid);
        }
        match self.domains.entry(domid) {
            Entry::Occupied(domain) if domain.get().gfn != gfn => return Err(Error::IntroducedElsewhere),
            Entry::Occupied(domain) => {
                if let Some(conn) = domain.get().conn {
                    self.reset(conn);
                }
            }
            Entry::Vacant(place) => {
                place.insert(Domain { gfn, conn: None, target: None, phase: Phase::Running });
                self.fire_special(path::INTRODUCE_DOMAIN, NodeId::INTRODUCE);
            }
        }
        self.actions.push_back(Action::Introduce { domid, gfn, port });
        Ok(Reply::Done)
    }

    pub(crate) fn release(&mut self, domid: DomId) -> Result<Reply, Error> {
        let domain = self.domains.remove(&domid).ok_or(Error::NoDomain)?;
        if let Some(conn) = domain.conn {
            self.disconnect(conn);
        }
        self.purge(domid);
        self.actions.push_back(Action::Release { domid });
        self.fire_special(path::RELEASE_DOMAIN, NodeId::RELEASE);
        Ok(Reply::Done)
    }

    pub(crate) fn resume(&mut self, domid: DomId) -> Result<Reply, Error> {
        self.domains.get_mut(&domid).ok_or(Error::NoDomain)?.phase = Phase::Running;
        Ok(Reply::Done)
    }

    pub(crate) fn set_target(&mut self, domid: DomId, target: DomId) -> Result<Reply, Error> {
        if !self.domains.contains_key(&target) {
            return Err(Error::NoDomain);
        }
        self.domains.get_mut(&domid).ok_or(Error::NoDomain)?.target = Some(target);
        self.spread_target(domid);
        Ok(Reply::Done)
    }

    /// Gives the connection of a domain the target that the domain has.
    fn spread_target(&mut self, domid: DomId) {
        if let Some(domain) = self.domains.get(&domid)
            && let Some(conn) = domain.conn
            && let Ok(conn) = self.conns.get_mut(conn)
        {
            conn.caller.target = domain.target;
        }
    }

    /// Removes every trace of a domid, so that its next bearer starts with nothing.
    fn purge(&mut self, domid: DomId) {
        let orphans = self.domains.iter_mut().filter(|(_, domain)| domain.target == Some(domid));
        let orphans: alloc::vec::Vec<_> = orphans.map(|(&orphan, domain)| (orphan, domain.target = None).0).collect();
        orphans.into_iter().for_each(|orphan| self.spread_target(orphan));
        for conn in self.conns.iter_mut() {
            conn.transactions.values_mut().for_each(|transaction| transaction.forget_domain(domid));
        }
        if self.tree.usage(domid) == Usage::default() {
            return;
        }
        self.give_back_fixed_nodes(domid);
        for id in self.tree.select(|node| node.perms.owner == domid) {
            self.remove_orphan(id);
        }
        let names = |perms: &Perms| perms.granted.iter().any(|grant| grant.domid == domid);
        for id in self.tree.select(|node| names(&node.perms)) {
            if let Some(node) = self.tree.get(id) {
                let mut perms = Perms::clone(&node.perms);
                perms.granted.retain(|grant| grant.domid != domid);
                self.tree.set_perms(id, Arc::new(perms));
            }
        }
    }

    /// The root and the special watches cannot be removed; they fall to Dom0.
    fn give_back_fixed_nodes(&mut self, domid: DomId) {
        for id in [NodeId::ROOT, NodeId::INTRODUCE, NodeId::RELEASE] {
            if let Some(node) = self.tree.get(id)
                && node.perms.owner == domid
            {
                let perms = Perms { owner: DomId::DOM0, ..Perms::clone(&node.perms) };
                self.tree.set_perms(id, Arc::new(perms));
            }
        }
    }

    /// Removes a dead domain's node; one that went with its parent is passed over.
    fn remove_orphan(&mut self, id: NodeId) {
        if self.tree.get(id).is_none() {
            return;
        }
        let Self { tree, watches, conns, fired, .. } = self;
        let path = tree.path_of(id);
        let touch = Touch { path: &path, node: id, effect: Effect::Removed };
        watches.concerned(tree, touch, |conn| conns.caller(conn), |watch, path| fired.push((watch, path)));
        tree.remove(id);
    }

    fn fire_special(&mut self, name: &str, node: NodeId) {
        let Self { tree, watches, conns, fired, .. } = self;
        let report = |watch, path| fired.push((watch, path));
        watches.concerned_exactly(tree, &Arc::from(name), node, |conn| conns.caller(conn), report);
    }
}
