//! Tests of emulated devices: a guest's accesses, a server's answers, and either of them gone.

use hypercall_abi::control::Op;
use hypercall_abi::evtchn::{BindInterdomain, Close, EvtchnOp};
use hypercall_abi::ids::DomId;
use hypercall_abi::nr::EVENT_CHANNEL_OP;

use super::*;
use crate::addr::{GuestVa, Ipa};
use crate::context::TrapFrame;
use crate::exit;
use crate::fake::{Fake, GUEST_RAM, Shared, World, open_port, params, peek, poke, with};
use crate::hw::PcpuId;
use crate::local::LocalCpu;

const DEVICE: u64 = 0x2200_0000;
const VECTORS: u64 = 0x8_0000;

/// A guest whose first vCPU is on pCPU 0, and Dom0, which serves a page of it.
struct Pair {
    world: World,
    dom0: Shared<Domain<Fake>>,
    guest: Shared<Domain<Fake>>,
    cap: u64,
    /// The guest's port, and Dom0's.
    ports: (Port, Port),
    cpu: LocalCpu<Fake>,
    frame: TrapFrame,
}

impl Pair {
    fn new() -> Pair {
        let (mut world, dom0) = World::new();
        let guest = world.domain_like(&hypercall_abi::control::DomainParams { vcpus: 2, ..params(8) }, 8);
        let (x0, cap, _) = control(&mut world, &dom0, Op::DomainLookup, &[0, u64::from(guest.id.0)]);
        assert_eq!(x0, 0);
        let near = open_port(&guest, DomId(0));
        let bind = BindInterdomain { remote_dom: guest.id, remote_port: near, ..Default::default() };
        poke(&dom0, GUEST_RAM, &bind);
        assert_eq!(world.call(&dom0, EVENT_CHANNEL_OP, &[u64::from(EvtchnOp::BindInterdomain.raw()), GUEST_RAM]), 0);
        let far = peek::<BindInterdomain>(&dom0, GUEST_RAM).local_port;
        let serve = [cap, DEVICE, 0x1000, u64::from(near.0)];
        assert_eq!(control(&mut world, &dom0, Op::IoServe, &serve).0, 0);
        world.kernel.unpause(&guest).unwrap();
        world.kernel.start_vcpu(&guest, &guest.vcpus()[0], GUEST_RAM, 0).unwrap();
        let (cpu, frame) = (LocalCpu::new(PcpuId(0)), TrapFrame::default());
        let mut pair = Pair { world, dom0, guest, cap, ports: (near, far), cpu, frame };
        // What connecting has left behind is not the server's first event.
        pair.clear_event();
        crate::fake::choose(pair.world.kernel, &mut pair.cpu, &mut pair.frame);
        with(|s| s.el1.vbar_el1 = VECTORS);
        pair
    }

    fn clear_event(&self) {
        use crate::hw::Memory;
        let at = self.dom0.shared_info.pa().add(hypercall_abi::shared_info::layout::EVTCHN_PENDING as u64);
        Fake::clear_bits64(at, u64::MAX);
    }

    /// The guest loads w3 or stores it, in the middle of what it does: on return it waits, or has taken an abort. Its pCPU
    /// has nothing else to run, so that another vCPU is put there while it waits.
    fn access(&mut self, write: bool, ipa: u64) {
        self.start(1);
        with(|s| s.fault = (GuestVa::new(ipa), Ipa::new(ipa)));
        let iss = 1 << 24 | 2 << 22 | 3 << 16 | u64::from(write) << 6 | 7;
        let esr = 0x24 << 26 | 1 << 25 | iss;
        crate::fake::exit::<{ exit::SYNC }>(self.world.kernel, &mut self.cpu, &mut self.frame, esr);
    }

    fn start(&mut self, n: usize) {
        // Fails once it is there.
        let _ = self.world.kernel.start_vcpu(&self.guest, &self.guest.vcpus()[n], GUEST_RAM, 0);
    }

    fn on_pcpu(&self) -> VcpuId {
        self.cpu.current.as_ref().unwrap().vcpu.id
    }

    fn next(&mut self, from: u64) -> Result<IoRequest, i64> {
        let args = [self.cap, u64::from(self.ports.0.0), from, GUEST_RAM];
        match control(&mut self.world, &self.dom0, Op::IoNext, &args).0 {
            0 => Ok(peek(&self.dom0, GUEST_RAM)),
            error => Err(error),
        }
    }

    fn answer(&mut self, vcpu: u64, value: u64) -> i64 {
        control(&mut self.world, &self.dom0, Op::IoAnswer, &[self.cap, vcpu, value]).0
    }

    fn held(&self) -> u32 {
        self.guest.vcpus()[0].held()
    }

    fn saved(&self) -> TrapFrame {
        self.guest.vcpus()[0].run.lock().context.frame
    }
}

fn control(world: &mut World, caller: &Shared<Domain<Fake>>, op: Op, args: &[u64]) -> (i64, u64, u64) {
    let [x0, x1, x2] = world.call_of(caller, 0, op.number(), args);
    (x0.cast_signed(), x1, x2)
}

const NOENT: i64 = XenError::NoEnt as i64;

#[test]
fn a_load_waits_for_the_servers_answer_and_goes_on_behind_itself() {
    let mut pair = Pair::new();
    assert_eq!(pair.next(0), Err(NOENT));
    pair.frame.x[3] = u64::MAX;
    pair.access(false, DEVICE + 0x18);
    assert_eq!((pair.held(), pair.on_pcpu()), (SERVED, VcpuId(1)), "another vCPU runs meanwhile");
    assert!(evtchn::is_pending(&pair.dom0, pair.ports.1), "the server is told");
    let asked = IoRequest { address: DEVICE + 0x18, size: 4, ..IoRequest::default() };
    assert_eq!(pair.next(0), Ok(asked));
    assert_eq!(pair.next(0), Ok(asked), "it is there until it is answered");
    assert_eq!(pair.next(1), Err(NOENT), "none at or after vCPU 1");
    assert_eq!(pair.answer(1, 5), NOENT, "vCPU 1 waits for nothing");
    // An interrupt does not end the wait.
    pair.world.kernel.notify(&pair.guest.vcpus()[0]);
    assert_eq!(pair.held(), SERVED);
    assert_eq!(pair.answer(0, 0xFFFF_FFFF_8000_0090), 0);
    let saved = pair.saved();
    assert_eq!((saved.x[3], saved.pc, pair.held()), (0x8000_0090, GUEST_RAM + 4, 0), "as wide as the load was");
    assert_eq!(pair.answer(0, 1), NOENT, "one answer only");
}

#[test]
fn a_store_is_told_with_its_value_and_leaves_the_register() {
    let mut pair = Pair::new();
    pair.frame.x[3] = 0x1_0000_0041;
    pair.access(true, DEVICE);
    let asked = IoRequest { address: DEVICE, value: 0x41, size: 4, is_write: 1, ..IoRequest::default() };
    assert_eq!(pair.next(0), Ok(asked));
    assert_eq!(pair.answer(0, 7), 0);
    assert_eq!((pair.saved().x[3], pair.saved().pc), (0x1_0000_0041, GUEST_RAM + 4));
}

#[test]
fn an_answer_before_the_vcpu_has_come_to_rest_is_to_be_tried_again() {
    let mut pair = Pair::new();
    let vcpu = pair.guest.vcpus()[0].clone();
    let access = MemoryAccess::of::<Fake>(&pair.frame, 0x24 << 26 | 1 << 25 | 1 << 24 | 7).unwrap();
    vcpu.run.lock().waiting = Some((access, pair.ports.0));
    assert_eq!(pair.answer(0, 1), XenError::Again as i64);
    assert!(pair.next(0).is_ok(), "it waits still");
}

#[test]
fn without_a_server_and_beyond_its_range_the_guest_takes_an_abort() {
    for gone in [false, true] {
        let mut pair = Pair::new();
        if gone {
            poke(&pair.dom0, GUEST_RAM, &Close { port: pair.ports.1 });
            let close = [u64::from(EvtchnOp::Close.raw()), GUEST_RAM];
            assert_eq!(pair.world.call(&pair.dom0, EVENT_CHANNEL_OP, &close), 0);
        }
        for at in [DEVICE - 4, DEVICE - 2, DEVICE + 0xFFE, DEVICE + 0x1000, u64::MAX, if gone { DEVICE } else { 0 }] {
            pair.frame.pc = GUEST_RAM;
            pair.access(false, at);
            assert_eq!((pair.held(), pair.frame.pc), (0, VECTORS + 0x200), "{at:#x}");
        }
    }
}

#[test]
fn a_server_that_goes_lets_the_guest_go_on_to_an_abort() {
    for destroyed in [false, true] {
        let mut pair = Pair::new();
        pair.access(false, DEVICE);
        assert_eq!(pair.held(), SERVED);
        if destroyed {
            assert!(evtchn::close_all(pair.world.kernel, &pair.dom0, 100), "as the destruction of its domain does");
        } else {
            evtchn::close(pair.world.kernel, &pair.dom0, pair.ports.1).unwrap();
        }
        assert_eq!((pair.held(), pair.saved().pc), (0, GUEST_RAM), "it stands where it stood");
        assert_eq!(pair.answer(0, 1), NOENT);
    }
}

#[test]
fn a_guest_that_waits_can_be_destroyed_and_one_that_closes_its_port_harms_only_itself() {
    let mut pair = Pair::new();
    pair.access(false, DEVICE);
    evtchn::close(pair.world.kernel, &pair.guest, pair.ports.0).unwrap();
    assert_eq!(pair.held(), SERVED, "nobody is told to answer");
    pair.cpu.current = None;
    crate::fake::pretend(&pair.guest.vcpus()[1], None);
    pair.world.destroy(&pair.guest.clone());
    assert_eq!(pair.answer(0, 1), XenError::Srch as i64);
}
