//! Stage-2 descriptors (Arm ARM, section D8.3): what an entry says, and what we keep in its software bits.

use super::Mapping;
use crate::addr::{Ipa, PAGE_SHIFT, Pa};

/// What is mapped at a place of a domain's physical map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MapKind {
    /// RAM of the domain.
    RamRw = 0,
    /// RAM of the domain that it may only read.
    RamRo = 1,
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
            MapKind::RamRw => NORMAL | WRITE,
            MapKind::RamRo => NORMAL,
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

    /// Whether it is the domain's own RAM.
    pub const fn is_ram(self) -> bool {
        self.attributes() & EXECUTE_NEVER == 0
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

/// A level of the tables, with a start at level 1; as a number, the address bits that an entry does not translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Level {
    One = 30,
    Two = 21,
    Three = 12,
}

impl Level {
    /// Bytes that an entry of this level covers.
    pub(super) const fn size(self) -> u64 {
        1 << self as u32
    }

    /// Pages that an entry of this level covers.
    pub(super) const fn pages(self) -> u64 {
        self.size() >> PAGE_SHIFT
    }

    /// Byte offset of the entry for `ipa` in the table of this level.
    pub(super) const fn offset(self, ipa: Ipa) -> u64 {
        (ipa.raw() >> self as u32) % ENTRIES * 8
    }

    /// The next level; the last is its own.
    pub(super) const fn below(self) -> Level {
        match self {
            Level::One => Level::Two,
            Level::Two | Level::Three => Level::Three,
        }
    }
}

/// Entries of a table.
pub(super) const ENTRIES: u64 = 512;

/// An entry as the walkers read it. Hot paths test its bits and build nothing from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    pub(super) const EMPTY: Entry = Entry(0);

    pub(super) const fn of_table(table: Pa) -> Self {
        Entry(table.raw() | VALID | TABLE_OR_PAGE)
    }

    pub(super) const fn leaf(pa: Pa, kind: MapKind, level: Level) -> Self {
        let page = if matches!(level, Level::Three) { TABLE_OR_PAGE } else { 0 };
        Entry(pa.raw() & ADDRESS | kind.attributes() | page)
    }

    pub(super) const fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    /// The table that an entry of `level` names, if it names one.
    pub(super) fn table(self, level: Level) -> Option<Pa> {
        let is_table = self.0 & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE && level != Level::Three;
        is_table.then(|| Pa::new(self.0 & ADDRESS))
    }

    /// What a leaf of `level` maps at `ipa`; `None` of an empty entry.
    pub(super) fn mapping(self, level: Level, ipa: Ipa) -> Option<Mapping> {
        let kind = match self.0 >> KIND_SHIFT & 0xF {
            0 => MapKind::RamRw,
            1 => MapKind::RamRo,
            2 => MapKind::GrantRw,
            3 => MapKind::GrantRo,
            4 => MapKind::Foreign,
            5 => MapKind::Device,
            _ => MapKind::Shared,
        };
        let inside = ipa.page().raw() & (level.size() - 1);
        self.is_valid().then(|| Mapping { pa: Pa::new(self.0 & ADDRESS | inside), kind })
    }

    /// Whether a leaf is the domain's own RAM, for reading or (if `write`) writing.
    pub(super) const fn is_ram_for(self, write: bool) -> bool {
        let needed = if write { VALID | WRITE } else { VALID };
        self.0 & (needed | EXECUTE_NEVER) == needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [MapKind; 7] = [
        MapKind::RamRw,
        MapKind::RamRo,
        MapKind::GrantRw,
        MapKind::GrantRo,
        MapKind::Foreign,
        MapKind::Device,
        MapKind::Shared,
    ];

    #[test]
    fn what_is_written_to_an_entry_is_read_from_it() {
        let (pa, inside) = (Pa::new(0xAB_C000_0000), Ipa::new(0x12_3456_7000));
        for level in [Level::One, Level::Two, Level::Three] {
            for kind in KINDS {
                let leaf = Entry::leaf(pa, kind, level);
                let part = pa.add(inside.raw() & (level.size() - 1));
                assert_eq!((leaf.table(level), leaf.mapping(level, inside)), (None, Some(Mapping { pa: part, kind })));
                assert_eq!(leaf.is_ram_for(false), kind.is_ram());
                assert_eq!(leaf.is_ram_for(true), kind == MapKind::RamRw);
            }
            assert_eq!((Entry::EMPTY.table(level), Entry::EMPTY.mapping(level, inside)), (None, None));
        }
        assert_eq!(Entry::of_table(pa).table(Level::One), Some(pa));
    }

    #[test]
    fn descriptors_have_the_bits_of_the_architecture() {
        let leaf = |pa, kind, level| Entry::leaf(Pa::new(pa), kind, level).0;
        assert_eq!(leaf(0x4000_0000, MapKind::RamRw, Level::Three), 0x4000_07FF);
        assert_eq!(leaf(0x4000_0000, MapKind::RamRw, Level::Two), 0x4000_07FD);
        let device = leaf(0x0900_0000, MapKind::Device, Level::Three);
        assert_eq!(device & 0xFFFF_FFFF, 0x0900_04C7);
        assert_ne!(device & EXECUTE_NEVER, 0);
        let granted = leaf(0x4000_0000, MapKind::GrantRo, Level::Three);
        assert_eq!(granted & (READ | WRITE), READ);
    }

    #[test]
    fn each_kind_says_what_the_domain_may_do_and_what_it_holds() {
        let which = |of: fn(MapKind) -> bool| KINDS.map(of);
        assert_eq!(which(MapKind::is_writable), [true, false, true, false, true, true, true]);
        assert_eq!(which(MapKind::is_ram), [true, true, false, false, false, false, false]);
        assert_eq!(which(MapKind::is_grant), [false, false, true, true, false, false, false]);
    }
}
