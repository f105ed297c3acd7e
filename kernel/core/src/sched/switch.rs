//! Taking one vCPU off a pCPU and putting the next one on, and sleeping when there is none.

use core::sync::atomic::Ordering;

use hypercall_abi::vcpu::Runstate;

use super::{Policy, Scheduler};
use crate::context::TrapFrame;
use crate::exit;
use crate::hw::{Hw, PcpuId, Ticks};
use crate::kernel::Kernel;
use crate::local::{Current, LocalCpu};
use crate::timer::Alarm;
use crate::vcpu::Vcpu;

/// Chooses anew what this pCPU runs. On return a vCPU is on, `frame` holds its registers, and the timer is set.
#[inline(never)]
pub fn reschedule<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame) {
    let pcpu = kernel.sched.pcpu(cpu.id);
    kernel.sched.again(cpu.id).store(false, Ordering::SeqCst);
    let mut now = H::now();
    if let Some(current) = &cpu.current {
        let turn_end = pcpu.queue.lock().turn_end(now);
        if turn_end.is_none_or(|end| end > now) && current.vcpu.held() == 0 && allows(&current.vcpu, cpu.id) {
            kernel.timers.program(cpu.id, turn_end);
            return;
        }
    }
    if let Some(current) = cpu.current.take() {
        take_off(kernel, cpu, frame, &current, now);
    }
    loop {
        match kernel.sched.next(cpu.id) {
            Some(vcpu) => {
                if put_on(kernel, cpu, frame, vcpu, now) {
                    return;
                }
            }
            None => now = idle(kernel, cpu),
        }
    }
}

fn allows<H: Hw>(vcpu: &Vcpu<H>, id: PcpuId) -> bool {
    vcpu.affinity.load(Ordering::Relaxed) & (1 << id.0) != 0
}

impl<H: Hw> Scheduler<H> {
    /// Takes the next vCPU for this pCPU from its own queue, or from another one's.
    fn next(&self, id: PcpuId) -> Option<H::Shared<Vcpu<H>>> {
        let own = self.pcpu(id).queue.lock().pop();
        own.or_else(|| {
            let (before, from) = self.pcpus.split_at_checked(usize::from(id.0))?;
            from.iter().chain(before).find_map(|other| other.queue.lock().steal(id))
        })
    }
}

/// Saves the vCPU that ran here, then lets it go: back into a queue, or to sleep. Its alarm is set, since no hardware
/// watches its timers from now on.
fn take_off<H: Hw>(kernel: &Kernel<H>, cpu: &mut LocalCpu<H>, frame: &TrapFrame, current: &Current<H>, now: Ticks) {
    let vcpu = &current.vcpu;
    let wake_at = {
        let mut context = vcpu.context.lock();
        cpu.save(frame, &mut context);
        vcpu.deadline(&context.el1)
    };
    vcpu.gic.unload::<H>(&current.domain.dist);
    kernel.sched.pcpu(cpu.id).queue.lock().stop(vcpu, now);
    // Behind this lock another pCPU may take the vCPU: everything of it is saved.
    let mut run = vcpu.run.lock();
    if run.held == 0 {
        kernel.sched.enqueue(vcpu, &mut run, now);
    } else {
        run.enter_sleep(now);
        if let Some(at) = wake_at {
            kernel.timers.set(cpu.id, Alarm::Vcpu(vcpu.clone()), at);
        }
    }
    run.publish::<H>(current.domain.runstate_flag.load(Ordering::Relaxed));
}

/// Puts a vCPU on this pCPU; false if it is held after all, or its domain is gone.
fn put_on<H: Hw>(
    kernel: &Kernel<H>,
    cpu: &mut LocalCpu<H>,
    frame: &mut TrapFrame,
    vcpu: H::Shared<Vcpu<H>>,
    now: Ticks,
) -> bool {
    let Some(domain) = kernel.domains.get(vcpu.domid) else { return false };
    {
        let mut run = vcpu.run.lock();
        if run.held != 0 {
            run.enter_sleep(now);
            return false;
        }
        if !allows(&vcpu, cpu.id) {
            // Its affinity has changed while it waited.
            kernel.sched.enqueue(&vcpu, &mut run, now);
            return false;
        }
        run.pcpu = cpu.id;
        run.enter(Runstate::Running, now);
        run.publish::<H>(domain.runstate_flag.load(Ordering::Relaxed));
    }
    kernel.timers.watch(cpu.id, &vcpu);
    cpu.load(kernel, &vcpu, &domain, frame);
    let turn_end = {
        let mut queue = kernel.sched.pcpu(cpu.id).queue.lock();
        queue.start(&vcpu, now);
        queue.turn_end(now)
    };
    kernel.timers.program(cpu.id, turn_end);
    cpu.current = Some(Current { vcpu, domain });
    true
}

/// Sleeps until an interrupt comes, and handles it; returns the time. The bit in the idle mask goes up before the last
/// look at the queue, so that whoever queues a vCPU either is seen or kicks.
fn idle<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>) -> Ticks {
    let pcpu = kernel.sched.pcpu(cpu.id);
    let (bit, before) = (1u32 << cpu.id.0, H::now());
    kernel.sched.idle.fetch_or(bit, Ordering::SeqCst);
    if pcpu.queue.lock().waiting() == 0 {
        kernel.timers.program(cpu.id, None);
        H::wait_for_interrupt();
        exit::interrupts(kernel, cpu);
    }
    kernel.sched.idle.fetch_and(!bit, Ordering::SeqCst);
    kernel.sched.again(cpu.id).store(false, Ordering::SeqCst);
    let now = H::now();
    pcpu.idle.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
    now
}
