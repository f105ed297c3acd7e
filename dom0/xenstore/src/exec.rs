//! What each request does.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hypercall_abi::xs_wire::PAYLOAD_MAX;

use crate::change::{self, Change, Touch};
use crate::ids::{ConnId, NodeId, TxId};
use crate::lens::Lens;
use crate::path;
use crate::perms::{Caller, Perms};
use crate::request::{self, Reply, Request};
use crate::store::Store;
use crate::transaction::Transaction;
use crate::tree::{Node, Spot, Tree};
use crate::watch::Watch;
use crate::{Error, Resource};

impl Store {
    /// Carries out a request; events of it are left in `fired`.
    pub(crate) fn execute(&mut self, id: ConnId, tx: TxId, request: Request<'_>) -> Result<Reply, Error> {
        let conn = self.conns.get(id)?;
        let caller = conn.caller;
        if request::is_privileged(request.op()) && !caller.is_privileged() {
            return Err(Error::AccessDenied);
        }
        let absolute = |given| path::absolute(given, &conn.home);
        let absolute_or_special = |given| path::absolute_or_special(given, &conn.home);
        match request {
            Request::Directory { path } => {
                let path = absolute(path)?;
                self.look(id, tx, |lens, caller| list(lens, caller, &path)).map(Reply::Names)
            }
            Request::DirectoryPart { path, offset } => {
                let path = absolute(path)?;
                self.look(id, tx, |lens, caller| list_part(lens, caller, &path, offset))
            }
            Request::Read { path } => {
                let path = absolute(path)?;
                self.look(id, tx, |lens, caller| read(lens, caller, &path, |node| node.value.clone())).map(Reply::Value)
            }
            Request::GetPerms { path } => {
                let path = absolute_or_special(path)?;
                self.look(id, tx, |lens, caller| read(lens, caller, &path, |node| node.perms.clone())).map(Reply::Perms)
            }
            Request::Write { path, value } => {
                if path.len() + 1 + value.len() > PAYLOAD_MAX {
                    return Err(Error::TooLong);
                }
                let change = Change::Write { path: absolute(path)?, value: Arc::from(value) };
                self.change(id, tx, change)
            }
            Request::Mkdir { path } => {
                let change = Change::Mkdir { path: absolute(path)? };
                self.change(id, tx, change)
            }
            Request::Rm { path } => {
                let change = Change::Remove { path: absolute(path)? };
                self.change(id, tx, change)
            }
            Request::SetPerms { path, perms } => {
                let path = absolute_or_special(path)?;
                let perms = Arc::new(self.admissible(&caller, perms)?);
                self.change(id, tx, Change::SetPerms { path, perms })
            }
            Request::Watch { path, token } => self.watch(id, path, token),
            Request::Unwatch { path, token } => {
                let path = absolute_or_special(path)?;
                let watch = self.watches.find(id, &path, token).ok_or(Error::NoWatch)?;
                self.watches.remove(watch);
                let conn = self.conns.get_mut(id)?;
                conn.watches.remove(&watch);
                conn.queue.drop_events(watch);
                Ok(Reply::Done)
            }
            Request::ResetWatches => {
                self.drop_holdings(id);
                Ok(Reply::Done)
            }
            Request::TransactionStart => self.start(id, tx),
            Request::TransactionEnd { commit } => self.end(id, tx, commit),
            Request::Introduce { domid, gfn, port } => self.introduce(domid, gfn, port),
            Request::Release { domid } => self.release(domid),
            Request::GetDomainPath { domid } => Ok(Reply::Path(path::home(domid))),
            Request::IsDomainIntroduced { domid } => Ok(Reply::Introduced(self.is_introduced(domid))),
            Request::Resume { domid } => self.resume(domid),
            Request::SetTarget { domid, target } => self.set_target(domid, target),
            Request::Control { command } => self.control(command),
        }
    }

    /// Removes a connection's watches, with their unread events, and its transactions.
    pub(crate) fn drop_holdings(&mut self, id: ConnId) {
        let Ok(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.transactions.clear();
        for watch in core::mem::take(&mut conn.watches) {
            conn.queue.drop_events(watch);
            self.watches.remove(watch);
        }
    }

    /// Looks something up, inside a transaction or outside.
    fn look<T>(
        &mut self,
        id: ConnId,
        tx: TxId,
        with: impl FnOnce(&mut Lens<'_>, &Caller) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let conn = self.conns.get_mut(id)?;
        let caller = conn.caller;
        if tx == TxId::NONE {
            return with(&mut Lens::new(&self.tree, None), &caller);
        }
        let transaction = conn.transactions.get_mut(&tx).ok_or(Error::NoTransaction)?;
        with(&mut transaction.lens(&self.tree, &caller, &self.quotas)?, &caller)
    }

    /// Makes a change, inside a transaction or outside.
    fn change(&mut self, id: ConnId, tx: TxId, change: Change) -> Result<Reply, Error> {
        let conn = self.conns.get_mut(id)?;
        let caller = conn.caller;
        if tx == TxId::NONE {
            let spot = change::permit(&mut Lens::new(&self.tree, None), &caller, &change)?;
            self.apply(&caller, &change, spot)?;
        } else {
            let transaction = conn.transactions.get_mut(&tx).ok_or(Error::NoTransaction)?;
            transaction.change(&self.tree, &caller, &self.quotas, change)?;
        }
        Ok(Reply::Done)
    }

    /// Makes a change in the real tree and notes which watches it fires.
    fn apply(&mut self, caller: &Caller, change: &Change, spot: Spot<'_>) -> Result<(), Error> {
        let Self { tree, watches, conns, fired, quotas, .. } = self;
        let mut touched = |tree: &Tree, touch: Touch<'_>| {
            let report = |watch, path| fired.push((watch, path));
            watches.concerned(tree, touch, |conn| conns.caller(conn), report);
        };
        change::apply(tree, caller, change, spot, quotas, &mut touched)
    }

    fn watch(&mut self, id: ConnId, given: &str, token: &[u8]) -> Result<Reply, Error> {
        let conn = self.conns.get_mut(id)?;
        let path = path::absolute_or_special(given, &conn.home)?;
        if token.contains(&0) {
            return Err(Error::Malformed);
        }
        if given.len() + token.len() + 2 > PAYLOAD_MAX {
            return Err(Error::TooLong);
        }
        if !conn.caller.is_privileged() && conn.watches.len() >= self.quotas.watches {
            return Err(Error::OverQuota(Resource::Watches));
        }
        let skip = path.len() - given.len();
        let watch = self.watches.add(Watch { conn: id, path: path.clone(), skip, token: Arc::from(token) })?;
        conn.watches.insert(watch);
        self.fired.push((watch, path));
        Ok(Reply::Done)
    }

    fn start(&mut self, id: ConnId, tx: TxId) -> Result<Reply, Error> {
        let conn = self.conns.get_mut(id)?;
        if tx != TxId::NONE {
            let nested = conn.transactions.contains_key(&tx);
            return Err(if nested { Error::Nested } else { Error::NoTransaction });
        }
        if !conn.caller.is_privileged() && conn.transactions.len() >= self.quotas.transactions {
            return Err(Error::OverQuota(Resource::Transactions));
        }
        let tx = conn.fresh_tx();
        conn.transactions.insert(tx, Transaction::start(&self.tree));
        Ok(Reply::Transaction(tx))
    }

    /// Ends a transaction. All its changes are made or, when one hits a quota after all, none.
    fn end(&mut self, id: ConnId, tx: TxId, commit: bool) -> Result<Reply, Error> {
        let conn = self.conns.get_mut(id)?;
        let caller = conn.caller;
        let transaction = conn.transactions.remove(&tx).ok_or(Error::NoTransaction)?;
        if !commit {
            return Ok(Reply::Done);
        }
        let changes = transaction.finish(&self.tree)?;
        let before = self.tree.clone();
        for change in &changes {
            let spot = self.tree.resolve(change.path());
            if let Err(error) = self.apply(&caller, change, spot) {
                self.tree = before;
                self.fired.clear();
                return Err(error);
            }
        }
        Ok(Reply::Done)
    }

    /// The permissions that a caller may set: within its quota, and without rights for domains that do not exist,
    /// which a later domain of that number would inherit (XSA-322).
    fn admissible(&self, caller: &Caller, perms: &Perms) -> Result<Perms, Error> {
        let mut perms = perms.clone();
        if !caller.is_privileged() {
            if perms.entries() > self.quotas.perms {
                return Err(Error::OverQuota(Resource::Perms));
            }
            perms.granted.retain(|grant| self.is_introduced(grant.domid));
        }
        Ok(perms)
    }

    fn control(&self, command: &str) -> Result<Reply, Error> {
        match command {
            "help" => Ok(Reply::Text(String::from("check\nhelp\nquota"))),
            "check" => match self.tree.audit() {
                Ok(nodes) => Ok(Reply::Text(alloc::format!("OK, {nodes} nodes"))),
                Err(flaw) => Ok(Reply::Text(String::from(flaw))),
            },
            "quota" => Ok(Reply::Text(alloc::format!("{:#?}", self.quotas))),
            _ => Err(Error::Malformed),
        }
    }
}

fn read<T>(lens: &mut Lens<'_>, caller: &Caller, path: &str, what: impl FnOnce(&Node) -> T) -> Result<T, Error> {
    let id = lens.find_readable(caller, path)?;
    lens.tree().get(id).map(what).ok_or(Error::NoNode)
}

fn listed<'a>(lens: &mut Lens<'a>, caller: &Caller, path: &str) -> Result<&'a Node, Error> {
    let id: NodeId = lens.find_readable(caller, path)?;
    lens.note_listing(id);
    lens.tree().get(id).ok_or(Error::NoNode)
}

fn list(lens: &mut Lens<'_>, caller: &Caller, path: &str) -> Result<Vec<Arc<str>>, Error> {
    let ids = listed(lens, caller, path)?.children.ids();
    Ok(ids.filter_map(|id| Some(lens.tree().get(id)?.name.clone())).collect())
}

/// As many names as fit a message with the generation before and a NUL behind them.
fn list_part(lens: &mut Lens<'_>, caller: &Caller, path: &str, offset: usize) -> Result<Reply, Error> {
    let node = listed(lens, caller, path)?;
    let generation = node.listed.0;
    let mut room = PAYLOAD_MAX - alloc::format!("{generation}").len() - 2;
    let mut names = Vec::new();
    let mut at = 0;
    for child in node.children.ids() {
        let name = &lens.tree().get(child).ok_or(Error::NoNode)?.name;
        let length = name.len() + 1;
        if at >= offset {
            if length > room {
                break;
            }
            room -= length;
            names.push(name.clone());
        }
        at += length;
    }
    Ok(Reply::Part { generation, names, last: at == node.children_bytes })
}
