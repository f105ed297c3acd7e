//! A learning Ethernet switch: named bridges in the host domain, whose ports are guests and what else takes frames.
//!
//! ```text
//! let bridge = Bridge::new(copier, scratch, seed);
//! let plug = bridge.attach(cable, PortConfig::default());   // unplugged when it is dropped
//! plug.put(&frame)?;                                         // what the guest sends; `plug` is a `Port`
//! plug.commit();
//! ```
//!
//! The switch never holds a frame: it names the ports that take it, and these fetch its bytes from where the sender has
//! them. VLAN tags come and go on the way ([`Vlans`]). A receiver that cannot segment or compute checksums gets frames that are complete ([`adapt`]).
//!
//! # What a guest can do
//!
//! It may send from as many addresses as it likes; it displaces its own first in the table ([`table`]). A port with a MAC
//! filter passes only its own address. Ports of different VLANs never hear of each other. Broadcasts never wait
//! for a full receiver; a frame for one receiver makes its own sender wait, and nobody else.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod adapt;
mod bridge;
mod ethernet;
mod packet;
mod port;
mod retag;
mod table;
mod vlan;
mod way;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "patterns keep the low bits, and sizes are small")]
mod tests;

pub use adapt::SCRATCH_BYTES;
pub use bridge::{Bridge, Plug};
pub use ethernet::Mac;
pub use port::{PortConfig, PortStats};
pub use vlan::{NotVlans, Vlans};
