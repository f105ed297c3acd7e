//! Stage-2 descriptors (Arm ARM, section D8.3): what an entry says, and what we keep in its software bits.

use crate::addr::{Ipa, PAGE_SHIFT, Pa};

/// What is mapped at a place of a domain's physical map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MapKind {
    /// RAM of the domain.
    RamRw = 0,
    /// RAM of the domain that it may only read.
    RamRo = 1,
    /// A page that another domain granted; the map handle holds a reference on it.
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
    /// What our software bits in a leaf say; we alone write leaves.
    #[inline]
    const fn of(leaf: u64) -> Self {
        match leaf >> KIND_SHIFT & 0xF {
            0 => MapKind::RamRw,
            1 => MapKind::RamRo,
            2 => MapKind::GrantRw,
            3 => MapKind::GrantRo,
            4 => MapKind::Foreign,
            5 => MapKind::Device,
            _ => MapKind::Shared,
        }
    }

    /// Whether the domain can write there.
    pub const fn is_writable(self) -> bool {
        match self {
            MapKind::RamRw | MapKind::GrantRw | MapKind::Foreign | MapKind::Device | MapKind::Shared => true,
            MapKind::RamRo | MapKind::GrantRo => false,
        }
    }

    /// Whether it is the domain's own RAM.
    pub const fn is_ram(self) -> bool {
        match self {
            MapKind::RamRw | MapKind::RamRo => true,
            MapKind::GrantRw | MapKind::GrantRo | MapKind::Foreign | MapKind::Device | MapKind::Shared => false,
        }
    }

    /// Whether a reference on the frame goes away with the mapping.
    pub const fn holds_reference(self) -> bool {
        match self {
            MapKind::RamRw | MapKind::RamRo | MapKind::Foreign => true,
            MapKind::GrantRw | MapKind::GrantRo | MapKind::Device | MapKind::Shared => false,
        }
    }

    /// Whether it is a mapped grant.
    pub const fn is_grant(self) -> bool {
        match self {
            MapKind::GrantRw | MapKind::GrantRo => true,
            MapKind::RamRw | MapKind::RamRo | MapKind::Foreign | MapKind::Device | MapKind::Shared => false,
        }
    }

    /// Valid, access flag, shareability, permissions and memory type. Only own RAM is executable.
    #[inline]
    const fn attributes(self) -> u64 {
        match self {
            MapKind::RamRw => const { MapKind::RamRw.compose() },
            MapKind::RamRo => const { MapKind::RamRo.compose() },
            MapKind::GrantRw => const { MapKind::GrantRw.compose() },
            MapKind::GrantRo => const { MapKind::GrantRo.compose() },
            MapKind::Foreign => const { MapKind::Foreign.compose() },
            MapKind::Device => const { MapKind::Device.compose() },
            MapKind::Shared => const { MapKind::Shared.compose() },
        }
    }

    const fn compose(self) -> u64 {
        let access = if self.is_writable() { READ | WRITE } else { READ };
        let memory = match self {
            MapKind::Device => DEVICE_NGNRE,
            MapKind::RamRw
            | MapKind::RamRo
            | MapKind::GrantRw
            | MapKind::GrantRo
            | MapKind::Foreign
            | MapKind::Shared => NORMAL_WB | INNER_SHAREABLE,
        };
        let execute = if self.is_ram() { 0 } else { EXECUTE_NEVER };
        VALID | ACCESSED | access | memory | execute | (self as u64) << KIND_SHIFT
    }
}

const VALID: u64 = 1 << 0;
/// A table at levels 1 and 2, a page at level 3; clear for a block.
const TABLE_OR_PAGE: u64 = 1 << 1;
const DEVICE_NGNRE: u64 = 0b0001 << 2;
const NORMAL_WB: u64 = 0b1111 << 2;
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 54;
/// Bits 58:55 are ignored by the walkers.
const KIND_SHIFT: u32 = 55;
const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;

/// A level of the tables, with a start at level 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    One,
    Two,
    Three,
}

impl Level {
    const fn shift(self) -> u32 {
        match self {
            Level::One => 30,
            Level::Two => 21,
            Level::Three => PAGE_SHIFT,
        }
    }

    /// Bytes that an entry of this level covers.
    pub(super) const fn size(self) -> u64 {
        1 << self.shift()
    }

    /// Pages that an entry of this level covers.
    pub(super) const fn pages(self) -> u64 {
        1 << (self.shift() - PAGE_SHIFT)
    }

    /// Byte offset, in the table of this level, of the entry for `ipa`. The root is two tables long.
    pub(super) const fn offset(self, ipa: Ipa) -> u64 {
        let entries = match self {
            Level::One => 1024,
            Level::Two | Level::Three => 512,
        };
        (ipa.raw() >> self.shift()) % entries * 8
    }

    pub(super) const fn below(self) -> Option<Level> {
        match self {
            Level::One => Some(Level::Two),
            Level::Two => Some(Level::Three),
            Level::Three => None,
        }
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Empty,
    Table(Pa),
    Leaf(Pa, MapKind),
}

impl Entry {
    #[inline]
    pub(super) const fn encode(self, level: Level) -> u64 {
        match self {
            Entry::Empty => 0,
            Entry::Table(pa) => pa.raw() & ADDRESS | VALID | TABLE_OR_PAGE,
            Entry::Leaf(pa, kind) => {
                let page = match level {
                    Level::One | Level::Two => 0,
                    Level::Three => TABLE_OR_PAGE,
                };
                pa.raw() & ADDRESS | kind.attributes() | page
            }
        }
    }

    pub(super) fn decode(raw: u64, level: Level) -> Self {
        let pa = Pa::new(raw & ADDRESS);
        if raw & VALID == 0 {
            return Entry::Empty;
        }
        if raw & TABLE_OR_PAGE != 0 && level != Level::Three {
            return Entry::Table(pa);
        }
        Entry::Leaf(pa, MapKind::of(raw))
    }
}

/// The entry of one page as [`Tables::find`](super::tables::Tables::find) returns it: of a block, the part for the
/// page. Look-ups on hot paths test its bits and build nothing from it.
#[derive(Clone, Copy)]
pub(super) struct PageEntry(u64);

impl PageEntry {
    pub(super) const NONE: PageEntry = PageEntry(0);

    /// The table that `raw` names, at a level above the last.
    #[inline]
    pub(super) const fn table(raw: u64) -> Option<Pa> {
        if raw & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE { Some(Pa::new(raw & ADDRESS)) } else { None }
    }

    /// The part for `ipa` of a leaf that covers `1 << shift` bytes, or of an empty entry.
    #[inline]
    pub(super) const fn part(raw: u64, level: Level, ipa: Ipa) -> Self {
        PageEntry(raw | ipa.page().raw() & (level.size() - 1))
    }

    #[inline]
    pub(super) const fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    #[inline]
    pub(super) const fn pa(self) -> Pa {
        Pa::new(self.0 & ADDRESS)
    }

    #[inline]
    pub(super) const fn kind(self) -> MapKind {
        MapKind::of(self.0)
    }

    /// Whether it is the domain's own RAM, for reading or (if `write`) writing.
    #[inline]
    pub(super) const fn is_ram_for(self, write: bool) -> bool {
        let needed = if write { VALID | WRITE } else { VALID };
        self.0 & needed == needed && self.kind().is_ram()
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
        for level in [Level::One, Level::Two, Level::Three] {
            for kind in KINDS {
                let leaf = Entry::Leaf(Pa::new(0xAB_C000_0000), kind);
                assert_eq!(Entry::decode(leaf.encode(level), level), leaf);
            }
            assert_eq!(Entry::decode(Entry::Empty.encode(level), level), Entry::Empty);
        }
        let table = Entry::Table(Pa::new(0x4000_1000));
        assert_eq!(Entry::decode(table.encode(Level::One), Level::One), table);
    }

    #[test]
    fn descriptors_have_the_bits_of_the_architecture() {
        let ram = Entry::Leaf(Pa::new(0x4000_0000), MapKind::RamRw);
        assert_eq!(ram.encode(Level::Three), 0x4000_07FF);
        assert_eq!(ram.encode(Level::Two), 0x4000_07FD);
        let device = Entry::Leaf(Pa::new(0x0900_0000), MapKind::Device).encode(Level::Three);
        assert_eq!(device & 0xFFFF_FFFF, 0x0900_04C7);
        assert_ne!(device & EXECUTE_NEVER, 0);
        let granted = Entry::Leaf(Pa::new(0x4000_0000), MapKind::GrantRo).encode(Level::Three);
        assert_eq!(granted & (READ | WRITE), READ);
    }
}
