//! Software-generated interrupts: a write to `ICC_SGI1R_EL1` or `ICC_SGI0R_EL1`, which traps (Arm IHI 0069H,
//! section 12.2.23).

use super::{bits, low};
use crate::domain::MAX_VCPUS;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::Current;

/// The vCPUs that a value of the register names, a bit each, if vCPU `sender` writes it. They need not exist.
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

/// Carries out a write to the register of group 0 or 1 by the vCPU that runs here.
#[inline(never)]
pub fn send<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, value: u64, group1: bool) {
    let (sender, irq) = (current.vcpu.id.0, low(value >> 24 & 0xF));
    let targets = targets(value, sender);
    if targets == 1 << (sender & 63) {
        current.vcpu.gic.raise_own_sgi::<H>(irq, group1);
    } else {
        send_to_others(kernel, current, targets, irq, group1);
    }
}

#[inline(never)]
fn send_to_others<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, targets: u64, irq: u32, group1: bool) {
    for vcpu in bits(targets).map_while(|index| current.domain.vcpus().get(index as usize)) {
        if vcpu.gic.raise_sgi::<H>(irq, group1) {
            kernel.notify(vcpu);
        }
    }
}
