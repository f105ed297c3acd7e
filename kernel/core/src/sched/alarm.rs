//! Alarms: who wants to be told at which time, for each pCPU, and what its timer interrupt does about it.

use crate::domain::{Domain, MAX_DOMAINS};
use crate::hw::{Hw, Ticks};
use crate::kernel::{Kernel, MAX_VCPUS_TOTAL};
use crate::local::LocalCpu;
use crate::runstate::{BLOCKED, CAPPED};
use crate::vcpu::Vcpu;
use crate::{sched_op, vtimer};

/// Alarms that one interrupt handles; the rest fire the timer again at once.
pub(super) const BATCH: usize = 16;

/// Who is told when the time has come.
pub enum Alarm<H: Hw> {
    /// A vCPU that sleeps: it wakes up.
    Vcpu(H::Shared<Vcpu<H>>),
    /// A domain: a watchdog of it has expired.
    Watchdog(H::Shared<Domain<H>>),
}

/// The alarms of one pCPU, the earliest last. There is room for all that can exist: one for each vCPU and domain.
///
/// Finding a place takes O(log n); making room there moves those that are earlier, which are few words each.
pub struct Alarms<H: Hw>(heapless::Vec<(Ticks, Alarm<H>), { MAX_VCPUS_TOTAL + MAX_DOMAINS }>);

impl<H: Hw> Alarms<H> {
    pub(super) const fn new() -> Self {
        Alarms(heapless::Vec::new())
    }

    /// When the earliest goes off.
    pub fn earliest(&self) -> Option<Ticks> {
        self.0.last().map(|(at, _)| *at)
    }

    /// Sets an alarm. Whoever does so keeps the time and the pCPU, to take it back.
    pub fn set(&mut self, at: Ticks, alarm: Alarm<H>) {
        let place = self.0.partition_point(|(other, _)| *other > at);
        let _ = self.0.insert(place, (at, alarm));
    }

    /// Takes back the alarm that was set for `at`, unless it has gone off. The caller has a reference to who set it.
    pub fn cancel(&mut self, at: Ticks, is_it: impl Fn(&Alarm<H>) -> bool) {
        let first = self.0.partition_point(|(other, _)| *other > at);
        let mut same = self.0.iter().enumerate().skip(first).take_while(|(_, (other, _))| *other == at);
        if let Some((place, _)) = same.find(|(_, (_, alarm))| is_it(alarm)) {
            self.0.remove(place);
        }
    }

    /// Takes the earliest alarm if its time has come.
    pub fn expire(&mut self, now: Ticks) -> Option<Alarm<H>> {
        self.earliest().filter(|at| *at <= now)?;
        self.0.pop().map(|(_, alarm)| alarm)
    }
}

impl<H: Hw> Kernel<H> {
    /// This pCPU's timer has fired: an alarm, the physical timer of the vCPU that runs, or the end of its turn.
    pub fn timer_fired(&self, cpu: &LocalCpu<H>) {
        // Or its line stays high until the pCPU chooses, and it fires again at once.
        H::set_deadline(None);
        let now = H::now();
        for _ in 0..BATCH {
            let due = self.sched.queues(cpu.id).alarms.expire(now);
            match due {
                Some(Alarm::Vcpu(vcpu)) => {
                    vcpu.end_poll();
                    vtimer::expire(self, &vcpu, now);
                    self.release(&vcpu, BLOCKED | CAPPED);
                }
                Some(Alarm::Watchdog(domain)) => sched_op::watchdog_expired(self, &domain, now),
                None => break,
            }
        }
        if let Some(current) = &cpu.current {
            vtimer::expire(self, &current.vcpu, now);
        }
        // Choosing again ends the turn if it is over, and sets the timer anew.
        self.sched.poke(cpu.id);
    }
}
