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

/// Reads a 32-bit register.
pub fn read32(at: usize) -> u32 {
    let value: u32;
    // SAFETY: callers pass registers of devices that the boot code mapped; a device access touches no Rust object.
    unsafe { asm!("ldr {:w}, [{}]", out(reg) value, in(reg) at, options(nostack, preserves_flags)) };
    value
}

/// Writes a 32-bit register.
pub fn write32(at: usize, value: u32) {
    // SAFETY: as in `read32`.
    unsafe { asm!("str {:w}, [{}]", in(reg) value, in(reg) at, options(nostack, preserves_flags)) };
}

/// Reads a 64-bit register.
pub fn read64(at: usize) -> u64 {
    let value: u64;
    // SAFETY: as in `read32`.
    unsafe { asm!("ldr {}, [{}]", out(reg) value, in(reg) at, options(nostack, preserves_flags)) };
    value
}

/// Writes a 64-bit register.
pub fn write64(at: usize, value: u64) {
    // SAFETY: as in `read32`.
    unsafe { asm!("str {}, [{}]", in(reg) value, in(reg) at, options(nostack, preserves_flags)) };
}
