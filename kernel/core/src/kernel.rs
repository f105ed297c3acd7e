//! The microkernel's state: one value, shared by all pCPUs, that holds every table.
//!
//! Lock order: domain list, then a domain's own locks, then its p2m, then the frame table; how a vCPU stands, then
//! the queues of a pCPU, or the domain list to look its own up. Each lock names what it guards where it is declared.

use spin::Once;

use crate::console::Log;
use crate::domain::DomainTable;
use crate::hw::Hw;
use crate::machine::Machine;
use crate::sched::Scheduler;
use crate::sync::SpinMutex;
use crate::trap::IdRegisters;
use crate::vmid::VmidAllocator;

/// The most vCPUs that can exist, of all domains together.
pub const MAX_VCPUS_TOTAL: usize = 1024;

/// Everything that the microkernel knows.
#[repr(C)]
pub struct Kernel<H: Hw> {
    /// The run queues and alarms. First, since every exit looks there.
    pub sched: Scheduler<H>,
    /// The domains.
    pub domains: DomainTable<H>,
    /// The log, and the way to the UART.
    pub console: SpinMutex<Log>,
    /// VMIDs of the domains.
    pub vmids: VmidAllocator,
    /// What guests read in their identification registers.
    pub ids: IdRegisters,
    /// The machine, once the boot code knows it.
    pub machine: Once<Machine>,
}

impl<H: Hw> Kernel<H> {
    /// A microkernel without domains, for a static.
    pub const fn empty() -> Self {
        Kernel {
            domains: DomainTable::new(),
            sched: Scheduler::new(),
            console: SpinMutex::new(Log::EMPTY),
            vmids: VmidAllocator::new(),
            ids: IdRegisters::new(),
            machine: Once::new(),
        }
    }
}
