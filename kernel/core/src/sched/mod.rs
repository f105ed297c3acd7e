//! The scheduler: which vCPU runs where, and how a vCPU comes to wait and to run again.
//!
//! A vCPU is runnable when nothing holds it (`Vcpu::held` is zero). Its [`Place`] says whether it stands in a
//! run queue or on a pCPU; the place's lock orders wake-ups against the pCPU that takes the vCPU off. Which vCPU
//! is next is the policy's business, behind [`Policy`].

mod fair;
mod switch;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use spin::mutex::SpinMutex;

use crate::hw::{Hw, MAX_PCPUS, PcpuId, Ticks};
use crate::kernel::Kernel;
use crate::vcpu::{BLOCKED, Vcpu};

pub use fair::FairQueue;
pub use switch::{enter_first, reschedule};

/// Where the scheduler has a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In no queue: it is held, or about to be queued.
    Nowhere,
    /// In the run queue of this pCPU.
    Queued(PcpuId),
    /// On this pCPU.
    Running(PcpuId),
}

/// A scheduling policy: the order within one pCPU's run queue.
pub trait Policy<H: Hw> {
    /// Adds a runnable vCPU; `comes` when it does so from sleep or elsewhere, and not from the pCPU itself.
    fn push(&mut self, vcpu: H::Shared<Vcpu<H>>, comes: bool, now: Ticks);
    /// Takes the vCPU that should run next.
    fn pop(&mut self) -> Option<H::Shared<Vcpu<H>>>;
    /// Takes a vCPU that may run on `thief`.
    fn steal(&mut self, thief: PcpuId) -> Option<H::Shared<Vcpu<H>>>;
    /// Notes that `vcpu` runs from now on; `None` when the pCPU idles.
    fn set_running(&mut self, vcpu: Option<&Vcpu<H>>, now: Ticks);
    /// Charges the vCPU that runs for its time up to `now`.
    fn charge(&mut self, vcpu: &Vcpu<H>, now: Ticks);
    /// Whether a waiting vCPU should take over at once from the running one.
    fn preempts(&self, now: Ticks) -> bool;
    /// Whether a waiting vCPU should take over at the end of a slice.
    fn rotates(&self, now: Ticks) -> bool;
    /// vCPUs that wait.
    fn waiting(&self) -> usize;
}

/// What the scheduler keeps for each pCPU.
struct Pcpu<H: Hw> {
    /// Guards the order of waiting vCPUs. The innermost lock but for the timer queue.
    queue: SpinMutex<FairQueue<H>>,
    /// Set by anyone who wants the pCPU to choose again before it returns to its guest.
    again: AtomicBool,
    /// Ticks spent idle.
    idle: AtomicU64,
}

impl<H: Hw> Pcpu<H> {
    const fn new() -> Self {
        Pcpu { queue: SpinMutex::new(FairQueue::new()), again: AtomicBool::new(false), idle: AtomicU64::new(0) }
    }
}

/// Run queues of all pCPUs.
pub struct Scheduler<H: Hw> {
    pcpus: [Pcpu<H>; MAX_PCPUS],
    /// A bit for each pCPU that sleeps.
    idle: AtomicU32,
}

/// How long a vCPU runs before another waiting one takes over, in nanoseconds.
const SLICE_NS: u64 = 5_000_000;

impl<H: Hw> Scheduler<H> {
    /// Empty queues.
    pub const fn new() -> Self {
        Scheduler { pcpus: [const { Pcpu::new() }; MAX_PCPUS], idle: AtomicU32::new(0) }
    }

    fn pcpu(&self, id: PcpuId) -> &Pcpu<H> {
        &self.pcpus[usize::from(id.0) % MAX_PCPUS]
    }

    /// Whether this pCPU must choose again before it returns to a guest.
    pub fn must_choose(&self, id: PcpuId) -> bool {
        self.pcpu(id).again.load(Ordering::Acquire)
    }

    /// Makes a pCPU choose again soon.
    pub fn poke(&self, id: PcpuId) {
        self.pcpu(id).again.store(true, Ordering::Release);
        if id != H::pcpu() {
            H::kick(id);
        }
    }

    /// Ticks that a pCPU has been idle, and how many vCPUs it has.
    pub fn load(&self, id: PcpuId) -> (Ticks, usize) {
        let pcpu = self.pcpu(id);
        let busy = usize::from(self.idle.load(Ordering::Relaxed) & (1 << id.0) == 0);
        (pcpu.idle.load(Ordering::Relaxed), pcpu.queue.lock().waiting() + busy)
    }

    /// Queues a vCPU that nothing holds any more; does nothing if it is queued, running or still held.
    pub fn make_runnable(&self, vcpu: &H::Shared<Vcpu<H>>) {
        let mut place = vcpu.place.lock();
        if *place == Place::Nowhere && vcpu.held() == 0 {
            self.enqueue(vcpu, &mut place);
        }
    }

    /// Queues a vCPU that wakes up, that makes room for another one on its pCPU, or that may not run where it waits.
    fn enqueue(&self, vcpu: &H::Shared<Vcpu<H>>, place: &mut Place) {
        let (id, now) = (self.choose(vcpu), H::now());
        let comes = core::mem::replace(place, Place::Queued(id)) != Place::Running(id);
        vcpu.accounting.lock().enter(hypercall_abi::vcpu::Runstate::Runnable, now);
        let urgent = {
            let mut queue = self.pcpu(id).queue.lock();
            queue.push(vcpu.clone(), comes, now);
            comes && (queue.preempts(now) || queue.waiting() == 1)
        };
        if urgent {
            self.poke(id);
        }
    }

    /// Whether the affinity of `vcpu` lets it run on `id`; one that names no pCPU of the machine counts for nothing.
    fn allows(vcpu: &Vcpu<H>, id: PcpuId) -> bool {
        Self::allowed(vcpu) & (1 << id.0) != 0
    }

    fn allowed(vcpu: &Vcpu<H>) -> u64 {
        let online = (1u64 << H::online()) - 1;
        let wanted = vcpu.affinity.load(Ordering::Relaxed) & online;
        if wanted == 0 { online } else { wanted }
    }

    /// The pCPU for a vCPU that wakes up: its last one if that sleeps, else any that sleeps, else its last one.
    fn choose(&self, vcpu: &Vcpu<H>) -> PcpuId {
        let last = vcpu.last_pcpu.load(Ordering::Relaxed);
        let allowed = Self::allowed(vcpu);
        let idle = u64::from(self.idle.load(Ordering::SeqCst)) & allowed;
        let pick = |mask: u64| -> u8 {
            if mask & (1 << last) != 0 { last } else { u8::try_from(mask.trailing_zeros()).unwrap_or(0) }
        };
        if idle == 0 {
            return PcpuId(pick(allowed));
        }
        let chosen = pick(idle);
        // Spoken for: the next vCPU that wakes up goes to another one that sleeps.
        self.idle.fetch_and(!(1 << chosen), Ordering::SeqCst);
        PcpuId(chosen)
    }
}

impl<H: Hw> Default for Scheduler<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Hw> Kernel<H> {
    /// Something became pending for `vcpu`: it wakes up if it slept, and its pCPU looks if it runs elsewhere.
    pub fn notify(&self, vcpu: &H::Shared<Vcpu<H>>) {
        // First the reason to sleep goes, then the place is read: a vCPU that is about to block either finds the
        // new interrupt when it looks, or finds that it is not blocked any more when it is taken off.
        vcpu.release(BLOCKED);
        let mut place = vcpu.place.lock();
        match *place {
            Place::Nowhere if vcpu.held() == 0 => self.sched.enqueue(vcpu, &mut place),
            Place::Running(pcpu) if pcpu != H::pcpu() => H::kick(pcpu),
            Place::Nowhere | Place::Queued(_) | Place::Running(_) => {}
        }
    }

    /// Holds a vCPU for `reasons`; its pCPU takes it off before the guest's next instruction but for the way an
    /// interrupt takes.
    pub fn hold(&self, vcpu: &Vcpu<H>, reasons: u32) {
        vcpu.hold(reasons);
        if let Some(pcpu) = vcpu.running_on() {
            self.sched.poke(pcpu);
        }
    }

    /// Takes reasons back and lets the vCPU run if none is left.
    pub fn release(&self, vcpu: &H::Shared<Vcpu<H>>, reasons: u32) {
        if vcpu.release(reasons) & reasons != 0 {
            self.sched.make_runnable(vcpu);
        }
    }

    /// Blocks the vCPU that runs here until something is pending for it; false if something is already.
    pub fn block(&self, vcpu: &Vcpu<H>) -> bool {
        vcpu.hold(BLOCKED);
        let blocked = !vcpu.gic.deliverable::<H>();
        if blocked {
            self.sched.pcpu(H::pcpu()).again.store(true, Ordering::Release);
        } else {
            vcpu.release(BLOCKED);
        }
        blocked
    }
}
