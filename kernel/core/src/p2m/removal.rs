//! Removing pages from a physical map: entries first, then one round of TLB invalidations, then the references.
//!
//! The order is the point: a frame whose mapping is gone from the tables may still be in a TLB, and must not
//! reach its next owner before that is over.

use heapless::Vec;

use super::entry::{Entry, Level};
use super::{Mapping, P2m, P2mError, check_range};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::hw::Hw;

/// Pages that share one round of invalidations.
const BATCH: usize = 16;

/// Pages that are out of the tables, but whose frames are still held because TLBs may know them.
pub struct Removal<'a, H: Hw> {
    p2m: &'a P2m<H>,
    pending: Vec<(Ipa, Mapping), BATCH>,
}

impl<'a, H: Hw> Removal<'a, H> {
    pub(super) fn new(p2m: &'a P2m<H>) -> Self {
        Removal { p2m, pending: Vec::new() }
    }

    /// Takes the page at `ipa` out of the tables, if `accept` agrees to what is mapped there. `accept` runs under
    /// the lock, so that nothing changes between its answer and the removal.
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
        if tables.dead {
            return Err(P2mError::Dead);
        }
        let (mut slot, mut entry) = tables.walk(ipa, Level::Three);
        if slot.level != Level::Three {
            // Split before anything is decided: after `accept` there is no way back.
            tables.split_before(ipa, &forget)?;
            tables.split_before(ipa.add(PAGE_SIZE), &forget)?;
            (slot, entry) = tables.walk(ipa, Level::Three);
        }
        let Entry::Leaf(pa, kind) = entry else { return Err(P2mError::Absent) };
        let mapping = Mapping { pa, kind };
        accept(mapping)?;
        tables.empty(slot, ipa, &forget);
        drop(tables);
        if self.pending.push((ipa, mapping)).is_err() {
            // There is room: the batch was emptied above.
            p2m.invalidate(ipa, 1);
        }
        Ok(mapping)
    }

    /// Whether the next page would start a new round.
    pub fn is_full(&self) -> bool {
        self.pending.is_full()
    }

    /// Waits until no TLB knows the pages, then drops the references that went with the mappings.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut run: Option<(Ipa, u64)> = None;
        for &(ipa, _) in &self.pending {
            run = match run {
                Some((from, pages)) if from.add(pages * PAGE_SIZE) == ipa => Some((from, pages + 1)),
                Some((from, pages)) => {
                    self.p2m.invalidate(from, pages);
                    Some((ipa, 1))
                }
                None => Some((ipa, 1)),
            };
        }
        if let Some((from, pages)) = run {
            self.p2m.invalidate(from, pages);
        }
        for (_, mapping) in &self.pending {
            if mapping.kind.holds_reference() {
                H::frames().put(mapping.pa);
            }
        }
        self.pending.clear();
    }
}

impl<H: Hw> Drop for Removal<'_, H> {
    fn drop(&mut self) {
        self.flush();
    }
}
