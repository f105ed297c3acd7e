//! The block interface: requests, responses and the keys of its XenStore directories (Xen public/io/blkif.h),
//! in the 64-bit layout (`protocol = "arm-abi"`).
//!
//! Sectors here are always 512 bytes, whatever the disk's own sector size.

use crate::ids::GrantRef;

wire_enum! {
    /// `BLKIF_OP_*`.
    BlkOp: u8 {
        /// Read into the segments.
        Read = 0,
        /// Write from the segments.
        Write = 1,
        /// Write, ordered against everything before and after; with `feature-barrier`.
        WriteBarrier = 2,
        /// Flush the disk's cache; with `feature-flush-cache`.
        FlushDiskcache = 3,
        /// Reserved.
        Reserved1 = 4,
        /// Forget sectors: [`DiscardRequest`]; with `feature-discard`.
        Discard = 5,
        /// A request whose segments stand in granted pages: [`IndirectRequest`].
        Indirect = 6,
    }
}

wire_enum! {
    /// `BLKIF_RSP_*`.
    BlkStatus: i16 {
        /// Done.
        Okay = 0,
        /// Failed.
        Error = -1,
        /// The operation is not supported.
        OpNotSupp = -2,
    }
}

/// Segments of a direct request (`BLKIF_MAX_SEGMENTS_PER_REQUEST`).
pub const MAX_SEGMENTS: usize = 11;
/// Pages of segments of an indirect request (`BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST`).
pub const MAX_INDIRECT_PAGES: usize = 8;
/// Segments in one indirect page.
pub const SEGMENTS_PER_INDIRECT_PAGE: usize = crate::PAGE_SIZE / size_of::<Segment>();
/// Bytes of a sector.
pub const SECTOR_SIZE: usize = 512;
/// Sectors in one page.
pub const SECTORS_PER_PAGE: u8 = 8;
/// Byte size of a ring slot: the larger of request and response.
pub const SLOT_SIZE: usize = size_of::<Request>();

wire_struct! {
    /// `struct blkif_request_segment`.
    Segment (8) {
        /// The granted page.
        0: gref: GrantRef,
        /// First sector in the page.
        4: first_sect: u8,
        /// Last sector in the page, inclusive.
        5: last_sect: u8,
        /// Padding.
        6: pad: u16,
    }
}
wire_struct! {
    /// `struct blkif_request`, for reads, writes, barriers and flushes.
    Request (112) {
        /// See [`BlkOp`].
        0: operation: u8,
        /// Segments in use.
        1: nr_segments: u8,
        /// Virtual device number of the front end.
        2: handle: u16,
        /// Padding.
        4: pad: u32,
        /// Echoed in the response.
        8: id: u64,
        /// First sector on the disk.
        16: sector_number: u64,
        /// Where the data is.
        24: seg: [Segment; MAX_SEGMENTS],
    }
}
wire_struct! {
    /// `struct blkif_request_discard`.
    DiscardRequest (32) {
        /// [`BlkOp::Discard`].
        0: operation: u8,
        /// [`DISCARD_SECURE`] or 0.
        1: flag: u8,
        /// Virtual device number of the front end.
        2: handle: u16,
        /// Padding.
        4: pad: u32,
        /// Echoed in the response.
        8: id: u64,
        /// First sector.
        16: sector_number: u64,
        /// Number of sectors.
        24: nr_sectors: u64,
    }
}
wire_struct! {
    /// `struct blkif_request_indirect`.
    IndirectRequest (64) {
        /// [`BlkOp::Indirect`].
        0: operation: u8,
        /// [`BlkOp::Read`] or [`BlkOp::Write`].
        1: indirect_op: u8,
        /// Segments in use, over all pages.
        2: nr_segments: u16,
        /// Padding.
        4: pad0: u32,
        /// Echoed in the response.
        8: id: u64,
        /// First sector on the disk.
        16: sector_number: u64,
        /// Virtual device number of the front end.
        24: handle: u16,
        /// Padding.
        26: pad1: u16,
        /// Granted pages that hold [`Segment`]s.
        28: indirect_grefs: [GrantRef; MAX_INDIRECT_PAGES],
        /// Padding.
        60: pad2: u32,
    }
}
wire_struct! {
    /// `struct blkif_response`.
    Response (16) {
        /// The request's.
        0: id: u64,
        /// The request's.
        8: operation: u8,
        /// Padding.
        9: pad0: u8,
        /// See [`BlkStatus`].
        10: status: i16,
        /// Padding.
        12: pad1: u32,
    }
}

/// `BLKIF_DISCARD_SECURE`: erase, not only forget.
pub const DISCARD_SECURE: u8 = 1;
/// `VDISK_CDROM`, a bit of the node `info`.
pub const VDISK_CDROM: u32 = 1;
/// `VDISK_REMOVABLE`, a bit of the node `info`.
pub const VDISK_REMOVABLE: u32 = 2;
/// `VDISK_READONLY`, a bit of the node `info`.
pub const VDISK_READONLY: u32 = 4;

/// Keys of the XenStore directories.
pub mod keys {
    /// Back end, decimal: size of the disk in units of 512 bytes.
    pub const SECTORS: &str = "sectors";
    /// Back end, decimal: the disk's logical sector size in bytes.
    pub const SECTOR_SIZE: &str = "sector-size";
    /// Back end, decimal: the disk's physical sector size in bytes.
    pub const PHYSICAL_SECTOR_SIZE: &str = "physical-sector-size";
    /// Back end, decimal: `VDISK_*` bits.
    pub const INFO: &str = "info";
    /// Back end: `r` or `w`.
    pub const MODE: &str = "mode";
    /// Back end, 0 or 1: barriers.
    pub const FEATURE_BARRIER: &str = "feature-barrier";
    /// Back end, 0 or 1: flushes.
    pub const FEATURE_FLUSH_CACHE: &str = "feature-flush-cache";
    /// Back end, 0 or 1: discards.
    pub const FEATURE_DISCARD: &str = "feature-discard";
    /// Back end, decimal: unit of discards in bytes.
    pub const DISCARD_GRANULARITY: &str = "discard-granularity";
    /// Back end, decimal: first aligned byte for discards.
    pub const DISCARD_ALIGNMENT: &str = "discard-alignment";
    /// Back end, 0 or 1: secure discards.
    pub const DISCARD_SECURE: &str = "discard-secure";
    /// Either end, 0 or 1: grants stay mapped.
    pub const FEATURE_PERSISTENT: &str = "feature-persistent";
    /// Back end, decimal: most segments of an indirect request.
    pub const FEATURE_MAX_INDIRECT_SEGMENTS: &str = "feature-max-indirect-segments";
    /// Back end, decimal: most ring pages, as a binary logarithm.
    pub const MAX_RING_PAGE_ORDER: &str = "max-ring-page-order";
    /// Back end, decimal: most queues.
    pub const MULTI_QUEUE_MAX_QUEUES: &str = "multi-queue-max-queues";
    /// Front end, decimal: its queues, where there are several; the keys of each are below `queue-0` and so on then.
    pub const MULTI_QUEUE_NUM_QUEUES: &str = "multi-queue-num-queues";
    /// Front end, decimal: ring pages, as a binary logarithm.
    pub const RING_PAGE_ORDER: &str = "ring-page-order";
    /// Front end, decimal: reference of the ring, when it is one page; else `ring-ref0` and so on.
    pub const RING_REF: &str = "ring-ref";
    /// Front end, decimal: the port.
    pub const EVENT_CHANNEL: &str = "event-channel";
    /// Front end: the layout.
    pub const PROTOCOL: &str = "protocol";
    /// Front end, decimal: the device number that the guest knows the disk by.
    pub const VIRTUAL_DEVICE: &str = "virtual-device";
    /// Value of `protocol` for the layout of this module (Xen public/io/protocols.h).
    pub const PROTOCOL_ARM: &str = "arm-abi";
}
