//! The alarms of a pCPU against a sorted map, and what happens when they go off.

use std::collections::BTreeMap;

use hypercall_abi::ids::{DomId, VcpuId};
use proptest::prelude::*;

use super::*;
use crate::fake::pretend;
use crate::hw::Ticks;
use crate::sched::alarm::BATCH;
use crate::sched::{Alarm, Alarms};

const VCPUS: u32 = 12;

fn vcpus(count: u32) -> Vec<Shared<Vcpu<Fake>>> {
    reset();
    (0..count).map(|n| Fake::share(DomId(1), Vcpu::new(DomId(1), VcpuId(n))).unwrap()).collect()
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Sets the alarm of a vCPU, anew if it is set.
    Set {
        vcpu: usize,
        at: Ticks,
    },
    Cancel(usize),
    Expire(Ticks),
}

fn step() -> impl Strategy<Value = Step> {
    let (vcpu, at) = (0..VCPUS as usize, 0..50u64);
    prop_oneof![
        5 => (vcpu.clone(), at.clone()).prop_map(|(vcpu, at)| Step::Set { vcpu, at }),
        2 => vcpu.prop_map(Step::Cancel),
        2 => at.prop_map(Step::Expire),
    ]
}

proptest! {
    #[test]
    fn alarms_come_in_order_once_each_and_are_gone_when_cancelled(steps in prop::collection::vec(step(), 1..120)) {
        let all = vcpus(VCPUS);
        let mut alarms = Box::new(Alarms::<Fake>::new());
        let mut model = BTreeMap::<usize, Ticks>::new();
        let cancel = |alarms: &mut Alarms<Fake>, vcpu: usize, at| {
            alarms.cancel(at, |alarm| matches!(alarm, Alarm::Vcpu(other) if Fake::same(other, &all[vcpu])));
        };
        for step in steps {
            match step {
                Step::Set { vcpu, at } => {
                    if let Some(before) = model.insert(vcpu, at) {
                        cancel(&mut alarms, vcpu, before);
                    }
                    alarms.set(at, Alarm::Vcpu(all[vcpu].clone()));
                }
                Step::Cancel(vcpu) => {
                    // One that is not set, or has gone off, is nobody's.
                    let at = model.remove(&vcpu).unwrap_or(25);
                    cancel(&mut alarms, vcpu, at);
                }
                Step::Expire(now) => {
                    let mut last = 0;
                    while let Some(due) = alarms.expire(now) {
                        let Alarm::Vcpu(due) = due else { unreachable!("no domain has an alarm") };
                        let at = model.remove(&(due.id.0 as usize)).expect("it was set");
                        prop_assert!(at <= now && at >= last);
                        last = at;
                    }
                    prop_assert!(model.values().all(|at| *at > now));
                }
            }
            prop_assert_eq!(alarms.earliest(), model.values().min().copied());
        }
        let left = std::iter::from_fn(|| alarms.expire(Ticks::MAX)).count();
        prop_assert_eq!(left, model.len());
    }
}

#[test]
fn a_hundred_alarms_at_once_are_handled_a_few_at_a_time_and_the_timer_stays_due() {
    let vcpus = vcpus(100);
    let kernel: &'static Kernel<Fake> = Box::leak(Box::new(Kernel::empty()));
    let due = Fake::now() + 10;
    for vcpu in &vcpus {
        pretend(vcpu, None);
        kernel.hold(vcpu, BLOCKED);
        vcpu.run.lock().alarm = due;
        kernel.sched.queues(PcpuId(0)).alarms.set(due, Alarm::Vcpu(vcpu.clone()));
    }
    let deadline = || {
        let until = kernel.sched.queues(PcpuId(0)).alarms.earliest();
        Fake::set_deadline(until);
        with(|s| s.deadline)
    };
    assert_eq!(deadline(), Some(due));
    with(|s| s.now = due);
    for round in 0..100_usize.div_ceil(BATCH) {
        assert_eq!(kernel.sched.queues(PcpuId(0)).alarms.earliest(), Some(due), "round {round}");
        assert!(deadline().is_some_and(|at| at <= due));
        kernel.timer_fired(&LocalCpu::new(PcpuId(0)));
        assert_eq!(with(|s| s.deadline), None, "its line is low until the pCPU has chosen");
    }
    assert_eq!(kernel.sched.queues(PcpuId(0)).alarms.earliest(), None);
    assert!(vcpus.iter().all(|vcpu| vcpu.held() & BLOCKED == 0));
}
