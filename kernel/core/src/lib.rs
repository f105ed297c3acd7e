//! The microkernel's decisions: safe Rust that runs at EL2 and, against a fake machine, in tests on the host.
#![cfg_attr(not(any(test, feature = "fake")), no_std)]
#![forbid(unsafe_code)]

pub mod addr;
pub mod context;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod frame;
pub mod hw;
pub mod machine;
pub mod quota;
