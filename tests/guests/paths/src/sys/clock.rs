//! The counters, and time that passes.

use core::arch::asm;

/// The virtual counter.
pub fn now() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks) };
    ticks
}

/// Ticks of the counter in a second.
pub fn frequency() -> u64 {
    let hz;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hz) };
    hz
}

/// The physical counter, which is the same for all domains.
#[inline(always)]
pub fn physical() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) ticks) };
    ticks
}

/// What a tick is worth on the machine that is measured.
pub fn instructions_per_tick() -> u64 {
    1_000_000_000 / frequency()
}

/// Sleeps until an interrupt is pending; writes the time before to `note` and returns the time after.
#[inline(always)]
pub fn leave(note: u64) -> u64 {
    let back;
    // SAFETY: the callers name a word of the scratch memory or of the shared page. An interrupt that is pending ends
    // WFI although it is masked.
    unsafe {
        asm!("isb", "mrs {0}, cntpct_el0", "str {0}, [{1}]", "wfi", "isb", "mrs {0}, cntpct_el0", out(reg) back,
            in(reg) note);
    }
    back
}

/// Does nothing for some instructions.
#[inline(always)]
pub fn pad<const INSTRUCTIONS: usize>() {
    for _ in 0..INSTRUCTIONS {
        // SAFETY: does nothing.
        unsafe { asm!("nop") };
    }
}
