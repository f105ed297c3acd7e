//! Why a request was refused: rich for the caller in the same image, one errno name on the wire.
//!
//! Every variant but [`Error::Conflict`] is the requester's doing; none of them harms another connection.

use core::fmt;

/// Something a domain has only so much of. Limits are in [`crate::Quotas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Nodes owned.
    Nodes,
    /// Bytes of one node's value and permissions.
    NodeBytes,
    /// Entries of one node's permissions.
    Perms,
    /// Watches set.
    Watches,
    /// Transactions open at once.
    Transactions,
    /// Nodes that one transaction touches, or bytes that it keeps.
    TransactionSize,
}

/// A refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The payload is not of the form that the message type asks for.
    Malformed,
    /// The path is empty, too long, has a forbidden character or a doubled or trailing slash.
    BadPath,
    /// A permission is not a letter of `rwbn` and a domid, or the list is empty.
    BadPerms,
    /// Not the number of an ordinary domain, or one for which the operation makes no sense.
    BadDomid,
    /// The root cannot be removed.
    RootStays,
    /// A domain that is introduced already cannot be introduced with another page.
    IntroducedElsewhere,
    /// The requester lacks the right on the node, or the operation is Dom0's.
    AccessDenied,
    /// Only Dom0 may give a node to another owner.
    OwnerFixed,
    /// No such node.
    NoNode,
    /// No such watch of this connection.
    NoWatch,
    /// No such transaction of this connection.
    NoTransaction,
    /// The domain is not introduced.
    NoDomain,
    /// The id names no open connection (only through the typed interface).
    NoConnection,
    /// The connection watches that path with that token already.
    WatchExists,
    /// A quota is used up.
    OverQuota(Resource),
    /// A value or a reply does not fit a message.
    TooLong,
    /// Something that the transaction read or wrote has changed since; try the whole again.
    Conflict,
    /// A transaction was started inside a transaction.
    Nested,
    /// The message type is unknown, or not a request.
    Unsupported,
}

impl Error {
    /// The errno name that goes on the wire (`xsd_errors`, Xen public/io/xs_wire.h).
    #[must_use]
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::Malformed
            | Self::BadPath
            | Self::BadPerms
            | Self::BadDomid
            | Self::RootStays
            | Self::IntroducedElsewhere => "EINVAL",
            Self::AccessDenied => "EACCES",
            Self::OwnerFixed => "EPERM",
            Self::NoNode | Self::NoWatch | Self::NoTransaction | Self::NoDomain => "ENOENT",
            Self::NoConnection => "EIO",
            Self::WatchExists => "EEXIST",
            Self::TooLong | Self::OverQuota(Resource::Watches) => "E2BIG",
            Self::OverQuota(
                Resource::Nodes
                | Resource::NodeBytes
                | Resource::Perms
                | Resource::Transactions
                | Resource::TransactionSize,
            ) => "ENOSPC",
            Self::Conflict => "EAGAIN",
            Self::Nested => "EBUSY",
            Self::Unsupported => "ENOSYS",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed request",
            Self::BadPath => "not a valid path",
            Self::BadPerms => "not a valid permission",
            Self::BadDomid => "not a usable domid",
            Self::RootStays => "the root cannot be removed",
            Self::IntroducedElsewhere => "the domain is introduced with another page",
            Self::AccessDenied => "permission denied",
            Self::OwnerFixed => "only Dom0 may change the owner",
            Self::NoNode => "no such node",
            Self::NoWatch => "no such watch",
            Self::NoTransaction => "no such transaction",
            Self::NoDomain => "the domain is not introduced",
            Self::NoConnection => "the connection is closed",
            Self::WatchExists => "the watch exists",
            Self::OverQuota(Resource::Nodes) => "too many nodes",
            Self::OverQuota(Resource::NodeBytes) => "the node is too large",
            Self::OverQuota(Resource::Perms) => "too many permissions",
            Self::OverQuota(Resource::Watches) => "too many watches",
            Self::OverQuota(Resource::Transactions) => "too many transactions",
            Self::OverQuota(Resource::TransactionSize) => "the transaction is too large",
            Self::TooLong => "too long for a message",
            Self::Conflict => "the transaction conflicts with another change",
            Self::Nested => "a transaction inside a transaction",
            Self::Unsupported => "unknown request",
        })
    }
}

impl core::error::Error for Error {}
