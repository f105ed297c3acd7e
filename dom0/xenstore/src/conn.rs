//! A connection: on whose behalf it speaks, what it has sent in part, what it has not read, what it holds.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use hypercall_abi::ids::DomId;
use slab::Slab;

use crate::Error;
use crate::ids::{ConnId, TxId};
use crate::path;
use crate::perms::{Caller, Rank};
use crate::queue::Queue;
use crate::transaction::Transaction;
use crate::watch::WatchId;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnKind {
    /// A component of Dom0: all rights, no quotas.
    Local,
    /// A domain that was introduced.
    Domain {
        /// Which one.
        domid: DomId,
    },
}

/// The other end broke the protocol. Its connection is closed for good; others are not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection does not exist (any more).
    Closed,
    /// A header announced a payload of more than 4096 bytes, so what follows cannot be told apart.
    Oversized {
        /// The announced length.
        len: u32,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection is closed"),
            Self::Oversized { len } => write!(f, "the client announced a payload of {len} bytes"),
        }
    }
}

impl core::error::Error for Fault {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Open,
    Broken(Fault),
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) kind: ConnKind,
    pub(crate) caller: Caller,
    /// What relative paths begin with: the home directory and a slash.
    pub(crate) home: Arc<str>,
    pub(crate) health: Health,
    /// The message that has come in part.
    pub(crate) partial: Vec<u8>,
    pub(crate) queue: Queue,
    /// Whether the transport was told that there is something to read, and has not asked since.
    pub(crate) announced: bool,
    pub(crate) watches: BTreeSet<WatchId>,
    pub(crate) transactions: BTreeMap<TxId, Transaction>,
    last_tx: u32,
    serial: u64,
}

impl Conn {
    /// An id that no open transaction of this connection has.
    pub(crate) fn fresh_tx(&mut self) -> TxId {
        loop {
            self.last_tx = self.last_tx.wrapping_add(1);
            let tx = TxId::new(self.last_tx);
            if tx != TxId::NONE && !self.transactions.contains_key(&tx) {
                return tx;
            }
        }
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    slots: Slab<Conn>,
    serial: u64,
}

impl Conns {
    pub(crate) fn open(&mut self, kind: ConnKind, target: Option<DomId>) -> ConnId {
        self.serial += 1;
        let (domid, rank) = match kind {
            ConnKind::Local => (DomId::DOM0, Rank::Privileged),
            ConnKind::Domain { domid } => (domid, Rank::Ordinary),
        };
        let mut home = path::home(domid);
        home.push('/');
        let slot = self.slots.insert(Conn {
            kind,
            caller: Caller { domid, target, rank },
            home: Arc::from(home),
            health: Health::Open,
            partial: Vec::new(),
            queue: Queue::default(),
            announced: false,
            watches: BTreeSet::new(),
            transactions: BTreeMap::new(),
            last_tx: 0,
            serial: self.serial,
        });
        ConnId { slot, serial: self.serial }
    }

    pub(crate) fn get(&self, id: ConnId) -> Result<&Conn, Error> {
        self.slots.get(id.slot).filter(|conn| conn.serial == id.serial).ok_or(Error::NoConnection)
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Result<&mut Conn, Error> {
        self.slots.get_mut(id.slot).filter(|conn| conn.serial == id.serial).ok_or(Error::NoConnection)
    }

    pub(crate) fn close(&mut self, id: ConnId) {
        if self.get(id).is_ok() {
            self.slots.remove(id.slot);
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Conn> {
        self.slots.iter_mut().map(|(_, conn)| conn)
    }

    /// For whom a connection speaks.
    pub(crate) fn caller(&self, id: ConnId) -> Option<Caller> {
        self.get(id).ok().map(|conn| conn.caller)
    }
}
