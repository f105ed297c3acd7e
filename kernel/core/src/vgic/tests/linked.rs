//! Interrupts with a physical one behind them: the virtual timer's, and those of Dom0's devices.

use super::*;

#[test]
fn a_timer_in_flight_takes_the_physical_active_state_along() {
    let gic = Gic::new(2);
    gic.write_redist(0, 0x1_0100, 1 << 27);
    let timer = IntId(27);
    with(|s| s.active.insert(timer));
    gic.vcpu(0).raise::<Fake>(27);
    gic.enter(0);
    assert_eq!(gic.acknowledge(), Some(27));
    gic.unload(0);
    assert!(with(|s| !s.active.contains(&timer)), "the next vCPU's timer must be able to interrupt");
    gic.load(1);
    gic.unload(1);
    gic.load(0);
    assert!(with(|s| s.active.contains(&timer)));
    gic.enter(0);
    gic.end(0, 27);
    assert!(with(|s| !s.active.contains(&timer)));
    gic.unload(0);
    gic.load(0);
    assert!(with(|s| !s.active.contains(&timer)));
}

#[test]
fn a_timer_that_is_due_when_its_vcpu_comes_back_is_delivered_with_the_entry() {
    let gic = Gic::new(1);
    gic.write_redist(0, 0x1_0100, 1 << 27);
    gic.unload(0);
    let due = El1Context { cntv_ctl_el0: 1, cntv_cval_el0: 10, ..El1Context::default() };
    gic.vcpu(0).load::<Fake>(crate::vtimer::is_due(&due, Fake::now()));
    gic.enter(0);
    assert!(with(|s| s.active.contains(&IntId(27))));
    assert_eq!(gic.acknowledge(), Some(27));
}

#[test]
fn a_timer_interrupt_that_nobody_wanted_any_more_is_forgotten_when_it_is_enabled() {
    let gic = Gic::new(1);
    gic.vcpu(0).raise::<Fake>(27);
    gic.write_redist(0, 0x1_0100, 1 << 27);
    gic.enter(0);
    assert_eq!(gic.acknowledge(), None);
    assert_eq!(with(|s| s.deactivated.clone()), [IntId(27)]);
}

#[test]
fn a_timer_interrupt_that_another_vcpu_clears_is_ended_on_the_pcpu_where_it_came() {
    // Pending and active, by hand, as by a timer that fired while its interrupt was disabled.
    for (set, clear) in [(0x1_0200, 0x1_0280), (0x1_0300, 0x1_0380)] {
        for flushes in [false, true] {
            let gic = Gic::new(2);
            gic.unload(0);
            with(|s| s.pcpu = PcpuId(1));
            crate::fake::pretend(&gic.domain.vcpus()[1], Some(PcpuId(1)));
            gic.load(1);
            gic.write_redist(1, set, 1 << 27);
            with(|s| s.active.insert(IntId(27)));
            with(|s| s.pcpu = PcpuId(0));
            gic.load(0);
            gic.write_redist(1, clear, 1 << 27);
            assert!(with(|s| s.deactivated.is_empty()), "it is not this pCPU's");
            assert_eq!(with(|s| s.kicks.clone()), [PcpuId(1)]);
            with(|s| s.pcpu = PcpuId(1));
            if flushes {
                gic.enter(1);
                assert_eq!(with(|s| s.deactivated.clone()), [IntId(27)]);
            }
            gic.unload(1);
            let ended = with(|s| !s.active.contains(&IntId(27)) || s.deactivated.contains(&IntId(27)));
            assert!(ended, "the next vCPU's timer must be able to interrupt");
        }
    }
}

#[test]
fn a_linked_interrupt_is_enabled_with_the_physical_one_and_ends_it() {
    let gic = Gic::new(1);
    link(&gic, 40);
    gic.write(0xC00 + 8, 4, 2 << (2 * 8) | 2 << (2 * 9));
    assert_eq!(with(|s| s.edges.clone()), [IntId(40)].into(), "it signals as the guest says");
    enabled(&gic, &[40, 41]);
    assert!(with(|s| s.enabled.contains_key(&IntId(40)) && !s.enabled.contains_key(&IntId(41))));
    gic.raise(40);
    gic.enter(0);
    assert_eq!(with(|s| s.lrs[0] >> 32 & 0x3FF), 40);
    assert_ne!(with(|s| s.lrs[0] & HW), 0);
    gic.set_bit(0x180, 40);
    assert!(with(|s| !s.enabled.contains_key(&IntId(40))));
    gic.set_bit(0x280, 40);
    gic.enter(0);
    assert_eq!(with(|s| s.deactivated.clone()), [IntId(40)], "an interrupt that is dropped is ended");
}

#[test]
fn the_timer_is_pending_as_long_as_its_line_is_high() {
    let gic = Gic::new(1);
    gic.vcpu(0).raise::<Fake>(27);
    assert!(!gic.bit(0x200, 27), "its line has fallen since");
    with(|s| s.el1 = El1Context { cntv_ctl_el0: 1, ..El1Context::default() });
    assert!(gic.bit(0x200, 27) && gic.bit(0x280, 27));
}
