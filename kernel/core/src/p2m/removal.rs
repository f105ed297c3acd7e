//! Removing pages from a physical map: entries first, then one round of TLB invalidations, then the references.
//!
//! The order is the point: a frame whose mapping is gone from the tables may still be in a TLB, and must not
//! reach its next owner before that is over.

use heapless::Vec;

use super::entry::{Entry, Level};
use super::{Mapping, P2m, P2mError, check_range};
use crate::addr::Ipa;
use crate::hw::Hw;

/// Pages that share one round of invalidations.
const BATCH: usize = 16;

/// Pages that are out of the tables, but whose frames are still held because TLBs may know them.
pub struct Removal<'a, H: Hw> {
    pub(super) p2m: &'a P2m<H>,
    pub(super) pending: Vec<(Ipa, Mapping), BATCH>,
}

impl<H: Hw> Removal<'_, H> {
    /// Takes the page at `ipa` out of the tables, if `accept` agrees to what is mapped there. `accept` runs under
    /// the lock, so that nothing changes between its answer and the removal.
    #[inline]
    pub fn take(
        &mut self,
        ipa: Ipa,
        accept: impl FnOnce(Mapping) -> Result<(), P2mError>,
    ) -> Result<Mapping, P2mError> {
        check_range(ipa, 1)?;
        if self.pending.is_full() {
            self.flush();
        }
        let mut tables = self.p2m.tables.lock();
        let mut slot = self.p2m.find(&tables, ipa).ok_or(P2mError::Absent)?;
        while slot.level != Level::Three && slot.entry.is_valid() {
            // Split before anything is decided: after `accept` there is no way back.
            self.p2m.refine(&mut tables, ipa)?;
            slot = self.p2m.walk(ipa);
        }
        let mapping = slot.mapping(ipa).ok_or(P2mError::Absent)?;
        accept(mapping)?;
        slot.write::<H>(Entry::EMPTY);
        self.p2m.vacated(&mut tables, ipa);
        // There is room: a full batch was flushed above.
        let _ = self.pending.push((ipa, mapping));
        Ok(mapping)
    }

    /// Waits until no TLB knows the pages, then drops the references that went with the mappings.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.p2m.forget(self.pending.iter().map(|(ipa, _)| *ipa));
        for (_, mapping) in &self.pending {
            if mapping.kind.holds_reference() {
                H::frames().put(mapping.pa);
            }
        }
        self.pending.clear();
    }
}

impl<H: Hw> Drop for Removal<'_, H> {
    #[inline]
    fn drop(&mut self) {
        self.flush();
    }
}
