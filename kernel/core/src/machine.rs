//! The machine as the boot code found it in the FDT, before any domain exists.

use heapless::{String, Vec};

use crate::addr::{PAGE_SIZE, Pa};
use crate::hw::IntId;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: Pa,
    /// Length in bytes.
    pub size: u64,
}

impl Range {
    /// First byte behind the range.
    pub const fn end(self) -> Pa {
        self.start.add(self.size)
    }

    /// Whether both have a byte in common.
    pub fn overlaps(self, other: Range) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// The smallest range of whole pages that holds this one.
    pub fn to_pages(self) -> Range {
        let start = self.start.page();
        let end = self.end().add(PAGE_SIZE - 1).page();
        Range { start, size: end.raw() - start.raw() }
    }

    /// Number of pages in a range of whole pages.
    pub const fn pages(self) -> u64 {
        self.size / PAGE_SIZE
    }
}

/// What the FDT and the boot loader say.
#[derive(Debug)]
pub struct Machine {
    /// Banks of RAM, in ascending order.
    pub ram: Vec<Range, 16>,
    /// Parts of RAM that are in use: the image, the FDT, the boot modules, firmware's reservations.
    pub reserved: Vec<Range, 16>,
    /// The microkernel's image in memory.
    pub image: Range,
    /// Dom0's image, as the boot loader left it.
    pub dom0_image: Range,
    /// Dom0's command line.
    pub dom0_args: String<256>,
    /// Our own command line.
    pub cmdline: String<256>,
    /// The host's FDT.
    pub fdt: Range,
    /// MMIO pages that go to Dom0.
    pub devices: Vec<Range, 64>,
    /// Shared interrupts that go to Dom0.
    pub interrupts: Vec<IntId, 288>,
    /// The physical distributor.
    pub gicd: Range,
    /// The physical redistributors.
    pub gicr: Range,
}

impl Machine {
    /// The value of `key=value` on our command line.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.cmdline.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}
