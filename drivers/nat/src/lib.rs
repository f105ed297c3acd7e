//! Guests behind one address: address translation between a bridge inside and a bridge outside.
//!
//! ```text
//! guests -- bridge -- Gate(Inside) -- Router -- Gate(Outside) -- bridge -- network device
//!                        |               |            |
//!                   host's port         Nat      host's port
//! ```
//!
//! [`Nat`] is the translation alone, over the heads of frames: connections with expiry, forwarded ports, checksums brought up to date
//! (RFC 1624), the packets that messages of ICMP quote. [`Router`] finds Ethernet addresses and passes frames on, whose bytes
//! behind the head stay where their sender has them until they are copied once, as between two ports of a bridge. A [`Gate`] is the
//! host's port on a bridge: it takes what the router does not want for the host itself. Several routers may share the host's place outside:
//! none takes a port there that another one uses.
//!
//! # What a guest can do
//!
//! It may open connections without end: the table has a fixed size, and it displaces its own. A packet that claims an
//! address that is not one of the network inside goes nowhere, nor does one that cannot be read. Packets for a station that is
//! being asked for its Ethernet address wait in memory of fixed size, where each sender has a share. Addresses inside never show outside. From outside only what belongs to a guest's connection
//! comes in, and what a forward names; connections that strangers begin are charged to a party of their own.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod checksum;
mod face;
mod forwards;
mod gate;
mod neighbours;
mod packet;
mod parts;
mod report;
mod rewrite;
mod router;
mod table;
mod translate;
mod waiting;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "patterns keep the low bits, and sizes are small")]
mod tests;

pub use face::Facing;
pub use forwards::{FIRST_PORT, ForwardError, PortForward};
pub use gate::{Gate, Post};
pub use neighbours::MacBytes;
pub use packet::{End, Protocol, Unknown};
pub use router::{MEMORY, Outside, Router, RouterStats};
pub use table::Owner;
pub use translate::{CONNECTIONS, Inside, Nat, Refusal, STRANGERS};
