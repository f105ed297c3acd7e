//! What a hostile guest can hand to the network of Dom0, as functions of arbitrary bytes.
//!
//! A [`Target`] reads its bytes as a story: frames that are sent, slots that are written, messages that arrive. It panics if
//! something comes of it that must not: an address that shows, a frame in the wrong VLAN, memory outside of what was
//! granted. `cargo test -p fuzz-targets` tells each target a few thousand stories that are the same each time;
//! `cargo xtask fuzz` looks for new ones, led by the branches that they reach.
#![forbid(unsafe_code)]

mod dhcp;
mod frames;
mod nat;
mod netback;
mod station;
mod switch;

#[cfg(test)]
mod tests;

/// A function of arbitrary bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it tries, in a line.
    pub about: &'static str,
    /// Panics if the bytes bring about what must not be. Bytes that end early end the story.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "netback", about: "rings of a network front end", run: netback::run },
    Target { name: "switch", about: "frames between ports of a bridge", run: switch::run },
    Target { name: "nat", about: "frames between guests and the world, behind one address", run: nat::run },
    Target { name: "dhcp", about: "messages to the DHCP server", run: dhcp::run },
];
