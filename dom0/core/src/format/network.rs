//! `xl network-list` and `bridge`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::net::{Ipv4Addr, SocketAddrV4};

use vswitch::Mac;

use crate::network::Mode;

/// A line of `xl network-list`. What XenStore does not hold (yet) is -1, as `xl` prints it.
#[derive(Debug, Clone, Copy)]
pub struct NetworkRow<'a> {
    /// The interface's number.
    pub number: u32,
    /// Its address.
    pub mac: Mac,
    /// The front end's XenBus state.
    pub state: i32,
    /// The front end's event channel.
    pub event_channel: i32,
    /// The front end's transmit ring.
    pub tx_ring_ref: i32,
    /// The front end's receive ring.
    pub rx_ring_ref: i32,
    /// The back end's directory.
    pub backend: &'a str,
}

/// Writes heading and lines.
///
/// # Errors
/// Those of `out`.
pub fn network_list<'a>(out: &mut impl Write, rows: impl IntoIterator<Item = NetworkRow<'a>>) -> fmt::Result {
    writeln!(
        out,
        "{:<3} {:<2} {:<17} {:<6} {:<5} {:<6} {:>5}/{:<5} {:<30}",
        "Idx", "BE", "Mac Addr.", "handle", "state", "evt-ch", "tx-", "rx-ring-ref", "BE-path"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:<3} {:<2} {} {:>6} {:>5} {:>6} {:>5}/{:<11} {:<30}",
            row.number,
            0,
            row.mac,
            row.number,
            row.state,
            row.event_channel,
            row.tx_ring_ref,
            row.rx_ring_ref,
            row.backend
        )?;
    }
    Ok(())
}

/// A port of a bridge in `bridge show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePort {
    /// The interface's name, `vif<domid>.<number>` unless it was given one.
    pub name: String,
    /// Frames from it, to it, refused, dropped.
    pub frames: [u64; 4],
    /// Its link is down.
    pub down: bool,
}

/// Writes bridges with their ports, a line each.
///
/// # Errors
/// Those of `out`.
pub fn bridge_list<'a>(
    out: &mut impl Write,
    bridges: impl IntoIterator<Item = (&'a str, &'a [BridgePort])>,
) -> fmt::Result {
    writeln!(
        out,
        "{:<16} {:<16} {:>10} {:>10} {:>10} {:>10}",
        "bridge name", "interface", "in", "out", "refused", "dropped"
    )?;
    for (bridge, ports) in bridges {
        if ports.is_empty() {
            writeln!(out, "{bridge}")?;
        }
        for (index, port) in ports.iter().enumerate() {
            let [from, to, refused, dropped] = port.frames;
            let shown = if index == 0 { bridge } else { "" };
            let down = if port.down { "  down" } else { "" };
            writeln!(out, "{shown:<16} {:<16} {from:>10} {to:>10} {refused:>10} {dropped:>10}{down}", port.name)?;
        }
    }
    Ok(())
}

/// A line of `bridge info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeInfo {
    /// The bridge's name.
    pub name: String,
    /// How it is connected to the world.
    pub mode: Mode,
    /// Dom0's address on it: `None` if it is to have none, empty while it waits for one.
    pub address: Option<String>,
    /// Its address of IPv6.
    pub link_local: Option<String>,
    /// What leads out of it: the physical device, or the bridge behind whose address its guests are.
    pub via: Option<String>,
}

/// Writes what bridges are, a line each, and a second one with the address of IPv6.
///
/// # Errors
/// Those of `out`.
pub fn bridge_info<'a>(out: &mut impl Write, bridges: impl IntoIterator<Item = &'a BridgeInfo>) -> fmt::Result {
    writeln!(out, "{:<16} {:<10} {:<20} way out", "bridge name", "mode", "dom0")?;
    for bridge in bridges {
        let address = match bridge.address.as_deref() {
            None => "-",
            Some("") => "waiting for dhcp",
            Some(address) => address,
        };
        let via = bridge.via.as_deref().unwrap_or("-");
        writeln!(out, "{:<16} {:<10} {address:<20} {via}", bridge.name, bridge.mode)?;
        if let Some(link_local) = &bridge.link_local {
            writeln!(out, "{:<16} {:<10} {link_local}", "", "")?;
        }
    }
    Ok(())
}

/// What `bridge nat` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatState {
    /// Connections that are known, and how many can be.
    pub connections: [usize; 2],
    /// Frames out, back, dropped.
    pub frames: [u64; 3],
    /// Addresses that were given: address, station, seconds left.
    pub leases: Vec<(Ipv4Addr, Mac, u64)>,
    /// Ports that lead to guests: protocol, port outside, guest's end.
    pub forwards: Vec<(&'static str, u16, SocketAddrV4)>,
    /// Connections: protocol, guest's end, port outside, other end.
    pub open: Vec<(&'static str, SocketAddrV4, u16, SocketAddrV4)>,
}

/// Writes the state of an address translation.
///
/// # Errors
/// Those of `out`.
pub fn nat_state(out: &mut impl Write, state: &NatState) -> fmt::Result {
    let ([known, most], [to, back, dropped]) = (state.connections, state.frames);
    writeln!(out, "connections {known} of {most}, frames out {to}, back {back}, dropped {dropped}")?;
    if !state.leases.is_empty() {
        writeln!(out, "{:<15} {:<17} {:>10}", "address", "mac addr", "expires in")?;
        for (address, mac, left) in &state.leases {
            writeln!(out, "{:<15} {mac} {left:>10}", address.to_string())?;
        }
    }
    if !state.forwards.is_empty() {
        writeln!(out, "{:<8} {:<7} leads to", "protocol", "port")?;
        for (protocol, port, to) in &state.forwards {
            writeln!(out, "{protocol:<8} {port:<7} {to}")?;
        }
    }
    if !state.open.is_empty() {
        writeln!(out, "{:<8} {:<7} {:<21} remote", "protocol", "port", "guest")?;
        for (protocol, inside, port, remote) in &state.open {
            writeln!(out, "{protocol:<8} {port:<7} {:<21} {remote}", inside.to_string())?;
        }
    }
    Ok(())
}

/// Writes the addresses that a bridge has seen: address, VLAN, interface, age in seconds.
///
/// # Errors
/// Those of `out`.
pub fn address_list<'a>(out: &mut impl Write, rows: impl IntoIterator<Item = (Mac, u16, &'a str, u64)>) -> fmt::Result {
    writeln!(out, "{:<17} {:>4} {:<16} {:>12}", "mac addr", "vlan", "interface", "ageing timer")?;
    for (mac, vlan, interface, age) in rows {
        writeln!(out, "{mac} {vlan:>4} {interface:<16} {age:>12}")?;
    }
    Ok(())
}
