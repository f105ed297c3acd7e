//! The registers of the distributor, and of the redistributors in their RD and SGI frames of 64 KiB (Arm IHI 0069H,
//! sections 12.8 to 12.11). Whatever is not listed reads as zero and ignores writes, at any offset and width.

use hypercall_abi::arm::{GICV3_GICR_STRIDE, GUEST_GICV3_GICD_SIZE, vcpu_affinity};

use super::bank::{Bank, first_irq};
use super::private::Private;
use super::vcpu::{ALL, VTIMER_BIT};
use super::{GicLayout, PRIVATE, VcpuGic, dist, low, v2};
use crate::addr::Ipa;
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::vcpu::Vcpu;
use crate::vtimer;

/// `CTLR.ARE` and `CTLR.DS`: affinity routing and one security state, always.
const CTLR_FIXED: u32 = 1 << 4 | 1 << 6;
/// `TYPER.No1N`: interrupts for "any" go to one vCPU. `IDbits`: interrupt ids have ten bits.
pub(super) const TYPER_FIXED: u64 = 1 << 25 | 9 << 19;
/// `IIDR`: implementer Arm, nothing else said.
const IIDR: u64 = 0x43B;
/// `PIDR2`: GICv3.
const PIDR2: u64 = 0x3B;
/// Where the SGI frame of a redistributor starts.
const SGI_FRAME: u64 = 0x1_0000;
pub(super) const ISENABLER0: u64 = 0x100;

/// The interrupt of the `IROUTER` at `offset`.
const fn routed(offset: u64) -> u32 {
    low(offset - 0x6000) / 8
}

/// The bits of a register of interrupts at `offset` that stand for one: numbers from 1020 on do not.
const fn existing(offset: u64) -> u64 {
    match (offset, offset % 0x80) {
        (0x080..0x400, 0x7C) => 0x0FFF_FFFF,
        (0xCFC, _) => 0x00FF_FFFF,
        (0x7FC..0x800, _) => 0,
        _ => u64::MAX,
    }
}

/// A load (`None`) or store of `size` bytes at `ipa` by the vCPU that runs here. What was loaded is in the lowest bytes; what a
/// store answers has no meaning. `None` if no frame of registers is there.
#[inline(always)]
pub fn access<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, ipa: Ipa, size: u8, store: Option<u64>) -> Option<u64> {
    let GicLayout { dist, redist, redist_size, .. } = domain.dist.layout;
    let offset = ipa.raw().wrapping_sub(dist.raw());
    if offset < GUEST_GICV3_GICD_SIZE {
        return Some(match (offset, size, store) {
            (0x0004, 4, None) => domain.dist.typer,
            (0x0008, 4, None) => IIDR,
            (0xFFE8, 4, None) => PIDR2,
            _ => distributor(kernel, domain, offset, size, store),
        });
    }
    let offset = ipa.raw().wrapping_sub(redist.raw());
    let index = usize::try_from(offset / GICV3_GICR_STRIDE).ok().filter(|_| offset < redist_size)?;
    let vcpu = domain.vcpus().get(index)?;
    Some(match (offset % GICV3_GICR_STRIDE, size, store) {
        (0x0004, 4, None) => IIDR,
        (0x0008 | 0x000C, 4 | 8, None) => {
            let last = index + 1 == domain.vcpus().len();
            let typer = u64::from(vcpu_affinity(vcpu.id.0)) << 32 | (index as u64) << 8 | u64::from(last) << 4;
            typer >> (offset % 8 * 8)
        }
        (0xFFE8 | 0x1_FFE8, 4, None) => PIDR2,
        (at @ SGI_FRAME.., _, None) => read_private(kernel, vcpu, at - SGI_FRAME, size),
        (at @ SGI_FRAME.., _, Some(value)) => {
            if vcpu.gic.write_private::<H>(at - SGI_FRAME, size, value) {
                kernel.notify(vcpu);
            }
            0
        }
        _ => 0,
    })
}

/// The registers of the distributor that change.
#[inline(never)]
fn distributor<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, offset: u64, size: u8, store: Option<u64>) -> u64 {
    if domain.dist.layout.is_v2()
        && let Some(value) = v2::access(kernel, domain, offset, size, store)
    {
        return value;
    }
    match (offset, size, store) {
        (0x0000, 4, None) => return u64::from(CTLR_FIXED | domain.dist.spis.lock().first.groups),
        (0x0000, 4, Some(value)) => set_groups(kernel, domain, low(value & 3)),
        (0x0080..0x0D00, _, None) => {
            let value = domain.dist.spis.lock().bank(first_irq(offset)).map_or(0, |bank| {
                bank.read(offset, size, |kind| {
                    let held = |vcpu: &H::Shared<Vcpu<H>>| held(kernel, vcpu, &vcpu.gic.state.lock(), bank.base, kind);
                    domain.vcpus().iter().fold(0, |mask, vcpu| mask | held(vcpu))
                })
            });
            return value & existing(offset);
        }
        (0x0080..0x0D00, _, Some(value)) => {
            let value = value & existing(offset);
            dist::change(kernel, domain, first_irq(offset), |bank| {
                let (enabled, edge) = (bank.enabled, bank.edge);
                let touched = bank.write(offset, size, value, Bank::end::<H>);
                bank.configure::<H>(bank.enabled ^ enabled | bank.edge ^ edge);
                touched
            });
        }
        // The upper half is affinity 3, which is always 0.
        (0x6000..0x8000, 4 | 8, None) if offset.is_multiple_of(8) => {
            let route = |bank: &mut Bank| u64::from(bank.route[routed(offset) as usize % 32]);
            return domain.dist.spis.lock().bank(routed(offset)).map_or(0, route);
        }
        (0x6000..0x8000, 4 | 8, Some(value)) if offset.is_multiple_of(8) => {
            dist::change(kernel, domain, routed(offset), |bank| bank.set_route(routed(offset), low(value)));
        }
        _ => {}
    }
    0
}

/// The groups that the distributor forwards.
fn set_groups<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, groups: u32) {
    for bank in domain.dist.spis.lock().iter_mut() {
        let touched = bank.set_groups(groups);
        bank.settle(kernel, domain, touched);
    }
    for vcpu in domain.vcpus() {
        // With a GICv2 SGIs may wait that are not in the bank.
        if vcpu.gic.change::<H>(|state| state.bank.set_groups(groups)) || domain.dist.layout.is_v2() {
            vcpu.gic.mark(ALL);
            kernel.notify(vcpu);
        }
    }
}

/// Which of the 32 interrupts from `base` are in one of these states in the list registers of a vCPU. What those of another
/// pCPU hold may have changed: the vCPU is made to look, so that whoever asks again knows.
fn held<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>, own: &Private, base: u32, states: u64) -> u32 {
    if own.used != 0 && !own.is_here::<H>() {
        vcpu.gic.mark(ALL);
        kernel.notify(vcpu);
    }
    own.held::<H>(base, states)
}

pub(super) fn read_private<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>, offset: u64, size: u8) -> u64 {
    if first_irq(offset) >= PRIVATE {
        return 0;
    }
    let own = &*vcpu.gic.state.lock();
    let value = own.bank.read(offset, size, |kind| held(kernel, vcpu, own, 0, kind));
    // The line of the virtual timer may have moved since its interrupt came.
    if matches!((offset, size), (0x200 | 0x280, 4)) && own.is_here::<H>() {
        let line = if vtimer::line::<H>() { VTIMER_BIT } else { 0 };
        return value & !u64::from(VTIMER_BIT) | u64::from(line);
    }
    value
}

impl VcpuGic {
    /// True if the vCPU must be notified. In line, since a store to a redistributor is a hot path.
    #[inline(always)]
    fn write_private<H: Hw>(&self, offset: u64, size: u8, value: u64) -> bool {
        if first_irq(offset) >= PRIVATE {
            return false;
        }
        if offset == ISENABLER0 && low(value) & VTIMER_BIT != 0 {
            self.drop_late_timer::<H>();
        }
        self.change::<H>(|Private { bank, on, orphaned, .. }| {
            // The physical one is that of the pCPU where the vCPU runs, and was ended if it runs nowhere.
            let end = |_: &Bank, linked| *orphaned |= if on.is_some() { linked } else { 0 };
            bank.write(offset, size, value, end)
        })
    }
}
