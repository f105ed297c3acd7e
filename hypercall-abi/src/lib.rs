//! The binary interface between a domain and the hypervisor: numbers, layouts, typed ids, wire errors.
//!
//! Everything a guest can see is Xen's public ABI for Arm, byte for byte; each item names the public header
//! it restates. The control calls of Dom0 (`control`) are the one part that is our own. The crate is data and
//! pure functions only, so that the hypervisor, the guests, the back ends and host tools can all build on it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[macro_use]
mod macros;

pub mod arm;
pub mod blkif;
pub mod console;
pub mod control;
pub mod errno;
pub mod evtchn;
pub mod grant;
pub mod hvm;
pub mod ids;
pub mod memory;
pub mod multicall;
pub mod netif;
pub mod nr;
pub mod psci;
pub mod ring;
pub mod sched;
pub mod shared_info;
pub mod trace;
pub mod vcpu;
pub mod version;
pub mod xenbus;
pub mod xencons;
pub mod xs_wire;

/// Size in bytes of the pages that grants, rings and frame numbers are counted in (Xen public/arch-arm.h).
pub const PAGE_SIZE: usize = 4096;
/// Binary logarithm of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
