//! A domain's physical map: its stage-2 tables, and who holds what through them.
//!
//! Memory is mapped in the largest blocks that alignment allows; a block is split before a part of it changes,
//! by break-before-make. A frame is let go only when no TLB can reach it any more. The lock is held for one look-up
//! or change at a time; nothing is copied under it.

mod entry;
mod removal;
mod tables;
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
use entry::Level;
pub use entry::MapKind;
pub use removal::Removal;
use tables::Tables;

/// Bits of an IPA.
pub const IPA_BITS: u32 = 40;
/// Pages of the IPA space.
pub const IPA_PAGES: u64 = 1 << (IPA_BITS - 12);

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
    /// The machine, or the domain's quota, has no frame left for a table.
    NoFrames,
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
            P2mError::NoFrames => XenError::NoMem,
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
    /// Guards the tables in memory, too. Taken after the domain's own locks (grants included), before the frame table's.
    tables: SpinMutex<Tables>,
    hw: PhantomData<H>,
}

impl<H: Hw> P2m<H> {
    /// An empty map; its root is charged to `owner`.
    pub fn new(owner: DomId) -> Result<Self, OutOfFrames> {
        let root = H::frames().alloc(owner, FrameKind::Table, 1)?;
        H::zero(root, 2 * PAGE_SIZE);
        let tables = Tables { highest: 0, idle: None, dying: None };
        Ok(P2m { owner, root, vmid: DomainVmid::default(), tables: SpinMutex::new(tables), hw: PhantomData })
    }

    /// The highest page that was ever mapped.
    pub fn highest(&self) -> u64 {
        self.tables.lock().highest
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
        let tables = self.tables.lock();
        self.find(&tables, ipa)?.mapping(ipa)
    }

    /// A reference on the domain's own RAM at `ipa`, for as long as it takes to read (or write) it.
    #[inline]
    pub fn pin(&self, ipa: Ipa, write: bool) -> Result<FrameRef, P2mError> {
        // The reference is taken under the lock: between look-up and use the page cannot be given away.
        let tables = self.tables.lock();
        let found = self.find(&tables, ipa).filter(|slot| slot.entry.is_ram_for(write));
        let found = found.and_then(|slot| slot.mapping(ipa)).ok_or(P2mError::Absent)?;
        H::frames().get(found.pa, self.owner).map_err(|_| P2mError::Busy)
    }

    /// Maps `pages` pages from `pa` at `ipa`, where nothing may be mapped yet; all of them or none. For a kind
    /// that [holds a reference](MapKind::holds_reference) the caller hands one over for each page.
    #[inline]
    pub fn map(&self, ipa: Ipa, pa: Pa, pages: u64, kind: MapKind) -> Result<(), P2mError> {
        let first = check_range(ipa, pages)?;
        if !pa.is_aligned(PAGE_SIZE) {
            return Err(P2mError::Range);
        }
        let mut tables = self.tables.lock();
        if tables.dying.is_some() {
            return Err(P2mError::Dead);
        }
        if pages >= Level::Two.pages() {
            // An empty table that was kept would keep a block out.
            self.prune(&mut tables);
        }
        let mut done = 0;
        while done < pages {
            let at = first.add(done * PAGE_SIZE);
            match self.map_block(&mut tables, at, pa.add(done * PAGE_SIZE), pages - done, kind) {
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

    /// Starts to remove pages, with one wait for the TLBs for many of them.
    pub fn removal(&self) -> Removal<'_, H> {
        Removal { p2m: self, pending: heapless::Vec::new() }
    }

    /// From now on nothing is found or mapped here, and no TLB knows anything of it. The domain's vCPUs must
    /// be off all pCPUs. Doing it twice is harmless.
    pub fn kill(&self) {
        let mut tables = self.tables.lock();
        if tables.dying.is_none() {
            tables.dying = Some(0);
            self.forget_all();
        }
    }

    /// Lets go of at most `budget` pages or entries of the map, which is killed; true when nothing is left. Pages that
    /// peers still use become free when they let go. A mapped grant is for `end_use`, which may have to search for it,
    /// and ends the stretch.
    pub fn teardown(&self, budget: u32, end_use: impl FnOnce(Mapping)) -> bool {
        self.kill();
        for _ in 0..budget {
            let Some(released) = self.release_next(&mut self.tables.lock()) else { return true };
            if let Some(grant) = released {
                end_use(grant);
                return false;
            }
        }
        false
    }

    /// Makes all TLBs forget pages whose entries were changed before, and waits for it.
    fn forget(&self, pages: impl Iterator<Item = Ipa>) {
        if let Some(vmid) = self.vmid.tag() {
            H::invalidate(self.tagged(vmid), pages);
        }
    }

    fn forget_all(&self) {
        if let Some(vmid) = self.vmid.tag() {
            H::invalidate_vmid(self.tagged(vmid));
        }
    }
}

impl<H: Hw> Drop for P2m<H> {
    fn drop(&mut self) {
        // A domain that failed half-way through its making comes here without a teardown; it holds little.
        while !self.teardown(u32::MAX, |_| ()) {}
        for root in [self.root, self.root.add(PAGE_SIZE)] {
            H::frames().put(root);
        }
    }
}

fn check_range(ipa: Ipa, pages: u64) -> Result<Ipa, P2mError> {
    let end = ipa.number().checked_add(pages).ok_or(P2mError::Range)?;
    if !ipa.is_aligned(PAGE_SIZE) || end > IPA_PAGES { Err(P2mError::Range) } else { Ok(ipa) }
}
