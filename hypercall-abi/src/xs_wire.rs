//! The XenStore protocol: message header, operations, and the shared ring (Xen public/io/xs_wire.h).

wire_enum! {
    /// `enum xsd_sockmsg_type`.
    XsOp: u32 {
        /// Control of the store daemon; Dom0.
        Control = 0,
        /// `path` -> child names, each ended by NUL.
        Directory = 1,
        /// `path` -> value, not ended by NUL.
        Read = 2,
        /// `path` -> permissions, each ended by NUL.
        GetPerms = 3,
        /// `path NUL token NUL` -> `OK`.
        Watch = 4,
        /// `path NUL token NUL` -> `OK`.
        Unwatch = 5,
        /// `NUL` -> the transaction's id in decimal.
        TransactionStart = 6,
        /// `T NUL` or `F NUL` -> `OK`, or the error `EAGAIN`.
        TransactionEnd = 7,
        /// `domid NUL gfn NUL port NUL` -> `OK`; privileged.
        Introduce = 8,
        /// `domid NUL` -> `OK`; privileged.
        Release = 9,
        /// `domid NUL` -> the domain's path.
        GetDomainPath = 10,
        /// `path NUL value` -> `OK`.
        Write = 11,
        /// `path NUL` -> `OK`.
        Mkdir = 12,
        /// `path NUL` -> `OK`.
        Rm = 13,
        /// `path NUL perms`, each ended by NUL -> `OK`.
        SetPerms = 14,
        /// From the store: `path NUL token NUL`.
        WatchEvent = 15,
        /// From the store: an error's name, ended by NUL.
        Error = 16,
        /// `domid NUL` -> `T` or `F`.
        IsDomainIntroduced = 17,
        /// `domid NUL` -> `OK`; privileged.
        Resume = 18,
        /// `domid NUL target NUL` -> `OK`; privileged.
        SetTarget = 19,
        /// `NUL` -> `OK`: drop the caller's watches and transactions.
        ResetWatches = 21,
        /// `path NUL offset NUL` -> `generation NUL` and a part of the child names.
        DirectoryPart = 22,
    }
}

/// The type of a message that is no message (`XS_INVALID`).
pub const XS_INVALID: u32 = 0xFFFF;

wire_struct! {
    /// `struct xsd_sockmsg`: the header before each message's `len` bytes of payload.
    Header (16) {
        /// See [`XsOp`].
        0: op: u32,
        /// Chosen by the sender, echoed in the reply; 0 in watch events.
        4: req_id: u32,
        /// The transaction, or 0.
        8: tx_id: u32,
        /// Bytes of payload; at most [`PAYLOAD_MAX`].
        12: len: u32,
    }
}

/// Names of the errors in an [`XsOp::Error`] reply, with their numbers (`xsd_errors`).
pub const ERRORS: &[(crate::errno::XenError, &str)] = {
    use crate::errno::XenError;
    &[
        (XenError::Inval, "EINVAL"),
        (XenError::Acces, "EACCES"),
        (XenError::Exist, "EEXIST"),
        (XenError::IsDir, "EISDIR"),
        (XenError::NoEnt, "ENOENT"),
        (XenError::NoMem, "ENOMEM"),
        (XenError::NoSpc, "ENOSPC"),
        (XenError::Io, "EIO"),
        (XenError::NotEmpty, "ENOTEMPTY"),
        (XenError::NoSys, "ENOSYS"),
        (XenError::RoFs, "EROFS"),
        (XenError::Busy, "EBUSY"),
        (XenError::Again, "EAGAIN"),
        (XenError::IsConn, "EISCONN"),
        (XenError::TooBig, "E2BIG"),
        (XenError::Perm, "EPERM"),
    ]
};

/// Largest payload of a message in bytes (`XENSTORE_PAYLOAD_MAX`).
pub const PAYLOAD_MAX: usize = 4096;
/// Longest absolute path (`XENSTORE_ABS_PATH_MAX`).
pub const ABS_PATH_MAX: usize = 3072;
/// Longest relative path (`XENSTORE_REL_PATH_MAX`).
pub const REL_PATH_MAX: usize = 2048;

/// The ring page (`struct xenstore_domain_interface`), as offsets.
pub mod interface {
    /// Bytes of each of the two rings (`XENSTORE_RING_SIZE`).
    pub const RING_SIZE: usize = 1024;
    /// Offset of the requests.
    pub const REQ: usize = 0;
    /// Offset of the replies and watch events.
    pub const RSP: usize = 1024;
    /// Offset of `req_cons`, u32, written by the store.
    pub const REQ_CONS: usize = 2048;
    /// Offset of `req_prod`, u32, written by the domain.
    pub const REQ_PROD: usize = 2052;
    /// Offset of `rsp_cons`, u32, written by the domain.
    pub const RSP_CONS: usize = 2056;
    /// Offset of `rsp_prod`, u32, written by the store.
    pub const RSP_PROD: usize = 2060;
    /// Offset of `server_features`, u32.
    pub const SERVER_FEATURES: usize = 2064;
    /// Offset of `connection`, u32.
    pub const CONNECTION: usize = 2068;
    /// Offset of `error`, u32.
    pub const ERROR: usize = 2072;
    /// Byte size of the interface.
    pub const SIZE: usize = 2076;

    /// `server_features`: the connection can be reset through `connection`.
    pub const FEATURE_RECONNECTION: u32 = 1;
    /// `server_features`: `error` says why a connection was given up.
    pub const FEATURE_ERROR: u32 = 2;
    /// `connection`: in use.
    pub const CONNECTED: u32 = 0;
    /// `connection`: the domain asks for a reset, the store answers with [`CONNECTED`].
    pub const RECONNECT: u32 = 1;
    /// `error`: none.
    pub const ERROR_NONE: u32 = 0;
    /// `error`: communication failed.
    pub const ERROR_COMM: u32 = 1;
    /// `error`: an index was out of range.
    pub const ERROR_RINGIDX: u32 = 2;
    /// `error`: the protocol was violated.
    pub const ERROR_PROTO: u32 = 3;

    const _: () = {
        assert!(RSP == REQ + RING_SIZE && REQ_CONS == RSP + RING_SIZE);
        assert!(SIZE == ERROR + 4 && SIZE <= crate::PAGE_SIZE);
    };
}
