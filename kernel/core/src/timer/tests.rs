//! The queue of deadlines against a sorted map, and the timers of all pCPUs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fake::pretend;
use crate::fake::{Fake, Shared, reset, with};
use crate::runstate::BLOCKED;
use hypercall_abi::ids::{DomId, VcpuId};

const VCPUS: u32 = 12;

fn vcpus(count: u32) -> Vec<Shared<Vcpu<Fake>>> {
    reset();
    (0..count).map(|n| Fake::share(DomId(1), Vcpu::new(DomId(1), VcpuId(n))).unwrap()).collect()
}

fn alarm(vcpu: &Shared<Vcpu<Fake>>) -> Alarm<Fake> {
    Alarm::Vcpu(vcpu.clone())
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arm { vcpu: usize, pcpu: u8, at: Ticks },
    Cancel(usize),
    Expire { pcpu: u8, now: Ticks },
}

fn step() -> impl Strategy<Value = Step> {
    let (vcpu, pcpu, at) = (0..VCPUS as usize, 0..2u8, 0..50u64);
    prop_oneof![
        5 => (vcpu.clone(), pcpu.clone(), at.clone()).prop_map(|(vcpu, pcpu, at)| Step::Arm { vcpu, pcpu, at }),
        2 => vcpu.prop_map(Step::Cancel),
        2 => (pcpu, at).prop_map(|(pcpu, now)| Step::Expire { pcpu, now }),
    ]
}

proptest! {
    #[test]
    fn deadlines_come_in_order_once_each_and_are_gone_when_cancelled(steps in prop::collection::vec(step(), 1..120)) {
        let all = vcpus(VCPUS);
        let timers = Box::new(Timers::<Fake>::new());
        let mut model = BTreeMap::<usize, (u8, Ticks)>::new();
        for step in steps {
            match step {
                Step::Arm { vcpu, pcpu, at } => {
                    timers.set(PcpuId(pcpu), alarm(&all[vcpu]), at);
                    model.insert(vcpu, (pcpu, at));
                }
                Step::Cancel(vcpu) => {
                    timers.cancel(&all[vcpu].alarm);
                    model.remove(&vcpu);
                }
                Step::Expire { pcpu, now } => {
                    let mut last = 0;
                    while let Some(due) = timers.queue(PcpuId(pcpu)).lock().expire(now) {
                        let Alarm::Vcpu(due) = due else { unreachable!("no domain has an alarm") };
                        let (home, at) = model.remove(&(due.id.0 as usize)).expect("it was armed");
                        prop_assert!(home == pcpu && at <= now && at >= last);
                        last = at;
                    }
                }
            }
            for pcpu in 0..2 {
                let armed = model.values().filter(|(home, _)| *home == pcpu).map(|(_, at)| *at);
                let queue = timers.queue(PcpuId(pcpu)).lock();
                prop_assert_eq!(queue.0.len(), armed.clone().count());
                prop_assert_eq!(queue.earliest(), armed.min());
            }
        }
        // Nothing keeps a vCPU but the queues and this test.
        for vcpu in &all {
            timers.cancel(&vcpu.alarm);
        }
        prop_assert!(timers.queues.iter().all(|queue| queue.lock().0.is_empty()));
    }
}

#[test]
fn a_hundred_deadlines_at_once_are_handled_a_few_at_a_time_and_the_timer_stays_due() {
    let vcpus = vcpus(100);
    let kernel: &'static Kernel<Fake> = Box::leak(Box::new(Kernel::new()));
    let due = Fake::now() + 10;
    for vcpu in &vcpus {
        pretend(vcpu, None);
        kernel.hold(vcpu, BLOCKED);
        kernel.timers.set(PcpuId(0), alarm(vcpu), due);
    }
    kernel.timers.program(PcpuId(0), None);
    assert_eq!(with(|s| s.deadline), Some(due));
    with(|s| s.now = due);
    for round in 0..100_usize.div_ceil(BATCH) {
        assert_eq!(with(|s| s.deadline), Some(due), "round {round}");
        kernel.timer_fired(PcpuId(0));
        kernel.timers.program(PcpuId(0), None);
    }
    assert_eq!(with(|s| s.deadline), None);
    assert!(vcpus.iter().all(|vcpu| vcpu.held() & BLOCKED == 0));
}
