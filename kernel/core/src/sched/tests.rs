//! Tests of the scheduler: one thread plays all pCPUs, one at a time.

mod alarms;
mod model;
mod orders;
pub(super) mod scale;
mod shares;
mod waits;

use hypercall_abi::control::DomainParams;
use hypercall_abi::ids::VcpuId;
use hypercall_abi::vcpu::Runstate;

use crate::addr::Ipa;
use crate::context::TrapFrame;
use crate::domain::Domain;
use crate::exit;
use crate::fake::{Fake, GUEST_RAM, Shared, params, reset, with};
use crate::hw::{Hw, PcpuId};
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::memory;
use crate::runstate::{BLOCKED, OFFLINE, ticks};
use crate::vcpu::Vcpu;

/// A turn, in nanoseconds.
const SLICE: u64 = 5_000_000;

type Dom = Shared<Domain<Fake>>;

/// A machine with some pCPUs, each of which starts with a vCPU of its own domain that never sleeps.
struct Rig {
    kernel: &'static Kernel<Fake>,
    cpus: Vec<(LocalCpu<Fake>, TrapFrame)>,
    /// The domain whose vCPU `n` is bound to pCPU `n`.
    busy: Dom,
}

impl Rig {
    fn new(pcpus: u8) -> Rig {
        reset();
        with(|s| s.online = usize::from(pcpus));
        let kernel: &'static Kernel<Fake> = Box::leak(Box::new(Kernel::empty()));
        let busy = domain(kernel, u32::from(pcpus));
        let mut rig = Rig { kernel, cpus: Vec::new(), busy };
        for n in 0..pcpus {
            let vcpu = rig.busy.vcpus()[usize::from(n)].clone();
            vcpu.affinity.store(1 << n, core::sync::atomic::Ordering::Relaxed);
            vcpu.run.lock().pcpu = PcpuId(n);
            rig.start(&rig.busy.clone(), usize::from(n));
            with(|s| s.pcpu = PcpuId(n));
            let (mut cpu, mut frame) = (LocalCpu::new(PcpuId(n)), TrapFrame::default());
            crate::fake::choose(kernel, &mut cpu, &mut frame);
            rig.cpus.push((cpu, frame));
        }
        rig.on(0);
        with(|s| s.kicks.clear());
        rig
    }

    fn start(&self, domain: &Dom, n: usize) {
        self.kernel.start_vcpu(domain, &domain.vcpus()[n], GUEST_RAM, 0).unwrap();
    }

    /// Plays pCPU `n` from now on.
    fn on(&self, n: u8) {
        with(|s| s.pcpu = PcpuId(n));
    }

    /// An exit of pCPU `n` for interrupts.
    fn exit(&mut self, n: u8) {
        self.on(n);
        let (cpu, frame) = &mut self.cpus[usize::from(n)];
        crate::fake::exit::<{ exit::IRQ }>(self.kernel, cpu, frame, 0);
    }

    /// Exits until the pCPU has nothing more to choose.
    fn settle(&mut self) {
        for _ in 0..4 {
            for n in 0..u8::try_from(self.cpus.len()).unwrap() {
                self.exit(n);
            }
        }
    }

    /// Lets time pass, and the timer interrupt of pCPU `n` come if it is due.
    fn pass(&mut self, n: u8, nanoseconds: u64) {
        with(|s| {
            s.now += ticks::<Fake>(nanoseconds);
            s.pending.push_back(exit::TIMER_PPI);
        });
        self.exit(n);
    }

    fn current(&self, n: u8) -> &Shared<Vcpu<Fake>> {
        &self.cpus[usize::from(n)].0.current.as_ref().expect("a pCPU returns with a vCPU").vcpu
    }

    fn runs(&self, n: u8, vcpu: &Shared<Vcpu<Fake>>) -> bool {
        Fake::same(self.current(n), vcpu)
    }

    /// Lets time pass until the vCPU runs on pCPU 0.
    fn until_it_runs(&mut self, vcpu: &Shared<Vcpu<Fake>>) {
        let runs = (0..20).any(|_| {
            self.pass(0, SLICE);
            self.runs(0, vcpu)
        });
        assert!(runs, "it never comes to run");
    }
}

/// How a vCPU stands, and on which pCPU.
fn stands(vcpu: &Vcpu<Fake>) -> (Runstate, PcpuId) {
    let run = vcpu.run.lock();
    (run.state, run.pcpu)
}

/// A domain that is not paused, its vCPUs not started.
fn domain(kernel: &'static Kernel<Fake>, vcpus: u32) -> Dom {
    let domain = kernel.create(&DomainParams { vcpus, ..params(2) }, None).unwrap();
    assert_eq!(memory::populate(&domain, Ipa::new(GUEST_RAM), 1), (1, Ok(())));
    kernel.unpause(&domain).unwrap();
    domain
}

#[test]
fn a_vcpu_that_is_held_for_any_reason_is_not_run_until_the_last_one_goes() {
    let mut rig = Rig::new(1);
    let guest = domain(rig.kernel, 1);
    rig.start(&guest, 0);
    let vcpu = guest.vcpus()[0].clone();
    rig.until_it_runs(&vcpu);
    rig.kernel.pause(&guest).unwrap();
    rig.kernel.pause(&guest).unwrap();
    rig.settle();
    assert!(!rig.runs(0, &vcpu));
    rig.kernel.notify(&vcpu);
    rig.kernel.unpause(&guest).unwrap();
    for _ in 0..8 {
        rig.pass(0, SLICE);
        assert!(!rig.runs(0, &vcpu), "one pause is left");
    }
    rig.kernel.unpause(&guest).unwrap();
    rig.until_it_runs(&vcpu);
    assert!(rig.kernel.unpause(&guest).is_err());
}

#[test]
fn a_vcpu_that_is_switched_off_can_be_started_again_once_it_has_left() {
    let mut rig = Rig::new(1);
    let guest = domain(rig.kernel, 1);
    let vcpu = guest.vcpus()[0].clone();
    rig.start(&guest, 0);
    rig.until_it_runs(&vcpu);
    assert_eq!(rig.kernel.start_vcpu(&guest, &vcpu, 0x1000, 7), Err(hypercall_abi::errno::XenError::Exist));
    rig.kernel.hold(&vcpu, OFFLINE);
    assert_eq!(rig.kernel.start_vcpu(&guest, &vcpu, 0x1000, 7), Err(hypercall_abi::errno::XenError::Again));
    rig.settle();
    assert!(!rig.runs(0, &vcpu));
    assert_eq!(rig.kernel.start_vcpu(&guest, &vcpu, 0x1000, 7), Ok(()));
    rig.until_it_runs(&vcpu);
    assert_eq!((rig.cpus[0].1.pc, rig.cpus[0].1.x[0]), (0x1000, 7));
}

#[test]
fn affinity_is_honoured_when_it_changes_while_the_vcpu_waits_and_while_it_runs() {
    let mut rig = Rig::new(2);
    let guest = domain(rig.kernel, 1);
    let vcpu = guest.vcpus()[0].clone();
    rig.kernel.pin(&vcpu, 0b10, u64::MAX);
    rig.start(&guest, 0);
    for mask in [0b10u64, 0b01, 0b10] {
        rig.kernel.pin(&vcpu, mask, u64::MAX);
        let mut runs = 0;
        rig.settle();
        for _ in 0..20 {
            rig.pass(0, SLICE);
            rig.pass(1, SLICE);
            for n in 0..2 {
                let here = rig.runs(n, &vcpu);
                assert!(!here || mask & 1 << n != 0);
                runs += u32::from(here);
            }
        }
        assert!(runs > 4, "it does run where it may: {runs}");
    }
}

#[test]
fn vcpus_that_never_sleep_share_a_pcpu_evenly() {
    let mut rig = Rig::new(1);
    let guest = domain(rig.kernel, 3);
    for n in 0..3 {
        rig.start(&guest, n);
    }
    for _ in 0..400 {
        rig.pass(0, SLICE);
    }
    let now = Fake::now();
    let shares: Vec<_> = guest.vcpus().iter().map(|vcpu| vcpu.run.lock().running(now)).collect();
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(*least > ticks::<Fake>(SLICE * 90), "{shares:?}");
    assert!(most - least <= ticks::<Fake>(SLICE * 3), "{shares:?}");
}

#[test]
fn who_sleeps_long_saves_up_no_more_than_the_lag() {
    let mut rig = Rig::new(1);
    let guest = domain(rig.kernel, 1);
    let vcpu = guest.vcpus()[0].clone();
    // The other one runs alone for an hour.
    for _ in 0..10 {
        rig.pass(0, 360_000_000_000);
    }
    rig.start(&guest, 0);
    rig.exit(0);
    assert!(rig.runs(0, &vcpu), "who has slept comes first");
    let mut rounds = 0;
    while rig.runs(0, &vcpu) {
        rig.pass(0, SLICE);
        rounds += 1;
    }
    assert!(rounds <= 3, "but gives way soon: {rounds}");
}

#[test]
fn a_yield_lets_a_waiting_vcpu_run_at_once_and_takes_nothing_where_none_waits() {
    let mut rig = Rig::new(1);
    rig.kernel.sched.give_way();
    assert!(!rig.kernel.sched.must_choose(PcpuId(0)));
    let guest = domain(rig.kernel, 1);
    let vcpu = guest.vcpus()[0].clone();
    rig.start(&guest, 0);
    rig.until_it_runs(&vcpu);
    for n in 0..100 {
        rig.kernel.sched.give_way();
        rig.exit(0);
        assert_eq!(rig.runs(0, &vcpu), n % 2 != 0, "yield {n}");
    }
}

#[test]
fn vcpus_that_wake_up_together_go_to_different_sleeping_pcpus() {
    let rig = Rig::new(3);
    let guest = domain(rig.kernel, 2);
    // Two pCPUs sleep, and both vCPUs ran on the same one of them before.
    rig.kernel.sched.idle.store(0b110, core::sync::atomic::Ordering::SeqCst);
    for vcpu in guest.vcpus() {
        vcpu.run.lock().pcpu = PcpuId(1);
    }
    rig.start(&guest, 0);
    rig.start(&guest, 1);
    let places: Vec<_> = guest.vcpus().iter().map(|vcpu| stands(vcpu)).collect();
    assert_eq!(places, [(Runstate::Runnable, PcpuId(1)), (Runstate::Runnable, PcpuId(2))]);
    assert_eq!(with(|s| s.kicks.clone()), [PcpuId(1), PcpuId(2)]);
}

#[test]
fn a_vcpu_that_makes_room_moves_to_a_pcpu_that_sleeps() {
    let mut rig = Rig::new(2);
    let guest = domain(rig.kernel, 1);
    let vcpu = guest.vcpus()[0].clone();
    rig.start(&guest, 0);
    rig.until_it_runs(&vcpu);
    rig.kernel.sched.idle.store(0b10, core::sync::atomic::Ordering::SeqCst);
    with(|s| s.kicks.clear());
    while rig.runs(0, &vcpu) {
        rig.pass(0, SLICE);
    }
    assert_eq!(stands(&vcpu), (Runstate::Runnable, PcpuId(1)));
    assert_eq!(with(|s| s.kicks.clone()), [PcpuId(1)]);
}

#[test]
fn a_pcpu_without_work_takes_a_waiting_vcpu_from_another_one() {
    let mut rig = Rig::new(2);
    let guest = domain(rig.kernel, 1);
    let vcpu = guest.vcpus()[0].clone();
    rig.start(&guest, 0);
    rig.until_it_runs(&vcpu);
    // It has waited behind the vCPU of pCPU 0 since; that of pCPU 1 is switched off.
    while rig.runs(0, &vcpu) {
        rig.pass(0, SLICE);
    }
    rig.kernel.hold(&rig.busy.vcpus()[1].clone(), OFFLINE);
    rig.exit(1);
    assert!(rig.runs(1, &vcpu));
    assert_eq!(stands(&vcpu), (Runstate::Running, PcpuId(1)));
}

#[test]
fn the_run_state_says_what_the_vcpu_does() {
    let mut rig = Rig::new(1);
    with(|s| s.now += ticks::<Fake>(SLICE));
    let guest = domain(rig.kernel, 1);
    let vcpu = guest.vcpus()[0].clone();
    let state = || vcpu.run.lock().info(Fake::now()).state;
    assert_eq!(state(), Runstate::Offline as u32);
    let spent: u64 = vcpu.run.lock().info(Fake::now()).time.iter().sum();
    assert_eq!(spent, 0, "its time begins when it is made");
    rig.start(&guest, 0);
    assert_eq!(state(), Runstate::Runnable as u32);
    rig.until_it_runs(&vcpu);
    assert_eq!(state(), Runstate::Running as u32);
    assert!(rig.kernel.block(&vcpu));
    rig.exit(0);
    assert_eq!(state(), Runstate::Blocked as u32);
    assert_eq!(vcpu.held(), BLOCKED);
    assert_eq!(vcpu.id, VcpuId(0));
}
