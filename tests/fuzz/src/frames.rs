//! Frames out of arbitrary bytes: some are noise, most look right so that they come far, with one thing wrong.

use arbitrary::{Result, Unstructured};
use driver_api::net::{Checksum, Gso, Offload};
use hypercall_abi::netif::GsoType;

/// The longest frame.
const LONGEST: usize = 9000;

/// Stations that a frame can name, so that frames meet.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Ethernet addresses.
    pub macs: &'a [[u8; 6]],
    /// IPv4 addresses.
    pub hosts: &'a [[u8; 4]],
}

/// A frame between some of the stations.
pub fn frame(u: &mut Unstructured<'_>, names: Names<'_>) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    if u.ratio(1, 8)? {
        let len = usize::from(u.arbitrary::<u8>()?);
        frame.extend_from_slice(u.bytes(len.min(u.len()))?);
        return Ok(frame);
    }
    frame.extend(u.choose(names.macs)?);
    frame.extend(u.choose(names.macs)?);
    if u.ratio(1, 4)? {
        frame.extend([0x81, 0x00]);
        let vlans = [0, 10, 20, 15, u.arbitrary::<u16>()?];
        frame.extend(u.choose(&vlans)?.to_be_bytes());
    }
    match u.int_in_range(0..=3)? {
        0 => arp(u, names, &mut frame)?,
        1 => ipv6(u, &mut frame)?,
        _ => {
            frame.extend([0x08, 0x00]);
            let packet = ipv4(u, names, 2)?;
            frame.extend(packet);
        }
    }
    if u.ratio(1, 3)? {
        let at = u.choose_index(frame.len().max(1))?;
        let byte = u.arbitrary()?;
        if let Some(place) = frame.get_mut(at) {
            *place = byte;
        }
    }
    if u.ratio(1, 8)? {
        let len = u.choose_index(frame.len().max(1))?;
        frame.truncate(len);
    }
    frame.truncate(LONGEST);
    Ok(frame)
}

/// What a sender leaves to others, true or not.
pub fn offload(u: &mut Unstructured<'_>) -> Result<Offload> {
    let checksum = *u.choose(&[Checksum::Unchecked, Checksum::Valid, Checksum::Blank])?;
    let kind = *u.choose(&[GsoType::TcpV4, GsoType::TcpV6])?;
    let gso = if u.ratio(1, 3)? { Some(Gso { kind, size: u.arbitrary()? }) } else { None };
    Ok(Offload { checksum, gso })
}

fn arp(u: &mut Unstructured<'_>, names: Names<'_>, frame: &mut Vec<u8>) -> Result<()> {
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0]);
    frame.push(u.int_in_range(0..=3)?);
    for _ in 0..2 {
        frame.extend(u.choose(names.macs)?);
        frame.extend(u.choose(names.hosts)?);
    }
    Ok(())
}

/// A packet whose checksums are right, save where something is changed later. `depth` messages of ICMP may quote another.
fn ipv4(u: &mut Unstructured<'_>, names: Names<'_>, depth: u8) -> Result<Vec<u8>> {
    let (from, to) = (*u.choose(names.hosts)?, *u.choose(names.hosts)?);
    let options = usize::from(u.int_in_range(0u8..=2)?) * 4;
    let protocol = *u.choose(&[6, 17, 1, 1, 47])?;
    let mut content = match protocol {
        6 | 17 => transport(u, protocol)?,
        1 if depth > 0 => icmp(u, names, depth - 1)?,
        _ => u.arbitrary::<[u8; 16]>()?.to_vec(),
    };
    let sum = match protocol {
        6 | 17 => {
            let len = u16::try_from(content.len()).unwrap_or(0);
            let pseudo = [&from[..], &to[..], &[0, protocol], &len.to_be_bytes()].concat();
            Some((if protocol == 6 { 16 } else { 6 }, checksum(&[pseudo, content.clone()].concat())))
        }
        1 => Some((2, checksum(&content))),
        _ => None,
    };
    if let Some((at, sum)) = sum
        && let Some(place) = content.get_mut(at..at + 2)
    {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    let header = 20 + options;
    let len = u16::try_from(header + content.len()).unwrap_or(u16::MAX);
    let fragment: u16 = if u.ratio(1, 6)? { u.arbitrary()? } else { 0x4000 };
    let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap_or(5), 0];
    packet.extend(len.to_be_bytes());
    packet.extend(u.int_in_range(0..=3u16)?.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([*u.choose(&[64, 64, 2, 1, 0])?, protocol, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    packet.resize(header, 1);
    let sum = checksum(&packet).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(content);
    Ok(packet)
}

fn ipv6(u: &mut Unstructured<'_>, frame: &mut Vec<u8>) -> Result<()> {
    let protocol = *u.choose(&[6, 17, 58, 44])?;
    let content = transport(u, protocol)?;
    frame.extend([0x86, 0xDD, 0x60, 0, 0, 0]);
    frame.extend(u16::try_from(content.len()).unwrap_or(0).to_be_bytes());
    frame.extend([protocol, 64]);
    frame.extend(u.arbitrary::<[u8; 2]>()?.iter().cycle().take(32));
    frame.extend(content);
    Ok(())
}

/// A TCP or UDP header with few different ports, and payload.
fn transport(u: &mut Unstructured<'_>, protocol: u8) -> Result<Vec<u8>> {
    let ports = [0u16, 53, 80, 1000, 32_768, 65_535];
    let mut content = Vec::new();
    content.extend(u.choose(&ports)?.to_be_bytes());
    content.extend(u.choose(&ports)?.to_be_bytes());
    let payload = usize::from(*u.choose(&[0u16, 1, 7, 300, 1460, 4000, 8000])?);
    match protocol {
        6 => {
            content.extend(u.arbitrary::<[u8; 8]>()?);
            content.extend([*u.choose(&[0x50, 0x50, 0x80, 0xF0, 0x00])?, u.arbitrary()?, 0xFF, 0xFF, 0, 0, 0, 0]);
        }
        _ => content.extend([u16::try_from(8 + payload).unwrap_or(0).to_be_bytes(), [0, 0]].concat()),
    }
    content.resize(content.len() + payload, 0x5A);
    Ok(content)
}

/// A message about another packet, or an echo.
fn icmp(u: &mut Unstructured<'_>, names: Names<'_>, depth: u8) -> Result<Vec<u8>> {
    let kind = *u.choose(&[8u8, 0, 3, 11, 5, 13])?;
    let mut content = vec![kind, u.int_in_range(0..=4)?, 0, 0];
    content.extend(u.arbitrary::<[u8; 4]>()?);
    if matches!(kind, 3 | 11) {
        let mut quoted = ipv4(u, names, depth)?;
        quoted.truncate(*u.choose(&[0, 19, 20, 24, 28, 60])?);
        content.extend(quoted);
    }
    Ok(content)
}

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let mut sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    sum += odd.first().map_or(0, |byte| u32::from(*byte) << 8);
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
