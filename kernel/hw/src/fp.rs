//! FP and SIMD registers. EL2 is built without them; only these few instructions move them, and one
//! copy loop (`memory.rs`) borrows some.

use core::arch::asm;

use kernel_core::context::FpContext;

const _: () = assert!(core::mem::offset_of!(FpContext, fpcr) == 512 && core::mem::offset_of!(FpContext, fpsr) == 520);

/// Saves FP and SIMD; the trap is off, since the guest that leaves has used them.
pub fn save(into: &mut FpContext) {
    // SAFETY: writes the 528 bytes of `into`, whose layout is asserted above.
    unsafe {
        asm!(
            ".arch_extension fp",
            ".arch_extension simd",
            "stp q0, q1, [{at}, #0]",
            "stp q2, q3, [{at}, #32]",
            "stp q4, q5, [{at}, #64]",
            "stp q6, q7, [{at}, #96]",
            "stp q8, q9, [{at}, #128]",
            "stp q10, q11, [{at}, #160]",
            "stp q12, q13, [{at}, #192]",
            "stp q14, q15, [{at}, #224]",
            "stp q16, q17, [{at}, #256]",
            "stp q18, q19, [{at}, #288]",
            "stp q20, q21, [{at}, #320]",
            "stp q22, q23, [{at}, #352]",
            "stp q24, q25, [{at}, #384]",
            "stp q26, q27, [{at}, #416]",
            "stp q28, q29, [{at}, #448]",
            "stp q30, q31, [{at}, #480]",
            "mrs {a}, fpcr",
            "mrs {b}, fpsr",
            "str {a}, [{at}, #512]",
            "str {b}, [{at}, #520]",
            at = in(reg) into,
            a = out(reg) _,
            b = out(reg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// Loads FP and SIMD for the vCPU that runs here; the trap is off, and the ISB makes that so.
pub fn load(from: &FpContext) {
    // SAFETY: reads the 528 bytes of `from`; no Rust code keeps values in the registers that are overwritten,
    // because the target has no FP.
    unsafe {
        asm!(
            ".arch_extension fp",
            ".arch_extension simd",
            "isb",
            "ldp q0, q1, [{at}, #0]",
            "ldp q2, q3, [{at}, #32]",
            "ldp q4, q5, [{at}, #64]",
            "ldp q6, q7, [{at}, #96]",
            "ldp q8, q9, [{at}, #128]",
            "ldp q10, q11, [{at}, #160]",
            "ldp q12, q13, [{at}, #192]",
            "ldp q14, q15, [{at}, #224]",
            "ldp q16, q17, [{at}, #256]",
            "ldp q18, q19, [{at}, #288]",
            "ldp q20, q21, [{at}, #320]",
            "ldp q22, q23, [{at}, #352]",
            "ldp q24, q25, [{at}, #384]",
            "ldp q26, q27, [{at}, #416]",
            "ldp q28, q29, [{at}, #448]",
            "ldp q30, q31, [{at}, #480]",
            "ldr {a}, [{at}, #512]",
            "ldr {b}, [{at}, #520]",
            "msr fpcr, {a}",
            "msr fpsr, {b}",
            at = in(reg) from,
            a = out(reg) _,
            b = out(reg) _,
            options(nostack, preserves_flags, readonly)
        );
    }
}
