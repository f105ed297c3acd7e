//! The clock, a piece of work, and sleep.

use core::arch::asm;

/// Turns of the loop that is a step.
const TURNS: u64 = 50;

/// The machine's clock: the physical counter.
pub fn now() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) ticks) };
    ticks
}

/// Ticks of the counter in a second.
pub fn frequency() -> u64 {
    let hz;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hz) };
    hz
}

/// Does a piece of work, always of the same length.
pub fn step() {
    // SAFETY: counts down a register.
    unsafe { asm!("1: subs {0}, {0}, #1", "b.ne 1b", inout(reg) TURNS => _) };
}

/// Sleeps until the machine's clock is at `at`, or for good if it is `u64::MAX`. Interrupts are masked all the time: one
/// that is pending ends the sleep, and is taken here. For good there is no timer: QEMU's clock would jump to it.
pub fn sleep_until(at: u64) {
    while now() < at {
        // SAFETY: the timer is this vCPU's; nobody else uses it, since the library runs no executor in this image. The
        // interrupt is acknowledged and ended by the registers of this vCPU's own CPU interface.
        unsafe {
            if at != u64::MAX {
                let virtual_now: u64;
                asm!("isb", "mrs {}, cntvct_el0", out(reg) virtual_now);
                let until = virtual_now.wrapping_add(at.wrapping_sub(now()));
                asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", "isb", in(reg) until, in(reg) 1u64);
            }
            asm!("wfi");
            let interrupt: u64;
            asm!("mrs {}, icc_iar1_el1", "msr cntv_ctl_el0, xzr", "isb", out(reg) interrupt);
            if interrupt < 1020 {
                asm!("msr icc_eoir1_el1, {}", "isb", in(reg) interrupt);
            }
        }
    }
}
