//! The library for guests in C, and for kernels that bring their own everything and want a console, a store and disks.
//!
//! All of it is thin: each function turns its arguments into Rust's and waits for a function of `pv-guest-lib`. The
//! header `include/pv_guest.h` is made from this crate, and a test holds the two together.
#![no_std]
#![deny(unsafe_code)]

mod disks;
mod errors;
#[allow(unsafe_code)]
mod sys;
