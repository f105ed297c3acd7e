//! Grant tables, version 1: a domain lets another use a page of its own (Xen public/grant_table.h).
//!
//! The granter writes an entry into a page that it shares with us; whoever uses the grant is counted in an entry
//! beside it that only we see. A use holds a reference on the frame, so the page outlives its granter for as long as
//! a peer has it mapped. What is mapped stands in the mapper's stage 2 and nowhere else.
//!
//! Locks: a domain's table has one; no two of them are held together. It comes before the p2m's. At most a page is copied
//! under it, where counting a use would take longer.

mod copy;
mod map;
mod query;
mod table;
#[cfg(test)]
mod tests;

use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{GrantOp, GrantStatus};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::addr::GuestVa;
use crate::guest::{self, Array, WRITE};
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult, Stop};

pub use map::end_mapping;
pub use table::{GrantTable, frame_to_map, seed};

/// `grant_table_op(cmd, array, count)`. Each command is a function of its own, which saves the registers that it uses.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let op = GrantOp::try_from(call.arg32(0)).map_err(XenError::from)?;
    if call.arg32(2).cast_signed() < 0 {
        return Err(XenError::Inval.into());
    }
    match op {
        GrantOp::SetupTable | GrantOp::QuerySize | GrantOp::SetVersion | GrantOp::GetVersion if call.arg32(2) != 1 => {
            Err(XenError::Inval.into())
        }
        GrantOp::MapGrantRef => map::map(call),
        GrantOp::UnmapGrantRef => map::unmap(call),
        GrantOp::Copy => copy::op(call),
        GrantOp::SetupTable => query::setup_table(call),
        GrantOp::QuerySize => query::query_size(call),
        GrantOp::SetVersion => query::set_version(call),
        GrantOp::GetVersion => query::get_version(call),
        GrantOp::SwapGrantRef => query::swap(call),
        GrantOp::UnmapAndReplace => map::unmap_and_replace(call),
        GrantOp::CacheFlush => query::cache_flush(call),
        GrantOp::Transfer => Err(XenError::OpNotSupp.into()),
        // Printing a guest's table is for whoever debugs Xen; status frames are of version 2.
        GrantOp::DumpTable | GrantOp::GetStatusFrames => Err(XenError::NoSys.into()),
    }
}

/// Runs `work` on each element of the call's array, as far as the call's budget goes; the rest is for the next round.
/// What stands in an element from its byte `answer` on is written back.
#[inline(always)]
fn each<H: Hw, T: FromBytes + IntoBytes + Immutable>(
    call: &mut Call<'_, H>,
    answer: usize,
    mut work: impl FnMut(&mut Call<'_, H>, &mut T) -> Result<(), XenError>,
) -> CallResult {
    let (base, count) = (GuestVa::new(call.args[1]), u64::from(call.arg32(2)));
    let mut array = Array::<H, WRITE>::default();
    let mut arg = T::new_zeroed();
    for done in 0..count {
        if done > 0 && call.spend(1) {
            call.args[1] = base.add(done * size_of::<T>() as u64).raw();
            call.args[2] = count - done;
            return Err(Stop::Again);
        }
        let at = guest::element(base, done, size_of::<T>())?;
        let place = array.element::<T>(call.domain, at)?;
        place.read_into(&mut arg)?;
        work(call, &mut arg)?;
        // Nothing is behind an element that has no answer, and that place need not be the guest's.
        if let Some(bytes @ [_, ..]) = arg.as_bytes().get(answer..) {
            place.write(answer, bytes)?;
        }
    }
    Ok(0)
}

/// The same for elements that have a status of their own, `status_at` bytes in, where their answers begin.
#[inline(always)]
fn batch<H: Hw, T: FromBytes + IntoBytes + Immutable>(
    call: &mut Call<'_, H>,
    status_at: usize,
    mut work: impl FnMut(&mut Call<'_, H>, &mut T) -> Result<(), GrantStatus>,
) -> CallResult {
    each(call, status_at, |call, arg: &mut T| {
        let status = work(call, arg).err().unwrap_or(GrantStatus::Okay).raw();
        let field = arg.as_mut_bytes().get_mut(status_at..).and_then(<[u8]>::first_chunk_mut);
        *field.ok_or(XenError::Inval)? = status.to_le_bytes();
        Ok(())
    })
}
