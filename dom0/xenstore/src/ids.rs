//! Names of the store's own objects: connections, transactions, nodes, generations.
//!
//! A connection's slot is reused when it ends, so its id carries a serial number: an id that outlived its
//! connection finds nothing, even when a new domain of the same domid sits in the same slot.

use core::fmt;

/// A connection to the store, from [`crate::Store::connect`]. Never refers to a later connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    pub(crate) slot: usize,
    pub(crate) serial: u64,
}

/// A transaction of one connection; [`TxId::NONE`] stands for "outside any transaction".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId(u32);

impl TxId {
    /// The request is not part of a transaction.
    pub const NONE: Self = Self(0);

    /// Wraps the `tx_id` of a message header.
    #[must_use]
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The `tx_id` of a message header.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a node sits in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) usize);

impl NodeId {
    /// The node `/`.
    pub(crate) const ROOT: Self = Self(0);
    /// Holds the permissions of the special watch `@introduceDomain`.
    pub(crate) const INTRODUCE: Self = Self(1);
    /// Holds the permissions of the special watch `@releaseDomain`.
    pub(crate) const RELEASE: Self = Self(2);
}

/// A moment in a tree's history: every change of a node gets a new one, so equal means unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u64);
