//! What can go wrong with a disk, and whose fault it is.

use hypercall_abi::errno::XenError;

use crate::xenbus::HandshakeError;
use crate::xenstore::XsError;

/// Why a disk could not be connected, or a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlkError {
    /// The caller: not a multiple of the sector size.
    Unaligned,
    /// The caller: beyond the end of the disk.
    OutOfRange,
    /// The caller: the disk is read-only.
    ReadOnly,
    /// The caller: the storage has a disk already.
    InUse,
    /// The disk: it cannot do this.
    NotSupported,
    /// The disk: the request failed.
    Failed,
    /// The back end: it has closed the disk.
    Closed,
    /// The back end: it broke the protocol.
    Broken,
    /// The back end: it has not said something that it must.
    Incomplete,
    /// This domain: out of memory, grants or ports.
    Resources(XenError),
    /// The store refuses something.
    Store(XsError),
}

impl From<XenError> for BlkError {
    fn from(error: XenError) -> Self {
        Self::Resources(error)
    }
}

impl From<XsError> for BlkError {
    fn from(error: XsError) -> Self {
        Self::Store(error)
    }
}

impl From<HandshakeError> for BlkError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Closed => Self::Closed,
            HandshakeError::Store(error) => Self::Store(error),
        }
    }
}

impl core::fmt::Display for BlkError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unaligned => f.write_str("not a multiple of the sector size"),
            Self::OutOfRange => f.write_str("beyond the end of the disk"),
            Self::ReadOnly => f.write_str("the disk is read-only"),
            Self::InUse => f.write_str("the storage has a disk already"),
            Self::NotSupported => f.write_str("not supported by the disk"),
            Self::Failed => f.write_str("the request failed"),
            Self::Closed => f.write_str("the back end has closed the disk"),
            Self::Broken => f.write_str("the back end broke the protocol"),
            Self::Incomplete => f.write_str("the back end's directory is incomplete"),
            Self::Resources(error) => write!(f, "no resources: {error}"),
            Self::Store(error) => write!(f, "XenStore: {error}"),
        }
    }
}

impl core::error::Error for BlkError {}
