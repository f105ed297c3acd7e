//! The tables themselves, as their lock guards them: walking, filling, splitting, emptying.
//!
//! A table that has become empty goes, but the last one is kept for the next mapping in its place, so that mapping
//! and unmapping one page in turn does not build a table each time.

use hypercall_abi::errno::XenError;

use super::entry::{ENTRIES, Entry, Level, MapKind};
use super::{IPA_BITS, IPA_PAGES, Mapping, P2m};
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::frame::FrameKind;
use crate::hw::Hw;

/// What is to be known of the tables beside their contents.
pub(super) struct Tables {
    /// The highest page that was ever mapped.
    pub(super) highest: u64,
    /// Where a page was removed last, as a number of tables: what lies there may have become empty.
    pub(super) idle: Option<u64>,
    /// Set once the domain is dying: nothing is found or mapped any more, and pages below this one are let go.
    pub(super) dying: Option<u64>,
}

/// An entry, and where it is.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    at: Pa,
    pub(super) level: Level,
    pub(super) entry: Entry,
}

impl Slot {
    #[inline]
    fn load<H: Hw>(table: Pa, level: Level, ipa: Ipa) -> Self {
        let at = table.add(level.offset(ipa));
        Slot { at, level, entry: Entry(H::load64(at)) }
    }

    /// The slot below, if the entry is a table.
    #[inline]
    fn descend<H: Hw>(self, ipa: Ipa) -> Option<Self> {
        Some(Slot::load::<H>(self.entry.table(self.level)?, self.level.below(), ipa))
    }

    /// Changes the entry: the one place where mappings are written.
    #[inline]
    pub(super) fn write<H: Hw>(self, entry: Entry) {
        H::store64(self.at, entry.0);
    }

    #[inline]
    pub(super) fn mapping(self, ipa: Ipa) -> Option<Mapping> {
        self.entry.mapping(self.level, ipa)
    }
}

impl<H: Hw> P2m<H> {
    /// The entry for `ipa` in the root, which is two tables long.
    #[inline]
    fn top(&self, ipa: Ipa) -> Slot {
        let table = self.root.add((ipa.raw() >> (IPA_BITS - 1)) * PAGE_SIZE);
        Slot::load::<H>(table, Level::One, ipa)
    }

    /// The empty entry or leaf for `ipa`, which is inside the IPA space.
    #[inline]
    pub(super) fn walk(&self, ipa: Ipa) -> Slot {
        let mut slot = self.top(ipa);
        while let Some(below) = slot.descend::<H>(ipa) {
            slot = below;
        }
        slot
    }

    /// The same for any `ipa`, for use by the domain.
    #[inline]
    pub(super) fn find(&self, tables: &Tables, ipa: Ipa) -> Option<Slot> {
        if tables.dying.is_some() || ipa.raw() >> IPA_BITS != 0 { None } else { Some(self.walk(ipa)) }
    }

    /// Maps the largest block that starts at both addresses and has at most `pages` pages; returns its pages.
    #[inline]
    pub(super) fn map_block(
        &self,
        tables: &mut Tables,
        ipa: Ipa,
        pa: Pa,
        pages: u64,
        kind: MapKind,
    ) -> Result<u64, XenError> {
        let mut slot = self.walk(ipa);
        loop {
            // Where there is a table already, smaller mappings are, or were: fit in between them.
            let level = slot.level;
            if slot.entry.is_valid() {
                return Err(XenError::Exist);
            }
            if pages >= level.pages() && ipa.is_aligned(level.size()) && pa.is_aligned(level.size()) {
                slot.write::<H>(Entry::leaf(pa, kind, level));
                tables.highest = tables.highest.max(ipa.number() + level.pages() - 1);
                return Ok(level.pages());
            }
            // If that fails, the table above may be new and empty.
            slot = self.refine(slot, ipa).inspect_err(|_| self.vacated(tables, ipa))?;
        }
    }

    /// Puts a table in place of the empty entry or the block for `ipa`; it says the same. The TLBs forget the block before
    /// its parts appear (break-before-make): a walk never finds both. Returns the entry for `ipa` in the table.
    #[cold]
    pub(super) fn refine(&self, slot: Slot, ipa: Ipa) -> Result<Slot, XenError> {
        let below = slot.level.below();
        let table = H::frame(self.owner, FrameKind::Table)?.keep();
        if slot.entry.is_valid() {
            for n in 0..ENTRIES {
                if let Some(part) = slot.mapping(Ipa::new(n * below.size())) {
                    H::store64(table.add(n * 8), Entry::leaf(part.pa, part.kind, below).0);
                }
            }
            slot.write::<H>(Entry::EMPTY);
            self.forget(core::iter::once(ipa));
        }
        slot.write::<H>(Entry::of_table(table));
        Ok(Slot::load::<H>(table, below, ipa))
    }

    /// Empties the entries of a range that was mapped just now, and waits for the TLBs.
    #[cold]
    pub(super) fn clear(&self, tables: &mut Tables, first: Ipa, pages: u64) {
        let (mut at, end) = (first, first.add(pages * PAGE_SIZE));
        while at < end {
            let slot = self.walk(at);
            slot.write::<H>(Entry::EMPTY);
            self.vacated(tables, at);
            at = at.add(slot.level.size());
        }
        self.forget_all();
    }

    /// Notes that the table at `ipa` may have become empty, and looks at the one noted before.
    #[inline]
    pub(super) fn vacated(&self, tables: &mut Tables, ipa: Ipa) {
        let place = Some(ipa.raw() / Level::Two.size());
        if tables.idle != place {
            self.prune(tables);
            tables.idle = place;
        }
    }

    /// Frees the table that was noted if it is empty, and the one above if that is empty then.
    #[cold]
    pub(super) fn prune(&self, tables: &mut Tables) {
        let Some(place) = tables.idle.take() else { return };
        let ipa = Ipa::new(place * Level::Two.size());
        let upper = self.top(ipa);
        let lower = upper.descend::<H>(ipa);
        for slot in [lower, Some(upper)].into_iter().flatten() {
            let Some(table) = slot.entry.table(slot.level) else { continue };
            if (0..ENTRIES).any(|n| H::load64(table.add(n * 8)) != 0) {
                return;
            }
            slot.write::<H>(Entry::EMPTY);
            // Walkers may hold the table's address in their caches until they are told.
            self.forget(core::iter::once(ipa));
            H::frames().put(table);
        }
    }

    /// Lets go of the next page of a dying domain, or steps over an entry that holds none, and frees each table that is
    /// left behind. Returns the grant that was mapped there, which is not let go; `None` in turn if nothing is left.
    pub(super) fn release_next(&self, tables: &mut Tables) -> Option<Option<Mapping>> {
        let page = tables.dying.filter(|page| *page < IPA_PAGES)?;
        let ipa = Ipa::from_number(page);
        let slot = self.walk(ipa);
        let size = slot.level.pages();
        let found = slot.mapping(ipa);
        let mut next = page + 1;
        match found {
            Some(Mapping { pa, kind: MapKind::Foreign }) => H::frames().put(pa),
            Some(Mapping { pa, kind }) if kind.is_ram() => H::frames().abandon(pa),
            _ => next = (page / size + 1) * size,
        }
        tables.dying = Some(next);
        if next.is_multiple_of(size) {
            slot.write::<H>(Entry::EMPTY);
        }
        if next.is_multiple_of(size * ENTRIES) {
            tables.idle = Some(page / Level::Two.pages());
            self.prune(tables);
        }
        Some(found.filter(|mapping| mapping.kind.is_grant()))
    }
}
