//! The tables themselves, as their lock guards them: walking, growing, splitting, emptying.
//!
//! Each table's frame carries the number of its entries in use as its note. One empty table is kept for the next
//! mapping in its place, so that mapping and unmapping one page in turn does not build a table each time.

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use hypercall_abi::ids::DomId;

use super::entry::{Entry, Level, MapKind, PageEntry};
use super::{IPA_BITS, P2mError};
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::frame::FrameKind;
use crate::hw::Hw;

/// Makes all TLBs forget what an entry covered; called with an address that it covered.
pub(super) type Forget<'a> = &'a dyn Fn(Ipa);

pub(super) struct Tables<H: Hw> {
    pub(super) root: Pa,
    owner: DomId,
    count: u64,
    limit: u64,
    highest: u64,
    /// First address of a table that was empty when we last looked, and the level of its entries.
    idle: Option<(Ipa, Level)>,
    /// Set once the domain is dying: nothing is found or mapped any more.
    pub(super) dead: bool,
    /// How far teardown has come.
    pub(super) cursor: u64,
    hw: PhantomData<H>,
}

/// An entry's place, and the table that it is in.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) table: Pa,
    pub(super) at: Pa,
    pub(super) level: Level,
}

impl<H: Hw> Tables<H> {
    pub(super) const fn new(root: Pa, owner: DomId, limit: u64) -> Self {
        Tables { root, owner, count: 2, limit, highest: 0, idle: None, dead: false, cursor: 0, hw: PhantomData }
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// The deepest entry on the way to `ipa`, down to `level` at most.
    pub(super) fn walk(&self, ipa: Ipa, level: Level) -> (Slot, Entry) {
        let mut slot = Slot::new(self.root, Level::One, ipa);
        loop {
            let entry = slot.read::<H>();
            match (entry, slot.level.below()) {
                (Entry::Table(table), Some(below)) if slot.level < level => slot = Slot::new(table, below, ipa),
                _ => return (slot, entry),
            }
        }
    }

    /// The entry of the page at `ipa`.
    #[inline]
    pub(super) fn find(&self, ipa: Ipa) -> PageEntry {
        if self.dead || ipa.raw() >> IPA_BITS != 0 { PageEntry::NONE } else { self.find_slot(ipa).1 }
    }

    /// The entry of the page at `ipa`, which is inside the IPA space, and where it is.
    #[inline]
    pub(super) fn find_slot(&self, ipa: Ipa) -> (Slot, PageEntry) {
        let slot = Slot::new(self.root, Level::One, ipa);
        let raw = H::load64(slot.at);
        let Some(table) = PageEntry::table(raw) else { return (slot, PageEntry::part(raw, Level::One, ipa)) };
        let slot = Slot::new(table, Level::Two, ipa);
        let raw = H::load64(slot.at);
        let Some(table) = PageEntry::table(raw) else { return (slot, PageEntry::part(raw, Level::Two, ipa)) };
        let slot = Slot::new(table, Level::Three, ipa);
        (slot, PageEntry::part(H::load64(slot.at), Level::Three, ipa))
    }

    /// Maps one page where the tables for it are there already; `None` if it takes the long way.
    #[inline]
    pub(super) fn map_page(&mut self, ipa: Ipa, pa: Pa, kind: MapKind) -> Option<Result<(), P2mError>> {
        let (slot, found) = self.find_slot(ipa);
        if self.dead || slot.level != Level::Three {
            return None;
        }
        if found.is_valid() {
            return Some(Err(P2mError::Occupied));
        }
        self.fill(slot, Entry::Leaf(pa, kind));
        self.highest = self.highest.max(ipa.number());
        Some(Ok(()))
    }

    /// Maps the largest block that starts at both addresses and has at most `pages` pages; returns its pages.
    pub(super) fn map_one(
        &mut self,
        ipa: Ipa,
        pa: Pa,
        pages: u64,
        kind: MapKind,
        forget: Forget<'_>,
    ) -> Result<u64, P2mError> {
        if self.dead {
            return Err(P2mError::Dead);
        }
        let fits = |level: Level| ipa.is_aligned(level.size()) && pa.is_aligned(level.size()) && level.pages() <= pages;
        for level in [Level::One, Level::Two, Level::Three] {
            if !fits(level) {
                continue;
            }
            if level != Level::Three {
                // An empty table that was kept would keep the block out.
                self.drop_idle(forget);
            }
            let slot = self.grow(ipa, level)?;
            match slot.read::<H>() {
                // Smaller mappings are there: fit in between them.
                Entry::Table(_) => continue,
                Entry::Leaf(..) => return Err(P2mError::Occupied),
                Entry::Empty => {
                    self.fill(slot, Entry::Leaf(pa, kind));
                    self.highest = self.highest.max(ipa.number() + level.pages() - 1);
                    return Ok(level.pages());
                }
            }
        }
        Err(P2mError::Range)
    }

    /// The slot for `ipa` at `level`; builds the tables above it.
    fn grow(&mut self, ipa: Ipa, level: Level) -> Result<Slot, P2mError> {
        loop {
            let (slot, entry) = self.walk(ipa, level);
            if slot.level == level {
                return Ok(slot);
            }
            match entry {
                Entry::Empty => {
                    let table = self.new_table()?;
                    self.fill(slot, Entry::Table(table));
                }
                Entry::Leaf(..) | Entry::Table(_) => return Err(P2mError::Occupied),
            }
        }
    }

    /// Splits the blocks that lie across `ipa`, until an entry begins there. The TLBs forget the block before its
    /// parts appear (break-before-make): a walk never finds both.
    pub(super) fn split_before(&mut self, ipa: Ipa, forget: Forget<'_>) -> Result<(), P2mError> {
        if ipa.raw() >> IPA_BITS != 0 {
            return Ok(());
        }
        loop {
            let (slot, entry) = self.walk(ipa, Level::Three);
            let (Entry::Leaf(pa, kind), Some(below)) = (entry, slot.level.below()) else { return Ok(()) };
            if ipa.is_aligned(slot.level.size()) {
                return Ok(());
            }
            let table = self.new_table()?;
            let parts = slot.level.pages() / below.pages();
            for n in 0..parts {
                let part = Entry::Leaf(pa.add(n * below.size()), kind);
                H::store64(table.add(n * 8), part.encode(below));
            }
            if let (Some(note), Ok(parts)) = (H::frames().note(table), u32::try_from(parts)) {
                note.store(parts, Ordering::Relaxed);
            }
            slot.write::<H>(Entry::Empty);
            forget(ipa);
            slot.write::<H>(Entry::Table(table));
        }
    }

    /// Clears the entry at `ipa` if it covers at most `pages` pages; returns how many pages to go on by.
    pub(super) fn clear_one(&mut self, ipa: Ipa, pages: u64, forget: Forget<'_>) -> u64 {
        let (slot, entry) = self.walk(ipa, Level::Three);
        let inside = ipa.raw() & (slot.level.size() - 1);
        let rest = (slot.level.size() - inside) / PAGE_SIZE;
        match entry {
            Entry::Leaf(..) if inside == 0 && rest <= pages => self.empty(slot, ipa, forget),
            Entry::Leaf(..) | Entry::Empty | Entry::Table(_) => {}
        }
        rest.min(pages)
    }

    /// Makes an entry that was empty say something.
    #[inline]
    fn fill(&self, slot: Slot, entry: Entry) {
        slot.write::<H>(entry);
        if let Some(note) = slot.note::<H>() {
            note.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes an entry empty, and sees to the table that has become empty by that.
    pub(super) fn empty(&mut self, slot: Slot, ipa: Ipa, forget: Forget<'_>) {
        slot.write::<H>(Entry::Empty);
        let Some(note) = slot.note::<H>() else { return };
        if note.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.set_idle(ipa, slot.level, forget);
        }
    }

    fn drop_idle(&mut self, forget: Forget<'_>) {
        if let Some((ipa, level)) = self.idle.take() {
            self.drop_if_empty(ipa, level, forget);
        }
    }

    /// Remembers an empty table instead of the one remembered before, which is freed if it still is empty.
    fn set_idle(&mut self, ipa: Ipa, level: Level, forget: Forget<'_>) {
        let new = (Ipa::new(ipa.raw() & !(level.size() * 512 - 1)), level);
        if self.idle != Some(new) {
            self.drop_idle(forget);
            self.idle = Some(new);
        }
    }

    /// Frees the table with entries of `level` at `ipa` if it is empty, and the one above if that becomes empty.
    fn drop_if_empty(&mut self, ipa: Ipa, level: Level, forget: Forget<'_>) {
        let above = if level == Level::Three { Level::Two } else { Level::One };
        let (slot, entry) = self.walk(ipa, above);
        let Entry::Table(table) = entry else { return };
        if slot.level != above || H::frames().note(table).is_none_or(|note| note.load(Ordering::Relaxed) != 0) {
            return;
        }
        slot.write::<H>(Entry::Empty);
        // Walkers may hold the table's address in their caches until they are told.
        forget(ipa);
        self.free_table(table);
        if let Some(note) = slot.note::<H>() {
            note.fetch_sub(1, Ordering::Relaxed);
            self.drop_if_empty(ipa, Level::Two, forget);
        }
    }

    fn new_table(&mut self) -> Result<Pa, P2mError> {
        if self.count >= self.limit {
            return Err(P2mError::Pool);
        }
        let table = H::frames().alloc(self.owner, FrameKind::Table, 0).map_err(|_| P2mError::NoFrames)?;
        H::zero(table, PAGE_SIZE);
        self.count += 1;
        Ok(table)
    }

    pub(super) fn free_table(&mut self, table: Pa) {
        H::frames().put(table);
        self.count = self.count.saturating_sub(1);
    }
}

impl Slot {
    #[inline]
    pub(super) const fn new(table: Pa, level: Level, ipa: Ipa) -> Self {
        Slot { table, at: table.add(level.offset(ipa)), level }
    }

    pub(super) fn read<H: Hw>(self) -> Entry {
        Entry::decode(H::load64(self.at), self.level)
    }

    #[inline]
    pub(super) fn write<H: Hw>(self, entry: Entry) {
        H::store64(self.at, entry.encode(self.level));
    }

    /// The count of entries in use; the root has none, since it is never freed for being empty.
    fn note<H: Hw>(self) -> Option<&'static core::sync::atomic::AtomicU32> {
        if self.level == Level::One { None } else { H::frames().note(self.table) }
    }
}
