//! The default policy: the vCPU that has run least so far is next (a virtual-time queue with bounded lag).
//!
//! Each vCPU carries a virtual runtime. One that wakes up may lag behind the others by at most [`Lag`], so that
//! sleeping saves up no more than that, and one that comes from another pCPU may lead by no more.

use core::sync::atomic::Ordering;

use heapless::binary_heap::{BinaryHeap, Min};

use super::Policy;
use crate::hw::{Hw, PcpuId, Ticks};
use crate::kernel::MAX_VCPUS_TOTAL;
use crate::runstate::ticks;
use crate::vcpu::Vcpu;

/// The most that a vCPU's virtual runtime may differ from its queue's when it enters, in nanoseconds.
const LAG_NS: u64 = 4_000_000;
/// How far ahead of the running vCPU a waiting one must be to preempt it, in nanoseconds.
const GRANULARITY_NS: u64 = 500_000;

struct Waiting<H: Hw> {
    key: u64,
    vcpu: H::Shared<Vcpu<H>>,
}

impl<H: Hw> PartialEq for Waiting<H> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<H: Hw> Eq for Waiting<H> {}
impl<H: Hw> PartialOrd for Waiting<H> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<H: Hw> Ord for Waiting<H> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// The run queue of one pCPU.
pub struct FairQueue<H: Hw> {
    heap: BinaryHeap<Waiting<H>, Min, MAX_VCPUS_TOTAL>,
    /// Virtual time of the queue: never behind a vCPU that has run here.
    floor: u64,
    /// The virtual runtime of the vCPU that runs, and when it was that.
    running: Option<(u64, Ticks)>,
}

impl<H: Hw> FairQueue<H> {
    /// An empty queue.
    pub const fn new() -> Self {
        FairQueue { heap: BinaryHeap::new(), floor: 0, running: None }
    }

    fn head(&self) -> Option<u64> {
        self.heap.peek().map(|waiting| waiting.key)
    }

    /// The virtual runtime now of the vCPU that runs: it may have run alone for long since it was charged last.
    fn running(&self, now: Ticks) -> Option<u64> {
        self.running.map(|(at, since)| at.saturating_add(now.saturating_sub(since)))
    }

    /// Brings the virtual runtime of a vCPU that comes from sleep or from another pCPU within the lag of this queue's.
    fn adopt(&self, vcpu: &Vcpu<H>) -> u64 {
        let lag = ticks::<H>(LAG_NS);
        let own = vcpu.vruntime.load(Ordering::Relaxed);
        let key = own.clamp(self.floor.saturating_sub(lag), self.floor.saturating_add(lag));
        vcpu.vruntime.store(key, Ordering::Relaxed);
        key
    }

    fn advance(&mut self, now: Ticks) {
        let least = match (self.running(now), self.head()) {
            (Some(a), Some(b)) => a.min(b),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return,
        };
        self.floor = self.floor.max(least);
    }
}

impl<H: Hw> Default for FairQueue<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Hw> Policy<H> for FairQueue<H> {
    fn push(&mut self, vcpu: H::Shared<Vcpu<H>>, comes: bool, now: Ticks) {
        self.advance(now);
        let key = if comes { self.adopt(&vcpu) } else { vcpu.vruntime.load(Ordering::Relaxed) };
        // The heap has room for every vCPU that can exist, and each stands in one queue at most.
        let _ = self.heap.push(Waiting { key, vcpu });
    }

    fn pop(&mut self) -> Option<H::Shared<Vcpu<H>>> {
        // Who ran here, if anybody did, has just been charged.
        self.advance(0);
        self.heap.pop().map(|waiting| waiting.vcpu)
    }

    fn steal(&mut self, thief: PcpuId) -> Option<H::Shared<Vcpu<H>>> {
        let allowed = self.heap.peek()?.vcpu.affinity.load(Ordering::Relaxed) & (1 << thief.0) != 0;
        if allowed { self.heap.pop().map(|waiting| waiting.vcpu) } else { None }
    }

    fn set_running(&mut self, vcpu: Option<&Vcpu<H>>, now: Ticks) {
        self.running = vcpu.map(|vcpu| (self.adopt(vcpu), now));
        self.advance(now);
    }

    fn charge(&mut self, vcpu: &Vcpu<H>, now: Ticks) {
        if let Some(total) = self.running(now) {
            vcpu.vruntime.store(total, Ordering::Relaxed);
            self.running = Some((total, now));
        }
        self.advance(now);
    }

    fn preempts(&self, now: Ticks) -> bool {
        match (self.head(), self.running(now)) {
            (Some(waiting), Some(running)) => waiting + ticks::<H>(GRANULARITY_NS) < running,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    fn rotates(&self, now: Ticks) -> bool {
        matches!((self.head(), self.running(now)), (Some(waiting), Some(running)) if waiting <= running)
    }

    fn waiting(&self) -> usize {
        self.heap.len()
    }
}
