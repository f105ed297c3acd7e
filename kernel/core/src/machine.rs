//! The machine as the boot code found it in the FDT, and what of its RAM is spoken for.

use heapless::Vec;

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::hw::MAX_PCPUS;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
        Range { start, size: end.raw().wrapping_sub(start.raw()) }
    }

    /// The parts that have no byte in common with `holes`, which need not be sorted.
    pub fn without(self, holes: &[Range]) -> impl Iterator<Item = Range> {
        let mut at = self.start;
        core::iter::from_fn(move || {
            while let Some(hole) = holes.iter().find(|hole| hole.start <= at && at < hole.end()) {
                at = hole.end();
            }
            let start = at;
            at = holes.iter().map(|hole| hole.start).filter(|hole| *hole > start).fold(self.end(), Pa::min);
            (start < self.end()).then(|| Range { start, size: at.raw() - start.raw() })
        })
    }
}

/// What a GICv2 has beside its distributor (Arm IHI 0048B, section 5.1): two pages each, but for the hypervisor's one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gicv2 {
    /// The CPU interface (GICC).
    pub cpu: Range,
    /// The control of the virtual CPU interfaces (GICH).
    pub hypervisor: Range,
    /// The virtual CPU interface (GICV), which a guest uses as its CPU interface.
    pub guest: Range,
}

/// What the FDT and the boot loader say.
#[derive(Debug, Default)]
pub struct Machine {
    /// Banks of RAM, in ascending order.
    pub ram: Vec<Range, 16>,
    /// Pages in use: the image, the FDT, the boot modules, firmware's, and what was taken from the RAM since.
    pub reserved: Vec<Range, 32>,
    /// The microkernel's image in memory.
    pub image: Range,
    /// The host's FDT.
    pub fdt: Range,
    /// Our own command line.
    pub cmdline: &'static str,
    /// Affinities of the pCPUs that are used.
    pub cpus: Vec<u64, MAX_PCPUS>,
    /// pCPUs that are left off since there are more.
    pub unused_cpus: usize,
    /// The physical distributor.
    pub gicd: Range,
    /// The regions of physical redistributors.
    pub gicr: Vec<Range, 8>,
    /// Where the GIC is a GICv2, which has no redistributors: the rest of it.
    pub gicv2: Option<Gicv2>,
    /// Dom0's image, as the boot loader left it.
    pub dom0_image: Range,
    /// Dom0's RAM, once it is taken.
    pub dom0_ram: Range,
}

impl Machine {
    /// Length of [`Machine::window`].
    pub const WINDOW_SIZE: u64 = 4 << 30;

    /// The value of `key=value` on our command line.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.cmdline.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// RAM that nothing is reserved in, in ascending order.
    pub fn free(&self) -> impl Iterator<Item = Range> {
        self.ram.iter().flat_map(|bank| bank.without(&self.reserved))
    }

    /// Reserves `size` bytes at a multiple of `align` in the lowest free RAM that has room: large blocks above stay
    /// whole, and devices reach it that have few address lines.
    pub fn take(&mut self, size: u64, align: u64) -> Option<Range> {
        let size = size.checked_next_multiple_of(PAGE_SIZE)?;
        let place = |part: Range| {
            let start = part.start.raw().checked_next_multiple_of(align)?;
            (start.checked_add(size)? <= part.end().raw()).then_some(Range { start: Pa::new(start), size })
        };
        let found = self.free().find_map(place)?;
        self.reserved.push(found).ok()?;
        Some(found)
    }

    /// All registers of the GIC.
    pub fn gic(&self) -> impl Iterator<Item = Range> {
        let rest = self.gicv2.into_iter().flat_map(|Gicv2 { cpu, hypervisor, guest }| [cpu, hypervisor, guest]);
        self.gicr.iter().copied().chain([self.gicd]).chain(rest)
    }

    /// Whether a range may hold device registers for Dom0: it is neither RAM, nor firmware's, nor the GIC's.
    pub fn may_be_device(&self, range: Range) -> bool {
        let mut ours = self.ram.iter().chain(&self.reserved).copied().chain(self.gic());
        range.end() > range.start && !ours.any(|other| other.overlaps(range))
    }

    /// Address space of Dom0 that holds nothing, for its grant table and the pages of others that it maps.
    pub fn window(&self) -> Ipa {
        let top = self.ram.last().map_or(0, |bank| bank.end().raw());
        Ipa::new(top.next_multiple_of(1 << 30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, size: u64) -> Range {
        Range { start: Pa::new(start), size }
    }

    fn machine() -> Machine {
        Machine {
            ram: Vec::from_iter([range(0x1000, 0x9000), range(0x2_0000, 0x1_0000)]),
            reserved: Vec::from_iter([range(0x6000, 0x1000), range(0x3000, 0x2000), range(0x4000, 0x1000)]),
            gicd: range(0x10_0000, 0x1_0000),
            gicr: Vec::from_iter([range(0x20_0000, 0x2_0000), range(0x30_0000, 0x2_0000)]),
            ..Machine::default()
        }
    }

    #[test]
    fn ram_is_free_where_nothing_is_reserved_in_whatever_order() {
        let free = [range(0x1000, 0x2000), range(0x5000, 0x1000), range(0x7000, 0x3000), range(0x2_0000, 0x1_0000)];
        assert!(machine().free().eq(free));
    }

    #[test]
    fn what_is_taken_is_aligned_in_one_bank_and_taken_once() {
        let mut machine = machine();
        assert_eq!(machine.take(0x1001, 0x1000), Some(range(0x1000, 0x2000)));
        assert_eq!(machine.take(0x1000, 0x4000), Some(range(0x8000, 0x1000)));
        assert_eq!(machine.take(0x1_0000, 0x1_0000), Some(range(0x2_0000, 0x1_0000)));
        assert_eq!(machine.take(0x2000, 0x1000), None, "pieces do not join");
        assert_eq!(machine.take(u64::MAX, 0x1000), None);
        assert!(machine.free().eq([range(0x5000, 0x1000), range(0x7000, 0x1000), range(0x9000, 0x1000)]));
    }

    #[test]
    fn neither_ram_nor_the_gic_is_a_device_and_no_range_that_wraps() {
        let machine = machine();
        assert!(machine.may_be_device(range(0xa000, 0x1_6000)));
        assert!(machine.may_be_device(range(0x900_0000, 0x1000)));
        let refused = [0x1000, 0x3000, 0x10_f000, 0x21_f000, 0x30_0000].map(|start| range(start, 0x1000));
        assert!(!refused.into_iter().any(|range| machine.may_be_device(range)));
        assert!(!machine.may_be_device(range(0x9000, 0x2000)));
        assert!(!machine.may_be_device(range(0x900_0000, 0)));
        assert!(!machine.may_be_device(range(u64::MAX - 0xfff, 0x2000)));
        assert!(!machine.may_be_device(range(0x900_0000, u64::MAX)));
    }
}
