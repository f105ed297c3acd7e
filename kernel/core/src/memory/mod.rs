//! `memory_op`: what a domain may do with its physical map (Xen public/memory.h).

mod physmap;
mod ram;
#[cfg(test)]
mod tests;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, Gfn};
use hypercall_abi::memory::{DomainArg, MEMOP_CMD_MASK, MemoryOp};

use crate::addr::{GuestVa, Ipa};
use crate::domain::Domain;
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult, Stop};
use crate::p2m::IPA_PAGES;

pub use ram::{copy_foreign, copy_frames, populate};

/// Bits of the first argument below the progress of a call that was interrupted.
const PROGRESS_SHIFT: u32 = MEMOP_CMD_MASK.count_ones();
/// The longest list whose progress fits above the command.
const LONGEST_LIST: u64 = u64::MAX >> PROGRESS_SHIFT;

/// `memory_op(cmd, arg)`.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    match MemoryOp::try_from(call.arg32(0) & MEMOP_CMD_MASK).map_err(XenError::from)? {
        MemoryOp::PopulatePhysmap => ram::populate_extents(call),
        MemoryOp::DecreaseReservation => ram::take_extents(call),
        // Frames without a place are of no use to a domain whose map is ours.
        MemoryOp::IncreaseReservation => ram::extents(call, |_, _, _, _| Err(XenError::NoMem)),
        MemoryOp::AddToPhysmap => physmap::add(call),
        MemoryOp::AddToPhysmapBatch => physmap::add_batch(call),
        MemoryOp::RemoveFromPhysmap => physmap::remove(call),
        MemoryOp::MaximumRamPage => Ok(H::frames().end().number()),
        MemoryOp::CurrentReservation => ask(call, |domain| domain.quota.owned()),
        MemoryOp::MaximumReservation => ask(call, |domain| domain.quota.max()),
        MemoryOp::MaximumGpfn => ask(call, |domain| domain.p2m.highest()),
        // For x86, or for toolstacks of Xen's own.
        _ => Err(XenError::NoSys.into()),
    }
}

fn ask<H: Hw>(call: &Call<'_, H>, number: impl FnOnce(&Domain<H>) -> u64) -> CallResult {
    let arg: DomainArg = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    Ok(number(target(call, arg.domid, &mut None)?))
}

/// The domain that a call is to work on: the caller, or any for a privileged caller. `other` keeps hold of the latter.
fn target<'a, H: Hw>(
    call: &Call<'a, H>,
    id: DomId,
    other: &'a mut Option<H::Shared<Domain<H>>>,
) -> Result<&'a Domain<H>, XenError> {
    if call.domain.resolve(id) == call.domain.id {
        return Ok(call.domain);
    }
    if !call.domain.is_privileged() {
        return Err(XenError::Perm);
    }
    let domain = call.kernel.domains.get(id).filter(|domain| !domain.is_dying()).ok_or(XenError::Srch)?;
    Ok(other.insert(domain))
}

/// Does the elements of a list from where the last round of the call has stopped, until one fails or the call has
/// worked long enough; if they are `long`, each ends a round. Returns how many are done, and why there are not more.
fn each<H: Hw>(
    call: &mut Call<'_, H>,
    count: u64,
    long: bool,
    mut element: impl FnMut(&Call<'_, H>, u64) -> Result<(), XenError>,
) -> (u64, Result<(), Stop>) {
    let mut done = call.args[0] >> PROGRESS_SHIFT;
    while done < count {
        if let Err(error) = element(call, done) {
            return (done, Err(error.into()));
        }
        done += 1;
        if (call.should_yield() || long) && done < count {
            call.args[0] = done << PROGRESS_SHIFT | call.args[0] & u64::from(MEMOP_CMD_MASK);
            return (done, Err(Stop::Again));
        }
    }
    (done, Ok(()))
}

/// Where `pages` pages from `gfn` on lie, which must be inside the IPA space and aligned to their number.
fn place(gfn: Gfn, pages: u64) -> Result<Ipa, XenError> {
    let fits = gfn.0.checked_add(pages).is_some_and(|end| end <= IPA_PAGES);
    if fits && gfn.0.is_multiple_of(pages) { Ok(Ipa::from_number(gfn.0)) } else { Err(XenError::Inval) }
}
