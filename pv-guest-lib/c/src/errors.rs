//! Errors as C sees them: numbers of Xen's below 0.

use pv_guest_lib::abi::errno::XenError;
use pv_guest_lib::blk::BlkError;
use pv_guest_lib::xenstore::XsError;

/// Anything that can go wrong, as a number.
pub trait Number {
    /// The error's number, below 0.
    fn number(self) -> i64;
}

impl Number for XenError {
    fn number(self) -> i64 {
        self.raw()
    }
}

impl Number for XsError {
    fn number(self) -> i64 {
        let error = match self {
            Self::Refused(error) => error,
            Self::TooLong => XenError::TooBig,
            Self::Malformed | Self::Broken => XenError::Io,
            Self::NoStore => XenError::NoDev,
        };
        error.raw()
    }
}

impl Number for BlkError {
    fn number(self) -> i64 {
        let error = match self {
            Self::Unaligned | Self::OutOfRange => XenError::Inval,
            Self::ReadOnly => XenError::RoFs,
            Self::InUse => XenError::Busy,
            Self::NotSupported => XenError::OpNotSupp,
            Self::Failed | Self::Broken | Self::Incomplete => XenError::Io,
            Self::Closed => XenError::NoDev,
            Self::Resources(error) => error,
            Self::Store(error) => return error.number(),
        };
        error.raw()
    }
}

/// A length, or what went wrong.
pub fn length<E: Number>(result: Result<usize, E>) -> i64 {
    match result {
        Ok(length) => i64::try_from(length).unwrap_or(i64::MAX),
        Err(error) => error.number(),
    }
}

/// 0, or what went wrong.
pub fn status<E: Number>(result: Result<(), E>) -> i64 {
    result.map_or_else(Number::number, |()| 0)
}
