//! Who waits on a pCPU, and what others see of that without its lock.

use super::{Alarms, FairQueue, Policy};
use crate::hw::{Hw, NEVER, PcpuId, Ticks};
use crate::sync::{AtomicU64, Ordering, SpinMutex, SpinMutexGuard};
use crate::vcpu::Vcpu;

/// The vCPU that a pCPU takes next, and when its turn is over or an alarm goes off.
pub(super) type Next<H> = (<H as Hw>::Shared<Vcpu<H>>, Ticks);

/// What waits on a pCPU.
pub struct Queues<H: Hw> {
    pub(super) ready: FairQueue<H>,
    /// Who wants to be told at which time.
    pub alarms: Alarms<H>,
}

/// The same behind its lock.
pub(super) struct RunQueue<H: Hw> {
    /// Nothing is taken under it.
    queues: SpinMutex<Queues<H>>,
    /// [`Policy::load`], written under the lock. Relaxed: by an old value a vCPU waits where others have less to do, or goes where
    /// they have more by now, until a turn ends.
    load: AtomicU64,
}

impl<H: Hw> RunQueue<H> {
    pub(super) const fn new() -> Self {
        let queues = Queues { ready: FairQueue::new(), alarms: Alarms::new() };
        RunQueue { queues: SpinMutex::new(queues), load: AtomicU64::new(0) }
    }

    #[inline(always)]
    pub(super) fn lock(&self) -> SpinMutexGuard<'_, Queues<H>> {
        self.queues.lock()
    }

    /// The weights of those who wait.
    pub(super) fn waiting(&self) -> u64 {
        self.load.load(Ordering::Relaxed) >> 32
    }

    /// The weight of who runs.
    pub(super) fn running(&self) -> u64 {
        self.load.load(Ordering::Relaxed) & 0xFFFF_FFFF
    }

    /// Adds a runnable vCPU; true if the pCPU should look at once.
    pub(super) fn push(&self, vcpu: H::Shared<Vcpu<H>>, now: Ticks) -> bool {
        let ready = &mut self.lock().ready;
        ready.push(vcpu, now);
        self.load.store(ready.load(), Ordering::Relaxed);
        // Whoever waits alone ends the others' time without a limit.
        ready.waiting() == 1 || ready.turn_end(now).is_some_and(|end| end <= now)
    }

    /// Takes the vCPU that should run next; its turn begins.
    #[inline(always)]
    pub(super) fn begin(&self, queues: &mut Queues<H>, now: Ticks) -> Option<Next<H>> {
        let next = queues.ready.pop().map(|vcpu| {
            let end = queues.ready.start(&vcpu, now);
            (vcpu, end.min(queues.alarms.earliest().unwrap_or(NEVER)))
        });
        self.load.store(queues.ready.load(), Ordering::Relaxed);
        next
    }

    /// Takes a vCPU for `thief` that waits behind another one. Who has nothing to give is not held up by those who look for work.
    pub(super) fn steal(&self, thief: PcpuId) -> Option<H::Shared<Vcpu<H>>> {
        if self.waiting() == 0 || self.running() == 0 {
            return None;
        }
        let ready = &mut self.lock().ready;
        let stolen = ready.steal(thief);
        self.load.store(ready.load(), Ordering::Relaxed);
        stolen
    }
}
