//! Aborts that stage 2 took: emulated devices, and addresses where nothing is.
//!
//! An address where nothing is answers as a bus would, with a synchronous external abort that the guest takes. So
//! does an access to an emulated device that the syndrome does not describe (pairs, atomics, write-back): the
//! instruction is not fetched and decoded.

use super::inject::{self, Exception, inject};
use super::syndrome::{Abort, Transfer};
use crate::context::TrapFrame;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::lifecycle;
use crate::local::{Current, LocalCpu};
use crate::vuart;

/// Handles a data abort of a load by the vCPU that runs here.
#[inline(never)]
pub(super) fn load<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, abort: Abort) {
    let Some(current) = &cpu.current else { return };
    let (domain, ipa) = (&current.domain, abort.ipa());
    let value = device_access(abort).and_then(|transfer| {
        let value = match domain.dist.layout().find(ipa) {
            Some(at) => domain.dist.read::<H>(&**domain, at, transfer.size),
            None => vuart::access(kernel, domain, ipa, None),
        };
        Some((transfer, value?))
    });
    let Some((transfer, value)) = value else { return refuse(current, frame, abort) };
    frame.set_register(transfer.register, extend(value, transfer));
    inject::skip(frame, abort.is_long());
}

/// Handles a data abort of a store by the vCPU that runs here.
#[inline(never)]
pub(super) fn store<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, abort: Abort) {
    let Some(current) = &cpu.current else { return };
    let (domain, ipa) = (&current.domain, abort.ipa());
    let done = device_access(abort).and_then(|transfer| {
        let value = frame.register(transfer.register) & mask(transfer.size);
        let Some(at) = domain.dist.layout().find(ipa) else {
            return vuart::access(kernel, domain, ipa, Some(value)).map(drop);
        };
        let wake = domain.dist.write::<H>(&**domain, at, transfer.size, value)?;
        wake.without(current.vcpu.id.0 as usize).notify(kernel, domain);
        Some(())
    });
    match done {
        Some(()) => inject::skip(frame, abort.is_long()),
        None => refuse(current, frame, abort),
    }
}

/// What moves in an access that may be one to an emulated device; `None` if it is something else, or cannot be told.
#[inline]
fn device_access(abort: Abort) -> Option<Transfer> {
    if abort.is_translation() && !abort.is_walk() { abort.transfer() } else { None }
}

/// Nothing is there, or it cannot be told what the guest wants of it.
#[cold]
#[inline(never)]
fn refuse<H: Hw>(current: &Current<H>, frame: &mut TrapFrame, abort: Abort) {
    if is_mapped_by_now(current, abort) {
        return;
    }
    if abort.is_maintenance() && abort.is_translation() && !abort.is_walk() {
        // There is no line of it in any cache.
        inject::skip(frame, abort.is_long());
        return;
    }
    let (far, walk, write) = (abort.far(), abort.is_walk(), abort.is_write());
    inject::<H>(frame, Exception::DataAbort { far, walk, write });
}

/// Handles an instruction abort of the vCPU that runs here. One at the very vector that would take it is the domain's
/// end: the vCPU would take it for ever.
#[cold]
#[inline(never)]
pub(super) fn instruction_abort<H: Hw>(
    kernel: &'static Kernel<H>,
    cpu: &mut LocalCpu<H>,
    frame: &mut TrapFrame,
    abort: Abort,
) {
    let Some(current) = &cpu.current else { return };
    if is_mapped_by_now(current, abort) {
        return;
    }
    let from = frame.pc;
    inject::<H>(frame, Exception::InstructionAbort { far: abort.far(), walk: abort.is_walk() });
    if frame.pc == from {
        lifecycle::crash(kernel, cpu, frame, "its exception vectors cannot be fetched");
    }
}

/// Whether the fault is gone when it is looked at: another pCPU was replacing the table entry, or has just mapped
/// the page. The instruction is then tried again.
fn is_mapped_by_now<H: Hw>(current: &Current<H>, abort: Abort) -> bool {
    // Bit 6 says "write" of data only; a fetch leaves it clear. A walk reads, whatever the access was.
    let write = abort.is_write() && !abort.is_walk();
    abort.is_translation()
        && current.domain.p2m.lookup(abort.ipa().page()).is_some_and(|mapping| !write || mapping.kind.is_writable())
}

/// The bits that an access of `size` bytes moves.
const fn mask(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * (size as u32 & 15))
}

/// What a load leaves in its register.
pub(super) const fn extend(value: u64, transfer: Transfer) -> u64 {
    let value = value & mask(transfer.size);
    if !transfer.signed || transfer.size >= 8 {
        return value;
    }
    let sign = 1 << (8 * transfer.size - 1);
    let extended = (value ^ sign).wrapping_sub(sign);
    if transfer.wide { extended } else { extended & mask(4) }
}
