//! Random steps of two pCPUs: whatever happens, who may run comes to run, and who may not does not.

use proptest::prelude::*;

use super::*;
use crate::runstate::PAUSED;
use crate::sched::Policy;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The vCPU that runs on this pCPU goes to sleep.
    Block(u8),
    /// Another pCPU sends to this vCPU.
    Notify {
        from: u8,
        to: usize,
    },
    Pause(usize),
    Unpause(usize),
    Pin {
        vcpu: usize,
        mask: u64,
    },
    /// Time passes on a pCPU. Another one's timer interrupt comes too, if a turn there is over by then.
    Pass {
        on: u8,
        ns: u64,
    },
    /// An exit without a reason.
    Exit(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (on, n) = (0..2u8, 0..GUESTS);
    prop_oneof![
        4 => on.clone().prop_map(Step::Block),
        4 => (on.clone(), n.clone()).prop_map(|(from, to)| Step::Notify { from, to }),
        1 => n.clone().prop_map(Step::Pause),
        1 => n.clone().prop_map(Step::Unpause),
        1 => (n, 1..4u64).prop_map(|(vcpu, mask)| Step::Pin { vcpu, mask }),
        6 => (on.clone(), 0..8_000_000u64).prop_map(|(on, ns)| Step::Pass { on, ns }),
        4 => on.prop_map(Step::Exit),
    ]
}

const GUESTS: usize = 4;

/// What each vCPU must be: who sleeps, and how often it is paused.
#[derive(Default)]
struct Model {
    asleep: [bool; GUESTS],
    pauses: [u32; GUESTS],
}

fn run(rig: &mut Rig, guests: &[Dom], model: &mut Model, step: Step) {
    match step {
        Step::Block(on) => {
            let running = rig.current(on).clone();
            let Some(n) = guests.iter().position(|guest| Fake::same(&guest.vcpus()[0], &running)) else { return };
            rig.on(on);
            // One that is about to be taken off for another reason may block as well.
            assert!(rig.kernel.block(&running));
            model.asleep[n] = true;
        }
        Step::Notify { from, to } => {
            rig.on(from);
            rig.kernel.notify(&guests[to].vcpus()[0]);
            model.asleep[to] = false;
        }
        Step::Pause(n) => {
            rig.kernel.pause(&guests[n]).unwrap();
            model.pauses[n] += 1;
        }
        Step::Unpause(n) => {
            assert_eq!(rig.kernel.unpause(&guests[n]).is_ok(), model.pauses[n] > 0);
            model.pauses[n] = model.pauses[n].saturating_sub(1);
        }
        Step::Pin { vcpu, mask } => rig.kernel.pin(&guests[vcpu].vcpus()[0], mask, u64::MAX),
        Step::Pass { on, ns } => {
            rig.pass(on, ns);
            let (other, now) = (1 - on, Fake::now());
            let end = rig.kernel.sched.queues(PcpuId(other)).ready.turn_end(now);
            if end.is_some_and(|end| end <= now) {
                rig.pass(other, 0);
            }
        }
        Step::Exit(on) => rig.exit(on),
    }
}

/// What must hold of every vCPU at any moment.
fn check(rig: &Rig, guests: &[Dom], model: &Model) -> Result<(), TestCaseError> {
    for (n, guest) in guests.iter().enumerate() {
        let vcpu = &guest.vcpus()[0];
        let held = if model.asleep[n] { BLOCKED } else { 0 } | if model.pauses[n] > 0 { PAUSED } else { 0 };
        prop_assert_eq!(vcpu.held(), held);
        let on: Vec<_> = (0..2).filter(|pcpu| rig.runs(*pcpu, vcpu)).collect();
        match stands(vcpu) {
            (Runstate::Running, PcpuId(pcpu)) => prop_assert_eq!(on, vec![pcpu]),
            (Runstate::Runnable, _) => prop_assert_eq!(on, vec![]),
            (Runstate::Blocked | Runstate::Offline, _) => {
                prop_assert_eq!(on, vec![]);
                prop_assert!(held != 0, "one that may run is queued: its wake-up is lost");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_wake_up_is_lost_and_nobody_runs_who_is_held(steps in prop::collection::vec(step(), 1..80)) {
        let mut rig = Rig::new(2);
        let guests: Vec<_> = (0..GUESTS).map(|_| domain(rig.kernel, 1)).collect();
        for guest in &guests {
            rig.start(guest, 0);
        }
        let mut model = Model::default();
        for &step in &steps {
            run(&mut rig, &guests, &mut model, step);
            check(&rig, &guests, &model)?;
        }
        rig.settle();
        for (n, guest) in guests.iter().enumerate() {
            let held = model.asleep[n] || model.pauses[n] > 0;
            let vcpu = &guest.vcpus()[0];
            let before = vcpu.run.lock().running(Fake::now());
            for _ in 0..2 * GUESTS + 4 {
                rig.pass(0, SLICE);
                rig.pass(1, SLICE);
            }
            let ran = vcpu.run.lock().running(Fake::now()) - before;
            prop_assert_eq!(ran == 0, held, "vCPU {} ran {} ticks", n, ran);
        }
    }
}
