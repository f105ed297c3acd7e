//! FP and SIMD registers. EL2 is built without them; only these few instructions move them, and one
//! copy loop (`memory.rs`) borrows some.

use core::arch::asm;

use kernel_core::context::FpContext;

const _: () = assert!(core::mem::offset_of!(FpContext, fpcr) == 512 && core::mem::offset_of!(FpContext, fpsr) == 520);

/// The instruction `$op` for all pairs of registers and their places behind `{at}`.
macro_rules! all_pairs {
    ($op:literal) => {
        all_pairs! {
            $op: 0 1 0, 2 3 32, 4 5 64, 6 7 96, 8 9 128, 10 11 160, 12 13 192, 14 15 224, 16 17 256, 18 19 288,
            20 21 320, 22 23 352, 24 25 384, 26 27 416, 28 29 448, 30 31 480
        }
    };
    ($op:literal: $($a:literal $b:literal $offset:literal),*) => {
        concat!($($op, " q", $a, ", q", $b, ", [{at}, #", $offset, "]\n"),*)
    };
}

/// Saves FP and SIMD; the trap is off, since the guest that leaves has used them.
pub fn save(into: &mut FpContext) {
    // SAFETY: writes the 528 bytes of `into`, whose layout is asserted above.
    unsafe {
        asm!(
            ".arch_extension fp",
            ".arch_extension simd",
            all_pairs!("stp"),
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
            all_pairs!("ldp"),
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
