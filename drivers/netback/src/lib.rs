//! The network back end: serves one guest's netif rings, and passes its frames to whatever connects it to others.
//!
//! It knows rings, grants and events through the traits of `driver-api` and nothing of the domain that hosts it, nor of
//! switches: frames of the guest go to a [`Port`](driver_api::net::Port) that it is given, and [`BackEnd::port`] is where frames for the guest
//! come from. A frame between two guests is copied once, from page to page, by the hypervisor; only its head passes
//! through the host.
//!
//! # How a host uses it
//!
//! 1. [`Handshake`](driver_api::Handshake) is the XenBus side. [`advertise`] is the list of keys to publish, and [`Params::parse`]
//!    reads what the front end wrote.
//! 2. On `Connect`: `let back_end = BackEnd::connect(host, ports, wire, &params)?`, connect [`BackEnd::port`] to the
//!    network, keep [`BackEnd::control`], and spawn [`BackEnd::run`].
//! 3. On `Disconnect`: take the port off the network, [`Control::stop`], and await the task: `run` returns once every page
//!    is unmapped, with [`End`] saying why.
//!
//! # Events
//!
//! The host offers one event channel for both rings of a queue. The event for answers on the transmit ring waits until
//! everybody else has had a turn, since those who got the frames may have something for the guest, and then one event tells it
//! of both; if the guest has found the answers by then, it is not sent. It never waits for time to pass.
//!
//! # Hashes and queues
//!
//! Frames for a guest with several queues are spread by connection. A front end with a control ring (`feature-ctrl-ring`) says
//! itself how: a Toeplitz hash over addresses and ports with a key of its own, and a table from hash to queue; each frame
//! then comes with its hash. Linux's xen-netfront has no control ring, drivers of Windows have. What a front end says of the
//! hash of a frame that it sends is of no use to others, who have keys of their own, and is passed over. By the same ring
//! it may have up to 256 pages of each queue kept mapped (`ADD_GREF_MAPPING`): the heads of its frames are then read
//! without a call to the hypervisor. The rest goes from guest to guest by the hypervisor's copy, which needs no mapping.
//!
//! # What the guest can do
//!
//! A frame that makes no sense is answered with an error and counted; a producer index that cannot be true ends the
//! device and nothing else. One with a rate ([`Limited`]) sends no more than that. A guest that gives no room for what others send to it loses it, after [`PATIENCE`] at first
//! and from then on at once. Each pass does a bounded amount of work and then yields.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod back_end;
mod ctrl;
mod hash;
mod limit;
mod mapped;
mod negotiate;
mod receive;
mod stats;
mod transmit;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "patterns keep the low bits, and sizes are small")]
mod tests;

pub use back_end::{BackEnd, ConnectError, Parts};
pub use driver_api::End;
pub use hash::FrameHash;
pub use limit::{Limit, Limited};
pub use negotiate::{CtrlParams, Events, Features, Params, QueueParams, advertise};
pub use receive::{PATIENCE, Receiver};
pub use stats::{Control, Stats};
pub use transmit::{BURST, HEAD_BYTES};
