//! The store: connections in and out, and how requests reach the tree.
//!
//! This file is the interface to the transport; what requests do is in `exec`, domains are in `domains`.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hypercall_abi::ids::DomId;
use hypercall_abi::xs_wire::{Header, PAYLOAD_MAX, XsOp};
use zerocopy::FromBytes;

use crate::codec::{self, HEADER};
use crate::conn::{ConnKind, Conns, Fault, Health};
use crate::domains::Domain;
use crate::ids::{ConnId, Generation, TxId};
use crate::queue::{Event, Queue};
use crate::request::{self, Action, Reply, Request, WatchEvent};
use crate::transaction::PARK_AFTER;
use crate::tree::Tree;
use crate::watch::{WatchId, Watches};
use crate::{Error, Quotas};

/// The XenStore of a machine. See the crate's description.
#[derive(Debug)]
pub struct Store {
    pub(crate) quotas: Quotas,
    pub(crate) tree: Tree,
    pub(crate) watches: Watches,
    pub(crate) conns: Conns,
    pub(crate) domains: BTreeMap<DomId, Domain>,
    pub(crate) actions: VecDeque<Action>,
    /// Watches that fired during the current request.
    pub(crate) fired: Vec<(WatchId, Arc<str>)>,
    ready: VecDeque<ConnId>,
    swept: Generation,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Quotas::default())
    }
}

impl Store {
    /// A store with nothing but a root, which only Dom0 can read.
    #[must_use]
    pub fn new(quotas: Quotas) -> Self {
        Self {
            quotas,
            tree: Tree::new(),
            watches: Watches::default(),
            conns: Conns::default(),
            domains: BTreeMap::new(),
            actions: VecDeque::new(),
            fired: Vec::new(),
            ready: VecDeque::new(),
            swept: Generation::default(),
        }
    }

    /// Opens a connection. A domain has at most one: an earlier one is closed.
    ///
    /// # Errors
    /// [`Error::NoDomain`] when the domain is not introduced.
    pub fn connect(&mut self, kind: ConnKind) -> Result<ConnId, Error> {
        let ConnKind::Domain { domid } = kind else {
            return Ok(self.conns.open(kind, None));
        };
        let domain = self.domains.get_mut(&domid).ok_or(Error::NoDomain)?;
        let id = self.conns.open(kind, domain.target);
        if let Some(earlier) = domain.conn.replace(id) {
            self.disconnect(earlier);
        }
        Ok(id)
    }

    /// Closes a connection: its watches, transactions and unread messages are gone. A domain stays introduced.
    pub fn disconnect(&mut self, id: ConnId) {
        self.reset(id);
        if let Some(ConnKind::Domain { domid }) = self.kind(id)
            && let Some(domain) = self.domains.get_mut(&domid)
            && domain.conn == Some(id)
        {
            domain.conn = None;
        }
        self.conns.close(id);
    }

    /// Puts a connection back to its beginning: for a domain that asks to be reconnected through its ring page.
    pub fn reset(&mut self, id: ConnId) {
        self.drop_holdings(id);
        if let Ok(conn) = self.conns.get_mut(id) {
            conn.health = Health::Open;
            conn.partial = Vec::new();
            conn.queue = Queue::default();
        }
    }

    /// Who is at the other end; nothing when the connection is closed.
    #[must_use]
    pub fn kind(&self, id: ConnId) -> Option<ConnKind> {
        self.conns.get(id).ok().map(|conn| conn.kind)
    }

    /// Takes bytes from a client, in any portions, and carries out each request that is complete.
    ///
    /// Returns how many bytes were taken. It is fewer than given when the client does not read its replies: call
    /// again with the rest after [`Store::consume`]. It is also what the transport may free in the ring.
    ///
    /// # Errors
    /// A [`Fault`] when the client broke the protocol: nothing more will be taken from or given to it.
    pub fn input(&mut self, id: ConnId, bytes: &[u8]) -> Result<usize, Fault> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..)
            && !rest.is_empty()
        {
            if !self.accepts_input(id)? {
                break;
            }
            taken += self.assemble(id, rest)?;
        }
        Ok(taken)
    }

    /// Whether [`Store::input`] would take bytes now.
    ///
    /// # Errors
    /// As [`Store::input`].
    pub fn accepts_input(&self, id: ConnId) -> Result<bool, Fault> {
        let conn = self.conns.get(id).map_err(|_| Fault::Closed)?;
        match conn.health {
            Health::Broken(fault) => Err(fault),
            Health::Open => Ok(conn.caller.is_privileged()
                || (conn.queue.replies() < self.quotas.unread_replies
                    && conn.queue.reply_bytes() < self.quotas.unread_bytes)),
        }
    }

    /// The next bytes for a client, empty when there are none; they stay until [`Store::consume`].
    pub fn output(&mut self, id: ConnId) -> &[u8] {
        let Self { conns, watches, .. } = self;
        let Ok(conn) = conns.get_mut(id) else {
            return &[];
        };
        conn.queue.peek(|event, message| {
            if let Some(watch) = watches.get(event.watch) {
                codec::event(watch.as_given(&event.path), &watch.token, message);
            }
        })
    }

    /// Says that the client has been given so many of the bytes of [`Store::output`].
    pub fn consume(&mut self, id: ConnId, count: usize) {
        if let Ok(conn) = self.conns.get_mut(id) {
            conn.queue.consume(count);
        }
    }

    /// A connection that has something to read since it was last named here. Read it until it is empty, or until
    /// the client's ring is full and the client's event says that it is not.
    pub fn take_ready(&mut self) -> Option<ConnId> {
        while let Some(id) = self.ready.pop_front() {
            if let Ok(conn) = self.conns.get_mut(id) {
                conn.announced = false;
                if !conn.queue.is_empty() {
                    return Some(id);
                }
            }
        }
        None
    }

    /// Something that the transport has to do.
    pub fn take_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Carries out one request of a component in the same image; what the wire would do, without the bytes.
    ///
    /// # Errors
    /// What the wire would answer as an ERROR.
    pub fn request(&mut self, id: ConnId, tx: TxId, request: Request<'_>) -> Result<Reply, Error> {
        if let Health::Broken(_) = self.conns.get(id)?.health {
            return Err(Error::NoConnection);
        }
        let outcome = self.execute(id, tx, request);
        self.settle();
        outcome
    }

    /// The next watch event of a connection that uses [`Store::request`].
    pub fn take_event(&mut self, id: ConnId) -> Option<WatchEvent> {
        let conn = self.conns.get_mut(id).ok()?;
        while let Some(event) = conn.queue.pop_event() {
            if let Some(watch) = self.watches.get(event.watch) {
                let path = String::from(watch.as_given(&event.path));
                return Some(WatchEvent { path, token: watch.token.clone() });
            }
        }
        None
    }

    /// Adds bytes to the client's partial message, at most to its end, and handles it when it is whole.
    fn assemble(&mut self, id: ConnId, bytes: &[u8]) -> Result<usize, Fault> {
        let conn = self.conns.get_mut(id).map_err(|_| Fault::Closed)?;
        let whole = match Header::read_from_prefix(&conn.partial) {
            Ok((header, _)) => HEADER + header.len as usize,
            Err(_) => HEADER,
        };
        let portion = bytes.len().min(whole.saturating_sub(conn.partial.len()));
        conn.partial.extend_from_slice(bytes.get(..portion).unwrap_or_default());
        let Ok((header, payload)) = Header::read_from_prefix(&conn.partial) else {
            return Ok(portion);
        };
        if header.len as usize > PAYLOAD_MAX {
            let fault = Fault::Oversized { len: header.len };
            self.reset(id);
            if let Ok(conn) = self.conns.get_mut(id) {
                conn.health = Health::Broken(fault);
            }
            return Err(fault);
        }
        if payload.len() == header.len as usize {
            let message = core::mem::take(&mut conn.partial);
            self.handle(id, &header, message.get(HEADER..).unwrap_or_default());
            self.reuse(id, message);
        }
        Ok(portion)
    }

    /// Carries out a request that came as bytes, and queues its reply before any event that it caused.
    fn handle(&mut self, id: ConnId, header: &Header, payload: &[u8]) {
        let Some(caller) = self.conns.caller(id) else {
            return;
        };
        let outcome = match XsOp::from_raw(header.op) {
            None => Err(Error::Unsupported),
            Some(op) if request::is_privileged(op) && !caller.is_privileged() => Err(Error::AccessDenied),
            Some(op) => {
                let mut perms = None;
                codec::parse(op, payload, &mut perms)
                    .and_then(|request| self.execute(id, TxId::new(header.tx_id), request))
            }
        };
        if let Ok(conn) = self.conns.get_mut(id) {
            conn.queue.push_reply(codec::reply(header, &outcome));
        }
        self.announce(id);
        self.settle();
    }

    /// Keeps the buffer of a handled message for the next, unless it was a large one.
    fn reuse(&mut self, id: ConnId, mut message: Vec<u8>) {
        if let Ok(conn) = self.conns.get_mut(id)
            && message.capacity() <= 512
        {
            message.clear();
            conn.partial = message;
        }
    }

    /// Queues the events of what was just done, and parks transactions that hold on to too much history.
    pub(crate) fn settle(&mut self) {
        if !self.fired.is_empty() {
            let mut fired = core::mem::take(&mut self.fired);
            for (watch, path) in fired.drain(..) {
                self.queue_event(watch, path);
            }
            // Its allocation serves again.
            self.fired = fired;
        }
        let now = self.tree.clock();
        if now.0.saturating_sub(self.swept.0) > PARK_AFTER / 4 {
            self.swept = now;
            for conn in self.conns.iter_mut() {
                conn.transactions.values_mut().for_each(|transaction| transaction.park_if_stale(now));
            }
        }
    }

    fn queue_event(&mut self, id: WatchId, path: Arc<str>) {
        let Some(watch) = self.watches.get(id) else {
            return;
        };
        let (to, watched) = (watch.conn, watch.path.clone());
        let Ok(conn) = self.conns.get_mut(to) else {
            return;
        };
        let limit = match conn.kind {
            ConnKind::Local => self.quotas.unread_events_of_dom0,
            ConnKind::Domain { .. } => self.quotas.unread_events,
        };
        conn.queue.push_event(Event { watch: id, path }, &watched, limit);
        self.announce(to);
    }

    fn announce(&mut self, id: ConnId) {
        if let Ok(conn) = self.conns.get_mut(id)
            && !conn.announced
        {
            conn.announced = true;
            self.ready.push_back(id);
        }
    }
}
