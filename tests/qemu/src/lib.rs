//! Drives machines in QEMU from their serial line.
//!
//! `config` says what the machine is, `console` runs it, `machine` speaks to Dom0's shell and returns typed
//! results, `parse` reads what `xl` prints, `shares` measures the scheduler and `pairs` what pCPUs share, `debugger` follows instructions, `files` takes files out of `/store`,
//! `trace` reads the hypervisor's traces, `cases` are the tests and `suite` runs them. `cargo xtask` builds
//! what they need and calls them.

#![forbid(unsafe_code)]

pub mod cases;
pub mod config;
pub mod console;
pub mod debugger;
pub mod files;
pub mod machine;
pub mod marks;
pub mod pairs;
pub mod parse;
pub mod shares;
pub mod suite;
pub mod trace;
pub mod xen;
