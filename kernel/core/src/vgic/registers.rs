//! The registers of the distributor, and of the redistributors in their RD and SGI frames of 64 KiB (Arm IHI 0069H,
//! sections 12.8 to 12.11). Whatever is not listed reads as zero and ignores writes, at any offset and width.

use super::bank::first_irq;
use super::lists::Lr;
use super::vcpu::VTIMER_BIT;
use super::{Frame, PRIVATE, VcpuGic, affinity, dist, low};
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::vtimer;

/// `CTLR.ARE` and `CTLR.DS`: affinity routing and one security state, always.
const CTLR_FIXED: u32 = 1 << 4 | 1 << 6;
/// `TYPER.No1N`: interrupts for "any" go to one vCPU. `IDbits`: interrupt ids have ten bits.
const TYPER_FIXED: u64 = 1 << 25 | 9 << 19;
/// `IIDR`: implementer Arm, nothing else said.
const IIDR: u64 = 0x43B;
/// `PIDR2`: GICv3.
const PIDR2: u64 = 0x3B;
/// Where the SGI frame of a redistributor starts.
const SGI_FRAME: u64 = 0x1_0000;
/// Software-generated interrupts are edges, always.
const ISENABLER0: u64 = 0x100;
const ICFGR0: u64 = 0xC00;

/// The interrupt of the `IROUTER` at `offset`.
const fn routed(offset: u64) -> u32 {
    low(offset - 0x6000) / 8
}

/// Reads `size` bytes of a register, which are the lowest of the result; `None` if it is of a vCPU that does not exist.
#[inline]
pub fn read<H: Hw>(domain: &Domain<H>, at: Frame, size: u8) -> Option<u64> {
    Some(match at {
        Frame::Distributor(offset) => match (offset, size) {
            (0x0004, 4) => TYPER_FIXED | domain.dist.banks as u64,
            (0x0008, 4) => IIDR,
            (0xFFE8, 4) => PIDR2,
            _ => read_state(domain, offset, size),
        },
        Frame::Redistributor(index, offset) => {
            let gic = &domain.vcpus().get(index)?.gic;
            match (offset, size) {
                (0x0004, 4) => IIDR,
                (0x0008 | 0x000C, 4 | 8) => {
                    let last = index + 1 == domain.vcpus().len();
                    let typer = affinity(index) << 32 | (index as u64) << 8 | u64::from(last) << 4;
                    typer >> (offset % 8 * 8)
                }
                (0xFFE8 | 0x1_FFE8, 4) => PIDR2,
                (SGI_FRAME.., _) => gic.read_private::<H>(offset - SGI_FRAME, size),
                _ => 0,
            }
        }
    })
}

fn read_state<H: Hw>(domain: &Domain<H>, offset: u64, size: u8) -> u64 {
    let (spis, vcpus) = (&mut *domain.dist.lock(), domain.vcpus());
    match (offset, size) {
        (0x0000, 4) => u64::from(CTLR_FIXED | vcpus.first().map_or(0, |vcpu| vcpu.gic.lock().bank.groups)),
        (0x0080..0x0D00, _) => spis.bank(first_irq(offset)).map_or(0, |bank| {
            bank.read(offset, size, |state| {
                vcpus.iter().fold(0, |mask, vcpu| mask | vcpu.gic.lock().lists.held::<H>(bank.base, state))
            })
        }),
        (0x6000..0x8000, 4 | 8) if offset.is_multiple_of(8) => {
            spis.get(routed(offset)).map_or(0, |shared| u64::from(shared.route[routed(offset) as usize % 32]))
        }
        _ => 0,
    }
}

/// Writes `size` bytes of a register; `None` if it is of a vCPU that does not exist.
#[inline]
pub fn write<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, at: Frame, size: u8, value: u64) -> Option<()> {
    match at {
        Frame::Distributor(offset) => write_state(kernel, domain, offset, size, value),
        Frame::Redistributor(index, offset) => {
            let vcpu = domain.vcpus().get(index)?;
            if offset >= SGI_FRAME && vcpu.gic.write_private::<H>(offset - SGI_FRAME, size, value) {
                kernel.notify(vcpu);
            }
        }
    }
    Some(())
}

#[inline(never)]
fn write_state<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, offset: u64, size: u8, value: u64) {
    match (offset, size) {
        (0x0000, 4) => {
            for shared in domain.dist.lock().0.iter_mut() {
                let touched = shared.bank.set_groups(low(value & 3));
                shared.settle(kernel, domain, touched);
            }
            for vcpu in domain.vcpus() {
                if vcpu.gic.change::<H>(|bank, _| bank.set_groups(low(value & 3))) {
                    kernel.notify(vcpu);
                }
            }
        }
        (0x0080..0x0D00, _) => dist::change(kernel, domain, first_irq(offset), |shared| {
            shared.bank.write::<H>(offset, size, value, || true)
        }),
        // The upper half is affinity 3, which is always 0.
        (0x6000..0x8000, 4 | 8) if offset.is_multiple_of(8) => {
            dist::change(kernel, domain, routed(offset), |shared| shared.set_route(routed(offset), low(value)))
        }
        _ => {}
    }
}

impl VcpuGic {
    fn read_private<H: Hw>(&self, offset: u64, size: u8) -> u64 {
        if first_irq(offset) >= PRIVATE {
            return 0;
        }
        let state = &*self.lock();
        state.bank.read(offset, size, |kind| {
            let timer = kind == Lr::PENDING && state.lists.is_here::<H>() && vtimer::line::<H>();
            state.lists.held::<H>(0, kind) | if timer { VTIMER_BIT } else { 0 }
        })
    }

    /// True if the vCPU must be notified.
    fn write_private<H: Hw>(&self, offset: u64, size: u8, value: u64) -> bool {
        if first_irq(offset) >= PRIVATE || offset == ICFGR0 {
            return false;
        }
        if offset == ISENABLER0 && low(value) & VTIMER_BIT != 0 {
            self.drop_late_timer::<H>();
        }
        self.change::<H>(|bank, lists| bank.write::<H>(offset, size, value, || lists.is_here::<H>()))
    }
}
