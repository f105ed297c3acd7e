//! What can be wrong with the words of a `bridge` command.

use alloc::string::String;
use core::fmt;

use vswitch::NotVlans;

use super::Cidr;

/// Words that are refused, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkError {
    /// A name that a path or a column cannot hold.
    Name(String),
    /// No mode has this name.
    Mode(String),
    /// Not a key of this mode, or a value that is not honoured.
    Parameter(String),
    /// A key given twice.
    Repeated(String),
    /// No VLANs.
    Vlans(String),
    /// Not an address with the size of its network.
    Ip(String),
    /// Not an address of a station.
    Address(String),
    /// The size of a nat bridge's network is not one that is served.
    Size(Cidr),
    /// The gateway is not in the bridge's network.
    Gateway(String),
    /// Nobody is there to echo.
    Echo,
    /// Not a protocol that ports are forwarded of, with a port.
    Port(String),
    /// Not an address with a port.
    Target(String),
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) => write!(f, "'{text}' cannot be the name of a bridge or interface"),
            Self::Mode(text) => write!(f, "mode '{text}' is not one of host-only, nat and bridge"),
            Self::Parameter(text) => write!(f, "parameter '{text}' is not supported in this mode"),
            Self::Repeated(key) => write!(f, "{key} respecified"),
            Self::Vlans(text) => write!(f, "vlan '{text}': {NotVlans}"),
            Self::Ip(text) => {
                write!(f, "ip '{text}' is not an address with the size of its network, such as 10.1.0.1/24")
            }
            Self::Address(text) => write!(f, "'{text}' is not an address, such as 10.1.0.1 or 10.1.0.1:53"),
            Self::Size(cidr) => write!(f, "ip '{cidr}': the network of a nat bridge has a size from 24 to 29"),
            Self::Gateway(text) => write!(f, "gateway '{text}' is no other station of the bridge's network"),
            Self::Echo => f.write_str("echo=1 needs an address of Dom0's on the bridge"),
            Self::Port(text) => write!(f, "'{text}' is not a protocol with a port, such as tcp/8080"),
            Self::Target(text) => write!(f, "'{text}' is not an address with a port, such as 10.1.0.2:80"),
        }
    }
}

impl core::error::Error for NetworkError {}
