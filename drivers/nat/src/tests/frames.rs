//! Frames with true checksums, and the check that they still are.

use core::net::Ipv4Addr;

use crate::checksum::{be16, checksum, put16};
use crate::packet::ETHERNET;
use crate::{End, Protocol};

/// Sums the pseudo header of an IPv4 packet whose header starts at `network`.
fn pseudo(bytes: &[u8], network: usize, len: usize) -> u32 {
    let words = bytes[network + 12..network + 20].chunks(2).map(|word| u32::from(be16(word, 0)));
    words.sum::<u32>() + u32::from(bytes[network + 9]) + len as u32
}

/// A packet of a protocol without its Ethernet header.
pub fn packet(protocol: Protocol, from: End, to: End, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut transport = match protocol {
        Protocol::Tcp => {
            let mut header = vec![0; 20];
            (header[12], header[13], header[15]) = (0x50, flags, 99);
            header
        }
        Protocol::Udp => {
            let mut header = vec![0; 8];
            put16(&mut header, 4, 8 + payload.len() as u16);
            header
        }
        Protocol::Icmp => vec![8, 0, 0, 0, 0, 0, 0, 1],
    };
    match protocol {
        Protocol::Icmp => put16(&mut transport, 4, from.1),
        Protocol::Tcp | Protocol::Udp => {
            put16(&mut transport, 0, from.1);
            put16(&mut transport, 2, to.1);
        }
    }
    transport.extend(payload);
    let number = match protocol {
        Protocol::Icmp => 1,
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    let mut bytes = ip(number, from.0, to.0, &transport);
    let sum = transport_sum(&bytes, 0);
    put16(&mut bytes, checksum_at(protocol), sum);
    bytes
}

fn checksum_at(protocol: Protocol) -> usize {
    20 + match protocol {
        Protocol::Icmp => 2,
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
    }
}

/// Changes a byte of a frame's IPv4 header and makes the header's checksum true again.
pub fn set_byte(frame: &mut [u8], at: usize, value: u8) {
    frame[at] = value;
    put16(frame, ETHERNET + 10, 0);
    let sum = checksum(&frame[ETHERNET..ETHERNET + 20], 0);
    put16(frame, ETHERNET + 10, sum);
}

/// An IPv4 header before `payload`.
pub fn ip(number: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, number, 0, 0];
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    put16(&mut bytes, 2, 20 + payload.len() as u16);
    let sum = checksum(&bytes, 0);
    put16(&mut bytes, 10, sum);
    bytes.extend(payload);
    bytes
}

/// What the sum over a packet's transport part gives: the checksum to put where there is 0, or 0 where it is right.
fn transport_sum(bytes: &[u8], network: usize) -> u16 {
    let transport = &bytes[network + 20..];
    let start = if bytes[network + 9] == 1 { 0 } else { pseudo(bytes, network, transport.len()) };
    checksum(transport, start)
}

/// A message of ICMP that quotes a packet.
pub fn error(from: Ipv4Addr, to: Ipv4Addr, quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
    message.extend(&quoted[..quoted.len().min(28)]);
    let sum = checksum(&message, 0);
    put16(&mut message, 2, sum);
    ip(1, from, to, &message)
}

/// A frame around a packet.
pub fn frame(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &[8, 0], packet].concat()
}

/// The ends that a frame names, after a look at its checksums.
pub fn checked(frame: &[u8]) -> (End, End) {
    let bytes = &frame[ETHERNET..];
    assert_eq!(checksum(&bytes[..20], 0), 0, "the IPv4 checksum is wrong");
    let udp_without = bytes[9] == 17 && be16(bytes, 26) == 0;
    assert!(udp_without || transport_sum(bytes, 0) == 0, "the transport checksum is wrong");
    ends(bytes)
}

/// The ends that a packet names.
pub fn ends(bytes: &[u8]) -> (End, End) {
    let ports = if bytes[9] == 1 { (24, 24) } else { (20, 22) };
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap());
    ((address(12), be16(bytes, ports.0)), (address(16), be16(bytes, ports.1)))
}

/// The packet that a message of ICMP in a frame quotes, after a look at the checksums.
pub fn quoted(frame: &[u8]) -> &[u8] {
    let bytes = &frame[ETHERNET..];
    assert_eq!(checksum(&bytes[..20], 0), 0, "the IPv4 checksum is wrong");
    assert_eq!(checksum(&bytes[20..], 0), 0, "the message's checksum is wrong");
    assert_eq!(checksum(&bytes[28..48], 0), 0, "the quoted IPv4 checksum is wrong");
    &bytes[28..]
}

/// The sum that a blank checksum holds.
pub fn pseudo_sum(bytes: &[u8]) -> u16 {
    !checksum(&[], pseudo(bytes, 0, bytes.len() - 20))
}

/// An answer to an echo request that carried the identifier `to.1`.
pub fn echo(from: Ipv4Addr, to: End) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 0, 0, 0, 1];
    put16(&mut message, 4, to.1);
    let sum = checksum(&message, 0);
    put16(&mut message, 2, sum);
    ip(1, from, to.0, &message)
}
