//! From the wire to the guest's pages.

use driver_api::net::{Checksum, Frame, Gso, Offload, PageRef, Piece, Port, Refused};
use driver_api::{DmaMemory, fake};
use embassy_time::MockDriver;
use hypercall_abi::netif::{
    ExtraInfo, GsoType, NetStatus, RX_CSUM_BLANK, RX_DATA_VALIDATED, RX_EXTRA_INFO, RX_MORE_DATA,
};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use zerocopy::{FromBytes, IntoBytes};

use super::{EVERYTHING, GUEST, World};
use crate::negotiate::Features;
use crate::receive::PATIENCE;

/// A frame of `len` bytes in memory of the host, in pieces of uneven lengths.
struct Sent {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

fn sent(memory: &fake::OwnMemory, len: usize) -> Sent {
    let mut bytes: Vec<u8> = (0..len).map(|n| (n * 13 + 1) as u8).collect();
    if let Some(kind) = bytes.get_mut(12..14) {
        kind.copy_from_slice(&[8, 0]);
    }
    memory.copy_in(0, &bytes);
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < len {
        let here = 1500.min(len - at).min(4096 - at % 4096);
        let page = PageRef::Own(memory.bus_addr().offset((at / 4096 * 4096) as u64));
        pieces.push(Piece { page, offset: (at % 4096) as u16, len: here as u16 });
        at += here;
    }
    Sent { bytes, pieces }
}

impl Sent {
    fn put(&self, world: &World, offload: Offload) -> Result<(), Refused> {
        let head = &self.bytes[..self.bytes.len().min(192)];
        world.rx.put(&Frame { head, pieces: &self.pieces, len: self.bytes.len() as u32, offload, source: 0 })
    }
}

#[test]
fn a_frame_is_spread_over_pages_and_marked_to_its_end() {
    let mut world = World::new(EVERYTHING);
    let memory = world.machine.own(16384);
    world.guest.offer(8);
    let frame = sent(&memory, 9000);
    assert_eq!(frame.put(&world, Offload { checksum: Checksum::Valid, gso: None }), Ok(()));
    assert!(world.guest.arrivals().is_empty(), "nothing is published before the commit");
    world.rx.commit();
    let arrivals = world.guest.arrivals();
    let flags: Vec<u16> = arrivals.iter().map(|(response, _)| response.flags).collect();
    assert_eq!(flags, [RX_DATA_VALIDATED | RX_MORE_DATA, RX_DATA_VALIDATED | RX_MORE_DATA, RX_DATA_VALIDATED]);
    assert_eq!(arrivals.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>(), frame.bytes);
    assert_eq!(world.bell.0.get(), 1);
}

#[test]
fn segmentation_stands_in_the_slot_behind_the_first() {
    let mut world = World::new(EVERYTHING);
    let memory = world.machine.own(8192);
    world.guest.offer(8);
    let gso = Some(Gso { kind: GsoType::TcpV4, size: 1448 });
    sent(&memory, 5000).put(&world, Offload { checksum: Checksum::Blank, gso }).unwrap();
    world.rx.commit();
    let arrivals = world.guest.arrivals();
    let flags = arrivals[0].0.flags;
    assert_eq!(flags, RX_CSUM_BLANK | RX_DATA_VALIDATED | RX_EXTRA_INFO | RX_MORE_DATA);
    let extra = ExtraInfo::read_from_bytes(arrivals[1].0.as_bytes()).unwrap();
    assert_eq!((extra.gso_size, extra.gso_type), (1448, GsoType::TcpV4.raw()));
    assert_eq!((arrivals.len(), arrivals[2].0.status), (3, 904));
}

#[test]
fn a_burst_is_one_copying_call_and_one_event() {
    let mut world = World::new(EVERYTHING);
    let memory = world.machine.own(4096);
    world.guest.offer(64);
    let frame = sent(&memory, 60);
    for _ in 0..40 {
        frame.put(&world, Offload::default()).unwrap();
    }
    world.rx.commit();
    assert_eq!((world.machine.copy_calls.get(), world.bell.0.get()), (1, 1));
    assert_eq!((world.guest.arrivals().len(), world.stats.stats().rx_packets), (40, 40));
}

#[test]
fn what_a_guest_does_not_take_is_unfit_for_it() {
    let none = Features::default();
    let cases = [
        (none, 60, Offload { checksum: Checksum::Blank, gso: None }),
        (none, 5000, Offload::default()),
        (
            Features { gso_v4: false, ..EVERYTHING },
            5000,
            Offload { gso: Some(Gso { kind: GsoType::TcpV4, size: 1448 }), ..Offload::default() },
        ),
    ];
    for (features, len, offload) in cases {
        let mut world = World::new(features);
        let memory = world.machine.own(8192);
        world.guest.offer(8);
        assert_eq!(sent(&memory, len).put(&world, offload), Err(Refused::Unfit));
        assert_eq!(sent(&memory, 60).put(&world, Offload::default()), Ok(()));
    }
}

#[test]
fn a_frame_with_a_tag_is_completed_before_a_guest_gets_it() {
    let mut world = World::new(EVERYTHING);
    let memory = world.machine.own(4096);
    world.guest.offer(8);
    let mut frame = sent(&memory, 60);
    frame.bytes[12..14].copy_from_slice(&[0x81, 0]);
    assert_eq!(frame.put(&world, Offload { checksum: Checksum::Blank, gso: None }), Err(Refused::Unfit));
    assert_eq!(frame.put(&world, Offload { checksum: Checksum::Valid, gso: None }), Ok(()));
}

#[test]
fn a_page_that_cannot_be_written_is_an_error_in_its_own_frame_only() {
    let mut world = World::new(EVERYTHING);
    let memory = world.machine.own(4096);
    world.guest.offer(3);
    world.machine.grant(GUEST, super::guest::RX_PAGE + 1, false);
    let frame = sent(&memory, 60);
    for _ in 0..3 {
        frame.put(&world, Offload::default()).unwrap();
    }
    world.rx.commit();
    let statuses: Vec<i16> = world.guest.arrivals().iter().map(|(response, _)| response.status).collect();
    assert_eq!(statuses, [60, NetStatus::Error.raw(), 60]);
    assert_eq!(world.stats.stats().rx_errors, 1);
}

#[test]
fn senders_wait_for_a_guest_without_room_once_and_no_longer_than_the_patience() {
    let mut world = World::new(EVERYTHING);
    let memory = world.machine.own(4096);
    let frame = sent(&memory, 60);
    let mut cx = Context::from_waker(Waker::noop());
    let rx = std::rc::Rc::clone(&world.rx);
    let mut watch = pin!(rx.watch());
    assert!(watch.as_mut().poll(&mut cx).is_pending());
    assert_eq!(frame.put(&world, Offload::default()), Err(Refused::Full));
    assert!(world.rx.poll_room(&mut cx).is_pending());
    assert!(watch.as_mut().poll(&mut cx).is_pending());
    MockDriver::get().advance(PATIENCE + PATIENCE);
    assert!(watch.as_mut().poll(&mut cx).is_pending());
    assert!(world.rx.poll_room(&mut cx).is_ready(), "the patience has ended");
    assert_eq!(frame.put(&world, Offload::default()), Ok(()));
    assert_eq!(world.stats.stats().rx_dropped, 1);
    // It gives room again, and is waited for again.
    world.guest.offer(1);
    world.rx.look();
    assert_eq!(frame.put(&world, Offload::default()), Ok(()));
    assert_eq!(frame.put(&world, Offload::default()), Err(Refused::Full));
    world.rx.commit();
    assert_eq!(world.guest.arrivals().len(), 1);
}

#[test]
fn half_of_the_room_is_kept_for_frames_that_are_for_the_guest_alone() {
    let mut world = World::new(EVERYTHING);
    let memory = world.machine.own(4096);
    let frame = sent(&memory, 60);
    assert!(!world.rx.has_room_for_all());
    world.guest.offer(8);
    let mut put = 0;
    while world.rx.has_room_for_all() {
        assert_eq!(frame.put(&world, Offload::default()), Ok(()));
        put += 1;
    }
    assert_eq!(put, 4);
    for _ in 4..8 {
        assert_eq!(frame.put(&world, Offload::default()), Ok(()));
    }
    world.rx.commit();
    // One page is enough for a guest that never gives more, and what was given anew counts at once.
    world.guest.offer(6);
    assert!(world.rx.has_room_for_all());
    let mut small = World::new(EVERYTHING);
    small.guest.offer(1);
    assert!(small.rx.has_room_for_all());
}

#[test]
fn after_the_end_nobody_is_connected_and_nothing_is_mapped() {
    let world = World::new(EVERYTHING);
    let memory = world.machine.own(4096);
    assert_eq!(world.rx.close().len(), 1);
    assert_eq!(sent(&memory, 60).put(&world, Offload::default()), Err(Refused::Down));
}
