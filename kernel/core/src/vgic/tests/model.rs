//! Random steps of one vCPU against the GIC of the architecture.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

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
}
