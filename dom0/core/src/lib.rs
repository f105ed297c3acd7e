//! Dom0's toolstack and shell as pure functions: everything that decides without touching hardware.
//!
//! The Dom0 image supplies I/O and hypercalls; this crate turns configuration files, kernel images and command lines
//! into values, plans and texts. Nothing here blocks, so all of it is tested on the host.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod claims;
pub mod config;
pub mod devices;
pub mod disk;
pub mod domain;
pub mod fdt;
pub mod format;
pub mod image;
pub mod iperf;
pub mod layout;
pub mod network;
pub mod notices;
pub mod plan;
pub mod pool;
pub mod rate;
pub mod shell;
pub mod trace;
pub mod uuid;
pub mod vdev;
pub mod vif;
