//! The microkernel's state: one value, shared by all pCPUs, that holds every table.
//!
//! Lock order: domain list, then a domain's own locks, then its p2m, then the frame table; a vCPU's place, then a
//! run queue, then a timer queue. Each lock names what it guards where it is declared.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;
use spin::mutex::SpinMutex;

use crate::console::Console;
use crate::domain::DomainTable;
use crate::hw::{Hw, Ticks};
use crate::machine::Machine;
use crate::sched::Scheduler;
use crate::timer::Timers;
use crate::trap::IdRegisters;
use crate::vmid::VmidAllocator;

/// The most vCPUs that can exist, of all domains together.
pub const MAX_VCPUS_TOTAL: usize = 1024;

/// Everything that the microkernel knows.
pub struct Kernel<H: Hw> {
    /// The domains.
    pub domains: DomainTable<H>,
    /// The run queues.
    pub sched: Scheduler<H>,
    /// The deadlines.
    pub timers: Timers<H>,
    /// The log, and the way to the UART.
    pub console: Console,
    /// VMIDs of the domains.
    pub vmids: VmidAllocator,
    /// What guests read in their identification registers.
    pub ids: IdRegisters,
    /// Which vCPU slots are taken, a bit each. Guards itself; innermost.
    slots: SpinMutex<[u64; MAX_VCPUS_TOTAL / 64]>,
    machine: Once<Machine>,
    started: AtomicU64,
}

impl<H: Hw> Kernel<H> {
    /// A microkernel without domains, for a static.
    pub const fn new() -> Self {
        Kernel {
            domains: DomainTable::new(),
            sched: Scheduler::new(),
            timers: Timers::new(),
            console: Console::new(),
            vmids: VmidAllocator::new(),
            ids: IdRegisters::new(),
            slots: SpinMutex::new([0; MAX_VCPUS_TOTAL / 64]),
            machine: Once::new(),
            started: AtomicU64::new(0),
        }
    }

    /// Tells the microkernel on what machine it runs; the first telling counts.
    pub fn set_machine(&self, machine: Machine) -> &Machine {
        self.started.store(H::now(), Ordering::Relaxed);
        self.machine.call_once(|| machine)
    }

    /// The machine; `None` before the boot code has told.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.get()
    }

    /// Ticks since the start.
    pub fn uptime(&self) -> Ticks {
        H::now().saturating_sub(self.started.load(Ordering::Relaxed))
    }

    /// Takes a free vCPU slot.
    pub fn take_slot(&self) -> Option<u16> {
        let mut slots = self.slots.lock();
        let (word, bits) = slots.iter_mut().enumerate().find(|(_, bits)| **bits != u64::MAX)?;
        let bit = bits.trailing_ones();
        *bits |= 1 << bit;
        u16::try_from(word * 64 + bit as usize).ok()
    }

    /// Gives a vCPU slot back.
    pub fn return_slot(&self, slot: u16) {
        if let Some(bits) = self.slots.lock().get_mut(usize::from(slot) / 64) {
            *bits &= !(1 << (slot % 64));
        }
    }
}

impl<H: Hw> Default for Kernel<H> {
    fn default() -> Self {
        Self::new()
    }
}
