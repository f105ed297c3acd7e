//! Tests of event channels, made as hypercalls of guests.

mod calls;
mod fifo;
mod model;
mod races;

use hypercall_abi::control::DomainParams;
use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, EvtchnOp, PortStatus, Reset, Send, Status,
    Unmask, Virq,
};
use hypercall_abi::ids::{DomId, Port, VcpuId};
use hypercall_abi::nr::EVENT_CHANNEL_OP;
use hypercall_abi::shared_info::{layout, vcpu_info};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Binding, PortState};
use crate::addr::Pa;
use crate::domain::Domain;
use crate::fake::{Fake, GUEST_RAM, Shared, World, params, peek, poke};
use crate::hw::{Hw, Memory};

type Dom = Shared<Domain<Fake>>;

/// A fresh machine with Dom0 and `count` guests of two vCPUs each.
fn guests(count: usize) -> (World, Dom, Vec<Dom>) {
    let (mut world, dom0) = World::new();
    let plan = DomainParams { vcpus: 2, ..params(4) };
    let guests = (0..count).map(|_| world.domain_like(&plan, 4)).collect();
    (world, dom0, guests)
}

/// One call; the argument as the hypervisor leaves it, or the error.
fn op<T: IntoBytes + Immutable + FromBytes>(
    world: &mut World,
    domain: &Dom,
    op: EvtchnOp,
    arg: &T,
) -> Result<T, XenError> {
    poke(domain, GUEST_RAM, arg);
    match world.call(domain, EVENT_CHANNEL_OP, &[u64::from(op as u32), GUEST_RAM]) {
        0 => Ok(peek(domain, GUEST_RAM)),
        error => Err(XenError::from_raw(error).expect("x0 is zero or an error")),
    }
}

fn alloc(world: &mut World, domain: &Dom, remote: DomId) -> Result<Port, XenError> {
    let arg = AllocUnbound { dom: DomId::SELF, remote_dom: remote, ..AllocUnbound::default() };
    op(world, domain, EvtchnOp::AllocUnbound, &arg).map(|arg| arg.port)
}

fn connect(world: &mut World, domain: &Dom, remote: DomId, port: Port) -> Result<Port, XenError> {
    let arg = BindInterdomain { remote_dom: remote, remote_port: port, ..BindInterdomain::default() };
    op(world, domain, EvtchnOp::BindInterdomain, &arg).map(|arg| arg.local_port)
}

fn ipi(world: &mut World, domain: &Dom, vcpu: u32) -> Result<Port, XenError> {
    let arg = BindIpi { vcpu: VcpuId(vcpu), ..BindIpi::default() };
    op(world, domain, EvtchnOp::BindIpi, &arg).map(|arg| arg.port)
}

fn virq(world: &mut World, domain: &Dom, virq: Virq, vcpu: u32) -> Result<Port, XenError> {
    let arg = BindVirq { virq: virq as u32, vcpu: VcpuId(vcpu), ..BindVirq::default() };
    op(world, domain, EvtchnOp::BindVirq, &arg).map(|arg| arg.port)
}

fn send(world: &mut World, domain: &Dom, port: Port) -> Result<(), XenError> {
    op(world, domain, EvtchnOp::Send, &Send { port }).map(|_| ())
}

fn unmask(world: &mut World, domain: &Dom, port: Port) -> Result<(), XenError> {
    op(world, domain, EvtchnOp::Unmask, &Unmask { port }).map(|_| ())
}

fn close(world: &mut World, domain: &Dom, port: Port) -> Result<(), XenError> {
    op(world, domain, EvtchnOp::Close, &Close { port }).map(|_| ())
}

fn reset(world: &mut World, domain: &Dom) -> Result<(), XenError> {
    op(world, domain, EvtchnOp::Reset, &Reset { dom: DomId::SELF }).map(|_| ())
}

fn status(world: &mut World, domain: &Dom, port: Port) -> Result<Status, XenError> {
    op(world, domain, EvtchnOp::Status, &Status { dom: DomId::SELF, port, ..Status::default() })
}

fn bind_vcpu(world: &mut World, domain: &Dom, port: Port, vcpu: u32) -> Result<(), XenError> {
    op(world, domain, EvtchnOp::BindVcpu, &BindVcpu { port, vcpu: VcpuId(vcpu) }).map(|_| ())
}

/// Two domains and a channel between them: the first one's port and the second one's.
fn channel(world: &mut World, a: &Dom, b: &Dom) -> (Port, Port) {
    let near = alloc(world, a, b.id).unwrap();
    let far = connect(world, b, a.id, near).unwrap();
    take(b, far);
    (near, far)
}

fn word(domain: &Dom, offset: usize, port: Port) -> (Pa, u64) {
    (domain.shared_info.pa().add(offset as u64 + 8 * u64::from(port.0 / 64)), 1 << (port.0 % 64))
}

fn is_pending(domain: &Dom, port: Port) -> bool {
    let (at, bit) = word(domain, layout::EVTCHN_PENDING, port);
    Fake::load64(at) & bit != 0
}

/// What a guest does with an event: clears its bit.
fn take(domain: &Dom, port: Port) {
    let (at, bit) = word(domain, layout::EVTCHN_PENDING, port);
    Fake::clear_bits64(at, bit);
}

fn mask(domain: &Dom, port: Port) {
    let (at, bit) = word(domain, layout::EVTCHN_MASK, port);
    Fake::set_bits64(at, bit);
}

/// Whether the first vCPU, which has its record in the shared page, is told, and to look at which words; it is told of nothing
/// after that.
fn told(domain: &Dom) -> Option<u64> {
    vcpu_told(domain, 0)
}

/// The same of a vCPU that has a record.
fn vcpu_told(domain: &Dom, n: usize) -> Option<u64> {
    let info = domain.vcpus()[n].info().expect("it has a record");
    let upcall = Fake::clear_bits64(info, 0xFF) & 0xFF;
    let selector = Fake::clear_bits64(info.add(vcpu_info::PENDING_SEL as u64), u64::MAX);
    assert!(upcall <= 1);
    (upcall == 1).then_some(selector)
}

fn open_ports(domain: &Dom) -> Vec<(Port, Binding)> {
    let ports = domain.events.ports().map(|(port, state)| (port, state.binding));
    ports.filter(|(_, binding)| *binding != Binding::Free).collect()
}

fn taken_ports(domain: &Dom) -> usize {
    open_ports(domain).len()
}

#[test]
fn a_port_says_what_it_was_told() {
    let bindings = [
        Binding::Free,
        Binding::Unbound(DomId(0x7FEF)),
        Binding::Interdomain(DomId(3), Port(u32::MAX)),
        Binding::Virq(23),
        Binding::Ipi,
    ];
    for binding in bindings {
        for vcpu in [VcpuId(0), VcpuId(63)] {
            let state = PortState { binding, vcpu };
            assert_eq!(PortState::decode(state.encode()), state);
        }
    }
}
