//! Stage-2 entries (Arm ARM, section D8.3): where one is, what it says, and what we keep in its software bits.

use zerocopy::TryFromBytes;

use super::Mapping;
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::hw::Hw;

/// What is mapped at a place of a domain's physical map. Zero stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes)]
#[repr(u8)]
pub enum MapKind {
    /// RAM of the domain.
    Ram = 1,
    /// A page that another domain granted; the mapping owns a use of it (`grant`), and so a reference on it.
    GrantRw = 2,
    /// The same, granted or mapped for reading.
    GrantRo = 3,
    /// RAM of another domain, mapped by privilege; the entry holds a reference on it.
    Foreign = 4,
    /// Registers of a device.
    Device = 5,
    /// A page of the microkernel that the domain shares, such as its grant table; it outlives the mapping.
    Shared = 6,
}

impl MapKind {
    /// Valid, access flag, shareability, permissions, memory type, and our number. Only own RAM is executable.
    const fn attributes(self) -> u64 {
        let bits = match self {
            MapKind::Ram => NORMAL | WRITE,
            MapKind::GrantRw | MapKind::Foreign | MapKind::Shared => NORMAL | WRITE | EXECUTE_NEVER,
            MapKind::GrantRo => NORMAL | EXECUTE_NEVER,
            MapKind::Device => DEVICE_NGNRE | WRITE | EXECUTE_NEVER,
        };
        VALID | ACCESSED | READ | bits | (self as u64) << KIND_SHIFT
    }

    /// Whether the domain can write there.
    pub const fn is_writable(self) -> bool {
        self.attributes() & WRITE != 0
    }

    /// Whether it is a mapped grant.
    pub fn is_grant(self) -> bool {
        self == MapKind::GrantRw || self == MapKind::GrantRo
    }
}

const VALID: u64 = 1 << 0;
/// A table at levels 1 and 2, a page at level 3; clear for a block.
const TABLE_OR_PAGE: u64 = 1 << 1;
const DEVICE_NGNRE: u64 = 0b0001 << 2;
/// Write-back and inner shareable.
const NORMAL: u64 = 0b1111 << 2 | 0b11 << 8;
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 54;
/// Bits 58:55 are ignored by the walkers.
const KIND_SHIFT: u32 = 55;
const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;

/// log2 of the entries of a table.
pub(super) const TABLE_ORDER: u32 = 9;
/// Entries of a table.
pub(super) const ENTRIES: u64 = 1 << TABLE_ORDER;
/// The order of the entries of the root, at level 1: 1 GiB.
pub(super) const ROOT_ORDER: u32 = 2 * TABLE_ORDER;
/// An entry that maps nothing.
pub(super) const EMPTY: u64 = 0;

/// The entry for a table.
pub(super) const fn of_table(table: Pa) -> u64 {
    table.raw() | VALID | TABLE_OR_PAGE
}

/// The entry that maps 2^`order` pages at `pa`.
pub(super) const fn leaf(pa: Pa, kind: MapKind, order: u32) -> u64 {
    let page = if order == 0 { TABLE_OR_PAGE } else { 0 };
    pa.raw() & ADDRESS | kind.attributes() | page
}

/// An entry as a walker finds it. Hot paths test its bits and build nothing from it.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    at: Pa,
    /// It stands for 2^order pages: [`ROOT_ORDER`] at level 1, [`TABLE_ORDER`] at level 2, 0 at level 3.
    pub(super) order: u32,
    value: u64,
}

impl Slot {
    /// Entry `index` of a table whose entries have this order.
    #[inline]
    pub(super) fn load<H: Hw>(table: Pa, order: u32, index: u64) -> Self {
        let at = table.add(index * 8);
        Slot { at, order, value: H::load64(at) }
    }

    /// The entry for `ipa` in the table that this one names, if it names one.
    #[inline]
    pub(super) fn below<H: Hw>(self, ipa: Ipa) -> Option<Self> {
        let order = self.order.wrapping_sub(TABLE_ORDER);
        Some(Slot::load::<H>(self.table()?, order, (ipa.number() >> order) % ENTRIES))
    }

    /// Changes the entry: the one place where mappings are written.
    #[inline]
    pub(super) fn write<H: Hw>(self, value: u64) {
        H::store64(self.at, value);
    }

    /// Pages that it stands for.
    pub(super) const fn pages(self) -> u64 {
        1 << self.order
    }

    pub(super) const fn is_valid(self) -> bool {
        self.value & VALID != 0
    }

    /// Whether it maps RAM of the domain.
    pub(super) const fn is_ram(&self) -> bool {
        self.value & (VALID | EXECUTE_NEVER) == VALID
    }

    /// The table that it names, if it names one.
    pub(super) fn table(self) -> Option<Pa> {
        let is_table = self.value & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE && self.order > 0;
        is_table.then(|| Pa::new(self.value & ADDRESS))
    }

    /// What a leaf maps at `ipa`; `None` of an empty entry.
    #[inline]
    pub(super) fn mapping(self, ipa: Ipa) -> Option<Mapping> {
        Some(Mapping { pa: self.pa(ipa), kind: self.kind()? })
    }

    /// What an entry for one page maps; `None` of an empty one.
    #[inline]
    pub(super) fn page(self) -> Option<Mapping> {
        Some(Mapping { pa: Pa::new(self.value & ADDRESS), kind: self.kind()? })
    }

    #[inline]
    fn kind(self) -> Option<MapKind> {
        let [number, ..] = (self.value >> KIND_SHIFT & 0xF).to_le_bytes();
        MapKind::try_read_from_bytes(&[number]).ok()
    }

    /// The page that a leaf maps at `ipa`.
    #[inline]
    pub(super) const fn pa(self, ipa: Ipa) -> Pa {
        Pa::new(self.value & ADDRESS | ipa.page().raw() & (self.pages() * PAGE_SIZE - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [MapKind; 6] =
        [MapKind::Ram, MapKind::GrantRw, MapKind::GrantRo, MapKind::Foreign, MapKind::Device, MapKind::Shared];

    fn slot(order: u32, value: u64) -> Slot {
        Slot { at: Pa::new(0), order, value }
    }

    #[test]
    fn what_is_written_to_an_entry_is_read_from_it() {
        let (pa, inside) = (Pa::new(0xAB_C000_0000), Ipa::new(0x12_3456_7000));
        for order in [ROOT_ORDER, TABLE_ORDER, 0] {
            for kind in KINDS {
                let leaf = slot(order, leaf(pa, kind, order));
                let part = pa.add(inside.raw() & (leaf.pages() * PAGE_SIZE - 1));
                assert_eq!((leaf.table(), leaf.mapping(inside)), (None, Some(Mapping { pa: part, kind })));
                assert_eq!(leaf.is_ram(), kind == MapKind::Ram);
                assert!(order > 0 || leaf.page() == leaf.mapping(inside));
                assert!(leaf.is_valid());
            }
            let empty = slot(order, EMPTY);
            assert_eq!((empty.table(), empty.mapping(inside), empty.is_ram()), (None, None, false));
        }
        assert_eq!(slot(ROOT_ORDER, of_table(pa)).table(), Some(pa));
    }

    #[test]
    fn descriptors_have_the_bits_of_the_architecture() {
        let leaf = |pa, kind, order| leaf(Pa::new(pa), kind, order);
        assert_eq!(leaf(0x4000_0000, MapKind::Ram, 0), 1 << KIND_SHIFT | 0x4000_07FF);
        assert_eq!(leaf(0x4000_0000, MapKind::Ram, TABLE_ORDER), 1 << KIND_SHIFT | 0x4000_07FD);
        let device = leaf(0x0900_0000, MapKind::Device, 0);
        assert_eq!(device & 0xFFFF_FFFF, 0x0900_04C7);
        assert_ne!(device & EXECUTE_NEVER, 0);
        let granted = leaf(0x4000_0000, MapKind::GrantRo, 0);
        assert_eq!(granted & (READ | WRITE), READ);
    }

    #[test]
    fn each_kind_says_what_the_domain_may_do_and_what_it_holds() {
        let which = |of: fn(MapKind) -> bool| KINDS.map(of);
        assert_eq!(which(MapKind::is_writable), [true, true, false, true, true, true]);
        assert_eq!(which(MapKind::is_grant), [false, true, true, false, false, false]);
    }
}
