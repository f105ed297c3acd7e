//! The virtual timer, which the guest programs itself, and the physical timer, which traps.
//!
//! The virtual timer's physical interrupt comes to EL2 and is passed on linked, so that the guest's own
//! deactivation ends it. While a vCPU is on no pCPU its deadline goes to the kernel's timers. The physical timer
//! (`CNTP_*_EL0`) is only registers here, with the kernel's timers behind them.

use hypercall_abi::arm::{GUEST_TIMER_PHYS_NS_PPI, GUEST_TIMER_VIRT_PPI};

use crate::context::El1Context;
use crate::hw::{Hw, IntId, NEVER, Ticks};
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::sync::{AtomicU64, Ordering};
use crate::vcpu::Vcpu;

/// Fields of `CNT*_CTL_EL0`.
const ENABLE: u64 = 1 << 0;
const IMASK: u64 = 1 << 1;
const ISTATUS: u64 = 1 << 2;

/// When the virtual timer of a vCPU with these registers will interrupt; [`NEVER`] if it is off, or past all time.
pub fn deadline(el1: &El1Context) -> Ticks {
    let armed = el1.cntv_ctl_el0 & (ENABLE | IMASK) == ENABLE;
    if armed { el1.cntv_cval_el0.saturating_add(el1.cntvoff_el2) } else { NEVER }
}

/// Whether the virtual timer of a vCPU with these registers wants to interrupt at `now`.
pub fn is_due(el1: &El1Context, now: Ticks) -> bool {
    now >= deadline(el1)
}

/// Whether the virtual timer of the vCPU on this pCPU holds its interrupt line high.
pub(crate) fn line<H: Hw>() -> bool {
    H::timer_control() & (ENABLE | IMASK | ISTATUS) == ENABLE | ISTATUS
}

/// The physical interrupt of the virtual timer has come in. It stays active until the guest ends it.
#[inline(never)]
pub fn on_physical<H: Hw>(cpu: &LocalCpu<H>) {
    if let Some(current) = &cpu.current {
        current.vcpu.gic.raise_if::<H>(GUEST_TIMER_VIRT_PPI, true, None);
    } else {
        // The timer of a vCPU that has just been taken off; it stands in the kernel's queue already.
        H::deactivate(IntId(GUEST_TIMER_VIRT_PPI));
    }
}

/// The emulated physical timer of a vCPU. Changed under the lock of the vCPU's GIC, as its line is: an alarm may go off late,
/// when the vCPU runs again. Relaxed: whoever looks without the lock and finds old ones is interrupted or notified.
#[derive(Debug, Default)]
pub struct PhysicalTimer {
    control: AtomicU64,
    compare: AtomicU64,
}

impl PhysicalTimer {
    /// When it will interrupt; [`NEVER`] if it is off, or has interrupted: the guest writes a register then.
    pub fn deadline(&self) -> Ticks {
        let armed = self.control.load(Ordering::Relaxed) & (ENABLE | IMASK | ISTATUS) == ENABLE;
        if armed { self.compare.load(Ordering::Relaxed) } else { NEVER }
    }

    /// `CNTP_CTL_EL0` at `now`.
    fn control(&self, now: Ticks) -> u64 {
        let control = self.control.load(Ordering::Relaxed) & (ENABLE | IMASK);
        let met = control & ENABLE != 0 && now >= self.compare.load(Ordering::Relaxed);
        control | if met { ISTATUS } else { 0 }
    }
}

/// A trapped access to the physical timer of the vCPU that runs here: to `CNTP_TVAL_EL0`, `CNTP_CTL_EL0` or
/// `CNTP_CVAL_EL0`, told apart by the `op2` of their encodings. What a write answers has no meaning.
#[inline(never)]
pub fn access<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, vcpu: &Vcpu<H>, op2: u32, write: Option<u64>) -> u64 {
    const TVAL: u32 = 0;
    const CTL: u32 = 1;
    let (PhysicalTimer { control, compare }, now) = (&vcpu.ptimer, H::now());
    let write = match (op2, write) {
        (TVAL, None) => return compare.load(Ordering::Relaxed).wrapping_sub(now) & 0xFFFF_FFFF,
        (CTL, None) => return vcpu.ptimer.control(now),
        (_, None) => return compare.load(Ordering::Relaxed),
        // The 32 bits count as signed.
        (TVAL, Some(value)) => (compare, now.wrapping_add_signed(i64::from((value & 0xFFFF_FFFF) as u32 as i32))),
        (CTL, Some(value)) => (control, value),
        (_, Some(value)) => (compare, value),
    };
    update(vcpu, now, Some(write));
    // The pCPU sets its timer as it chooses.
    kernel.sched.poke(cpu.id);
    0
}

/// Writes a register of the physical timer, sets its line as it must be at `now`, and notes that, so that nobody waits for
/// its time again. True if the caller must notify the vCPU.
fn update<H: Hw>(vcpu: &Vcpu<H>, now: Ticks, write: Option<(&AtomicU64, u64)>) -> bool {
    vcpu.gic.set_level::<H>(GUEST_TIMER_PHYS_NS_PPI, || {
        if let Some((register, value)) = write {
            register.store(value, Ordering::Relaxed);
        }
        let control = vcpu.ptimer.control(now);
        vcpu.ptimer.control.store(control, Ordering::Relaxed);
        control & (ENABLE | IMASK | ISTATUS) == ENABLE | ISTATUS
    })
}

/// A deadline of the vCPU has passed: the line of its physical timer rises if that was it.
pub fn expire<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>, now: Ticks) {
    if update(vcpu, now, None) {
        kernel.notify(vcpu);
    }
}
