//! Counters, timers and the CPU interface of this vCPU.

use core::arch::asm;

/// Whether the interrupt controller is a GICv2, which has no registers of the processor.
pub fn has_gicv2() -> bool {
    let features: u64;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, id_aa64pfr0_el1", out(reg) features) };
    features >> 24 & 0xF == 0
}

/// The virtual counter.
pub fn now() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks) };
    ticks
}

/// Ticks of the counter in a millisecond.
pub fn millisecond() -> u64 {
    let hz: u64;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hz) };
    hz / 1000
}

/// Sends an SGI, as `ICC_SGI1R_EL1` says.
pub fn send_sgi(value: u64) {
    // SAFETY: no vCPU of this domain has data that a handler changes.
    unsafe { asm!("msr icc_sgi1r_el1, {}", "isb", in(reg) value) };
}

/// Lets interrupts of all priorities through to this vCPU.
pub fn open_interface() {
    // SAFETY: interrupts stay masked; they only end a sleep.
    unsafe { asm!("msr icc_pmr_el1, {}", "msr icc_igrpen1_el1, {}", "isb", in(reg) 0xFFu64, in(reg) 1u64) };
}

/// Sleeps until an interrupt is pending, which interrupts nothing, takes it and ends it.
pub fn sleep_and_end() {
    // SAFETY: the registers are of this vCPU's own CPU interface. There is nothing to be ended if none was pending.
    unsafe { asm!("wfi", "mrs {0}, icc_iar1_el1", "msr icc_eoir1_el1, {0}", "isb", out(reg) _) };
}

/// Sleeps until the physical counter, which is the same for all domains, is at `at`. The timer's interrupt must be enabled.
pub fn sleep_until(at: u64) {
    let now = || {
        let ticks: u64;
        // SAFETY: reading the counter has no effect.
        unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) ticks) };
        ticks
    };
    while now() < at {
        // SAFETY: the timer is this vCPU's and nobody else waits for it; interrupts are masked.
        unsafe { asm!("msr cntp_cval_el0, {}", "msr cntp_ctl_el0, {}", "isb", in(reg) at, in(reg) 1u64) };
        sleep_and_end();
        // SAFETY: as above.
        unsafe { asm!("msr cntp_ctl_el0, xzr", "isb") };
    }
}

/// Both timers of this vCPU are due.
pub fn set_timers_to_the_past() {
    // SAFETY: the timers are this vCPU's and nobody waits for them; interrupts are masked.
    unsafe {
        asm!("msr cntv_cval_el0, xzr", "msr cntp_cval_el0, xzr", "msr cntv_ctl_el0, {0}", "msr cntp_ctl_el0, {0}", "isb",
            in(reg) 1u64);
    }
}
