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

/// Saves the vCPU's registers and stops its virtual timer.
pub fn save(into: &mut El1Context) {
    into.sp_el0 = mrs!("sp_el0");
    into.sp_el1 = mrs!("sp_el1");
    into.elr_el1 = mrs!("elr_el1");
    into.spsr_el1 = mrs!("spsr_el1");
    into.sctlr_el1 = mrs!("sctlr_el1");
    into.cpacr_el1 = mrs!("cpacr_el1");
    into.ttbr0_el1 = mrs!("ttbr0_el1");
    into.ttbr1_el1 = mrs!("ttbr1_el1");
    into.tcr_el1 = mrs!("tcr_el1");
    into.esr_el1 = mrs!("esr_el1");
    into.afsr0_el1 = mrs!("afsr0_el1");
    into.afsr1_el1 = mrs!("afsr1_el1");
    into.far_el1 = mrs!("far_el1");
    into.mair_el1 = mrs!("mair_el1");
    into.amair_el1 = mrs!("amair_el1");
    into.vbar_el1 = mrs!("vbar_el1");
    into.contextidr_el1 = mrs!("contextidr_el1");
    into.tpidr_el0 = mrs!("tpidr_el0");
    into.tpidrro_el0 = mrs!("tpidrro_el0");
    into.tpidr_el1 = mrs!("tpidr_el1");
    into.par_el1 = mrs!("par_el1");
    into.csselr_el1 = mrs!("csselr_el1");
    into.cntkctl_el1 = mrs!("cntkctl_el1");
    into.cntv_ctl_el0 = mrs!("cntv_ctl_el0") & CTL_ENABLE_IMASK;
    into.cntv_cval_el0 = mrs!("cntv_cval_el0");
    into.mdscr_el1 = mrs!("mdscr_el1");
    into.vmpidr_el2 = mrs!("vmpidr_el2");
    into.cntvoff_el2 = mrs!("cntvoff_el2");
    into.hcr_el2 = mrs!("hcr_el2");
    // SAFETY: a stopped timer raises nothing.
    unsafe { msr!("cntv_ctl_el0", 0) };
}

/// Loads the vCPU's registers; its virtual timer runs from here on.
pub fn load(from: &El1Context) {
    // SAFETY: all of these belong to EL1 and EL0, but HCR_EL2, whose value `guest_hcr` makes.
    unsafe {
        msr!("sp_el0", from.sp_el0);
        msr!("sp_el1", from.sp_el1);
        msr!("elr_el1", from.elr_el1);
        msr!("spsr_el1", from.spsr_el1);
        msr!("sctlr_el1", from.sctlr_el1);
        msr!("cpacr_el1", from.cpacr_el1);
        msr!("ttbr0_el1", from.ttbr0_el1);
        msr!("ttbr1_el1", from.ttbr1_el1);
        msr!("tcr_el1", from.tcr_el1);
        msr!("esr_el1", from.esr_el1);
        msr!("afsr0_el1", from.afsr0_el1);
        msr!("afsr1_el1", from.afsr1_el1);
        msr!("far_el1", from.far_el1);
        msr!("mair_el1", from.mair_el1);
        msr!("amair_el1", from.amair_el1);
        msr!("vbar_el1", from.vbar_el1);
        msr!("contextidr_el1", from.contextidr_el1);
        msr!("tpidr_el0", from.tpidr_el0);
        msr!("tpidrro_el0", from.tpidrro_el0);
        msr!("tpidr_el1", from.tpidr_el1);
        msr!("par_el1", from.par_el1);
        msr!("csselr_el1", from.csselr_el1);
        msr!("cntkctl_el1", from.cntkctl_el1);
        msr!("mdscr_el1", from.mdscr_el1);
        msr!("vmpidr_el2", from.vmpidr_el2);
        msr!("hcr_el2", cpu::guest_hcr(from.hcr_el2));
        msr!("cntvoff_el2", from.cntvoff_el2);
        msr!("cntv_cval_el0", from.cntv_cval_el0);
        msr!("cntv_ctl_el0", from.cntv_ctl_el0);
    }
}

/// Makes the guest take a virtual SError.
pub fn pend_serror() {
    // SAFETY: adds VSE to what is there.
    unsafe { msr!("hcr_el2", mrs!("hcr_el2") | cpu::HCR_VSE) };
}
