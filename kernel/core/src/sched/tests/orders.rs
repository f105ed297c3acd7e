//! Models of vCPUs and pCPUs that go to sleep while others wake them: in every order that is tried, nobody sleeps on.

use hypercall_abi::arm::GUEST_EVTCHN_PPI;
use hypercall_abi::ids::Port;
use hypercall_abi::sched::Poll;
use hypercall_abi::shared_info::layout;
use hypercall_abi::vcpu::RUNSTATE_UPDATE;

use super::waits::{enable_events, running};
use super::*;
use crate::addr::PAGE_SIZE;
use crate::evtchn::{self, Binding};
use crate::fake::poke;
use crate::hw::{Memory, Translation};
use crate::model::{Task, contended, explore, point};
use crate::runstate::{PAUSED, RunstateArea};
use crate::vtimer;

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

/// The port of a guest that polls, and of the domain that sends to it.
const PORT: Port = Port(1);

/// A guest whose vCPU, running, is about to poll for its port.
fn poller() -> (Rig, Dom, Shared<Vcpu<Fake>>) {
    let (rig, guest, vcpu) = running();
    let open = |domain: &Dom, to: &Dom| domain.events.open(Binding::Interdomain(to.id, PORT), VcpuId(0));
    assert_eq!(open(&guest, &rig.busy), Ok(PORT));
    assert_eq!(open(&rig.busy, &guest), Ok(PORT));
    // Who polls has the port masked, or it would be told of it.
    Fake::set_bits64(guest.shared_info.pa().add(layout::EVTCHN_MASK as u64), 1 << PORT.0);
    let ports = GUEST_RAM + 64;
    let mut poll = Poll { nr_ports: 1, ..<Poll as zerocopy::FromZeros>::new_zeroed() };
    poll.ports.0 = ports;
    poke(&guest, GUEST_RAM, &poll);
    poke(&guest, ports, &PORT.0);
    (rig, guest, vcpu)
}

/// It polls.
fn poll(kernel: &'static Kernel<Fake>, guest: &Dom, cpu: &LocalCpu<Fake>, frame: &mut TrapFrame) {
    Fake::load_stage2(guest.p2m.vttbr(&kernel.vmids, PcpuId(0)));
    frame.x[..2].copy_from_slice(&[3, GUEST_RAM]);
    frame.x[16] = u64::from(hypercall_abi::nr::SCHED_OP);
    crate::hypercall::dispatch(kernel, cpu, frame.x.first_chunk_mut().unwrap());
    assert_eq!(frame.x[0], 0);
}

#[test]
fn a_vcpu_that_polls_while_an_event_is_sent_does_not_sleep() {
    explore(ORDERS, || {
        let (mut rig, guest, vcpu) = poller();
        let (kernel, sender) = (rig.kernel, rig.busy.clone());
        let (cpu, mut frame) = rig.cpus.remove(0);
        let polls: Task = Box::new(move || poll(kernel, &guest, &cpu, &mut frame));
        let sends: Task = Box::new(move || evtchn::send(kernel, &sender, PORT).unwrap());
        ([polls, sends], Box::new(move || assert_eq!(vcpu.held(), 0, "it sleeps with its port pending")))
    });
}

#[test]
fn a_poll_that_the_sender_of_the_last_one_ends_late_is_not_slept_through() {
    explore(4 * ORDERS, || {
        let (mut rig, guest, vcpu) = poller();
        let (kernel, sender, later, woken) = (rig.kernel, rig.busy.clone(), rig.busy.clone(), vcpu.clone());
        let (cpu, mut frame) = rig.cpus.remove(0);
        let polls: Task = Box::new(move || {
            poll(kernel, &guest, &cpu, &mut frame);
            while vcpu.held() != 0 {
                point();
            }
            Fake::clear_bits64(guest.shared_info.pa().add(layout::EVTCHN_PENDING as u64), 1 << PORT.0);
            poll(kernel, &guest, &cpu, &mut frame);
        });
        let sends: Task = Box::new(move || evtchn::send(kernel, &sender, PORT).unwrap());
        let then = move || {
            evtchn::send(kernel, &later, PORT).unwrap();
            assert_eq!(woken.held(), 0, "it sleeps with its port pending");
        };
        ([polls, sends], Box::new(then))
    });
}

#[test]
fn a_timer_that_is_stopped_while_an_alarm_for_it_goes_off_stays_stopped() {
    const CTL: u32 = 1;
    const CVAL: u32 = 2;
    explore(ORDERS, || {
        let (mut rig, _guest, vcpu) = running();
        let (kernel, alarmed, asked, now) = (rig.kernel, vcpu.clone(), vcpu.clone(), Fake::now());
        let (cpu, _) = rig.cpus.remove(0);
        vtimer::access(kernel, &cpu, &vcpu, CVAL, Some(now + 10));
        vtimer::access(kernel, &cpu, &vcpu, CTL, Some(1));
        with(|s| s.now += 20);
        let stops: Task = Box::new(move || _ = vtimer::access(kernel, &cpu, &vcpu, CTL, Some(0)));
        let expires: Task = Box::new(move || vtimer::expire(kernel, &alarmed, now + 20));
        let then = move || {
            let control = vtimer::access(kernel, &LocalCpu::new(PcpuId(0)), &asked, CTL, None);
            assert_eq!(control, 0, "it runs on");
        };
        ([stops, expires], Box::new(then))
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

#[test]
fn whoever_reads_run_times_while_they_change_has_a_whole_record_or_knows_that_it_has_not() {
    explore(ORDERS, || {
        let (_rig, guest, vcpu) = running();
        // Four words are in the first page, two in the second, which is the same one.
        let [first, second] = [(); 2].map(|()| guest.p2m.pin(Ipa::new(GUEST_RAM)).unwrap());
        let offset = PAGE_SIZE - 32;
        let at = [0, 1, 2, 3, 4, 5]
            .map(|n| if n < 4 { first.pa().add(offset + 8 * n) } else { second.pa().add(8 * n - 32) });
        vcpu.run.lock().area = Some(RunstateArea { first, offset, second: Some(second) });
        guest.runstate_flag.store(true, core::sync::atomic::Ordering::Relaxed);
        vcpu.run.lock().publish(&guest.runstate_flag);
        let read = move || at.map(Fake::load64);
        // Times add up to what has passed since the vCPU was made, to the nanosecond: a tick is 16 of them.
        let made = |[_, changed, times @ ..]: [u64; 6]| changed - times.iter().sum::<u64>();
        let before = made(read());
        let changes: Task = Box::new(move || {
            for state in [Runstate::Runnable, Runstate::Running, Runstate::Blocked] {
                let now = with(|s| {
                    s.now += 5;
                    s.now
                });
                let mut run = vcpu.run.lock();
                run.enter(state, now);
                run.publish(&guest.runstate_flag);
            }
        });
        let reads: Task = Box::new(move || {
            for _ in 0..6 {
                let (first, record, last) = (Fake::load64(at[1]), read(), Fake::load64(at[1]));
                if first == last && first & RUNSTATE_UPDATE == 0 {
                    assert_eq!(made(record), before, "a torn record looks whole");
                }
            }
        });
        ([changes, reads], Box::new(move || assert_eq!(made(read()), before)))
    });
}

/// The pCPUs of pairs of domains, one each.
const PAIRS: [u8; 4] = [0, 1, 2, 3];

/// A pair: one sends to the other, whose vCPU sleeps on pCPU `n`.
fn pair(rig: &mut Rig, n: u8) -> (Dom, Dom) {
    let (sender, sleeper) = (domain(rig.kernel, 1), domain(rig.kernel, 1));
    let vcpu = sleeper.vcpus()[0].clone();
    rig.start(&sleeper, 0);
    rig.until_it_runs(&vcpu);
    enable_events(rig);
    assert!(rig.kernel.block(&vcpu));
    rig.exit(0);
    vcpu.affinity.store(1 << n, core::sync::atomic::Ordering::Relaxed);
    vcpu.run.lock().pcpu = PcpuId(n);
    for (from, to) in [(&sender, &sleeper), (&sleeper, &sender)] {
        assert_eq!(from.events.open(Binding::Interdomain(to.id, PORT), VcpuId(0)), Ok(PORT));
    }
    (sender, sleeper)
}

#[test]
fn events_and_wake_ups_of_disjoint_pairs_of_domains_meet_at_no_lock() {
    explore(ORDERS, || {
        let mut rig = Rig::new(4);
        let kernel = rig.kernel;
        let tasks = PAIRS.map(|n| {
            let (sender, sleeper) = pair(&mut rig, n);
            Box::new(move || {
                for _ in 0..4 {
                    evtchn::send(kernel, &sender, PORT).unwrap();
                    assert_eq!(sleeper.vcpus()[0].held(), 0, "an event wakes nobody");
                    Fake::clear_bits64(sleeper.shared_info.pa().add(layout::EVTCHN_PENDING as u64), 1 << PORT.0);
                }
            }) as Task
        });
        (tasks, Box::new(|| assert_eq!(contended(), 0, "a pair has waited for another one")))
    });
}
