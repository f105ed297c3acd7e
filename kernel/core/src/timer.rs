//! Deadlines: for each pCPU a queue of vCPUs that want to be woken, and the one hardware timer behind it.
//!
//! A vCPU stands in one queue at most, once. The queue is a binary heap that knows where each vCPU stands, so
//! that arming and cancelling cost O(log n) and nothing stale is left behind.

use core::sync::atomic::{AtomicU8, Ordering};

use hypercall_abi::ids::VcpuId;
use spin::mutex::SpinMutex;

use crate::hw::{Hw, MAX_PCPUS, PcpuId, Ticks};
use crate::kernel::{Kernel, MAX_VCPUS_TOTAL};
use crate::local::LocalCpu;
use crate::vcpu::Vcpu;
use crate::{lifecycle, vtimer};

/// Positions and pCPUs are kept plus one, so that the empty tables are all zeros and cost nothing in the image.
const NOWHERE: u16 = 0;
const NO_PCPU: u8 = 0;
/// Expired deadlines that one interrupt handles; the rest fire the timer again at once.
const BATCH: usize = 16;

struct Entry<H: Hw> {
    at: Ticks,
    vcpu: H::Shared<Vcpu<H>>,
}

/// The deadlines of one pCPU, as a heap with the earliest first.
struct Queue<H: Hw> {
    heap: heapless::Vec<Entry<H>, MAX_VCPUS_TOTAL>,
    /// Where the vCPU of each slot stands in the heap, plus one.
    position: [u16; MAX_VCPUS_TOTAL],
}

/// The deadlines of all pCPUs.
pub struct Timers<H: Hw> {
    /// Guards a pCPU's deadlines. Innermost lock.
    queues: [SpinMutex<Queue<H>>; MAX_PCPUS],
    /// The pCPU in whose queue the vCPU of each slot stands, plus one.
    home: [AtomicU8; MAX_VCPUS_TOTAL],
}

impl<H: Hw> Queue<H> {
    const fn new() -> Self {
        Queue { heap: heapless::Vec::new(), position: [NOWHERE; MAX_VCPUS_TOTAL] }
    }

    fn earliest(&self) -> Option<Ticks> {
        self.heap.first().map(|entry| entry.at)
    }

    fn note(&mut self, at: usize) {
        if let Some(slot) = self.heap.get(at).map(|entry| usize::from(entry.vcpu.slot))
            && let Some(position) = self.position.get_mut(slot)
        {
            *position = u16::try_from(at + 1).unwrap_or(NOWHERE);
        }
    }

    fn earlier(&self, a: usize, b: usize) -> bool {
        matches!((self.heap.get(a), self.heap.get(b)), (Some(a), Some(b)) if a.at < b.at)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.earlier(at, (at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let child = if self.earlier(right, left) { right } else { left };
            if !self.earlier(child, at) {
                return;
            }
            self.swap(at, child);
            at = child;
        }
    }

    fn insert(&mut self, at: Ticks, vcpu: H::Shared<Vcpu<H>>) {
        // There is room: a vCPU stands here once, and no more of them can exist.
        if self.heap.push(Entry { at, vcpu }).is_ok() {
            let last = self.heap.len() - 1;
            self.note(last);
            self.rise(last);
        }
    }

    fn remove(&mut self, slot: usize) -> Option<H::Shared<Vcpu<H>>> {
        let at = usize::from(core::mem::replace(self.position.get_mut(slot)?, NOWHERE)).checked_sub(1)?;
        if at >= self.heap.len() {
            return None;
        }
        let entry = self.heap.swap_remove(at);
        if at < self.heap.len() {
            self.note(at);
            self.rise(at);
            self.sink(at);
        }
        Some(entry.vcpu)
    }

    fn expire(&mut self, now: Ticks) -> Option<H::Shared<Vcpu<H>>> {
        let first = self.heap.first().filter(|entry| entry.at <= now)?;
        let slot = usize::from(first.vcpu.slot);
        self.remove(slot)
    }
}

impl<H: Hw> Timers<H> {
    /// No deadlines.
    pub const fn new() -> Self {
        Timers {
            queues: [const { SpinMutex::new(Queue::new()) }; MAX_PCPUS],
            home: [const { AtomicU8::new(NO_PCPU) }; MAX_VCPUS_TOTAL],
        }
    }

    fn queue(&self, pcpu: PcpuId) -> &SpinMutex<Queue<H>> {
        &self.queues[usize::from(pcpu.0) % MAX_PCPUS]
    }

    /// Wakes `vcpu` at `at`, through the timer of this pCPU `here`. Replaces a deadline set before.
    pub fn arm(&self, here: PcpuId, vcpu: &H::Shared<Vcpu<H>>, at: Ticks) {
        self.cancel(vcpu);
        let Some(home) = self.home.get(usize::from(vcpu.slot)) else { return };
        let mut queue = self.queue(here).lock();
        queue.insert(at, vcpu.clone());
        home.store(here.0 + 1, Ordering::Release);
    }

    /// Forgets the deadline of `vcpu`.
    pub fn cancel(&self, vcpu: &Vcpu<H>) {
        let slot = usize::from(vcpu.slot);
        let Some(home) = self.home.get(slot) else { return };
        let at = home.load(Ordering::Acquire);
        if at != NO_PCPU {
            let removed = self.queue(PcpuId(at - 1)).lock().remove(slot);
            home.store(NO_PCPU, Ordering::Release);
            drop(removed);
        }
    }

    /// Sets this pCPU's timer to the earliest thing that it waits for.
    pub fn program(&self, cpu: &LocalCpu<H>) {
        let queued = self.queue(cpu.id).lock().earliest();
        let own = cpu.current.as_ref().and_then(|current| current.vcpu.own_deadline(&current.domain));
        H::set_deadline([queued, cpu.slice_end(), own].into_iter().flatten().min());
    }
}

impl<H: Hw> Default for Timers<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Hw> Kernel<H> {
    /// This pCPU's timer has fired: wakes the vCPUs that are due, and ends the slice if it is over.
    pub fn timer_fired(&'static self, cpu: &mut LocalCpu<H>) {
        let now = H::now();
        for _ in 0..BATCH {
            let due = self.timers.queue(cpu.id).lock().expire(now);
            let Some(vcpu) = due else { break };
            self.vcpu_due(&vcpu, now);
        }
        if let Some(current) = &cpu.current {
            let vcpu = current.vcpu.clone();
            if vcpu.own_deadline(&current.domain).is_some_and(|at| at <= now) {
                self.own_timers_due(&vcpu, now);
            }
        }
        if cpu.slice_over(now) {
            self.sched.poke(cpu.id);
        }
        self.timers.program(cpu);
    }

    fn vcpu_due(&self, vcpu: &H::Shared<Vcpu<H>>, now: Ticks) {
        let poll = vcpu.poll_until.load(Ordering::Relaxed);
        if poll != 0 && poll <= now {
            vcpu.end_poll();
        }
        self.own_timers_due(vcpu, now);
        self.notify(vcpu);
    }

    fn own_timers_due(&self, vcpu: &H::Shared<Vcpu<H>>, now: Ticks) {
        vtimer::expire(self, vcpu, now);
        if vcpu.id == VcpuId(0) {
            lifecycle::check_watchdogs(self, vcpu, now);
        }
    }
}

#[cfg(test)]
mod tests;
