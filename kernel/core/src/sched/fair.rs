//! The default policy: the vCPU that has run least so far is next (a virtual-time queue with bounded lag).
//!
//! Each vCPU carries a virtual runtime. One that wakes up may lag behind the others by a bounded time, so that
//! sleeping saves up no more than that, and one that comes from another pCPU may lead by no more.

use core::cmp::Ordering;
use core::sync::atomic::Ordering::Relaxed;

use heapless::binary_heap::{BinaryHeap, Min};

use super::Policy;
use crate::hw::{Hw, PcpuId, Ticks};
use crate::kernel::MAX_VCPUS_TOTAL;
use crate::runstate::earliest;
use crate::vcpu::Vcpu;

/// How long a turn is while others wait, and the most that a vCPU's virtual runtime may differ from its queue's when it
/// enters: 5 ms.
fn slice<H: Hw>() -> Ticks {
    u64::from(H::frequency()) / 200
}

/// How far ahead of the running vCPU a waiting one must be to preempt it: 0.5 ms.
fn granularity<H: Hw>() -> Ticks {
    u64::from(H::frequency()) / 2000
}

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
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<H: Hw> Ord for Waiting<H> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

/// The turn of the vCPU that runs.
#[derive(Clone, Copy)]
struct Turn {
    /// Its virtual runtime at `since`.
    key: u64,
    since: Ticks,
    /// When it has had its slice.
    slice_end: Ticks,
}

impl Turn {
    fn key_at(&self, now: Ticks) -> u64 {
        self.key.saturating_add(now.saturating_sub(self.since))
    }
}

/// The run queue of one pCPU.
pub struct FairQueue<H: Hw> {
    heap: BinaryHeap<Waiting<H>, Min, MAX_VCPUS_TOTAL>,
    /// Virtual time of the queue: never behind a vCPU that has run here.
    floor: u64,
    running: Option<Turn>,
}

impl<H: Hw> FairQueue<H> {
    /// An empty queue.
    pub(crate) const fn new() -> Self {
        FairQueue { heap: BinaryHeap::new(), floor: 0, running: None }
    }

    fn head(&self) -> Option<u64> {
        self.heap.peek().map(|waiting| waiting.key)
    }

    /// Brings the virtual runtime of a vCPU that comes from sleep or from another pCPU within the lag of this queue's.
    fn adopt(&self, vcpu: &Vcpu<H>) -> u64 {
        let (lag, own) = (slice::<H>(), vcpu.vruntime.load(Relaxed));
        let key = own.clamp(self.floor.saturating_sub(lag), self.floor.saturating_add(lag));
        vcpu.vruntime.store(key, Relaxed);
        key
    }

    /// Virtual time goes on to that of the vCPU, running or waiting, that has run least.
    fn advance(&mut self, now: Ticks) {
        let running = self.running.map(|turn| turn.key_at(now));
        if let Some(least) = earliest([running, self.head()]) {
            self.floor = self.floor.max(least);
        }
    }
}

impl<H: Hw> Policy<H> for FairQueue<H> {
    fn push(&mut self, vcpu: H::Shared<Vcpu<H>>, now: Ticks) {
        self.advance(now);
        // The heap has room for every vCPU that can exist, and each stands in one queue at most.
        let _ = self.heap.push(Waiting { key: self.adopt(&vcpu), vcpu });
    }

    fn pop(&mut self) -> Option<H::Shared<Vcpu<H>>> {
        self.heap.pop().map(|waiting| waiting.vcpu)
    }

    fn steal(&mut self, thief: PcpuId) -> Option<H::Shared<Vcpu<H>>> {
        let may = self.heap.peek()?.vcpu.affinity.load(Relaxed) & (1 << thief.0) != 0;
        if may { self.pop() } else { None }
    }

    fn start(&mut self, vcpu: &Vcpu<H>, now: Ticks) {
        let slice_end = now.saturating_add(slice::<H>());
        self.running = Some(Turn { key: self.adopt(vcpu), since: now, slice_end });
        self.advance(now);
    }

    fn stop(&mut self, vcpu: &Vcpu<H>, now: Ticks) {
        self.advance(now);
        if let Some(turn) = self.running.take() {
            vcpu.vruntime.store(turn.key_at(now), Relaxed);
        }
    }

    /// It also gives up what it has run less than the one that waits, or it would be next again.
    fn give_way(&mut self, now: Ticks) -> bool {
        let Some(head) = self.head() else { return false };
        if let Some(turn) = &mut self.running {
            *turn = Turn { key: turn.key_at(now).max(head), since: now, slice_end: now };
        }
        true
    }

    fn turn_end(&self, now: Ticks) -> Option<Ticks> {
        let head = self.head()?;
        let Some(turn) = self.running else { return Some(now) };
        if head.saturating_add(granularity::<H>()) < turn.key_at(now) {
            return Some(now);
        }
        // After its slice it goes on until it has run as much as the one that waits.
        let even = turn.since.saturating_add(head.saturating_sub(turn.key));
        Some(turn.slice_end.max(even))
    }

    fn waiting(&self) -> usize {
        self.heap.len()
    }
}
