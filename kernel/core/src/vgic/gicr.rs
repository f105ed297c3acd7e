//! A redistributor's registers, in its RD and SGI frames of 64 KiB (Arm IHI 0069H, sections 12.10 and 12.11).
//! Whatever is not listed reads as zero and ignores writes, at any offset and width.

use super::queue::Flags;
use super::{Distributor, IIDR, PIDR2, VcpuGic, Vcpus, Wake, affinity, low};
use crate::hw::{Hw, IntId};
use crate::vtimer;

const VTIMER_BIT: u32 = 1 << vtimer::VIRTUAL_PPI;

impl Distributor {
    /// Reads `size` bytes at `offset` of the redistributor of vCPU `index`; `None` if there is no such vCPU.
    pub fn read_redist<H: Hw>(
        &self,
        vcpus: &(impl Vcpus + ?Sized),
        index: usize,
        offset: u64,
        size: u8,
    ) -> Option<u64> {
        let gic = vcpus.gic(index)?;
        let last = index + 1 == vcpus.count();
        let typer = affinity(index) << 32 | (index as u64) << 8 | u64::from(last) << 4;
        Some(match (offset, size) {
            (0x0004, 4) => IIDR,
            (0x0008, 8) => typer,
            (0x0008, 4) => u64::from(low(typer)),
            (0x000C, 4) => typer >> 32,
            (0xFFE8 | 0x1_FFE8, 4) => PIDR2,
            (0x1_0000.., _) => gic.read_private::<H>(offset - 0x1_0000, size),
            _ => 0,
        })
    }

    /// Writes `size` bytes at `offset` of the redistributor of vCPU `index`; `None` if there is no such vCPU.
    pub fn write_redist<H: Hw>(
        &self,
        vcpus: &(impl Vcpus + ?Sized),
        index: usize,
        offset: u64,
        size: u8,
        value: u64,
    ) -> Option<Wake> {
        let gic = vcpus.gic(index)?;
        let mut wake = Wake::NONE;
        if offset >= 0x1_0000 && gic.write_private::<H>(offset - 0x1_0000, size, value) {
            wake.add(index);
        }
        Some(wake)
    }
}

impl VcpuGic {
    fn read_private<H: Hw>(&self, offset: u64, size: u8) -> u64 {
        let state = &*self.lock();
        let (bank, queue) = (&state.bank, &state.queue);
        match (offset, size) {
            (0x0080, 4) => u64::from(bank.group1),
            (0x0100 | 0x0180, 4) => u64::from(bank.enabled),
            (0x0200 | 0x0280, 4) => {
                let timer = queue.is_here::<H>() && vtimer::line::<H>();
                let line = if timer { VTIMER_BIT } else { 0 };
                u64::from(bank.pending() | queue.held::<H>(0, Flags::PENDING) | line)
            }
            (0x0300 | 0x0380, 4) => u64::from(queue.held::<H>(0, Flags::ACTIVE)),
            (0x0400..0x0420, 1 | 4) => bank.priorities(low(offset - 0x400) as usize, usize::from(size)),
            (0x0C00 | 0x0C04, 4) => bank.config(low(offset - 0xC00) / 4),
            _ => 0,
        }
    }

    /// True if the vCPU must be notified.
    fn write_private<H: Hw>(&self, offset: u64, size: u8, value: u64) -> bool {
        let mask = low(value);
        match (offset, size) {
            (0x0080, 4) => self.change(|bank, _| bank.set_groups(mask)),
            (0x0100, 4) => self.enable_private::<H>(mask),
            (0x0180, 4) => self.change(|bank, own| bank.disable::<H>(mask, own)),
            (0x0200, 4) => self.change(|bank, own| bank.set_pending(mask, own)),
            (0x0280, 4) => self.change(|bank, own| bank.clear_pending::<H>(mask, own)),
            (0x0300, 4) => self.change(|bank, own| bank.set_active(mask, own)),
            (0x0380, 4) => self.change(|bank, own| bank.clear_active::<H>(mask, own)),
            (0x0400..0x0420, 1 | 4) => {
                let at = low(offset - 0x400) as usize;
                self.change(|bank, _| bank.set_priorities(at, usize::from(size), value))
            }
            (0x0C04, 4) => self.change(|bank, _| bank.set_config(1, mask)),
            _ => false,
        }
    }

    /// A timer interrupt that came while it was disabled is delivered only if the timer still wants it.
    fn enable_private<H: Hw>(&self, mask: u32) -> bool {
        let mut state = self.lock();
        let stale = mask & VTIMER_BIT & state.bank.latch & !state.bank.enabled;
        if stale != 0 && state.queue.is_here::<H>() && !vtimer::line::<H>() {
            state.bank.latch &= !VTIMER_BIT;
            H::deactivate(IntId(vtimer::VIRTUAL_PPI));
        }
        drop(state);
        self.change(|bank, own| bank.enable(mask, own))
    }
}
