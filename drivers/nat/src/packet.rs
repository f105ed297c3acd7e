//! What address translation reads of a frame: IPv4 with TCP, UDP or ICMP, whole in the frame's head.

use core::net::Ipv4Addr;

use driver_api::net::Frame;

use crate::checksum::{Field, FieldKind, be16, be32, is_sound};

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// The shortest IPv4 header.
const IPV4: usize = 20;

/// `FIN` in the flags of TCP.
pub(crate) const FIN: u8 = 0x01;
/// `SYN`.
pub(crate) const SYN: u8 = 0x02;
/// `RST`.
pub(crate) const RST: u8 = 0x04;
/// `ACK`.
pub(crate) const ACK: u8 = 0x10;

/// Protocols that are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Echo requests and replies; their identifier takes the place of a port.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Icmp),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

/// One end of a connection.
pub type End = (Ipv4Addr, u16);

/// An IPv4 header and the ends that the transport header behind it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Where the IPv4 header starts.
    pub(crate) network: usize,
    /// Where the transport header starts.
    pub(crate) transport: usize,
    pub(crate) protocol: Protocol,
    pub(crate) from: End,
    pub(crate) to: End,
    /// Of TCP.
    pub(crate) flags: u8,
    /// Of ICMP: it asks for an echo, rather than being one.
    pub(crate) asks: bool,
    /// Where the port (or identifier) stands that goes with `from`, and the one that goes with `to`.
    pub(crate) ports: (usize, usize),
    /// It is the first part of a packet that travels in parts.
    pub(crate) part: Option<Part>,
}

/// A part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where the IPv4 header starts.
    pub(crate) network: usize,
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    pub(crate) protocol: Protocol,
    pub(crate) id: u16,
}

/// Why a packet is not one that can be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is not IPv4, not whole, or damaged.
    NotIp,
    /// A part of a packet whose first part, which has the ports, was not seen.
    Fragment,
    /// Another protocol, or a message of ICMP that belongs to no connection.
    Protocol,
}

/// What is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A packet of a connection.
    Packet(Packet),
    /// A part of a packet, but not the first.
    Part(Part),
    /// A message of ICMP about a packet: where the message starts, who sends it to whom, the packet that it quotes.
    Error { network: usize, message: usize, from: Ipv4Addr, to: Ipv4Addr, about: Packet },
}

/// The IPv4 address at `at`.
pub(crate) fn address(head: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(be32(head, at))
}

/// Whether a frame is IPv4 without a tag.
pub(crate) fn is_ipv4(head: &[u8]) -> bool {
    head.get(12..14) == Some(&[0x08, 0x00])
}

impl Content {
    /// Reads the head of a frame.
    pub(crate) fn parse(head: &[u8]) -> Result<Self, Unknown> {
        if !is_ipv4(head) {
            return Err(Unknown::NotIp);
        }
        let ip = Ip::parse(head, ETHERNET, true)?;
        if ip.offset != 0 {
            return Ok(Content::Part(ip.part()));
        }
        if ip.protocol != Protocol::Icmp {
            return Packet::parse(head, ip).map(Content::Packet);
        }
        match head.get(ip.transport).copied() {
            // Echo reply and request.
            Some(0 | 8) => Packet::parse(head, ip).map(Content::Packet),
            // Unreachable, time exceeded, parameter problem: behind eight bytes stands the packet they are about.
            Some(3 | 11 | 12) => {
                let about = Packet::parse(head, Ip::parse(head, ip.transport + 8, false)?)?;
                Ok(Content::Error { network: ip.start, message: ip.transport, from: ip.from, to: ip.to, about })
            }
            Some(_) => Err(Unknown::Protocol),
            None => Err(Unknown::NotIp),
        }
    }
}

/// An IPv4 header.
#[derive(Clone, Copy)]
struct Ip {
    start: usize,
    transport: usize,
    protocol: Protocol,
    from: Ipv4Addr,
    to: Ipv4Addr,
    id: u16,
    /// More parts follow.
    more: bool,
    /// Where in the packet this part belongs.
    offset: u16,
}

impl Ip {
    /// Reads the header at `start`. With `whole` it is not quoted: the packet's length must be one that holds the header, whose
    /// checksum must be right (RFC 1812, 5.2.2), as a router could not tell it afterwards.
    fn parse(head: &[u8], start: usize, whole: bool) -> Result<Self, Unknown> {
        let first = *head.get(start).ok_or(Unknown::NotIp)?;
        let size = usize::from(first & 0xF) * 4;
        if first >> 4 != 4 || size < IPV4 || head.len() < start + size {
            return Err(Unknown::NotIp);
        }
        let header = head.get(start..start + size).unwrap_or_default();
        if whole && (usize::from(be16(head, start + 2)) < size || !is_sound(header)) {
            return Err(Unknown::NotIp);
        }
        let (id, place) = (be16(head, start + 4), be16(head, start + 6));
        let (more, offset) = (place & 0x2000 != 0, place & 0x1FFF);
        let number = *head.get(start + 9).ok_or(Unknown::NotIp)?;
        let protocol = Protocol::from_number(number).ok_or(Unknown::Protocol)?;
        let (from, to) = (address(head, start + 12), address(head, start + 16));
        Ok(Ip { start, transport: start + size, protocol, from, to, id, more, offset })
    }

    fn part(&self) -> Part {
        let Ip { start: network, from, to, protocol, id, .. } = *self;
        Part { network, from, to, protocol, id }
    }
}

impl Packet {
    fn parse(head: &[u8], ip: Ip) -> Result<Self, Unknown> {
        let Ip { start: network, transport, protocol, from, to, .. } = ip;
        if ip.offset != 0 {
            return Err(Unknown::Fragment);
        }
        // A quoted packet ends behind eight bytes of its transport header.
        if head.len() < transport + 8 {
            return Err(Unknown::NotIp);
        }
        let ports = match protocol {
            Protocol::Tcp | Protocol::Udp => (transport, transport + 2),
            Protocol::Icmp if matches!(head.get(transport), Some(0 | 8)) => (transport + 4, transport + 4),
            Protocol::Icmp => return Err(Unknown::Protocol),
        };
        let flags = if protocol == Protocol::Tcp { head.get(transport + 13).copied().unwrap_or(0) } else { 0 };
        let (from, to) = ((from, be16(head, ports.0)), (to, be16(head, ports.1)));
        let asks = protocol == Protocol::Icmp && head.get(transport) == Some(&8);
        let part = ip.more.then(|| ip.part());
        Ok(Packet { network, transport, protocol, from, to, flags, asks, ports, part })
    }

    /// The checksum of the IPv4 header.
    pub(crate) fn ip_field(&self) -> Field {
        Field { at: self.network + 10, kind: FieldKind::Plain }
    }

    /// The checksum of the transport header.
    pub(crate) fn transport_field(&self, blank: bool) -> Field {
        let (offset, kind) = match self.protocol {
            Protocol::Icmp => (2, FieldKind::Plain),
            Protocol::Tcp => (16, FieldKind::Plain),
            Protocol::Udp => (6, FieldKind::Optional),
        };
        Field { at: self.transport + offset, kind: if blank { FieldKind::Blank } else { kind } }
    }
}

/// Bytes of the longest packet that a frame becomes on a wire.
pub fn longest_packet(frame: &Frame<'_>) -> usize {
    let whole = (frame.len as usize).saturating_sub(ETHERNET);
    let Some(gso) = frame.offload.gso else { return whole };
    let byte = |at: usize| usize::from(frame.head.get(at).copied().unwrap_or(0));
    let network = (byte(ETHERNET) & 0xF) * 4;
    let transport = (byte(ETHERNET + network + 12) >> 4) * 4;
    whole.min(network + transport + usize::from(gso.size))
}

/// Whether a router must not cut a packet into parts.
pub fn may_not_be_cut(head: &[u8]) -> bool {
    be16(head, ETHERNET + 6) & 0x4000 != 0
}
