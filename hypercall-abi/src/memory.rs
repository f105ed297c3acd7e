//! `memory_op`: the guest's physical memory map (Xen public/memory.h).
//!
//! `memory_op(cmd = x0, arg = x1)`. The low six bits of `cmd` are the command; Xen keeps the progress of a
//! preempted call in the bits above, so a guest passes zeros there.

use crate::ids::{DomId, Gfn, GuestPtr};

wire_enum! {
    /// `XENMEM_*`: the command of `memory_op`.
    MemoryOp: u32 {
        /// Give the domain more frames: [`Reservation`]. Result: extents done.
        IncreaseReservation = 0,
        /// Take frames away: [`Reservation`]. Result: extents done.
        DecreaseReservation = 1,
        /// Highest machine frame number. Result: the number.
        MaximumRamPage = 2,
        /// Pages that a domain has: [`DomainArg`]. Result: the number.
        CurrentReservation = 3,
        /// Pages that a domain may have: [`DomainArg`]. Result: the number.
        MaximumReservation = 4,
        /// Machine-to-physical list; x86 only.
        MachphysMfnList = 5,
        /// Put new frames at given places: [`Reservation`]. Result: extents done.
        PopulatePhysmap = 6,
        /// Map a special page at a given place: [`AddToPhysmap`].
        AddToPhysmap = 7,
        /// The guest's memory map: [`MemoryMap`].
        MemoryMap = 9,
        /// The machine's memory map; x86 only.
        MachineMemoryMap = 10,
        /// Exchange frames for others: [`Exchange`].
        Exchange = 11,
        /// Machine-to-physical mapping; x86 only.
        MachphysMapping = 12,
        /// Set a domain's memory map; x86 only.
        SetMemoryMap = 13,
        /// Highest frame of a domain: [`DomainArg`]. Result: the number.
        MaximumGpfn = 14,
        /// Empty a place of the physical map: [`RemoveFromPhysmap`].
        RemoveFromPhysmap = 15,
        /// Populate-on-demand target; x86 only.
        SetPodTarget = 16,
        /// Populate-on-demand target; x86 only.
        GetPodTarget = 17,
        /// Many [`AddToPhysmap`] in one: [`AddToPhysmapBatch`].
        AddToPhysmapBatch = 23,
        /// Reserve pages for a domain to come: [`Reservation`].
        ClaimPages = 24,
        /// Map a resource of another domain.
        AcquireResource = 28,
    }
}

/// Bits of `cmd` that hold the command (`MEMOP_CMD_MASK`; Xen include/xen/hypercall.h).
pub const MEMOP_CMD_MASK: u32 = 0x3F;

wire_enum! {
    /// `XENMAPSPACE_*`: where the page of an [`AddToPhysmap`] comes from.
    MapSpace: u32 {
        /// The shared information page; `idx` is 0.
        SharedInfo = 0,
        /// A frame of the grant table; `idx` is its index.
        GrantTable = 1,
        /// Another frame of the same domain.
        Gmfn = 2,
        /// A range of frames of the same domain.
        GmfnRange = 3,
        /// A frame of another domain; privileged, batch only.
        GmfnForeign = 4,
        /// A page of device memory; Dom0.
        DevMmio = 5,
    }
}

/// `XENMAPIDX_grant_table_status`: or-ed to `idx`, names version 2 status frames.
pub const XENMAPIDX_GRANT_TABLE_STATUS: u64 = 0x8000_0000;

wire_struct! {
    /// `struct xen_memory_reservation`.
    Reservation (32) {
        /// `xen_pfn_t[nr_extents]`: first frame of each extent.
        0: extent_start: GuestPtr,
        /// Number of extents.
        8: nr_extents: u64,
        /// Binary logarithm of an extent's size in pages.
        16: extent_order: u32,
        /// `XENMEMF_*`; 0 for no wish.
        20: mem_flags: u32,
        /// The domain; only a privileged caller names another.
        24: domid: DomId,
        /// Padding.
        26: pad: [u16; 3],
    }
}
wire_struct! {
    /// `struct xen_memory_exchange`.
    Exchange (72) {
        /// Extents to give.
        0: input: Reservation,
        /// Extents to get.
        32: output: Reservation,
        /// *in, out* input extents done; 0 at first.
        64: nr_exchanged: u64,
    }
}
wire_struct! {
    /// `struct xen_memory_domain`.
    DomainArg (2) {
        /// The domain.
        0: domid: DomId,
    }
}
wire_struct! {
    /// `struct xen_add_to_physmap`.
    AddToPhysmap (24) {
        /// The domain whose map changes.
        0: domid: DomId,
        /// Pages, for [`MapSpace::GmfnRange`].
        2: size: u16,
        /// See [`MapSpace`].
        4: space: u32,
        /// Which page of the space.
        8: idx: u64,
        /// Where it goes.
        16: gpfn: Gfn,
    }
}
wire_struct! {
    /// `struct xen_add_to_physmap_batch`.
    AddToPhysmapBatch (32) {
        /// The domain whose map changes.
        0: domid: DomId,
        /// See [`MapSpace`].
        2: space: u16,
        /// Number of entries.
        4: size: u16,
        /// The domain that owns the frames, for [`MapSpace::GmfnForeign`]; else 0.
        6: foreign_domid: DomId,
        /// `xen_ulong_t[size]`: which pages of the space.
        8: idxs: GuestPtr,
        /// `xen_pfn_t[size]`: where they go.
        16: gpfns: GuestPtr,
        /// *out* `int[size]`: error of each, 0 for none.
        24: errs: GuestPtr,
    }
}
wire_struct! {
    /// `struct xen_remove_from_physmap`.
    RemoveFromPhysmap (16) {
        /// The domain whose map changes.
        0: domid: DomId,
        /// Padding.
        2: pad: [u16; 3],
        /// The frame to empty.
        8: gpfn: Gfn,
    }
}
wire_struct! {
    /// `struct xen_memory_map`.
    MemoryMap (16) {
        /// *in, out* entries that fit; entries written.
        0: nr_entries: u32,
        /// Padding.
        4: pad: u32,
        /// Where to write the entries.
        8: buffer: GuestPtr,
    }
}
