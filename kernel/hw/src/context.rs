//! Moves a vCPU's registers between the pCPU and its save areas.
//!
//! EL1 and EL0 registers have no effect at EL2 while they change (Arm ARM, D1.2.3): the EL1&0 regime is not in use,
//! and the ERET to the guest synchronises. The virtual timer is stopped first and started last, so that it can fire
//! only for the vCPU it belongs to. EL2 is built without FP and SIMD; besides what is here, one copy loop
//! (`memory.rs`) borrows some of those registers.

use core::arch::asm;

use kernel_core::context::{DebugContext, El1Context, FpContext, TrapFrame};
use kernel_core::el1_registers;
use kernel_core::hw::Registers;

use crate::gicv2::detour;
use crate::sysreg::{mrs, msr};
use crate::vectors::{exception_vectors, return_to_guest, traced_return, traced_vectors};
use crate::{Arm, cpu, percpu};

/// The instruction `$op` for all pairs of q registers, from or to `{at}` on.
macro_rules! all_pairs {
    ($op:literal) => {
        all_pairs! {
            $op: 0 1, 2 3, 4 5, 6 7, 8 9, 10 11, 12 13, 14 15, 16 17, 18 19, 20 21, 22 23, 24 25, 26 27, 28 29, 30 31
        }
    };
    ($op:literal: $($a:literal $b:literal),*) => {
        concat!(".arch_extension fp\n.arch_extension simd\n", $($op, " q", $a, ", q", $b, ", [{at}], #32\n"),*)
    };
}

/// The text of an instruction on a register of [`el1_registers`], with the detour that those of the GIC have. A GICv2 has one
/// register of active priorities.
macro_rules! of_register {
    (ich_vmcr_el2, $value:literal, $way:literal, $instruction:expr) => {
        detour!($instruction, $value, concat!("2 << 16 | 8", $way))
    };
    (ich_ap0r0_el2, $value:literal, $way:literal, $instruction:expr) => {
        detour!($instruction, $value, concat!("2 << 16 | 0xf0", $way))
    };
    (ich_ap1r0_el2, $($rest:tt)*) => {
        of_register!(ich_ap0r0_el2, $($rest)*)
    };
    ($register:ident, $value:literal, $way:literal, $instruction:expr) => {
        concat!($instruction, "\n")
    };
}

/// The text that reads a register into an operand.
macro_rules! read {
    ($register:ident $to:literal) => {
        of_register!($register, $to, "", concat!("mrs ", $to, ", ", stringify!($register)))
    };
}

/// The text that writes a register from an operand.
macro_rules! write {
    ($register:ident $of:literal) => {
        of_register!($register, $of, " | 1 << 31", concat!("msr ", stringify!($register), ", ", $of))
    };
}

impl Registers for Arm {
    fn save_el1(into: &mut El1Context) {
        macro_rules! save {
            ($($a:ident $b:ident)*) => {
                concat!($(read!($a "{a}"), read!($b "{b}"), "stp {a}, {b}, [{at}], #16\n"),*)
            };
        }
        // SAFETY: writes the fields of `into` but the last, which are the registers of the list in its order.
        unsafe {
            asm!(el1_registers!(save), a = out(reg) _, b = out(reg) _, at = inout(reg) &raw mut *into => _,
                options(nostack, preserves_flags))
        };
        into.cntv_ctl_el0 = mrs!("cntv_ctl_el0");
        // SAFETY: a stopped timer raises nothing.
        unsafe { msr!("cntv_ctl_el0", 0) };
    }

    fn load_el1(from: &El1Context) {
        macro_rules! load {
            ($($a:ident $b:ident)*) => {
                concat!($("ldp {a}, {b}, [{at}], #16\n", write!($a "{a}"), write!($b "{b}")),*)
            };
        }
        // SAFETY: reads the fields of `from` but the last, as above; all of these registers belong to EL1 and EL0.
        unsafe {
            asm!(el1_registers!(load), a = out(reg) _, b = out(reg) _, at = inout(reg) from => _,
                options(nostack, preserves_flags, readonly));
            msr!("cntv_ctl_el0", from.cntv_ctl_el0);
        }
    }

    fn timer_control() -> u64 {
        mrs!("cntv_ctl_el0")
    }

    fn copy_frame(to: &mut TrapFrame, from: &TrapFrame) {
        const { assert!(size_of::<TrapFrame>() == 17 * 16) };
        // SAFETY: reads all of `from` and writes all of `to`.
        unsafe {
            asm!(".rept 17", "ldp {a}, {b}, [{from}], #16", "stp {a}, {b}, [{to}], #16", ".endr", a = out(reg) _,
                b = out(reg) _, from = inout(reg) from => _, to = inout(reg) &raw mut *to => _,
                options(nostack, preserves_flags))
        };
    }

    // The way back does it: `vectors::choose`.
    fn load_frame(_: &mut TrapFrame, _: &TrapFrame) {}

    fn save_fp(into: &mut FpContext) {
        // By their encodings, since the assembler of a target without FP does not know the names.
        into.fpcr = mrs!("S3_3_C4_C4_0");
        into.fpsr = mrs!("S3_3_C4_C4_1");
        // SAFETY: writes the first field of `into`, which is `repr(C)`: 512 bytes.
        unsafe { asm!(all_pairs!("stp"), at = inout(reg) &raw mut *into => _, options(nostack, preserves_flags)) };
        cpu::trap_fp(true);
    }

    fn allow_fp() {
        cpu::trap_fp(false);
    }

    fn load_fp(from: &FpContext) {
        cpu::trap_fp(false);
        // SAFETY: reads the first field of `from`. No Rust code keeps values in the registers that are overwritten,
        // because the target has no FP.
        unsafe {
            asm!("isb", all_pairs!("ldp"), at = inout(reg) from => _, options(nostack, preserves_flags, readonly));
            msr!("S3_3_C4_C4_0", from.fpcr);
            msr!("S3_3_C4_C4_1", from.fpsr);
        }
    }

    fn trace_exits(on: bool) {
        let (vectors, way_back) = if on {
            (&raw const traced_vectors, &raw const traced_return)
        } else {
            (&raw const exception_vectors, &raw const return_to_guest)
        };
        // SAFETY: both are whole sets of vectors, with the way back from each. No ISB: the exception return that follows
        // is one.
        unsafe {
            percpu::this().set_way_back(way_back);
            msr!("vbar_el2", vectors as u64);
        }
    }

    fn load_debug(DebugContext([bvr, bcr, wvr, wcr]): &DebugContext) {
        // What a pCPU does not have is undefined to write: ID_AA64DFR0_EL1 has the numbers, less one.
        let dfr0 = mrs!("id_aa64dfr0_el1");
        let (breakpoints, watchpoints) = ((dfr0 >> 12 & 0xf) + 1, (dfr0 >> 20 & 0xf) + 1);
        macro_rules! load {
            ($($n:literal)*) => { $(
                if $n < breakpoints {
                    msr!(concat!("dbgbvr", $n, "_el1"), bvr[$n]);
                    msr!(concat!("dbgbcr", $n, "_el1"), bcr[$n]);
                }
                if $n < watchpoints {
                    msr!(concat!("dbgwvr", $n, "_el1"), wvr[$n]);
                    msr!(concat!("dbgwcr", $n, "_el1"), wcr[$n]);
                }
            )* };
        }
        // SAFETY: with `MDCR_EL2.TDE` clear they stop EL1 and EL0 alone, whatever they name.
        unsafe {
            load! { 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 }
        };
    }

    fn id_register(crm: usize, op2: usize) -> u64 {
        // Of the space op0 = 3, op1 = 0, CRn = 0; what is not allocated there reads as zero (D23.1.1).
        macro_rules! known {
            ($($crm:literal)*) => { known! { $($crm 0, $crm 1, $crm 2, $crm 3, $crm 4, $crm 5, $crm 6, $crm 7,)* } };
            ($($crm:literal $op2:literal,)*) => {
                match (crm, op2) {
                    $(($crm, $op2) => mrs!(concat!("S3_0_C0_C", $crm, "_", $op2)),)*
                    (0, 0) => mrs!("midr_el1"),
                    (0, 5) => mrs!("mpidr_el1"),
                    _ => 0,
                }
            };
        }
        known!(1 2 3 4 5 6 7)
    }
}
