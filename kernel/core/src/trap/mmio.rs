//! Aborts that stage 2 took: emulated devices, and addresses where nothing is.
//!
//! An address where nothing is answers as a bus would, with a synchronous external abort that the guest takes. So
//! does an access to an emulated device that the syndrome does not describe (pairs, atomics, write-back): the
//! instruction is not fetched and decoded.

use super::inject::{self, Exception, inject};
use super::syndrome::{DataAccess, Fault, FaultKind, Transfer};
use crate::addr::Ipa;
use crate::context::TrapFrame;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::{Current, LocalCpu};
use crate::vgic::Frame;
use crate::vuart;

/// Handles a data abort of the vCPU that runs here.
#[inline(never)]
pub(super) fn data_abort<H: Hw>(
    kernel: &Kernel<H>,
    cpu: &LocalCpu<H>,
    frame: &mut TrapFrame,
    fault: Fault,
    access: DataAccess,
    long: bool,
) {
    let Some(current) = &cpu.current else { return };
    if fault.kind == FaultKind::Translation && !fault.walk {
        if let Some(transfer) = access.transfer
            && emulate(kernel, current, frame, fault.ipa, access.write, transfer)
        {
            inject::skip(frame, long);
            return;
        }
        if access.maintenance {
            // There is no line of it in any cache.
            inject::skip(frame, long);
            return;
        }
    }
    if !is_mapped_by_now(current, fault, access.write) {
        inject::<H>(frame, Exception::DataAbort { far: fault.far, walk: fault.walk, write: access.write });
    }
}

/// Handles an instruction abort of the vCPU that runs here.
#[inline(never)]
pub(super) fn instruction_abort<H: Hw>(cpu: &LocalCpu<H>, frame: &mut TrapFrame, fault: Fault) {
    let Some(current) = &cpu.current else { return };
    if !is_mapped_by_now(current, fault, false) {
        inject::<H>(frame, Exception::InstructionAbort { far: fault.far, walk: fault.walk });
    }
}

/// Whether the fault is gone when it is looked at: another pCPU was replacing the table entry, or has just mapped
/// the page. The instruction is then tried again.
fn is_mapped_by_now<H: Hw>(current: &Current<H>, fault: Fault, write: bool) -> bool {
    fault.kind == FaultKind::Translation
        && current
            .domain
            .p2m
            .lookup(fault.ipa.page())
            .is_some_and(|mapping| !write || fault.walk || mapping.kind.is_writable())
}

/// Carries out a load or store of an emulated device; false if there is none.
fn emulate<H: Hw>(
    kernel: &Kernel<H>,
    current: &Current<H>,
    frame: &mut TrapFrame,
    ipa: Ipa,
    write: bool,
    transfer: Transfer,
) -> bool {
    let value = frame.register(transfer.register) & mask(transfer.size);
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
            wake.notify(kernel, domain);
            true
        }
        None => false,
    }
}

/// The bits that an access of `size` bytes moves.
const fn mask(size: u8) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (8 * size)) - 1 }
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
