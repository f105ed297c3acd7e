//! Taking one vCPU off a pCPU and putting the next one on, and sleeping when there is none.

use hypercall_abi::vcpu::Runstate;

use super::{Alarm, Next, Policy};
use crate::context::TrapFrame;
use crate::exit::{self, Source, VTIMER_PPI};
use crate::hw::{Hw, PcpuId, Ticks};
use crate::kernel::Kernel;
use crate::local::{Current, LocalCpu};
use crate::runstate::{CAPPED, earliest};
use crate::sync::Ordering;
use crate::vcpu::Vcpu;
use crate::vgic::VcpuGic;
use crate::vtimer;

/// Chooses anew what this pCPU runs. On return a vCPU is on, and the timer is set.
#[inline(never)]
pub fn reschedule<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame) -> Source {
    kernel.sched.again(cpu.id).store(false, Ordering::SeqCst);
    let now = H::now();
    if let Some(Current { vcpu, domain }) = &cpu.current
        && vcpu.held() == 0
        && allows(vcpu, cpu.id)
    {
        // The cap may have come or gone since the turn began.
        match (domain.budget.cap(), cpu.limit) {
            (0, _) => cpu.limit = Ticks::MAX,
            (_, Ticks::MAX) => cpu.limit = now,
            _ => {}
        }
        let queues = kernel.sched.queues(cpu.id);
        let end = queues.ready.turn_end(now);
        if now < cpu.limit && end.is_none_or(|end| end > now) {
            H::set_deadline(earliest([end, queues.alarms.earliest(), vcpu.ptimer.deadline(), Some(cpu.limit)]));
            return Source::Frame;
        }
    }
    let next = cpu.current.take().and_then(|current| kernel.take_off(cpu, frame, &current, now));
    match next.map(|next| kernel.put_on(cpu, frame, next, now)) {
        Some(true) => {}
        Some(false) | None => kernel.search(cpu, frame, now),
    }
    Source::Context
}

/// About what a switch takes, in ticks: 4 us of a counter of 62.5 MHz.
const SWITCH: Ticks = 256;

fn allows<H: Hw>(vcpu: &Vcpu<H>, id: PcpuId) -> bool {
    vcpu.affinity.load(Ordering::Relaxed) & (1 << id.0) != 0
}

impl<H: Hw> Kernel<H> {
    /// Sleeps until there is a vCPU that this pCPU can take, and puts it on.
    #[inline(never)]
    fn search(&'static self, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame, mut now: Ticks) {
        loop {
            match self.next(cpu.id, now).map(|next| self.put_on(cpu, frame, next, now)) {
                Some(true) => return,
                Some(false) => {}
                None => now = self.idle(cpu),
            }
        }
    }

    /// Takes the next vCPU for this pCPU from its own queue, or from another one's.
    fn next(&self, id: PcpuId, now: Ticks) -> Option<Next<H>> {
        let own = self.sched.queues(id).begin(now);
        own.or_else(|| {
            let vcpu = self.sched.queues.iter().find_map(|queues| queues.lock().ready.steal(id))?;
            let mut queues = self.sched.queues(id);
            queues.ready.push(vcpu, now);
            queues.begin(now)
        })
    }

    /// Saves the vCPU that ran here, then lets it go: back into a run queue, or to sleep with an alarm for its timers,
    /// which no hardware watches from now on. Returns the next one if that is at hand.
    fn take_off(&self, cpu: &mut LocalCpu<H>, frame: &TrapFrame, current: &Current<H>, now: Ticks) -> Option<Next<H>> {
        let vcpu = &current.vcpu;
        let timer_in_flight = VcpuGic::unload(self, current);
        current.domain.budget.settle(cpu.limit, now);
        let mut run = vcpu.run.lock();
        cpu.save(frame, &mut run.context);
        if timer_in_flight {
            H::set_active(VTIMER_PPI, false);
        }
        let mut queues = self.sched.queues(cpu.id);
        let then = if run.held != 0 {
            // Whoever goes to sleep pays for the way to the next one, or many short sleeps would be at the cost of the others.
            let then = now + SWITCH;
            queues.ready.stop(vcpu, then);
            run.alarm = vcpu.deadline(&run.context.el1);
            let asleep = run.asleep();
            self.sched.enter(vcpu, &mut run, asleep, now);
            if let Some(at) = run.alarm {
                queues.alarms.set(at, Alarm::Vcpu(vcpu.clone()));
            }
            then
        } else {
            queues.ready.stop(vcpu, now);
            let id = self.sched.choose(vcpu, cpu.id);
            if id == cpu.id {
                self.sched.enter(vcpu, &mut run, Runstate::Runnable, now);
                queues.ready.push(vcpu.clone(), now);
            } else {
                drop(queues);
                self.sched.place(vcpu, &mut run, id, now);
                queues = self.sched.queues(cpu.id);
            }
            now
        };
        let next = queues.begin(then);
        drop(queues);
        run.publish::<H>(&current.domain.runstate_flag);
        next
    }

    /// Puts a vCPU on this pCPU; false if it is held after all, its domain has used up its cap, or is gone.
    #[inline(always)]
    fn put_on(&self, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame, (vcpu, until): Next<H>, now: Ticks) -> bool {
        let Some(domain) = self.domains.get(vcpu.domid) else { return false };
        let mut run = vcpu.run.lock();
        if run.held != 0 {
            let asleep = run.asleep();
            self.sched.enter(&vcpu, &mut run, asleep, now);
            return false;
        }
        if !allows(&vcpu, cpu.id) {
            // Its affinity has changed while it waited.
            self.sched.enqueue(&vcpu, &mut run, now);
            return false;
        }
        cpu.limit = match domain.budget.lend::<H>(now) {
            Ok(limit) => limit,
            Err(again) => {
                run.held |= CAPPED;
                run.alarm = Some(again);
                self.sched.enter(&vcpu, &mut run, Runstate::Offline, now);
                vcpu.moves(&mut run, cpu.id);
                self.sched.queues(cpu.id).alarms.set(again, Alarm::Vcpu(vcpu.clone()));
                return false;
            }
        };
        vcpu.moves(&mut run, cpu.id);
        self.sched.enter(&vcpu, &mut run, Runstate::Running, now);
        run.publish::<H>(&domain.runstate_flag);
        cpu.load(self, &run.context, &domain, frame);
        let due = vtimer::is_due(&run.context.el1, now);
        drop(run);
        vcpu.gic.load::<H>(due);
        H::set_deadline(earliest([Some(until), vcpu.ptimer.deadline(), Some(cpu.limit)]));
        cpu.current = Some(Current { vcpu, domain });
        true
    }

    /// Sleeps until an interrupt comes, and handles it, if nobody waits; returns the time. The bit in the idle mask goes
    /// up before the look at the queue, so that whoever queues a vCPU either is seen or kicks.
    fn idle(&'static self, cpu: &mut LocalCpu<H>) -> Ticks {
        let bit = 1u32 << cpu.id.0;
        self.sched.idle.fetch_or(bit, Ordering::SeqCst);
        let queues = self.sched.queues(cpu.id);
        if queues.ready.waiting() == 0 {
            H::set_deadline(queues.alarms.earliest());
            drop(queues);
            // Domains to come find their memory zeroed.
            while !H::is_interrupted() && H::frames().scrub::<H>() {}
            H::wait_for_interrupt();
            exit::interrupts(self, cpu);
        }
        self.sched.idle.fetch_and(!bit, Ordering::SeqCst);
        self.sched.again(cpu.id).store(false, Ordering::SeqCst);
        H::now()
    }
}
