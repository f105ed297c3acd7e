//! Taking one vCPU off a pCPU and putting the next one on, and sleeping when there is none.

use core::sync::atomic::Ordering;

use hypercall_abi::vcpu::Runstate;

use super::{Place, Policy, SLICE_NS, Scheduler};
use crate::context::TrapFrame;
use crate::exit;
use crate::hw::{Hw, MAX_PCPUS, PcpuId};
use crate::kernel::Kernel;
use crate::local::{Current, LocalCpu};
use crate::runstate::ticks;
use crate::vcpu::{BLOCKED, Vcpu};

/// Chooses anew what this pCPU runs. On return a vCPU is on, and `frame` holds its registers.
#[inline(never)]
pub fn reschedule<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame) {
    let pcpu = kernel.sched.pcpu(cpu.id);
    pcpu.again.store(false, Ordering::SeqCst);
    let now = H::now();
    if let Some(current) = &cpu.current {
        let mut queue = pcpu.queue.lock();
        queue.charge(&current.vcpu, now);
        let may_stay = current.vcpu.held() == 0 && Scheduler::allows(&current.vcpu, cpu.id);
        if may_stay && !queue.preempts(now) && !(cpu.slice_over(now) && queue.rotates(now)) {
            let contested = queue.waiting() > 0;
            drop(queue);
            cpu.renew_slice(contested.then(|| now + ticks::<H>(SLICE_NS)));
            kernel.timers.program(cpu);
            return;
        }
    }
    if let Some(current) = cpu.current.take() {
        take_off(kernel, cpu, frame, current);
    }
    put_on_next(kernel, cpu, frame);
}

/// The first choice of a pCPU that has just come up.
pub fn enter_first<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame) {
    put_on_next(kernel, cpu, frame);
}

/// Saves the vCPU that ran here, then lets it go: back into the queue, or to sleep with its timer armed.
fn take_off<H: Hw>(kernel: &Kernel<H>, cpu: &mut LocalCpu<H>, frame: &TrapFrame, current: Current<H>) {
    let vcpu = current.vcpu;
    let wake_at = {
        let mut context = vcpu.context.lock();
        cpu.save(&vcpu, frame, &mut context);
        vcpu.deadline(&context.el1, &current.domain)
    };
    let now = H::now();
    // From here on another pCPU may take the vCPU: everything of it is saved.
    let mut place = vcpu.place.lock();
    let held = vcpu.held();
    let state = match held {
        0 => Runstate::Runnable,
        BLOCKED => Runstate::Blocked,
        _ => Runstate::Offline,
    };
    {
        let mut accounting = vcpu.accounting.lock();
        accounting.enter(state, now);
        accounting.publish::<H>(now);
    }
    if held == 0 {
        kernel.sched.enqueue(&vcpu, &mut place);
    } else {
        *place = Place::Nowhere;
        // Whether it is paused as well does not matter: its time to wake up may come before or after the pause ends.
        if held & BLOCKED != 0
            && let Some(at) = wake_at
        {
            kernel.timers.arm(cpu.id, &vcpu, at);
        }
    }
}

/// Takes vCPUs from the queues until one may run; sleeps while there is none.
fn put_on_next<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame) {
    loop {
        match next(kernel, cpu.id) {
            Some(vcpu) => {
                if put_on(kernel, cpu, frame, vcpu) {
                    return;
                }
            }
            None => idle(kernel, cpu),
        }
    }
}

fn next<H: Hw>(kernel: &Kernel<H>, id: PcpuId) -> Option<H::Shared<Vcpu<H>>> {
    if let Some(vcpu) = kernel.sched.pcpu(id).queue.lock().pop() {
        return Some(vcpu);
    }
    let others = (1..MAX_PCPUS).map(|step| (usize::from(id.0) + step) % MAX_PCPUS);
    others.filter_map(|other| kernel.sched.pcpus.get(other)).find_map(|other| other.queue.lock().steal(id))
}

/// Puts a vCPU on this pCPU; false if it is held after all, or its domain is gone.
fn put_on<H: Hw>(kernel: &Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame, vcpu: H::Shared<Vcpu<H>>) -> bool {
    let domain = kernel.domains.get(vcpu.domid);
    {
        let mut place = vcpu.place.lock();
        if vcpu.held() != 0 || domain.is_none() {
            *place = Place::Nowhere;
            return false;
        }
        if !Scheduler::allows(&vcpu, cpu.id) {
            // Its affinity has changed while it waited.
            kernel.sched.enqueue(&vcpu, &mut place);
            return false;
        }
        *place = Place::Running(cpu.id);
    }
    let Some(domain) = domain else { return false };
    kernel.timers.cancel(&vcpu);
    let now = H::now();
    vcpu.last_pcpu.store(cpu.id.0, Ordering::Relaxed);
    {
        let mut accounting = vcpu.accounting.lock();
        accounting.enter(Runstate::Running, now);
        accounting.publish::<H>(now);
    }
    cpu.load(kernel, &vcpu, &domain, frame);
    let contested = {
        let mut queue = kernel.sched.pcpu(cpu.id).queue.lock();
        queue.set_running(Some(&vcpu), now);
        queue.waiting() > 0
    };
    cpu.renew_slice(contested.then(|| now + ticks::<H>(SLICE_NS)));
    cpu.current = Some(Current { vcpu, domain });
    kernel.timers.program(cpu);
    true
}

/// Sleeps until an interrupt comes, and handles it. The bit in the idle mask goes up before the last look at the
/// queue, so that whoever queues a vCPU either is seen or kicks.
fn idle<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>) {
    let pcpu = kernel.sched.pcpu(cpu.id);
    let bit = 1u32 << cpu.id.0;
    kernel.sched.idle.fetch_or(bit, Ordering::SeqCst);
    pcpu.queue.lock().set_running(None, 0);
    if pcpu.queue.lock().waiting() == 0 {
        let before = H::now();
        cpu.renew_slice(None);
        kernel.timers.program(cpu);
        H::wait_for_interrupt();
        pcpu.idle.fetch_add(H::now().saturating_sub(before), Ordering::Relaxed);
        exit::interrupts(kernel, cpu);
    }
    kernel.sched.idle.fetch_and(!bit, Ordering::SeqCst);
    pcpu.again.store(false, Ordering::SeqCst);
}
