//! Whom an interrupt reaches: SGIs by name, shared ones by their route, whatever happens to either meanwhile.

use super::*;

/// Whom an interrupt reaches that vCPU `sender` sends, a bit each.
fn reached(gic: &Gic, sender: usize, value: u64, group1: bool) -> u64 {
    let all = || (0..20).map(|n| gic.vcpu(n));
    (0..20).for_each(|n| gic.write_redist(n, 0x1_0280, 0xFFFF));
    gic.enter(0);
    for vcpu in all() {
        vcpu.marks.store(0, core::sync::atomic::Ordering::SeqCst);
    }
    send_sgi(&gic.kernel, &gic.current(sender), value, group1);
    let reached = |vcpu: &VcpuGic| vcpu.deliverable::<Fake>();
    assert!(all().enumerate().all(|(n, vcpu)| reached(vcpu) == (gic.read_redist(n, 0x1_0200, 4) != 0)));
    (0..).zip(all()).filter(|(_, vcpu)| reached(vcpu)).map(|(n, _)| 1 << n).sum()
}

#[test]
fn an_sgi_reaches_exactly_the_vcpus_that_it_names() {
    let gic = Gic::new(20);
    (0..20).for_each(|n| gic.write_redist(n, 0x1_0100, 0xFFFF));
    // SGI 7 to 1 and 3 of cluster 0.
    assert_eq!(reached(&gic, 0, 7 << 24 | 0b1010, true), 0b1010);
    // To 2 of cluster 1, which is vCPU 18.
    assert_eq!(reached(&gic, 0, 7 << 24 | 1 << 16 | 0b100, true), 1 << 18);
    // To all others.
    assert_eq!(reached(&gic, 3, 1 << 40, true), 0xF_FFFF & !(1 << 3));
    // To clusters, ranges and vCPUs that are not there, and of a group that SGI 7 is not in.
    for value in [1 << 48, 1 << 32, 1 << 44, 2 << 16, 1 << 16 | 1 << 4] {
        assert_eq!(reached(&gic, 0, 7 << 24 | value | 1 << 5, true), 0, "{value:#x}");
    }
    assert_eq!(reached(&gic, 0, 7 << 24 | 1 << 1, false), 0);
}

#[test]
fn an_interrupt_that_is_active_stays_with_its_vcpu_when_its_route_changes() {
    let gic = Gic::new(2);
    enabled(&gic, &[40]);
    gic.take(40);
    gic.write(0x6000 + 8 * 40, 8, 1);
    gic.raise(40);
    assert!(!can_take(&gic, 1) && gic.bit(0x300, 40) && gic.bit(0x200, 40));
    gic.end(0, 40);
    gic.write(0x200 + 4, 4, 1 << 8);
    assert!(!can_take(&gic, 0) && can_take(&gic, 1), "the next one goes where it is routed");
}

#[test]
fn an_interrupt_that_waits_follows_its_route() {
    for placed in [false, true] {
        let gic = Gic::new(2);
        enabled(&gic, &[40]);
        gic.raise(40);
        if placed {
            gic.enter(0);
            assert!(gic.vcpu(0).deliverable::<Fake>());
        }
        gic.write(0x6000 + 8 * 40, 8, 1);
        assert!(gic.vcpu(1).dirty() || gic.vcpu(0).dirty(), "one of them hands it on");
        assert!(!can_take(&gic, 0));
        assert!(gic.vcpu(1).deliverable::<Fake>(), "whoever looks for it finds that it was told");
        assert!(can_take(&gic, 1));
        // To nobody, and back.
        gic.write(0x6000 + 8 * 40, 8, 0x77);
        assert!(!can_take(&gic, 1) && !can_take(&gic, 0));
        gic.write(0x6000 + 8 * 40, 8, 1 << 31);
        gic.write(0x6000 + 8 * 40 + 4, 4, 1);
        assert_eq!(gic.read(0x6000 + 8 * 40, 8), 1 << 31, "the upper half of a route is another register's worth");
        assert!(can_take(&gic, 0), "any is the first");
    }
}

#[test]
fn an_interrupt_that_its_vcpu_has_ended_is_not_pending_while_that_is_off() {
    let gic = Gic::new(2);
    enabled(&gic, &[31, 40]);
    gic.write(0xC08, 4, 2 << (2 * 8));
    for irq in [31, 40] {
        gic.take(irq);
        gic.end(0, irq);
        gic.unload(0);
        gic.load(1);
        gic.enter(1);
        assert!(!gic.bit(0x200, irq) && !gic.bit(0x300, irq));
        if irq == 40 {
            // vCPU 0 stays off for ever.
            gic.write(0x6000 + 8 * 40, 8, 1);
            gic.raise(40);
            gic.enter(1);
            assert_eq!(gic.acknowledge(), Some(40));
        }
        gic.unload(1);
        gic.load(0);
    }
}

#[test]
fn an_interrupt_that_moves_away_from_a_vcpu_which_is_switching_itself_off_is_handed_on() {
    let gic = Gic::new(2);
    enabled(&gic, &[40]);
    gic.write(0xC08, 4, 2 << (2 * 8));
    gic.take(40);
    gic.end(0, 40);
    // vCPU 0 is on its way off its pCPU; from another one, the interrupt still seems to be there.
    with(|s| s.pcpu = PcpuId(1));
    gic.write(0x6000 + 8 * 40, 8, 1);
    gic.raise(40);
    with(|s| s.pcpu = PcpuId(0));
    gic.unload(0);
    assert!(gic.vcpu(1).dirty(), "it was told");
    gic.load(1);
    gic.enter(1);
    assert_eq!(gic.acknowledge(), Some(40));
}
