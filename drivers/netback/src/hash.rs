//! Steering by hash: which of its queues a front end wants a frame on, and the hash that it is told (Xen
//! public/io/netif.h, "Hash types" and "Control messages").

use alloc::vec::Vec;

use hypercall_abi::netif::{CtrlStatus, HASH_IPV4, HASH_IPV4_TCP, HASH_IPV6, HASH_IPV6_TCP, HashAlgorithm, HashType};

/// Bytes of a key: what the longest input needs.
pub(crate) const KEY: usize = 40;
/// Entries of a mapping table at most.
pub(crate) const MAPPING: u32 = 128;
/// All types of hash.
const TYPES: u32 = HASH_IPV4 | HASH_IPV4_TCP | HASH_IPV6 | HASH_IPV6_TCP;
/// The longest input: two addresses of IPv6, two ports.
const INPUT: usize = 36;
/// The IP protocol numbers of TCP and UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The hash of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHash {
    /// What it covers.
    pub kind: HashType,
    /// The value.
    pub value: u32,
}

/// What the front end has asked for.
pub(crate) struct Steering {
    algorithm: HashAlgorithm,
    /// `HASH_*` that are to be calculated.
    types: u32,
    key: [u8; KEY],
    /// The queue for each value, modulo its length; empty for the value modulo the number of queues.
    mapping: Vec<u8>,
    /// Pairs of rings.
    queues: u8,
}

impl Steering {
    /// No hash, for a device of so many queues.
    pub(crate) fn new(queues: usize) -> Self {
        let queues = u8::try_from(queues).unwrap_or(u8::MAX).max(1);
        Steering { algorithm: HashAlgorithm::None, types: 0, key: [0; KEY], mapping: Vec::new(), queues }
    }

    /// Whether frames are hashed as the front end wants it.
    pub(crate) fn is_on(&self) -> bool {
        self.algorithm == HashAlgorithm::Toeplitz && self.types != 0
    }

    /// The queue of a frame and its hash, if it is of a type that has one.
    pub(crate) fn of(&self, head: &[u8]) -> (usize, Option<FrameHash>) {
        let mut input = [0; INPUT];
        let hash = self
            .input(head, &mut input)
            .map(|(kind, len)| FrameHash { kind, value: toeplitz(&self.key, input.get(..len).unwrap_or_default()) });
        let value = hash.map_or(0, |hash| hash.value as usize);
        let queue = match self.mapping.len() {
            0 => value % usize::from(self.queues),
            len => self.mapping.get(value % len).copied().unwrap_or(0).into(),
        };
        (queue, hash)
    }

    /// Collects what the hash of a frame covers, by the greatest type that was asked for.
    fn input(&self, head: &[u8], input: &mut [u8; INPUT]) -> Option<(HashType, usize)> {
        let packet = head.get(14..)?;
        let (addresses, ports, all, plain) = match head.get(12..14)? {
            [0x08, 0x00] => {
                let size = usize::from(packet.first()? & 0xF) * 4;
                let ports = (*packet.get(9)? == TCP && is_whole(packet) && size >= 20).then_some(size);
                (12..20, ports, (HASH_IPV4_TCP, HashType::Ipv4Tcp), (HASH_IPV4, HashType::Ipv4))
            }
            [0x86, 0xDD] => {
                let ports = (*packet.get(6)? == TCP).then_some(40);
                (8..40, ports, (HASH_IPV6_TCP, HashType::Ipv6Tcp), (HASH_IPV6, HashType::Ipv6))
            }
            _ => return None,
        };
        let (kind, ports) = match ports {
            Some(at) if self.types & all.0 != 0 => (all.1, packet.get(at..at + 4)?),
            Some(_) | None if self.types & plain.0 != 0 => (plain.1, &[][..]),
            Some(_) | None => return None,
        };
        let (addresses, len) = (packet.get(addresses.clone())?, addresses.len());
        input.get_mut(..len)?.copy_from_slice(addresses);
        input.get_mut(len..len + ports.len())?.copy_from_slice(ports);
        Some((kind, len + ports.len()))
    }

    /// `SET_HASH_ALGORITHM`.
    pub(crate) fn set_algorithm(&mut self, raw: u32) -> CtrlStatus {
        let Some(algorithm) = HashAlgorithm::from_raw(raw) else { return CtrlStatus::InvalidParameter };
        self.algorithm = algorithm;
        CtrlStatus::Success
    }

    /// `GET_HASH_FLAGS`.
    pub(crate) fn types(&self) -> Result<u32, CtrlStatus> {
        if self.algorithm == HashAlgorithm::None { Err(CtrlStatus::NotSupported) } else { Ok(TYPES) }
    }

    /// `SET_HASH_FLAGS`.
    pub(crate) fn set_types(&mut self, types: u32) -> CtrlStatus {
        if self.algorithm == HashAlgorithm::None || types & !TYPES != 0 {
            return CtrlStatus::InvalidParameter;
        }
        self.types = types;
        CtrlStatus::Success
    }

    /// `SET_HASH_KEY`; what is missing of a short key is 0.
    pub(crate) fn set_key(&mut self, key: &[u8]) -> CtrlStatus {
        let mut whole = [0; KEY];
        let Some(place) = whole.get_mut(..key.len()) else { return CtrlStatus::BufferOverflow };
        place.copy_from_slice(key);
        self.key = whole;
        CtrlStatus::Success
    }

    /// `SET_HASH_MAPPING_SIZE`.
    pub(crate) fn set_mapping_size(&mut self, entries: u32) -> CtrlStatus {
        if entries > MAPPING {
            return CtrlStatus::InvalidParameter;
        }
        self.mapping = alloc::vec![0; entries as usize];
        CtrlStatus::Success
    }

    /// `SET_HASH_MAPPING` of entries from `offset` on; nothing of them is taken if one is wrong.
    pub(crate) fn set_mapping(&mut self, offset: u32, entries: &[u32]) -> CtrlStatus {
        let Some(part) = self.mapping.get_mut(offset as usize..).and_then(|part| part.get_mut(..entries.len())) else {
            return CtrlStatus::InvalidParameter;
        };
        if entries.iter().any(|entry| *entry >= u32::from(self.queues)) {
            return CtrlStatus::InvalidParameter;
        }
        for (place, entry) in part.iter_mut().zip(entries) {
            *place = u8::try_from(*entry).unwrap_or(0);
        }
        CtrlStatus::Success
    }
}

/// The Toeplitz hash: for each bit of the input that is set, the 32 bits of the key that begin at its place.
fn toeplitz(key: &[u8; KEY], input: &[u8]) -> u32 {
    let (first, rest) = key.split_at(8);
    let mut window = first.iter().fold(0u64, |window, byte| window << 8 | u64::from(*byte));
    let mut rest = rest.iter();
    let mut hash = 0;
    for byte in input {
        for bit in (0..8).rev() {
            if byte >> bit & 1 != 0 {
                hash ^= u32::try_from(window >> 32).unwrap_or(0);
            }
            window <<= 1;
        }
        window |= rest.next().map_or(0, |byte| u64::from(*byte));
    }
    hash
}

/// A number that is the same for all frames of a connection in one direction, for front ends that do not say how they want
/// them spread: FNV-1a over addresses, and ports where every frame has them.
pub(crate) fn flow(head: &[u8]) -> u32 {
    let has_ports = |protocol: Option<&u8>| matches!(protocol, Some(&(TCP | UDP)));
    let fields = match head.get(12..16) {
        // Not behind options, and not of a datagram in parts, of which the first alone has ports.
        Some([0x08, 0x00, 0x45, _]) if has_ports(head.get(23)) && is_whole(head.get(14..).unwrap_or_default()) => {
            26..38
        }
        Some([0x08, 0x00, ..]) => 26..34,
        Some([0x86, 0xDD, ..]) if has_ports(head.get(20)) => 22..58,
        Some([0x86, 0xDD, ..]) => 22..54,
        Some(_) | None => 0..12,
    };
    let bytes = head.get(fields).unwrap_or_default();
    bytes.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Whether a packet of IPv4 is not a part of a datagram.
fn is_whole(packet: &[u8]) -> bool {
    matches!(packet.get(6..8), Some([flags, 0]) if flags & 0x3F == 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, SocketAddr};

    /// The key and the hashes of Microsoft's "Verifying the RSS Hash Calculation": source, destination, the hash of the
    /// addresses, and that of addresses and ports.
    pub(crate) const RSS_KEY: [u8; KEY] = [
        0x6D, 0x5A, 0x56, 0xDA, 0x25, 0x5B, 0x0E, 0xC2, 0x41, 0x67, 0x25, 0x3D, 0x43, 0xA3, 0x8F, 0xB0, 0xD0, 0xCA,
        0x2B, 0xCB, 0xAE, 0x7B, 0x30, 0xB4, 0x77, 0xCB, 0x2D, 0xA3, 0x80, 0x30, 0xF2, 0x0C, 0x6A, 0x42, 0xB7, 0x3B,
        0xBE, 0xAC, 0x01, 0xFA,
    ];
    pub(crate) const RSS: &[(&str, &str, u32, u32)] = &[
        ("66.9.149.187:2794", "161.142.100.80:1766", 0x323E_8FC2, 0x51CC_C178),
        ("199.92.111.2:14230", "65.69.140.83:4739", 0xD718_262A, 0xC626_B0EA),
        ("24.19.198.95:12898", "12.22.207.184:38024", 0xD2D0_A5DE, 0x5C2B_394A),
        ("38.27.205.30:48228", "209.142.163.6:2217", 0x8298_9176, 0xAFC7_327F),
        ("153.39.163.191:44251", "202.188.127.2:1303", 0x5D18_09C5, 0x10E8_28A2),
        ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x2CC1_8CD5, 0x4020_7D3D),
        ("[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0x0F0C_461C, 0xDDE5_1BBF),
        ("[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", "[fe80::200:f8ff:fe21:67cf]:38024", 0x4B61_E985, 0x02D1_FEEF),
    ];

    /// The head of a frame of `protocol` from one end to another.
    pub(crate) fn head(from: &str, to: &str, protocol: u8) -> Vec<u8> {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let mut bytes = vec![2; 12];
        match (from.ip(), to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
                bytes.extend([source.octets(), destination.octets()].concat());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes.extend([0x86, 0xDD, 0x60, 0, 0, 0, 0, 20, protocol, 64]);
                bytes.extend([source.octets(), destination.octets()].concat());
            }
            _ => panic!("one of each version"),
        }
        bytes.extend([from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
        bytes.extend([0; 16]);
        bytes
    }

    fn steering(types: u32) -> Steering {
        let mut steering = Steering::new(4);
        assert_eq!(steering.set_algorithm(1), CtrlStatus::Success);
        assert_eq!(steering.set_types(types), CtrlStatus::Success);
        assert_eq!(steering.set_key(&RSS_KEY), CtrlStatus::Success);
        steering
    }

    #[test]
    fn the_hashes_are_those_of_the_verification_suite() {
        for (from, to, addresses, all) in RSS {
            let v6 = from.starts_with('[');
            let kinds = if v6 { [HashType::Ipv6Tcp, HashType::Ipv6] } else { [HashType::Ipv4Tcp, HashType::Ipv4] };
            let everything = steering(TYPES);
            let hash = |kind, value| Some(FrameHash { kind, value });
            assert_eq!(everything.of(&head(from, to, TCP)).1, hash(kinds[0], *all), "{from}");
            assert_eq!(everything.of(&head(from, to, 17)).1, hash(kinds[1], *addresses), "{from}");
            let plain = steering(HASH_IPV4 | HASH_IPV6);
            assert_eq!(plain.of(&head(from, to, TCP)).1, hash(kinds[1], *addresses), "{from}");
            assert_eq!(steering(if v6 { HASH_IPV4 } else { HASH_IPV6 }).of(&head(from, to, TCP)), (0, None));
        }
    }

    #[test]
    fn a_part_of_a_datagram_has_no_ports_to_hash() {
        let (from, to, addresses, _) = RSS[0];
        for flags in [[0x20, 0], [0, 1]] {
            let mut bytes = head(from, to, TCP);
            bytes[20..22].copy_from_slice(&flags);
            assert_eq!(steering(TYPES).of(&bytes).1, Some(FrameHash { kind: HashType::Ipv4, value: addresses }));
        }
    }

    #[test]
    fn the_value_chooses_the_queue_directly_or_through_the_table() {
        let (from, to, _, all) = RSS[0];
        let bytes = head(from, to, TCP);
        let mut steering = steering(TYPES);
        assert_eq!(steering.of(&bytes).0, all as usize % 4);
        assert_eq!(steering.set_mapping_size(128), CtrlStatus::Success);
        assert_eq!(steering.of(&bytes).0, 0);
        assert_eq!(steering.set_mapping(all % 128, &[3]), CtrlStatus::Success);
        assert_eq!(steering.of(&bytes).0, 3);
        assert_eq!(steering.set_mapping_size(0), CtrlStatus::Success);
        assert_eq!(steering.of(&bytes).0, all as usize % 4);
    }

    #[test]
    fn a_connection_stays_on_one_queue_and_connections_are_spread() {
        for (from, to) in [("10.0.0.1", "10.0.0.2"), ("[fd00::1]", "[fd00::2]")] {
            let connection = |port: u16| flow(&head(&format!("{from}:{port}"), &format!("{to}:80"), TCP));
            let mut long = head(&format!("{from}:9"), &format!("{to}:80"), TCP);
            assert_eq!(flow(&long), connection(9));
            long.extend([5; 100]);
            assert_eq!(flow(&long), connection(9));
            let mut count = [0; 4];
            (1000..1400).for_each(|port| count[connection(port) as usize % 4] += 1);
            assert!(count.iter().all(|count| (60..140).contains(count)), "{count:?}");
        }
        // The parts of a datagram, and echo requests whose checksums differ, stay together too.
        let mut echo = head("10.0.0.1:1", "10.0.0.2:2", 1);
        let first = flow(&echo);
        echo[37] = 0x55;
        assert_eq!(flow(&echo), first);
        let mut part = head("10.0.0.1:1", "10.0.0.2:2", UDP);
        part[21] = 9;
        let first = flow(&part);
        part[34] = 0x55;
        assert_eq!(flow(&part), first);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_headers_codes() {
        let mut steering = Steering::new(2);
        assert_eq!(
            (steering.types(), steering.set_types(HASH_IPV4)),
            (Err(CtrlStatus::NotSupported), CtrlStatus::InvalidParameter)
        );
        assert_eq!(steering.set_algorithm(2), CtrlStatus::InvalidParameter);
        assert_eq!(steering.set_algorithm(1), CtrlStatus::Success);
        assert_eq!((steering.types(), steering.set_types(16)), (Ok(TYPES), CtrlStatus::InvalidParameter));
        assert_eq!(steering.set_key(&[1; KEY + 1]), CtrlStatus::BufferOverflow);
        assert_eq!(steering.set_mapping_size(MAPPING + 1), CtrlStatus::InvalidParameter);
        assert_eq!(steering.set_mapping_size(4), CtrlStatus::Success);
        for (offset, entries) in [(0, &[0u32; 5][..]), (4, &[0]), (u32::MAX, &[0]), (0, &[1, 2])] {
            assert_eq!(steering.set_mapping(offset, entries), CtrlStatus::InvalidParameter);
        }
        assert_eq!(steering.mapping, [0; 4]);
        assert!(!steering.is_on());
    }

    proptest! {
        #[test]
        fn no_head_makes_the_hash_panic_or_name_a_queue_that_is_not_there(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), v6: bool) {
            if let Some(kind) = bytes.get_mut(12..14) {
                kind.copy_from_slice(if v6 { &[0x86, 0xDD] } else { &[8, 0] });
            }
            prop_assert!(steering(TYPES).of(&bytes).0 < 4);
        }
    }
}
