//! Bridges with ports that note what they are given.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use driver_api::fake::{Machine, OwnMemory};
use driver_api::net::{Checksum, Frame, Gso, HEAD, Offload, PageRef, Piece, Port, Refused};
use driver_api::{DmaMemory, PAGE_SIZE};
use hypercall_abi::netif::GsoType;
use proptest::prelude::*;

use crate::adapt::SCRATCH_BYTES;
use crate::packet::{Layout, be16, finish, sum};
use crate::{Bridge, Mac, Plug, PortConfig, Vlans};

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
const ALL: Mac = Mac([0xFF; 6]);

/// A station: what it was given, and what it takes.
struct Station {
    machine: Rc<Machine>,
    put: RefCell<Vec<(Vec<Piece>, Offload)>>,
    received: RefCell<Vec<(Vec<u8>, Offload)>>,
    full: Cell<bool>,
    /// It takes only what is for it alone.
    crowded: Cell<bool>,
    /// It can neither segment nor compute checksums.
    plain: bool,
}

impl Port for Station {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        if self.full.get() {
            return Err(Refused::Full);
        }
        if self.plain && (frame.offload.checksum == Checksum::Blank || frame.offload.gso.is_some()) {
            return Err(Refused::Unfit);
        }
        self.put.borrow_mut().push((frame.pieces.to_vec(), frame.offload));
        Ok(())
    }

    fn commit(&self) {
        for (pieces, offload) in self.put.borrow_mut().drain(..) {
            let bytes = pieces.iter().map(|piece| self.machine.fetch(piece.page, piece.offset, piece.len).unwrap());
            self.received.borrow_mut().push((bytes.collect::<Vec<_>>().concat(), offload));
        }
    }

    fn has_room_for_all(&self) -> bool {
        !self.crowded.get()
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.full.get() { Poll::Pending } else { Poll::Ready(()) }
    }
}

thread_local! {
    /// The clock of a test, in seconds.
    static SECONDS: Cell<u64> = const { Cell::new(1) };
}

type TestBridge = Bridge<Rc<Machine>, OwnMemory>;

struct World {
    machine: Rc<Machine>,
    bridge: Rc<TestBridge>,
    memory: OwnMemory,
}

impl World {
    fn new() -> Self {
        let machine = Machine::new();
        let scratch = machine.own(SCRATCH_BYTES);
        let memory = machine.own(1 << 17);
        World { bridge: Bridge::new(Rc::clone(&machine), scratch, 99, || SECONDS.get()), machine, memory }
    }

    fn station(&self, plain: bool, config: PortConfig) -> (Rc<Station>, Plug<Rc<Machine>, OwnMemory>) {
        let station = Rc::new(Station {
            machine: Rc::clone(&self.machine),
            put: RefCell::default(),
            received: RefCell::default(),
            full: Cell::new(false),
            crowded: Cell::new(false),
            plain,
        });
        let plug = self.bridge.attach("port".into(), station.clone(), config);
        (station, plug)
    }

    fn send(&self, plug: &impl Port, bytes: &[u8], offload: Offload) -> Result<(), Refused> {
        self.memory.copy_in(0, bytes);
        let mut pieces = Vec::new();
        for at in (0..bytes.len()).step_by(PAGE_SIZE) {
            let page = PageRef::Own(self.memory.bus_addr().offset(at as u64));
            pieces.push(Piece { page, offset: 0, len: (bytes.len() - at).min(PAGE_SIZE) as u16 });
        }
        let head = &bytes[..bytes.len().min(HEAD)];
        let sent = plug.put(&Frame { head, pieces: &pieces, len: bytes.len() as u32, offload, source: 0 });
        plug.commit();
        sent
    }
}

fn frame(to: Mac, from: Mac) -> Vec<u8> {
    [&to.0[..], &from.0[..], &[0x88, 0xB5], &[7; 46]].concat()
}

fn in_vlans(text: &str) -> PortConfig {
    PortConfig { vlans: text.parse().unwrap(), ..PortConfig::default() }
}

/// The frame with a tag behind its addresses.
fn tagged(bytes: &[u8], vlan: u8) -> Vec<u8> {
    [&bytes[..12], &[0x81, 0, 0, vlan], &bytes[12..]].concat()
}

/// What a station was given, without what was left to it.
fn seen(station: &Station) -> Vec<Vec<u8>> {
    station.received.borrow_mut().drain(..).map(|(bytes, _)| bytes).collect()
}

fn count(station: &Station) -> usize {
    station.received.borrow().len()
}

#[test]
fn a_frame_goes_to_all_until_its_receiver_was_seen_and_then_to_it_alone() {
    let world = World::new();
    let [(a, plug_a), (b, plug_b), (c, _plug_c)] = [(); 3].map(|()| world.station(false, PortConfig::default()));
    world.send(&plug_a, &frame(B, A), Offload::default()).unwrap();
    assert_eq!((count(&a), count(&b), count(&c)), (0, 1, 1));
    world.send(&plug_b, &frame(A, B), Offload::default()).unwrap();
    world.send(&plug_a, &frame(B, A), Offload::default()).unwrap();
    assert_eq!((count(&a), count(&b), count(&c)), (1, 2, 1));
}

#[test]
fn a_broadcast_reaches_all_but_its_sender_and_waits_for_nobody() {
    let world = World::new();
    let [(a, plug_a), (b, _plug_b), (c, _plug_c)] = [(); 3].map(|()| world.station(false, PortConfig::default()));
    b.full.set(true);
    assert_eq!(world.send(&plug_a, &frame(ALL, A), Offload::default()), Ok(()));
    assert_eq!((count(&a), count(&b), count(&c)), (0, 0, 1));
    assert_eq!(world.bridge.ports()[1].1.dropped, 1);
}

#[test]
fn a_frame_for_a_full_receiver_waits_with_its_sender() {
    let world = World::new();
    let [(_, plug_a), (b, plug_b)] = [(); 2].map(|()| world.station(false, PortConfig::default()));
    world.send(&plug_b, &frame(ALL, B), Offload::default()).unwrap();
    b.full.set(true);
    assert_eq!(world.send(&plug_a, &frame(B, A), Offload::default()), Err(Refused::Full));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(plug_a.poll_room(&mut cx).is_pending());
    b.full.set(false);
    assert!(plug_a.poll_room(&mut cx).is_ready());
    assert_eq!(world.send(&plug_a, &frame(B, A), Offload::default()), Ok(()));
    assert_eq!(count(&b), 1);
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

#[test]
fn a_port_with_one_address_sends_from_no_other_and_nobody_from_a_group() {
    let world = World::new();
    let (_, plug_a) = world.station(false, PortConfig { only_from: Some(A), ..PortConfig::default() });
    let (b, plug_b) = world.station(false, PortConfig::default());
    assert_eq!(world.send(&plug_a, &frame(ALL, B), Offload::default()), Err(Refused::Unfit));
    assert_eq!(world.send(&plug_a, &frame(ALL, A), Offload::default()), Ok(()));
    assert_eq!(world.send(&plug_b, &frame(A, ALL), Offload::default()), Err(Refused::Unfit));
    assert_eq!((count(&b), world.bridge.ports()[0].1.refused), (1, 1));
}

#[test]
fn nothing_passes_at_a_port_whose_link_is_down_until_it_is_up_again() {
    let world = World::new();
    let [(a, plug_a), (b, plug_b)] = [(); 2].map(|()| world.station(false, PortConfig::default()));
    let both = || {
        let sent = world.send(&plug_a, &frame(B, A), Offload::default());
        (sent, world.send(&plug_b, &frame(A, B), Offload::default()), count(&a), count(&b))
    };
    assert_eq!(both(), (Ok(()), Ok(()), 1, 1));
    assert!(world.bridge.set_link("port", false) && !world.bridge.set_link("another", false));
    // What the first port sends is refused, and what is for it is dropped.
    assert_eq!(both(), (Err(Refused::Unfit), Ok(()), 1, 1));
    let stats = world.bridge.ports()[0].1;
    assert_eq!((stats.refused, stats.dropped, stats.down), (1, 1, true));
    world.bridge.set_link("port", true);
    assert_eq!(both(), (Ok(()), Ok(()), 2, 2));
}

#[test]
fn a_flood_of_frames_for_everybody_leaves_room_for_what_is_for_one_receiver() {
    let world = World::new();
    let [(_, plug_a), (b, plug_b)] = [(); 2].map(|()| world.station(false, PortConfig::default()));
    world.send(&plug_b, &frame(ALL, B), Offload::default()).unwrap();
    b.crowded.set(true);
    let nobody = Mac([2, 9, 9, 9, 9, 9]);
    for to in [ALL, nobody] {
        assert_eq!(world.send(&plug_a, &frame(to, A), Offload::default()), Ok(()));
    }
    assert_eq!((count(&b), world.bridge.ports()[1].1.dropped), (0, 2));
    assert_eq!(world.send(&plug_a, &frame(B, A), Offload::default()), Ok(()));
    assert_eq!(count(&b), 1);
}

#[test]
fn a_burst_follows_a_station_that_moves_in_the_middle_of_it() {
    let world = World::new();
    let [(_, plug_a), (b, plug_b), (c, plug_c)] = [(); 3].map(|()| world.station(false, PortConfig::default()));
    world.send(&plug_b, &frame(ALL, B), Offload::default()).unwrap();
    let put = |plug: &dyn Port, bytes: &[u8]| {
        let page = PageRef::Own(world.memory.bus_addr());
        let pieces = [Piece { page, offset: 0, len: bytes.len() as u16 }];
        plug.put(&Frame { head: bytes, pieces: &pieces, len: 60, offload: Offload::default(), source: 0 })
    };
    let waiting = |station: &Station| station.put.borrow().len();
    let before = (waiting(&b), waiting(&c));
    // No commit in between.
    for _ in 0..3 {
        assert_eq!(put(&plug_a, &frame(B, A)), Ok(()));
    }
    assert_eq!((waiting(&b), waiting(&c)), (before.0 + 3, before.1));
    assert_eq!(put(&plug_c, &frame(A, B)), Ok(()));
    assert_eq!(put(&plug_a, &frame(B, A)), Ok(()));
    assert_eq!((waiting(&b), waiting(&c)), (before.0 + 3, before.1 + 1));
    // A frame that is refused there, or cut off behind the same start, is not carried along.
    assert_eq!(put(&plug_a, &frame(B, ALL)), Err(Refused::Unfit));
    assert_eq!(put(&plug_a, &frame(B, A)[..13]), Err(Refused::Unfit));
    drop(plug_c);
    assert_eq!(put(&plug_a, &frame(B, A)), Ok(()));
    assert_eq!((waiting(&b), world.bridge.ports()[0].1.received), (before.0 + 4, 5));
}

#[test]
fn both_ways_of_a_connection_last_over_bursts_until_a_station_moves_or_is_silent_for_five_minutes() {
    let world = World::new();
    let [(a, plug_a), (b, plug_b), (c, plug_c)] = [(); 3].map(|()| world.station(false, PortConfig::default()));
    let send = |plug: &dyn Port, to, from| world.send(&plug, &frame(to, from), Offload::default()).unwrap();
    let counts = || [&a, &b, &c].map(|station| core::mem::take(&mut *station.received.borrow_mut()).len());
    send(&plug_b, ALL, B);
    counts();
    for second in [1, 2, 3, 20] {
        SECONDS.set(second);
        for _ in 0..3 {
            send(&plug_a, B, A);
            send(&plug_b, A, B);
            assert_eq!(counts(), [1, 1, 0]);
        }
    }
    send(&plug_c, A, B);
    send(&plug_a, B, A);
    assert_eq!(counts(), [1, 0, 1], "it has moved");
    SECONDS.set(20 + 300);
    send(&plug_a, B, A);
    assert_eq!(counts(), [0, 1, 1], "nobody knows where it is");
    send(&plug_a, B, A);
    assert_eq!(counts(), [0, 1, 1], "nor in the next burst");
}

#[test]
fn a_port_that_is_unplugged_is_forgotten() {
    let world = World::new();
    let [(_, plug_a), (_, plug_b), (c, _plug_c)] = [(); 3].map(|()| world.station(false, PortConfig::default()));
    world.send(&plug_b, &frame(ALL, B), Offload::default()).unwrap();
    drop(plug_b);
    assert!(world.bridge.addresses().is_empty());
    world.send(&plug_a, &frame(B, A), Offload::default()).unwrap();
    assert_eq!((count(&c), world.bridge.ports().len()), (2, 2));
}

/// A TCP frame with `payload` bytes, its checksum holding the pseudo header's sum only.
fn tcp(v6: bool, payload: usize) -> Vec<u8> {
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
fn checked(bytes: &[u8]) -> Vec<u8> {
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
