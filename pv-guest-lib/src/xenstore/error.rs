//! What can go wrong between a domain and the store.

use hypercall_abi::errno::XenError;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XsError {
    /// The store refuses it.
    Refused(XenError),
    /// A path, value or answer is longer than its buffer, or a table is full.
    TooLong,
    /// The answer makes no sense.
    Malformed,
    /// The store broke the protocol; the connection is given up.
    Broken,
    /// The tool stack gave the domain no connection to a store.
    NoStore,
}

impl XsError {
    /// Whether the node does not exist.
    #[must_use]
    pub fn is_missing(self) -> bool {
        self == Self::Refused(XenError::NoEnt)
    }
}

impl core::fmt::Display for XsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused: {error}"),
            Self::TooLong => f.write_str("too long"),
            Self::Malformed => f.write_str("malformed answer"),
            Self::Broken => f.write_str("the store broke the protocol"),
            Self::NoStore => f.write_str("the domain has no store"),
        }
    }
}

impl core::error::Error for XsError {}
