//! Aborts that stage 2 took: emulated devices, and addresses where nothing is.
//!
//! An address where nothing is answers as a bus would, with a synchronous external abort that the guest takes. So
//! does an access to an emulated device that the syndrome does not describe (pairs, atomics, write-back): the
//! instruction is not fetched and decoded.

use super::inject::{self, Exception, inject};
use super::syndrome::{Abort, FaultKind, Transfer};
use crate::context::TrapFrame;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::lifecycle;
use crate::local::{Current, LocalCpu};
use crate::vgic::Frame;
use crate::vuart;

/// Handles a data abort of the vCPU that runs here.
#[inline(never)]
pub(super) fn data_abort<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, abort: Abort) {
    let Some(current) = &cpu.current else { return };
    let emulated = abort.kind() == FaultKind::Translation
        && !abort.is_walk()
        && abort.transfer().is_some_and(|transfer| emulate(kernel, current, frame, abort, transfer));
    if emulated {
        inject::skip(frame, abort.is_long());
    } else {
        refuse(current, frame, abort);
    }
}

/// Nothing is there, or it cannot be told what the guest wants of it.
#[cold]
#[inline(never)]
fn refuse<H: Hw>(current: &Current<H>, frame: &mut TrapFrame, abort: Abort) {
    if is_mapped_by_now(current, abort) {
        return;
    }
    if abort.is_maintenance() && abort.kind() == FaultKind::Translation && !abort.is_walk() {
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
    abort.kind() == FaultKind::Translation
        && current.domain.p2m.lookup(abort.ipa().page()).is_some_and(|mapping| !write || mapping.kind.is_writable())
}

/// Carries out a load or store of an emulated device; false if there is none.
#[inline]
fn emulate<H: Hw>(
    kernel: &Kernel<H>,
    current: &Current<H>,
    frame: &mut TrapFrame,
    abort: Abort,
    transfer: Transfer,
) -> bool {
    let (ipa, write) = (abort.ipa(), abort.is_write());
    let value = if write { frame.register(transfer.register) & mask(transfer.size) } else { 0 };
    let read = match current.domain.dist.layout().find(ipa) {
        Some(at) if write => return write_gic(kernel, current, at, transfer.size, value),
        Some(at) => read_gic(current, at, transfer.size),
        None => vuart::access(kernel, &current.domain, ipa, write.then_some(value)),
    };
    let Some(read) = read else { return false };
    if !write {
        frame.set_register(transfer.register, extend(read, transfer));
    }
    true
}

fn read_gic<H: Hw>(current: &Current<H>, at: Frame, size: u8) -> Option<u64> {
    let domain = &*current.domain;
    match at {
        Frame::Distributor(offset) => Some(domain.dist.read::<H>(domain, offset, size)),
        Frame::Redistributor(index, offset) => domain.dist.read_redist::<H>(domain, index, offset, size),
    }
}

fn write_gic<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, at: Frame, size: u8, value: u64) -> bool {
    let domain = &*current.domain;
    let wake = match at {
        Frame::Distributor(offset) => Some(domain.dist.write::<H>(domain, offset, size, value)),
        Frame::Redistributor(index, offset) => domain.dist.write_redist::<H>(domain, index, offset, size, value),
    };
    match wake {
        Some(wake) => {
            wake.without(current.vcpu.id.0 as usize).notify(kernel, domain);
            true
        }
        None => false,
    }
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
