//! The pages of a grant table: those that the granter writes, and ours beside them.

use core::marker::PhantomData;

use heapless::Vec;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{ENTRIES_V1_PER_PAGE, ENTRY_V1_SIZE, GTF_PERMIT_ACCESS, GrantEntryV1};
use hypercall_abi::ids::{DomId, Gfn, GrantRef};
use hypercall_abi::memory::XENMAPIDX_GRANT_TABLE_STATUS;
use zerocopy::transmute;

use super::uses::Entry;
use crate::addr::Pa;
use crate::domain::Domain;
use crate::frame::{FrameKind, FrameRef};
use crate::hw::Hw;

/// Pages of a table at most (Xen's default for `max_grant_frames`).
const MAX_PAGES: usize = 64;
/// Where a page is that is not mapped (`INVALID_GFN`).
const NOWHERE: Gfn = Gfn(u64::MAX);

/// One page of the table.
struct Page {
    /// What the granter writes. It can change at any moment.
    shared: FrameRef,
    /// Our halves of the same entries, of the same size.
    ours: FrameRef,
    /// Where the granter has it mapped.
    gfn: Gfn,
}

/// A domain's grant table. The pages go with it.
pub struct GrantTable {
    pages: Vec<Page, MAX_PAGES>,
    max: usize,
}

impl GrantTable {
    /// An empty table that may grow to `max_pages` pages.
    pub fn new(max_pages: u32) -> Self {
        let max = usize::try_from(max_pages).unwrap_or(MAX_PAGES).min(MAX_PAGES);
        GrantTable { pages: Vec::new(), max }
    }

    /// Pages now, and at most.
    #[allow(clippy::cast_possible_truncation, reason = "at most 64")]
    pub(super) fn size(&self) -> (u32, u32) {
        (self.pages.len() as u32, self.max as u32)
    }

    /// Where its pages are mapped.
    pub(super) fn places(&self) -> Vec<Gfn, MAX_PAGES> {
        self.pages.iter().map(|page| page.gfn).collect()
    }

    /// The entry of a reference that is inside the table.
    #[inline]
    pub(super) fn entry<H: Hw>(&self, gref: GrantRef) -> Option<Entry<H>> {
        let gref = usize::try_from(gref.0).ok()?;
        let page = self.pages.get(gref / ENTRIES_V1_PER_PAGE)?;
        let at = (gref % ENTRIES_V1_PER_PAGE * ENTRY_V1_SIZE) as u64;
        Some(Entry { shared: page.shared.pa().add(at), ours: page.ours.pa().add(at), hw: PhantomData })
    }

    /// The first entry that `wanted` accepts. Not for hot paths: a table has up to 32,768.
    pub(super) fn find<H: Hw>(&self, mut wanted: impl FnMut(&Entry<H>) -> bool) -> Option<Entry<H>> {
        (0..).map_while(|gref| self.entry(GrantRef(gref))).find(|entry| wanted(entry))
    }

    /// Makes the table of `owner` at least `pages` pages long, at the owner's cost.
    pub(super) fn grow<H: Hw>(&mut self, owner: DomId, pages: usize) -> Result<(), XenError> {
        if pages > self.max {
            return Err(XenError::Inval);
        }
        while self.pages.len() < pages {
            let (shared, ours) = (H::frame(owner, FrameKind::GrantTable)?, H::frame(owner, FrameKind::Object)?);
            // There is room for `max` pages.
            let _ = self.pages.push(Page { shared, ours, gfn: NOWHERE });
        }
        Ok(())
    }
}

/// Page `index` of the domain's table, which grows to have it, to be mapped at `gfn` (`XENMAPSPACE_grant_table`).
pub fn frame_to_map<H: Hw>(domain: &Domain<H>, index: u64, gfn: Gfn) -> Result<Pa, XenError> {
    if index & XENMAPIDX_GRANT_TABLE_STATUS != 0 {
        return Err(XenError::Inval);
    }
    let index = usize::try_from(index).map_err(|_| XenError::Inval)?;
    let mut table = domain.grants.lock();
    table.grow::<H>(domain.id, index.saturating_add(1))?;
    let page = table.pages.get_mut(index).ok_or(XenError::Inval)?;
    page.gfn = gfn;
    Ok(page.shared.pa())
}

/// Writes an entry in the name of a domain that has not started yet: `peer` may use the page `gfn`.
pub fn seed<H: Hw>(domain: &Domain<H>, gref: GrantRef, gfn: Gfn, peer: DomId) -> Result<(), XenError> {
    let frame = u32::try_from(gfn.0).map_err(|_| XenError::Range)?;
    let page = usize::try_from(gref.0).map_err(|_| XenError::Inval)? / ENTRIES_V1_PER_PAGE;
    let mut table = domain.grants.lock();
    table.grow::<H>(domain.id, page + 1)?;
    let entry = table.entry::<H>(gref).ok_or(XenError::Inval)?;
    H::store64(entry.shared, transmute!(GrantEntryV1 { flags: GTF_PERMIT_ACCESS, domid: peer, frame }));
    Ok(())
}
