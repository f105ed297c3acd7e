//! Synchronous exceptions of a guest: decoded, and answered by the part that emulates what trapped.
//!
//! A guest may execute anything and touch any address. What EL2 does not provide comes back to it as the exception
//! that hardware without it would raise; nothing ends the domain but an SError, which cannot be undone, and vectors
//! that cannot be fetched, which leave the vCPU nowhere to go.

mod id;
mod inject;
mod mmio;
mod registers;
mod syndrome;
#[cfg(test)]
mod tests;

use hypercall_abi::arm::HYPERCALL_TAG;

use crate::context::{Syndrome, TrapFrame};
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::{hypercall, lifecycle, smccc};

pub use id::IdRegisters;
pub use inject::{Exception, inject};
pub use syndrome::{Abort, Cause, RegisterAccess, Transfer, encoding};

/// Handles a synchronous exception of the vCPU that runs here. Each cause is a function of its own, so that an exit
/// saves no more registers than its cause needs.
#[inline]
pub fn sync<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame, syndrome: Syndrome) {
    match Cause::decode(syndrome) {
        Cause::Hvc(HYPERCALL_TAG) => hypercall::dispatch(kernel, cpu, frame),
        Cause::Hvc(0) => smccc::call(kernel, cpu, frame),
        Cause::DataAbort(abort) if abort.is_write() => mmio::store(kernel, cpu, frame, abort),
        Cause::DataAbort(abort) => mmio::load(kernel, cpu, frame, abort),
        Cause::Register(RegisterAccess { encoding: registers::SGI1R, register, read: false }) => {
            registers::send_sgi(kernel, cpu, frame, register);
        }
        Cause::Register(access) if access.read && registers::is_identification(access.encoding) => {
            frame.set_register(access.register, kernel.ids.read::<H>(access.encoding));
            frame.skip_instruction();
        }
        Cause::Register(access) => registers::access(kernel, cpu, frame, access),
        Cause::Wait { event } => {
            inject::skip(frame, syndrome::is_long(syndrome.esr));
            wait(kernel, cpu, event);
        }
        Cause::Fp => cpu.fp_trap(),
        Cause::Smc(0) => {
            // SMC returns to itself. A call that starts another vCPU or ends this one sees the final state.
            frame.skip_instruction();
            smccc::call(kernel, cpu, frame);
        }
        Cause::InstructionAbort(abort) => mmio::instruction_abort(kernel, cpu, frame, abort),
        Cause::Hvc(_) => {
            // HVC returns behind itself; the exception stands at the instruction.
            frame.pc = frame.pc.wrapping_sub(4);
            undefined::<H>(frame);
        }
        Cause::Smc(_) | Cause::Unexpected => undefined::<H>(frame),
    }
}

#[cold]
#[inline(never)]
fn undefined<H: Hw>(frame: &mut TrapFrame) {
    inject::<H>(frame, Exception::Undefined);
}

/// `WFI` sleeps until an interrupt is pending. `WFE` stands in a loop that spins, so it lets others run.
#[inline(never)]
fn wait<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, event: bool) {
    if event {
        kernel.sched.give_way();
    } else if let Some(current) = &cpu.current {
        kernel.block(&current.vcpu);
    }
}

/// Handles an SError that was taken while a guest ran: memory that it used has failed, and only it is ended.
#[inline(never)]
#[cold]
pub fn serror<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame, esr: u64) {
    let mut reason = heapless::String::<48>::new();
    // The text and 16 digits fit.
    let _ = core::fmt::Write::write_fmt(&mut reason, format_args!("SError, ESR_EL2 {esr:#x}"));
    lifecycle::crash(kernel, cpu, frame, &reason);
}
