//! Alarms: for each pCPU a queue of deadlines, and the one hardware timer behind it.
//!
//! An alarm stands in one queue at most, once. The queue is a binary heap whose alarms know where they stand, so that
//! setting and cancelling one costs O(log n) and leaves nothing behind.

use core::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use spin::mutex::SpinMutex;

use crate::domain::{Domain, MAX_DOMAINS};
use crate::hw::{Hw, MAX_PCPUS, PcpuId, Ticks};
use crate::kernel::{Kernel, MAX_VCPUS_TOTAL};
use crate::vcpu::Vcpu;
use crate::{sched_op, vtimer};

/// Alarms that one interrupt handles; the rest fire the timer again at once.
const BATCH: usize = 16;

/// Who is told when the time has come.
pub enum Alarm<H: Hw> {
    /// A vCPU: it looks at its timers, and wakes up if it slept.
    Vcpu(H::Shared<Vcpu<H>>),
    /// A domain: one of its watchdogs has expired.
    Watchdog(H::Shared<Domain<H>>),
}

/// Where the alarm of a vCPU or a domain stands. Both words are written under the lock of the queue that they name.
#[derive(Default)]
pub struct Seat {
    home: AtomicU8,
    /// Position in the heap of pCPU `home`, plus one; 0 is nowhere.
    position: AtomicU16,
}

impl<H: Hw> Alarm<H> {
    fn seat(&self) -> &Seat {
        match self {
            Alarm::Vcpu(vcpu) => &vcpu.alarm,
            Alarm::Watchdog(domain) => &domain.watchdogs.alarm,
        }
    }
}

/// The alarms of one pCPU, as a heap with the earliest first. There is room for all that can exist.
struct Queue<H: Hw>(heapless::Vec<(Ticks, Alarm<H>), { MAX_VCPUS_TOTAL + MAX_DOMAINS }>);

impl<H: Hw> Queue<H> {
    fn earliest(&self) -> Option<Ticks> {
        self.0.first().map(|(at, _)| *at)
    }

    fn earlier(&self, a: usize, b: usize) -> bool {
        matches!((self.0.get(a), self.0.get(b)), (Some((a, _)), Some((b, _))) if a < b)
    }

    fn note(&self, at: usize) {
        if let Some((_, alarm)) = self.0.get(at) {
            alarm.seat().position.store(u16::try_from(at + 1).unwrap_or(0), Ordering::Release);
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.0.swap(a, b);
        self.note(a);
        self.note(b);
    }

    /// Moves the alarm at this position, which may be new there, to where it belongs.
    fn settle(&mut self, mut at: usize) {
        self.note(at);
        while at > 0 && self.earlier(at, (at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
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

    fn insert(&mut self, at: Ticks, alarm: Alarm<H>) {
        if self.0.push((at, alarm)).is_ok() {
            self.settle(self.0.len() - 1);
        }
    }

    fn remove(&mut self, at: usize) -> Option<Alarm<H>> {
        let (_, alarm) = (at < self.0.len()).then(|| self.0.swap_remove(at))?;
        alarm.seat().position.store(0, Ordering::Release);
        self.settle(at);
        Some(alarm)
    }

    fn expire(&mut self, now: Ticks) -> Option<Alarm<H>> {
        if self.earliest()? <= now { self.remove(0) } else { None }
    }
}

/// The alarms of all pCPUs.
pub struct Timers<H: Hw> {
    /// Each guards a pCPU's alarms. Innermost.
    queues: [SpinMutex<Queue<H>>; MAX_PCPUS],
}

impl<H: Hw> Timers<H> {
    /// No alarms.
    pub(crate) const fn new() -> Self {
        Timers { queues: [const { SpinMutex::new(Queue(heapless::Vec::new())) }; MAX_PCPUS] }
    }

    fn queue(&self, pcpu: PcpuId) -> &SpinMutex<Queue<H>> {
        &self.queues[usize::from(pcpu.0) % MAX_PCPUS]
    }

    /// Sets an alarm on this pCPU `here` in place of the one set before. Of two setters of one alarm the caller makes
    /// one the first.
    pub fn set(&self, here: PcpuId, alarm: Alarm<H>, at: Ticks) {
        self.cancel(alarm.seat());
        let mut queue = self.queue(here).lock();
        alarm.seat().home.store(here.0, Ordering::Relaxed);
        queue.insert(at, alarm);
    }

    /// Cancels an alarm, if it is set.
    pub fn cancel(&self, seat: &Seat) {
        if seat.position.load(Ordering::Acquire) != 0 {
            let mut queue = self.queue(PcpuId(seat.home.load(Ordering::Relaxed))).lock();
            let at = usize::from(seat.position.load(Ordering::Relaxed)).checked_sub(1);
            let removed = at.and_then(|at| queue.remove(at));
            // It may hold the last reference, which gives frames back: not under the innermost lock.
            drop(queue);
            drop(removed);
        }
    }

    /// Sets the alarm of a vCPU that runs `here`: for its physical timer, which no hardware watches.
    pub fn watch(&self, here: PcpuId, vcpu: &H::Shared<Vcpu<H>>) {
        match vcpu.ptimer.deadline() {
            Some(at) => self.set(here, Alarm::Vcpu(vcpu.clone()), at),
            None => self.cancel(&vcpu.alarm),
        }
    }

    /// Sets this pCPU's hardware timer to the earliest of its alarms and the end of the turn of who runs.
    pub fn program(&self, here: PcpuId, turn_end: Option<Ticks>) {
        let alarm = self.queue(here).lock().earliest();
        H::set_deadline([alarm, turn_end].into_iter().flatten().min());
    }
}

impl<H: Hw> Kernel<H> {
    /// The timer of this pCPU `here` has fired: whoever has set an alarm is told, and the pCPU chooses again, since the
    /// turn of who runs may be over.
    pub fn timer_fired(&self, here: PcpuId) {
        let now = H::now();
        for _ in 0..BATCH {
            let due = self.timers.queue(here).lock().expire(now);
            match due {
                Some(Alarm::Vcpu(vcpu)) => {
                    vcpu.end_poll();
                    vtimer::expire(self, &vcpu, now);
                    self.notify(&vcpu);
                }
                Some(Alarm::Watchdog(domain)) => sched_op::watchdog_expired(self, &domain, now),
                None => break,
            }
        }
        self.sched.poke(here);
    }
}

#[cfg(test)]
mod tests;
