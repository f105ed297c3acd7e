//! The host domain's own place on a bridge: a [`Port`](driver_api::net::Port) for the bridge on one side, a driver for
//! `embassy-net` on the other.
//!
//! ```text
//! let inbox = Rc::new(Inbox::new(copier, memory));              // MEMORY bytes, page-aligned
//! let plug = bridge.attach("dom0".into(), inbox.clone(), PortConfig::default());
//! let (stack, runner) = embassy_net::new(Link::new(inbox, plug, mac, mtu), config, resources, seed);
//! ```
//!
//! This is where the host talks to guests itself, and not how guests talk to each other: a frame is copied into memory of the
//! host and from there to the stack. Frames may be long, and their TCP checksums left to their receivers, both ways: a frame
//! that never was on a wire needs neither. Checksums of frames from a wire are checked here, since the stack does not.
//! Senders wait while the [`Inbox`] is full; the stack empties it whatever guests do.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod inbox;
mod link;
mod tcp;

#[cfg(test)]
mod tests;

pub use inbox::{Inbox, MAX_FRAME, MEMORY};
pub use link::{Link, MAX_MTU};
