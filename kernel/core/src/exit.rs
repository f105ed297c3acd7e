//! From an exception to EL2 and back to a guest: every exit of every vCPU comes through [`handle`].
//!
//! A guest may execute anything and touch any address. What EL2 does not provide comes back to it as the exception
//! that hardware without it would raise; nothing ends the domain but an SError, which cannot be undone, and vectors
//! that cannot be fetched, which leave the vCPU nowhere to go.
//!
//! What is called from here is kept out of line wherever it does more than a few instructions: else every exit would
//! save the registers that only the longest of them needs.

use hypercall_abi::arm::HYPERCALL_TAG;
use hypercall_abi::trace::ExitKind;

use crate::context::{CallRegisters, TrapFrame};
use crate::hw::{Hw, IntId};
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::trap::{self, undefined};
use crate::{hypercall, lifecycle, smccc, vgic, vtimer};

/// Chooses anew who runs; the first time also.
// As part of its only caller, which never returns and so has no registers to restore.
pub use crate::sched::reschedule as choose;

/// The EL2 physical timer's interrupt (Arm BSA, section 3.8).
pub const TIMER_PPI: IntId = IntId(26);
/// The GIC maintenance interrupt (Arm BSA, section 3.8).
pub const MAINTENANCE_PPI: IntId = IntId(25);
/// The virtual timer's interrupt.
pub const VTIMER_PPI: IntId = IntId(27);
/// By which pCPUs tell each other that tracing has begun or ended.
pub const TRACE_SGI: IntId = IntId(1);
/// Interrupts taken in one exit; the rest make the next one.
const BATCH: usize = 8;

/// `ESR_EL2` of a hypercall: class `HVC`, 32 bits as always, and the immediate.
pub const HYPERCALL_ESR: u32 = 0x16 << 26 | 1 << 25 | HYPERCALL_TAG as u32;

/// A kind of exit, each with a function of its own in the vectors: a hypercall, which [`hypercall`] handles.
pub const HYPERCALL: u8 = 0;
/// Another synchronous exception. This and those that follow are what a trace calls them.
pub const SYNC: u8 = ExitKind::Sync.raw();
/// A physical interrupt.
pub const IRQ: u8 = ExitKind::Irq.raw();
/// An SError taken to EL2.
pub const SERROR: u8 = ExitKind::SError.raw();

/// What is left to do before the guest goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Left {
    /// Nothing.
    Nothing = 0,
    /// To put interrupts into list registers.
    Flush = 1,
    /// To choose anew who runs, and then to look at the interrupts.
    Choose = 2,
    /// To have the hypercall issued once more, and whichever of these is to be done.
    Again = 3,
}

/// Where the registers are of the vCPU that goes on, which may be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the frame.
    Frame,
    /// Where it keeps its own: it has just been put on.
    Context,
    /// None goes on yet: the pCPU has slept, or whom it chose may not run, and has to [`choose`] again.
    Nobody,
}

/// Carries out a hypercall. If something is left to do, [`finish`] does it, else the guest goes on with `x`.
#[inline(always)]
pub fn hypercall<H: Hw>(kernel: &'static Kernel<H>, cpu: &LocalCpu<H>, x: &mut CallRegisters) -> Left {
    if hypercall::dispatch(kernel, cpu, x) { Left::Again } else { left(kernel, cpu) }
}

/// Handles another exit, of which `esr` reads `ESR_EL2`. True if the pCPU has to [`choose`] anew who runs; else the vCPU of
/// `frame` goes on.
#[inline(always)]
#[must_use]
pub fn handle<H: Hw, const KIND: u8>(
    kernel: &'static Kernel<H>,
    cpu: &mut LocalCpu<H>,
    frame: &mut TrapFrame,
    esr: impl FnOnce() -> u64,
) -> bool {
    match KIND {
        SYNC => {
            if exception(kernel, cpu, frame, esr()) {
                return true;
            }
        }
        IRQ => interrupts(kernel, cpu),
        _ => serror(kernel, cpu, frame, esr()),
    }
    let left = left(kernel, cpu);
    if left == Left::Flush {
        flush(kernel, cpu);
    }
    left == Left::Choose
}

/// Does what is left to do behind a hypercall; true if that is to [`choose`].
#[inline(always)]
#[must_use]
pub fn finish<H: Hw>(kernel: &'static Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, mut left: Left) -> bool {
    if left == Left::Again {
        frame.pc = frame.pc.wrapping_sub(4);
        left = self::left(kernel, cpu);
    }
    if left != Left::Choose {
        flush(kernel, cpu);
    }
    left == Left::Choose
}

// As part of each kind of exit, like `exception`: it is on every path.
#[inline(always)]
fn left<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>) -> Left {
    if kernel.sched.must_choose(cpu.id) {
        return Left::Choose;
    }
    let dirty = cpu.current.as_ref().is_some_and(|current| current.vcpu.gic.dirty());
    if dirty { Left::Flush } else { Left::Nothing }
}

#[inline(always)]
pub(crate) fn flush<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>) {
    if let Some(current) = &cpu.current
        && current.vcpu.gic.dirty()
    {
        vgic::flush(kernel, current);
    }
}

/// Handles a synchronous exception by its class (Arm ARM DDI 0487, section D24.2.40); one that nothing here makes
/// trap, or that is not known, is an instruction that does not exist. True if the vCPU sleeps.
#[inline(always)]
pub(crate) fn exception<H: Hw>(
    kernel: &'static Kernel<H>,
    cpu: &mut LocalCpu<H>,
    frame: &mut TrapFrame,
    esr: u64,
) -> bool {
    const WAIT: u64 = 0x01;
    const FP: u64 = 0x07;
    const HVC: u64 = 0x16;
    const SMC: u64 = 0x17;
    const REGISTER: u64 = 0x18;
    const INSTRUCTION_ABORT: u64 = 0x20;
    const DATA_ABORT: u64 = 0x24;
    let class = esr >> 26 & 0x3F;
    match class {
        // Ahead of the others, since they are the most frequent ones.
        WAIT => return wait(kernel, cpu, frame, esr),
        DATA_ABORT => trap::data_abort(kernel, cpu, frame, esr),
        REGISTER => trap::register(kernel, cpu, frame, esr),
        _ if esr & (0x3F << 26 | 0xFFFF) == HVC << 26 => smccc::call(kernel, cpu, frame),
        HVC => {
            // HVC returns behind itself; the exception stands at the instruction.
            frame.pc = frame.pc.wrapping_sub(4);
            undefined::<H>(frame);
        }
        SMC if esr & 0xFFFF == 0 => {
            // SMC returns to itself. A call that starts another vCPU or ends this one sees the final state.
            frame.skip_instruction();
            smccc::call(kernel, cpu, frame);
        }
        INSTRUCTION_ABORT => trap::fetch_abort(kernel, cpu, frame, esr),
        FP => cpu.fp_trap(),
        _ => undefined::<H>(frame),
    }
    false
}

/// `WFI` sleeps until an interrupt is pending; true if it does. `WFE` stands in a loop that spins, so it lets others run.
#[inline(never)]
fn wait<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, esr: u64) -> bool {
    trap::skip(frame, esr);
    match &cpu.current {
        Some(current) if esr & 3 != 1 => return kernel.fall_asleep(&current.vcpu),
        Some(_) => kernel.sched.give_way(),
        None => {}
    }
    false
}

/// Handles an SError that was taken while a guest ran: memory that it used has failed, and only it is ended.
pub(crate) fn serror<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame, esr: u64) {
    lifecycle::crash(kernel, cpu, frame, format_args!("SError, ESR_EL2 {esr:#x}"));
}

/// Takes the physical interrupts that are pending on this pCPU.
#[inline(never)]
pub fn interrupts<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>) {
    for _ in 0..BATCH {
        let Some(intid) = H::acknowledge() else { return };
        match intid {
            // These two are linked to a virtual interrupt, whose end is theirs.
            VTIMER_PPI => {
                vtimer::on_physical(cpu);
                continue;
            }
            IntId(32..=1019) => {
                vgic::on_physical_spi(kernel, intid);
                continue;
            }
            TIMER_PPI => kernel.timer_fired(cpu),
            MAINTENANCE_PPI => vgic::on_maintenance(cpu),
            TRACE_SGI => H::trace_exits(kernel.sched.is_traced()),
            // A kick says no more than "look": the return path looks at the run queue and at pending interrupts.
            IntId(_) => {}
        }
        H::deactivate(intid);
    }
}
