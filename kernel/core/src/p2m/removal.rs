//! Removing pages from a physical map: entries first, then one round of TLB invalidations, then the references.
//!
//! The order is the point: a frame whose mapping is gone from the tables may still be in a TLB, and must not
//! reach its next owner before that is over.

use heapless::Vec;

use super::entry::{Level, PageEntry};
use super::{Mapping, P2m, P2mError, check_range};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::hw::Hw;

/// Pages that share one round of invalidations.
const BATCH: usize = 8;

/// Pages that are out of the tables, but whose frames are still held because TLBs may know them.
pub struct Removal<'a, H: Hw> {
    p2m: &'a P2m<H>,
    pending: Vec<(Ipa, PageEntry), BATCH>,
}

impl<'a, H: Hw> Removal<'a, H> {
    #[inline]
    pub(super) fn new(p2m: &'a P2m<H>) -> Self {
        Removal { p2m, pending: Vec::new() }
    }

    /// Takes the page at `ipa` out of the tables, if `accept` agrees to what is mapped there. `accept` runs under
    /// the lock, so that nothing changes between its answer and the removal.
    #[inline]
    pub fn take(
        &mut self,
        ipa: Ipa,
        accept: impl FnOnce(Mapping) -> Result<(), P2mError>,
    ) -> Result<Mapping, P2mError> {
        let ipa = check_range(ipa, 1)?;
        if self.pending.is_full() {
            self.flush();
        }
        let p2m = self.p2m;
        let forget = |at| p2m.invalidate(at, 1);
        let mut tables = p2m.tables.lock();
        let (mut slot, mut found) = tables.find_slot(ipa);
        if slot.level != Level::Three && found.is_valid() {
            // Split before anything is decided: after `accept` there is no way back.
            tables.split_before(ipa, &forget)?;
            tables.split_before(ipa.add(PAGE_SIZE), &forget)?;
            (slot, found) = tables.find_slot(ipa);
        }
        if tables.dead || !found.is_valid() {
            return Err(P2mError::Absent);
        }
        let mapping = Mapping { pa: found.pa(), kind: found.kind() };
        accept(mapping)?;
        tables.empty(slot, ipa, &forget);
        // There is room: a full batch was flushed above.
        let _ = self.pending.push((ipa, found));
        Ok(mapping)
    }

    /// Waits until no TLB knows the pages, then drops the references that went with the mappings.
    pub fn flush(&mut self) {
        let Some(&(mut from, _)) = self.pending.first() else { return };
        let mut pages = 0;
        for &(ipa, _) in &self.pending {
            if from.add(pages * PAGE_SIZE) != ipa {
                self.p2m.invalidate(from, pages);
                (from, pages) = (ipa, 0);
            }
            pages += 1;
        }
        self.p2m.invalidate(from, pages);
        for (_, found) in &self.pending {
            if found.kind().holds_reference() {
                H::frames().put(found.pa());
            }
        }
        self.pending.clear();
    }
}

impl<H: Hw> Drop for Removal<'_, H> {
    #[inline]
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            self.flush();
        }
    }
}
