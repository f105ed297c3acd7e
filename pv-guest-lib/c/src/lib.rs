//! What a guest in C links: `libpv_guest.a`, from the same code as `pv-guest-lib` (see docs/porting.md). This header is made
//! from it by `cargo xtask header`.
//!
//! The guest defines `pv_main`, which is called once with interrupts on. Functions that wait let the library's own tasks run
//! and sleep meanwhile. There is one vCPU and one thread of control. A number below 0 is an error: the negative of one of
//! Xen's error numbers (public/errno.h), as a hypercall returns it.
#![no_std]
#![deny(unsafe_code)]

mod disks;
mod errors;
#[allow(unsafe_code)]
mod sys;
