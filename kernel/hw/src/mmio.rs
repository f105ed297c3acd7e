//! Loads and stores of device registers. The addresses are those of the FDT, mapped as devices at boot.
//!
//! One instruction each, in assembly: a plain volatile access may be compiled to one with writeback, which a
//! hypervisor below us could not emulate.

use core::arch::asm;

use kernel_core::addr::Pa;

/// The address of a device register at EL2, where virtual is physical.
pub fn address(pa: Pa) -> usize {
    usize::try_from(pa.raw()).unwrap_or(0)
}

/// Defines the accesses of one size, by how `asm!` names a register of it.
macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $value:literal) => {
        /// Reads a register of this size.
        pub fn $read(at: usize) -> $type {
            let value: $type;
            // SAFETY: callers pass registers of devices that the boot code mapped; a device access touches no Rust object.
            unsafe { asm!(concat!("ldr ", $value, ", [{}]"), out(reg) value, in(reg) at, options(nostack, preserves_flags)) };
            value
        }

        /// Writes a register of this size.
        pub fn $write(at: usize, value: $type) {
            // SAFETY: as for reads.
            unsafe { asm!(concat!("str ", $value, ", [{}]"), in(reg) value, in(reg) at, options(nostack, preserves_flags)) };
        }
    };
}

access!(read32, write32, u32, "{:w}");
access!(read64, write64, u64, "{}");
