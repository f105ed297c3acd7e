//! The system counter and EL2's own timer.

use kernel_core::hw::Ticks;

use crate::sysreg::{barrier, mrs, msr};

/// The time. The ISB keeps the read from being done early (D12.1.2).
pub fn now() -> Ticks {
    barrier!("isb");
    mrs!("cntpct_el0")
}

/// Ticks per second.
pub fn frequency() -> u32 {
    // The register has 32 bits.
    u32::try_from(mrs!("cntfrq_el0") & 0xffff_ffff).unwrap_or(1)
}

/// When this pCPU's hypervisor timer fires. No ISB: the exception return that follows is one.
pub fn set_deadline(at: Option<Ticks>) {
    // SAFETY: the timer only raises an interrupt.
    unsafe {
        match at {
            Some(ticks) => {
                msr!("cnthp_cval_el2", ticks);
                msr!("cnthp_ctl_el2", 1);
            }
            None => msr!("cnthp_ctl_el2", 0),
        }
    }
}
