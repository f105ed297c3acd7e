//! What is left to the receiver of a frame, and done for one that cannot.

use driver_api::net::{Checksum, Gso, Offload};
use hypercall_abi::netif::GsoType;
use proptest::prelude::*;

use super::{A, B, World};
use crate::PortConfig;
use crate::packet::{Layout, be16, finish, sum};

/// A TCP frame with `payload` bytes, its checksum holding the pseudo header's sum only.
pub fn tcp(v6: bool, payload: usize) -> Vec<u8> {
    let mut bytes = [&B.0[..], &A.0[..]].concat();
    if v6 {
        bytes.extend([0x86, 0xDD, 0x60, 0, 0, 0]);
        bytes.extend(((20 + payload).min(65_535) as u16).to_be_bytes());
        bytes.extend([6, 64]);
        bytes.extend([0xFD; 32]);
    } else {
        bytes.extend([8, 0, 0x45, 0]);
        bytes.extend(((40 + payload) as u16).to_be_bytes());
        bytes.extend([0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    }
    let tcp = bytes.len();
    bytes.extend([0x13, 0x88, 0x13, 0x89, 0, 0, 1, 0, 0, 0, 0, 9, 0x50, 0x19, 0xFF, 0xFF, 0, 0, 0, 0]);
    bytes.extend((0..payload).map(|n| (n * 31 + n / 256) as u8));
    let layout = Layout::parse(&bytes).unwrap();
    let blank = !finish(layout.pseudo_sum(&bytes, 20 + payload));
    bytes[tcp + 16..tcp + 18].copy_from_slice(&blank.to_be_bytes());
    bytes
}

/// The payload of a frame whose lengths and checksums are as they must be on a wire.
pub fn checked(bytes: &[u8]) -> Vec<u8> {
    let layout = Layout::parse(bytes).expect("the headers are whole");
    let transport = &bytes[layout.transport..];
    assert_eq!(finish(sum(transport, layout.pseudo_sum(bytes, transport.len()))), 0, "the transport checksum is wrong");
    if layout.network + 20 == layout.transport {
        assert_eq!(finish(sum(&bytes[layout.network..layout.transport], 0)), 0, "the IPv4 checksum is wrong");
        assert_eq!(usize::from(be16(bytes, layout.network + 2).unwrap()), bytes.len() - layout.network);
    } else {
        assert_eq!(usize::from(be16(bytes, layout.network + 4).unwrap()), transport.len());
    }
    bytes[layout.payload..].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_plain_receiver_gets_long_tcp_in_whole_segments(v6: bool, payload in 1..60_000usize, size in 536..9000u16) {
        let world = World::new();
        let (_, plug_a) = world.station(false, PortConfig::default());
        let (b, _plug_b) = world.station(true, PortConfig::default());
        let kind = if v6 { GsoType::TcpV6 } else { GsoType::TcpV4 };
        let offload = Offload { checksum: Checksum::Blank, gso: Some(Gso { kind, size }) };
        let whole = tcp(v6, payload);
        prop_assert_eq!(world.send(&plug_a, &whole, offload), Ok(()));
        let received = b.received.borrow();
        let payloads: Vec<Vec<u8>> = received.iter().map(|(bytes, _)| checked(bytes)).collect();
        prop_assert!(payloads.iter().all(|payload| payload.len() <= usize::from(size)));
        let header = Layout::parse(&whole).unwrap().payload;
        prop_assert_eq!(payloads.concat(), &whole[header..]);
        // Sequence numbers go on; only the last segment pushes and ends.
        let mut next = 256;
        for (index, ((bytes, offload), payload)) in received.iter().zip(&payloads).enumerate() {
            let layout = Layout::parse(bytes).unwrap();
            let sequence = u32::from_be_bytes(bytes[layout.transport + 4..layout.transport + 8].try_into().unwrap());
            prop_assert_eq!(sequence, next);
            next += payload.len() as u32;
            let last = index + 1 == received.len();
            prop_assert_eq!(bytes[layout.transport + 13] & 0x09, if last { 0x09 } else { 0 });
            prop_assert_eq!(*offload, Offload { checksum: Checksum::Valid, gso: None });
        }
    }

    #[test]
    fn no_frame_makes_the_bridge_panic(bytes in proptest::collection::vec(any::<u8>(), 1..300), blank: bool, size in any::<u16>()) {
        let world = World::new();
        let (_, plug_a) = world.station(false, PortConfig::default());
        let (_b, _plug_b) = world.station(true, PortConfig::default());
        let checksum = if blank { Checksum::Blank } else { Checksum::Unchecked };
        let gso = (size != 0).then_some(Gso { kind: GsoType::TcpV4, size });
        let _ = world.send(&plug_a, &bytes, Offload { checksum, gso });
    }
}

#[test]
fn a_plain_receiver_gets_a_blank_checksum_filled_in() {
    let world = World::new();
    let (_, plug_a) = world.station(false, PortConfig::default());
    let (b, _plug_b) = world.station(true, PortConfig::default());
    let offload = Offload { checksum: Checksum::Blank, gso: None };
    for v6 in [false, true] {
        // The IPv4 header's own checksum is the sender's to make; without segmentation it is left as it is.
        let mut bytes = tcp(v6, 101);
        if !v6 {
            let checksum = finish(sum(&bytes[14..34], 0));
            bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
        }
        world.send(&plug_a, &bytes, offload).unwrap();
    }
    let received = b.received.borrow();
    assert!(received.iter().all(|(bytes, _)| checked(bytes).len() == 101));
    assert_eq!(received.len(), 2);
}
