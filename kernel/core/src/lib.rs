//! The microkernel's decisions: safe Rust that runs at EL2 and, against a fake machine, in tests on the host.
#![cfg_attr(not(any(test, feature = "fake")), no_std)]
#![forbid(unsafe_code)]

pub mod about;
pub mod addr;
pub mod console;
pub mod context;
pub mod control;
pub mod dom0;
pub mod domain;
pub mod evtchn;
pub mod exit;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod frame;
pub mod grant;
pub mod guest;
pub mod hw;
pub mod hypercall;
pub mod ioreq;
pub mod kernel;
pub mod lifecycle;
pub mod local;
pub mod machine;
pub mod memory;
#[cfg(test)]
mod model;
pub mod p2m;
pub mod quota;
pub mod runstate;
pub mod sched;
pub mod sched_op;
pub mod smccc;
pub mod sync;
pub mod trace;
pub mod trap;
pub mod vcpu;
pub mod vcpu_op;
pub mod vgic;
pub mod vmid;
pub mod vtimer;
