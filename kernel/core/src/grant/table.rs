//! The pages of a grant table: those that the granter writes, and ours beside them.

use core::marker::PhantomData;

use heapless::Vec;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{ENTRIES_V1_PER_PAGE, ENTRY_V1_SIZE, GTF_PERMIT_ACCESS};
use hypercall_abi::ids::{DomId, Gfn, GrantRef};
use hypercall_abi::memory::XENMAPIDX_GRANT_TABLE_STATUS;

use crate::addr::{PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::frame::FrameKind;
use crate::hw::Hw;
use crate::quota::Quota;

/// Pages of a table at most (Xen's default for `max_grant_frames`).
const MAX_FRAMES: usize = 64;
/// Bytes of an active entry.
const ACTIVE_SIZE: usize = 16;
/// Order of the block that holds the active entries of one page.
const ACTIVE_ORDER: u8 = 1;
/// Frames that one page of the table costs.
const UNIT_FRAMES: u64 = 1 + (1 << ACTIVE_ORDER);

const _: () = assert!((ENTRIES_V1_PER_PAGE * ACTIVE_SIZE) as u64 == PAGE_SIZE << ACTIVE_ORDER);

/// One page of the table.
#[derive(Clone, Copy)]
struct Unit {
    /// What the granter writes. It can change at any moment.
    shared: Pa,
    /// The active entries of the same references; ours alone.
    active: Pa,
    /// Where the granter has it mapped, if anywhere.
    gfn: Option<Gfn>,
}

/// Both halves of a reference.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The granter's `grant_entry_v1`.
    pub(super) shared: Pa,
    /// Our active entry.
    pub(super) active: Pa,
}

/// The pages, as the lock guards them.
pub(super) struct Table<H: Hw> {
    units: Vec<Unit, MAX_FRAMES>,
    max: usize,
    hw: PhantomData<H>,
}

impl<H: Hw> Table<H> {
    pub(super) fn new(max_frames: u32) -> Self {
        let max = usize::try_from(max_frames).unwrap_or(MAX_FRAMES).min(MAX_FRAMES);
        Table { units: Vec::new(), max, hw: PhantomData }
    }

    /// Pages now.
    pub(super) fn frames(&self) -> u32 {
        u32::try_from(self.units.len()).unwrap_or(u32::MAX)
    }

    /// Pages at most.
    pub(super) fn max_frames(&self) -> u32 {
        u32::try_from(self.max).unwrap_or(u32::MAX)
    }

    /// Where page `index` is mapped.
    pub(super) fn gfn(&self, index: usize) -> Option<Gfn> {
        self.units.get(index)?.gfn
    }

    /// The halves of a reference that is inside the table.
    pub(super) fn place(&self, gref: GrantRef) -> Option<Place> {
        let gref = usize::try_from(gref.0).ok()?;
        let unit = self.units.get(gref / ENTRIES_V1_PER_PAGE)?;
        let index = gref % ENTRIES_V1_PER_PAGE;
        Some(Place {
            shared: unit.shared.add((index * ENTRY_V1_SIZE) as u64),
            active: unit.active.add((index * ACTIVE_SIZE) as u64),
        })
    }

    /// Makes the table at least `frames` pages long, at the owner's cost.
    pub(super) fn grow(&mut self, owner: DomId, quota: &Quota, frames: usize) -> Result<(), XenError> {
        if frames > self.max {
            return Err(XenError::Inval);
        }
        while self.units.len() < frames {
            quota.charge_kernel(UNIT_FRAMES).map_err(|_| XenError::NoMem)?;
            let Some(unit) = Unit::alloc::<H>(owner) else {
                quota.refund_kernel(UNIT_FRAMES);
                return Err(XenError::NoMem);
            };
            // There is room for `max` units.
            let _ = self.units.push(unit);
        }
        Ok(())
    }

    /// Gives the last page back; false if there is none.
    pub(super) fn shrink(&mut self, quota: &Quota) -> bool {
        let Some(unit) = self.units.pop() else { return false };
        H::frames().put(unit.shared);
        for n in 0..1 << ACTIVE_ORDER {
            H::frames().put(unit.active.add(n * PAGE_SIZE));
        }
        quota.refund_kernel(UNIT_FRAMES);
        true
    }
}

impl Unit {
    fn alloc<H: Hw>(owner: DomId) -> Option<Self> {
        let shared = H::frames().alloc(owner, FrameKind::GrantTable, 0).ok()?;
        let Ok(active) = H::frames().alloc(owner, FrameKind::Object, ACTIVE_ORDER) else {
            H::frames().put(shared);
            return None;
        };
        H::zero(shared, PAGE_SIZE);
        H::zero(active, PAGE_SIZE << ACTIVE_ORDER);
        Some(Unit { shared, active, gfn: None })
    }
}

/// Page `index` of the domain's table, which grows to have it, for `XENMAPSPACE_grant_table`.
pub fn frame_to_map<H: Hw>(domain: &Domain<H>, index: u64) -> Result<Pa, XenError> {
    if index & XENMAPIDX_GRANT_TABLE_STATUS != 0 {
        return Err(XenError::Inval);
    }
    let index = usize::try_from(index).map_err(|_| XenError::Inval)?;
    let mut table = domain.grants.table.lock();
    if index >= table.max {
        return Err(XenError::Inval);
    }
    table.grow(domain.id, &domain.quota, index + 1)?;
    table.units.get(index).map(|unit| unit.shared).ok_or(XenError::Inval)
}

/// Remembers where page `index` was mapped, for `GNTTABOP_setup_table`.
pub fn set_gfn<H: Hw>(domain: &Domain<H>, index: u64, gfn: Gfn) {
    let mut table = domain.grants.table.lock();
    if let Some(unit) = usize::try_from(index).ok().and_then(|index| table.units.get_mut(index)) {
        unit.gfn = Some(gfn);
    }
}

/// Writes an entry in the name of a domain that has not started yet: `peer` may use the page `gfn`.
pub fn seed<H: Hw>(domain: &Domain<H>, gref: GrantRef, gfn: Gfn, peer: DomId) -> Result<(), XenError> {
    let frame = u32::try_from(gfn.0).map_err(|_| XenError::Range)?;
    let page = usize::try_from(gref.0).map_err(|_| XenError::Inval)? / ENTRIES_V1_PER_PAGE;
    let mut table = domain.grants.table.lock();
    table.grow(domain.id, &domain.quota, page + 1)?;
    let place = table.place(gref).ok_or(XenError::Inval)?;
    H::store32(place.shared.add(4), frame);
    H::store32(place.shared, u32::from(GTF_PERMIT_ACCESS) | u32::from(peer.0) << 16);
    Ok(())
}
