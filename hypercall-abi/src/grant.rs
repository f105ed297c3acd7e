//! Grant tables, version 1: entries, operations, status codes (Xen public/grant_table.h).
//!
//! `grant_table_op(cmd = x0, array = x1, count = x2)`: the structures stand in an array of `count` entries and
//! carry a status of their own; the call's result is an error only when the array could not be walked.

use crate::ids::{DomId, Gfn, GrantHandle, GrantRef, GuestPtr};

wire_enum! {
    /// `GNTTABOP_*`: the command of `grant_table_op`.
    GrantOp: u32 {
        /// Map foreign pages: [`MapGrantRef`].
        MapGrantRef = 0,
        /// Unmap them: [`UnmapGrantRef`].
        UnmapGrantRef = 1,
        /// Grow the table and learn its frames: [`SetupTable`].
        SetupTable = 2,
        /// Print the table on the hypervisor's console.
        DumpTable = 3,
        /// Give a page away; not available on Arm.
        Transfer = 4,
        /// Copy between domains: [`struct@Copy`].
        Copy = 5,
        /// Learn the table's size: [`QuerySize`].
        QuerySize = 6,
        /// Unmap and put another page in place; not available on Arm.
        UnmapAndReplace = 7,
        /// Choose the table's version: [`SetVersion`].
        SetVersion = 8,
        /// Frames of the version 2 status array.
        GetStatusFrames = 9,
        /// Learn the table's version: [`GetVersion`].
        GetVersion = 10,
        /// Exchange two entries of the caller: [`SwapGrantRef`].
        SwapGrantRef = 11,
        /// Clean or invalidate data caches over a granted page: [`CacheFlush`].
        CacheFlush = 12,
    }
}

wire_enum! {
    /// `GNTST_*`: the status of one operation in an array.
    GrantStatus: i16 {
        /// Done.
        Okay = 0,
        /// General, undefined error.
        GeneralError = -1,
        /// Unrecognised domain.
        BadDomain = -2,
        /// Unrecognised or unfit grant reference.
        BadGntRef = -3,
        /// Unrecognised mapping handle.
        BadHandle = -4,
        /// Unfit address to map at.
        BadVirtAddr = -5,
        /// Unfit device address to unmap.
        BadDevAddr = -6,
        /// No space in the I/O MMU.
        NoDeviceSpace = -7,
        /// Not enough privilege, or the grant is read-only.
        PermissionDenied = -8,
        /// The granted page is invalid.
        BadPage = -9,
        /// Copy arguments cross a page boundary.
        BadCopyArg = -10,
        /// Page address too large.
        AddressTooBig = -11,
        /// Not done; try again.
        Eagain = -12,
        /// Out of space in a handle table or the like.
        NoSpace = -13,
    }
}

wire_struct! {
    /// `struct grant_entry_v1`. The granting guest writes `domid` and `frame` first and `flags` last.
    GrantEntryV1 (8) {
        /// `GTF_*`.
        0: flags: u16,
        /// The domain that may use the grant.
        2: domid: DomId,
        /// The granted frame (32 bits: version 1 reaches 16 TiB of IPA).
        4: frame: u32,
    }
}

/// Byte size of a version 1 entry.
pub const ENTRY_V1_SIZE: usize = size_of::<GrantEntryV1>();
/// Version 1 entries in one page.
pub const ENTRIES_V1_PER_PAGE: usize = crate::PAGE_SIZE / ENTRY_V1_SIZE;
/// Entries that guests leave to tools (`GNTTAB_NR_RESERVED_ENTRIES`).
pub const NR_RESERVED_ENTRIES: u32 = 8;
/// Entry of the console ring's page (`GNTTAB_RESERVED_CONSOLE`).
pub const RESERVED_CONSOLE: GrantRef = GrantRef(0);
/// Entry of the XenStore ring's page (`GNTTAB_RESERVED_XENSTORE`).
pub const RESERVED_XENSTORE: GrantRef = GrantRef(1);

/// `GTF_invalid`: no access.
pub const GTF_INVALID: u16 = 0;
/// `GTF_permit_access`: the domain may map and copy.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// `GTF_accept_transfer`: not available on Arm.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// `GTF_transitive`: version 2 only.
pub const GTF_TRANSITIVE: u16 = 3;
/// `GTF_type_mask`.
pub const GTF_TYPE_MASK: u16 = 3;
/// `GTF_readonly`: the domain may only read.
pub const GTF_READONLY: u16 = 1 << 2;
/// `GTF_reading`: mapped for reading; set by the hypervisor.
pub const GTF_READING: u16 = 1 << 3;
/// `GTF_writing`: mapped for writing; set by the hypervisor.
pub const GTF_WRITING: u16 = 1 << 4;
/// `GTF_sub_page`: version 2 only.
pub const GTF_SUB_PAGE: u16 = 1 << 8;

/// `GNTMAP_device_map`: for devices behind an I/O MMU; `dev_bus_addr` is returned.
pub const GNTMAP_DEVICE_MAP: u32 = 1 << 0;
/// `GNTMAP_host_map`: into the caller's own address space at `host_addr`.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// `GNTMAP_readonly`: map read-only.
pub const GNTMAP_READONLY: u32 = 1 << 2;
/// `GNTMAP_application_map`: page tables of x86 only.
pub const GNTMAP_APPLICATION_MAP: u32 = 1 << 3;
/// `GNTMAP_contains_pte`: page tables of x86 only.
pub const GNTMAP_CONTAINS_PTE: u32 = 1 << 4;

wire_struct! {
    /// `struct gnttab_map_grant_ref`.
    MapGrantRef (32) {
        /// IPA to map at (a page of the caller's physical map).
        0: host_addr: u64,
        /// `GNTMAP_*`.
        8: flags: u32,
        /// The foreign reference.
        12: gref: GrantRef,
        /// The granting domain.
        16: dom: DomId,
        /// *out* see [`GrantStatus`].
        18: status: i16,
        /// *out* names the mapping at unmap.
        20: handle: GrantHandle,
        /// *out* machine address for DMA; on Arm without I/O MMU the frame's physical address.
        24: dev_bus_addr: u64,
    }
}
wire_struct! {
    /// `struct gnttab_unmap_grant_ref`. A zero address is ignored.
    UnmapGrantRef (24) {
        /// IPA that was mapped.
        0: host_addr: u64,
        /// Device address that was returned, for a device mapping.
        8: dev_bus_addr: u64,
        /// From the map operation.
        16: handle: GrantHandle,
        /// *out* see [`GrantStatus`].
        20: status: i16,
        /// Padding.
        22: pad: u16,
    }
}
wire_struct! {
    /// `struct gnttab_setup_table`; `count` must be 1.
    SetupTable (24) {
        /// The domain whose table grows.
        0: dom: DomId,
        /// Padding.
        2: pad0: u16,
        /// Frames that the table should have.
        4: nr_frames: u32,
        /// *out* see [`GrantStatus`].
        8: status: i16,
        /// Padding.
        10: pad1: [u16; 3],
        /// *out* where to write the frame numbers (`xen_pfn_t[]`).
        16: frame_list: GuestPtr,
    }
}
wire_struct! {
    /// `struct gnttab_copy_ptr`: one side of a copy.
    CopyPtr (16) {
        /// A grant reference (low 32 bits) or a frame number, as the flags say.
        0: u: u64,
        /// The domain; `DOMID_SELF` for an own frame.
        8: domid: DomId,
        /// Byte offset in the page.
        10: offset: u16,
        /// Padding.
        12: pad: u32,
    }
}
wire_struct! {
    /// `struct gnttab_copy`.
    Copy (40) {
        /// Where to read.
        0: source: CopyPtr,
        /// Where to write.
        16: dest: CopyPtr,
        /// Bytes; neither side may cross its page.
        32: len: u16,
        /// `GNTCOPY_*`.
        34: flags: u16,
        /// *out* see [`GrantStatus`].
        36: status: i16,
        /// Padding.
        38: pad: u16,
    }
}
/// `GNTCOPY_source_gref`: the source is a grant reference.
pub const GNTCOPY_SOURCE_GREF: u16 = 1 << 0;
/// `GNTCOPY_dest_gref`: the destination is a grant reference.
pub const GNTCOPY_DEST_GREF: u16 = 1 << 1;

impl CopyPtr {
    /// One side that is a frame of the domain `domid`.
    #[must_use]
    pub const fn frame(domid: DomId, frame: Gfn, offset: u16) -> Self {
        Self { u: frame.0, domid, offset, pad: 0 }
    }

    /// One side that is a page granted by the domain `domid`.
    #[must_use]
    pub const fn gref(domid: DomId, gref: GrantRef, offset: u16) -> Self {
        Self { u: gref.0 as u64, domid, offset, pad: 0 }
    }
}

wire_struct! {
    /// `struct gnttab_query_size`; `count` must be 1.
    QuerySize (16) {
        /// The domain asked about.
        0: dom: DomId,
        /// Padding.
        2: pad0: u16,
        /// *out* frames of the table now.
        4: nr_frames: u32,
        /// *out* most frames it may have.
        8: max_nr_frames: u32,
        /// *out* see [`GrantStatus`].
        12: status: i16,
        /// Padding.
        14: pad1: u16,
    }
}
wire_struct! {
    /// `struct gnttab_set_version`; `count` must be 1.
    SetVersion (4) {
        /// *in, out* 1.
        0: version: u32,
    }
}
wire_struct! {
    /// `struct gnttab_get_version`; `count` must be 1.
    GetVersion (8) {
        /// The domain asked about.
        0: dom: DomId,
        /// Padding.
        2: pad: u16,
        /// *out* 1.
        4: version: u32,
    }
}
wire_struct! {
    /// `struct gnttab_swap_grant_ref`.
    SwapGrantRef (12) {
        /// One entry of the caller.
        0: ref_a: GrantRef,
        /// The other.
        4: ref_b: GrantRef,
        /// *out* see [`GrantStatus`].
        8: status: i16,
        /// Padding.
        10: pad: u16,
    }
}
wire_struct! {
    /// `struct gnttab_cache_flush`.
    CacheFlush (16) {
        /// Device address, or a grant reference with [`GNTTAB_CACHE_SOURCE_GREF`].
        0: addr: u64,
        /// First byte in the page.
        8: offset: u16,
        /// Bytes; the range stays in the page.
        10: length: u16,
        /// `GNTTAB_CACHE_*`.
        12: op: u32,
    }
}
/// `GNTTAB_CACHE_CLEAN`.
pub const GNTTAB_CACHE_CLEAN: u32 = 1 << 0;
/// `GNTTAB_CACHE_INVAL`.
pub const GNTTAB_CACHE_INVAL: u32 = 1 << 1;
/// `GNTTAB_CACHE_SOURCE_GREF`.
pub const GNTTAB_CACHE_SOURCE_GREF: u32 = 1 << 31;
