//! From the guest's ring to the wire.

use driver_api::net::{Checksum, Gso, HEAD};
use hypercall_abi::netif::{
    ExtraInfo, ExtraType, GsoType, NetStatus, TX_CSUM_BLANK, TX_DATA_VALIDATED, TX_EXTRA_INFO, TX_MORE_DATA,
};
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::{EVERYTHING, GUEST, Sink, World};
use crate::transmit::{BURST, Pass};

const OKAY: i16 = NetStatus::Okay.raw();
const ERROR: i16 = NetStatus::Error.raw();
const NULL: i16 = NetStatus::Null.raw();

fn world() -> (World, Sink) {
    let world = World::new(EVERYTHING);
    let sink = Sink::new(&world.machine);
    (world, sink)
}

/// Bytes that show where they come from.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

#[test]
fn a_frame_of_one_slot_arrives_whole_and_is_answered() {
    let (mut world, sink) = world();
    world.guest.fill(3, 100, &pattern(1514));
    world.guest.send(42, 3, 100, 1514, 0);
    assert_eq!(world.tx.pass(&sink), Ok((Pass::Sent, true)));
    let received = sink.received.borrow();
    assert_eq!(received[0].bytes, pattern(1514));
    assert_eq!(received[0].head, pattern(HEAD));
    assert_eq!((received.len(), world.guest.answers()), (1, vec![(42, OKAY)]));
    assert_eq!(world.stats.stats().tx_bytes, 1514);
}

#[test]
fn the_pieces_of_a_frame_arrive_in_order_with_what_was_left_to_the_receiver() {
    let (mut world, sink) = world();
    let bytes = pattern(66 + 4096 + 1000);
    world.guest.fill(0, 8, &bytes[..66]);
    world.guest.fill(1, 0, &bytes[66..66 + 4096]);
    world.guest.fill(2, 96, &bytes[66 + 4096..]);
    let flags = TX_CSUM_BLANK | TX_DATA_VALIDATED | TX_EXTRA_INFO | TX_MORE_DATA;
    world.guest.send(1, 0, 8, bytes.len() as u16, flags);
    let extra = ExtraInfo {
        kind: ExtraType::Gso.raw(),
        gso_size: 1448,
        gso_type: GsoType::TcpV4.raw(),
        ..ExtraInfo::default()
    };
    world.guest.slot(extra.as_bytes());
    world.guest.send(2, 1, 0, 4096, TX_MORE_DATA);
    world.guest.send(3, 2, 96, 1000, 0);
    assert_eq!(world.tx.pass(&sink), Ok((Pass::Sent, true)));
    let received = sink.received.borrow();
    assert_eq!(received[0].bytes, bytes);
    assert_eq!(received[0].offload.checksum, Checksum::Blank);
    assert_eq!(received[0].offload.gso, Some(Gso { kind: GsoType::TcpV4, size: 1448 }));
    assert_eq!(world.guest.answers(), [(1, OKAY), (0, NULL), (2, OKAY), (3, OKAY)]);
}

#[test]
fn a_burst_costs_one_copying_call_and_one_event() {
    let (mut world, sink) = world();
    for id in 0..BURST as u16 {
        world.guest.send(id, u32::from(id), 0, 60, 0);
    }
    assert_eq!(world.tx.pass(&sink), Ok((Pass::Sent, true)));
    world.tx.notified();
    assert_eq!((sink.received.borrow().len(), world.machine.copy_calls.get()), (BURST, 1));
    assert_eq!(world.stats.stats().notifications, 1);
    assert_eq!(world.tx.pass(&sink), Ok((Pass::Idle, false)));
}

#[test]
fn frames_that_make_no_sense_are_errors_and_the_next_one_passes() {
    /// Offset, size and flags.
    type Slot = (u16, u16, u16);
    let cases: &[(&str, &[Slot])] = &[
        ("of no bytes at all", &[(0, 0, 0)]),
        ("shorter than a header", &[(0, 13, 0)]),
        ("all of it in the rest", &[(0, 100, TX_MORE_DATA), (0, 100, 0)]),
        ("across the end of its page", &[(4000, 97, 0)]),
        ("the rest is longer than the whole", &[(0, 100, TX_MORE_DATA), (0, 100, 0)]),
        ("a later piece across the end of its page", &[(0, 200, TX_MORE_DATA), (4090, 60, 0)]),
        ("a chain without an end", &[(0, 200, TX_MORE_DATA), (0, 50, TX_MORE_DATA)]),
        ("extra information that is not there", &[(0, 200, TX_EXTRA_INFO)]),
    ];
    for (what, slots) in cases {
        let (mut world, sink) = world();
        for (id, (offset, size, flags)) in (0..).zip(*slots) {
            world.guest.send(id, 0, *offset, *size, *flags);
        }
        assert_eq!(world.tx.pass(&sink), Ok((Pass::Sent, true)), "{what}");
        assert!(sink.received.borrow().is_empty(), "{what}");
        let answers = world.guest.answers();
        assert_eq!(answers.len(), slots.len(), "{what}");
        assert!(answers.iter().all(|(_, status)| *status == ERROR), "{what}");
        assert_eq!(world.stats.stats().tx_errors, 1, "{what}");
        world.guest.send(9, 1, 0, 60, 0);
        world.tx.pass(&sink).unwrap();
        assert_eq!(world.guest.answers(), [(9, OKAY)], "{what}");
    }
}

#[test]
fn a_frame_of_more_slots_than_anybody_takes_is_an_error() {
    let (mut world, sink) = world();
    world.guest.send(0, 0, 0, 2000, TX_MORE_DATA);
    for id in 1..19 {
        world.guest.send(id, 0, 0, 50, if id < 18 { TX_MORE_DATA } else { 0 });
    }
    world.tx.pass(&sink).unwrap();
    assert!(sink.received.borrow().is_empty());
    assert!(world.guest.answers().iter().all(|(_, status)| *status == ERROR));
}

#[test]
fn a_segmentation_that_nobody_knows_is_an_error() {
    for (gso_type, gso_size) in [(9, 1448), (GsoType::TcpV4.raw(), 0)] {
        let (mut world, sink) = world();
        world.guest.send(0, 0, 0, 200, TX_EXTRA_INFO);
        let extra = ExtraInfo { kind: ExtraType::Gso.raw(), gso_size, gso_type, ..ExtraInfo::default() };
        world.guest.slot(extra.as_bytes());
        world.tx.pass(&sink).unwrap();
        assert_eq!(world.guest.answers(), [(0, ERROR), (0, NULL)]);
    }
}

#[test]
fn a_page_that_is_not_granted_fails_its_own_frame_only() {
    let (mut world, sink) = world();
    world.guest.send(1, 0, 0, 60, 0);
    world.guest.send(2, 5, 0, 60, 0);
    world.guest.send(3, 1, 0, 60, 0);
    world.machine.revoke(GUEST, super::guest::TX_PAGE + 5);
    world.tx.pass(&sink).unwrap();
    assert_eq!(sink.received.borrow().len(), 2);
    assert_eq!(world.guest.answers(), [(1, OKAY), (2, ERROR), (3, OKAY)]);
}

#[test]
fn what_was_decided_about_is_what_is_delivered() {
    /// Changes the sender's page after the decision.
    struct Changing<'a>(&'a World0, &'a Sink);
    struct World0(std::rc::Rc<driver_api::fake::Machine>);
    impl driver_api::net::Port for Changing<'_> {
        fn put(&self, frame: &driver_api::net::Frame<'_>) -> Result<(), driver_api::net::Refused> {
            self.1.put(frame)
        }
        fn commit(&self) {
            self.0.0.write(GUEST, super::guest::TX_PAGE, 0, &[0xEE; 60]);
            self.1.commit();
        }
        fn poll_room(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
            self.1.poll_room(cx)
        }
    }
    let (mut world, sink) = world();
    world.guest.fill(0, 0, &pattern(60));
    world.guest.send(1, 0, 0, 60, 0);
    let machine = World0(std::rc::Rc::clone(&world.machine));
    world.tx.pass(&Changing(&machine, &sink)).unwrap();
    assert_eq!(sink.received.borrow()[0].bytes, pattern(60));
}

#[test]
fn a_full_receiver_holds_the_rest_back_and_gets_it_in_order_later() {
    let (mut world, sink) = world();
    for id in 0..5 {
        world.guest.fill(u32::from(id), 0, &[id as u8; 60]);
        world.guest.send(id, u32::from(id), 0, 60, 0);
    }
    sink.room.set(2);
    assert_eq!(world.tx.pass(&sink), Ok((Pass::Blocked, true)));
    assert_eq!(world.guest.answers(), [(0, OKAY), (1, OKAY)]);
    assert_eq!(world.tx.pass(&sink).map(|(pass, _)| pass), Ok(Pass::Blocked));
    sink.room.set(9);
    assert_eq!(world.tx.pass(&sink).map(|(pass, _)| pass), Ok(Pass::Sent));
    assert_eq!(world.guest.answers(), [(2, OKAY), (3, OKAY), (4, OKAY)]);
    let first: Vec<u8> = sink.received.borrow().iter().map(|frame| frame.bytes[0]).collect();
    assert_eq!(first, [0, 1, 2, 3, 4]);
}

#[test]
fn a_producer_beyond_the_ring_ends_the_device() {
    let (mut world, sink) = world();
    world.guest.produce(257);
    assert!(world.tx.pass(&sink).is_err());
}

/// A slot of noise, or one whose fields are each at an edge.
fn odd_slot() -> impl Strategy<Value = [u8; 12]> {
    let edge =
        prop_oneof![Just(0), Just(1), Just(13), Just(14), Just(60), Just(4095), Just(4096), Just(9000), Just(u16::MAX)];
    let edges = (0..70u32, edge.clone(), 0..32u16, any::<u16>(), edge).prop_map(|(page, offset, flags, id, size)| {
        let gref = hypercall_abi::ids::GrantRef(super::guest::TX_PAGE + page);
        let mut bytes = [0; 12];
        bytes.copy_from_slice(hypercall_abi::netif::TxRequest { gref, offset, flags, id, size }.as_bytes());
        bytes
    });
    prop_oneof![any::<[u8; 12]>(), edges]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_slots_are_answered_one_for_one(slots in proptest::collection::vec(odd_slot(), 1..200)) {
        let (mut world, sink) = world();
        for slot in &slots {
            world.guest.slot(slot);
        }
        let mut answered = 0;
        for _ in 0..=slots.len() {
            let (pass, _) = world.tx.pass(&sink).unwrap();
            answered += world.guest.answers().len();
            if pass == Pass::Idle {
                break;
            }
        }
        prop_assert_eq!(answered, slots.len());
    }
}
