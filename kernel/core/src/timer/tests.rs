//! The queue of deadlines against a sorted map, and the timers of all pCPUs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fake::{Fake, Shared, reset, with};
use crate::vgic::VcpuGic;
use hypercall_abi::ids::DomId;

const VCPUS: u16 = 12;

fn vcpus() -> Vec<Shared<Vcpu<Fake>>> {
    reset();
    let vcpu = |slot| Vcpu::new(DomId(1), VcpuId(1), slot * 5, VcpuGic::new());
    (0..VCPUS).map(|slot| Fake::share(DomId(1), vcpu(slot)).unwrap()).collect()
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arm { vcpu: usize, pcpu: u8, at: Ticks },
    Cancel(usize),
    Expire { pcpu: u8, now: Ticks },
}

fn step() -> impl Strategy<Value = Step> {
    let (vcpu, pcpu, at) = (0..usize::from(VCPUS), 0..2u8, 0..50u64);
    prop_oneof![
        5 => (vcpu.clone(), pcpu.clone(), at.clone()).prop_map(|(vcpu, pcpu, at)| Step::Arm { vcpu, pcpu, at }),
        2 => vcpu.prop_map(Step::Cancel),
        2 => (pcpu, at).prop_map(|(pcpu, now)| Step::Expire { pcpu, now }),
    ]
}

proptest! {
    #[test]
    fn deadlines_come_in_order_once_each_and_are_gone_when_cancelled(steps in prop::collection::vec(step(), 1..120)) {
        let all = vcpus();
        let timers = Box::new(Timers::<Fake>::new());
        let mut model = BTreeMap::<usize, (u8, Ticks)>::new();
        for step in steps {
            match step {
                Step::Arm { vcpu, pcpu, at } => {
                    timers.arm(PcpuId(pcpu), &all[vcpu], at);
                    model.insert(vcpu, (pcpu, at));
                }
                Step::Cancel(vcpu) => {
                    timers.cancel(&all[vcpu]);
                    model.remove(&vcpu);
                }
                Step::Expire { pcpu, now } => {
                    let mut last = 0;
                    while let Some(due) = timers.queue(PcpuId(pcpu)).lock().expire(now) {
                        let (home, at) = model.remove(&usize::from(due.slot / 5)).expect("it was armed");
                        prop_assert!(home == pcpu && at <= now && at >= last);
                        last = at;
                    }
                }
            }
            for pcpu in 0..2 {
                let armed = model.values().filter(|(home, _)| *home == pcpu).map(|(_, at)| *at);
                let queue = timers.queue(PcpuId(pcpu)).lock();
                prop_assert_eq!(queue.heap.len(), armed.clone().count());
                prop_assert_eq!(queue.earliest(), armed.min());
            }
        }
        // Nothing keeps a vCPU but the queues and this test.
        for vcpu in &all {
            timers.cancel(vcpu);
        }
        prop_assert!(timers.queues.iter().all(|queue| queue.lock().heap.is_empty()));
    }
}

#[test]
fn a_hundred_deadlines_at_once_are_handled_a_few_at_a_time_and_the_timer_stays_due() {
    reset();
    let kernel: &'static Kernel<Fake> = Box::leak(Box::new(Kernel::new()));
    let vcpus: Vec<_> = (0..100)
        .map(|slot| Fake::share(DomId(1), Vcpu::new(DomId(1), VcpuId(1), slot, VcpuGic::new())).unwrap())
        .collect();
    let mut cpu = LocalCpu::new(PcpuId(0));
    let due = Fake::now() + 10;
    for vcpu in &vcpus {
        vcpu.hold(crate::vcpu::BLOCKED);
        kernel.timers.arm(PcpuId(0), vcpu, due);
    }
    kernel.timers.program(&cpu);
    assert_eq!(with(|s| s.deadline), Some(due));
    with(|s| s.now = due);
    for round in 0..100_usize.div_ceil(BATCH) {
        assert_eq!(with(|s| s.deadline), Some(due), "round {round}");
        kernel.timer_fired(&mut cpu);
    }
    assert_eq!(with(|s| s.deadline), None);
    assert!(vcpus.iter().all(|vcpu| vcpu.held() & crate::vcpu::BLOCKED == 0));
}
