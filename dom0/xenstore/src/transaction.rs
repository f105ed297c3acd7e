//! A transaction: a private copy of the tree, the changes made in it, and what they rest on.
//!
//! Starting one clones the tree (O(1)). Requests inside it read and change the clone, so it sees one consistent
//! state. Committing checks the footprint against the real tree and, when it holds, makes the same changes there
//! in the same order.
//!
//! A clone keeps every node alive that others replace or remove meanwhile, so a domain that leaves transactions
//! open would hoard memory that no quota counts (the class of XSA-326). After [`PARK_AFTER`] changes of the real
//! tree a transaction is therefore *parked*: its copies are dropped, its notes and changes, which are bounded by
//! quotas, stay. The next request inside it checks the footprint and replays the changes on a fresh clone; if
//! that fails, the transaction was in conflict anyway, and its end will say so.

use alloc::vec::Vec;

use hypercall_abi::ids::DomId;

use crate::change::{self, Change};
use crate::footprint::Footprint;
use crate::ids::Generation;
use crate::lens::{Lens, Notes};
use crate::perms::Caller;
use crate::tree::Tree;
use crate::{Error, Quotas, Resource};

/// Changes of the real tree that an open transaction holds its copy through.
pub(crate) const PARK_AFTER: u64 = 1024;

#[derive(Debug)]
enum Copies {
    /// The tree as it was at the start, and as the transaction made it.
    Live {
        base: Tree,
        work: Tree,
    },
    Parked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// Can no longer commit; requests still work, on a state that may not be consistent.
    Conflicted,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Transaction {
    copies: Copies,
    fate: Fate,
    footprint: Footprint,
    log: Vec<Change>,
    log_bytes: usize,
}

impl Transaction {
    pub(crate) fn start(tree: &Tree) -> Self {
        Self {
            copies: Copies::Live { base: tree.clone(), work: tree.clone() },
            fate: Fate::Open,
            footprint: Footprint::default(),
            log: Vec::new(),
            log_bytes: 0,
        }
    }

    /// The transaction's view of the tree.
    pub(crate) fn lens(&mut self, tree: &Tree, caller: &Caller, quotas: &Quotas) -> Result<Lens<'_>, Error> {
        self.bound(caller, quotas)?;
        self.wake(tree, caller, quotas);
        match &mut self.copies {
            Copies::Live { base, work } => Ok(Lens::new(work, Some(Notes { base, footprint: &mut self.footprint }))),
            Copies::Parked => Err(Error::Conflict),
        }
    }

    /// Makes a change in the transaction's copy and keeps it for the commit.
    pub(crate) fn change(
        &mut self,
        tree: &Tree,
        caller: &Caller,
        quotas: &Quotas,
        change: Change,
    ) -> Result<(), Error> {
        let spot = change::permit(&mut self.lens(tree, caller, quotas)?, caller, &change)?;
        if let Copies::Live { work, .. } = &mut self.copies {
            change::apply(work, caller, &change, spot, quotas, &mut |_, _| {})?;
        }
        self.log_bytes += change.bytes();
        self.log.push(change);
        Ok(())
    }

    /// The changes to make, if nothing that they rest on has changed.
    pub(crate) fn finish(self, tree: &Tree) -> Result<Vec<Change>, Error> {
        match self.fate {
            Fate::Open if self.footprint.holds_in(tree) => Ok(self.log),
            Fate::Open | Fate::Conflicted => Err(Error::Conflict),
        }
    }

    /// Drops the copies when they hold on to a tree that many changes have left behind.
    pub(crate) fn park_if_stale(&mut self, now: Generation) {
        if let Copies::Live { base, .. } = &self.copies
            && now.0.saturating_sub(base.clock().0) > PARK_AFTER
        {
            self.copies = Copies::Parked;
        }
    }

    /// A domain is gone, and its number may come back: a right that this transaction meant for it must not be
    /// granted to its successor (XSA-322).
    pub(crate) fn forget_domain(&mut self, domid: DomId) {
        if self.log.iter().any(|change| change.names(domid)) {
            self.fate = Fate::Conflicted;
        }
    }

    fn bound(&self, caller: &Caller, quotas: &Quotas) -> Result<(), Error> {
        let nodes = self.footprint.len() + self.log.len();
        let bytes = self.footprint.bytes() + self.log_bytes;
        if !caller.is_privileged() && (nodes >= quotas.transaction_nodes || bytes >= quotas.transaction_bytes) {
            return Err(Error::OverQuota(Resource::TransactionSize));
        }
        Ok(())
    }

    /// Gives a parked transaction its copies back.
    fn wake(&mut self, tree: &Tree, caller: &Caller, quotas: &Quotas) {
        if !matches!(self.copies, Copies::Parked) {
            return;
        }
        let mut work = tree.clone();
        if self.fate == Fate::Open {
            let replay = |change: &Change| {
                let spot = work.resolve(change.path());
                change::apply(&mut work, caller, change, spot, quotas, &mut |_, _| {})
            };
            let replayed = self.footprint.holds_in(tree) && self.log.iter().try_for_each(replay).is_ok();
            if !replayed {
                self.fate = Fate::Conflicted;
            }
        }
        self.copies = Copies::Live { base: tree.clone(), work };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConnKind, Reply, Request, Store, TxId};

    #[test]
    fn an_idle_transaction_lets_go_of_its_copies_after_many_changes() {
        let mut store = Store::default();
        let idle = store.connect(ConnKind::Local).unwrap();
        let busy = store.connect(ConnKind::Local).unwrap();
        let start = store.request(idle, TxId::NONE, Request::TransactionStart);
        let Ok(Reply::Transaction(tx)) = start else { panic!("{start:?}") };
        let parked = |store: &Store| {
            let transaction = store.conns.get(idle).unwrap().transactions.get(&tx).unwrap();
            matches!(transaction.copies, Copies::Parked)
        };
        let write = Request::Write { path: "/a", value: b"" };
        for _ in 0..PARK_AFTER / 2 {
            store.request(busy, TxId::NONE, write).unwrap();
        }
        assert!(!parked(&store));
        for _ in 0..PARK_AFTER {
            store.request(busy, TxId::NONE, write).unwrap();
        }
        assert!(parked(&store));
        store.request(idle, tx, Request::Read { path: "/" }).unwrap();
        assert!(!parked(&store));
    }
}
