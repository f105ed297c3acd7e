//! The pages of a grant table: those that the granter writes, and ours beside them.

use core::marker::PhantomData;

use heapless::Vec;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{ENTRIES_V1_PER_PAGE, ENTRY_V1_SIZE, GTF_PERMIT_ACCESS};
use hypercall_abi::ids::{DomId, Gfn, GrantRef};
use hypercall_abi::memory::XENMAPIDX_GRANT_TABLE_STATUS;

use super::uses::Entry;
use crate::addr::{PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::frame::FrameKind;
use crate::hw::Hw;

/// Pages of a table at most (Xen's default for `max_grant_frames`).
const MAX_PAGES: usize = 64;
/// Bytes of our half of an entry.
const OURS_SIZE: usize = 16;
/// Order of the block that holds our halves of one page.
const OURS_ORDER: u8 = 1;
/// Where a page is that is not mapped (`INVALID_GFN`).
const NOWHERE: Gfn = Gfn(u64::MAX);

const _: () = assert!((ENTRIES_V1_PER_PAGE * OURS_SIZE) as u64 == PAGE_SIZE << OURS_ORDER);

/// One page of the table.
#[derive(Clone, Copy)]
struct Page {
    /// What the granter writes. It can change at any moment.
    shared: Pa,
    /// Our halves of the same entries.
    ours: Pa,
    /// Where the granter has it mapped.
    gfn: Gfn,
}

/// A domain's grant table. The pages go with it.
pub struct GrantTable<H: Hw> {
    pages: Vec<Page, MAX_PAGES>,
    max: usize,
    hw: PhantomData<H>,
}

impl<H: Hw> GrantTable<H> {
    /// An empty table that may grow to `max_pages` pages.
    pub fn new(max_pages: u32) -> Self {
        let max = usize::try_from(max_pages).unwrap_or(MAX_PAGES).min(MAX_PAGES);
        GrantTable { pages: Vec::new(), max, hw: PhantomData }
    }

    /// Pages now, and at most.
    pub(super) fn size(&self) -> (u32, u32) {
        let count = |pages| u32::try_from(pages).unwrap_or(u32::MAX);
        (count(self.pages.len()), count(self.max))
    }

    /// Where page `index` is mapped.
    pub(super) fn gfn(&self, index: usize) -> Gfn {
        self.pages.get(index).map_or(NOWHERE, |page| page.gfn)
    }

    /// The entry of a reference that is inside the table.
    #[inline]
    pub(super) fn entry(&self, gref: GrantRef) -> Option<Entry<H>> {
        let gref = usize::try_from(gref.0).ok()?;
        let page = self.pages.get(gref / ENTRIES_V1_PER_PAGE)?;
        let index = gref % ENTRIES_V1_PER_PAGE;
        let at = |base: Pa, size| base.add((index * size) as u64);
        Some(Entry::new(at(page.shared, ENTRY_V1_SIZE), at(page.ours, OURS_SIZE)))
    }

    /// Whether `user` uses `frame` by this reference, for reading or (if `write`) writing.
    pub(super) fn is_used(&self, gref: GrantRef, user: DomId, write: bool, frame: Pa) -> bool {
        self.entry(gref).is_some_and(|entry| entry.is_used(user, write, frame))
    }

    /// The first entry that `wanted` accepts. Not for hot paths: a table has up to 32,768.
    pub(super) fn find(&self, mut wanted: impl FnMut(&Entry<H>) -> bool) -> Option<Entry<H>> {
        (0..).map_while(|gref| self.entry(GrantRef(gref))).find(|entry| wanted(entry))
    }

    /// Makes the table of `owner` at least `pages` pages long, at the owner's cost.
    pub(super) fn grow(&mut self, owner: &Domain<H>, pages: usize) -> Result<(), XenError> {
        if pages > self.max {
            return Err(XenError::Inval);
        }
        while self.pages.len() < pages {
            let page = Page::alloc::<H>(owner.id).ok_or(XenError::NoMem)?;
            // There is room for `max` pages.
            let _ = self.pages.push(page);
        }
        Ok(())
    }
}

impl<H: Hw> Drop for GrantTable<H> {
    fn drop(&mut self) {
        for page in &self.pages {
            H::frames().put(page.shared);
            for n in 0..1 << OURS_ORDER {
                H::frames().put(page.ours.add(n * PAGE_SIZE));
            }
        }
    }
}

impl Page {
    fn alloc<H: Hw>(owner: DomId) -> Option<Self> {
        let shared = H::frames().alloc(owner, FrameKind::GrantTable, 0).ok()?;
        let Ok(ours) = H::frames().alloc(owner, FrameKind::Object, OURS_ORDER) else {
            H::frames().put(shared);
            return None;
        };
        H::zero(shared, PAGE_SIZE);
        H::zero(ours, PAGE_SIZE << OURS_ORDER);
        Some(Page { shared, ours, gfn: NOWHERE })
    }
}

/// Page `index` of the domain's table, which grows to have it, for `XENMAPSPACE_grant_table`.
pub fn frame_to_map<H: Hw>(domain: &Domain<H>, index: u64) -> Result<Pa, XenError> {
    if index & XENMAPIDX_GRANT_TABLE_STATUS != 0 {
        return Err(XenError::Inval);
    }
    let index = usize::try_from(index).map_err(|_| XenError::Inval)?;
    let mut table = domain.grants.lock();
    table.grow(domain, index.saturating_add(1))?;
    table.pages.get(index).map(|page| page.shared).ok_or(XenError::Inval)
}

/// Remembers where page `index` was mapped, for `GNTTABOP_setup_table`.
pub fn set_gfn<H: Hw>(domain: &Domain<H>, index: u64, gfn: Gfn) {
    let mut table = domain.grants.lock();
    if let Some(page) = usize::try_from(index).ok().and_then(|index| table.pages.get_mut(index)) {
        page.gfn = gfn;
    }
}

/// Writes an entry in the name of a domain that has not started yet: `peer` may use the page `gfn`.
pub fn seed<H: Hw>(domain: &Domain<H>, gref: GrantRef, gfn: Gfn, peer: DomId) -> Result<(), XenError> {
    let frame = u32::try_from(gfn.0).map_err(|_| XenError::Range)?;
    let page = usize::try_from(gref.0).map_err(|_| XenError::Inval)? / ENTRIES_V1_PER_PAGE;
    let mut table = domain.grants.lock();
    table.grow(domain, page + 1)?;
    table
        .entry(gref)
        .ok_or(XenError::Inval)?
        .write_shared(u32::from(GTF_PERMIT_ACCESS) | u32::from(peer.0) << 16, frame);
    Ok(())
}
