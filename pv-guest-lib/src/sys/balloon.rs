//! The two hypercalls of the balloon (`memory_op`, Xen public/memory.h), for one page each.

use hypercall_abi::errno::{XenError, decode};
use hypercall_abi::ids::{DomId, Gfn, GuestPtr};
use hypercall_abi::memory::{MemoryOp, Reservation};
use hypercall_abi::nr;

use super::hvc;
use super::pages::Page;
use crate::addr::Ipa;

/// Gives a page back to the hypervisor and returns where it was. A page that the hypervisor does not take is lost.
///
/// # Errors
/// As the hypervisor answers, `EBUSY` when it took none.
pub fn give(page: Page) -> Result<Ipa, XenError> {
    let at = page.leak();
    // SAFETY: the page was given up by its only owner.
    unsafe { call(MemoryOp::DecreaseReservation, at)? };
    Ok(at)
}

/// Takes a page from the hypervisor, where [`give`] gave one.
///
/// # Errors
/// As the hypervisor answers, `ENOMEM` when it has none.
pub fn take(at: Ipa) -> Result<Page, XenError> {
    // SAFETY: nothing is there.
    unsafe { call(MemoryOp::PopulatePhysmap, at)? };
    // SAFETY: the page is the domain's again, is mapped in stage 1 as all RAM is, and nobody else has it.
    Ok(unsafe { Page::at(at) })
}

/// Makes the call for the one frame at `at`.
///
/// # Safety
/// Nothing may be in use there.
unsafe fn call(op: MemoryOp, at: Ipa) -> Result<(), XenError> {
    let frame: Gfn = at.gfn();
    let mut arg = Reservation {
        extent_start: GuestPtr((&raw const frame) as u64),
        nr_extents: 1,
        domid: DomId::SELF,
        ..Default::default()
    };
    let args = [u64::from(op.raw()), (&raw mut arg) as u64, 0, 0, 0];
    // SAFETY: the call reads the structure and the frame's number, which both live until it returns; of the memory that it
    // gives or takes the caller says that nothing is in use there.
    let [done, ..] = unsafe { hvc::hypercall(nr::MEMORY_OP, args) };
    match decode(done)? {
        0 if op == MemoryOp::PopulatePhysmap => Err(XenError::NoMem),
        0 => Err(XenError::Busy),
        _ => Ok(()),
    }
}
