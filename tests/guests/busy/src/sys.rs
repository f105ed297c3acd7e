//! The clock, a piece of work, and sleep.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

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

/// How far the machine's clock is ahead of this guest's, whose timer wakes it.
static AHEAD: AtomicU64 = AtomicU64::new(0);

/// Compares the clocks. A tick may pass between one and the other, but not at every place of a tick, of which these are all.
pub fn compare_clocks() {
    let look = |pause: u64| {
        let (own, machine): (u64, u64);
        // SAFETY: counts down a register, and reading the counters has no effect.
        unsafe {
            // Three instructions a turn, and a tick has two or eight: so any of them comes to be the first of a tick.
            asm!("1: subs {0}, {0}, #1", "nop", "b.pl 1b", "isb", "mrs {1}, cntvct_el0", "mrs {2}, cntpct_el0",
                inout(reg) pause => _, out(reg) own, out(reg) machine);
        }
        machine.wrapping_sub(own)
    };
    AHEAD.store((0..16).map(look).min().unwrap_or(0), Ordering::Relaxed);
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
                let until = at.wrapping_sub(AHEAD.load(Ordering::Relaxed));
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
