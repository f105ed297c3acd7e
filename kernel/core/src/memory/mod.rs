//! `memory_op`: what a domain may do with its physical map (Xen public/memory.h).

mod foreign;
mod physmap;
mod populate;
mod reservation;
#[cfg(test)]
mod tests;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;
use hypercall_abi::memory::{DomainArg, MEMOP_CMD_MASK, MemoryOp};

use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};

pub use foreign::{copy_frames, read_foreign, write_foreign};
pub use populate::populate;

/// Bits of the first argument below the progress of a call that was interrupted.
const PROGRESS_SHIFT: u32 = MEMOP_CMD_MASK.count_ones();

/// `memory_op(cmd, arg)`.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let op = MemoryOp::try_from(call.arg32(0) & MEMOP_CMD_MASK).map_err(XenError::from)?;
    match op {
        MemoryOp::PopulatePhysmap => reservation::op(call, reservation::Change::Populate),
        MemoryOp::DecreaseReservation => reservation::op(call, reservation::Change::Decrease),
        MemoryOp::IncreaseReservation => reservation::op(call, reservation::Change::Increase),
        MemoryOp::AddToPhysmap => physmap::add(call),
        MemoryOp::AddToPhysmapBatch => physmap::add_batch(call),
        MemoryOp::RemoveFromPhysmap => physmap::remove(call),
        MemoryOp::MaximumRamPage => Ok(H::frames().end().number()),
        MemoryOp::CurrentReservation => asked_about(call).map(|domain| domain.quota.owned()),
        MemoryOp::MaximumReservation => asked_about(call).map(|domain| domain.quota.max()),
        MemoryOp::MaximumGpfn => asked_about(call).map(|domain| domain.p2m.highest()),
        MemoryOp::MachphysMfnList
        | MemoryOp::MemoryMap
        | MemoryOp::MachineMemoryMap
        | MemoryOp::Exchange
        | MemoryOp::MachphysMapping
        | MemoryOp::SetMemoryMap
        | MemoryOp::SetPodTarget
        | MemoryOp::GetPodTarget
        | MemoryOp::ClaimPages
        | MemoryOp::AcquireResource => Err(XenError::NoSys.into()),
    }
}

fn asked_about<H: Hw>(call: &mut Call<'_, H>) -> Result<H::Shared<Domain<H>>, crate::hypercall::Stop> {
    let arg: DomainArg = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    Ok(target(call, arg.domid)?)
}

/// The domain that a call is to work on: the caller, or any for a privileged caller.
fn target<H: Hw>(call: &Call<'_, H>, id: DomId) -> Result<H::Shared<Domain<H>>, XenError> {
    if id == DomId::SELF || id == call.domain.id {
        return Ok(call.domain.clone());
    }
    if !call.domain.is_privileged() {
        return Err(XenError::Perm);
    }
    call.kernel.domains.get(id).filter(|domain| !domain.is_dying()).ok_or(XenError::Srch)
}

/// Elements done before the call was interrupted, as the last round left them in the command.
fn progress<H: Hw>(call: &Call<'_, H>) -> u64 {
    call.args[0] >> PROGRESS_SHIFT
}

/// Leaves `done` for the next round of the call.
fn set_progress<H: Hw>(call: &mut Call<'_, H>, done: u64) {
    call.args[0] = done << PROGRESS_SHIFT | call.args[0] & u64::from(MEMOP_CMD_MASK);
}
