//! A router between two wires that note what they hear.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use driver_api::fake::{Machine, OwnMemory};
use driver_api::net::{Frame, HEAD, Offload, PageRef, Piece, Port, Refused};
use driver_api::{DmaMemory, PAGE_SIZE};
use hypercall_abi::ids::{DomId, GrantRef};

use super::frames::{checked, ends, error, frame, packet, quoted};
use super::{GUEST, HOST, OUTSIDE, SERVER, nat};
use crate::checksum::{Field, FieldKind, be16, put16, replace16};
use crate::neighbours::{question, sender};
use crate::packet::{ACK, SYN};
use crate::{End, Facing, ForwardError, Gate, MEMORY, Outside, PortForward, Protocol, Router};

const INNER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 4];
const GATEWAY: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 1);

thread_local! {
    /// The second that it is.
    static NOW: Cell<u64> = const { Cell::new(7) };
}

/// Takes frames and fetches them at the commit, as rings do.
struct Wire {
    machine: Rc<Machine>,
    put: RefCell<Vec<Vec<Piece>>>,
    heard: RefCell<Vec<Vec<u8>>>,
    full: Cell<bool>,
}

impl Port for Wire {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        if self.full.get() {
            return Err(Refused::Full);
        }
        self.put.borrow_mut().push(frame.pieces.to_vec());
        Ok(())
    }

    fn commit(&self) {
        for pieces in self.put.borrow_mut().drain(..) {
            let bytes = pieces.iter().map(|piece| self.machine.fetch(piece.page, piece.offset, piece.len).unwrap());
            self.heard.borrow_mut().push(bytes.collect::<Vec<_>>().concat());
        }
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.full.get() { Poll::Pending } else { Poll::Ready(()) }
    }
}

type TestGate = Gate<Rc<Wire>, Wire, OwnMemory>;

struct World {
    memory: OwnMemory,
    inner: Rc<Wire>,
    outer: Rc<Wire>,
    host: Rc<Wire>,
    inside: Rc<TestGate>,
    outside: Rc<TestGate>,
    router: Rc<Router<Wire, OwnMemory>>,
}

fn world() -> World {
    let machine = Machine::new();
    let wire = || {
        let machine = Rc::clone(&machine);
        Rc::new(Wire { machine, put: RefCell::default(), heard: RefCell::default(), full: Cell::new(false) })
    };
    let (inner, outer, host) = (wire(), wire(), wire());
    let router = Router::new(nat(), [INNER, OUTER], machine.own(MEMORY), Rc::clone(&machine) as _, || NOW.get());
    router.connect(&inner, &outer);
    router.set_outside(Some(Outside { address: OUTSIDE, mask: 0xFFFF_FF00, gateway: Some(GATEWAY), mtu: 9040 }));
    let (inside, outside) = (Gate::new(Rc::clone(&host)), Gate::new(Rc::clone(&host)));
    inside.add_router(Facing::Inside, &router);
    outside.add_router(Facing::Outside, &router);
    World { memory: machine.own(1 << 16), inner, outer, host, inside, outside, router }
}

impl World {
    fn send(&self, gate: &TestGate, bytes: &[u8]) -> Result<(), Refused> {
        self.send_from(5, gate, bytes)
    }

    fn send_from(&self, source: u16, gate: &TestGate, bytes: &[u8]) -> Result<(), Refused> {
        self.memory.copy_in(0, bytes);
        let mut pieces = Vec::new();
        let head = bytes.len().min(HEAD);
        let piece = |at: usize, len: usize| Piece {
            page: PageRef::Own(self.memory.bus_addr().offset((at / PAGE_SIZE * PAGE_SIZE) as u64)),
            offset: (at % PAGE_SIZE) as u16,
            len: len as u16,
        };
        pieces.push(piece(0, head));
        let mut at = head;
        while at < bytes.len() {
            let len = (bytes.len() - at).min(PAGE_SIZE - at % PAGE_SIZE);
            pieces.push(piece(at, len));
            at += len;
        }
        let offload = Offload::default();
        let head = &bytes[..head];
        let put = gate.put(&Frame { head, pieces: &pieces, len: bytes.len() as u32, offload, source });
        gate.commit();
        put
    }

    /// The outer side knows its gateway, the inner side its guest.
    fn introduced() -> World {
        let world = world();
        world.send(&world.outside, &question(GATEWAY_MAC, GATEWAY, OUTSIDE)).unwrap();
        world.send(&world.inside, &question(GUEST_MAC, GUEST, HOST)).unwrap();
        world.host.heard.borrow_mut().clear();
        world
    }
}

#[test]
fn a_long_frame_goes_out_to_the_gateway_whole_and_its_answer_comes_back_to_the_guest() {
    let world = World::introduced();
    let payload: Vec<u8> = (0..9000).map(|n| (n % 251) as u8).collect();
    let sent = frame(INNER, GUEST_MAC, &packet(Protocol::Tcp, (GUEST, 40_000), (SERVER, 80), SYN, &payload));
    assert_eq!(world.send(&world.inside, &sent), Ok(()));
    let heard = world.outer.heard.borrow().concat();
    assert_eq!((&heard[..6], &heard[6..12]), (&GATEWAY_MAC[..], &OUTER[..]));
    assert_eq!(checked(&heard), ((OUTSIDE, 40_000), (SERVER, 80)));
    assert_eq!(&heard[54..], &payload[..]);
    assert_eq!(world.router.nat().connections_of(5), 1, "the guest's port of the bridge pays");
    let answer = frame(OUTER, GATEWAY_MAC, &packet(Protocol::Tcp, (SERVER, 80), (OUTSIDE, 40_000), SYN | ACK, b"hi"));
    assert_eq!(world.send(&world.outside, &answer), Ok(()));
    let heard = world.inner.heard.borrow().concat();
    assert_eq!((&heard[..6], &heard[6..12]), (&GUEST_MAC[..], &INNER[..]));
    assert_eq!(checked(&heard), ((SERVER, 80), (GUEST, 40_000)));
    assert!(world.host.heard.borrow().is_empty());
    assert_eq!((world.router.stats().out, world.router.stats().back), (1, 1));
}

#[test]
fn a_guest_is_told_which_router_its_packet_has_got_to() {
    let world = World::introduced();
    let mut sent = datagram((SERVER, 33_434), 1);
    let sum = Field { at: 14 + 10, kind: FieldKind::Plain };
    replace16(&mut sent, 14 + 8, 1 << 8 | 17, &[sum]);
    world.send(&world.inside, &sent).unwrap();
    assert!(world.outer.heard.borrow().is_empty());
    let heard = world.inner.heard.borrow().concat();
    assert_eq!((&heard[..6], &heard[6..12]), (&GUEST_MAC[..], &INNER[..]));
    assert_eq!((&heard[34..36], ends(&heard[14..]).0.0, ends(&heard[14..]).1.0), (&[11, 0][..], HOST, GUEST));
    assert_eq!(ends(quoted(&heard)), ((GUEST, 40_000), (SERVER, 33_434)));
}

#[test]
fn a_guest_is_told_how_long_packets_outside_may_be() {
    let world = World::introduced();
    let long = frame(INNER, GUEST_MAC, &packet(Protocol::Udp, (GUEST, 40_000), (SERVER, 80), 0, &[7; 9013]));
    world.send(&world.inside, &long).unwrap();
    assert!(world.outer.heard.borrow().is_empty());
    let heard = world.inner.heard.borrow().concat();
    assert_eq!((&heard[34..36], be16(&heard, 40)), (&[3, 4][..], 9040));
    assert_eq!(ends(quoted(&heard)), ((GUEST, 40_000), (SERVER, 80)));
    world.inner.heard.borrow_mut().clear();
    // Who says that it may be cut is not told, and who is told does not hear it about what it was told itself.
    let mut cut = long.clone();
    cut[20] = 0;
    let message = frame(INNER, GUEST_MAC, &error(GUEST, SERVER, &long[14..]));
    let mut message = [message, vec![0; 9000]].concat();
    put16(&mut message, 16, 9056);
    world.send(&world.inside, &cut).unwrap();
    world.send(&world.inside, &message).unwrap();
    assert!(world.inner.heard.borrow().is_empty() && world.outer.heard.borrow().is_empty());
    assert_eq!(world.router.stats().dropped, 3);
}

#[test]
fn what_is_for_the_host_reaches_the_host() {
    let world = World::introduced();
    let own = frame(INNER, GUEST_MAC, &packet(Protocol::Udp, (GUEST, 1), (HOST, 53), 0, b""));
    let all = frame([0xFF; 6], GUEST_MAC, &packet(Protocol::Udp, (GUEST, 68), ([255; 4].into(), 67), 0, b""));
    let stranger = frame(OUTER, GATEWAY_MAC, &packet(Protocol::Udp, (SERVER, 53), (OUTSIDE, 20_000), 0, b""));
    world.send(&world.inside, &own).unwrap();
    world.send(&world.inside, &all).unwrap();
    world.send(&world.outside, &stranger).unwrap();
    assert_eq!(*world.host.heard.borrow(), [own, all, stranger]);
    assert!(world.outer.heard.borrow().is_empty() && world.inner.heard.borrow().is_empty());
}

/// A datagram of the guest for `to`, told apart by its payload.
fn datagram(to: End, payload: u8) -> Vec<u8> {
    frame(INNER, GUEST_MAC, &packet(Protocol::Udp, (GUEST, 40_000), to, 0, &[payload]))
}

/// The payloads of the datagrams that a wire has heard since the last look.
fn payloads(wire: &Wire) -> Vec<u8> {
    wire.heard.borrow_mut().drain(..).filter(|frame| sender(frame).is_none()).map(|frame| frame[42]).collect()
}

#[test]
fn an_unknown_station_is_asked_for_once_a_second_and_its_latest_packets_wait_for_the_answer() {
    let world = world();
    for n in 0..10 {
        assert_eq!(world.send(&world.inside, &datagram((SERVER, 80), n)), Ok(()));
    }
    {
        let heard = world.outer.heard.borrow();
        assert_eq!((heard.len(), sender(&heard[0])), (1, Some((OUTSIDE, OUTER))));
        assert_eq!(&heard[0][38..42], &GATEWAY.octets());
    }
    assert_eq!(world.router.stats().dropped, 7);
    world.send(&world.outside, &question(GATEWAY_MAC, GATEWAY, OUTSIDE)).unwrap();
    let last = world.outer.heard.borrow().last().unwrap().clone();
    assert_eq!((&last[..6], checked(&last)), (&GATEWAY_MAC[..], ((OUTSIDE, 40_000), (SERVER, 80))));
    assert_eq!(payloads(&world.outer), [7, 8, 9], "in the order in which they came");
    assert_eq!((world.router.stats().out, world.router.stats().dropped), (3, 7));
    world.send(&world.inside, &datagram((SERVER, 80), 10)).unwrap();
    assert_eq!(payloads(&world.outer), [10]);
}

#[test]
fn a_stranger_s_first_packet_for_a_guest_waits_until_the_guest_is_known() {
    for introduce in [false, true] {
        let world = world();
        world.router.nat().forward(PortForward { protocol: Protocol::Tcp, port: 80, to: (GUEST, 8) }).unwrap();
        let knock = frame(OUTER, GATEWAY_MAC, &packet(Protocol::Tcp, (SERVER, 9), (OUTSIDE, 80), SYN, b""));
        world.send(&world.outside, &knock).unwrap();
        assert_eq!(sender(&world.inner.heard.borrow()[0]), Some((HOST, INNER)));
        match introduce {
            true => world.router.introduce(GUEST, GUEST_MAC),
            false => world.send(&world.inside, &question(GUEST_MAC, GUEST, HOST)).unwrap(),
        }
        let heard = world.inner.heard.borrow();
        assert_eq!((&heard[1][..6], &heard[1][6..12]), (&GUEST_MAC[..], &INNER[..]));
        assert_eq!(checked(&heard[1]), ((SERVER, 9), (GUEST, 8)));
        assert_eq!((world.router.stats().back, world.router.stats().dropped), (1, 0));
    }
}

#[test]
fn a_station_that_does_not_answer_is_asked_three_times_and_its_packets_are_lost() {
    let world = world();
    let silent: std::net::Ipv4Addr = "192.0.2.99".parse().unwrap();
    world.send(&world.inside, &datagram((silent, 80), 1)).unwrap();
    for now in [8, 8, 9, 9] {
        NOW.set(now);
        world.router.tick();
    }
    let asked = world.outer.heard.borrow().iter().filter(|frame| frame[38..42] == silent.octets()).count();
    assert_eq!((asked, world.router.stats().dropped), (3, 0));
    NOW.set(10);
    world.router.tick();
    assert_eq!(world.router.stats().dropped, 1);
    world.send(&world.outside, &question([2; 6], silent, OUTSIDE)).unwrap();
    assert_eq!(payloads(&world.outer), []);
}

#[test]
fn a_guest_that_sends_to_many_who_do_not_answer_loses_its_own_packets() {
    let world = world();
    let host = |n: u8| std::net::Ipv4Addr::new(192, 0, 2, n);
    world.send(&world.inside, &datagram((SERVER, 80), 1)).unwrap();
    for round in 0..4 {
        for n in 100..200 {
            let sent = frame(INNER, GUEST_MAC, &packet(Protocol::Udp, (GUEST, 1000), (host(n), 80), 0, &[round]));
            assert_eq!(world.send_from(9, &world.inside, &sent), Ok(()));
        }
    }
    assert_eq!(world.router.stats().dropped, 400 - 31);
    world.send(&world.outside, &question(GATEWAY_MAC, GATEWAY, OUTSIDE)).unwrap();
    assert_eq!(payloads(&world.outer), [1], "the other guest's packet has waited");
    world.router.forget(9);
    assert_eq!(world.router.stats().dropped, 400);
}

#[test]
fn a_guest_that_sends_to_one_who_does_not_answer_loses_its_own_packets() {
    let world = world();
    world.send(&world.inside, &datagram((SERVER, 80), 1)).unwrap();
    for _ in 0..20 {
        assert_eq!(world.send_from(9, &world.inside, &datagram((SERVER, 81), 2)), Ok(()));
    }
    world.send(&world.outside, &question(GATEWAY_MAC, GATEWAY, OUTSIDE)).unwrap();
    assert_eq!(payloads(&world.outer), [1, 2, 2, 2], "the other guest's packet has waited for the same station");
}

#[test]
fn a_packet_whose_page_is_gone_does_not_wait() {
    let world = world();
    let sent = datagram((SERVER, 80), 1);
    let gone = Piece { page: PageRef::Granted(DomId(3), GrantRef(1)), offset: 0, len: sent.len() as u16 };
    let offload = Offload::default();
    let put = world.inside.put(&Frame { head: &sent, pieces: &[gone], len: gone.len.into(), offload, source: 5 });
    assert_eq!((put, world.router.stats().dropped), (Ok(()), 1));
    let long = frame(INNER, GUEST_MAC, &packet(Protocol::Udp, (GUEST, 1000), (SERVER, 80), 0, &[0; 2100]));
    world.send(&world.inside, &long).unwrap();
    assert_eq!(world.router.stats().dropped, 2);
    world.send(&world.outside, &question(GATEWAY_MAC, GATEWAY, OUTSIDE)).unwrap();
    assert_eq!(payloads(&world.outer), []);
}

#[test]
fn a_neighbour_outside_is_reached_without_the_gateway() {
    let world = World::introduced();
    let neighbour = "192.0.2.77".parse().unwrap();
    world.send(&world.outside, &question([2, 7, 7, 7, 7, 7], neighbour, OUTSIDE)).unwrap();
    let sent = frame(INNER, GUEST_MAC, &packet(Protocol::Udp, (GUEST, 1000), (neighbour, 80), 0, b""));
    world.send(&world.inside, &sent).unwrap();
    assert_eq!(world.outer.heard.borrow()[0][..6], [2, 7, 7, 7, 7, 7]);
}

#[test]
fn a_full_wire_makes_the_sender_wait_and_the_frame_is_translated_again_alike() {
    let world = World::introduced();
    let sent = frame(INNER, GUEST_MAC, &packet(Protocol::Udp, (GUEST, 1000), (SERVER, 80), 0, b""));
    world.outer.full.set(true);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..200 {
        assert_eq!(world.send(&world.inside, &sent), Err(Refused::Full));
        assert!(world.inside.poll_room(&mut cx).is_pending());
    }
    world.outer.full.set(false);
    assert!(world.inside.poll_room(&mut cx).is_ready());
    assert_eq!(world.send(&world.inside, &sent), Ok(()));
    assert_eq!(world.router.nat().connections(), 1);
    assert_eq!(checked(&world.outer.heard.borrow()[0]).1, (SERVER, 80));
}

#[test]
fn a_guest_cannot_reach_addresses_inside_through_the_router() {
    let world = World::introduced();
    let other = "10.1.0.9".parse().unwrap();
    let sent = frame(INNER, GUEST_MAC, &packet(Protocol::Udp, (GUEST, 1000), (other, 80), 0, b""));
    world.send(&world.inside, &sent).unwrap();
    assert!(world.outer.heard.borrow().is_empty());
    assert_eq!(world.router.nat().connections(), 0);
}

#[test]
fn two_networks_share_an_address_and_neither_takes_a_port_that_the_other_uses() {
    let world = World::introduced();
    let Wire { machine, .. } = &*world.host;
    let second = Rc::new(Wire {
        machine: Rc::clone(machine),
        put: RefCell::default(),
        heard: RefCell::default(),
        full: Cell::new(false),
    });
    let router = Router::new(nat(), [INNER, OUTER], machine.own(MEMORY), Rc::clone(machine) as _, || NOW.get());
    router.connect(&second, &world.outer);
    router.set_outside(Some(Outside { address: OUTSIDE, mask: 0xFFFF_FF00, gateway: Some(GATEWAY), mtu: 9040 }));
    let inside = TestGate::new(Rc::clone(&world.host));
    inside.add_router(Facing::Inside, &router);
    world.outside.add_router(Facing::Outside, &router);
    world.send(&world.outside, &question(GATEWAY_MAC, GATEWAY, OUTSIDE)).unwrap();
    world.send(&inside, &question(GUEST_MAC, GUEST, HOST)).unwrap();
    // Both guests have the same address, the same port, and the same server.
    let sent = frame(INNER, GUEST_MAC, &packet(Protocol::Tcp, (GUEST, 40_000), (SERVER, 80), SYN, b""));
    let ports = [&world.inside, &inside].map(|gate| {
        world.outer.heard.borrow_mut().clear();
        world.send(gate, &sent).unwrap();
        checked(&world.outer.heard.borrow().concat()).0.1
    });
    assert_eq!(ports[0], 40_000);
    assert_ne!(ports[1], 40_000);
    world.inner.heard.borrow_mut().clear();
    for (port, heard) in ports.into_iter().zip([&world.inner, &second]) {
        let answer = packet(Protocol::Tcp, (SERVER, 80), (OUTSIDE, port), SYN | ACK, b"hi");
        world.send(&world.outside, &frame(OUTER, GATEWAY_MAC, &answer)).unwrap();
        assert_eq!(checked(&heard.heard.take().concat()), ((SERVER, 80), (GUEST, 40_000)));
        assert!(world.inner.heard.borrow().is_empty() && second.heard.borrow().is_empty(), "one of them hears it");
    }
    let forward = PortForward { protocol: Protocol::Tcp, port: 80, to: (GUEST, 80) };
    world.router.nat().forward(forward).unwrap();
    assert_eq!(router.nat().forward(forward), Err(ForwardError::Taken));
    world.outside.remove_router(&world.router);
    drop(world.router);
    world.inside.remove_router(&router);
}
