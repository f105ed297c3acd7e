//! The AArch64 machine below the core: everything at EL2 that is unsafe, behind one trait that is not.
//!
//! The boot FDT's reader is the exception: plain logic, here since only the boot code uses it, and tested on the
//! host, where the rest of this crate does not exist.
#![no_std]

pub mod fdt;

#[cfg(target_os = "none")]
mod arm;
#[cfg(target_os = "none")]
mod atomic;
#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
mod context;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
pub mod crash;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod gic;
#[cfg(target_os = "none")]
mod interface;
#[cfg(target_os = "none")]
mod layout;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod mmio;
#[cfg(target_os = "none")]
mod percpu;
#[cfg(target_os = "none")]
mod psci;
#[cfg(target_os = "none")]
mod shared;
#[cfg(target_os = "none")]
mod stage1;
#[cfg(target_os = "none")]
mod stage2;
#[cfg(target_os = "none")]
mod sysreg;
#[cfg(target_os = "none")]
mod timer;
#[cfg(target_os = "none")]
mod vectors;

#[cfg(target_os = "none")]
pub use arm::Arm;
#[cfg(target_os = "none")]
pub use percpu::KERNEL;
