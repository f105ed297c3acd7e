//! The block back end: serves one guest's blkif ring from any [`Disk`].
//!
//! It knows rings, grants and events through the traits of `driver-api` and nothing of the domain that hosts
//! it. Data never passes through the CPU: the bus addresses of the granted pages go into the disk's
//! scatter list. A disk that is memory of the host is the exception: there the hypervisor copies, and nothing is mapped.
//!
//! # How a host uses it
//!
//! 1. [`Handshake`] is the XenBus side, a pure state machine: feed it what the store says, carry out the
//!    [`Action`]s it returns, in order. [`advertise`] is the list of keys to publish, and
//!    [`Params::parse`] reads what the front end wrote.
//! 2. On [`Action::Connect`]: `let back_end = BackEnd::connect(grants, ports, disk, &params, limits)?`,
//!    keep [`BackEnd::control`], and spawn [`BackEnd::run`].
//! 3. On [`Action::Disconnect`]: [`Control::stop`], then await the task. `run` returns once nothing is in
//!    flight and every page is unmapped, with [`End`] saying why.
//!
//! The future of `run` must be driven to its end. Dropped earlier it leaves the guest's pages mapped, for the
//! disk may still be writing to them.
//!
//! # Several rings
//!
//! A front end may have a ring for each of its vCPUs. They share the disk, the mapped grants and the bounds of the device, of which
//! each ring has its part. A barrier waits for what is older on its own ring, as in Linux's blkback; a flush is of the disk.
//!
//! # What the guest can do
//!
//! Whatever stands in a request, the answer is an error response to that request. A producer index that cannot be
//! true ends the device ([`End::Broken`]) and nothing else. Each pass does a bounded amount of work and
//! then yields to the executor.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod back_end;
mod copies;
mod limits;
mod mapping;
mod negotiate;
mod persistent;
mod queue;
mod request;
mod serve;
mod stats;
mod work;

#[cfg(test)]
mod tests;

pub use back_end::{BackEnd, ConnectError};
pub use driver_api::published::BadFrontEnd;
pub use driver_api::{Action, Disk, End, Handshake};
pub use limits::Limits;
pub use negotiate::{Params, QueueParams, advertise};
pub use stats::{Control, Stats};
