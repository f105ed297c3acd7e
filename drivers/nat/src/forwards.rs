//! Ports of the address outside that lead to guests.

use alloc::vec::Vec;
use core::fmt;

use crate::packet::{End, Protocol};

/// The first port of the outside address that guests get; those below are the host's, and may be forwarded.
pub const FIRST_PORT: u16 = 32_768;
/// Forwards at most.
const FORWARDS: usize = 64;

/// Why a forward cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardError {
    /// The port leads somewhere already.
    Taken,
    /// The address is not one of a guest of this network.
    NotInside,
    /// The port is one that guests get for their own connections.
    Reserved,
    /// There are too many.
    Full,
    /// There is none of that port.
    Absent,
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => f.write_str("the port leads to a guest already"),
            Self::NotInside => f.write_str("the address is not one of the bridge's network"),
            Self::Reserved => write!(f, "ports from {FIRST_PORT} on are for connections that guests begin"),
            Self::Full => write!(f, "{FORWARDS} ports lead to guests already"),
            Self::Absent => f.write_str("the port leads to no guest"),
        }
    }
}

impl core::error::Error for ForwardError {}

/// A port of the address outside that leads to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortForward {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port outside.
    pub port: u16,
    /// The guest's end.
    pub to: End,
}

/// The ports that lead to guests of one network.
pub struct Forwards(Vec<PortForward>);

impl Forwards {
    /// None.
    pub fn new() -> Self {
        Forwards(Vec::with_capacity(FORWARDS))
    }

    /// All of them.
    pub fn list(&self) -> &[PortForward] {
        &self.0
    }

    /// Where a port leads.
    pub fn find(&self, protocol: Protocol, port: u16) -> Option<PortForward> {
        self.0.iter().copied().find(|forward| (forward.protocol, forward.port) == (protocol, port))
    }

    /// Adds one whose port leads nowhere yet.
    ///
    /// # Errors
    /// [`ForwardError::Full`].
    pub fn add(&mut self, forward: PortForward) -> Result<(), ForwardError> {
        if self.0.len() >= FORWARDS {
            return Err(ForwardError::Full);
        }
        self.0.push(forward);
        Ok(())
    }

    /// Removes one.
    ///
    /// # Errors
    /// [`ForwardError::Absent`].
    pub fn remove(&mut self, protocol: Protocol, port: u16) -> Result<(), ForwardError> {
        let before = self.0.len();
        self.0.retain(|forward| (forward.protocol, forward.port) != (protocol, port));
        if self.0.len() == before { Err(ForwardError::Absent) } else { Ok(()) }
    }
}
