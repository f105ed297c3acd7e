//! The AArch64 machine below the core: everything at EL2 that is unsafe, behind one trait that is not. For a host,
//! where nothing of it could run, the crate is empty.
#![cfg(target_os = "none")]
#![no_std]

mod arm;
mod atomic;
pub mod boot;
pub mod console;
mod context;
mod cpu;
pub mod crash;
mod entry;
mod gic;
mod interface;
mod layout;
mod memory;
mod mmio;
mod percpu;
mod psci;
mod shared;
mod stage1;
mod stage2;
mod sysreg;
mod timer;
mod vectors;

pub use arm::Arm;
pub use percpu::KERNEL;
