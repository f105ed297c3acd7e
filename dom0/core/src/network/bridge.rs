//! `bridge add NAME MODE [key=value...]`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use vswitch::Vlans;

use super::{Cidr, NetworkError};
use crate::vif::interface_name;

/// The network device of bridges that name none.
pub const DEFAULT_NIC: &str = "eth0";
/// Dom0's address on a nat bridge, unless said otherwise.
const NAT_ADDRESS: Cidr = Cidr { address: Ipv4Addr::new(10, 1, 0, 1), prefix: 24 };
/// Sizes of networks behind a nat bridge: each of its stations has a place in the tables.
const NAT_SIZES: core::ops::RangeInclusive<u8> = 24..=29;
/// The port of name servers.
const DNS_PORT: u16 = 53;

/// How a bridge is connected to the world, in the words that people use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Not at all: guests, and Dom0 if it has an address there.
    HostOnly,
    /// Guests hide behind Dom0's address on another bridge.
    Nat,
    /// Guests are stations of the physical network.
    Bridge,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HostOnly => "host-only",
            Self::Nat => "nat",
            Self::Bridge => "bridge",
        })
    }
}

/// Dom0's own address on a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ip {
    /// It has none.
    None,
    /// What a server of the network gives it.
    Dhcp,
    /// This one.
    Static(Cidr),
}

/// A bridge to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// Its name, which `vif=` refers to.
    pub name: String,
    /// How it is connected.
    pub mode: Mode,
    /// Dom0's address on it.
    pub ip: Ip,
    /// The router that Dom0 uses, with a static address.
    pub gateway: Option<Ipv4Addr>,
    /// The name server that is asked for guests, and by Dom0 itself with a static address.
    pub dns: Option<SocketAddrV4>,
    /// The physical device, in mode `bridge`.
    pub nic: Option<String>,
    /// The bridge that leads out, in mode `nat`.
    pub uplink: Option<String>,
    /// The VLANs that its wire carries.
    pub vlans: Vlans,
    /// Whether Dom0 sends back what it is sent at port 7 of TCP.
    pub echo: bool,
}

impl BridgeConfig {
    /// A bridge of which nothing is said but its mode.
    pub fn new(name: String, mode: Mode) -> Self {
        let (ip, nic) = match mode {
            Mode::HostOnly => (Ip::None, None),
            Mode::Nat => (Ip::Static(NAT_ADDRESS), None),
            Mode::Bridge => (Ip::Dhcp, Some(DEFAULT_NIC.to_string())),
        };
        Self { name, mode, ip, gateway: None, dns: None, nic, uplink: None, vlans: Vlans::default(), echo: false }
    }

    /// Reads the words behind `bridge add`.
    ///
    /// # Errors
    /// The first word that does not suit.
    pub fn parse(name: &str, mode: &str, pairs: &[String]) -> Result<Self, NetworkError> {
        let name = checked(name)?;
        let mode = match mode {
            "host-only" => Mode::HostOnly,
            "nat" => Mode::Nat,
            "bridge" => Mode::Bridge,
            _ => return Err(NetworkError::Mode(mode.to_string())),
        };
        let mut config = Self::new(name, mode);
        let mut had: Vec<&str> = Vec::new();
        for pair in pairs {
            let (key, value) = pair.split_once('=').ok_or_else(|| NetworkError::Parameter(pair.clone()))?;
            if had.contains(&key) {
                return Err(NetworkError::Repeated(key.to_string()));
            }
            had.push(key);
            config.set(pair, key, value)?;
        }
        config.check()?;
        Ok(config)
    }

    fn set(&mut self, pair: &str, key: &str, value: &str) -> Result<(), NetworkError> {
        let address = |text: &str| text.parse().map_err(|_| NetworkError::Address(text.to_string()));
        match (key, value, self.mode) {
            ("ip", "none", Mode::HostOnly | Mode::Bridge) => self.ip = Ip::None,
            ("ip", "dhcp", Mode::HostOnly | Mode::Bridge) => self.ip = Ip::Dhcp,
            ("ip", _, _) => self.ip = Ip::Static(Cidr::parse(value)?),
            ("gateway", _, Mode::HostOnly | Mode::Bridge) => self.gateway = Some(address(value)?),
            ("dns", _, _) => {
                let server = value.parse().or_else(|_| Ok(SocketAddrV4::new(address(value)?, DNS_PORT)));
                self.dns = Some(server?);
            }
            ("nic", _, Mode::Bridge) => self.nic = Some(checked(value)?),
            ("uplink", _, Mode::Nat) => self.uplink = Some(checked(value)?),
            ("vlan", _, Mode::Bridge) => {
                let vlans: Vlans = value.parse().map_err(|_| NetworkError::Vlans(value.to_string()))?;
                self.vlans = vlans.or_untagged_in_none();
            }
            ("echo", "0" | "1", _) => self.echo = value == "1",
            _ => return Err(NetworkError::Parameter(pair.to_string())),
        }
        Ok(())
    }

    /// What no single word tells.
    fn check(&self) -> Result<(), NetworkError> {
        if let (Mode::Nat, Ip::Static(cidr)) = (self.mode, self.ip)
            && !NAT_SIZES.contains(&cidr.prefix)
        {
            return Err(NetworkError::Size(cidr));
        }
        if self.echo && self.ip == Ip::None {
            return Err(NetworkError::Echo);
        }
        if let Some(gateway) = self.gateway {
            let reached = match self.ip {
                Ip::Static(cidr) => cidr.is_station(gateway) && cidr.address != gateway,
                Ip::None | Ip::Dhcp => false,
            };
            if !reached {
                return Err(NetworkError::Gateway(gateway.to_string()));
            }
        }
        Ok(())
    }
}

/// The name of a bridge or of a network device.
fn checked(name: &str) -> Result<String, NetworkError> {
    interface_name(name).ok_or_else(|| NetworkError::Name(name.to_string()))
}
