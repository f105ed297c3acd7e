//! Taking one vCPU off a pCPU and putting the next one on, and sleeping when there is none.

use core::mem::forget;

use hypercall_abi::vcpu::Runstate;

use super::queue::Next;
use super::{Alarm, Policy};
use crate::context::TrapFrame;
use crate::exit::{self, Source, VTIMER_PPI};
use crate::hw::{Hw, NEVER, PcpuId, Ticks};
use crate::kernel::Kernel;
use crate::local::{Current, LocalCpu};
use crate::runstate::{CAPPED, Run, asleep};
use crate::sync::Ordering;
use crate::vcpu::Vcpu;
use crate::vgic::VcpuGic;
use crate::vtimer;

/// Chooses anew what this pCPU runs. On return a vCPU is on, with its interrupts, and the timer is set; or it is to be called
/// again.
#[inline(always)]
pub fn reschedule<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame) -> Source {
    kernel.sched.again(cpu.id).store(false, Ordering::SeqCst);
    let now = H::now();
    if let Some(Current { vcpu, domain }) = &cpu.current
        && vcpu.held() == 0
        && allows(vcpu, cpu.id)
    {
        // The cap may have come or gone since the turn began.
        match (domain.budget.cap(), cpu.limit) {
            (0, _) => cpu.limit = NEVER,
            (_, NEVER) => cpu.limit = now,
            _ => {}
        }
        let queues = kernel.sched.queues(cpu.id);
        let end = queues.ready.turn_end(now).unwrap_or(NEVER);
        if now < cpu.limit && now < end {
            let until = end.min(queues.alarms.earliest().unwrap_or(NEVER));
            drop(queues);
            set_deadline::<H>(until, cpu, vcpu);
            exit::flush(kernel, cpu);
            return Source::Frame;
        }
    }
    let next = match cpu.current.take() {
        Some(current) => kernel.take_off(cpu, frame, current, now),
        None => kernel.next(cpu.id, now),
    };
    match next {
        Some(next) => kernel.put_on(cpu, frame, next, now),
        None => kernel.idle(cpu, now),
    }
}

/// Sets the timer for the vCPU that runs here, whose turn may last `until` then.
#[inline(always)]
fn set_deadline<H: Hw>(until: Ticks, cpu: &LocalCpu<H>, vcpu: &Vcpu<H>) {
    let at = until.min(vcpu.ptimer.deadline()).min(cpu.limit);
    H::set_deadline((at != NEVER).then_some(at));
}

/// What somebody's short sleep takes of the others, in ticks: 3.3 us of a counter of 62.5 MHz. `cargo xtask bench sched` shows
/// what they lose beside guests that sleep and wake up as fast as they can.
const SWITCH: Ticks = 208;

fn allows<H: Hw>(vcpu: &Vcpu<H>, id: PcpuId) -> bool {
    vcpu.affinity.load(Ordering::Relaxed) & (1 << id.0) != 0
}

impl<H: Hw> Kernel<H> {
    /// Takes the next vCPU for this pCPU, which had nothing to do.
    #[inline(never)]
    fn next(&self, id: PcpuId, now: Ticks) -> Option<Next<H>> {
        let queue = self.sched.queue(id);
        queue.begin(&mut queue.lock(), now)
    }

    /// Saves the vCPU that ran here, then lets it go: back into a run queue, or to sleep with an alarm for its timers,
    /// which no hardware watches from now on. Returns the next one if that is at hand.
    #[inline(always)]
    fn take_off(&self, cpu: &mut LocalCpu<H>, frame: &TrapFrame, current: Current<H>, now: Ticks) -> Option<Next<H>> {
        let timer_in_flight = VcpuGic::unload(self, &current);
        let Current { vcpu, domain } = current;
        domain.budget.settle(cpu.limit, now);
        let mut run = vcpu.run.lock();
        cpu.save(frame, &mut run.context);
        if timer_in_flight {
            H::set_active(VTIMER_PPI, false);
        }
        let queue = self.sched.queue(cpu.id);
        let mut queues = queue.lock();
        let held = vcpu.held();
        let then = if held != 0 {
            // Whoever goes to sleep pays for the way to the next one, or many short sleeps would be at the cost of the others.
            let then = now + SWITCH;
            queues.ready.stop(&vcpu, then);
            run.alarm = vcpu.deadline(&run.context.el1);
            self.sched.enter(&vcpu, &mut run, asleep(held), now);
            if run.alarm != NEVER {
                queues.alarms.set(run.alarm, Alarm::Vcpu(vcpu.clone()));
            }
            then
        } else {
            queues.ready.stop(&vcpu, now);
            let mut id = self.sched.choose(&vcpu, cpu.id);
            if id == cpu.id && queues.ready.waiting() > 1 {
                id = self.sched.spread(&vcpu, &mut run, &queues.ready);
            }
            if id == cpu.id {
                self.sched.enter(&vcpu, &mut run, Runstate::Runnable, now);
                queues.ready.push(vcpu.clone(), now);
            } else {
                drop(queues);
                self.sched.place(&vcpu, &mut run, id, now);
                queues = queue.lock();
            }
            now
        };
        let next = queue.begin(&mut queues, then);
        drop(queues);
        run.publish(&domain.runstate_flag);
        // It was taken out when this vCPU was put on, so that there is nothing to look at and to drop.
        forget(run.home.replace(domain));
        next
    }

    /// Puts a vCPU on this pCPU, unless it may not run there after all, its domain has used up its cap, or is gone.
    #[inline(always)]
    fn put_on(&self, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame, (vcpu, until): Next<H>, now: Ticks) -> Source {
        let mut run = vcpu.run.lock();
        if vcpu.held() != 0 || !allows(&vcpu, cpu.id) {
            self.turn_away(&vcpu, &mut run, now);
            return Source::Nobody;
        }
        let Some(domain) = run.home.take().or_else(|| self.domains.get(vcpu.domid)) else { return Source::Nobody };
        vcpu.moves(&mut run, cpu.id);
        cpu.limit = match domain.budget.lend::<H>(now) {
            Ok(limit) => limit,
            Err(again) => {
                run.home = Some(domain);
                self.put_off(&vcpu, &mut run, again, now);
                return Source::Nobody;
            }
        };
        self.sched.enter(&vcpu, &mut run, Runstate::Running, now);
        run.publish(&domain.runstate_flag);
        cpu.load(self, &run.context, &domain, frame);
        let due = vtimer::is_due(&run.context.el1, now);
        drop(run);
        vcpu.gic.load::<H>(due);
        set_deadline::<H>(until, cpu, &vcpu);
        // As above.
        forget(cpu.current.replace(Current { vcpu, domain }));
        exit::flush(self, cpu);
        Source::Context
    }

    /// A vCPU has been held while it waited, or its affinity has changed.
    #[cold]
    #[inline(never)]
    fn turn_away(&self, vcpu: &H::Shared<Vcpu<H>>, run: &mut Run<H>, now: Ticks) {
        match vcpu.held() {
            0 => self.sched.enqueue(vcpu, run, now),
            held => self.sched.enter(vcpu, run, asleep(held), now),
        }
    }

    /// Holds a vCPU until its domain may run `again`.
    #[cold]
    #[inline(never)]
    fn put_off(&self, vcpu: &H::Shared<Vcpu<H>>, run: &mut Run<H>, again: Ticks, now: Ticks) {
        vcpu.add_reasons(CAPPED);
        run.alarm = again;
        self.sched.enter(vcpu, run, Runstate::Offline, now);
        self.sched.queues(run.pcpu).alarms.set(again, Alarm::Vcpu(vcpu.clone()));
    }

    /// Sleeps until an interrupt comes, and handles it, if nobody waits here or elsewhere. The bit in the idle mask goes
    /// up before the look at the queue, so that whoever queues a vCPU either is seen or kicks.
    #[inline(never)]
    fn idle(&'static self, cpu: &mut LocalCpu<H>, now: Ticks) -> Source {
        let bit = 1u32 << cpu.id.0;
        self.sched.idle.fetch_or(bit, Ordering::SeqCst);
        if let Some(vcpu) = self.sched.queues.iter().find_map(|queue| queue.steal(cpu.id)) {
            self.sched.queues(cpu.id).ready.push(vcpu, now);
        }
        let queues = self.sched.queues(cpu.id);
        if queues.ready.waiting() == 0 {
            let alarm = queues.alarms.earliest();
            drop(queues);
            H::set_deadline(alarm);
            // Domains to come find their memory zeroed.
            while !H::is_interrupted() && H::frames().scrub::<H>() {}
            H::wait_for_interrupt();
            exit::interrupts(self, cpu);
        }
        self.sched.idle.fetch_and(!bit, Ordering::SeqCst);
        Source::Nobody
    }
}
