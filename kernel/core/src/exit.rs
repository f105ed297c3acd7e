//! From an exception to EL2 and back to a guest: every exit of every vCPU comes through [`handle`].
//!
//! What it calls is kept out of line wherever it does more than a few instructions, here and in `trap` and
//! `hypercall`: else every exit would save the registers that only the longest of them needs.

use crate::context::{Exit, TrapFrame};
use crate::hw::{Hw, IntId};
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::{sched, trap, vgic, vtimer};

/// The EL2 physical timer's interrupt (Arm BSA, section 3.8).
pub const TIMER_PPI: IntId = IntId(26);
/// The GIC maintenance interrupt (Arm BSA, section 3.8).
pub const MAINTENANCE_PPI: IntId = IntId(25);
/// The virtual timer's interrupt.
pub const VTIMER_PPI: IntId = IntId(27);
/// Interrupts taken in one exit; the rest make the next one.
const BATCH: usize = 8;

/// Handles an exit. On return `frame` holds the registers of the vCPU that runs next, and it may be entered.
#[inline(always)]
pub fn handle<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame, exit: Exit) {
    match exit {
        Exit::Sync(syndrome) => trap::sync(kernel, cpu, frame, syndrome),
        Exit::Irq => interrupts(kernel, cpu),
        Exit::SError(esr) => trap::serror(kernel, cpu, frame, esr),
    }
    resume(kernel, cpu, frame);
}

/// The first entry of a pCPU to a guest; sleeps until there is one.
pub fn first<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame) {
    sched::reschedule(kernel, cpu, frame);
    resume(kernel, cpu, frame);
}

fn resume<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame) {
    if kernel.sched.must_choose(cpu.id) {
        sched::reschedule(kernel, cpu, frame);
    }
    if let Some(current) = &cpu.current
        && current.vcpu.gic.dirty()
    {
        current.vcpu.gic.flush::<H>(&current.domain.dist);
    }
}

/// Takes the physical interrupts that are pending on this pCPU.
#[inline(never)]
pub fn interrupts<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>) {
    for _ in 0..BATCH {
        let Some(intid) = H::acknowledge() else { return };
        match intid {
            VTIMER_PPI => vtimer::on_physical(kernel, cpu),
            TIMER_PPI => {
                kernel.timer_fired(cpu.id);
                H::deactivate(intid);
            }
            MAINTENANCE_PPI => {
                vgic::on_maintenance(cpu);
                H::deactivate(intid);
            }
            // A kick says no more than "look": the return path looks at the run queue and at pending interrupts.
            IntId(0..=15) => H::deactivate(intid),
            IntId(32..=1019) => vgic::on_physical_spi(kernel, cpu, intid),
            IntId(_) => H::deactivate(intid),
        }
    }
}
