//! The instructions that are measured.
//!
//! Each function that enters the hypervisor has a switch `MADE`: without it, everything is done but that instruction,
//! which makes the empty loop.

use core::arch::asm;

use pv_guest_lib::abi::arm::{GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICR0_BASE};

/// The SGI that is sent.
pub const SGI: u64 = 1;
/// What is taken when no interrupt is pending.
pub const NO_INTERRUPT: u64 = 1023;
/// GICD_TYPER.
const DISTRIBUTOR_REGISTER: u64 = GUEST_GICV3_GICD_BASE + 4;
/// The redistributor's frame for SGIs and PPIs.
pub const SGI_FRAME: u64 = GUEST_GICV3_GICR0_BASE + 0x1_0000;
/// GICR_ISENABLER0.
pub const ENABLE: u64 = SGI_FRAME + 0x100;

macro_rules! measured {
    ($(#[$doc:meta])* $name:ident($($argument:ident),*) -> $result:ident, $text:literal, $($operand:tt)*) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name<const MADE: bool>($($argument: u64),*) -> u64 {
            let $result: u64;
            // SAFETY: the callers pass addresses of structures and frames that belong to this guest's scratch
            // memory, where no Rust object is; the other instructions reach registers of this vCPU alone.
            unsafe {
                if MADE { asm!($text, $($operand)*) } else { asm!(concat!("// ", $text), $($operand)*) }
            }
            $result
        }
    };
}

measured! {
    /// A hypercall.
    hypercall(number, a0, a1, a2) -> result, "hvc #0xEA1",
    inlateout("x0") a0 => result, inlateout("x1") a1 => _, inlateout("x2") a2 => _, out("x3") _, out("x4") _,
    inlateout("x16") number => _
}

measured! {
    /// PSCI_VERSION.
    psci_version() -> result, "hvc #0",
    inlateout("x0") 0x8400_0000u64 => result, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _,
    out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
    out("x14") _, out("x15") _, out("x16") _, out("x17") _
}

measured! {
    /// Reads a system register that hypervisors trap.
    trapped_register() -> result, "mrs {0}, id_aa64pfr0_el1", inlateout(reg) 0u64 => result
}

measured! {
    /// Reads a register of the distributor.
    distributor_read() -> result, "ldr {0:w}, [{0}]", inlateout(reg) DISTRIBUTOR_REGISTER => result
}

measured! {
    /// Enables the SGI, which is enabled.
    redistributor_write() -> result, "str {1:w}, [{0}]", inlateout(reg) ENABLE => result, in(reg) 1u64 << SGI
}

measured! {
    /// Sends the SGI to this vCPU.
    sgi_to_self() -> result, "msr icc_sgi1r_el1, {0}", inlateout(reg) SGI << 24 | 1 => result
}

measured! {
    /// Turns the virtual timer on, whose time has come already.
    expired_timer() -> result, "msr cntv_ctl_el0, {0}", inlateout(reg) 1u64 => result
}

measured! {
    /// Takes the pending interrupt.
    acknowledge() -> result, "mrs {0}, icc_iar1_el1", inlateout(reg) NO_INTERRUPT => result
}

measured! {
    /// Ends an interrupt.
    end(interrupt) -> result, "msr icc_eoir1_el1, {0}", inlateout(reg) interrupt => result
}
