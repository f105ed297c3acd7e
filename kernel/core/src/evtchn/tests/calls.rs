//! Each call with good and bad arguments.

use hypercall_abi::ids::Gfn;
use hypercall_abi::multicall::MulticallEntry;
use hypercall_abi::nr::{MULTICALL, VCPU_OP};
use hypercall_abi::vcpu::{RegisterVcpuInfo, VcpuOp};

use super::*;
use crate::addr::PAGE_SIZE;

#[test]
fn an_event_sets_the_pending_bit_the_selector_and_the_upcall_of_the_far_end() {
    let (mut world, _dom0, guests) = guests(2);
    let [a, b] = &guests[..] else { unreachable!() };
    let (near, far) = channel(&mut world, a, b);
    told(b);
    assert_eq!(send(&mut world, a, near), Ok(()));
    assert!(is_pending(b, far) && !is_pending(a, near));
    assert_eq!(told(b), Some(1));
    assert_eq!(told(a), None);
    // It is pending still, so nothing new is to be told.
    assert_eq!(send(&mut world, a, near), Ok(()));
    assert_eq!(told(b), None);
    take(b, far);
    assert_eq!(send(&mut world, a, near), Ok(()));
    assert_eq!(told(b), Some(1));
}

#[test]
fn a_masked_event_is_pending_but_told_only_when_its_mask_goes() {
    let (mut world, _dom0, guests) = guests(2);
    let [a, b] = &guests[..] else { unreachable!() };
    let (near, far) = channel(&mut world, a, b);
    told(b);
    mask(b, far);
    assert_eq!(send(&mut world, a, near), Ok(()));
    assert!(is_pending(b, far));
    assert_eq!(told(b), None);
    assert_eq!(unmask(&mut world, b, far), Ok(()));
    assert_eq!(told(b), Some(1));
    // A second unmask finds no mask, and a mask without an event is nothing to tell.
    assert_eq!(unmask(&mut world, b, far), Ok(()));
    take(b, far);
    mask(b, far);
    assert_eq!(unmask(&mut world, b, far), Ok(()));
    assert_eq!(told(b), None);
}

#[test]
fn a_new_connection_starts_with_an_event_since_the_far_end_may_have_sent_before() {
    let (mut world, _dom0, guests) = guests(2);
    let [a, b] = &guests[..] else { unreachable!() };
    let near = alloc(&mut world, a, b.id).unwrap();
    assert_eq!(send(&mut world, a, near), Ok(()), "nobody is there to tell");
    let far = connect(&mut world, b, a.id, near).unwrap();
    assert!(is_pending(b, far) && !is_pending(a, near));
}

#[test]
fn only_the_named_domain_may_connect_and_only_once() {
    let (mut world, dom0, guests) = guests(3);
    let [a, b, c] = &guests[..] else { unreachable!() };
    let port = alloc(&mut world, a, b.id).unwrap();
    let before = taken_ports(c);
    for other in [c, &dom0] {
        assert_eq!(connect(&mut world, other, a.id, port), Err(XenError::Inval));
    }
    assert_eq!(connect(&mut world, c, DomId(99), port), Err(XenError::Srch));
    for nothing in [Port(0), Port(77), Port(4095), Port(4096), Port(u32::MAX)] {
        assert_eq!(connect(&mut world, b, a.id, nothing), Err(XenError::Inval));
    }
    assert_eq!(taken_ports(c), before, "a failed call leaves no port");
    assert!(connect(&mut world, b, a.id, port).is_ok());
    assert_eq!(connect(&mut world, b, a.id, port), Err(XenError::Inval));
}

#[test]
fn a_domain_opens_ports_of_its_own_only() {
    let (mut world, dom0, guests) = guests(2);
    let [a, b] = &guests[..] else { unreachable!() };
    let arg = AllocUnbound { dom: b.id, remote_dom: a.id, ..AllocUnbound::default() };
    for caller in [a, &dom0] {
        assert_eq!(op(&mut world, caller, EvtchnOp::AllocUnbound, &arg).err(), Some(XenError::Perm));
        assert_eq!(op(&mut world, caller, EvtchnOp::Reset, &Reset { dom: b.id }).err(), Some(XenError::Perm));
        let arg = Status { dom: b.id, port: Port(1), ..Status::default() };
        assert_eq!(op(&mut world, caller, EvtchnOp::Status, &arg).err(), Some(XenError::Perm));
    }
    assert_eq!(taken_ports(b), 0);
}

#[test]
fn the_far_end_of_a_closed_port_waits_for_the_same_domain_again() {
    let (mut world, _dom0, guests) = guests(2);
    let [a, b] = &guests[..] else { unreachable!() };
    let (near, far) = channel(&mut world, a, b);
    assert_eq!(close(&mut world, b, far), Ok(()));
    assert_eq!(close(&mut world, b, far), Err(XenError::Inval));
    let seen = status(&mut world, a, near).unwrap();
    assert_eq!((seen.status, seen.u_dom), (PortStatus::Unbound as u32, b.id.0));
    assert_eq!(send(&mut world, a, near), Ok(()));
    assert!(!is_pending(b, far));
    assert!(connect(&mut world, b, a.id, near).is_ok());
}

#[test]
fn a_port_that_is_taken_anew_has_nothing_pending() {
    let (mut world, _dom0, guests) = guests(2);
    let [a, b] = &guests[..] else { unreachable!() };
    let (near, far) = channel(&mut world, a, b);
    send(&mut world, a, near).unwrap();
    close(&mut world, b, far).unwrap();
    let again = alloc(&mut world, b, a.id).unwrap();
    assert_eq!(again, far, "the lowest port is taken first");
    assert!(!is_pending(b, again));
}

#[test]
fn a_channel_of_a_domain_to_itself_works_both_ways() {
    let (mut world, _dom0, guests) = guests(1);
    let a = &guests[0];
    let near = alloc(&mut world, a, DomId::SELF).unwrap();
    let far = connect(&mut world, a, DomId::SELF, near).unwrap();
    take(a, far);
    send(&mut world, a, near).unwrap();
    assert!(is_pending(a, far) && !is_pending(a, near));
    send(&mut world, a, far).unwrap();
    assert!(is_pending(a, near));
    assert_eq!(reset(&mut world, a), Ok(()));
    assert_eq!(taken_ports(a), 0);
}

#[test]
fn the_limit_of_ports_is_kept_and_a_full_table_is_no_space() {
    let (mut world, _dom0, _) = guests(0);
    let a = world.domain_like(&DomainParams { max_ports: 8, ..params(4) }, 4);
    let opened: Vec<_> = core::iter::from_fn(|| alloc(&mut world, &a, DomId(0)).ok()).collect();
    assert_eq!(opened, (1..8).map(Port).collect::<Vec<_>>());
    assert_eq!(alloc(&mut world, &a, DomId(0)), Err(XenError::NoSpc));
    assert_eq!(ipi(&mut world, &a, 0), Err(XenError::NoSpc));
    close(&mut world, &a, Port(5)).unwrap();
    assert_eq!(alloc(&mut world, &a, DomId(0)), Ok(Port(5)));
}

#[test]
fn a_reset_closes_every_port_in_stretches() {
    let (mut world, _dom0, guests) = guests(2);
    let [a, b] = &guests[..] else { unreachable!() };
    while alloc(&mut world, a, b.id).is_ok() {}
    assert_eq!(taken_ports(a), 4095);
    assert_eq!(reset(&mut world, a), Ok(()));
    assert!(world.rounds > 10);
    assert_eq!(taken_ports(a), 0);
}

#[test]
fn virtual_interrupts_are_bound_once_and_the_control_domains_are_not_for_guests() {
    let (mut world, dom0, guests) = guests(1);
    let a = &guests[0];
    let timer = virq(&mut world, a, Virq::Timer, 1).unwrap();
    assert_eq!(virq(&mut world, a, Virq::Timer, 1), Err(XenError::Exist));
    assert!(virq(&mut world, a, Virq::Timer, 0).is_ok(), "each vCPU has its own");
    assert_eq!(virq(&mut world, a, Virq::Timer, 2), Err(XenError::NoEnt));
    assert_eq!(virq(&mut world, a, Virq::DomExc, 0), Err(XenError::Perm));
    assert_eq!(taken_ports(a), 2, "a failed call leaves no port");
    assert_eq!(send(&mut world, a, timer), Err(XenError::Inval), "only the hypervisor raises it");
    assert_eq!(bind_vcpu(&mut world, a, timer, 0), Err(XenError::Inval), "it stays with its vCPU");
    close(&mut world, a, timer).unwrap();
    assert!(virq(&mut world, a, Virq::Timer, 1).is_ok());

    let exc = virq(&mut world, &dom0, Virq::DomExc, 0).unwrap();
    super::super::send_global_virq(world.kernel, Virq::DomExc);
    assert!(is_pending(&dom0, exc));
    close(&mut world, &dom0, exc).unwrap();
    super::super::send_global_virq(world.kernel, Virq::DomExc);
    assert!(!is_pending(&dom0, exc));
    let unknown = BindVirq { virq: 24, ..BindVirq::default() };
    assert_eq!(op(&mut world, a, EvtchnOp::BindVirq, &unknown).err(), Some(XenError::Inval));
}

#[test]
fn the_status_tells_what_a_port_is_bound_to() {
    let (mut world, _dom0, guests) = guests(2);
    let [a, b] = &guests[..] else { unreachable!() };
    let (near, far) = channel(&mut world, a, b);
    let seen = status(&mut world, a, near).unwrap();
    assert_eq!((seen.status, seen.u_dom, seen.u_value), (PortStatus::Interdomain as u32, b.id.0, far.0));
    let own = ipi(&mut world, a, 1).unwrap();
    let seen = status(&mut world, a, own).unwrap();
    assert_eq!((seen.status, seen.vcpu), (PortStatus::Ipi as u32, VcpuId(1)));
    let debug = virq(&mut world, a, Virq::Debug, 0).unwrap();
    let seen = status(&mut world, a, debug).unwrap();
    assert_eq!((seen.status, seen.u_dom), (PortStatus::Virq as u32, Virq::Debug as u16));
    close(&mut world, a, debug).unwrap();
    assert_eq!(status(&mut world, a, debug).unwrap().status, PortStatus::Closed as u32);
    assert_eq!(status(&mut world, a, Port(4096)).err(), Some(XenError::Inval));
}

#[test]
fn an_event_goes_to_the_vcpu_that_the_port_was_given_to() {
    let (mut world, _dom0, guests) = guests(2);
    let [a, b] = &guests[..] else { unreachable!() };
    let (near, far) = channel(&mut world, a, b);
    told(b);
    assert_eq!(bind_vcpu(&mut world, b, far, 2), Err(XenError::NoEnt));
    assert_eq!(bind_vcpu(&mut world, b, Port(9), 1), Err(XenError::Inval));
    assert_eq!(bind_vcpu(&mut world, b, far, 1), Ok(()));
    send(&mut world, a, near).unwrap();
    assert_eq!(told(b), None);
    assert!(is_pending(b, far));
    let arg = RegisterVcpuInfo { mfn: Gfn(GUEST_RAM / PAGE_SIZE + 1), ..RegisterVcpuInfo::default() };
    poke(b, GUEST_RAM, &arg);
    assert_eq!(world.call(b, VCPU_OP, &[VcpuOp::RegisterVcpuInfo as u64, 1, GUEST_RAM]), 0);
    assert_eq!(vcpu_told(b, 1), Some(u64::MAX), "it had no record before, and may have missed anything");
    take(b, far);
    send(&mut world, a, near).unwrap();
    assert_eq!((told(b), vcpu_told(b, 1)), (None, Some(1)));
}

#[test]
fn an_answer_that_cannot_be_written_leaves_no_port() {
    let (mut world, _dom0, guests) = guests(1);
    let a = &guests[0];
    poke(a, GUEST_RAM, &AllocUnbound { dom: DomId::SELF, remote_dom: DomId(0), ..AllocUnbound::default() });
    crate::fake::with(|s| s.read_only.insert(GUEST_RAM / crate::addr::PAGE_SIZE));
    let x0 = world.call(a, EVENT_CHANNEL_OP, &[EvtchnOp::AllocUnbound as u64, GUEST_RAM]);
    assert_eq!(x0, XenError::Fault as i64);
    assert_eq!(taken_ports(a), 0);
}

#[test]
fn an_event_goes_only_to_a_port_that_names_the_sender_back() {
    let (mut world, _dom0, guests) = guests(3);
    let [a, b, c] = &guests[..] else { unreachable!() };
    let (near, far) = channel(&mut world, a, b);
    told(b);
    // As if B had closed its end, and had opened it for C, between A's look at its own end and at the far one.
    let [here, there] = [Binding::Interdomain(a.id, near), Binding::Interdomain(c.id, near)];
    assert!(b.events.port(far).unwrap().rebind(here, there));
    assert_eq!(send(&mut world, a, near), Ok(()));
    assert!(!is_pending(b, far));
    assert_eq!(told(b), None);
    // And A's end may go without taking C's along.
    assert_eq!(close(&mut world, a, near), Ok(()));
    assert_eq!(b.events.port(far).unwrap().load().binding, there);
}

#[test]
fn a_multicall_of_resets_looks_at_all_ports_once_a_round() {
    let (mut world, _dom0, guests) = guests(1);
    let reset = [u64::from(EvtchnOp::Reset as u32), GUEST_RAM, 0, 0, 0, 0];
    poke(&guests[0], GUEST_RAM, &Reset { dom: DomId::SELF });
    let entry = MulticallEntry { op: u64::from(EVENT_CHANNEL_OP), result: 1, args: reset };
    let entries = GUEST_RAM + PAGE_SIZE;
    (0..16).for_each(|n| poke(&guests[0], entries + n * size_of::<MulticallEntry>() as u64, &entry));
    assert_eq!(world.call(&guests[0], MULTICALL, &[entries, 16]), 0);
    assert_eq!(peek::<MulticallEntry>(&guests[0], entries).result, 0);
    assert_eq!(world.rounds, 16);
}
