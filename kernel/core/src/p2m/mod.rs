//! A domain's physical map: its stage-2 tables, and who holds what through them.
//!
//! Memory is mapped in the largest blocks that alignment allows; a block is split before a part of it changes,
//! by break-before-make. A frame is let go only when no TLB can reach it any more. The lock is held for one look-up
//! or change at a time; nothing is copied under it.

mod entry;
mod removal;
mod tables;
mod teardown;
#[cfg(test)]
mod tests;

use core::marker::PhantomData;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;
use spin::mutex::SpinMutex;

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::frame::{FrameKind, FrameRef, OutOfFrames};
use crate::hw::{Hw, PcpuId, Vttbr};
use crate::vmid::{DomainVmid, VmidAllocator};
pub use entry::MapKind;
pub use removal::Removal;
use tables::Tables;
pub use teardown::Progress;

/// Bits of an IPA.
pub const IPA_BITS: u32 = 40;
/// Pages of the IPA space.
pub const IPA_PAGES: u64 = 1 << (IPA_BITS - 12);
/// Tables that a domain may have before its size is known.
const DEFAULT_POOL: u64 = 1024;

/// What is at an IPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The page's frame.
    pub pa: Pa,
    /// As what it is mapped.
    pub kind: MapKind,
}

/// Why the physical map could not be changed or used as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum P2mError {
    /// The caller's range is not aligned to pages or leaves the IPA space.
    Range,
    /// Something is mapped there already.
    Occupied,
    /// Nothing is mapped there, or nothing of the kind that was asked for.
    Absent,
    /// The machine has no frame left for a table.
    NoFrames,
    /// The domain has used up its pool of tables.
    Pool,
    /// Someone else uses the frame.
    Busy,
    /// The domain is being destroyed.
    Dead,
}

impl From<P2mError> for XenError {
    fn from(error: P2mError) -> Self {
        match error {
            P2mError::Range => XenError::Inval,
            P2mError::Occupied => XenError::Exist,
            P2mError::Absent => XenError::NoEnt,
            P2mError::NoFrames | P2mError::Pool => XenError::NoMem,
            P2mError::Busy => XenError::Busy,
            P2mError::Dead => XenError::Srch,
        }
    }
}

/// A domain's physical map.
pub struct P2m<H: Hw> {
    owner: DomId,
    root: Pa,
    vmid: DomainVmid,
    /// Guards the tables. Taken after the domain's own locks (grants included), before the frame table's.
    tables: SpinMutex<Tables<H>>,
    hw: PhantomData<H>,
}

impl<H: Hw> P2m<H> {
    /// An empty map; its root is charged to `owner`.
    pub fn new(owner: DomId) -> Result<Self, OutOfFrames> {
        let root = H::frames().alloc(owner, FrameKind::Table, 1)?;
        H::zero(root, 2 * PAGE_SIZE);
        let tables = SpinMutex::new(Tables::new(root, owner, DEFAULT_POOL));
        Ok(P2m { owner, root, vmid: DomainVmid::new(), tables, hw: PhantomData })
    }

    /// Lets the map grow to the tables that `max_pages` pages may need when they are mapped one by one.
    pub fn size_pool(&self, max_pages: u64) {
        self.tables.lock().set_limit(DEFAULT_POOL.saturating_add(max_pages / 256));
    }

    /// Frames that the tables take now.
    pub fn table_frames(&self) -> u64 {
        self.tables.lock().count()
    }

    /// The highest page that was ever mapped.
    pub fn highest(&self) -> u64 {
        self.tables.lock().highest()
    }

    /// What `VTTBR_EL2` must be while the domain runs on `pcpu`.
    pub fn vttbr(&self, vmids: &VmidAllocator, pcpu: PcpuId) -> Vttbr {
        self.tagged(vmids.enter::<H>(&self.vmid, pcpu))
    }

    fn tagged(&self, vmid: u64) -> Vttbr {
        Vttbr(vmid << 48 | self.root.raw())
    }

    /// What is mapped in the page at `ipa`.
    pub fn lookup(&self, ipa: Ipa) -> Option<Mapping> {
        let found = self.tables.lock().find(ipa);
        found.is_valid().then(|| Mapping { pa: found.pa(), kind: found.kind() })
    }

    /// A reference on the domain's own RAM at `ipa`, for as long as it takes to read (or write) it.
    #[inline]
    pub fn pin(&self, ipa: Ipa, write: bool) -> Result<FrameRef, P2mError> {
        // The reference is taken under the lock: between look-up and use the page cannot be given away.
        let tables = self.tables.lock();
        let found = tables.find(ipa);
        if !found.is_ram_for(write) {
            return Err(P2mError::Absent);
        }
        H::frames().get(found.pa(), self.owner).map_err(|_| P2mError::Busy)
    }

    /// Maps `pages` pages from `pa` at `ipa`, where nothing may be mapped yet; all of them or none. For a kind
    /// that [holds a reference](MapKind::holds_reference) the caller hands one over for each page.
    pub fn map(&self, ipa: Ipa, pa: Pa, pages: u64, kind: MapKind) -> Result<(), P2mError> {
        let first = check_range(ipa, pages)?;
        if !pa.is_aligned(PAGE_SIZE) {
            return Err(P2mError::Range);
        }
        let mut tables = self.tables.lock();
        if pages == 1
            && let Some(result) = tables.map_page(first, pa, kind)
        {
            drop(tables);
            H::publish_tables();
            return result;
        }
        let mut done = 0;
        while done < pages {
            let at = first.add(done * PAGE_SIZE);
            match tables.map_one(at, pa.add(done * PAGE_SIZE), pages - done, kind, &|at| self.invalidate(at, 1)) {
                Ok(mapped) => done += mapped,
                Err(error) => {
                    self.clear(&mut tables, first, done);
                    return Err(error);
                }
            }
        }
        drop(tables);
        H::publish_tables();
        Ok(())
    }

    /// Removes whatever is mapped in `pages` pages from `ipa`, and waits for the TLBs. References stay with the
    /// caller; where they should go with the mapping, use [`removal`](Self::removal).
    pub fn unmap(&self, ipa: Ipa, pages: u64) -> Result<(), P2mError> {
        let first = check_range(ipa, pages)?;
        let mut tables = self.tables.lock();
        for end in [first, first.add(pages * PAGE_SIZE)] {
            tables.split_before(end, &|at| self.invalidate(at, 1))?;
        }
        self.clear(&mut tables, first, pages);
        Ok(())
    }

    /// Starts to remove single pages, with one wait for the TLBs for many of them.
    pub fn removal(&self) -> Removal<'_, H> {
        Removal::new(self)
    }

    /// Clears entries of a range at whose ends no block is cut.
    fn clear(&self, tables: &mut Tables<H>, first: Ipa, pages: u64) {
        let mut done = 0;
        while done < pages {
            done += tables.clear_one(first.add(done * PAGE_SIZE), pages - done, &|at| self.invalidate(at, 1));
        }
        self.invalidate(first, pages);
    }

    /// Makes all TLBs forget a range, whose entries were changed before.
    fn invalidate(&self, from: Ipa, pages: u64) {
        H::publish_tables();
        if let Some(vmid) = self.vmid.tag()
            && pages != 0
        {
            H::invalidate(self.tagged(vmid), from, pages);
        }
    }
}

fn check_range(ipa: Ipa, pages: u64) -> Result<Ipa, P2mError> {
    let end = ipa.number().checked_add(pages).ok_or(P2mError::Range)?;
    if !ipa.is_aligned(PAGE_SIZE) || end > IPA_PAGES { Err(P2mError::Range) } else { Ok(ipa) }
}
