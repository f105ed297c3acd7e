//! Sleeping, polling, deadlines: no wake-up is lost whatever comes in between.

use crate::hw::Translation;
use hypercall_abi::arm::GUEST_EVTCHN_PPI;
use hypercall_abi::control::STATE_SHUTDOWN;
use hypercall_abi::ids::Port;

use super::*;
use crate::addr::GuestVa;
use crate::evtchn::{self, Binding};

/// A rig of one pCPU with a guest whose only vCPU runs there.
pub(super) fn running() -> (Rig, Dom, Shared<Vcpu<Fake>>) {
    let mut rig = Rig::new(1);
    let guest = domain(rig.kernel, 1);
    let vcpu = guest.vcpus()[0].clone();
    rig.start(&guest, 0);
    rig.until_it_runs(&vcpu);
    (rig, guest, vcpu)
}

/// What a wake-up between the two steps of a block does.
#[test]
fn a_notification_at_any_moment_of_a_block_lets_the_vcpu_run() {
    for moment in 0..4 {
        let (mut rig, _guest, vcpu) = running();
        let kernel = rig.kernel;
        let notify = |now: u32| {
            if now == moment {
                kernel.notify(&vcpu);
            }
        };
        notify(0);
        kernel.block(&vcpu);
        notify(1);
        rig.exit(0);
        notify(2);
        if moment != 0 {
            rig.pass(0, 0);
        }
        notify(3);
        let ran = (0..4).any(|_| {
            rig.pass(0, SLICE);
            rig.runs(0, &vcpu)
        });
        assert_eq!(ran, moment != 0, "a notification before the block is for the interrupt controller to remember");
    }
}

/// Enables the event interrupt as a guest does, by stores that trap.
pub(super) fn enable_events(rig: &mut Rig) {
    let bit = 1u64 << GUEST_EVTCHN_PPI;
    // GICD_CTLR, GICR_IGROUPR0, GICR_ISENABLER0.
    for (ipa, value) in [(0x0300_1000, 3), (0x0303_0080, bit), (0x0303_0100, bit)] {
        let (cpu, frame) = &mut rig.cpus[0];
        frame.x[1] = value;
        // A store of w1, as the syndrome of a data abort describes it (Arm ARM, section D24.2.40).
        let esr = 0x24 << 26 | 1 << 25 | 1 << 24 | 2 << 22 | 1 << 16 | 1 << 6 | 7;
        with(|s| s.fault = (GuestVa::new(ipa), Ipa::new(ipa)));
        crate::fake::exit::<{ exit::SYNC }>(rig.kernel, cpu, frame, esr);
    }
    with(|s| s.el1.ich_vmcr_el2 = 0xFF << 24 | 0b11);
}

#[test]
fn an_interrupt_that_is_pending_already_keeps_a_vcpu_from_blocking() {
    let (mut rig, _guest, vcpu) = running();
    enable_events(&mut rig);
    assert!(rig.kernel.block(&vcpu));
    rig.kernel.release(&vcpu, BLOCKED);
    with(|s| s.pcpu = PcpuId(1));
    assert!(vcpu.gic.raise::<Fake>(GUEST_EVTCHN_PPI));
    with(|s| s.pcpu = PcpuId(0));
    assert!(!rig.kernel.block(&vcpu));
    rig.exit(0);
    assert!(rig.runs(0, &vcpu));
}

#[test]
fn an_event_wakes_a_blocked_vcpu_and_one_for_another_leaves_it_asleep() {
    let (mut rig, guest, vcpu) = running();
    enable_events(&mut rig);
    let other = domain(rig.kernel, 1);
    let channel = |to: &Dom| {
        let near = rig.busy.events.open(Binding::Interdomain(to.id, Port(1)), VcpuId(0)).unwrap();
        assert_eq!(to.events.open(Binding::Interdomain(rig.busy.id, near), VcpuId(0)), Ok(Port(1)));
        near
    };
    let [near, elsewhere] = [&guest, &other].map(channel);
    assert!(rig.kernel.block(&vcpu));
    rig.exit(0);
    assert!(!rig.runs(0, &vcpu));
    evtchn::send(rig.kernel, &rig.busy, elsewhere).unwrap();
    rig.pass(0, SLICE);
    assert_eq!(vcpu.held(), BLOCKED);
    evtchn::send(rig.kernel, &rig.busy, near).unwrap();
    rig.exit(0);
    assert!(rig.runs(0, &vcpu));
}

#[test]
fn a_blocked_vcpu_wakes_up_when_its_virtual_timer_is_due() {
    for paused in [false, true] {
        let (mut rig, guest, vcpu) = running();
        let at = Fake::now() + ticks::<Fake>(30_000_000);
        with(|s| {
            s.el1.cntv_ctl_el0 = 1;
            s.el1.cntvoff_el2 = guest.counter_offset;
            s.el1.cntv_cval_el0 = at - guest.counter_offset;
        });
        assert!(rig.kernel.block(&vcpu));
        if paused {
            rig.kernel.pause(&guest).unwrap();
        }
        rig.exit(0);
        assert!(!rig.runs(0, &vcpu));
        assert_eq!(with(|s| s.deadline), Some(at));
        rig.pass(0, 29_000_000);
        assert!(!rig.runs(0, &vcpu));
        rig.pass(0, 1_000_000);
        assert_eq!(rig.runs(0, &vcpu), !paused, "a pause outlasts the timer");
        if paused {
            rig.kernel.unpause(&guest).unwrap();
            rig.exit(0);
            assert!(rig.runs(0, &vcpu), "and the wake-up outlasts the pause");
        }
    }
}

#[test]
fn a_deadline_is_forgotten_when_the_vcpu_runs_again() {
    let (mut rig, _guest, vcpu) = running();
    let at = Fake::now() + ticks::<Fake>(1_000_000_000);
    with(|s| (s.el1.cntv_ctl_el0, s.el1.cntvoff_el2, s.el1.cntv_cval_el0) = (1, 0, at));
    let alarm = |rig: &Rig| rig.kernel.sched.queues(PcpuId(0)).alarms.earliest();
    assert!(rig.kernel.block(&vcpu));
    rig.exit(0);
    assert_eq!(alarm(&rig), Some(at));
    rig.kernel.notify(&vcpu);
    rig.exit(0);
    assert!(rig.runs(0, &vcpu));
    assert_eq!(alarm(&rig), None, "the hardware watches it while it runs");
}

#[test]
fn a_vcpu_that_runs_elsewhere_is_kicked_to_look_and_one_that_runs_here_is_not() {
    let rig = Rig::new(2);
    let [here, there] = rig.busy.vcpus() else { unreachable!() };
    rig.kernel.notify(here);
    assert_eq!(with(|s| s.kicks.clone()), []);
    rig.kernel.notify(there);
    assert_eq!(with(|s| s.kicks.clone()), [PcpuId(1)]);
    rig.kernel.hold(there, crate::runstate::STOPPED);
    assert_eq!(with(|s| s.kicks.clone()), [PcpuId(1), PcpuId(1)]);
    assert!(rig.kernel.sched.must_choose(PcpuId(1)) && !rig.kernel.sched.must_choose(PcpuId(0)));
}

#[test]
fn a_watchdog_that_is_not_poked_ends_its_domain_whatever_its_vcpu_does() {
    for does in ["run", "sleep", "pause", "switch off"] {
        let (mut rig, guest, vcpu) = running();
        let arg = hypercall_abi::sched::Watchdog { id: 0, timeout: 2 };
        crate::fake::poke(&guest, GUEST_RAM, &arg);
        let (cpu, frame) = &mut rig.cpus[0];
        Fake::load_stage2(guest.p2m.vttbr(&rig.kernel.vmids, PcpuId(0)));
        frame.x[..2].copy_from_slice(&[6, GUEST_RAM]);
        frame.x[16] = u64::from(hypercall_abi::nr::SCHED_OP);
        crate::hypercall::dispatch(rig.kernel, cpu, frame.x.first_chunk_mut().unwrap());
        assert_eq!(frame.x[0], 1, "its id");
        match does {
            "sleep" => assert!(rig.kernel.block(&vcpu)),
            "pause" => rig.kernel.pause(&guest).unwrap(),
            "switch off" => assert!(rig.kernel.hold(&vcpu, OFFLINE)),
            _ => {}
        }
        rig.exit(0);
        rig.pass(0, 1_999_000_000);
        assert_eq!(guest.life(), (0, 0));
        rig.pass(0, 2_000_000);
        assert_eq!(guest.life(), (STATE_SHUTDOWN, 4), "{does}");
    }
}
