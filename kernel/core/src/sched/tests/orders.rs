//! Models of vCPUs and pCPUs that go to sleep while others wake them: in every order that is tried, nobody sleeps on.

use hypercall_abi::arm::GUEST_EVTCHN_PPI;
use hypercall_abi::ids::Port;
use hypercall_abi::sched::Poll;
use hypercall_abi::shared_info::layout;

use super::waits::{enable_events, running};
use super::*;
use crate::evtchn::{self, Binding};
use crate::fake::poke;
use crate::hw::{Memory, Translation};
use crate::model::{Task, explore};
use crate::runstate::PAUSED;

/// Orders that each model tries.
const ORDERS: usize = 250;

/// pCPU 0 exits for an interrupt, and its own data is there afterwards.
fn exits(mut rig: Rig) -> (Task, std::sync::mpsc::Receiver<Rig>) {
    let (end, ended) = std::sync::mpsc::channel();
    let task = Box::new(move || {
        rig.exit(0);
        end.send(rig).unwrap();
    });
    (task, ended)
}

#[test]
fn a_vcpu_that_blocks_while_an_interrupt_comes_does_not_sleep() {
    explore(ORDERS, || {
        let (mut rig, _guest, vcpu) = running();
        enable_events(&mut rig);
        let (kernel, sleeper, woken) = (rig.kernel, vcpu.clone(), vcpu.clone());
        let blocks: Task = Box::new(move || _ = kernel.block(&sleeper));
        let raises: Task = Box::new(move || {
            if woken.gic.raise::<Fake>(GUEST_EVTCHN_PPI) {
                kernel.notify(&woken);
            }
        });
        ([blocks, raises], Box::new(move || assert_eq!(vcpu.held(), 0, "it sleeps with an interrupt pending")))
    });
}

#[test]
fn a_vcpu_that_polls_while_an_event_is_sent_does_not_sleep() {
    explore(ORDERS, || {
        let (mut rig, guest, vcpu) = running();
        let (near, far) = (Port(1), Port(1));
        let open = |domain: &Dom, to: Dom, port| domain.events.open(Binding::Interdomain(to.id, port), VcpuId(0));
        assert_eq!(open(&guest, rig.busy.clone(), far), Ok(near));
        assert_eq!(open(&rig.busy, guest.clone(), near), Ok(far));
        // Who polls has the port masked, or it would be told of it.
        Fake::set_bits64(guest.shared_info.pa().add(layout::EVTCHN_MASK as u64), 1 << near.0);
        let ports = GUEST_RAM + 64;
        let mut poll = Poll { nr_ports: 1, ..<Poll as zerocopy::FromZeros>::new_zeroed() };
        poll.ports.0 = ports;
        poke(&guest, GUEST_RAM, &poll);
        poke(&guest, ports, &near.0);
        let (kernel, sender) = (rig.kernel, rig.busy.clone());
        let (cpu, mut frame) = rig.cpus.remove(0);
        let polls: Task = Box::new(move || {
            Fake::load_stage2(guest.p2m.vttbr(&kernel.vmids, PcpuId(0)));
            frame.x[..2].copy_from_slice(&[3, GUEST_RAM]);
            frame.x[16] = u64::from(hypercall_abi::nr::SCHED_OP);
            crate::hypercall::dispatch(kernel, &cpu, &mut frame);
            assert_eq!(frame.x[0], 0);
        });
        let sends: Task = Box::new(move || evtchn::send(kernel, &sender, far).unwrap());
        ([polls, sends], Box::new(move || assert_eq!(vcpu.held(), 0, "it sleeps with its port pending")))
    });
}

#[test]
fn a_pcpu_that_goes_to_sleep_while_its_vcpu_is_woken_runs_it() {
    explore(ORDERS, || {
        let rig = Rig::new(1);
        let (kernel, vcpu) = (rig.kernel, rig.busy.vcpus()[0].clone());
        assert!(kernel.block(&vcpu));
        let woken = vcpu.clone();
        let (sleeps, slept) = exits(rig);
        let wakes: Task = Box::new(move || kernel.notify(&woken));
        ([sleeps, wakes], Box::new(move || assert!(slept.recv().unwrap().runs(0, &vcpu))))
    });
}

#[test]
fn a_vcpu_that_is_paused_while_a_pcpu_takes_it_does_not_run_on() {
    explore(ORDERS, || {
        let rig = Rig::new(1);
        let (kernel, guests) = (rig.kernel, [domain(rig.kernel, 1), domain(rig.kernel, 1)]);
        guests.iter().for_each(|guest| rig.start(guest, 0));
        assert!(kernel.block(&rig.busy.vcpus()[0]));
        let [vcpu, other] = guests.map(|guest| guest.vcpus()[0].clone());
        let paused = vcpu.clone();
        let (takes, took) = exits(rig);
        let pauses: Task = Box::new(move || _ = kernel.hold(&paused, PAUSED));
        let then = move || {
            let mut rig = took.recv().unwrap();
            if with(|s| s.kicks.contains(&PcpuId(0))) {
                rig.exit(0);
            }
            assert!(rig.runs(0, &other) && !rig.runs(0, &vcpu), "it runs although it is held");
        };
        ([takes, pauses], Box::new(then))
    });
}
