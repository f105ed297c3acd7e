//! The policy: weighted fair queueing with bounded lag. The vCPU that has run least by its weight is next.
//!
//! A virtual runtime grows with the time that a vCPU runs, by 1/weight, to the tick of the counter. Turns are of one
//! length in virtual time. So this is Earliest Eligible Virtual Deadline First (Stoica and Abdel-Wahab, Old Dominion
//! University TR-95-22, 1995) with requests of one virtual length, where deadlines have the order of eligible times and
//! one key is enough; it is Start-time Fair Queueing as well (Goyal, Guo and Vin, OSDI 1996). Who never sleeps is never
//! further from its share than a turn. Who sleeps may come back behind the others by a bounded time, so that a wake-up
//! takes over and sleeping saves up no more: one that runs less than its share waits for the end of one turn at most.

use core::cmp::Ordering;
use core::sync::atomic::Ordering::Relaxed;

use heapless::binary_heap::{BinaryHeap, Min};
use hypercall_abi::control::DEFAULT_WEIGHT;

use super::Policy;
use crate::hw::{Hw, NEVER, PcpuId, Ticks};
use crate::kernel::MAX_VCPUS_TOTAL;
use crate::vcpu::Vcpu;

/// In which time everybody who waits has a turn, unless that would be too short a one, and for which a cap has its budget, as
/// in Xen's credit2: 10 ms. So any 100 ms hold one budget at most beyond their share.
pub(super) fn period<H: Hw>() -> Ticks {
    u64::from(H::frequency()) / 100
}

/// The shortest turn, as a part of the period, and how far behind the running vCPU, in virtual time, a waiting one must be to preempt
/// it: about 0.3 ms.
const SHORTEST: u64 = 32;
/// The most that a vCPU that comes may be behind the others, as a part of the period and in virtual time: 5 ms.
const LAG: u64 = 2;

/// From here on a virtual runtime is not of this pCPU, and what it lacks to the greatest one is how far it was ahead elsewhere.
const ELSEWHERE: u64 = 1 << 63;

/// Virtual time: ticks of a vCPU of the default weight. One more, so that nothing is free.
fn to_virtual(ticks: Ticks, weight: u64) -> u64 {
    ticks.wrapping_mul(u64::from(DEFAULT_WEIGHT)) / weight + 1
}

struct Waiting<H: Hw> {
    /// Its virtual runtime.
    key: u64,
    weight: u64,
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
        #[cfg(test)]
        super::tests::scale::compared();
        self.key.cmp(&other.key)
    }
}

/// The turn of the vCPU that runs. It has no end while nobody waits.
#[derive(Clone, Copy)]
struct Turn {
    /// Its virtual runtime at `since`.
    key: u64,
    since: Ticks,
    weight: u64,
    /// When its turn is over.
    end: Ticks,
}

impl Turn {
    fn key_at(&self, now: Ticks) -> u64 {
        self.key.saturating_add(to_virtual(now.saturating_sub(self.since), self.weight))
    }
}

/// The run queue of one pCPU.
pub struct FairQueue<H: Hw> {
    heap: BinaryHeap<Waiting<H>, Min, MAX_VCPUS_TOTAL>,
    /// Virtual time of the queue: never behind a vCPU that has run here.
    floor: u64,
    /// The weights of those who wait, together.
    weights: u64,
    running: Option<Turn>,
}

impl<H: Hw> FairQueue<H> {
    /// An empty queue.
    pub(crate) const fn new() -> Self {
        FairQueue { heap: BinaryHeap::new(), floor: 0, weights: 0, running: None }
    }

    fn head(&self) -> Option<u64> {
        self.heap.peek().map(|waiting| waiting.key)
    }

    /// How long a turn is beside those who wait.
    fn turn(&self, period: Ticks, weight: u64) -> Ticks {
        (period * weight / (self.weights + weight)).max(period / SHORTEST)
    }

    /// Virtual time goes on to that of the vCPU, running with `running` or waiting, that has run least.
    fn advance(&mut self, running: u64) {
        self.floor = self.floor.max(running.min(self.head().unwrap_or(u64::MAX)));
    }
}

impl<H: Hw> Policy<H> for FairQueue<H> {
    fn push(&mut self, vcpu: H::Shared<Vcpu<H>>, now: Ticks) {
        let (period, weight) = (period::<H>(), u64::from(vcpu.weight.load(Relaxed)));
        self.weights += weight;
        if let Some(mut turn) = self.running {
            self.advance(turn.key_at(now));
            // The more wait, the shorter is each turn.
            turn.end = turn.end.min(turn.since + self.turn(period, turn.weight));
            self.running = Some(turn);
        }
        let key = match vcpu.vruntime.load(Relaxed) {
            // It comes from another pCPU, where it was that much ahead.
            own @ ELSEWHERE.. => self.floor.saturating_add(u64::MAX - own),
            // Those who have slept long and wake up together run in the order in which they come.
            own => own.max(self.floor.saturating_sub(period / LAG) + self.heap.len() as u64),
        };
        vcpu.vruntime.store(key, Relaxed);
        // The heap has room for every vCPU that can exist, and each stands in one queue at most.
        let _ = self.heap.push(Waiting { key, weight, vcpu });
    }

    // So that the heap's own part has one caller and is part of it, with the result in a register.
    #[inline(never)]
    fn pop(&mut self) -> Option<H::Shared<Vcpu<H>>> {
        let Some(Waiting { vcpu, weight, .. }) = self.heap.pop() else {
            // The turn of one that did not come to run, if there is such a turn.
            self.running = None;
            return None;
        };
        self.weights -= weight;
        Some(vcpu)
    }

    fn steal(&mut self, thief: PcpuId) -> Option<H::Shared<Vcpu<H>>> {
        let may = self.heap.peek()?.vcpu.affinity.load(Relaxed) & (1 << thief.0) != 0;
        if may { self.pop().inspect(|vcpu| self.leave(vcpu)) } else { None }
    }

    fn start(&mut self, vcpu: &Vcpu<H>, now: Ticks) -> Ticks {
        let (weight, key) = (u64::from(vcpu.weight.load(Relaxed)), vcpu.vruntime.load(Relaxed));
        self.advance(key);
        let end = if self.heap.is_empty() { NEVER } else { now + self.turn(period::<H>(), weight) };
        self.running = Some(Turn { key, since: now, weight, end });
        end
    }

    #[inline(always)]
    fn stop(&mut self, vcpu: &Vcpu<H>, now: Ticks) {
        if let Some(turn) = self.running.take() {
            let key = turn.key_at(now);
            // If somebody waits, the turn that begins next is the one of who has run least, and does this.
            if self.heap.is_empty() {
                self.advance(key);
            }
            vcpu.vruntime.store(key, Relaxed);
        }
    }

    /// It also gives up what it has run less than the one that waits, or it would be next again.
    fn give_way(&mut self, now: Ticks) -> bool {
        let Some(head) = self.head() else { return false };
        if let Some(turn) = &mut self.running {
            *turn = Turn { key: turn.key_at(now).max(head), since: now, end: now, ..*turn };
        }
        true
    }

    fn turn_end(&self, now: Ticks) -> Option<Ticks> {
        let head = self.head()?;
        let Some(turn) = self.running else { return Some(now) };
        if head.saturating_add(period::<H>() / SHORTEST) < turn.key_at(now) {
            return Some(now);
        }
        // After its turn it goes on until it has run as much as who waits. Who comes then need not tell: it looks each period.
        let left = head.saturating_sub(turn.key).saturating_mul(turn.weight) / u64::from(DEFAULT_WEIGHT);
        Some(turn.since.saturating_add(left).max(turn.end).min(now + period::<H>()))
    }

    fn waiting(&self) -> usize {
        self.heap.len()
    }

    fn load(&self) -> u64 {
        self.weights << 32 | self.running.map_or(0, |turn| turn.weight)
    }

    fn leave(&self, vcpu: &Vcpu<H>) {
        vcpu.vruntime.store(u64::MAX - vcpu.vruntime.load(Relaxed).saturating_sub(self.floor), Relaxed);
    }
}
