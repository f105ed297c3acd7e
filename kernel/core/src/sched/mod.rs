//! The scheduler: which vCPU runs where, and how a vCPU comes to wait and to run again.
//!
//! How a vCPU stands is in its `run`, under one lock, which is taken before that of a pCPU's queues. It may run when
//! nothing holds it; it then stands in one run queue, or runs. Which vCPU of a queue is next is the policy's business.

mod alarm;
mod cap;
mod fair;
mod queue;
mod switch;
#[cfg(test)]
mod tests;

use hypercall_abi::vcpu::Runstate;

use crate::domain::Domain;
use crate::hw::{Hw, MAX_PCPUS, NEVER, PcpuId, Ticks};
use crate::kernel::Kernel;
use crate::runstate::{BLOCKED, Run};
use crate::sync::{AtomicBool, AtomicU32, Ordering, SpinMutexGuard};
use crate::trace;
use crate::vcpu::Vcpu;

pub use alarm::{Alarm, Alarms};
pub use cap::Budget;
use fair::FairQueue;
pub use queue::Queues;
use queue::RunQueue;
pub use switch::reschedule;

/// A scheduling policy: the order within one pCPU's run queue, and how long each turn is.
pub trait Policy<H: Hw> {
    /// Adds a runnable vCPU.
    fn push(&mut self, vcpu: H::Shared<Vcpu<H>>, now: Ticks);
    /// Takes the vCPU that should run next. If there is none, none runs here.
    fn pop(&mut self) -> Option<H::Shared<Vcpu<H>>>;
    /// Takes a vCPU that may run on `thief`.
    fn steal(&mut self, thief: PcpuId) -> Option<H::Shared<Vcpu<H>>>;
    /// `vcpu` runs from now on; until when, if others wait, or [`NEVER`].
    fn start(&mut self, vcpu: &Vcpu<H>, now: Ticks) -> Ticks;
    /// `vcpu`, which has run, does so no more: it is charged for its turn.
    fn stop(&mut self, vcpu: &Vcpu<H>, now: Ticks);
    /// Who runs wants its turn to end; false if nobody waits for that.
    fn give_way(&mut self, now: Ticks) -> bool;
    /// When a waiting vCPU is to take over from the running one: at once if not after `now`, and `None` if none waits.
    fn turn_end(&self, now: Ticks) -> Option<Ticks>;
    /// vCPUs that wait.
    fn waiting(&self) -> usize;
    /// The weights of those who wait, together, in the upper half, and of who runs in the lower.
    fn load(&self) -> u64;
    /// `vcpu`, which has run here, goes to another pCPU, and takes along how far it is ahead of the others.
    fn leave(&self, vcpu: &Vcpu<H>);
}

/// Set by anyone who wants the pCPU to choose again before it returns to its guest, behind the change that it is about, and
/// cleared before the locks are taken under which that is looked at. On a cache line of its own, since every exit looks.
#[repr(align(64))]
struct Again(AtomicBool);

/// The queues of all pCPUs.
#[repr(C)]
pub struct Scheduler<H: Hw> {
    /// First, since every exit looks.
    again: [Again; MAX_PCPUS],
    /// How many pCPUs write a trace.
    pub(crate) traced: AtomicU32,
    queues: [RunQueue<H>; MAX_PCPUS],
    /// A bit for each pCPU that sleeps.
    idle: AtomicU32,
}

impl<H: Hw> Scheduler<H> {
    pub(crate) const fn new() -> Self {
        Scheduler {
            again: [const { Again(AtomicBool::new(false)) }; MAX_PCPUS],
            traced: AtomicU32::new(0),
            queues: [const { RunQueue::new() }; MAX_PCPUS],
            idle: AtomicU32::new(0),
        }
    }

    fn again(&self, id: PcpuId) -> &AtomicBool {
        &self.again[usize::from(id.0) % MAX_PCPUS].0
    }

    fn queue(&self, id: PcpuId) -> &RunQueue<H> {
        &self.queues[usize::from(id.0) % MAX_PCPUS]
    }

    /// Locks what waits on a pCPU.
    pub fn queues(&self, id: PcpuId) -> SpinMutexGuard<'_, Queues<H>> {
        self.queue(id).lock()
    }

    /// Whether this pCPU must choose again before it returns to a guest.
    pub fn must_choose(&self, id: PcpuId) -> bool {
        self.again(id).load(Ordering::Acquire)
    }

    /// Makes a pCPU choose again, and set its timer anew, soon. Sequential behind the change that it is about, which that pCPU
    /// sees in part without a lock (`Vcpu::held`).
    pub fn poke(&self, id: PcpuId) {
        self.again(id).store(true, Ordering::SeqCst);
        if id != H::pcpu() {
            H::kick(id);
        }
    }

    /// The vCPU that runs here lets another one run, if any waits.
    pub fn give_way(&self) {
        if self.queues(H::pcpu()).ready.give_way(H::now()) {
            self.again(H::pcpu()).store(true, Ordering::Release);
        }
    }

    /// Queues a vCPU that nothing holds and that stands in no run queue.
    pub fn enqueue(&self, vcpu: &H::Shared<Vcpu<H>>, run: &mut Run<H>, now: Ticks) {
        self.cancel_alarm(vcpu, run);
        let id = self.choose(vcpu, run.pcpu);
        self.place(vcpu, run, id, now);
    }

    /// From `now` on a vCPU is in `state`.
    #[inline(always)]
    fn enter(&self, vcpu: &Vcpu<H>, run: &mut Run<H>, state: Runstate, now: Ticks) {
        if self.is_traced() {
            trace::state(vcpu, run, state, now);
        }
        run.enter(state, now);
    }

    /// Whether any pCPU writes a trace. Relaxed: a record more or less at the start or the end is none that anybody misses.
    #[inline(always)]
    pub fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed) != 0
    }

    /// Queues a vCPU on this pCPU, which looks if that is urgent.
    fn place(&self, vcpu: &H::Shared<Vcpu<H>>, run: &mut Run<H>, id: PcpuId, now: Ticks) {
        vcpu.moves(run, id);
        self.enter(vcpu, run, Runstate::Runnable, now);
        if self.queue(id).push(vcpu.clone(), now) {
            self.poke(id);
        }
    }

    /// Takes back the alarm that a vCPU has set as it went to sleep.
    pub fn cancel_alarm(&self, vcpu: &Vcpu<H>, run: &mut Run<H>) {
        let at = core::mem::replace(&mut run.alarm, NEVER);
        if at != NEVER {
            let is_it = |alarm: &Alarm<H>| matches!(alarm, Alarm::Vcpu(other) if core::ptr::eq(&**other, vcpu));
            self.queues(run.pcpu).alarms.cancel(at, is_it);
        }
    }

    /// The pCPU for a vCPU: its last one if that sleeps, else any that sleeps, else its last one; and of each kind one
    /// that it prefers, if there is one.
    fn choose(&self, vcpu: &Vcpu<H>, last: PcpuId) -> PcpuId {
        let (hard, soft) = (vcpu.affinity.load(Ordering::Relaxed), vcpu.soft_affinity.load(Ordering::Relaxed));
        let idle = u64::from(self.idle.load(Ordering::SeqCst)) & hard;
        let among = preferred(if idle != 0 { idle } else { hard }, soft);
        let last = if among & (1 << last.0) != 0 { u32::from(last.0) } else { among.trailing_zeros() };
        if idle != 0 {
            // Spoken for: the next vCPU that wakes up goes to another one that sleeps.
            self.idle.fetch_and(!(1 << last), Ordering::SeqCst);
        }
        PcpuId(u8::try_from(last).unwrap_or(0))
    }

    /// The pCPU for a vCPU whose turn here is over, where two others wait or more: one that has less to do, if there is one.
    fn spread(&self, vcpu: &Vcpu<H>, run: &mut Run<H>, here: &FairQueue<H>) -> PcpuId {
        let among = preferred(vcpu.affinity.load(Ordering::Relaxed), vcpu.soft_affinity.load(Ordering::Relaxed));
        let others = (0..).zip(&self.queues).take(H::online()).filter(|(id, _)| among & 1 << id != 0);
        // This pCPU has that vCPU as well by what it says, and so is never one of those.
        let loads = others.map(|(id, queue)| (queue.waiting() + queue.running(), PcpuId(id)));
        if let Some((load, id)) = loads.min()
            && load < here.load() >> 32
        {
            here.leave(vcpu);
            run.pcpu = id;
        }
        run.pcpu
    }
}

/// Those of `among` that are in `soft`, or all if none is.
fn preferred(among: u64, soft: u64) -> u64 {
    if among & soft != 0 { among & soft } else { among }
}

impl<H: Hw> Kernel<H> {
    /// Something became pending for `vcpu`: it wakes up if it slept, and its pCPU looks if it runs elsewhere.
    pub fn notify(&self, vcpu: &H::Shared<Vcpu<H>>) {
        self.release(vcpu, BLOCKED);
    }

    /// Takes back reasons not to run; the vCPU runs if none is left.
    #[inline(never)]
    pub fn release(&self, vcpu: &H::Shared<Vcpu<H>>, reasons: u32) {
        let mut run = vcpu.run.lock();
        let held = vcpu.take_back(reasons);
        match run.state {
            Runstate::Running if run.pcpu != H::pcpu() => H::kick(run.pcpu),
            Runstate::Blocked | Runstate::Offline if held == 0 => self.sched.enqueue(vcpu, &mut run, H::now()),
            Runstate::Running | Runstate::Runnable | Runstate::Blocked | Runstate::Offline => {}
        }
    }

    /// Holds a vCPU for `reasons`; true if it runs now: its pCPU takes it off before the guest's next instruction but
    /// for the way an interrupt takes.
    pub fn hold(&self, vcpu: &Vcpu<H>, reasons: u32) -> bool {
        let run = vcpu.run.lock();
        vcpu.add_reasons(reasons);
        run.running_on().inspect(|pcpu| self.sched.poke(*pcpu)).is_some()
    }

    /// Blocks the vCPU that runs here until something is pending for it; false if something is already.
    #[inline(never)]
    pub fn block(&self, vcpu: &H::Shared<Vcpu<H>>) -> bool {
        self.sched.again(H::pcpu()).store(true, Ordering::Release);
        self.fall_asleep(vcpu)
    }

    /// The same, for a caller after whom the pCPU chooses anew in any case if it is true.
    ///
    /// The vCPU is held first and then looks, while a sender makes an interrupt pending first and then takes the hold back:
    /// so one of the two sees the other.
    #[inline(always)]
    pub fn fall_asleep(&self, vcpu: &H::Shared<Vcpu<H>>) -> bool {
        // Without the lock of `run`: as long as it runs here, nobody else decides by this.
        vcpu.add_reasons(BLOCKED);
        let blocked = !vcpu.gic.deliverable::<H>();
        if !blocked {
            self.release(vcpu, BLOCKED);
        }
        blocked
    }

    /// Lets a vCPU use the pCPUs of `hard` only, a bit each, and those of `soft` rather than others; one of each at least
    /// exists.
    pub fn pin(&self, vcpu: &Vcpu<H>, hard: u64, soft: u64) {
        vcpu.affinity.store(hard, Ordering::Relaxed);
        vcpu.soft_affinity.store(soft, Ordering::Relaxed);
        // If it runs where it may not, it must leave. If it waits, the pCPU that takes it from its queue looks.
        self.hold(vcpu, 0);
    }

    /// Gives a domain its weight and its cap, in per cent of a pCPU.
    pub fn set_share(&self, domain: &Domain<H>, weight: u32, cap: u32) {
        domain.budget.set_cap(cap);
        for vcpu in domain.vcpus() {
            vcpu.weight.store(weight, Ordering::Relaxed);
            // One that runs begins a turn under the new cap.
            self.hold(vcpu, 0);
        }
    }
}
