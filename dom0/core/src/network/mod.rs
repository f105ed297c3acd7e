//! What bridges are: the words of `bridge add` and `bridge forward`, at the prompt and in [`FILE`]; and the addresses that
//! guests of a bridge get.

mod bridge;
mod dhcp;
mod error;
mod forward;

#[cfg(test)]
mod tests;

use alloc::string::String;
use core::net::Ipv4Addr;

pub use bridge::{BridgeConfig, DEFAULT_NIC, Ip, Mode};
pub use dhcp::{ANSWER, Answer, CLIENT_PORT, DhcpServer, SERVER_PORT};
pub use error::NetworkError;
pub use forward::{Forward, Transport, outside};

/// Where Dom0 looks for `bridge` commands when it starts.
pub const FILE: &str = "/store/network.cfg";

/// What is set up when there is no [`FILE`], on a machine that has a network device.
pub const DEFAULT: &str = "bridge add uplink bridge\nbridge add xenbr0 nat\n";

/// An address with the size of its network, such as 10.1.0.1/24.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the network's part.
    pub prefix: u8,
}

impl Cidr {
    /// Reads `ADDRESS/BITS`; the address is one that a station can have in that network.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let cidr = Self { address: address.parse().ok()?, prefix: prefix.parse().ok()? };
            ((1..=30).contains(&cidr.prefix) && cidr.is_station(cidr.address)).then_some(cidr)
        });
        parsed.ok_or_else(|| NetworkError::Ip(String::from(text)))
    }

    /// The network's part of an address.
    pub const fn mask(self) -> u32 {
        // The prefix is at least 1 and at most 30.
        u32::MAX << (32 - self.prefix)
    }

    /// Whether the two networks have addresses in common.
    pub const fn overlaps(self, other: Self) -> bool {
        let both = self.mask() & other.mask();
        self.address.to_bits() & both == other.address.to_bits() & both
    }

    /// Whether an address is one of a station in this network.
    pub fn is_station(self, address: Ipv4Addr) -> bool {
        let (own, other) = (u32::from(self.address), u32::from(address));
        let host = other & !self.mask();
        own & self.mask() == other & self.mask() && host != 0 && host != !self.mask()
    }
}

impl core::fmt::Display for Cidr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
