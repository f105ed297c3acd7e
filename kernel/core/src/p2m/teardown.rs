//! The end of a physical map: everything it holds goes back, in steps that fit between two time slices.

use super::entry::{Entry, Level};
use super::tables::{Slot, Tables};
use super::{IPA_PAGES, MapKind, P2m};
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::hw::Hw;

/// How a step of a long job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is nothing left to do.
    Done,
    /// The budget is used up; call again.
    More,
}

impl<H: Hw> P2m<H> {
    /// From now on nothing is found or mapped here, and no TLB knows anything of it. The domain's vCPUs must
    /// be off all pCPUs. Doing it twice is harmless.
    pub fn kill(&self) {
        let mut tables = self.tables.lock();
        if core::mem::replace(&mut tables.dead, true) {
            return;
        }
        if let Some(vmid) = self.vmid.tag() {
            H::invalidate_vmid(self.tagged(vmid));
        }
    }

    /// Lets go of at most `budget` pages or entries. Pages that peers still use become free when they let go.
    /// The grants that the domain maps are for its grant table to release, before or after.
    pub fn teardown(&self, budget: u32) -> Progress {
        self.kill();
        let mut tables = self.tables.lock();
        for _ in 0..budget {
            if tables.cursor >= IPA_PAGES {
                return Progress::Done;
            }
            tables.release_one();
        }
        if tables.cursor >= IPA_PAGES { Progress::Done } else { Progress::More }
    }
}

impl<H: Hw> Tables<H> {
    /// Lets go of the page at the cursor, or steps over an empty entry; frees each table that is left behind.
    fn release_one(&mut self) {
        let ipa = Ipa::from_number(self.cursor);
        let (slot, entry) = self.walk(ipa, Level::Three);
        let inside = ipa.raw() & (slot.level.size() - 1);
        let pages = match entry {
            Entry::Empty
            | Entry::Table(_)
            | Entry::Leaf(_, MapKind::Device | MapKind::Shared)
            | Entry::Leaf(_, MapKind::GrantRw | MapKind::GrantRo) => (slot.level.size() - inside) / PAGE_SIZE,
            Entry::Leaf(pa, MapKind::RamRw | MapKind::RamRo) => {
                H::frames().abandon(pa.add(inside));
                1
            }
            Entry::Leaf(pa, MapKind::Foreign) => {
                H::frames().put(pa.add(inside));
                1
            }
        };
        self.cursor += pages;
        let next = Ipa::from_number(self.cursor);
        for level in [Level::Two, Level::One] {
            if next.is_aligned(level.size()) {
                self.free_below(ipa, level);
            }
        }
    }

    fn free_below(&mut self, ipa: Ipa, level: Level) {
        if let (slot @ Slot { .. }, Entry::Table(table)) = self.walk(ipa, level)
            && slot.level == level
        {
            slot.write::<H>(Entry::Empty);
            self.free_table(table);
        }
    }
}

impl<H: Hw> Drop for P2m<H> {
    fn drop(&mut self) {
        // A domain that failed half-way through its making comes here without a teardown; it holds little.
        while self.teardown(u32::MAX) == Progress::More {}
        for root in [self.root, Pa::new(self.root.raw() + PAGE_SIZE)] {
            H::frames().put(root);
        }
    }
}
