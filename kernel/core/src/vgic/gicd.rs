//! The distributor's registers (Arm IHI 0069H, section 12.8). Whatever is not listed reads as zero and ignores
//! writes, at any offset and width.

use super::dist::{Distributor, Spis};
use super::queue::Flags;
use super::{IIDR, PIDR2, PRIVATE, Vcpus, Wake, low};
use crate::hw::{Hw, IntId};

/// `CTLR.ARE` and `CTLR.DS`: affinity routing and one security state, always.
const CTLR_FIXED: u64 = 1 << 4 | 1 << 6;
/// `TYPER.No1N`: interrupts for "any" go to one vCPU. `IDbits`: interrupt ids have ten bits.
const TYPER_FIXED: u64 = 1 << 25 | 9 << 19;

impl Distributor {
    /// Reads `size` bytes at `offset`.
    pub fn read<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), offset: u64, size: u8) -> u64 {
        match (offset, size) {
            (0x0004, 4) => TYPER_FIXED | self.banks as u64,
            (0x0008, 4) => IIDR,
            (0xFFE8, 4) => PIDR2,
            _ => self.read_state::<H>(vcpus, offset, size),
        }
    }

    fn read_state<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), offset: u64, size: u8) -> u64 {
        let spis = &mut *self.lock();
        match (offset, size) {
            (0x0000, 4) => CTLR_FIXED | u64::from(spis.groups),
            (0x0080..0x0400, 4) => read_bits::<H>(spis, vcpus, offset),
            (0x0400..0x0800, 1 | 4) => {
                let irq = low(offset - 0x400);
                spis.bank(irq).map_or(0, |bank| bank.priorities(irq as usize % 32, usize::from(size)))
            }
            (0x0C00..0x0D00, 4) => {
                let irq = low(offset - 0xC00) * 4;
                spis.bank(irq).map_or(0, |bank| bank.config(irq / 16))
            }
            (0x6000..0x8000, 4 | 8) => {
                let irq = low(offset - 0x6000) / 8;
                let route = spis.shared(irq).map_or(0, |shared| shared.route(irq));
                if size == 8 { route } else { route >> (offset % 8 * 8) & 0xFFFF_FFFF }
            }
            _ => 0,
        }
    }

    /// Writes `size` bytes at `offset`.
    pub fn write<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), offset: u64, size: u8, value: u64) -> Wake {
        match (offset, size) {
            (0x0000, 4) => self.set_groups(vcpus, value),
            (0x0080..0x0400, 4) => self.write_bits::<H>(vcpus, offset, low(value)),
            (0x0400..0x0800, 1 | 4) => {
                let irq = low(offset - 0x400);
                self.change(vcpus, irq, |bank, _| bank.set_priorities(irq as usize % 32, usize::from(size), value))
            }
            (0x0C00..0x0D00, 4) => {
                let irq = low(offset - 0xC00) * 4;
                self.change(vcpus, irq, |bank, _| bank.set_config(irq / 16, low(value)))
            }
            (0x6000..0x8000, 4 | 8) => {
                let irq = low(offset - 0x6000) / 8;
                let mut spis = self.lock();
                let Some(shared) = spis.shared(irq) else { return Wake::NONE };
                let old = shared.route(irq);
                let new = match (size, offset % 8) {
                    (8, _) => value,
                    (_, 0) => old >> 32 << 32 | u64::from(low(value)),
                    (_, _) => u64::from(low(old)) | value << 32,
                };
                shared.set_route::<H>(irq, new, vcpus)
            }
            _ => Wake::NONE,
        }
    }

    fn set_groups(&self, vcpus: &(impl Vcpus + ?Sized), value: u64) -> Wake {
        let mut spis = self.lock();
        spis.groups = (value & 3) as u8;
        let mut wake = Wake::NONE;
        for (index, gic) in (0..vcpus.count()).filter_map(|index| Some((index, vcpus.gic(index)?))) {
            if gic.set_groups(spis.groups) {
                wake.add(index);
            }
        }
        wake
    }

    fn write_bits<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), offset: u64, mask: u32) -> Wake {
        let irq = low(offset % 0x80) * 8;
        self.change(vcpus, irq, |bank, routes| match offset / 0x80 {
            1 => bank.set_groups(mask),
            2 => {
                physical::<H>(mask & bank.linked & !bank.enabled, irq, true);
                bank.enable(mask, routes);
            }
            3 => {
                physical::<H>(mask & bank.linked & bank.enabled, irq, false);
                bank.disable::<H>(mask, routes);
            }
            4 => bank.set_pending(mask, routes),
            5 => bank.clear_pending::<H>(mask, routes),
            6 => bank.set_active(mask, routes),
            7 => bank.clear_active::<H>(mask, routes),
            _ => {}
        })
    }
}

fn read_bits<H: Hw>(spis: &Spis, vcpus: &(impl Vcpus + ?Sized), offset: u64) -> u64 {
    let irq = low(offset % 0x80) * 8;
    let Some(bank) = spis.bank(irq) else { return 0 };
    let held = |state| {
        let gics = (0..vcpus.count()).filter_map(|index| vcpus.gic(index));
        gics.fold(0, |mask, gic| mask | gic.held::<H>(irq, state))
    };
    u64::from(match offset / 0x80 {
        1 => bank.group1,
        2 | 3 => bank.enabled,
        4 | 5 => bank.pending() | held(Flags::PENDING),
        6 | 7 => held(Flags::ACTIVE),
        _ => 0,
    })
}

/// Passes the enabling of linked interrupts on to the physical GIC.
fn physical<H: Hw>(mask: u32, base: u32, on: bool) {
    for irq in super::bits(mask).map(|i| IntId(base + i)).filter(|irq| irq.0 >= PRIVATE) {
        if on {
            H::enable_interrupt(irq, H::pcpu());
        } else {
            H::disable_interrupt(irq);
        }
    }
}
