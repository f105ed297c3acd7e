//! Tests of tracing: what is written, where, and what is refused.

use hypercall_abi::control::Op;
use hypercall_abi::nr::XEN_VERSION;
use hypercall_abi::trace::ExitKind;
use hypercall_abi::vcpu::Runstate;

use super::*;
use crate::exit::{self, IRQ};
use crate::fake::{Fake, GUEST_RAM, Shared, World, frame_of, params, peek, with};
use crate::hw::Interrupts;

/// The ring of these tests: three pages in the middle of Dom0's RAM.
const RING: u64 = GUEST_RAM + 0x4000;
const SLOTS: u64 = 2 * PER_PAGE;

/// Dom0, which calls, and a guest that is on pCPU 0.
struct Rig {
    world: World,
    dom0: Shared<Domain<Fake>>,
    guest: Shared<Domain<Fake>>,
    cpu: LocalCpu<Fake>,
    frame: TrapFrame,
}

impl Rig {
    fn new() -> Rig {
        let (mut world, dom0) = World::new();
        let guest = world.domain_like(&params(8), 8);
        world.kernel.unpause(&guest).unwrap();
        world.kernel.start_vcpu(&guest, &guest.vcpus()[0], GUEST_RAM, 0).unwrap();
        let (mut cpu, mut frame) = (LocalCpu::new(PcpuId(0)), TrapFrame::default());
        crate::fake::choose(world.kernel, &mut cpu, &mut frame);
        Rig { world, dom0, guest, cpu, frame }
    }

    fn ring(&mut self, pcpu: u64, at: u64, pages: u64) -> i64 {
        self.world.call(&self.dom0, Op::TraceRing.number(), &[0, pcpu, at, pages])
    }

    /// A traced exit that takes 7 ticks.
    fn exit<const KIND: u8>(&mut self) {
        begin(&mut self.cpu, &self.frame, KIND, 0x5A);
        with(|s| s.now += 7);
        if KIND == HYPERCALL {
            let left = exit::hypercall(self.world.kernel, &self.cpu, self.frame.x.first_chunk_mut().unwrap());
            if exit::finish(self.world.kernel, &self.cpu, &mut self.frame, left) {
                crate::fake::choose(self.world.kernel, &mut self.cpu, &mut self.frame);
            }
        } else {
            crate::fake::exit::<KIND>(self.world.kernel, &mut self.cpu, &mut self.frame, 0x5A);
        }
        end(&mut self.cpu);
    }

    fn count(&self) -> u64 {
        peek(&self.dom0, RING)
    }

    fn record(&self, n: u64) -> Record {
        peek(&self.dom0, RING + PAGE_SIZE + n % SLOTS * size_of::<Record>() as u64)
    }
}

#[test]
fn exits_calls_and_changes_of_state_are_written_as_they_happen() {
    let mut rig = Rig::new();
    assert_eq!(rig.ring(0, RING, 3), 0);
    let start = Fake::now();
    (rig.frame.x[16], rig.frame.x[0]) = (u64::from(XEN_VERSION), 9);
    rig.exit::<HYPERCALL>();
    rig.exit::<IRQ>();
    let vcpu = rig.guest.vcpus()[0].clone();
    vcpu.run.lock().enter(Runstate::Runnable, start + 15);
    state(&vcpu, &vcpu.run.lock(), Runstate::Blocked, start + 20);

    let domid = rig.guest.id;
    let whose = Record { domid, ..Record::default() };
    let value = u64::from(XEN_VERSION) | 9 << 32;
    assert_eq!(rig.record(0), Record { time: start, kind: Kind::Hypercall.raw(), value, span: 7, ..whose });
    let (kind, detail) = (Kind::Exit.raw(), ExitKind::Irq.raw());
    assert_eq!(rig.record(1), Record { time: start + 7, kind, detail, value: 0x5A, span: 7, ..whose });
    let last = rig.count() - 1;
    let detail = 1 << 4 | 2;
    assert_eq!(rig.record(last), Record { time: start + 20, kind: Kind::State.raw(), detail, ..whose });
}

#[test]
fn an_interrupt_is_an_injection_once() {
    let mut rig = Rig::new();
    assert_eq!(rig.ring(0, RING, 3), 0);
    let mut exit = |before: u64, after: u64| {
        Fake::write_lr(0, before);
        begin(&mut rig.cpu, &rig.frame, IRQ, 0);
        Fake::write_lr(0, after);
        let count = peek::<u64>(&rig.dom0, RING);
        end(&mut rig.cpu);
        peek::<u64>(&rig.dom0, RING) - count - 1
    };
    const PENDING: u64 = 1 << 62;
    assert_eq!(exit(0, PENDING | 31), 1);
    assert_eq!(exit(PENDING | 31, PENDING | 31), 0, "it waits already");
    assert_eq!(exit(31, 31), 0, "it has ended");
    assert_eq!(exit(31, PENDING | 31), 1, "it comes again");
    let last = rig.record(rig.count() - 1);
    assert_eq!((last.kind, last.value, last.domid), (Kind::Injection.raw(), PENDING | 31, rig.guest.id));
}

#[test]
fn a_full_ring_loses_the_oldest_records_and_counts_on() {
    let mut rig = Rig::new();
    assert_eq!(rig.ring(0, RING, 3), 0);
    for n in 0..SLOTS + 3 {
        write::<Fake>(&Record { time: n, ..Record::default() });
    }
    assert_eq!(rig.count(), SLOTS + 3);
    assert_eq!([0, 1, 2, 3].map(|n| rig.record(n).time), [SLOTS, SLOTS + 1, SLOTS + 2, 3]);
    assert_eq!(rig.record(SLOTS - 1).time, SLOTS - 1, "nothing is behind the last page");
}

#[test]
fn what_dom0_writes_to_a_ring_changes_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.ring(0, RING, 3), 0);
    write::<Fake>(&Record::default());
    crate::fake::poke(&rig.dom0, RING, &u64::MAX);
    write::<Fake>(&Record { time: 5, ..Record::default() });
    assert_eq!((rig.count(), rig.record(1).time), (2, 5));
}

#[test]
fn a_ring_is_refused_whole_where_it_cannot_be_and_is_taken_back_whole() {
    let mut rig = Rig::new();
    let (inval, noent) = (XenError::Inval as i64, XenError::NoEnt as i64);
    for (pcpu, at, pages, error) in [
        (1, RING, 3, inval),
        (u64::MAX, RING, 3, inval),
        (0, RING, 1, inval),
        (0, RING, MAX_PAGES as u64 + 1, inval),
        (0, RING, u64::MAX, inval),
        (0, RING + 8, 3, inval),
        (0, u64::MAX - 4095, 3, inval),
        (0, GUEST_RAM + 14 * PAGE_SIZE, 3, noent),
    ] {
        assert_eq!(rig.ring(pcpu, at, pages), error, "{pcpu} {at:#x} {pages}");
        assert!(!rig.world.kernel.sched.is_traced());
        let pinned: usize = Fake::rings().iter().map(|ring| ring.lock().pages.len()).sum();
        assert_eq!(pinned, 0);
    }
    let at = frame_of(&rig.dom0, RING);
    for _ in 0..3 {
        assert_eq!(rig.ring(0, RING, 3), 0);
        assert_eq!(Fake::rings()[0].lock().pages.iter().map(FrameRef::pa).next(), Some(at));
        write::<Fake>(&Record::default());
        assert_eq!(rig.count(), 1, "each begins anew");
    }
    assert_eq!(rig.ring(0, 0, 0), 0);
    assert_eq!(Fake::rings()[0].lock().pages.len(), 0);
    write::<Fake>(&Record::default());
    assert_eq!(rig.count(), 1, "nothing is written any more");
}

#[test]
fn every_pcpu_takes_the_vectors_that_trace_when_it_is_told_and_gives_them_back() {
    let mut rig = Rig::new();
    with(|s| s.online = 3);
    for on in [true, false] {
        with(|s| s.sent.clear());
        assert_eq!(rig.ring(2, RING, if on { 3 } else { 0 }), 0);
        assert_eq!(with(|s| s.sent.clone()), [0, 1, 2].map(|n| (PcpuId(n), TRACE_SGI)));
        with(|s| s.pending.push_back(TRACE_SGI));
        exit::interrupts(rig.world.kernel, &mut rig.cpu);
        assert_eq!(with(|s| s.exits_traced), on);
    }
}

#[test]
fn tracing_goes_on_until_the_last_ring_is_taken_back_or_lost() {
    let mut rig = Rig::new();
    with(|s| s.online = 3);
    let other = RING + 3 * PAGE_SIZE;
    assert_eq!((rig.ring(0, RING, 3), rig.ring(0, RING, 3), rig.ring(1, other, 2)), (0, 0, 0));
    assert_eq!(rig.ring(0, 0, 0), 0);
    assert!(rig.world.kernel.sched.is_traced(), "pCPU 1 has a ring");
    assert_eq!(rig.ring(1, GUEST_RAM + 15 * PAGE_SIZE, 2), XenError::NoEnt as i64);
    assert!(!rig.world.kernel.sched.is_traced());
}
