//! The vCPU's own state: interrupt masks, waiting, barriers, counter and virtual timer.

use core::arch::asm;

/// Masks IRQs and says whether they were unmasked.
#[inline]
fn mask_irqs() -> bool {
    let daif: u64;
    // SAFETY: reads and sets the IRQ mask of this vCPU; masking affects no memory. Without `nomem`, the
    // compiler keeps accesses of a critical section behind this point.
    unsafe { asm!("mrs {}, daif", "msr daifset, #2", out(reg) daif, options(nostack, preserves_flags)) };
    daif & (1 << 7) == 0
}

/// Unmasks IRQs.
#[inline]
pub fn unmask_irqs() {
    // SAFETY: the vectors are installed before any Rust code that can reach this runs, and the interrupt path
    // touches only data behind critical sections.
    unsafe { asm!("msr daifclr, #2", options(nostack, preserves_flags)) };
}

/// With IRQs masked: sleeps until one is pending, unless `ready` says that there is work; then takes what is
/// pending.
#[inline]
pub fn idle_unless(ready: impl FnOnce() -> bool) {
    let were_unmasked = mask_irqs();
    if !ready() {
        // SAFETY: WFI returns when an interrupt is pending even though it is masked, so no wake-up is lost
        // between the check and the instruction.
        unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
    }
    unmask_irqs();
    debug_assert!(were_unmasked, "the executor idles with interrupts on");
}

/// Full barrier between this vCPU and its peers on shared pages.
#[inline]
pub fn full_barrier() {
    // SAFETY: a barrier has no other effect.
    unsafe { asm!("dmb ish", options(nostack, preserves_flags)) };
}

struct Masked;
critical_section::set_impl!(Masked);

// SAFETY: masking IRQs excludes every other access of this vCPU. Without the feature `smp` no other one is ever turned
// on; with it a lock keeps the others out, which its owner may take again. The state handed to `release` is what `acquire`
// found.
unsafe impl critical_section::Impl for Masked {
    unsafe fn acquire() -> bool {
        let were_unmasked = mask_irqs();
        #[cfg(feature = "smp")]
        super::smp::lock();
        were_unmasked
    }

    unsafe fn release(were_unmasked: bool) {
        #[cfg(feature = "smp")]
        super::smp::unlock();
        if were_unmasked {
            unmask_irqs();
        }
    }
}

/// The virtual counter, in ticks of [`counter_frequency`].
#[inline]
pub fn counter() -> u64 {
    let ticks: u64;
    // SAFETY: reading the counter has no effect; the ISB keeps it from being read early.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack, nomem, preserves_flags)) };
    ticks
}

/// Ticks of the counter per second.
#[inline]
pub fn counter_frequency() -> u64 {
    let hz: u64;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hz, options(nostack, nomem, pure, preserves_flags)) };
    hz
}

/// Arms the virtual timer for the counter value `at`.
#[inline]
pub fn arm_timer(at: u64) {
    // SAFETY: the timer belongs to this vCPU, and its interrupt is handled by `time`.
    unsafe {
        asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", "isb", in(reg) at, in(reg) 1u64,
            options(nostack, nomem, preserves_flags));
    }
}

/// Stops the virtual timer and lowers its interrupt.
#[inline]
pub fn disarm_timer() {
    // SAFETY: as for `arm_timer`.
    unsafe { asm!("msr cntv_ctl_el0, xzr", "isb", options(nostack, nomem, preserves_flags)) };
}

/// Stops this vCPU for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: masks everything and sleeps; nothing is left to be disturbed.
        unsafe { asm!("msr daifset, #15", "wfi", options(nostack, nomem)) };
    }
}
