//! The FIFO ABI, with a guest that takes its queues apart as Linux does, and one that writes what it likes.

mod guest;

use std::collections::BTreeSet;

use hypercall_abi::evtchn::{
    ExpandArray, FIFO_LINK_BITS, FIFO_LINK_MASK, FIFO_LINKED, FIFO_MASKED, FIFO_MAX_QUEUES, FIFO_PENDING, InitControl,
    SetPriority,
};
use hypercall_abi::ids::Gfn;
use hypercall_abi::memory::{MemoryOp, Reservation};
use hypercall_abi::multicall::MulticallEntry;
use hypercall_abi::nr::{MEMORY_OP, MULTICALL, VCPU_OP};
use hypercall_abi::vcpu::{RegisterVcpuInfo, VcpuOp};
use proptest::prelude::*;

use super::*;
use crate::addr::PAGE_SIZE;

use guest::{ARRAY, CONTROL, Guest, PAGES, RECORD, expand, gfn, init, set_priority};

#[test]
fn events_are_handled_in_the_order_of_priorities_and_then_of_their_sending() {
    let (mut world, _dom0) = World::new();
    let mut guest = Guest::on_fifo(&mut world);
    let domain = guest.domain.clone();
    let ports: Vec<_> = (0..4).map(|_| ipi(&mut world, &domain, 0).unwrap()).collect();
    assert_eq!(set_priority(&mut world, &domain, ports[3], 2), Ok(()));
    for port in &ports {
        send(&mut world, &domain, *port).unwrap();
        send(&mut world, &domain, *port).unwrap();
    }
    assert!(guest.interrupted(0) && !guest.interrupted(1));
    assert_eq!(guest.drain(0), [4, 1, 2, 3]);
    assert_eq!(guest.drain(0), []);
    send(&mut world, &domain, ports[0]).unwrap();
    assert!(guest.interrupted(0), "the queue was empty");
    send(&mut world, &domain, ports[1]).unwrap();
    assert!(!guest.interrupted(0), "it is known to have something");
    assert_eq!(guest.drain(0), [1, 2]);
}

#[test]
fn what_was_pending_before_the_ports_words_were_there_is_delivered() {
    let (mut world, _dom0) = World::new();
    let mut guest = Guest::new(&mut world);
    let domain = guest.domain.clone();
    let [before, between] = [0; 2].map(|_| ipi(&mut world, &domain, 0).unwrap());
    send(&mut world, &domain, before).unwrap();
    init(&mut world, &domain, 0, CONTROL, 64).unwrap();
    send(&mut world, &domain, between).unwrap();
    assert!(crate::evtchn::is_pending(&domain, between));
    expand(&mut world, &domain, ARRAY).unwrap();
    assert_eq!(guest.drain(0), [before.0, between.0]);
}

#[test]
fn an_event_of_a_sender_that_took_the_guest_for_one_of_the_other_abi_is_not_lost() {
    let (mut world, _dom0) = World::new();
    let guest = Guest::on_fifo(&mut world);
    for port in [0, 64, 4095].map(Port) {
        let (at, bit) = word(&guest.domain, layout::EVTCHN_MASK, port);
        assert!(Fake::load64(at) & bit != 0, "who sets its bit and then looks for the mask finds one");
    }
}

#[test]
fn a_multicall_of_openings_looks_at_the_words_of_all_ports_once_a_round() {
    let (mut world, _dom0) = World::new();
    let guest = Guest::on_fifo(&mut world);
    let domain = guest.domain.clone();
    (1..4).for_each(|page| expand(&mut world, &domain, ARRAY + page).unwrap());
    (1..4096).for_each(|port| guest.set(port, 1 << FIFO_LINKED));
    poke(&domain, GUEST_RAM, &BindIpi::default());
    let opening = [u64::from(EvtchnOp::BindIpi as u32), GUEST_RAM, 0, 0, 0, 0];
    let entry = MulticallEntry { op: u64::from(EVENT_CHANNEL_OP), result: 0, args: opening };
    let entries = GUEST_RAM + PAGE_SIZE;
    (0..64).for_each(|n| poke(&domain, entries + n * size_of::<MulticallEntry>() as u64, &entry));
    assert_eq!(world.call(&domain, MULTICALL, &[entries, 64]), 0);
    assert_eq!(peek::<MulticallEntry>(&domain, entries).result.cast_signed(), XenError::NoSpc as i64);
    assert_eq!(world.rounds, 64);
}

#[test]
fn a_multicall_of_pages_of_words_delivers_what_waited_for_one_of_them_a_round() {
    let (mut world, _dom0) = World::new();
    let guest = Guest::on_fifo(&mut world);
    let (domain, entries) = (guest.domain.clone(), GUEST_RAM + PAGE_SIZE);
    for n in 0..3 {
        poke(&domain, GUEST_RAM + 8 * n, &ExpandArray { array_gfn: gfn(ARRAY + 1 + n) });
        let args = [u64::from(EvtchnOp::ExpandArray as u32), GUEST_RAM + 8 * n, 0, 0, 0, 0];
        let entry = MulticallEntry { op: u64::from(EVENT_CHANNEL_OP), result: 1, args };
        poke(&domain, entries + n * size_of::<MulticallEntry>() as u64, &entry);
    }
    assert_eq!(world.call(&domain, MULTICALL, &[entries, 3]), 0);
    assert_eq!(peek::<MulticallEntry>(&domain, entries).result, 0);
    assert_eq!(world.rounds, 3);
}

#[test]
fn a_masked_event_is_put_on_a_queue_when_its_mask_goes() {
    let (mut world, _dom0) = World::new();
    let mut guest = Guest::on_fifo(&mut world);
    let domain = guest.domain.clone();
    let port = ipi(&mut world, &domain, 0).unwrap();
    guest.set(port.0, 1 << FIFO_MASKED);
    send(&mut world, &domain, port).unwrap();
    assert!(guest.is(port.0, FIFO_PENDING) && !guest.is(port.0, FIFO_LINKED));
    unmask(&mut world, &domain, port).unwrap();
    assert_eq!(guest.drain(0), [port.0]);
    guest.set(port.0, 1 << FIFO_MASKED);
    unmask(&mut world, &domain, port).unwrap();
    assert_eq!((guest.word(port.0), guest.drain(0)), (0, vec![]), "nothing is pending");
}

#[test]
fn a_port_that_goes_to_another_vcpu_leaves_nothing_chained_to_it() {
    let (mut world, _dom0, _) = guests(0);
    let mut guest = Guest::on_fifo(&mut world);
    let domain = guest.domain.clone();
    let peer = world.domain(4);
    let (far, moving) = channel(&mut world, &peer, &domain);
    let staying = ipi(&mut world, &domain, 0).unwrap();
    guest.drain(0);
    send(&mut world, &peer, far).unwrap();
    bind_vcpu(&mut world, &domain, moving, 1).unwrap();
    send(&mut world, &peer, far).unwrap();
    assert_eq!((guest.drain(1), guest.drain(0)), (vec![], vec![moving.0]), "it stays where it is until it is taken");
    send(&mut world, &peer, far).unwrap();
    // It was the last one of this queue, and is on another one now.
    send(&mut world, &domain, staying).unwrap();
    assert!(guest.interrupted(1));
    assert_eq!((guest.drain(0), guest.drain(1)), (vec![staying.0], vec![moving.0]));
}

#[test]
fn a_port_is_not_opened_again_while_it_is_on_a_queue() {
    let (mut world, _dom0) = World::new();
    let mut guest = Guest::on_fifo(&mut world);
    let domain = guest.domain.clone();
    let port = ipi(&mut world, &domain, 0).unwrap();
    send(&mut world, &domain, port).unwrap();
    close(&mut world, &domain, port).unwrap();
    assert_eq!(ipi(&mut world, &domain, 0), Ok(Port(port.0 + 1)));
    guest.drain(0);
    while ipi(&mut world, &domain, 1).is_ok_and(|opened| opened != port) {}
    assert_eq!(ipi(&mut world, &domain, 1), Ok(port), "a full table is searched once more from its start");
    assert!(!guest.is(port.0, FIFO_PENDING));
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let (mut world, _dom0) = World::new();
    let guest = Guest::new(&mut world);
    let domain = &guest.domain;
    let port = ipi(&mut world, domain, 0).unwrap();
    assert_eq!(expand(&mut world, domain, ARRAY), Err(XenError::OpNotSupp));
    assert_eq!(set_priority(&mut world, domain, port, 0), Err(XenError::NoSys));
    for (vcpu, page, offset, error) in [
        (2, CONTROL, 0, XenError::NoEnt),
        (u32::MAX, CONTROL, 0, XenError::NoEnt),
        (0, CONTROL, 4, XenError::Inval),
        (0, CONTROL, 4032, XenError::Inval),
        (0, CONTROL, u32::MAX, XenError::Inval),
        (0, PAGES, 0, XenError::Inval),
        (0, u64::MAX - GUEST_RAM, 0, XenError::Inval),
    ] {
        assert_eq!(init(&mut world, domain, vcpu, page, offset).err(), Some(error), "{vcpu} {page} {offset}");
    }
    assert_eq!(expand(&mut world, domain, ARRAY), Err(XenError::OpNotSupp), "it is still a guest of the 2-level ABI");
    assert_eq!(init(&mut world, domain, 0, CONTROL, 4024).map(|arg| u32::from(arg.link_bits)), Ok(FIFO_LINK_BITS));
    assert_eq!(init(&mut world, domain, 0, CONTROL, 0).err(), Some(XenError::Inval), "once for each vCPU");
    assert_eq!(expand(&mut world, domain, PAGES), Err(XenError::Inval));
    assert_eq!([0; 5].map(|_| expand(&mut world, domain, ARRAY).err())[3..], [None, Some(XenError::NoSpc)]);
    assert_eq!(set_priority(&mut world, domain, port, 16), Err(XenError::Inval));
    assert_eq!(set_priority(&mut world, domain, Port(4096), 1), Err(XenError::Inval));
}

#[test]
fn a_reset_returns_to_the_other_abi_and_the_pages_can_be_given_back_again() {
    let (mut world, _dom0) = World::new();
    let free = Fake::frames().free_pages();
    let guest = Guest::on_fifo(&mut world);
    let domain = guest.domain.clone();
    let give_back = |world: &mut World, page| {
        poke(&domain, GUEST_RAM + 64, &gfn(page));
        let arg = Reservation {
            extent_start: hypercall_abi::ids::GuestPtr(GUEST_RAM + 64),
            nr_extents: 1,
            domid: DomId::SELF,
            ..Reservation::default()
        };
        poke(&domain, GUEST_RAM, &arg);
        world.call(&domain, MEMORY_OP, &[MemoryOp::DecreaseReservation as u64, GUEST_RAM])
    };
    assert_eq!([CONTROL, CONTROL + 1, ARRAY].map(|page| give_back(&mut world, page)), [0; 3], "they are in use");
    reset(&mut world, &domain).unwrap();
    assert_eq!([CONTROL, CONTROL + 1, ARRAY].map(|page| give_back(&mut world, page)), [1; 3]);
    let port = ipi(&mut world, &domain, 0).unwrap();
    told(&domain);
    send(&mut world, &domain, port).unwrap();
    assert!(is_pending(&domain, port) && told(&domain).is_some());
    // And once more, to its end.
    init(&mut world, &domain, 0, RECORD, 256).unwrap();
    expand(&mut world, &domain, RECORD).unwrap();
    world.destroy(&domain);
    drop((domain, guest));
    assert_eq!(Fake::frames().free_pages(), free);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(u32),
    Take(usize),
    Mask(u32),
    Unmask(u32),
    Move(u32, u32),
    Priority(u32, u32),
    Spoil(u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let port = 1..6u32;
    prop_oneof![
        6 => port.clone().prop_map(Step::Send),
        4 => (0..2usize).prop_map(Step::Take),
        1 => port.clone().prop_map(Step::Mask),
        2 => port.clone().prop_map(Step::Unmask),
        1 => (port.clone(), 0..2u32).prop_map(|(port, vcpu)| Step::Move(port, vcpu)),
        1 => (port, 0..16u32).prop_map(|(port, priority)| Step::Priority(port, priority)),
    ]
}

fn run(world: &mut World, peer: &Dom, guest: &mut Guest, step: Step) {
    let domain = guest.domain.clone();
    match step {
        Step::Send(port) => send(world, peer, Port(port)).unwrap(),
        Step::Take(vcpu) => drop(guest.next(vcpu)),
        Step::Mask(port) => guest.set(port, guest.word(port) | 1 << FIFO_MASKED),
        Step::Unmask(port) => unmask(world, &domain, Port(port)).unwrap(),
        Step::Move(port, vcpu) => bind_vcpu(world, &domain, Port(port), vcpu).unwrap(),
        Step::Priority(port, priority) => set_priority(world, &domain, Port(port), priority).unwrap(),
        Step::Spoil(at, word) => poke(&domain, GUEST_RAM + CONTROL * PAGE_SIZE + u64::from(at) / 4 * 4, &word),
    }
}

/// A guest on the FIFO ABI, and a peer with a channel to each of its ports, which have the same numbers on both sides.
fn pair(world: &mut World) -> (Dom, Guest) {
    let (peer, guest) = (world.domain(4), Guest::on_fifo(world));
    for _ in 0..5 {
        let (near, far) = channel(world, &peer, &guest.domain);
        assert_eq!(near, far);
    }
    (peer, guest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_sent_is_handled_once_it_is_not_masked(steps in prop::collection::vec(step(), 1..80)) {
        let (mut world, _dom0) = World::new();
        let (peer, mut guest) = pair(&mut world);
        // Each new connection starts with an event.
        let mut sent: BTreeSet<u32> = (1..6).collect();
        for &step in &steps {
            if let Step::Take(vcpu) = step {
                if let Some((port, true)) = guest.next(vcpu) {
                    prop_assert!(sent.remove(&port), "nobody has sent to port {}", port);
                }
                continue;
            }
            if let Step::Send(port) = step {
                sent.insert(port);
            }
            run(&mut world, &peer, &mut guest, step);
        }
        for port in 1..6 {
            unmask(&mut world, &guest.domain, Port(port)).unwrap();
        }
        let mut handled: Vec<u32> = [0, 1].into_iter().flat_map(|vcpu| guest.drain(vcpu)).collect();
        handled.sort_unstable();
        prop_assert_eq!(handled, sent.into_iter().collect::<Vec<u32>>());
        prop_assert!((1..6).all(|port| guest.word(port) == 0), "nothing is pending or on a queue");
    }

    #[test]
    fn a_guest_that_spoils_words_heads_and_links_harms_only_itself(
        steps in prop::collection::vec(
            prop_oneof![step(), (0..3 * 4096u32, any::<u32>()).prop_map(|(at, word)| Step::Spoil(at, word)),
                (2 * 4096..2 * 4096 + 24u32, any::<u32>()).prop_map(|(at, word)| Step::Spoil(at, word))],
            1..80,
        ),
    ) {
        let (mut world, _dom0) = World::new();
        let free = Fake::frames().free_pages();
        let (peer, mut guest) = pair(&mut world);
        let other = Guest::on_fifo(&mut world);
        let theirs = ipi(&mut world, &other.domain, 0).unwrap();
        for &step in &steps {
            // It takes nothing off its queues: it would follow its own garbage.
            if !matches!(step, Step::Take(_)) {
                run(&mut world, &peer, &mut guest, step);
            }
        }
        let mut other = other;
        prop_assert_eq!(other.drain(0), []);
        send(&mut world, &other.domain, theirs).unwrap();
        prop_assert_eq!(other.drain(0), [theirs.0]);
        for domain in [&guest.domain, &other.domain, &peer] {
            world.destroy(domain);
        }
        drop((guest, other, peer));
        prop_assert_eq!(Fake::frames().free_pages(), free);
    }
}
