//! VLANs are apart, and trunks name them by tags.

use driver_api::net::{Checksum, Gso, Offload, Refused};
use hypercall_abi::netif::GsoType;
use proptest::prelude::*;

use super::offloads::{checked, tcp};
use super::{A, ALL, B, World, count, frame, seen};
use crate::packet::Layout;
use crate::{PortConfig, Vlans};

fn in_vlans(text: &str) -> PortConfig {
    PortConfig { vlans: text.parse().unwrap(), ..PortConfig::default() }
}

/// The frame with a tag behind its addresses.
fn tagged(bytes: &[u8], vlan: u8) -> Vec<u8> {
    [&bytes[..12], &[0x81, 0, 0, vlan], &bytes[12..]].concat()
}

#[test]
fn members_of_different_vlans_never_hear_of_each_other() {
    let world = World::new();
    let [(_, plug_a), (b, plug_b), (c, _plug_c)] = ["10", "20", "10"].map(|id| world.station(false, in_vlans(id)));
    world.send(&plug_b, &frame(ALL, B), Offload::default()).unwrap();
    world.send(&plug_a, &frame(B, A), Offload::default()).unwrap();
    world.send(&plug_a, &frame(ALL, A), Offload::default()).unwrap();
    assert_eq!((count(&b), count(&c)), (0, 2));
    let tagged = [&ALL.0[..], &A.0[..], &[0x81, 0, 0, 20, 0x08, 0], &[0; 46]].concat();
    assert_eq!(world.send(&plug_a, &tagged, Offload::default()), Err(Refused::Unfit));
    assert_eq!(count(&b), 0);
}

#[test]
fn a_trunk_carries_its_vlans_with_tags_and_its_native_one_without() {
    let world = World::new();
    let (trunk, trunk_plug) = world.station(false, in_vlans("5p/10/20"));
    let [(ten, ten_plug), (twenty, _plug_b), (five, _plug_c), (thirty, thirty_plug)] =
        ["10", "20", "5", "30"].map(|id| world.station(false, in_vlans(id)));
    let bytes = frame(ALL, A);
    // Into the trunk: the tag names the VLAN, and is gone where it comes out.
    for (sent, receiver) in [(tagged(&bytes, 10), &ten), (tagged(&bytes, 20), &twenty), (bytes.clone(), &five)] {
        assert_eq!(world.send(&trunk_plug, &sent, Offload::default()), Ok(()));
        assert_eq!(seen(receiver), std::slice::from_ref(&bytes));
        assert!([&ten, &twenty, &five, &thirty].iter().all(|other| count(other) == 0));
    }
    for alien in [0, 5, 30] {
        assert_eq!(world.send(&trunk_plug, &tagged(&bytes, alien), Offload::default()), Err(Refused::Unfit));
    }
    assert_eq!((world.bridge.ports()[0].1.refused, world.bridge.ports()[0].1.received), (3, 3));
    // Out of the trunk, to an address that was learnt there and to all.
    assert_eq!(world.send(&ten_plug, &frame(A, B), Offload::default()), Ok(()));
    assert_eq!(world.send(&ten_plug, &frame(ALL, B), Offload::default()), Ok(()));
    assert_eq!(world.send(&thirty_plug, &frame(ALL, B), Offload::default()), Ok(()));
    assert_eq!(seen(&trunk), [tagged(&frame(A, B), 10), tagged(&frame(ALL, B), 10)]);
}

#[test]
fn a_trunk_keeps_priorities_to_another_trunk_and_untagged_frames_without_a_native_vlan_go_nowhere() {
    let world = World::new();
    let [(_, plug_a), (b, _plug_b)] = ["10/20", "20/30"].map(|text| world.station(false, in_vlans(text)));
    let urgent = [&ALL.0[..], &A.0[..], &[0x81, 0, 0xE0, 20, 0x88, 0xB5], &[1; 46]].concat();
    assert_eq!(world.send(&plug_a, &urgent, Offload::default()), Ok(()));
    assert_eq!(world.send(&plug_a, &tagged(&frame(ALL, A), 10), Offload::default()), Ok(()));
    assert_eq!(world.send(&plug_a, &frame(ALL, A), Offload::default()), Err(Refused::Unfit));
    assert_eq!(seen(&b), [urgent]);
}

#[test]
fn a_tag_that_is_data_does_not_leave_where_it_would_name_a_vlan() {
    let world = World::new();
    let wire = PortConfig { vlans: "10/20".parse::<Vlans>().unwrap().or_untagged_in_none(), ..PortConfig::default() };
    let (wire, wire_plug) = world.station(false, wire);
    let [(_, plug_a), (b, _plug_b)] = [(); 2].map(|()| world.station(false, PortConfig::default()));
    let hopping = tagged(&frame(ALL, A), 10);
    assert_eq!(world.send(&plug_a, &hopping, Offload::default()), Ok(()));
    assert_eq!((seen(&b), seen(&wire).len()), (vec![hopping.clone()], 0));
    assert_eq!(world.bridge.ports()[0].1.dropped, 1);
    assert_eq!(world.send(&wire_plug, &hopping, Offload::default()), Ok(()));
    assert_eq!(world.send(&wire_plug, &frame(ALL, B), Offload::default()), Ok(()));
    assert_eq!(seen(&b), [frame(ALL, B)]);
}

#[test]
fn long_tcp_for_a_plain_trunk_is_cut_into_segments_that_each_have_the_tag() {
    for v6 in [false, true] {
        let world = World::new();
        let (trunk, _plug_a) = world.station(true, in_vlans("10/20"));
        let (_, plug_b) = world.station(false, in_vlans("20"));
        let kind = if v6 { GsoType::TcpV6 } else { GsoType::TcpV4 };
        let offload = Offload { checksum: Checksum::Blank, gso: Some(Gso { kind, size: 1448 }) };
        let whole = tcp(v6, 50_000);
        assert_eq!(world.send(&plug_b, &whole, offload), Ok(()));
        let received = seen(&trunk);
        assert!(received.iter().all(|bytes| bytes[12..16] == [0x81, 0, 0, 20]));
        let payloads: Vec<Vec<u8>> = received.iter().map(|bytes| checked(bytes)).collect();
        assert_eq!(payloads.concat(), whole[Layout::parse(&whole).unwrap().payload..]);
    }
}

#[test]
fn long_tcp_out_of_a_trunk_keeps_what_was_left_to_the_receiver_and_loses_the_tag() {
    let world = World::new();
    let (_, trunk) = world.station(false, in_vlans("10/20"));
    let (b, _plug_b) = world.station(false, in_vlans("20"));
    let offload = Offload { checksum: Checksum::Blank, gso: Some(Gso { kind: GsoType::TcpV4, size: 1448 }) };
    let whole = tcp(false, 20_000);
    assert_eq!(world.send(&trunk, &tagged(&whole, 20), offload), Ok(()));
    assert_eq!(*b.received.borrow(), [(whole, offload)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_tagged_frame_makes_the_bridge_panic(mut bytes in proptest::collection::vec(any::<u8>(), 14..300), vlan in 0..4u8, blank: bool) {
        let world = World::new();
        let [(_, plug_a), (_b, _plug_b), (_c, _plug_c)] =
            ["1p/2", "1/2/3", "2"].map(|text| world.station(blank, in_vlans(text)));
        bytes.splice(12..14, [0x81, 0, 0, vlan]);
        let checksum = if blank { Checksum::Blank } else { Checksum::Unchecked };
        let _ = world.send(&plug_a, &bytes, Offload { checksum, gso: None });
    }
}
