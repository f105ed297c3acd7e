//! What can go wrong with a network interface, and whose fault it is.

use hypercall_abi::errno::XenError;

use crate::xenbus::HandshakeError;
use crate::xenstore::XsError;

/// Why an interface could not be opened, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetError {
    /// The caller: the storage has an interface already.
    InUse,
    /// The tool stack: the domain has no network interface.
    Missing,
    /// The tool stack: the interface has no MAC address.
    NoAddress,
    /// The caller: `ip`, `gateway` or `dns` on the command line makes no sense.
    Argument,
    /// The back end: it does not copy received frames into our pages.
    NoCopy,
    /// The back end: it has closed the interface.
    Closed,
    /// The back end: it broke the protocol.
    Broken,
    /// This domain: out of memory, grants or ports.
    Resources(XenError),
    /// The store refuses something.
    Store(XsError),
}

impl From<XenError> for NetError {
    fn from(error: XenError) -> Self {
        Self::Resources(error)
    }
}

impl From<XsError> for NetError {
    fn from(error: XsError) -> Self {
        Self::Store(error)
    }
}

impl From<HandshakeError> for NetError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Closed => Self::Closed,
            HandshakeError::Store(error) => Self::Store(error),
        }
    }
}

impl core::fmt::Display for NetError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::InUse => f.write_str("the storage has an interface already"),
            Self::Missing => f.write_str("the domain has no network interface"),
            Self::NoAddress => f.write_str("the interface has no MAC address"),
            Self::Argument => f.write_str("ip, gateway or dns on the command line is not an address"),
            Self::NoCopy => f.write_str("the back end does not copy received frames"),
            Self::Closed => f.write_str("the back end has closed the interface"),
            Self::Broken => f.write_str("the back end broke the protocol"),
            Self::Resources(error) => write!(f, "no resources: {error}"),
            Self::Store(error) => write!(f, "XenStore: {error}"),
        }
    }
}

impl core::error::Error for NetError {}
