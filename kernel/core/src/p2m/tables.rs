//! The tables themselves, as their lock guards them: walking, filling, splitting, emptying.
//!
//! A table that has become empty goes, but the last one is kept for the next mapping in its place, so that mapping
//! and unmapping one page in turn does not build a table each time.

use hypercall_abi::errno::XenError;

use super::entry::{EMPTY, ENTRIES, ROOT_ORDER, Slot, TABLE_ORDER, leaf, of_table};
use super::{IPA_BITS, MapKind, P2m};
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::frame::FrameKind;
use crate::hw::Hw;

/// What is to be known of the tables beside their contents.
#[derive(Default)]
pub(super) struct Tables {
    /// The highest page that was ever mapped.
    pub(super) highest: u64,
    /// Where a page was removed last, as a number of tables: what lies there may have become empty.
    pub(super) idle: Option<u64>,
    /// Set once the domain is dying: nothing is found or mapped any more, and pages below this one are let go.
    pub(super) dying: Option<u64>,
}

impl<H: Hw> P2m<H> {
    /// The entry for `ipa` in the root, which is two tables long.
    #[inline]
    fn top(&self, ipa: Ipa) -> Slot {
        Slot::load::<H>(self.root, ROOT_ORDER, ipa.number() >> ROOT_ORDER)
    }

    /// The empty entry or leaf for `ipa`, which is inside the IPA space.
    // In line, so that it is not handed over through memory.
    #[inline(always)]
    pub(super) fn walk(&self, ipa: Ipa) -> Slot {
        let mut slot = self.top(ipa);
        while let Some(below) = slot.below::<H>(ipa) {
            slot = below;
        }
        slot
    }

    /// The same for any `ipa`, for use by the domain.
    #[inline]
    pub(super) fn find(&self, tables: &Tables, ipa: Ipa) -> Option<Slot> {
        if tables.dying.is_some() || ipa.raw() >> IPA_BITS != 0 { None } else { Some(self.walk(ipa)) }
    }

    /// Maps the largest block of at most 2^`order` pages that fits between what is mapped; returns its pages.
    #[inline(always)]
    pub(super) fn map_block(
        &self,
        tables: &mut Tables,
        ipa: Ipa,
        pa: Pa,
        order: u32,
        kind: MapKind,
    ) -> Result<u64, XenError> {
        let slot = self.walk(ipa);
        if slot.is_valid() {
            return Err(XenError::Exist);
        }
        let slot = if slot.order > order { self.refine(tables, ipa, order)? } else { slot };
        slot.write::<H>(leaf(pa, kind, slot.order));
        tables.highest = tables.highest.max(ipa.number() + slot.pages() - 1);
        Ok(slot.pages())
    }

    /// The entry for `ipa` that stands for at most 2^`order` pages: tables that say the same take the place of a larger
    /// one, empty or a block. The TLBs forget the block before its parts appear (break-before-make): a walk never finds
    /// both.
    #[cold]
    pub(super) fn refine(&self, tables: &mut Tables, ipa: Ipa, order: u32) -> Result<Slot, XenError> {
        // Found again, so that hot paths, which seldom come here, keep theirs in registers.
        let mut slot = self.walk(ipa);
        while slot.order > order {
            // If there is no frame, the table above may be new and empty.
            slot = self.split(slot, ipa).inspect_err(|_| self.vacated(tables, ipa))?;
        }
        Ok(slot)
    }

    fn split(&self, slot: Slot, ipa: Ipa) -> Result<Slot, XenError> {
        let below = slot.order - TABLE_ORDER;
        let table = H::frame(self.owner.id(), FrameKind::Table)?.keep();
        if slot.is_valid() {
            for n in 0..ENTRIES {
                if let Some(part) = slot.mapping(Ipa::from_number(n << below)) {
                    H::store64(table.add(n * 8), leaf(part.pa, part.kind, below));
                }
            }
            slot.write::<H>(EMPTY);
            self.forget(core::iter::once(ipa));
        }
        slot.write::<H>(of_table(table));
        Ok(Slot::load::<H>(table, below, (ipa.number() >> below) % ENTRIES))
    }

    /// Empties the entries from `at` to `end`, which were mapped just now, and waits for the TLBs.
    #[cold]
    pub(super) fn clear(&self, tables: &mut Tables, mut at: Ipa, end: Ipa) {
        while at < end {
            let slot = self.walk(at);
            slot.write::<H>(EMPTY);
            self.vacated(tables, at);
            at = at.add(slot.pages() * PAGE_SIZE);
        }
        self.forget_all();
    }

    /// Notes that the table at `ipa` may have become empty, and looks at the one noted before.
    #[inline]
    pub(super) fn vacated(&self, tables: &mut Tables, ipa: Ipa) {
        let place = Some(ipa.number() >> TABLE_ORDER);
        if tables.idle != place {
            self.prune(tables);
            tables.idle = place;
        }
    }

    /// Frees the table that was noted if it is empty, and the one above if that is empty then.
    #[cold]
    pub(super) fn prune(&self, tables: &mut Tables) {
        let Some(place) = tables.idle.take() else { return };
        let ipa = Ipa::from_number(place << TABLE_ORDER);
        let upper = self.top(ipa);
        for slot in [upper.below::<H>(ipa), Some(upper)].into_iter().flatten() {
            let Some(table) = slot.table() else { continue };
            if (0..ENTRIES).any(|n| H::load64(table.add(n * 8)) != EMPTY) {
                return;
            }
            slot.write::<H>(EMPTY);
            // Walkers may hold the table's address in their caches until they are told.
            self.forget(core::iter::once(ipa));
            H::frames().put(table);
        }
    }
}
