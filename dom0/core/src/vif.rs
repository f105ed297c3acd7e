//! Interface specifications of `vif=` and `xl network-attach` (xl-network-configuration(5)).

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

use vswitch::{Mac, NotVlans, Vlans};

use crate::rate::Rate;

/// The bridge of interfaces that name none, as on Xen.
pub const DEFAULT_BRIDGE: &str = "xenbr0";
/// Bytes of payload in a frame, unless said otherwise.
const DEFAULT_MTU: u16 = 1500;
/// What IPv6 needs at least (RFC 8200), and what fits a frame of the network interface.
const MTUS: core::ops::RangeInclusive<u16> = 1280..=9216;

/// A network interface of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vif {
    /// Its Ethernet address; made up when absent.
    pub mac: Option<Mac>,
    /// The bridge that it is connected to.
    pub bridge: String,
    /// The VLANs that it is a member of.
    pub vlans: Vlans,
    /// Bytes of payload in a frame.
    pub mtu: u16,
    /// The guest's IP addresses, for scripts that look; the guest is not held to them.
    pub ip: Option<String>,
    /// What the interface is called on the host's side.
    pub name: Option<String>,
    /// How much the guest may send.
    pub rate: Option<Rate>,
    /// The guest sends from its own Ethernet address alone.
    pub antispoof: bool,
}

/// Why a specification is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VifError {
    /// The address is none, or one of a group of stations.
    Mac(String),
    /// The name of a bridge or interface has characters that a path cannot hold, or is too long.
    Name(String),
    /// The VLANs are none.
    Vlan(String),
    /// The MTU is out of range.
    Mtu(String),
    /// The rate is none.
    Rate(String),
    /// A parameter given twice.
    Repeated(String),
    /// A parameter that is unknown or has a value that is not honoured.
    Parameter(String),
}

impl fmt::Display for VifError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(text) => write!(f, "mac '{text}' is not the address of one station, such as 00:16:3e:01:02:03"),
            Self::Name(text) => write!(f, "'{text}' cannot be the name of a bridge or interface"),
            Self::Vlan(text) => write!(f, "vlan '{text}': {NotVlans}"),
            Self::Mtu(text) => write!(f, "mtu '{text}' is not a number from {} to {}", MTUS.start(), MTUS.end()),
            Self::Rate(text) => write!(f, "rate '{text}' is not one such as 10Mb/s, 250KB/s or 1MB/s@20ms"),
            Self::Repeated(key) => write!(f, "{key} respecified"),
            Self::Parameter(text) => write!(f, "parameter '{text}' is not supported"),
        }
    }
}

impl core::error::Error for VifError {}

impl Vif {
    /// Parses `key=value` pairs, separated by commas; the empty text is an interface with defaults only.
    ///
    /// # Errors
    /// The first pair that does not suit.
    pub fn parse(spec: &str) -> Result<Self, VifError> {
        let mut vif = Self {
            mac: None,
            bridge: DEFAULT_BRIDGE.to_owned(),
            vlans: Vlans::default(),
            mtu: DEFAULT_MTU,
            ip: None,
            name: None,
            rate: None,
            antispoof: false,
        };
        let mut had = alloc::vec::Vec::new();
        for pair in spec.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| VifError::Parameter(pair.to_owned()))?;
            let (key, value) = (key.trim(), value.trim());
            if had.contains(&key) {
                return Err(VifError::Repeated(key.to_owned()));
            }
            had.push(key);
            vif.set(pair, key, value)?;
        }
        Ok(vif)
    }

    fn set(&mut self, pair: &str, key: &str, value: &str) -> Result<(), VifError> {
        match (key, value) {
            ("mac", _) => {
                let mac: Mac = value.parse().map_err(|_| VifError::Mac(value.to_owned()))?;
                if mac.is_group() || mac == Mac([0; 6]) {
                    return Err(VifError::Mac(value.to_owned()));
                }
                self.mac = Some(mac);
            }
            ("bridge", _) => self.bridge = name(value)?,
            ("vifname", _) => self.name = Some(name(value)?),
            ("vlan", _) => self.vlans = value.parse().map_err(|_| VifError::Vlan(value.to_owned()))?,
            ("mtu", _) => {
                let mtu = value.parse().ok().filter(|mtu| MTUS.contains(mtu));
                self.mtu = mtu.ok_or_else(|| VifError::Mtu(value.to_owned()))?;
            }
            ("rate", _) => {
                let rate = Rate::parse(value);
                self.rate = Some(rate.ok_or_else(|| VifError::Rate(value.to_owned()))?);
            }
            ("antispoof", "0" | "1") => self.antispoof = value == "1",
            ("ip", _) => self.ip = Some(value.to_owned()),
            // What there is one way of doing here, however it is called.
            ("type", "vif") | ("script", "vif-bridge") | ("backend", "0" | "Domain-0") => {}
            _ => return Err(VifError::Parameter(pair.to_owned())),
        }
        Ok(())
    }
}

/// A name that can stand in a path and in a column: at most 15 bytes, as Linux has for interfaces.
pub(crate) fn interface_name(text: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!text.is_empty() && text.len() <= 15 && text.bytes().all(fits)).then(|| text.to_owned())
}

fn name(text: &str) -> Result<String, VifError> {
    interface_name(text).ok_or_else(|| VifError::Name(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_specification_is_an_interface_on_the_default_bridge() {
        let vif = Vif::parse("").unwrap();
        assert_eq!((vif.mac, vif.bridge.as_str(), vif.vlans.is_none(), vif.mtu), (None, "xenbr0", true, 1500));
    }

    #[test]
    fn the_keys_of_xl_are_understood_with_blanks_around_them() {
        let vif = Vif::parse(
            "mac=00:16:3e:01:02:03, bridge=lan0,vlan=10 ,ip=10.0.0.2 10.0.0.3,mtu=9000,vifname=web0,type=vif",
        )
        .unwrap();
        assert_eq!(vif.mac, Some(Mac([0, 0x16, 0x3E, 1, 2, 3])));
        assert_eq!((vif.bridge.as_str(), vif.vlans.to_string().as_str(), vif.mtu), ("lan0", "10", 9000));
        assert_eq!((vif.ip.as_deref(), vif.name.as_deref()), (Some("10.0.0.2 10.0.0.3"), Some("web0")));
    }

    #[test]
    fn a_rate_and_a_filter_can_be_asked_for() {
        let vif = Vif::parse("rate=10Mb/s@50ms,antispoof=1").unwrap();
        assert_eq!((vif.rate.unwrap().bytes, vif.antispoof), (62_500, true));
        assert_eq!((Vif::parse("antispoof=0").unwrap().antispoof, Vif::parse("").unwrap().rate), (false, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |spec: &str| Vif::parse(spec).unwrap_err().to_string();
        assert_eq!(error("mac=1"), "mac '1' is not the address of one station, such as 00:16:3e:01:02:03");
        assert!(error("mac=ff:ff:ff:ff:ff:ff").contains("one station"));
        assert_eq!(error("bridge=a/b"), "'a/b' cannot be the name of a bridge or interface");
        let vlans = "VLANs are numbers from 1 to 4094, such as 10, 10p/20 or 10/20-29";
        assert_eq!(error("vlan=4095"), format!("vlan '4095': {vlans}"));
        assert_eq!(error("mtu=64"), "mtu '64' is not a number from 1280 to 9216");
        assert_eq!(error("rate=fast"), "rate 'fast' is not one such as 10Mb/s, 250KB/s or 1MB/s@20ms");
        assert_eq!(error("antispoof=maybe"), "parameter 'antispoof=maybe' is not supported");
        assert_eq!(error("bridge=a,bridge=b"), "bridge respecified");
        assert_eq!(error("model=e1000"), "parameter 'model=e1000' is not supported");
        assert_eq!(error("xenbr0"), "parameter 'xenbr0' is not supported");
    }
}
