//! Requests and replies as values: what the wire carries as bytes, and what a component in the same image passes.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hypercall_abi::ids::{DomId, Gfn, Port};
use hypercall_abi::xs_wire::XsOp;

use crate::{Perms, TxId};

/// A request. Paths are as the client gives them: absolute, or relative to its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The names of a node's children. Replies [`Reply::Names`].
    Directory {
        /// The node.
        path: &'a str,
    },
    /// The names of a node's children from a byte offset of their list on. Replies [`Reply::Part`].
    DirectoryPart {
        /// The node.
        path: &'a str,
        /// Where to start; each name counts its length and one.
        offset: usize,
    },
    /// A node's value. Replies [`Reply::Value`].
    Read {
        /// The node.
        path: &'a str,
    },
    /// A node's permissions, or those of a special watch. Replies [`Reply::Perms`].
    GetPerms {
        /// The node.
        path: &'a str,
    },
    /// Sets a node's value, making it and what is above it if need be.
    Write {
        /// The node.
        path: &'a str,
        /// Any bytes.
        value: &'a [u8],
    },
    /// Makes a node, and what is above it, unless it exists.
    Mkdir {
        /// The node.
        path: &'a str,
    },
    /// Removes a node and all below it. Fine if it is not there but its parent is.
    Rm {
        /// The node.
        path: &'a str,
    },
    /// Sets a node's permissions, or those of a special watch.
    SetPerms {
        /// The node.
        path: &'a str,
        /// What they shall be.
        perms: &'a Perms,
    },
    /// Sets a watch; it fires once at once. Not affected by transactions.
    Watch {
        /// The node (existing or not) or special watch.
        path: &'a str,
        /// Comes back with every event. Without NUL.
        token: &'a [u8],
    },
    /// Removes a watch, and its events that were not read.
    Unwatch {
        /// As it was given.
        path: &'a str,
        /// As it was given.
        token: &'a [u8],
    },
    /// Removes all watches and transactions of this connection.
    ResetWatches,
    /// Starts a transaction. Replies [`Reply::Transaction`].
    TransactionStart,
    /// Ends the transaction of the request.
    TransactionEnd {
        /// Whether its changes shall be made.
        commit: bool,
    },
    /// Tells the store of a domain's ring. Dom0 only.
    Introduce {
        /// The domain.
        domid: DomId,
        /// The page of its ring.
        gfn: Gfn,
        /// Its unbound event channel.
        port: Port,
    },
    /// Ends the connection of a domain, and removes the nodes it owns. Dom0 only.
    Release {
        /// The domain.
        domid: DomId,
    },
    /// The home of a domain. Replies [`Reply::Path`].
    GetDomainPath {
        /// The domain.
        domid: DomId,
    },
    /// Whether a domain is introduced. Replies [`Reply::Introduced`]. Dom0 only.
    IsDomainIntroduced {
        /// The domain.
        domid: DomId,
    },
    /// A domain that was shut down runs again. Dom0 only.
    Resume {
        /// The domain.
        domid: DomId,
    },
    /// Gives a domain the rights of another. Dom0 only.
    SetTarget {
        /// Who gets the rights.
        domid: DomId,
        /// Whose rights.
        target: DomId,
    },
    /// A command to the store itself: `help`, `check` or `quota`. Replies [`Reply::Text`]. Dom0 only.
    Control {
        /// The command.
        command: &'a str,
    },
}

impl Request<'_> {
    /// The message type that carries this request.
    #[must_use]
    pub const fn op(&self) -> XsOp {
        match self {
            Self::Directory { .. } => XsOp::Directory,
            Self::DirectoryPart { .. } => XsOp::DirectoryPart,
            Self::Read { .. } => XsOp::Read,
            Self::GetPerms { .. } => XsOp::GetPerms,
            Self::Write { .. } => XsOp::Write,
            Self::Mkdir { .. } => XsOp::Mkdir,
            Self::Rm { .. } => XsOp::Rm,
            Self::SetPerms { .. } => XsOp::SetPerms,
            Self::Watch { .. } => XsOp::Watch,
            Self::Unwatch { .. } => XsOp::Unwatch,
            Self::ResetWatches => XsOp::ResetWatches,
            Self::TransactionStart => XsOp::TransactionStart,
            Self::TransactionEnd { .. } => XsOp::TransactionEnd,
            Self::Introduce { .. } => XsOp::Introduce,
            Self::Release { .. } => XsOp::Release,
            Self::GetDomainPath { .. } => XsOp::GetDomainPath,
            Self::IsDomainIntroduced { .. } => XsOp::IsDomainIntroduced,
            Self::Resume { .. } => XsOp::Resume,
            Self::SetTarget { .. } => XsOp::SetTarget,
            Self::Control { .. } => XsOp::Control,
        }
    }
}

/// Whether only Dom0 may send this message type.
pub(crate) const fn is_privileged(op: XsOp) -> bool {
    matches!(
        op,
        XsOp::Control | XsOp::Introduce | XsOp::Release | XsOp::IsDomainIntroduced | XsOp::Resume | XsOp::SetTarget
    )
}

/// What a granted request gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing but success.
    Done,
    /// A node's value.
    Value(Arc<[u8]>),
    /// Names of children, in order.
    Names(Vec<Arc<str>>),
    /// Some of the names of children.
    Part {
        /// Changes when the set of children does.
        generation: u64,
        /// The names from the offset on, as many as fit a message.
        names: Vec<Arc<str>>,
        /// Whether these are the last.
        last: bool,
    },
    /// A node's permissions.
    Perms(Arc<Perms>),
    /// A new transaction.
    Transaction(TxId),
    /// A path.
    Path(String),
    /// Whether a domain is introduced.
    Introduced(bool),
    /// The answer to a control command.
    Text(String),
}

/// A watch that fired, for readers in the same image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// What changed; relative if the watch was set with a relative path.
    pub path: String,
    /// As it was given with the watch.
    pub token: Arc<[u8]>,
}

/// Something that the transport has to do for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Map the ring and bind the event channel, then [`crate::Store::connect`] the domain. If it is connected
    /// already, the connection was reset and only the event channel is to be bound anew.
    Introduce {
        /// The domain.
        domid: DomId,
        /// The page of its ring.
        gfn: Gfn,
        /// Its unbound event channel.
        port: Port,
    },
    /// Unbind the event channel and unmap the ring; the connection is closed already.
    Release {
        /// The domain.
        domid: DomId,
    },
}
