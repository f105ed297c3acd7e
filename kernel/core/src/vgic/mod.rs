//! The virtual GICv3: distributor, redistributors and software-generated interrupts (Arm IHI 0069H). On a host with a GICv2
//! guests see such a one (Arm IHI 0048B), whose other registers are in [`v2`].
//!
//! The guest takes and ends interrupts at the GIC's virtual CPU interface without an exit. EL2 keeps what that
//! interface does not know: which interrupts are enabled and pending ([`bank`]). Whoever changes that marks the vCPU
//! that is concerned, and kicks it if it runs. Before a vCPU goes on it looks at its marks, and if there are any it takes
//! back what its list registers hold and fills them anew with the most urgent interrupts ([`flush`]).
//!
//! Locks: a distributor's lock guards the shared interrupts of the domain; a [`VcpuGic`]'s lock guards the private
//! interrupts and the list registers of one vCPU. The distributor's is taken first, and never two vCPUs' at once.

mod bank;
mod dist;
mod private;
mod registers;
mod spis;
#[cfg(test)]
mod tests;
mod v2;
mod vcpu;

use hypercall_abi::arm;
use hypercall_abi::ids::DomId;

use crate::addr::Ipa;
use crate::domain::MAX_VCPUS;
use crate::hw::{Hw, IntId};
use crate::kernel::Kernel;
use crate::local::{Current, LocalCpu};
use crate::machine::{Machine, Range};

pub use dist::{Distributor, flush, set_level};
pub(crate) use private::{MAX_LRS, is_pending};
pub use registers::access;
pub use v2::GICC_PAGES;
pub use vcpu::VcpuGic;

/// Private interrupts of a vCPU: 16 software-generated ones and 16 of its devices.
const PRIVATE: u32 = 32;

/// Where the guest sees the GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicLayout {
    /// First byte of the distributor's 64 KiB.
    pub dist: Ipa,
    /// First byte of the redistributors, 128 KiB for each vCPU.
    pub redist: Ipa,
    /// Bytes that the redistributors may fill.
    pub redist_size: u64,
    /// Of a GICv2, which has no redistributors: where the guest sees its CPU interface.
    pub cpu: Ipa,
    /// What it sees there; of a GICv3 empty.
    pub interface: Range,
}

impl GicLayout {
    /// Where Xen puts it for its guests.
    pub fn of_guest(machine: Option<&Machine>) -> GicLayout {
        let gicv2 = machine.and_then(|machine| machine.gicv2);
        GicLayout {
            dist: Ipa::new(arm::GUEST_GICV3_GICD_BASE),
            redist: Ipa::new(arm::GUEST_GICV3_GICR0_BASE),
            redist_size: if gicv2.is_some() { 0 } else { arm::GUEST_GICV3_GICR0_SIZE },
            cpu: Ipa::new(arm::GUEST_GICC_BASE),
            interface: gicv2.map_or_else(Range::default, |gic| gic.guest),
        }
    }

    /// Where the machine has its own, for the domain whose IPAs are PAs.
    pub fn of_host(machine: &Machine) -> GicLayout {
        let gicr = machine.gicr.first().copied().unwrap_or_default();
        GicLayout {
            dist: Ipa::new(machine.gicd.start.raw()),
            redist: Ipa::new(gicr.start.raw()),
            redist_size: gicr.size,
            cpu: Ipa::new(machine.gicv2.map_or(0, |gic| gic.cpu.start.raw())),
            interface: machine.gicv2.map_or_else(Range::default, |gic| gic.guest),
        }
    }

    /// Whether it is a GICv2.
    pub fn is_v2(&self) -> bool {
        self.interface.size != 0
    }

    /// The most vCPUs that the GIC knows.
    pub fn max_vcpus(&self) -> usize {
        if self.is_v2() { v2::MAX_VCPUS } else { MAX_VCPUS }
    }
}

/// The vCPUs that `sender` names by a value of `ICC_SGI<n>R_EL1` (Arm IHI 0069H, section 12.2.23), a bit each; there may be fewer.
#[inline]
fn targets(value: u64, sender: u32) -> u64 {
    const { assert!(MAX_VCPUS <= 64) };
    // Affinity 3 and 2 of every vCPU are 0, and its affinity 0 ends at 15, so that every other range of that is empty.
    let [aff3, range, aff2, aff1] = [48, 44, 32, 16].map(|bit| low(value >> bit));
    if value >> 40 & 1 != 0 {
        // All but the sender.
        !(1 << (sender & 63))
    } else if aff3 & 0xFF | range & 0xF | aff2 & 0xFF == 0 {
        (value & 0xFFFF).checked_shl((aff1 & 0xFF) * 16).unwrap_or(0)
    } else {
        0
    }
}

/// Sends a software-generated interrupt: a write of group 0 or 1's register by the vCPU that runs here.
#[inline(never)]
pub fn send_sgi<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, value: u64, group1: bool) {
    let (sender, irq) = (current.vcpu.id.0, low(value >> 24 & 0xF));
    let targets = targets(value, sender);
    if targets == 1 << (sender & 63) {
        // It runs here, and looks before it goes on.
        current.vcpu.gic.raise_if::<H>(irq, true, Some(group1));
    } else {
        send_to_others(kernel, current, targets, irq, group1);
    }
}

#[inline(never)]
fn send_to_others<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, targets: u64, irq: u32, group1: bool) {
    for vcpu in bits(targets).map_while(|index| current.domain.vcpus().get(index as usize)) {
        if vcpu.gic.raise_if::<H>(irq, false, Some(group1)) {
            kernel.notify(vcpu);
        }
    }
}

/// A shared interrupt of the machine has come in and is active: it goes to Dom0, which has all of them, and the
/// guest's own deactivation ends it. Without Dom0 it stays active, so that it does not come again.
#[inline(never)]
pub fn on_physical_spi<H: Hw>(kernel: &Kernel<H>, intid: IntId) {
    if let Some(domain) = kernel.domains.get(DomId::DOM0) {
        dist::change(kernel, &domain, intid.0, |bank| bank.raise(intid.0));
    }
}

/// The maintenance interrupt: the guest has ended a level interrupt whose line must be looked at again, or list
/// registers have become free.
#[inline(never)]
pub fn on_maintenance<H: Hw>(cpu: &LocalCpu<H>) {
    if let Some(current) = &cpu.current {
        current.vcpu.gic.mark(vcpu::ALL);
    }
}

/// The numbers of the bits set in `mask`.
fn bits(mask: impl Into<u64>) -> impl Iterator<Item = u32> {
    let mut mask = mask.into();
    core::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros());
        mask &= mask.wrapping_sub(1);
        bit
    })
}

/// The low half of a register value.
#[allow(clippy::cast_possible_truncation, reason = "the upper half is not wanted")]
const fn low(value: u64) -> u32 {
    value as u32
}
