//! A domain's physical map: its stage-2 tables, and who holds what through them.
//!
//! Memory is mapped in the largest blocks that alignment allows; a block is split before a part of it changes,
//! by break-before-make. A frame is let go only when no TLB can reach it any more. The lock is held for one look-up
//! or change at a time; nothing is copied under it.

mod entry;
mod tables;
#[cfg(test)]
mod tests;

use core::marker::PhantomData;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::frame::{FrameKind, FrameRef, Owner};
use crate::hw::{Hw, PcpuId, Vttbr};
use crate::sync::SpinMutex;
use crate::vmid::{DomainVmid, VmidAllocator};
pub use entry::MapKind;
use entry::{EMPTY, ENTRIES, Slot};
use tables::Tables;

/// Bits of an IPA.
pub const IPA_BITS: u32 = 40;
/// Pages of the IPA space.
pub const IPA_PAGES: u64 = 1 << (IPA_BITS - 12);
/// Pages that share one round of invalidations.
const BATCH: usize = 16;

/// What is at an IPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The page's frame.
    pub pa: Pa,
    /// As what it is mapped.
    pub kind: MapKind,
}

/// A domain's physical map.
pub struct P2m<H: Hw> {
    /// Whose frames it maps as RAM.
    pub owner: Owner,
    root: Pa,
    vmid: DomainVmid,
    /// Guards the tables in memory, too. Taken after the domain's own locks (grants included), before the frame table's.
    tables: SpinMutex<Tables>,
    hw: PhantomData<H>,
}

impl<H: Hw> P2m<H> {
    /// An empty map; its root is charged to `owner`.
    pub fn new(owner: DomId) -> Result<Self, XenError> {
        let root = H::frames().alloc(owner, FrameKind::Table, 2)?;
        H::zero(root, 2 * PAGE_SIZE);
        let (vmid, tables) = (DomainVmid::default(), SpinMutex::default());
        Ok(P2m { owner: owner.into(), root, vmid, tables, hw: PhantomData })
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

    /// A reference on the domain's own RAM at `ipa`, for as long as it takes to read or write it. `ENOENT` if there is
    /// none, `EBUSY` if it is being given back.
    #[inline]
    pub fn pin(&self, ipa: Ipa) -> Result<FrameRef, XenError> {
        // The reference is taken under the lock: between look-up and use the page cannot be given away.
        let tables = self.tables.lock();
        let found = self.find(&tables, ipa).filter(Slot::is_ram).ok_or(XenError::NoEnt)?;
        H::frames().get(found.pa(ipa), self.owner).ok_or(XenError::Busy)
    }

    /// Maps `pages` pages from `pa` at `ipa`, where nothing may be mapped yet; all of them or none. Of RAM, the domain's or
    /// another's, the caller hands over a reference for each page, and of a grant its use. `EEXIST` if something
    /// is there, `EINVAL` of a range outside of the space, `ESRCH` of a dying domain, `ENOMEM` without frames for tables.
    #[inline]
    pub fn map(&self, ipa: Ipa, pa: Pa, pages: u64, kind: MapKind) -> Result<(), XenError> {
        check_range(ipa, pages)?;
        if !pa.is_aligned(PAGE_SIZE) {
            return Err(XenError::Inval);
        }
        let mut tables = self.tables.lock();
        if tables.dying.is_some() {
            return Err(XenError::Srch);
        }
        if pages >= ENTRIES {
            // An empty table that was kept would keep a block out.
            self.prune(&mut tables);
        }
        let mut done = 0;
        while done < pages {
            let (at, from) = (ipa.add(done * PAGE_SIZE), pa.add(done * PAGE_SIZE));
            // The largest block that starts at both addresses and is not too long.
            let order = (at.number() | from.number()).trailing_zeros().min((pages - done).ilog2());
            match self.map_block(&mut tables, at, from, order, kind) {
                Ok(mapped) => done += mapped,
                Err(error) => {
                    self.clear(&mut tables, ipa, at);
                    return Err(error);
                }
            }
        }
        drop(tables);
        H::publish_tables();
        Ok(())
    }

    /// The same for one page.
    #[inline(always)]
    pub fn map_page(&self, ipa: Ipa, pa: Pa, kind: MapKind) -> Result<(), XenError> {
        check_range(ipa, 1)?;
        if !pa.is_aligned(PAGE_SIZE) {
            return Err(XenError::Inval);
        }
        let mut tables = self.tables.lock();
        if tables.dying.is_some() {
            return Err(XenError::Srch);
        }
        self.map_block(&mut tables, ipa, pa, 0, kind)?;
        drop(tables);
        H::publish_tables();
        Ok(())
    }

    /// Starts to remove pages, with one wait for the TLBs for many of them.
    pub fn removal<T>(&self) -> Removal<'_, H, T> {
        Removal { p2m: self, pending: heapless::Vec::new() }
    }

    /// From now on nothing is found or mapped here, and no TLB knows anything of it: the domain's vCPUs must be off all
    /// pCPUs. Lets go of at most `budget` pages or entries of the map; true when nothing is left. Pages that peers still
    /// use become free when they let go. A mapped grant is for `end_use`, which may have to search for it, and ends the
    /// stretch.
    pub fn teardown(&self, budget: u32, end_use: &dyn Fn(Mapping)) -> bool {
        let mut tables = self.tables.lock();
        if tables.dying.is_none() {
            tables.dying = Some(0);
            // Under the lock, so that nobody else lets go of a page before this is over.
            self.forget_all();
        }
        drop(tables);
        for _ in 0..budget {
            let mut tables = self.tables.lock();
            let Some(page) = tables.dying.filter(|page| *page < IPA_PAGES) else { return true };
            let slot = self.walk(Ipa::from_number(page));
            let found = slot.mapping(Ipa::from_number(page));
            let mut next = page + 1;
            match found {
                Some(Mapping { pa, kind: MapKind::Foreign }) => H::frames().put(pa),
                Some(Mapping { pa, kind: MapKind::Ram }) => H::frames().abandon(pa),
                // Nothing is held by the rest of the entry, however many pages it stands for.
                _ => next = (page | (slot.pages() - 1)) + 1,
            }
            tables.dying = Some(next);
            if next.is_multiple_of(slot.pages()) {
                slot.write::<H>(EMPTY);
            }
            if next.is_multiple_of(slot.pages() * ENTRIES) {
                tables.idle = Some(page / ENTRIES);
                self.prune(&mut tables);
            }
            drop(tables);
            if let Some(grant) = found.filter(|found| found.kind.is_grant()) {
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
        while !self.teardown(u32::MAX, &|_| ()) {}
        for root in [self.root, self.root.add(PAGE_SIZE)] {
            H::frames().put(root);
        }
    }
}

/// Pages that are out of the tables, with what each of them held: a reference on its frame, or the use of a grant. TLBs
/// may know such a page still, and its frame must not reach its next owner before that is over. So all are held until the
/// TLBs were told.
pub struct Removal<'a, H: Hw, T> {
    p2m: &'a P2m<H>,
    pending: heapless::Vec<(Ipa, T), BATCH>,
}

impl<H: Hw, T> Removal<'_, H, T> {
    /// Takes the page at `ipa` out of the tables, if `accept` agrees to what is mapped there, and says what it held.
    /// `accept` runs under the lock, so that nothing changes between its answer and the removal.
    #[inline]
    pub fn take(&mut self, ipa: Ipa, accept: impl FnOnce(Mapping) -> Result<T, XenError>) -> Result<(), XenError> {
        check_range(ipa, 1)?;
        if self.pending.is_full() {
            self.flush();
        }
        let mut tables = self.p2m.tables.lock();
        let slot = self.p2m.find(&tables, ipa).filter(|slot| slot.is_valid()).ok_or(XenError::NoEnt)?;
        // Split before anything is decided: after `accept` there is no way back.
        let slot = if slot.order > 0 { self.p2m.refine(&mut tables, ipa, 0)? } else { slot };
        let held = accept(slot.page().ok_or(XenError::NoEnt)?)?;
        slot.write::<H>(EMPTY);
        self.p2m.vacated(&mut tables, ipa);
        // There is room: a full batch was flushed above.
        self.pending.push((ipa, held)).map_err(|_| XenError::NoSpc)
    }

    #[inline(never)]
    fn flush(&mut self) {
        self.p2m.forget(self.pending.iter().map(|(ipa, _)| *ipa));
        self.pending.clear();
    }
}

impl<H: Hw, T> Drop for Removal<'_, H, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            self.flush();
        }
    }
}

/// `EINVAL` unless `ipa` is the start of a page, and the range lies inside the IPA space.
pub(crate) fn check_range(ipa: Ipa, pages: u64) -> Result<(), XenError> {
    let fits = ipa.number().checked_add(pages).is_some_and(|end| end <= IPA_PAGES);
    if fits && ipa.is_aligned(PAGE_SIZE) { Ok(()) } else { Err(XenError::Inval) }
}
