//! The nodes of a network interface, and reading them back.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hypercall_abi::ids::DomId;
use vswitch::Mac;

use super::{Node, paths, split_device};
use crate::rate::Rate;
use crate::vif::{Vif, VifError};

/// The nodes of interface `number` of a domain, which has the address `mac`.
pub fn vif(domid: DomId, number: u32, mac: Mac, vif: &Vif) -> Vec<Node> {
    let front = [("handle", number.to_string()), ("mac", mac.to_string()), ("mtu", vif.mtu.to_string())];
    let mut back = alloc::vec![
        ("frontend-id", domid.to_string()),
        ("online", "1".to_string()),
        ("handle", number.to_string()),
        ("type", "vif".to_string()),
        ("mac", mac.to_string()),
        ("bridge", vif.bridge.clone()),
        ("mtu", vif.mtu.to_string()),
    ];
    back.extend(vif.ip.iter().map(|ip| ("ip", ip.clone())));
    back.extend(vif.name.iter().map(|name| ("vifname", name.clone())));
    back.extend(vif.rate.iter().map(|rate| ("rate", rate.to_string())));
    if vif.antispoof {
        back.push(("antispoof", "1".to_string()));
    }
    if !vif.vlans.is_none() {
        back.push(("vlan", vif.vlans.to_string()));
    }
    split_device(paths::VIF, domid, number, &front, &back)
}

/// An interface, read back through `read`, which gives a node's value by its name in the directory of the back end or
/// of the toolstack.
///
/// # Errors
/// A node does not say what [`vif()`] writes.
pub fn vif_info(read: impl Fn(&str) -> Option<String>) -> Result<Vif, VifError> {
    let mut spec = String::new();
    for key in ["mac", "bridge", "mtu", "ip", "vifname", "vlan", "antispoof"] {
        if let Some(value) = read(key) {
            spec.push_str(&alloc::format!("{key}={value},"));
        }
    }
    let vif = Vif::parse(spec.trim_end_matches(','))?;
    let rate = |text: String| Rate::from_node(&text).ok_or(VifError::Rate(text));
    Ok(Vif { rate: read("rate").map(rate).transpose()?, ..vif })
}
