//! Who gets a frame, and who waits or loses one.

use std::task::{Context, Waker};

use driver_api::DmaMemory;
use driver_api::net::{Frame, Offload, PageRef, Piece, Port, Refused};

use super::{A, ALL, B, SECONDS, Station, World, count, frame};
use crate::{Mac, PortConfig};

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
