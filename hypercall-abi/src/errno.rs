//! Errors as a hypercall returns them: a negative number in x0 (Xen public/errno.h).
//!
//! Success and failure share the register, so decoding goes through [`decode`], which knows the range that is
//! reserved for errors.

/// A number that has no meaning in the list it was looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownNumber;

impl From<UnknownNumber> for XenError {
    /// An unknown call or sub-command answers `-ENOSYS`.
    fn from(_: UnknownNumber) -> Self {
        Self::NoSys
    }
}

wire_enum! {
    /// An error number of Xen, negative as it stands in x0 (Xen public/errno.h).
    XenError: i64 {
        /// `EPERM`: the caller has no right to do this.
        Perm = -1,
        /// `ENOENT`: no such entry.
        NoEnt = -2,
        /// `ESRCH`: no such domain.
        Srch = -3,
        /// `EINTR`: interrupted call.
        Intr = -4,
        /// `EIO`: input or output failed.
        Io = -5,
        /// `ENXIO`: no such device or address.
        NxIo = -6,
        /// `E2BIG`: argument list too long.
        TooBig = -7,
        /// `ENOEXEC`: bad executable format.
        NoExec = -8,
        /// `EBADF`: bad file number.
        BadF = -9,
        /// `ECHILD`: no child.
        Child = -10,
        /// `EAGAIN`: try again later.
        Again = -11,
        /// `ENOMEM`: out of memory or of quota.
        NoMem = -12,
        /// `EACCES`: permission denied.
        Acces = -13,
        /// `EFAULT`: a guest address could not be read or written.
        Fault = -14,
        /// `EBUSY`: the object is in use.
        Busy = -16,
        /// `EEXIST`: the object exists already.
        Exist = -17,
        /// `EXDEV`: crosses devices.
        XDev = -18,
        /// `ENODEV`: no such device.
        NoDev = -19,
        /// `ENOTDIR`: not a directory.
        NotDir = -20,
        /// `EISDIR`: is a directory.
        IsDir = -21,
        /// `EINVAL`: an argument is out of range or inconsistent.
        Inval = -22,
        /// `ENFILE`: table overflow.
        NFile = -23,
        /// `EMFILE`: too many open files.
        MFile = -24,
        /// `ENOSPC`: no free entry in a table of the caller.
        NoSpc = -28,
        /// `EROFS`: read-only.
        RoFs = -30,
        /// `EMLINK`: too many links.
        MLink = -31,
        /// `EDOM`: argument outside the function's domain.
        Dom = -33,
        /// `ERANGE`: result not representable.
        Range = -34,
        /// `EDEADLK`: would deadlock.
        DeadLk = -35,
        /// `ENAMETOOLONG`: name too long.
        NameTooLong = -36,
        /// `ENOLCK`: no locks available.
        NoLck = -37,
        /// `ENOSYS`: no such call or sub-command.
        NoSys = -38,
        /// `ENOTEMPTY`: not empty.
        NotEmpty = -39,
        /// `ENODATA`: no data.
        NoData = -61,
        /// `ETIME`: timer expired.
        Time = -62,
        /// `EBADMSG`: not a data message.
        BadMsg = -74,
        /// `EOVERFLOW`: value too large for its type.
        Overflow = -75,
        /// `EILSEQ`: illegal byte sequence.
        IlSeq = -84,
        /// `ERESTART`: the call was preempted and is to be issued again; never seen by a guest.
        Restart = -85,
        /// `ENOTSOCK`: not a socket.
        NotSock = -88,
        /// `EMSGSIZE`: message too large.
        MsgSize = -90,
        /// `EOPNOTSUPP`: operation not supported.
        OpNotSupp = -95,
        /// `EADDRINUSE`: address in use.
        AddrInUse = -98,
        /// `EADDRNOTAVAIL`: address not available.
        AddrNotAvail = -99,
        /// `ENOBUFS`: no buffer space.
        NoBufs = -105,
        /// `EISCONN`: already connected.
        IsConn = -106,
        /// `ENOTCONN`: not connected.
        NotConn = -107,
        /// `ETIMEDOUT`: timed out.
        TimedOut = -110,
        /// `ECONNREFUSED`: refused.
        ConnRefused = -111,
    }
}

/// The largest magnitude that stands for an error in x0; anything below is a value (as Linux reads it).
pub const MAX_ERRNO: i64 = 4095;

/// Splits the result register of a hypercall into a value or an error.
///
/// # Errors
/// The error that the call returned; a number in the error range that has no name reads as [`XenError::Io`].
pub const fn decode(x0: u64) -> Result<u64, XenError> {
    let signed = x0.cast_signed();
    if signed >= 0 || signed < -MAX_ERRNO {
        return Ok(x0);
    }
    match XenError::from_raw(signed) {
        Some(error) => Err(error),
        None => Err(XenError::Io),
    }
}

/// Puts a hypercall's outcome into the form of the result register.
#[must_use]
pub const fn encode(outcome: Result<u64, XenError>) -> u64 {
    match outcome {
        Ok(value) => value,
        Err(error) => error.raw().cast_unsigned(),
    }
}

impl core::fmt::Display for XenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self:?} ({})", self.raw())
    }
}

impl core::error::Error for XenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_the_result_register() {
        for &error in XenError::ALL {
            assert_eq!(decode(encode(Err(error))), Err(error));
        }
    }

    #[test]
    fn a_value_that_is_no_error_comes_back_unchanged() {
        for value in [0, 1, u64::from(u32::MAX), (-4096i64).cast_unsigned()] {
            assert_eq!(decode(encode(Ok(value))), Ok(value));
        }
    }

    #[test]
    fn an_error_number_without_a_name_is_still_an_error() {
        assert_eq!(decode((-4095i64).cast_unsigned()), Err(XenError::Io));
    }
}
