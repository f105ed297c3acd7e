//! Pending, active, enabled: what becomes of an interrupt between its source and the guest.

use super::*;

#[test]
fn an_edge_that_comes_before_the_enable_is_delivered_after_it() {
    let gic = Gic::new(1);
    gic.raise(31);
    gic.enter(0);
    assert_eq!(gic.acknowledge(), None);
    assert!(gic.bit(0x200, 31));
    gic.set_bit(0x100, 31);
    gic.enter(0);
    assert_eq!(gic.acknowledge(), Some(31));
    assert!(!gic.bit(0x200, 31) && gic.bit(0x300, 31));
    gic.end(0, 31);
    assert!(!gic.bit(0x300, 31));
}

#[test]
fn a_line_that_is_still_high_at_the_end_interrupts_again_and_one_that_is_low_does_not() {
    let gic = Gic::new(1);
    for irq in [30, 40] {
        enabled(&gic, &[irq]);
        gic.set_level(irq, true);
        gic.enter(0);
        assert!(gic.bit(0x200, irq));
        assert_eq!(gic.acknowledge(), Some(irq));
        assert!(gic.bit(0x200, irq), "the pending bit of a level interrupt is its line");
        gic.end(0, irq);
        gic.enter(0);
        assert_eq!(gic.acknowledge(), Some(irq));
        gic.set_level(irq, false);
        gic.end(0, irq);
        gic.enter(0);
        assert_eq!(gic.acknowledge(), None);
    }
}

#[test]
fn a_line_that_falls_before_the_guest_looks_leaves_nothing_behind() {
    let gic = Gic::new(1);
    enabled(&gic, &[40]);
    gic.set_level(40, true);
    gic.enter(0);
    gic.set_level(40, false);
    gic.enter(0);
    assert_eq!(gic.acknowledge(), None);
    assert!(!gic.bit(0x200, 40));
}

#[test]
fn an_interrupt_disabled_in_a_list_register_is_kept_for_later() {
    let gic = Gic::new(1);
    enabled(&gic, &[5, 33]);
    for irq in [5, 33] {
        if irq == 33 {
            gic.write(0xC08, 4, 2 << 2);
        }
        gic.raise(irq);
        gic.enter(0);
        gic.set_bit(0x180, irq);
        gic.enter(0);
        assert_eq!(gic.acknowledge(), None);
        assert!(gic.bit(0x200, irq));
        gic.set_bit(0x100, irq);
        gic.enter(0);
        assert_eq!(gic.acknowledge(), Some(irq));
        gic.end(0, irq);
    }
}

#[test]
fn an_interrupt_disabled_on_a_vcpu_that_runs_elsewhere_is_taken_back_before_that_enters_again() {
    let gic = Gic::new(2);
    gic.write_redist(1, 0x1_0100, 1 << 31);
    gic.unload(0);
    gic.load(1);
    gic.vcpu(1).raise::<Fake>(31);
    gic.enter(1);
    with(|s| s.pcpu = PcpuId(1));
    gic.write_redist(1, 0x1_0180, 1 << 31);
    assert!(gic.vcpu(1).dirty(), "its pCPU must look");
    with(|s| s.pcpu = PcpuId(0));
    gic.enter(1);
    assert_eq!(gic.acknowledge(), None);
    gic.write_redist(1, 0x1_0100, 1 << 31);
    gic.enter(1);
    assert_eq!(gic.acknowledge(), Some(31));
}

#[test]
fn what_is_cleared_from_another_pcpu_does_not_come_back_from_a_list_register() {
    let gic = Gic::new(1);
    enabled(&gic, &[31, 40]);
    for irq in [31, 40] {
        let elsewhere = |register| {
            with(|s| s.pcpu = PcpuId(1));
            gic.set_bit(register, irq);
            assert!(!gic.bit(register, irq), "whoever clears it sees that at once");
            with(|s| s.pcpu = PcpuId(0));
            gic.enter(0);
        };
        gic.raise(irq);
        gic.enter(0);
        elsewhere(0x280);
        assert_eq!(gic.acknowledge(), None);
        gic.take(irq);
        elsewhere(0x380);
        assert!(!gic.bit(0x300, irq));
        gic.raise(irq);
        gic.enter(0);
        assert_eq!(gic.acknowledge(), Some(irq), "what comes later counts");
        gic.end(0, irq);
    }
}

#[test]
fn a_disable_that_is_taken_back_in_time_loses_nothing_on_another_pcpu() {
    let gic = Gic::new(1);
    enabled(&gic, &[31]);
    gic.raise(31);
    gic.enter(0);
    with(|s| s.pcpu = PcpuId(1));
    gic.set_bit(0x180, 31);
    gic.set_bit(0x100, 31);
    with(|s| s.pcpu = PcpuId(0));
    gic.enter(0);
    assert_eq!(gic.acknowledge(), Some(31));
}

#[test]
fn list_registers_are_left_alone_when_nothing_changes() {
    let gic = Gic::new(1);
    enabled(&gic, &[31]);
    gic.raise(31);
    gic.enter(0);
    let writes = with(|s| s.lr_writes);
    for _ in 0..10 {
        gic.read(0x4, 4);
        gic.read_redist(0, 0x8, 8);
        gic.enter(0);
    }
    assert_eq!(with(|s| s.lr_writes), writes);
}

#[test]
fn a_new_priority_of_an_interrupt_that_waits_reaches_its_list_register() {
    let gic = Gic::new(1);
    for irq in [5, 40] {
        enabled(&gic, &[irq]);
        gic.set_priority(irq, 0x80);
        gic.raise(irq);
        gic.enter(0);
        gic.set_priority(irq, 0x40);
        gic.enter(0);
        assert_eq!(with(|s| s.lrs[0] >> 48 & 0xFF), 0x40);
        assert_eq!(gic.acknowledge(), Some(irq));
        gic.end(0, irq);
    }
}

#[test]
fn interrupts_nest_deeper_than_there_are_list_registers() {
    let gic = Gic::new(1);
    with(|s| s.ends_nest = true);
    let nest: Vec<u32> = (0..5).flat_map(|n| [n + 1, n + 40]).collect();
    for (irq, priority) in nest.iter().zip((1..).map(|n| 0xF0 - n * 0x10)) {
        enabled(&gic, &[*irq]);
        gic.set_priority(*irq, priority);
        gic.raise(*irq);
        gic.enter(0);
        assert_eq!(gic.acknowledge(), Some(*irq));
    }
    for irq in nest.into_iter().rev() {
        gic.enter(0);
        gic.end(0, irq);
        assert!(!gic.bit(0x300, irq));
    }
}

#[test]
fn a_line_that_stays_high_is_looked_at_once() {
    let gic = Gic::new(1);
    enabled(&gic, &[40]);
    gic.set_level(40, true);
    gic.enter(0);
    assert!(!gic.vcpu(0).dirty());
}

#[test]
fn a_vcpu_sleeps_although_what_it_has_not_ended_is_pending_and_disabled() {
    let gic = Gic::new(1);
    enabled(&gic, &[5, 40]);
    for irq in [5, 40] {
        gic.take(irq);
        gic.raise(irq);
        gic.set_bit(0x180, irq);
        gic.enter(0);
        assert!(!gic.vcpu(0).deliverable::<Fake>());
        gic.set_bit(0x100, irq);
        gic.enter(0);
        gic.end(0, irq);
        assert_eq!(gic.acknowledge(), Some(irq));
        gic.end(0, irq);
    }
}

#[test]
fn whoever_asks_about_an_interrupt_on_another_pcpu_learns_what_became_of_it() {
    let gic = Gic::new(1);
    enabled(&gic, &[5, 40]);
    for irq in [5, 40] {
        gic.take(irq);
        with(|s| s.pcpu = PcpuId(1));
        gic.bit(0x300, irq);
        with(|s| s.pcpu = PcpuId(0));
        gic.enter(0);
        with(|s| s.pcpu = PcpuId(1));
        assert!(gic.bit(0x300, irq) && !gic.bit(0x200, irq));
        with(|s| s.pcpu = PcpuId(0));
        gic.end(0, irq);
    }
}
