//! The vGIC against a model of what a GIC promises, with the fake machine's list registers played by a guest.

use std::collections::BTreeSet;

use hypercall_abi::control::DomainParams;
use proptest::prelude::*;

use super::*;
use crate::context::El1Context;
use crate::domain::Domain;
use crate::fake::{Fake, Shared, params, reset, with};
use crate::hw::PcpuId;
use crate::local::Current;

const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;
const HW: u64 = 1 << 61;
const EOI: u64 = 1 << 41;

/// A domain for the sake of its GIC.
struct Gic {
    kernel: Box<Kernel<Fake>>,
    domain: Shared<Domain<Fake>>,
}

impl Gic {
    /// Everything is enabled at the distributor; vCPU 0 is on this pCPU.
    fn new(vcpus: u32) -> Gic {
        reset();
        let kernel = Box::new(Kernel::new());
        let domain = kernel.create(&DomainParams { vcpus, ..params(1) }, None).unwrap();
        let gic = Gic { kernel, domain };
        gic.write(0x0, 4, 3);
        gic.load(0);
        gic.enter(0);
        gic
    }

    fn vcpu(&self, n: usize) -> &VcpuGic {
        &self.domain.vcpus()[n].gic
    }

    fn current(&self, n: usize) -> Current<Fake> {
        Current { vcpu: self.domain.vcpus()[n].clone(), domain: self.domain.clone() }
    }

    fn read(&self, offset: u64, size: u8) -> u64 {
        read(&self.domain, Frame::Distributor(offset), size).unwrap()
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        write(&self.kernel, &self.domain, Frame::Distributor(offset), size, value).unwrap();
    }

    fn read_redist(&self, vcpu: usize, offset: u64, size: u8) -> u64 {
        read(&self.domain, Frame::Redistributor(vcpu, offset), size).unwrap()
    }

    fn write_redist(&self, vcpu: usize, offset: u64, value: u64) {
        write(&self.kernel, &self.domain, Frame::Redistributor(vcpu, offset), 4, value).unwrap();
    }

    /// Writes one interrupt's bit of a bit register, wherever that lies.
    fn set_bit(&self, register: u64, irq: u32) {
        if irq < 32 {
            self.write_redist(0, 0x1_0000 + register, 1 << irq);
        } else {
            self.write(register + u64::from(irq / 32) * 4, 4, 1 << (irq % 32));
        }
    }

    fn bit(&self, register: u64, irq: u32) -> bool {
        let word = if irq < 32 {
            self.read_redist(0, 0x1_0000 + register, 4)
        } else {
            self.read(register + u64::from(irq / 32) * 4, 4)
        };
        word >> (irq % 32) & 1 != 0
    }

    fn set_priority(&self, irq: u32, priority: u8) {
        let at = u64::from(irq) + 0x400;
        if irq < 32 {
            write(&self.kernel, &self.domain, Frame::Redistributor(0, 0x1_0000 + at), 1, u64::from(priority)).unwrap();
        } else {
            self.write(at, 1, u64::from(priority));
        }
    }

    fn raise(&self, irq: u32) {
        if irq < 16 {
            self.vcpu(0).raise_sgi::<Fake>(irq, true, true);
        } else if irq < 32 {
            self.vcpu(0).raise::<Fake>(irq);
        } else {
            raise(&self.kernel, &self.domain, irq);
        }
    }

    fn set_level(&self, irq: u32, high: bool) {
        if irq < 32 {
            self.vcpu(0).set_level::<Fake>(irq, high);
        } else {
            set_level(&self.kernel, &self.domain, irq, high);
        }
    }

    fn load(&self, vcpu: usize) {
        self.vcpu(vcpu).load::<Fake>(&El1Context::default());
    }

    fn unload(&self, vcpu: usize) {
        VcpuGic::unload(&self.kernel, &self.current(vcpu));
    }

    /// What every return to the guest does.
    fn enter(&self, vcpu: usize) {
        if self.vcpu(vcpu).dirty() {
            flush(&self.kernel, &self.current(vcpu));
        }
    }

    /// The guest on this pCPU takes its most urgent interrupt.
    fn acknowledge(&self) -> Option<u32> {
        with(|s| {
            let pending = s.lrs.iter_mut().filter(|lr| **lr & (PENDING | ACTIVE) == PENDING);
            let lr = pending.min_by_key(|lr| **lr >> 48 & 0xFF)?;
            *lr = *lr & !PENDING | ACTIVE;
            Some(low(*lr) & 0x3FF)
        })
    }

    /// The guest ends an interrupt that it took; the maintenance interrupt follows where it is asked for.
    fn end(&self, vcpu: usize, irq: u32) {
        let maintenance = with(|s| {
            let lr = s.lrs.iter_mut().find(|lr| **lr & ACTIVE != 0 && low(**lr) & 0x3FF == irq).unwrap();
            *lr &= !ACTIVE;
            if *lr & HW != 0 {
                s.active.remove(&IntId(irq));
            }
            let ended = *lr & (PENDING | HW | EOI) == EOI;
            let valid = s.lrs.iter().filter(|lr| **lr >> 62 != 0).count();
            ended || s.underflow && valid <= 1
        });
        if maintenance {
            self.vcpu(vcpu).mark(vcpu::ALL);
        }
    }
}

fn enabled(gic: &Gic, irqs: &[u32]) {
    irqs.iter().for_each(|irq| gic.set_bit(0x100, *irq));
}

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
        gic.raise(irq);
        gic.enter(0);
        assert_eq!(gic.acknowledge(), Some(irq));
        elsewhere(0x380);
        assert!(!gic.bit(0x300, irq));
        gic.raise(irq);
        gic.enter(0);
        assert_eq!(gic.acknowledge(), Some(irq), "what comes later counts");
        gic.end(0, irq);
    }
}

#[test]
fn an_interrupt_that_is_active_stays_with_its_vcpu_when_its_route_changes() {
    let gic = Gic::new(2);
    enabled(&gic, &[40]);
    gic.raise(40);
    gic.enter(0);
    assert_eq!(gic.acknowledge(), Some(40));
    gic.write(0x6000 + 8 * 40, 8, 1);
    gic.raise(40);
    assert!(!can_take(&gic, 1) && gic.bit(0x300, 40) && gic.bit(0x200, 40));
    gic.end(0, 40);
    gic.write(0x200 + 4, 4, 1 << 8);
    assert!(!can_take(&gic, 0) && can_take(&gic, 1), "the next one goes where it is routed");
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

/// Whom an interrupt reaches that vCPU `sender` sends, a bit each.
fn reached(gic: &Gic, sender: usize, value: u64, group1: bool) -> u64 {
    let all = || (0..20).map(|n| gic.vcpu(n));
    (0..20).for_each(|n| gic.write_redist(n, 0x1_0280, 0xFFFF));
    gic.enter(0);
    for vcpu in all() {
        vcpu.flush_alone::<Fake>();
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
    gic.vcpu(0).load::<Fake>(&due);
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
fn a_linked_interrupt_is_enabled_with_the_physical_one_and_ends_it() {
    let gic = Gic::new(1);
    gic.domain.dist.link(40);
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

/// Whether vCPU `n` has something to take once it runs and has looked. vCPU 0 is on the pCPU before and after.
fn can_take(gic: &Gic, n: usize) -> bool {
    gic.unload(0);
    gic.load(n);
    gic.enter(n);
    let can = gic.vcpu(n).deliverable::<Fake>();
    gic.unload(n);
    gic.load(0);
    gic.enter(0);
    can
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
        gic.raise(irq);
        gic.enter(0);
        assert_eq!(gic.acknowledge(), Some(irq));
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
    gic.raise(40);
    gic.enter(0);
    assert_eq!(gic.acknowledge(), Some(40));
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
fn the_redistributors_describe_themselves() {
    let gic = Gic::new(18);
    assert_eq!(gic.read_redist(0, 0x8, 8), 0);
    assert_eq!(gic.read_redist(17, 0x8, 8), 0x101 << 32 | 17 << 8 | 1 << 4);
    assert_eq!(gic.read_redist(17, 0xC, 4), 0x101);
    assert_eq!(gic.read(0xFFE8, 4) >> 4 & 0xF, 3);
    assert!(read(&gic.domain, Frame::Redistributor(18, 8), 8).is_none());
    assert_eq!(
        GicLayout::GUEST.find(Ipa::new(0x0302_0000 + 0x2_0000 + 0x1_0100)),
        Some(Frame::Redistributor(1, 0x1_0100))
    );
    assert_eq!(GicLayout::GUEST.find(Ipa::new(0x0300_1FFC)), Some(Frame::Distributor(0xFFC)));
    assert_eq!(GicLayout::GUEST.find(Ipa::new(0x0300_0FFC)), None);
    for n in 0..40 {
        assert_eq!(index_of(affinity(n)), Some(n));
    }
}

/// What a guest and its devices do.
#[derive(Clone, Copy, Debug)]
enum Step {
    Raise(u32),
    Level(u32, bool),
    Enable(u32),
    Disable(u32),
    SetPending(u32),
    ClearPending(u32),
    Priority(u32, u8),
    Acknowledge,
    End,
    Switch,
}

/// Interrupts of the model: edges are even, lines odd.
const IRQS: [u32; 12] = [0, 3, 5, 7, 17, 19, 28, 29, 36, 37, 38, 39];

fn is_edge(irq: u32) -> bool {
    irq < 16 || irq.is_multiple_of(2)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let irq = || proptest::sample::select(&IRQS[..]);
    let edge = || irq().prop_filter("edge", |irq| is_edge(*irq));
    let line = || irq().prop_filter("line", |irq| !is_edge(*irq));
    let step = prop_oneof![
        4 => edge().prop_map(Step::Raise),
        4 => (line(), any::<bool>()).prop_map(|(irq, high)| Step::Level(irq, high)),
        4 => irq().prop_map(Step::Enable),
        1 => irq().prop_map(Step::Disable),
        1 => edge().prop_map(Step::SetPending),
        1 => irq().prop_map(Step::ClearPending),
        1 => (irq(), any::<u8>()).prop_map(|(irq, priority)| Step::Priority(irq, priority)),
        5 => Just(Step::Acknowledge),
        4 => Just(Step::End),
        1 => Just(Step::Switch),
    ];
    proptest::collection::vec(step, 0..120)
}

/// The GIC of the architecture, as far as one vCPU sees it.
#[derive(Default)]
struct Model {
    enabled: BTreeSet<u32>,
    latched: BTreeSet<u32>,
    high: BTreeSet<u32>,
    active: Vec<u32>,
}

impl Model {
    fn is_pending(&self, irq: u32) -> bool {
        self.latched.contains(&irq) || self.high.contains(&irq)
    }

    fn takable(&self) -> impl Iterator<Item = u32> + '_ {
        let free = |irq: &u32| self.is_pending(*irq) && self.enabled.contains(irq) && !self.active.contains(irq);
        IRQS.into_iter().filter(free)
    }
}

fn run(steps: &[Step]) {
    let gic = Gic::new(2);
    let mut model = Model::default();
    for word in [0xC04, 0xC08] {
        let edges = (0..16).filter(|i| i % 2 == 0).map(|i| 2u64 << (2 * i)).sum();
        if word == 0xC04 { gic.write_redist(0, 0x1_0000 + word, edges) } else { gic.write(word, 4, edges) }
    }
    for step in steps {
        apply(&gic, &mut model, *step);
        gic.enter(0);
        check(&gic, &model);
    }
    // Left alone with a guest that takes everything, nothing that was pending is missing.
    while let Some(irq) = model.active.pop() {
        gic.end(0, irq);
        gic.enter(0);
    }
    model.high.clear();
    IRQS.into_iter().filter(|irq| !is_edge(*irq)).for_each(|irq| gic.set_level(irq, false));
    gic.enter(0);
    let mut left: BTreeSet<u32> = model.takable().collect();
    while let Some(irq) = gic.acknowledge() {
        assert!(left.remove(&irq), "{irq} was not pending");
        gic.end(0, irq);
        gic.enter(0);
    }
    assert!(left.is_empty(), "lost {left:?}");
}

fn apply(gic: &Gic, model: &mut Model, step: Step) {
    match step {
        Step::Raise(irq) => {
            gic.raise(irq);
            model.latched.insert(irq);
        }
        Step::Level(irq, high) => {
            gic.set_level(irq, high);
            if high {
                model.high.insert(irq)
            } else {
                model.high.remove(&irq)
            };
        }
        Step::Enable(irq) => {
            gic.set_bit(0x100, irq);
            model.enabled.insert(irq);
        }
        Step::Disable(irq) => {
            gic.set_bit(0x180, irq);
            model.enabled.remove(&irq);
        }
        Step::SetPending(irq) => {
            gic.set_bit(0x200, irq);
            model.latched.insert(irq);
        }
        Step::ClearPending(irq) => {
            gic.set_bit(0x280, irq);
            model.latched.remove(&irq);
        }
        Step::Priority(irq, priority) => gic.set_priority(irq, priority),
        Step::Acknowledge => {
            let taken = gic.acknowledge();
            if let Some(irq) = taken {
                assert!(model.takable().any(|other| other == irq), "{irq} was not pending");
                model.latched.remove(&irq);
                model.active.push(irq);
            } else {
                assert!(model.takable().next().is_none() || model.active.len() >= 4, "nothing came");
            }
        }
        Step::End => {
            if let Some(irq) = model.active.pop() {
                gic.end(0, irq);
            }
        }
        Step::Switch => {
            gic.unload(0);
            gic.load(1);
            gic.enter(1);
            gic.unload(1);
            gic.load(0);
        }
    }
}

fn check(gic: &Gic, model: &Model) {
    let lrs = with(|s| s.lrs);
    let valid: Vec<u64> = lrs.into_iter().filter(|lr| lr >> 62 != 0).collect();
    let irqs: BTreeSet<u64> = valid.iter().map(|lr| lr & 0x3FF).collect();
    assert_eq!(irqs.len(), valid.len(), "an interrupt is in two list registers");
    assert!(valid.iter().all(|lr| lr & HW == 0 || lr >> 62 != 3), "a linked interrupt is pending and active");
    let nested = model.active.iter().any(|irq| model.is_pending(*irq));
    assert_eq!(gic.vcpu(0).deliverable::<Fake>() || nested, model.takable().next().is_some() || nested);
    for irq in IRQS {
        assert_eq!(gic.bit(0x200, irq), model.is_pending(irq), "pending bit of {irq}");
        assert_eq!(gic.bit(0x300, irq), model.active.contains(&irq), "active bit of {irq}");
        assert_eq!(gic.bit(0x100, irq), model.enabled.contains(&irq), "enabled bit of {irq}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_pending_is_lost_and_nothing_comes_that_was_not_pending(steps in steps()) {
        run(&steps);
    }

    #[test]
    fn every_register_access_is_answered(
        accesses in proptest::collection::vec((0u64..0x2_0000, 0u32..4, any::<u64>(), any::<bool>()), 0..200),
    ) {
        let gic = Gic::new(3);
        gic.domain.dist.link(40);
        for (offset, size, value, redist) in accesses {
            let size = 1u8 << size;
            let offset = offset & !u64::from(size - 1);
            if redist {
                read(&gic.domain, Frame::Redistributor(2, offset), size).unwrap();
                write(&gic.kernel, &gic.domain, Frame::Redistributor(2, offset), size, value).unwrap();
            } else {
                gic.read(offset & 0xFFFF, size);
                gic.write(offset & 0xFFFF, size, value);
            }
            send_sgi(&gic.kernel, &gic.current(1), value, redist);
            gic.enter(0);
        }
    }
}
