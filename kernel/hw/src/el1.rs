//! Moves a vCPU's EL1 and EL0 system registers between the pCPU and its save area, in the order of `El1Context`.
//!
//! None of these has an effect at EL2 while they change (Arm ARM, D1.2.3): the EL1&0 regime is not in use, and the
//! ERET to the guest synchronises. The virtual timer is stopped first and started last, so that it can fire only
//! for the vCPU it belongs to.

use kernel_core::context::El1Context;

use crate::cpu;
use crate::sysreg::{mrs, msr};

/// `CNTV_CTL_EL0` without ISTATUS, which is read-only.
const CTL_ENABLE_IMASK: u64 = 3;

/// Hands the registers that move as they are to `$then`; the fields have their names.
macro_rules! with_plain_registers {
    ($then:ident) => {
        $then! {
            sp_el0 sp_el1 elr_el1 spsr_el1 sctlr_el1 cpacr_el1 ttbr0_el1 ttbr1_el1 tcr_el1 esr_el1 afsr0_el1 afsr1_el1
            far_el1 mair_el1 amair_el1 vbar_el1 contextidr_el1 tpidr_el0 tpidrro_el0 tpidr_el1 par_el1 csselr_el1
            cntkctl_el1 mdscr_el1 vmpidr_el2 cntvoff_el2 cntv_cval_el0
        }
    };
}

/// Saves the vCPU's registers and stops its virtual timer.
pub fn save(into: &mut El1Context) {
    macro_rules! save {
        ($($register:ident)*) => { $(into.$register = mrs!(stringify!($register));)* };
    }
    with_plain_registers!(save);
    into.cntv_ctl_el0 = mrs!("cntv_ctl_el0") & CTL_ENABLE_IMASK;
    into.hcr_el2 = mrs!("hcr_el2");
    // SAFETY: a stopped timer raises nothing.
    unsafe { msr!("cntv_ctl_el0", 0) };
}

/// Loads the vCPU's registers; its virtual timer runs from here on.
pub fn load(from: &El1Context) {
    macro_rules! load {
        ($($register:ident)*) => { $(msr!(stringify!($register), from.$register);)* };
    }
    // SAFETY: all of these belong to EL1 and EL0, but HCR_EL2, whose value `guest_hcr` makes.
    unsafe {
        with_plain_registers!(load);
        msr!("hcr_el2", cpu::guest_hcr(from.hcr_el2));
        msr!("cntv_ctl_el0", from.cntv_ctl_el0);
    }
}

/// Makes the guest take a virtual SError.
pub fn pend_serror() {
    // SAFETY: adds VSE to what is there.
    unsafe { msr!("hcr_el2", mrs!("hcr_el2") | cpu::HCR_VSE) };
}
