//! `bridge forward NAME PROTOCOL/PORT ADDRESS:PORT`.

use alloc::string::{String, ToString};
use core::fmt;
use core::net::SocketAddrV4;

use super::NetworkError;

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of Dom0's that leads to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The protocol.
    pub transport: Transport,
    /// The port of Dom0's address on the bridge that leads out.
    pub port: u16,
    /// The guest's address and port.
    pub to: SocketAddrV4,
}

impl Forward {
    /// Reads the two words.
    ///
    /// # Errors
    /// The word that does not suit.
    pub fn parse(from: &str, to: &str) -> Result<Self, NetworkError> {
        let (transport, port) = outside(from)?;
        let parsed: Option<SocketAddrV4> = to.parse().ok();
        let to = parsed.filter(|to| to.port() != 0).ok_or_else(|| NetworkError::Target(String::from(to)))?;
        Ok(Self { transport, port, to })
    }
}

/// Reads `tcp/8080`.
///
/// # Errors
/// The text is none.
pub fn outside(text: &str) -> Result<(Transport, u16), NetworkError> {
    let parsed = text.split_once('/').and_then(|(transport, port)| {
        let transport = match transport {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => return None,
        };
        Some((transport, port.parse().ok().filter(|port| *port != 0)?))
    });
    parsed.ok_or_else(|| NetworkError::Port(text.to_string()))
}
