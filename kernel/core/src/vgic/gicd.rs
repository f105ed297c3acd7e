//! The distributor's registers (Arm IHI 0069H, section 12.8). Whatever is not listed reads as zero and ignores
//! writes, at any offset and width.

use super::bank::first_irq;
use super::dist::Distributor;
use super::{IIDR, PIDR2, Vcpus, Wake, low};
use crate::hw::Hw;

/// `CTLR.ARE` and `CTLR.DS`: affinity routing and one security state, always.
const CTLR_FIXED: u64 = 1 << 4 | 1 << 6;
/// `TYPER.No1N`: interrupts for "any" go to one vCPU. `IDbits`: interrupt ids have ten bits.
const TYPER_FIXED: u64 = 1 << 25 | 9 << 19;

/// The interrupt of the `IROUTER` at `offset`.
const fn routed(offset: u64) -> u32 {
    low(offset - 0x6000) / 8
}

impl Distributor {
    #[inline]
    pub(super) fn read_dist<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), offset: u64, size: u8) -> u64 {
        match (offset, size) {
            (0x0004, 4) => TYPER_FIXED | self.banks as u64,
            (0x0008, 4) => IIDR,
            (0xFFE8, 4) => PIDR2,
            _ => self.read_state::<H>(vcpus, offset, size),
        }
    }

    fn read_state<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), offset: u64, size: u8) -> u64 {
        match (offset, size) {
            (0x0000, 4) => CTLR_FIXED | u64::from(self.lock().groups),
            (0x0080..0x0D00, _) => {
                let irq = first_irq(offset);
                self.lock()
                    .get(irq)
                    .map_or(0, |shared| shared.bank.read(offset, size, |state| held::<H>(vcpus, irq, state)))
            }
            (0x6000..0x8000, 4 | 8) => {
                let route = self.lock().get(routed(offset)).map_or(0, |shared| shared.route(routed(offset)));
                if size == 8 { route } else { route >> (offset % 8 * 8) & 0xFFFF_FFFF }
            }
            _ => 0,
        }
    }

    #[inline]
    pub(super) fn write_dist<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), offset: u64, size: u8, value: u64) -> Wake {
        match (offset, size) {
            (0x0000, 4) => self.set_groups(vcpus, value),
            (0x0080..0x0D00, _) => {
                self.change(vcpus, first_irq(offset), |bank, routes| bank.write::<H>(offset, size, value, routes))
            }
            (0x6000..0x8000, 4 | 8) => {
                let irq = routed(offset);
                let mut spis = self.lock();
                let Some(shared) = spis.get_mut(irq) else { return Wake::NONE };
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
}

/// Which of the 32 interrupts from `irq` are pending or active at any vCPU.
#[inline(never)]
fn held<H: Hw>(vcpus: &(impl Vcpus + ?Sized), irq: u32, state: u64) -> u32 {
    let gics = (0..vcpus.count()).filter_map(|index| vcpus.gic(index));
    gics.fold(0, |mask, gic| mask | gic.held::<H>(irq, state))
}
