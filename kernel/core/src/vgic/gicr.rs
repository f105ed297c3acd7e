//! A redistributor's registers, in its RD and SGI frames of 64 KiB (Arm IHI 0069H, sections 12.10 and 12.11).
//! Whatever is not listed reads as zero and ignores writes, at any offset and width.

use super::bank::first_irq;
use super::queue::Lr;
use super::{Distributor, IIDR, PIDR2, PRIVATE, VcpuGic, Vcpus, Wake, affinity, low};
use crate::hw::{Hw, IntId};
use crate::vtimer;

const VTIMER_BIT: u32 = 1 << vtimer::VIRTUAL_PPI;
/// Where the SGI frame starts.
const SGI_FRAME: u64 = 0x1_0000;
const ISENABLER0: u64 = 0x100;
/// Software-generated interrupts are edges, always.
const ICFGR0: u64 = 0xC00;

impl Distributor {
    #[inline]
    pub(super) fn read_redist<H: Hw>(
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
            (SGI_FRAME.., _) => gic.read_private::<H>(offset - SGI_FRAME, size),
            _ => 0,
        })
    }

    #[inline]
    pub(crate) fn write_redist<H: Hw>(
        &self,
        vcpus: &(impl Vcpus + ?Sized),
        index: usize,
        offset: u64,
        size: u8,
        value: u64,
    ) -> Option<Wake> {
        let gic = vcpus.gic(index)?;
        let mut wake = Wake::NONE;
        if offset >= SGI_FRAME && gic.write_private::<H>(offset - SGI_FRAME, size, value) {
            wake.add(index);
        }
        Some(wake)
    }
}

impl VcpuGic {
    fn read_private<H: Hw>(&self, offset: u64, size: u8) -> u64 {
        if first_irq(offset) >= PRIVATE {
            return 0;
        }
        let state = &*self.lock();
        state.bank.read(offset, size, |kind| {
            let timer = kind == Lr::PENDING && state.queue.is_here::<H>() && vtimer::line::<H>();
            state.queue.held::<H>(0, kind) | if timer { VTIMER_BIT } else { 0 }
        })
    }

    /// True if the vCPU must be notified.
    fn write_private<H: Hw>(&self, offset: u64, size: u8, value: u64) -> bool {
        if first_irq(offset) >= PRIVATE || offset == ICFGR0 {
            return false;
        }
        if offset == ISENABLER0 && low(value) & VTIMER_BIT != 0 {
            self.drop_stale_timer::<H>();
        }
        self.change(|bank, own| bank.write::<H>(offset, size, value, own))
    }

    /// A timer interrupt that came while it was disabled is delivered only if the timer still wants it.
    fn drop_stale_timer<H: Hw>(&self) {
        let mut state = self.lock();
        let stale = VTIMER_BIT & state.bank.latch & !state.bank.enabled;
        if stale != 0 && state.queue.is_here::<H>() && !vtimer::line::<H>() {
            state.bank.latch &= !VTIMER_BIT;
            H::deactivate(IntId(vtimer::VIRTUAL_PPI));
        }
    }
}
