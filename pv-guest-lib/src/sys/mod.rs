//! All the `unsafe` of the crate: the instructions, registers and raw memory under the safe modules.
//!
//! Each file wraps one mechanism into functions that are safe to call, and says in its SAFETY comments what
//! that rests on.

pub mod balloon;
#[cfg(feature = "control")]
pub mod control;
pub mod cpu;
pub mod executor;
pub mod gic;
pub mod grant_table;
#[cfg(feature = "alloc")]
pub mod heap;
pub mod hvc;
pub mod hypercall;
mod memcpy;
pub mod mmu;
pub mod pages;
mod panic;
pub mod raw;
#[cfg(feature = "smp")]
pub mod smp;
pub mod special;
mod start;
mod vectors;
pub mod window;
